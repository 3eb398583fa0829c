"""Figures of merit as pure functions of arrays: no files, no model, no clock.

Labels are 0/1 (or bool), scores any real numbers, probabilities 0..1. A figure that its data cannot give (one class
only, nothing counted) is NaN, never a guess. Intervals are 95 % unless said otherwise.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage, stats

Array = npt.NDArray[np.floating]
LABEL_WEIGHTS = (2.0, 1.0, 1.0, 1.0, 1.0, 1.0)
"""Weights of domain.LABELS in the RSNA 2019 challenge: "any" counts twice."""


class Estimate(NamedTuple):
    """A figure with its interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}–{self.high:.3f}]"


class Reliability(NamedTuple):
    """One point per bin of predicted probability: mean prediction, observed frequency, count."""

    predicted: npt.NDArray[np.float64]
    observed: npt.NDArray[np.float64]
    cases: npt.NDArray[np.int64]


def auc(labels: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """Area under the ROC curve by the Mann–Whitney statistic; ties count half. NaN when one class is missing."""
    truth = np.asarray(labels, bool).ravel()
    ranks = stats.rankdata(np.asarray(scores, np.float64).ravel())
    positives = int(truth.sum())
    negatives = len(truth) - positives
    if not positives or not negatives:
        return math.nan
    return float((ranks[truth].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def bootstrap_auc_by_patient(
    labels: npt.ArrayLike,
    scores: npt.ArrayLike,
    patients: npt.ArrayLike,
    *,
    replicates: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """AUC with a percentile interval from resampling whole patients, because slices of one head are not independent.

    Replicates that lack a class are left out.
    """
    truth = np.asarray(labels, bool).ravel()
    values = np.asarray(scores, np.float64).ravel()
    _, owner = np.unique(np.asarray(patients).ravel(), return_inverse=True)
    members = [np.flatnonzero(owner == index) for index in range(int(owner.max(initial=-1)) + 1)]
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(replicates if members else 0):
        chosen = np.concatenate([members[i] for i in rng.integers(len(members), size=len(members))])
        drawn.append(auc(truth[chosen], values[chosen]))
    usable = np.asarray(drawn)[~np.isnan(drawn)] if drawn else np.empty(0)
    if not len(usable):
        return Estimate(auc(truth, values), math.nan, math.nan)
    low, high = np.quantile(usable, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(auc(truth, values), float(low), float(high))


def roc(labels: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[Array, Array, Array]:
    """False positive rate, true positive rate and threshold (call positive at ≥) from (0, 0) to (1, 1)."""
    truth = np.asarray(labels, bool).ravel()
    values = np.asarray(scores, np.float64).ravel()
    order = np.argsort(-values, kind="stable")
    last_of_tie = np.append(np.flatnonzero(np.diff(values[order])), len(values) - 1)
    hits = np.cumsum(truth[order])[last_of_tie]
    false_alarms = last_of_tie + 1 - hits
    with np.errstate(invalid="ignore"):
        tpr, fpr = hits / truth.sum(), false_alarms / (~truth).sum()
    return np.append(0, fpr), np.append(0, tpr), np.append(np.inf, values[order][last_of_tie])


def log_loss(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Mean binary cross-entropy per column, natural logarithm, probabilities clipped to 1e-7 … 1 − 1e-7."""
    truth = np.asarray(labels, np.float64)
    p = np.clip(np.asarray(probabilities, np.float64), 1e-7, 1 - 1e-7)
    return np.asarray(-(truth * np.log(p) + (1 - truth) * np.log1p(-p)).mean(axis=0))


def weighted_log_loss(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> float:
    """The RSNA 2019 score of [n, 6] in the order of domain.LABELS: log loss per label, "any" counts twice."""
    return float(np.average(log_loss(labels, probabilities), weights=LABEL_WEIGHTS))


def reliability(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, *, bins: int = 10, equal_mass: bool = True
) -> Reliability:
    """Predicted against observed in bins of equal count (equal probabilities stay together) or of equal width."""
    truth = np.asarray(labels, np.float64).ravel()
    p = np.asarray(probabilities, np.float64).ravel()
    edges = np.unique(np.quantile(p, np.linspace(0, 1, bins + 1))) if equal_mass else np.linspace(0, 1, bins + 1)
    slot = np.clip(np.searchsorted(edges, p, side="right") - 1, 0, max(len(edges) - 2, 0))
    count = np.bincount(slot)
    used = np.flatnonzero(count)
    predicted = np.bincount(slot, weights=p)[used] / count[used]
    observed = np.bincount(slot, weights=truth)[used] / count[used]
    return Reliability(predicted, observed, count[used])


def ece(labels: npt.ArrayLike, probabilities: npt.ArrayLike, *, bins: int = 10, equal_mass: bool = True) -> float:
    """Expected calibration error: |predicted − observed| over the bins of `reliability`, weighted by count."""
    if np.size(labels) == 0:
        return math.nan
    curve = reliability(labels, probabilities, bins=bins, equal_mass=equal_mass)
    return float(np.average(np.abs(curve.predicted - curve.observed), weights=curve.cases))


def wilson(successes: int, total: int, *, level: float = 0.95) -> Estimate:
    """A proportion with Wilson's score interval (Wilson 1927), which stays inside 0..1 for small counts."""
    if total == 0:
        return Estimate(math.nan, math.nan, math.nan)
    z = float(stats.norm.ppf((1 + level) / 2))
    share = successes / total
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total)) / (1 + z * z / total)
    return Estimate(share, max(0.0, centre - half), min(1.0, centre + half))


def sensitivity(labels: npt.ArrayLike, called: npt.ArrayLike) -> Estimate:
    """Share of the positives that were called positive, with Wilson's interval."""
    truth, verdict = np.asarray(labels, bool).ravel(), np.asarray(called, bool).ravel()
    return wilson(int((truth & verdict).sum()), int(truth.sum()))


def specificity(labels: npt.ArrayLike, called: npt.ArrayLike) -> Estimate:
    """Share of the negatives that were called negative, with Wilson's interval."""
    return sensitivity(~np.asarray(labels, bool), ~np.asarray(called, bool))


def sens_spec(labels: npt.ArrayLike, probabilities: npt.ArrayLike, threshold: float) -> tuple[Estimate, Estimate]:
    """Sensitivity and specificity when `probability ≥ threshold` is called positive."""
    called = np.asarray(probabilities) >= threshold
    return sensitivity(labels, called), specificity(labels, called)


def pointing_game(heat: npt.ArrayLike, mask: npt.ArrayLike, *, tolerance_px: int = 0) -> bool:
    """Whether the hottest pixel lies in the mask (Zhang et al. 2018), or within `tolerance_px` of it."""
    inside = np.asarray(mask, bool)
    if tolerance_px:
        inside = ndimage.distance_transform_edt(~inside) <= tolerance_px
    hottest = np.unravel_index(int(np.argmax(heat)), inside.shape)
    return bool(inside[hottest])


def dice(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Dice coefficient of two masks: twice the overlap over the sum; NaN when both are empty."""
    left, right = np.asarray(a, bool), np.asarray(b, bool)
    total = int(left.sum()) + int(right.sum())
    return 2 * int((left & right).sum()) / total if total else math.nan


def area_under(fractions: npt.ArrayLike, values: npt.ArrayLike) -> float:
    """Area under a deletion or insertion curve by the trapezoidal rule (Petsiuk et al. 2018)."""
    return float(np.trapezoid(np.asarray(values, np.float64), np.asarray(fractions, np.float64)))
