"""One arm sees label maps and the other none; no head is taught and asked about, and what is kept is not made again."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra [train]")
import torch

from ich_node.training.data.pool import Pool
from ich_node.training.evaluate import left_out_maps
from ich_node.training.evaluate.left_out_maps import CONTROL, LEFT_OUT, PHASES, STUDIES, Comparison
from ich_node.training.learn.recipe import Workshop
from ich_node.training.synthesis import scans

pytestmark = pytest.mark.train


class Fake(Comparison):
    """A comparison of twenty heads and four studies, without training; a network answers with what it is."""

    def __init__(self, out):
        self.shop, self.folder = Workshop(out, out), out / "left_out_maps"
        names = [Path(f"head_{number:02d}.npz") for number in range(20)]
        self.taught, self.asked = names[::2], names[1::2]
        self.begun = []

    def trained(self, arm):
        self.begun.append(arm)
        for level in (1.0, 3.0) if arm == CONTROL else (0.0, 2.0):
            yield torch.nn.Identity().requires_grad_(False), level

    def _said(self, network, number, path, head):
        ill = float(number % 2 == 0)
        logit = np.full((4, 6), ill * network[1], np.float32) + np.random.default_rng(number).normal(0, 1, (4, 6))
        return {
            "patient": np.full(4, number),
            "group": np.full(4, head),
            "slice": np.arange(4),
            "label": np.full((4, 6), ill, np.float32),
            "logit": logit.astype(np.float32),
        }


@pytest.fixture
def drawn_from(monkeypatch, tmp_path):
    """The files that phantoms of an arm are drawn from; nothing is drawn."""
    seen = []

    def chunk(number, seed, files, known):
        seen.append(tuple(files))
        one = np.zeros(1, np.int32)
        shape = np.zeros((1, 2, 2))
        return Pool(shape.astype(np.int16), shape[:, 0], shape.astype(np.uint8), shape[:, 0], one, one.astype(bool))

    monkeypatch.setattr(scans, "chunk", chunk)
    monkeypatch.setattr(left_out_maps, "CHUNKS", 2)
    return seen


def test_the_arm_without_label_maps_draws_from_none_and_the_other_from_heads_that_are_not_asked_about(
    drawn_from, tmp_path
):
    fake = Fake(tmp_path)
    assert len(fake.phantoms(LEFT_OUT)) == len(fake.phantoms(CONTROL)) == 2
    assert drawn_from == [(), (), tuple(fake.taught), tuple(fake.taught)]
    assert not set(fake.taught) & set(fake.asked)
    fake.phantoms(CONTROL)
    assert len(drawn_from) == 4


def test_every_head_is_asked_about_equally_and_half_of_its_studies_are_to_bleed(tmp_path):
    asked = list(Fake(tmp_path)._asked())
    assert [number for number, _, _ in asked] == list(range(10 * STUDIES))
    bleeding = Counter(head for number, _, head in asked if number % 2 == 0)
    assert bleeding == dict.fromkeys(range(10), STUDIES // 2)


def test_figures_are_those_of_both_arms_and_nothing_is_trained_twice(tmp_path):
    fake = Fake(tmp_path)
    fake.predict(LEFT_OUT)
    assert fake.figures()["phases"] == {}
    fake.predict(CONTROL)
    fake.predict(CONTROL)
    assert fake.begun == [LEFT_OUT, CONTROL]
    found = fake.figures()["phases"]
    assert list(found) == list(PHASES)
    assert found["first"][LEFT_OUT]["slice_gain"] == [0, 0]
    assert found["first"][CONTROL]["slice_gain"][0] > 0
    assert found["second"][LEFT_OUT]["slice_auc"] > found["first"][LEFT_OUT]["slice_auc"]
