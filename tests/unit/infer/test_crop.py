"""The head box: where it lies, what it shows, and that a CAM finds its way back onto the CT grid."""

import numpy as np
import pytest

from ich_node.domain.findings import Volume
from ich_node.infer.see.crop import AIR_HU, Turn, crop, crop_stack, head_box, turn_of


def ellipse(*, rows=200, columns=220, centre=(100, 110), radii=(90, 70), slices=8, drift=0.0):
    """A stack of filled ellipses of 40 HU in air; the centre's row moves by `drift` pixels per slice."""
    r, c = np.mgrid[:rows, :columns]
    stack = np.full((slices, rows, columns), -1000, np.int16)
    for i in range(slices):
        inside = ((r - centre[0] - drift * i) / radii[0]) ** 2 + ((c - centre[1]) / radii[1]) ** 2 < 1
        stack[i][inside] = 40
    return stack


def volume_of(hu, affine):
    uids = tuple(f"1.2.{i}" for i in range(len(hu)))
    return Volume(hu, (5.0, 1.0, 1.0), affine, np.outer(np.arange(len(hu)) * 5.0, (0, 0, 1)), uids, ())


def radiological():
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = (0, 0, 5), (0, 1, 0), (1, 0, 0)
    return affine


def test_the_box_is_a_little_larger_than_the_head_and_centred_on_it():
    centres, side_mm = head_box(ellipse(), (1.0, 1.0))
    assert side_mm == pytest.approx(180 * 1.06, abs=6)
    assert np.abs(centres - (100, 110)).max() < 3


def test_the_box_is_measured_in_millimetres_not_pixels():
    fine = np.repeat(np.repeat(ellipse(), 2, axis=1), 2, axis=2)
    assert head_box(fine, (0.5, 0.5))[1] == pytest.approx(head_box(ellipse(), (1.0, 1.0))[1], abs=4)


def test_the_box_follows_a_head_that_drifts_through_the_slices():
    hu = ellipse(rows=260, slices=20, drift=2.5)
    result = crop_stack(hu, (5.0, 1.0, 1.0))
    assert np.diff(result.corners[:, 0]).mean() == pytest.approx(2.5, abs=0.2)


def test_a_headrest_does_not_move_the_box():
    hu = ellipse(rows=240)
    hu[:, 225:229, 20:200] = 100
    assert np.abs(head_box(hu, (1.0, 1.0))[0] - (100, 110)).max() < 4


def test_an_image_without_a_head_gives_the_largest_box_around_its_centre():
    centres, side_mm = head_box(np.full((3, 100, 100), -1000, np.int16), (2.0, 2.0))
    assert side_mm == 230
    assert np.all(centres == 100)


def test_what_lies_outside_the_ct_is_air():
    result = crop_stack(ellipse(rows=150, centre=(75, 110)), (5.0, 1.0, 1.0))
    assert result.corners[0, 0] < 0
    assert result.hu[0, 0, 80] == AIR_HU


@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("reverse_rows", [False, True])
@pytest.mark.parametrize("reverse_columns", [False, True])
def test_every_stored_orientation_shows_the_same_radiological_box(transpose, reverse_rows, reverse_columns):
    hu = ellipse()
    hu[:, 60:70, 150:160] = 900
    affine = radiological()
    stored = hu[:, ::-1] if reverse_rows else hu
    stored = stored[:, :, ::-1] if reverse_columns else stored
    affine[:3, 1] *= -1 if reverse_rows else 1
    affine[:3, 2] *= -1 if reverse_columns else 1
    if transpose:
        stored = stored.swapaxes(1, 2)
        affine[:, [1, 2]] = affine[:, [2, 1]]
    assert np.array_equal(crop(volume_of(np.ascontiguousarray(stored), affine)).hu, crop_stack(hu, (5.0, 1.0, 1.0)).hu)


def test_turning_back_undoes_turning():
    image = np.arange(12).reshape(3, 4)
    for turn in (Turn(True, False, True), Turn(True, True, False), Turn(False, True, True)):
        assert np.array_equal(turn.back(turn.forward(image)), image)


def test_a_lit_cell_comes_back_to_the_pixels_that_lit_it():
    hu = ellipse()
    affine = radiological()
    affine[:3, 2] *= -1
    result = crop(volume_of(np.ascontiguousarray(hu[:, :, ::-1]), affine))
    cells = np.zeros((24, 24), np.float32)
    cells[6, 17] = 1
    heat = result.to_slice(cells, 3)
    box = result.to_box(heat, 3)
    assert heat.shape == (200, 220)
    row, column = np.unravel_index(box.argmax(), box.shape)
    assert abs(row / box.shape[0] * 24 - 6.5) < 0.6
    assert abs(column / box.shape[1] * 24 - 17.5) < 0.6


def test_interpolated_cells_stay_between_the_smallest_and_the_largest():
    cells = np.random.default_rng(1).random((24, 24)).astype(np.float32)
    heat = crop_stack(ellipse(), (5.0, 1.0, 1.0)).to_slice(cells, 0)
    assert heat.min() >= 0
    assert heat.max() <= cells.max() + 1e-6


def test_the_identity_affine_of_an_axial_stack_needs_no_turn():
    assert turn_of(radiological()) == Turn()
