"""Figures of merit against closed forms."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ich_node.training.evaluate import metrics


def test_auc_of_perfect_reversed_and_useless_scores():
    assert metrics.auc([0, 0, 1, 1], [1, 2, 3, 4]) == 1
    assert metrics.auc([1, 1, 0, 0], [1, 2, 3, 4]) == 0
    assert metrics.auc([0, 1, 0, 1], [5, 5, 5, 5]) == 0.5


def test_a_tie_between_a_positive_and_a_negative_counts_half():
    assert metrics.auc([0, 1, 1], [1, 1, 2]) == pytest.approx((0.5 + 1) / 2)


def test_auc_without_one_of_the_classes_is_not_a_number():
    assert math.isnan(metrics.auc([1, 1], [0.2, 0.3]))
    assert math.isnan(metrics.auc([0], [0.2]))


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=2, max_size=30))
def test_auc_is_the_share_of_pairs_in_the_right_order(pairs):
    positives = [score for label, score in pairs if label]
    negatives = [score for label, score in pairs if not label]
    value = metrics.auc([label for label, _ in pairs], [score for _, score in pairs])
    if not positives or not negatives:
        assert math.isnan(value)
        return
    won = sum((p > n) + 0.5 * (p == n) for p in positives for n in negatives)
    assert value == pytest.approx(won / (len(positives) * len(negatives)))


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=2, max_size=30))
def test_the_area_under_the_roc_curve_is_the_auc(pairs):
    labels, scores = [label for label, _ in pairs], [score for _, score in pairs]
    value = metrics.auc(labels, scores)
    if not math.isnan(value):
        fpr, tpr, thresholds = metrics.roc(labels, scores)
        assert metrics.area_under(fpr, tpr) == pytest.approx(value)
        assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
        assert np.all(np.diff(thresholds) < 0)


def test_patients_and_not_slices_are_resampled():
    labels, scores = np.tile([0, 1, 1], 100), np.tile([0.1, 0.9, 0.05], 100)
    of_one_patient = metrics.bootstrap_auc_by_patient(labels, scores, np.zeros(300), replicates=50)
    assert of_one_patient.low == of_one_patient.value == of_one_patient.high
    of_hundred = metrics.bootstrap_auc_by_patient(labels, scores, np.arange(300), replicates=200)
    assert of_hundred.low < 0.5 < of_hundred.high


def test_the_bootstrap_interval_is_near_the_closed_form_for_independent_patients():
    """Hanley and McNeil 1982: the standard error of an AUC; slices are patients here."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 150)
    scores = rng.normal(labels * 1.0, 1)
    estimate = metrics.bootstrap_auc_by_patient(labels, scores, np.arange(300), replicates=600)
    a = estimate.value
    q1, q2 = a / (2 - a), 2 * a * a / (1 + a)
    standard_error = math.sqrt((a * (1 - a) + 149 * (q1 - a * a) + 149 * (q2 - a * a)) / 150**2)
    assert (estimate.high - estimate.low) / 3.92 == pytest.approx(standard_error, rel=0.15)


def test_log_loss_of_one_half_is_the_logarithm_of_two():
    labels = np.random.default_rng(0).integers(0, 2, (20, 6))
    assert metrics.weighted_log_loss(labels, np.full((20, 6), 0.5)) == pytest.approx(math.log(2))


def test_any_counts_twice_in_the_weighted_log_loss():
    labels, sure = np.zeros((1, 6)), np.zeros((1, 6))
    sure[0, 0] = 0.5
    assert metrics.weighted_log_loss(labels, sure) == pytest.approx(2 / 7 * math.log(2), abs=1e-6)


def test_a_wrong_certainty_has_a_finite_log_loss():
    assert np.isfinite(metrics.log_loss([[1]], [[0.0]])).all()


def test_ece_of_predictions_that_come_true_is_zero():
    p = np.repeat([0.25, 0.75], 4)
    assert metrics.ece([1, 0, 0, 0, 1, 1, 1, 0], p) == pytest.approx(0)


@pytest.mark.parametrize("equal_mass", [True, False])
def test_ece_of_a_constant_is_its_distance_from_the_prevalence(equal_mass):
    assert metrics.ece([1, 0, 0, 0], [0.6] * 4, equal_mass=equal_mass) == pytest.approx(0.35)


def test_every_prediction_falls_into_a_bin():
    p = np.linspace(0, 1, 101)
    for equal_mass in (True, False):
        assert metrics.reliability(p > 0.5, p, equal_mass=equal_mass).cases.sum() == 101


def test_wilson_interval_as_published():
    """Newcombe 1998, table I: 81 of 263 gives .2553 to .3662; 0 of 20 gives 0 to .1611."""
    some, none = metrics.wilson(81, 263), metrics.wilson(0, 20)
    assert (some.low, some.high) == (pytest.approx(0.2553, abs=1e-4), pytest.approx(0.3662, abs=1e-4))
    assert (none.low, none.high) == (0, pytest.approx(0.1611, abs=1e-4))


def test_sensitivity_and_specificity_count_at_the_threshold_as_positive():
    sens, spec = metrics.sens_spec([1, 1, 0, 0, 0], [0.9, 0.5, 0.5, 0.1, 0.2], 0.5)
    assert sens.value == 1
    assert spec.value == pytest.approx(2 / 3)


def test_no_positives_give_no_sensitivity():
    assert math.isnan(metrics.sensitivity([0, 0], [1, 0]).value)


def test_pointing_game_asks_for_the_hottest_pixel():
    heat, mask = np.zeros((5, 5)), np.zeros((5, 5), bool)
    heat[1, 1], mask[1, 3] = 1, True
    assert not metrics.pointing_game(heat, mask)
    assert metrics.pointing_game(heat, mask, tolerance_px=2)
    mask[1, 1] = True
    assert metrics.pointing_game(heat, mask)


def test_dice_of_equal_disjoint_half_and_empty_masks():
    a = np.array([1, 1, 0, 0])
    assert metrics.dice(a, a) == 1
    assert metrics.dice(a, 1 - a) == 0
    assert metrics.dice(a, [0, 1, 1, 0]) == 0.5
    assert math.isnan(metrics.dice(a * 0, a * 0))
