"""What the stored out-of-fold predictions tell beside the manifest: python -m ich_node.training.evaluate.stored --help.

Named types: how often a type that is named is there, and how often one that is there is named, by the thresholds of the
other folds. Only the probabilities are asked here; the node also asks where the blood lies, and names fewer types.

The rule of a study: every candidate by the AUC of "any" on all patients, which flatters the best of them, and what is
left of that when the rule of each fold is chosen, and calibrated, on the other folds.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from ich_node.domain.findings import LABELS
from ich_node.infer.bundle import Aggregation
from ich_node.training.evaluate import metrics, options
from ich_node.training.learn import calibrate, crossval
from ich_node.training.learn.recipe import Workshop

Array = npt.NDArray[np.floating]
SPANS_MM = (5.0, 10.0, 15.0, 20.0, 25.0)  # chosen: one to five slices of the set
HALF_WIDTHS_MM = (5.0, 7.5, 10.0, 15.0)  # chosen: not at all, to three slices on either side
SHARPNESS = (0.5, 1.0, 2.0)  # chosen: of a log-mean-exp, from nearly a mean towards a maximum
AS_SHIPPED = "as shipped"
Rule = Callable[[Array, Array], Array]


def rules() -> dict[str, Rule]:
    """Logits [slices, 6] and heights in mm → logits [6], by name."""
    found: dict[str, Rule] = {AS_SHIPPED: calibrate.AGGREGATION.study}
    for span in SPANS_MM:
        for width in HALF_WIDTHS_MM:
            rule = Aggregation(slice_half_width_mm=width, study_half_width_mm=width, study_span_mm=span)
            found[f"highest {span:g} mm, smoothed by {width:g} mm"] = rule.study
    for sharp in SHARPNESS:
        found[f"log-mean-exp of all slices, r = {sharp:g}"] = partial(_mean_exp, sharp)
    return found


def _mean_exp(sharpness: float, logits: Array, _heights_mm: Array) -> Array:
    return np.asarray(np.log(np.exp(sharpness * logits).mean(axis=0)) / sharpness)


def compare(found: dict[str, npt.NDArray[Any]]) -> dict[str, Any]:
    """AUC of "any" of every rule, and of the rule that nested cross-validation chooses."""
    names = np.unique(found["patient"])
    own = [np.flatnonzero(found["patient"] == name) for name in names]
    own = [rows[np.argsort(found["slice"][rows])] for rows in own]
    labels = np.stack([found["label"][rows].max(axis=0) for rows in own])
    fold = np.array([found["fold"][rows[0]] for rows in own])
    count = np.array([found["label"][rows, 0].sum() for rows in own])
    scores = {
        name: np.stack([rule(found["logit"][rows], np.arange(len(rows)) * calibrate.SPACING_MM) for rows in own])
        for name, rule in rules().items()
    }
    nested, chosen = np.empty(len(names)), []
    for one in np.unique(fold):
        others = fold != one
        best = max(scores, key=lambda name: metrics.auc(labels[others, 0], scores[name][others, 0]))
        chosen.append(best)
        nested[fold == one] = _calibrated(scores[best], labels, others)[fold == one]
    shipped = np.empty(len(names))
    for one in np.unique(fold):
        shipped[fold == one] = _calibrated(scores[AS_SHIPPED], labels, fold != one)[fold == one]
    return {
        "on all patients": {name: _aucs(labels[:, 0], value[:, 0], count) for name, value in scores.items()},
        "calibrated by fold": {
            AS_SHIPPED: _aucs(labels[:, 0], shipped, count),
            "chosen by nested cross-validation": _aucs(labels[:, 0], nested, count),
        },
        "chosen": chosen,
    }


def _calibrated(logits: Array, labels: Array, seen: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    return calibrate.fit(logits[seen], labels[seen]).probability(logits)[:, 0]


def _aucs(ill: Array, scores: Array, count: Array) -> list[float]:
    """Of all studies, of the small hemorrhages against all without, and of the larger ones."""
    few = (count > 0) & (count <= crossval.SMALL_SLICES)
    parts = (np.full(len(ill), True), few | (count == 0), ~few)
    return [round(metrics.auc(ill[use], scores[use]), 3) for use in parts]


def named(found: dict[str, npt.NDArray[Any]]) -> dict[str, dict[str, str]]:
    """Precision and recall of named types, by study, at the thresholds of the other folds."""
    _, logits, names = calibrate.by_study(found["patient"], found["slice"], found["logit"])
    labels = np.stack([found["label"][found["patient"] == name].max(axis=0) for name in names])
    fold = np.array([found["fold"][found["patient"] == name][0] for name in names])
    called = np.zeros(labels.shape, np.bool_)
    for one in np.unique(fold):
        scaling = calibrate.fit(logits[fold != one], labels[fold != one])
        points = calibrate.operating_points(scaling.probability(logits[fold != one]), labels[fold != one])
        limits = np.array([points["high"]["thresholds"][label] for label in LABELS])
        p = scaling.probability(logits[fold == one])
        called[fold == one] = (np.minimum(p, p[:, :1]) >= limits) & (p[:, :1] >= limits[0])
    figures = {}
    for index, label in enumerate(LABELS[1:], start=1):
        there, said = labels[:, index] > 0, called[:, index]
        figures[label] = {"precision": _share(there, among=said), "recall": _share(said, among=there)}
    there, said = labels[:, 1:].ravel() > 0, called[:, 1:].ravel()
    figures["all types"] = {"precision": _share(there, among=said), "recall": _share(said, among=there)}
    return figures


def _share(what: npt.NDArray[np.bool_], *, among: npt.NDArray[np.bool_]) -> str:
    hits, of = int((what & among).sum()), int(among.sum())
    return f"{hits / of:.2f} ({hits} of {of})" if of else "none"


def main() -> None:
    """Write the figures as JSON."""
    arguments = options.parsed("stored", __doc__, "out", "figures")
    found = crossval.read_predictions(Workshop(arguments.out, arguments.out))
    figures = {"types": named(found), "rules": compare(found)}
    options.write(arguments.figures, figures)


if __name__ == "__main__":
    main()
