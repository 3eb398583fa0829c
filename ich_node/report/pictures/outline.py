"""Closed outlines of what lies above a level, by marching squares with linear interpolation.

In: a map [rows, columns]. Out: polygons in DICOM's image-relative coordinates (PS3.3 C.18.6.1.1): column, row; the
centre of the first pixel is (0.5, 0.5).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Point = tuple[int, int, int]
"""A crossing: on the edge from grid point (row, column) to the next one along axis 0 or 1."""

Outline = npt.NDArray[np.float64]

TOP, RIGHT, BOTTOM, LEFT = range(4)  # sides of a cell, clockwise, as indices of EDGES
EDGES = ((0, 0, 1), (0, 1, 0), (1, 0, 1), (0, 0, 0))  # (row, column, axis) of TOP, RIGHT, BOTTOM and LEFT of a cell
SEGMENTS: dict[int, tuple[tuple[int, int], ...]] = {
    0b0001: ((LEFT, BOTTOM),),
    0b0010: ((BOTTOM, RIGHT),),
    0b0011: ((LEFT, RIGHT),),
    0b0100: ((RIGHT, TOP),),
    0b0101: ((LEFT, BOTTOM), (RIGHT, TOP)),
    0b0110: ((BOTTOM, TOP),),
    0b0111: ((LEFT, TOP),),
    0b1000: ((TOP, LEFT),),
    0b1001: ((TOP, BOTTOM),),
    0b1010: ((TOP, LEFT), (BOTTOM, RIGHT)),
    0b1011: ((TOP, RIGHT),),
    0b1100: ((RIGHT, LEFT),),
    0b1101: ((RIGHT, BOTTOM),),
    0b1110: ((BOTTOM, LEFT),),
}
"""Cases of a cell: bits are top left, top right, bottom right, bottom left ≥ level. Each line keeps the high side on
the same hand; where two corners face each other, they stay apart."""


def outlines(values: npt.NDArray[np.floating], level: float) -> list[Outline]:
    """Closed polygons [n + 1, 2] (column, row), first point repeated at the end, around values ≥ level; largest first.

    The outside of the map counts as below the level, so that every outline is closed. Holes have outlines too.
    """
    low = min(0.0, level - 1.0)
    padded = np.pad(np.asarray(values, np.float64), 1, constant_values=low)
    followers = _followers(padded, level)
    found = []
    while followers:
        start = next(iter(followers))
        chain = [start]
        while (point := followers.pop(chain[-1])) != start:
            chain.append(point)
        found.append(_coordinates([*chain, start], padded, level))
    return sorted(found, key=lambda polygon: -abs(area(polygon)))


def area(polygon: Outline) -> float:
    """Signed area in pixels of a closed polygon (the shoelace formula)."""
    x, y = polygon[:, 0], polygon[:, 1]
    return float(np.dot(x[:-1], y[1:]) - np.dot(x[1:], y[:-1])) / 2


def simplified(polygon: Outline, tolerance: float) -> Outline:
    """Fewer points; the old ones are at most `tolerance` pixels off the new line (Douglas and Peucker 1973)."""
    middle = len(polygon) // 2
    keep = {0, middle, len(polygon) - 1}
    todo = [(0, middle), (middle, len(polygon) - 1)]
    while todo:
        first, last = todo.pop()
        if last - first < 2:
            continue
        away = _distance(polygon[first + 1 : last], polygon[first], polygon[last])
        farthest = int(np.argmax(away))
        if away[farthest] > tolerance:
            split = first + 1 + farthest
            keep.add(split)
            todo += [(first, split), (split, last)]
    return polygon[sorted(keep)]


def _followers(padded: npt.NDArray[np.float64], level: float) -> dict[Point, Point]:
    """Which crossing follows which, over all cells that the outline passes."""
    high = padded >= level
    case = high[:-1, :-1] * 8 + high[:-1, 1:] * 4 + high[1:, 1:] * 2 + high[1:, :-1] * 1
    followers: dict[Point, Point] = {}
    rows, columns = np.nonzero((case != 0) & (case != 15))
    for row, column, kind in zip(rows.tolist(), columns.tolist(), case[rows, columns].tolist(), strict=True):
        for start, end in SEGMENTS[kind]:
            followers[_crossing(row, column, start)] = _crossing(row, column, end)
    return followers


def _crossing(row: int, column: int, edge: int) -> Point:
    down, right, axis = EDGES[edge]
    return row + down, column + right, axis


def _coordinates(chain: list[Point], padded: npt.NDArray[np.float64], level: float) -> Outline:
    row, column, axis = np.array(chain).T
    here, there = padded[row, column], padded[row + (axis == 0), column + (axis == 1)]
    step = np.clip((level - here) / (there - here), 0, 1)
    y, x = row + step * (axis == 0), column + step * (axis == 1)
    return np.stack([x, y], axis=1) - 0.5  # less the padding, plus half a pixel


def _distance(points: Outline, start: Outline, end: Outline) -> Outline:
    along = end - start
    length = float(np.hypot(*along))
    if length == 0:
        return np.asarray(np.hypot(*(points - start).T))
    across = along[0] * (points[:, 1] - start[1]) - along[1] * (points[:, 0] - start[0])
    return np.asarray(np.abs(across) / length)
