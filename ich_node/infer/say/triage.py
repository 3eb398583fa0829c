"""From probabilities to verdicts: what is called present, and how urgent the reading is.

In: what the model said, where it is, and the model card. Out: the priority and one finding per label. Pure.

The rules, all with numbers from the card:

1. Intracranial hemorrhage ("any") is present when its study probability reaches `thresholds["any"]`.
2. A type is present when "any" is, its own probability reaches its own threshold, and it explains blood that lies
   where it can and that no more probable type explains (evidence.py); without the latter it is also possible. "any"
   decides, because it was trained and measured on all the positives; a type alone never makes a study positive.
   "any" may be present without a type: a hemorrhage whose type the model is not sure of.
3. The probability of a type is stated as at most that of "any", of which it is a part.
4. STAT: "any" is present and reaches `stat_threshold` (rule-in). HIGH: present below it. ROUTINE: not present.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ich_node.domain.errors import ModelError
from ich_node.domain.findings import LABELS, Finding, ModelCard, Prediction, Priority
from ich_node.infer.say.locate import Location

ANY = LABELS[0]  # the first label: any hemorrhage


def probabilities(prediction: Prediction) -> dict[str, float]:
    """Label → study probability, types capped at "any". Raises ModelError when one is no number in 0..1."""
    raw = np.asarray(prediction.study_probability, np.float64)
    if raw.shape != (len(LABELS),) or not np.all((raw >= 0) & (raw <= 1)):
        raise ModelError(f"the study probabilities are not {len(LABELS)} numbers between 0 and 1: {raw.tolist()}")
    return {label: float(min(value, raw[0])) for label, value in zip(LABELS, raw, strict=True)}


def called(prediction: Prediction, card: ModelCard) -> tuple[str, ...]:
    """The labels that reach their thresholds, in the order of LABELS; empty, or "any" first."""
    p = probabilities(prediction)
    if p[ANY] < card.thresholds[ANY]:
        return ()
    return tuple(label for label in LABELS if label == ANY or p[label] >= card.thresholds[label])


def priority(prediction: Prediction, card: ModelCard) -> Priority:
    """How urgent the reading is, from "any" alone."""
    p = probabilities(prediction)[ANY]
    if p < card.thresholds[ANY]:
        return Priority.ROUTINE
    return Priority.STAT if p >= card.stat_threshold else Priority.HIGH


def decide(
    prediction: Prediction, located: Mapping[str, Location], card: ModelCard
) -> tuple[Priority, tuple[Finding, ...]]:
    """The priority and one finding per label, in the order of LABELS.

    `located` holds a location for every label of `called` that has evidence of its own (evidence.py), "any" among them.
    """
    p, reached = probabilities(prediction), called(prediction, card)
    findings = [
        Finding(label, p[label], True, *located[label])
        if label in reached and (label in located or label == ANY)
        else Finding(label, p[label], False, also_possible=label in reached)
        for label in LABELS
    ]
    return priority(prediction, card), tuple(findings)
