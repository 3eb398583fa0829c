"""Figures of scored studies: counts, unknown truths, what JSON can hold."""

import json
import math

import numpy as np
import pytest

from ich_node.domain.findings import LABELS
from ich_node.training.evaluate import assess
from ich_node.training.evaluate.metrics import Estimate


def scored(truth, probability, patients=None):
    truth, probability = np.asarray(truth, float), np.asarray(probability, float)
    columns = len(LABELS)
    wide = [np.repeat(values[:, None], columns, axis=1) for values in (truth, probability)]
    return assess.Scored(np.asarray(patients or [str(i) for i in range(len(truth))]), *wide)


def test_counts_auc_and_operating_point_of_every_label():
    figures = assess.figures(scored([0, 0, 1, 1], [0.1, 0.6, 0.7, 0.9]), dict.fromkeys(LABELS, 0.5), replicates=50)
    assert figures["count"] == 4
    of_any = figures["labels"]["any"]
    assert (of_any["known"], of_any["positives"], of_any["auc"].value) == (4, 2, 1)
    assert of_any["sensitivity"].value == 1
    assert of_any["specificity"].value == 0.5


def test_unknown_truths_are_left_out():
    figures = assess.figures(scored([0, math.nan, 1], [0.1, 0.99, 0.7]), replicates=10)
    assert figures["labels"]["any"]["known"] == 2
    assert figures["labels"]["any"]["auc"].value == 1


def test_patients_with_a_label_are_counted_once():
    figures = assess.figures(scored([1, 1, 0], [0.9, 0.8, 0.1], ["a", "a", "b"]), replicates=10)
    assert figures["labels"]["any"]["positive_patients"] == 1
    assert figures["patients"] == 2


def test_nothing_at_all_gives_no_figures_but_no_failure():
    figures = assess.figures(assess.joined([]), dict.fromkeys(LABELS, 0.5))
    assert figures["count"] == 0
    assert math.isnan(figures["weighted_log_loss"])
    assert math.isnan(figures["labels"]["any"]["auc"].value)


def test_what_was_not_flagged_is_told_by_the_yes_or_no_answer():
    verdict = assess.flagged(np.array([1, 1, 0, math.nan]), np.array([True, False, False, True]))
    assert verdict["sensitivity"].value == 0.5
    assert verdict["specificity"].value == 1


def test_pointing_and_dice_are_averaged_over_masked_slices():
    figures = assess.pointing([True, False], [0.5, 0.3])
    assert figures["pointing_game"].value == 0.5
    assert figures["dice"] == pytest.approx(0.4)


def test_plain_figures_are_json():
    text = json.dumps(assess.plain({"auc": Estimate(0.51239, math.nan, 1.0), "n": np.int64(3), "x": np.float32(0.5)}))
    assert json.loads(text) == {"auc": [0.5124, None, 1.0], "n": 3, "x": 0.5}
