"""Deletion and insertion with a score whose answer is known: the share of dense pixels."""

import numpy as np
import pytest

from ich_node.training.evaluate import faithfulness
from ich_node.training.evaluate.faithfulness import FRACTIONS


@pytest.fixture
def slice_with_blood():
    hu = np.full((64, 64), 30, np.int16)
    inside = np.zeros((64, 64), bool)
    inside[8:56, 8:56] = True
    hu[20:28, 30:38] = 70
    return hu, inside


def dense(images):
    return (images > 50).sum(axis=(1, 2)) / 64


def test_a_map_that_shows_the_evidence_takes_it_away_first(slice_with_blood):
    hu, inside = slice_with_blood
    curves = faithfulness.curves(hu, (hu > 50).astype(float), inside, dense, np.random.default_rng(0))
    assert curves.deletion[0] == 1
    share = 64 / inside.sum()
    assert all(curves.deletion[i] == 0 for i, fraction in enumerate(FRACTIONS) if fraction >= share + 0.001)
    assert curves.insertion[-1] == 1
    areas = curves.areas()
    assert areas["deletion"] < areas["random_deletion"]
    assert areas["insertion"] > areas["random_insertion"]


def test_a_map_of_the_opposite_takes_it_away_last(slice_with_blood):
    hu, inside = slice_with_blood
    curves = faithfulness.curves(hu, (hu < 50).astype(float), inside, dense, np.random.default_rng(0))
    assert curves.deletion[-2] > 0.9
    assert curves.insertion[-2] == pytest.approx(0, abs=0.01)


def test_nothing_outside_the_skull_is_touched(slice_with_blood):
    hu, inside = slice_with_blood
    hu[0, 0] = 1000
    rng = np.random.default_rng(0)
    order = faithfulness.rank(hu.astype(float), inside, rng)
    for removed in (True, False):
        assert np.all(faithfulness.stack(hu, order, inside, removed)[:, 0, 0] == 1000)


def test_ranks_are_shares_and_ties_are_broken_at_random():
    order = faithfulness.rank(np.zeros((4, 4)), np.ones((4, 4), bool), np.random.default_rng(0))
    assert sorted(order.ravel()) == pytest.approx(np.arange(16) / 16)
    assert not np.array_equal(order.ravel(), np.sort(order.ravel()))
