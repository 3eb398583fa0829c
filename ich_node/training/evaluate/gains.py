"""How much better one network is than another on the same studies, and how sure that is.

Studies are resampled in groups, because those of one patient, or of one head, are not independent of each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ich_node.training.evaluate import metrics
from ich_node.training.learn import calibrate, crossval

REPLICATES = 1000  # of the resampling


@dataclass(frozen=True, slots=True, eq=False)
class Said:
    """What a network said. study: number of the study of a slice, int [slices]. group: what is resampled, [studies].

    label, smooth: float32 [slices, 6]. study_label, studies: float32 [studies, 6].
    """

    study: npt.NDArray[np.intp]
    label: npt.NDArray[np.float32]
    smooth: npt.NDArray[np.float32]
    studies: npt.NDArray[np.float32]
    study_label: npt.NDArray[np.float32]
    group: npt.NDArray[np.generic]


def said(paths: Sequence[Path]) -> Said:
    """The predictions in files of `patient`, `slice`, `label` and `logit`, smoothed as the bundle smooths.

    Studies are in the order of their names (`patient`); each is its own group, or that of `group` where files say one.
    """
    parts = [dict(np.load(path)) for path in paths]
    found = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    smooth, studies, names = calibrate.by_study(found["patient"], found["slice"], found["logit"])
    _, first, own = np.unique(found["patient"], return_index=True, return_inverse=True)
    labels = np.stack([found["label"][own == number].max(axis=0) for number in range(len(names))])
    return Said(own, found["label"], smooth, studies, labels, found.get("group", found["patient"])[first])


def figures(arm: Said, base: Said) -> dict[str, Any]:
    """AUC of "any" of an arm by slice and study, and the interval of its gain over `base` on the same studies."""
    _, group = np.unique(base.group, return_inverse=True)
    studies_of = [np.flatnonzero(group == number) for number in range(group.max() + 1)]
    slices_of = [np.flatnonzero(np.isin(base.study, studies)) for studies in studies_of]
    rng = np.random.default_rng(0)
    gains: dict[str, list[float]] = {"slice": [], "study": []}
    for _ in range(REPLICATES):
        draw = rng.integers(len(studies_of), size=len(studies_of))
        studies = np.concatenate([studies_of[number] for number in draw])
        if len(np.unique(base.study_label[studies, 0])) < 2:
            continue
        gains["study"].append(_auc(arm, studies, "study") - _auc(base, studies, "study"))
        index = np.concatenate([slices_of[number] for number in draw])
        gains["slice"].append(_auc(arm, index, "slice") - _auc(base, index, "slice"))
    count = np.bincount(arm.study, arm.label[:, 0])
    small = (count > 0) & (count <= crossval.SMALL_SLICES)
    return {
        "slice_auc": round(_auc(arm, np.arange(len(arm.label)), "slice"), 3),
        "slice_gain": _interval(gains["slice"]),
        "study_auc": round(_auc(arm, np.arange(len(count)), "study"), 3),
        "study_gain": _interval(gains["study"]),
        "study_auc_small": round(_auc(arm, np.flatnonzero(small | (count == 0)), "study"), 3),
        "studies": len(count),
        "bleeding": int((count > 0).sum()),
        "small": int(small.sum()),
        "types": crossval.by_type(arm.label, arm.smooth),
    }


def _auc(arm: Said, index: npt.NDArray[np.intp], of: str) -> float:
    labels, scores = (arm.label, arm.smooth) if of == "slice" else (arm.study_label, arm.studies)
    return metrics.auc(labels[index, 0], scores[index, 0])


def _interval(gains: Sequence[float]) -> list[float]:
    """The bounds of the middle 95 % of resampled gains."""
    return [round(float(value), 3) for value in np.percentile(gains, (2.5, 97.5))]
