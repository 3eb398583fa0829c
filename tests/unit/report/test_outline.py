"""Outlines of a map."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ich_node.report.pictures.outline import area, outlines, simplified


def cone(radius: float, rows: int = 60, columns: int = 80) -> np.ndarray:
    y, x = np.mgrid[:rows, :columns]
    return (radius + 1 - np.hypot(y - 25, x - 40)) / (radius + 1)


def test_the_outline_of_a_cone_is_a_circle_in_dicoms_pixel_coordinates() -> None:
    (circle,) = outlines(cone(12.0), 1 / 13)
    assert np.hypot(circle[:, 0] - 40.5, circle[:, 1] - 25.5) == pytest.approx(12.0, abs=0.05)
    assert abs(area(circle)) == pytest.approx(np.pi * 144, rel=0.01)


def test_an_outline_ends_where_it_starts() -> None:
    (circle,) = outlines(cone(12.0), 0.1)
    assert tuple(circle[0]) == tuple(circle[-1])


def test_a_single_pixel_has_an_outline_around_its_centre() -> None:
    values = np.zeros((4, 4))
    values[2, 1] = 1.0
    (diamond,) = outlines(values, 0.5)
    assert sorted(map(tuple, diamond[:-1])) == [(1.0, 2.5), (1.5, 2.0), (1.5, 3.0), (2.0, 2.5)]


def test_what_touches_the_border_is_closed_there() -> None:
    (box,) = outlines(np.ones((3, 5)), 0.5)
    assert box[:, 0].min() == pytest.approx(0.25, abs=0.26)
    assert box[:, 1].max() == pytest.approx(2.75, abs=0.26)
    assert tuple(box[0]) == tuple(box[-1])


def test_two_islands_give_two_outlines_the_larger_first() -> None:
    values = np.zeros((20, 20))
    values[2:4, 2:4] = 1
    values[8:16, 8:16] = 1
    first, second = outlines(values, 0.5)
    assert abs(area(first)) > abs(area(second))
    assert first.mean(0) == pytest.approx([12, 12], abs=0.5)


def test_a_hole_runs_the_other_way_round() -> None:
    values = np.ones((9, 9))
    values[4, 4] = 0
    outer, hole = outlines(values, 0.5)
    assert np.sign(area(outer)) == -np.sign(area(hole))


def test_nothing_above_the_level_has_no_outline() -> None:
    assert outlines(np.zeros((5, 5)), 0.5) == []


@settings(max_examples=60)
@given(arrays.arrays(np.float32, (7, 6), elements=st.floats(0, 1, width=32)), st.floats(0.05, 0.95))
def test_every_outline_is_closed_and_all_together_hold_exactly_the_pixels_above(
    values: np.ndarray, level: float
) -> None:
    found = outlines(values, level)
    for polygon in found:
        assert tuple(polygon[0]) == tuple(polygon[-1])
    for row, column in np.argwhere(np.abs(values - level) > 1e-3):
        inside = sum(_winds(polygon, column + 0.5, row + 0.5) for polygon in found)
        assert (inside != 0) == (values[row, column] >= level)


def test_a_simplified_outline_stays_within_its_tolerance() -> None:
    (circle,) = outlines(cone(20.0), 0.2)
    simple = simplified(circle, 0.3)
    assert len(simple) < len(circle) / 3
    assert tuple(simple[0]) == tuple(simple[-1])
    assert abs(area(simple)) == pytest.approx(abs(area(circle)), rel=0.02)


def _winds(polygon: np.ndarray, x: float, y: float) -> int:
    """Winding number of a closed polygon around a point that does not lie on it."""
    turns = 0
    for (x0, y0), (x1, y1) in pairwise(polygon):
        side = (x1 - x0) * (y - y0) - (x - x0) * (y1 - y0)
        if y0 <= y < y1 and side > 0:
            turns += 1
        elif y1 <= y < y0 and side < 0:
            turns -= 1
    return turns
