"""Calibration, aggregation and operating points, from predictions of patients that the network had not seen.

"any" gets a scale and a bias of its own, the five types share one: with a handful of patients of a type, a fit for that
type would be a fit to those patients. Thresholds are drawn from smooth distributions for the same reason.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit

from ich_node.domain.findings import LABELS
from ich_node.infer.bundle import Aggregation

AGGREGATION = Aggregation(slice_half_width_mm=15.0, study_half_width_mm=5.0, study_span_mm=15.0)
"""Chosen: slices lean on their neighbours, a study on several: one odd slice decides nothing."""
SPACING_MM = 5.0  # of the data that it is calibrated on
RULE_OUT_SENSITIVITY = 0.95  # chosen: of twenty hemorrhages one may be missed where nothing is said to be left
HIGH_SENSITIVITY = 0.9  # chosen: the balance at which a finding is called present
RULE_IN_SPECIFICITY = 0.95  # chosen: of twenty healthy heads one may be STAT
POINTS = ("rule_out", "high", "rule_in")
"""rule_out: below it nothing is left. high: from here a finding is called present. rule_in: from here STAT."""
PRIOR_STRENGTH = 2.0  # chosen: a pull towards a scale of 1, because the calibration set is small

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scaling:
    """Probability = sigmoid(scale · logit + bias), one pair per label."""

    scale: tuple[float, ...]
    bias: tuple[float, ...]

    def probability(self, logits: npt.NDArray[np.floating]) -> Floats:
        """Calibrated probabilities of logits [..., 6]."""
        return np.asarray(expit(logits * np.array(self.scale) + np.array(self.bias)), np.float64)


def fit(logits: npt.NDArray[np.floating], labels: npt.NDArray[np.floating]) -> Scaling:
    """The scaling of logits [n, 6] to labels [n, 6] by maximum likelihood; the scale is drawn gently towards 1."""
    own = _pair(logits[:, 0], labels[:, 0])
    shared = _pair(logits[:, 1:].ravel(), labels[:, 1:].ravel())
    types = len(LABELS) - 1
    return Scaling((own[0], *(shared[0],) * types), (own[1], *(shared[1],) * types))


def _pair(logit: npt.NDArray[np.floating], label: npt.NDArray[np.floating]) -> tuple[float, float]:
    def cost(x: Floats) -> float:
        z = np.exp(x[0]) * logit + x[1]
        return float((np.logaddexp(0, z) - label * z).sum() + PRIOR_STRENGTH * x[0] ** 2)

    found = minimize(cost, np.zeros(2), method="Nelder-Mead", options={"maxiter": 2000, "xatol": 1e-5, "fatol": 1e-7})
    return float(np.exp(found.x[0])), float(found.x[1])


def by_study(
    patient: npt.NDArray[np.generic], slice_number: npt.NDArray[np.integer], logits: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.generic]]:
    """Smoothed logits in the given order, the logits of each study, and the studies' patients."""
    smooth = np.empty_like(logits)
    names = np.unique(patient)
    studies = []
    for name in names:
        own = np.flatnonzero(patient == name)
        own = own[np.argsort(slice_number[own])]
        heights_mm = np.arange(len(own)) * SPACING_MM
        smooth[own] = AGGREGATION.slices(logits[own], heights_mm)
        studies.append(AGGREGATION.study(logits[own], heights_mm))
    return smooth, np.stack(studies), names


def operating_points(probability: Floats, labels: npt.NDArray[np.floating]) -> dict[str, dict[str, dict[str, float]]]:
    """Thresholds of study probabilities [n, 6]: see POINTS.

    "any" from its own studies. The types share one threshold per point, from all types together, because "any" decides
    first; for the same reason a type is named only from its rule-in threshold on: a wrong name misleads, a missing one
    does not. A threshold lies between the two neighbouring smoothed scores, not on a patient.
    """
    own = _thresholds(probability[:, 0], labels[:, 0])
    ill = labels[:, 0] > 0
    shared = _thresholds(probability[ill, 1:].ravel(), labels[ill, 1:].ravel())
    points = {}
    for name in POINTS:
        limits = {label: round(shared["rule_out" if name == "rule_out" else "rule_in"], 4) for label in LABELS[1:]}
        points[name] = {"thresholds": {LABELS[0]: round(own[name], 4), **limits}}
    return points


def _thresholds(score: Floats, label: npt.NDArray[np.floating]) -> dict[str, float]:
    """Quantiles of smoothed logit scores of the ill and the well (a normal kernel of a fifth of their spread).

    0.5 for all points where there are only ill or only well.
    """
    if len(np.unique(label > 0)) < 2:
        return dict.fromkeys(POINTS, 0.5)
    z = np.log(np.clip(score, 1e-4, 1 - 1e-4) / np.clip(1 - score, 1e-4, 1))
    width = max(0.2 * float(z.std()), 1e-3)
    grid = np.linspace(z.min() - 1, z.max() + 1, 2001)

    def share_above(values: Floats) -> Floats:
        return np.asarray(expit(1.702 * (values[None] - grid[:, None]) / width).mean(axis=1))

    sensitivity, false = share_above(z[label > 0]), share_above(z[label == 0])
    rule_out = grid[np.flatnonzero(sensitivity >= RULE_OUT_SENSITIVITY)[-1]]
    high = grid[np.flatnonzero(sensitivity >= HIGH_SENSITIVITY)[-1]]
    rule_in = grid[np.flatnonzero(false <= 1 - RULE_IN_SPECIFICITY)[0]]
    lowest, middle, highest = sorted((rule_out, high, rule_in))
    chosen = {"rule_out": lowest, "high": middle, "rule_in": highest}
    return {name: float(np.clip(expit(value), 1e-3, 1 - 1e-3)) for name, value in chosen.items()}


def cam_threshold(cells: npt.NDArray[np.floating], share: npt.NDArray[np.floating], scale: float, bias: float) -> float:
    """The calibrated cell probability at which CAM cells [n, h, w] overlap the outlined share of a cell best (Dice)."""
    probability = expit(cells * scale + bias)
    truth = share > 0.5
    best = (0.0, 0.5)
    for threshold in np.linspace(0.1, 0.9, 33):
        lit = probability >= threshold
        overlap = 2 * (lit & truth).sum(axis=(1, 2)) / np.maximum((lit.sum(axis=(1, 2)) + truth.sum(axis=(1, 2))), 1)
        best = max(best, (float(overlap.mean()), float(threshold)))
    return best[1]
