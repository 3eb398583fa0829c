"""Neighbours are those of the same scan, count nothing at first; an arm is trained once and goes on where it was."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra [train]")
import torch

from ich_node.infer.see.crop import AIR_HU
from ich_node.training.data.pool import Pool
from ich_node.training.evaluate import one_change
from ich_node.training.evaluate.one_change import ARMS, COMPARED, RECIPE
from ich_node.training.learn import beside
from ich_node.training.learn.batches import Draw, Shelf, batch
from ich_node.training.learn.beside import Alone, Neighboured, NeighbourNetwork
from ich_node.training.learn.network import Network
from ich_node.training.synthesis.dice import Dice

pytestmark = pytest.mark.train
CPU = torch.device("cpu")


@pytest.fixture
def pool():
    """Two scans of three slices; every pixel says which slice it is."""
    hu = np.repeat(np.arange(6, dtype=np.int16), 32 * 32).reshape(6, 32, 32)
    labels = np.zeros((6, 6), np.float32)
    labels[::2, :2] = 1
    bits = np.zeros((6, 16, 16), np.uint8)
    patient = np.array([0, 0, 0, 1, 1, 1], np.int32)
    return Pool(hu, labels, bits, np.ones((6, 6), np.float32), patient, np.zeros(6, np.bool_))


def test_neighbours_are_those_of_the_same_scan_or_air(pool, monkeypatch):
    monkeypatch.setattr(beside, "DROPPED", 0.0)
    hu = Neighboured(Draw(Shelf(pool, CPU), CPU), pool).take(40, Dice(1, CPU)).hu[:, :, 0, 0]
    expected = {0: (AIR_HU, 1), 1: (0, 2), 2: (1, AIR_HU), 3: (AIR_HU, 4), 4: (3, 5), 5: (4, AIR_HU)}
    assert {int(own): (int(below), int(above)) for own, below, above in hu} == expected


def test_some_neighbours_are_dropped_and_paintings_have_none(pool):
    source = Draw(Shelf(pool, CPU), CPU)
    hu = Neighboured(source, pool).take(400, Dice(1, CPU)).hu
    gone = (hu[hu[:, 0, 0, 0] == 1][:, 1:, 0, 0] == AIR_HU).float().mean()
    assert 0.15 < gone < 0.45
    assert (Alone(source).take(5, Dice(1, CPU)).hu[:, 1:] == AIR_HU).all()


def test_a_batch_turns_a_slice_and_its_neighbours_alike(pool):
    flat = Pool(np.zeros_like(pool.hu), *(getattr(pool, name) for name in Pool.__slots__[1:]))
    flat.hu[:, 4:9, 20:27] = 1500
    made = batch({"one": Neighboured(Draw(Shelf(flat, CPU), CPU), flat)}, {"one": 30}, 32, Dice(3, CPU))
    there = made.hu[:, 1:].amax((2, 3)) > 200
    assert there.any()
    own = (made.hu[:, :1] > 200).expand(-1, 2, -1, -1)[there]
    assert (own == (made.hu[:, 1:] > 200)[there]).float().mean() > 0.98


def test_before_training_neighbours_change_nothing_and_then_they_can(pool):
    torch.manual_seed(2)
    single = Network(64, pretrained=False).eval()
    wide = NeighbourNetwork(64, single.state_dict()).eval()
    hu = torch.randint(-50, 120, (4, 70, 66), dtype=torch.int16)
    with torch.no_grad():
        assert torch.equal(single(hu)[0], wide(hu)[0])
        wide.backbone._conv_stem.weight[:, 3:] += 0.3
        before = wide(hu)[0]
        hu[2] = 40
        after = wide(hu)[0]
    assert (before[1] - after[1]).abs().max() > 1e-6
    assert torch.equal(before[0], after[0])  # two slices away


def test_all_arms_see_as_many_slices():
    assert {sum(arm.counts.values()) for arm in ARMS.values()} == {sum(ARMS[RECIPE].counts.values())}


def test_every_arm_has_every_fold_and_the_wrong_scale_comes_last():
    plan = one_change.plan()
    assert sorted(plan) == sorted((name, fold) for name in ARMS for fold in range(COMPARED))
    assert plan[0] == (RECIPE, 0)
    assert {name for name, _ in plan[-COMPARED:]} == {"at the wrong scale"}
