"""From scored slices and studies to the figures of an evaluation, as plain numbers. Pure.

Used for a bundle on labelled studies and for out-of-fold predictions of a cross-validation alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ich_node.domain.findings import LABELS
from ich_node.training.evaluate import metrics

Floats = npt.NDArray[np.floating]
MIN_FOR_LOG_LOSS = 1  # the mean of nothing is not a number


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """Slices or studies with truth and prediction.

    patients: str [n], the unit of the bootstrap. truth: float [n, 6], 0, 1 or NaN (unknown).
    probability: float [n, 6], calibrated. Both in the order of domain.LABELS.
    """

    patients: npt.NDArray[np.str_]
    truth: Floats
    probability: Floats

    def __len__(self) -> int:
        return len(self.patients)


def joined(parts: Sequence[Scored]) -> Scored:
    """All of `parts` in one; empty without any."""
    if not parts:
        return Scored(np.empty(0, np.str_), np.empty((0, len(LABELS))), np.empty((0, len(LABELS))))
    return Scored(
        np.concatenate([part.patients for part in parts]),
        np.concatenate([part.truth for part in parts]),
        np.concatenate([part.probability for part in parts]),
    )


def figures(scored: Scored, thresholds: Mapping[str, float] | None = None, *, replicates: int = 1000) -> dict[str, Any]:
    """Counts, AUC per label, log loss, calibration; with `thresholds` also sensitivity and specificity per label.

    Intervals are [value, low, high] at 95 %. NaN where the data cannot tell.
    """
    result: dict[str, Any] = {"count": len(scored), "patients": len(np.unique(scored.patients)), "labels": {}}
    for index, label in enumerate(LABELS):
        known = np.asarray(~np.isnan(scored.truth[:, index]))
        threshold = thresholds[label] if thresholds else None
        result["labels"][label] = _of_label(scored, index, known, threshold, replicates)
    known = np.asarray(~np.isnan(scored.truth).any(axis=1))
    complete = known.sum() >= MIN_FOR_LOG_LOSS
    result["weighted_log_loss"] = (
        metrics.weighted_log_loss(scored.truth[known], scored.probability[known]) if complete else math.nan
    )
    return result


def _of_label(
    scored: Scored, index: int, known: npt.NDArray[np.bool_], threshold: float | None, replicates: int
) -> dict[str, Any]:
    truth, probability = scored.truth[known, index], scored.probability[known, index]
    found: dict[str, Any] = {
        "known": int(known.sum()),
        "positives": int((truth == 1).sum()),
        "positive_patients": len(np.unique(scored.patients[known][truth == 1])),
        "auc": metrics.bootstrap_auc_by_patient(truth, probability, scored.patients[known], replicates=replicates),
        "ece": metrics.ece(truth, probability),
        "ece_equal_width": metrics.ece(truth, probability, equal_mass=False),
    }
    if threshold is not None:
        sensitivity, specificity = metrics.sens_spec(truth, probability, threshold)
        found |= {"threshold": threshold, "sensitivity": sensitivity, "specificity": specificity}
    return found


def flagged(truth: Floats, called: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """Sensitivity and specificity of a yes/no answer for "any", unknown truths left out."""
    known = ~np.isnan(truth)
    return {
        "sensitivity": metrics.sensitivity(truth[known], called[known]),
        "specificity": metrics.specificity(truth[known], called[known]),
    }


def pointing(hits: Sequence[bool], overlaps: Sequence[float]) -> dict[str, Any]:
    """The pointing game with Wilson's interval and the mean Dice over masked slices."""
    return {
        "masked_slices": len(hits),
        "pointing_game": metrics.wilson(sum(hits), len(hits)),
        "dice": float(np.mean(overlaps)) if overlaps else math.nan,
    }


def sides(answers: Sequence[tuple[str | None, str | None]]) -> dict[str, Any]:
    """How often the side was right when one was named: (truth, answer or None) of every flagged study."""
    sure = [(truth, answer) for truth, answer in answers if answer is not None]
    right = sum(truth == answer for truth, answer in sure)
    return {
        "count": len(answers),
        "right_when_sure": metrics.wilson(right, len(sure)),
        "not_sure": (len(answers) - len(sure)) / len(answers) if answers else math.nan,
    }


def plain(value: Any) -> Any:
    """The figures as JSON can hold them: intervals as lists, NaN as null, four decimals."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(inner) for inner in value]
    if isinstance(value, float | np.floating):
        return None if math.isnan(value) else round(float(value), 4)
    return value.item() if isinstance(value, np.generic) else value
