"""Means and neighbours on blocks: the same as those of scipy.ndimage, which is slower."""

import numpy as np
import pytest
from scipy import ndimage

from ich_node.infer.see import blocks


@pytest.mark.parametrize("step", [(1, 1), (2, 2), (3, 2)])
@pytest.mark.parametrize("kind", [np.int16, np.float32])
def test_a_mean_over_blocks_leaves_out_what_does_not_fill_one(step, kind):
    hu = np.random.default_rng(1).integers(-1024, 3000, (3, 13, 11)).astype(kind)
    rows, columns = 13 // step[0], 11 // step[1]
    whole = hu[:, : rows * step[0], : columns * step[1]].reshape(3, rows, step[0], columns, step[1])
    assert blocks.block_mean(hu, step) == pytest.approx(whole.mean(axis=(2, 4), dtype=np.float64), rel=1e-6, abs=1e-3)


@pytest.mark.parametrize(("size", "fine"), [((1.5, 2.5), (2, 2)), ((2.36, 2.36), (25, 25)), ((0.75, 1.2), (4, 5))])
def test_a_mean_over_cells_counts_every_pixel_by_the_part_that_lies_there(size, fine):
    hu = np.random.default_rng(2).integers(-1024, 3000, (2, 12, 13)).astype(np.int16)
    parts = np.kron(hu, np.ones((1, *fine), np.int16))  # each pixel as so many equal parts
    expected = blocks.block_mean(parts, (round(size[0] * fine[0]), round(size[1] * fine[1])))
    assert blocks.cell_mean(hu, size) == pytest.approx(expected, rel=1e-5, abs=0.01)


def test_cells_of_whole_pixels_are_blocks():
    hu = np.random.default_rng(3).integers(-1024, 3000, (2, 12, 13)).astype(np.int16)
    assert np.array_equal(blocks.cell_mean(hu, (3.0, 2.0000001)), blocks.block_mean(hu, (3, 2)))


@pytest.mark.parametrize("square", [False, True])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("times", [1, 2, 4])
@pytest.mark.parametrize("shape", [(4, 30, 25), (2, 3, 1)])
def test_neighbours_are_those_of_scipy_and_slices_do_not_touch(square, share, times, shape):
    mask = np.random.default_rng(times).random(shape) < share
    mask |= ndimage.binary_dilation(mask, iterations=1) & (share > 0.4)  # larger things too, up to the edge
    how = {"structure": ndimage.generate_binary_structure(2, 2 if square else 1)[None], "iterations": times}
    for ours, theirs in (
        (blocks.grown, ndimage.binary_dilation),
        (blocks.shrunk, ndimage.binary_erosion),
        (blocks.opened, ndimage.binary_opening),
        (blocks.closed, ndimage.binary_closing),
    ):
        before = mask.copy()
        assert np.array_equal(ours(mask, times, square=square), theirs(mask, **how)), ours
        assert np.array_equal(ours(mask[0], times, square=square), theirs(mask, **how)[0])
        assert np.array_equal(mask, before)


def test_a_box_holds_all_of_a_mask_and_its_margin_as_far_as_there_is_room():
    mask = np.zeros((4, 9, 8), np.bool_)
    mask[1, 3:5, 6] = mask[2, 4, 7] = True
    assert blocks.box_of(mask) == (slice(1, 3), slice(3, 5), slice(6, 8))
    assert mask[blocks.box_of(mask, 2)].shape == (4, 6, 4)
    assert mask[blocks.box_of(np.zeros_like(mask), 2)].size == 0
