"""What slices speak for along the body, evenly spaced or not."""

from __future__ import annotations

import numpy as np
import pytest

from ich_node.infer.see.heights import UNSEEN_MM, extents_mm, nearest, slab_starts, spread_out


@pytest.mark.parametrize("step_mm", [0.625, 1.0, 1.25, 2.0, 2.5, 3.0, 3.75, 5.0, 6.0])
def test_slabs_of_even_slices_have_the_same_number_each(step_mm):
    depth = max(1, round(5.0 / step_mm))
    assert slab_starts(np.arange(40) * step_mm - 71.3, 5.0).tolist() == list(range(0, 40, depth))


@pytest.mark.parametrize(("step_mm", "every"), [(0.625, 6), (1.0, 4), (1.25, 3), (2.5, 1), (5.0, 1)])
def test_even_slices_are_spread_out_by_counting(step_mm, every):
    heights = np.arange(60) * step_mm
    chosen = spread_out(heights, 3.5)
    assert chosen.tolist() == list(range(0, 60, every))
    counted = np.minimum((np.arange(60) + every // 2) // every, len(chosen) - 1)
    assert nearest(heights, chosen).tolist() == counted.tolist()


def test_a_thick_slice_speaks_for_more_and_none_for_a_gap():
    heights = np.array([0, 1, 2, 3, 8, 13, 60, 65])
    assert extents_mm(heights).tolist() == [1, 1, 1, 3, 5, (5 + UNSEEN_MM) / 2, (5 + UNSEEN_MM) / 2, 5]


def test_slabs_of_uneven_slices_have_about_the_same_height():
    heights = np.concatenate([np.arange(0, 60, 1.25), np.arange(60, 140, 5)])
    starts = slab_starts(heights, 5.0)
    assert np.all(np.abs(np.add.reduceat(extents_mm(heights), starts) - 5) <= 2)


def test_one_slice_is_a_slab_of_its_own():
    assert slab_starts([12.0], 5.0).tolist() == spread_out([12.0], 3.5).tolist() == [0]
    assert extents_mm([12.0]).tolist() == [1]
