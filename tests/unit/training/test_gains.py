"""A gain is measured on the same studies, resampled by patient or by head; predictions come in the order of studies."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra [train]")
from ich_node.training.evaluate import gains, short

pytestmark = pytest.mark.train
STUDIES, SLICES = 8, 5


def said(strength):
    """Eight studies of five slices; the first four bleed on one slice, which stands out by `strength`."""
    study = np.repeat(np.arange(STUDIES), SLICES)
    label = np.zeros((STUDIES * SLICES, 6), np.float32)
    label[(study < 4) & (np.arange(len(study)) % SLICES == 2), :2] = 1
    noise = np.random.default_rng(0).normal(0, 1, (len(study), 1))
    smooth = np.repeat(label[:, :1] * strength + noise, 6, axis=1).astype(np.float32)
    studies = smooth.reshape(STUDIES, SLICES, 6).max(axis=1)
    truth = label.reshape(STUDIES, SLICES, 6).max(axis=1)
    return gains.Said(study, label, smooth, studies, truth, np.arange(STUDIES))


def test_a_gain_is_that_over_the_other_on_the_same_studies():
    weak, strong = said(0.0), said(9.0)
    same = gains.figures(weak, weak)
    assert (same["slice_gain"], same["study_gain"]) == ([0, 0], [0, 0])
    better = gains.figures(strong, weak)
    assert better["slice_auc"] == better["study_auc"] == better["study_auc_small"] == 1
    assert 0 < better["slice_gain"][0] <= better["slice_gain"][1]
    assert (better["studies"], better["bleeding"], better["small"]) == (8, 4, 4)


def test_studies_of_one_head_are_drawn_together():
    weak, strong = said(0.0), said(9.0)
    of_two = np.arange(STUDIES) % 2
    assert (
        gains.figures(replace(strong, group=of_two), replace(weak, group=of_two))["study_gain"]
        != (gains.figures(strong, weak)["study_gain"])
    )


def test_predictions_are_read_in_the_order_of_their_studies(tmp_path):
    def study(name, group, level):
        logit = np.full((3, 6), level, np.float32)
        label = np.full((3, 6), level > 0, np.float32)
        return {
            "patient": np.full(3, name),
            "group": np.full(3, group),
            "slice": np.arange(3),
            "label": label,
            "logit": logit,
        }

    short.keep(tmp_path / "a.npz", [study(2, 7, 4.0), study(0, 8, -4.0)])
    short.keep(tmp_path / "b.npz", [study(1, 9, 1.0)])
    found = gains.said([tmp_path / "a.npz", tmp_path / "b.npz"])
    assert found.study.tolist() == [2, 2, 2, 0, 0, 0, 1, 1, 1]
    assert found.studies[:, 0].tolist() == [-4, 1, 4]
    assert found.study_label[:, 0].tolist() == [0, 1, 1]
    assert found.group.tolist() == [8, 9, 7]
    assert not list(tmp_path.glob("*.part"))
