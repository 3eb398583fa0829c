"""Calibration and thresholds against distributions whose answer is known."""

import numpy as np
import pytest

from ich_node.training.learn import calibrate

RNG = np.random.default_rng(0)


def drawn(n=4000, scale=0.5, bias=-1.0):
    """Logits and labels where the right scaling is (scale, bias)."""
    logits = RNG.normal(0, 3, (n, 6))
    labels = (RNG.uniform(size=(n, 6)) < 1 / (1 + np.exp(-(scale * logits + bias)))).astype(np.float32)
    return logits, labels


def test_the_scaling_that_made_the_labels_is_found():
    scaling = calibrate.fit(*drawn())
    assert scaling.scale[0] == pytest.approx(0.5, abs=0.06)
    assert scaling.bias[0] == pytest.approx(-1.0, abs=0.15)


def test_all_types_share_one_scaling():
    scaling = calibrate.fit(*drawn())
    assert len(set(scaling.scale[1:])) == len(set(scaling.bias[1:])) == 1


def test_a_handful_of_perfectly_separated_cases_does_not_run_away():
    logits = np.repeat(np.array([-2.0, -1.0, 1.0, 2.0])[:, None], 6, axis=1)
    assert calibrate.fit(logits, (logits > 0).astype(np.float32)).scale[0] < 20


def test_thresholds_keep_their_order_and_promise():
    z = np.concatenate([RNG.normal(2, 1, 2000), RNG.normal(-2, 1, 2000)])
    labels = np.repeat([1.0, 0.0], 2000)
    p = 1 / (1 + np.exp(-z))
    points = calibrate.operating_points(np.repeat(p[:, None], 6, axis=1), np.repeat(labels[:, None], 6, axis=1))
    low, middle, high = (points[name]["thresholds"]["any"] for name in ("rule_out", "high", "rule_in"))
    assert low <= middle <= high
    assert (p[labels > 0] >= low).mean() > 0.93
    assert (p[labels == 0] < high).mean() > 0.93


def test_studies_are_put_together_in_slice_order():
    patient = np.array(["b", "a", "b", "a", "a"])
    number = np.array([1, 2, 0, 0, 1])
    logits = np.arange(30, dtype=np.float32).reshape(5, 6)
    smooth, studies, names = calibrate.by_study(patient, number, logits)
    assert names.tolist() == ["a", "b"]
    assert studies.shape == (2, 6)
    # 5 mm apart, a triangle of 15 mm: 1-2-3-2-1, and the ends go on as they end
    assert smooth[4, 0] == pytest.approx((3 * logits[3, 0] + 3 * logits[4, 0] + 3 * logits[1, 0]) / 9)


def test_the_cam_threshold_separates_lit_cells_from_the_others():
    share = np.zeros((3, 8, 8))
    share[:, 2:5, 2:5] = 1
    cells = np.where(share > 0, 2.0, -2.0)
    threshold = calibrate.cam_threshold(cells, share, 1.0, 0.0)
    assert 1 / (1 + np.exp(2)) < threshold < 1 / (1 + np.exp(-2))
