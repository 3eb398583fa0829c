"""The great arteries of the brain along their course, painted into a head CT without contrast.

In: HU of a head and its fit to the standard head. Out: the head as an early arterial angiogram shows it: arteries
bright, veins and sinuses as they were. Courses are textbook landmarks in the space of Talairach and Tournoux (1988),
brought to the template as say/lobes.py does; diameters are those of adults in mm.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ich_node.domain.findings import Volume
from ich_node.infer.say.headspace import HeadFrame
from ich_node.infer.say.lobes import CEREBRUM_MM, TALAIRACH_MM

Points = npt.NDArray[np.float64]

COURSES: tuple[tuple[float, tuple[tuple[float, float, float], ...]], ...] = (
    (4.0, ((10, 5, -48), (9, -4, -30), (13, -2, -15))),  # internal carotid
    (2.8, ((13, -2, -15), (28, -3, -14), (40, -4, -10))),  # middle cerebral, and three of its branches
    (1.9, ((40, -4, -10), (42, 2, 5), (41, 12, 15), (47, 30, 24), (57, 48, 30))),
    (1.8, ((40, -4, -10), (44, -12, 4), (52, -22, 20), (55, -18, 40))),
    (1.9, ((40, -4, -10), (43, 10, -3), (52, 28, 4), (60, 48, 6))),
    (1.2, ((57, 48, 30), (55, 45, 48), (45, 40, 62))),  # over the convexity
    (1.2, ((55, -18, 40), (45, -10, 58), (35, 0, 68))),
    (2.2, ((13, -2, -15), (3, -12, -12))),  # anterior cerebral and its branches
    (2.0, ((2, -14, -12), (2, -32, 0), (2, -36, 14), (2, -16, 30), (2, 20, 37), (2, 60, 42))),
    (1.3, ((3, -36, 14), (4, -30, 40), (6, 0, 60), (8, 30, 66))),
    (2.0, ((0, 22, -18), (12, 27, -16), (21, 40, -10), (20, 64, -2), (12, 86, 2))),  # posterior cerebral
    (3.2, ((0, 26, -50), (0, 22, -18))),  # basilar and vertebral
    (2.8, ((9, 36, -78), (0, 27, -50))),
)
"""Diameter, and landmarks (x to the side, y to posterior, z to the head) of every artery; all are on both sides."""
ASTRAY_MM, BENDS_MM = 1.5, 3.0  # chosen: as much as arteries differ from textbooks, and as much as they wind
WITHIN = 5  # parts of a slice across which its partial volume is added up
BLUR_MM = 0.35  # chosen: the sharpness of a soft kernel


def with_arteries(volume: Volume, frame: HeadFrame, hu: float, rng: np.random.Generator) -> npt.NDArray[np.int16]:
    """The head with arteries of `hu`; int16 [slices, rows, columns] of a volume with rows along y, columns along x."""
    share = np.zeros(volume.hu.shape, np.float32)
    for diameter_mm, course in COURSES:
        for side in (1, -1):
            line = frame.centre + (_winding(course, side, rng) - frame.shift) @ np.linalg.inv(frame.matrix).T
            _draw(share, _dense(line), diameter_mm * rng.uniform(0.85, 1.15) / 2, volume)
    share = ndimage.gaussian_filter(share, (0, *(BLUR_MM / mm for mm in volume.spacing_mm[1:])))
    return np.asarray(np.rint(volume.hu + share * np.maximum(hu - volume.hu, 0)), np.int16)


def _winding(course: tuple[tuple[float, float, float], ...], side: int, rng: np.random.Generator) -> Points:
    """A course in template mm, [n, 3], a little off and in bends."""
    template, atlas = np.array(CEREBRUM_MM), np.array(TALAIRACH_MM)
    scale = np.ptp(template, axis=1) / np.ptp(atlas, axis=1)
    marks = (np.array(course) * (side, 1, 1) - atlas.mean(axis=1)) * scale + template.mean(axis=1)
    marks = marks + rng.normal(0, ASTRAY_MM, 3)
    at = np.linspace(0, len(marks) - 1, 12 * (len(marks) - 1) + 1)
    line = np.stack([np.interp(at, np.arange(len(marks)), marks[:, axis]) for axis in range(3)], axis=1)
    return np.asarray(line + ndimage.gaussian_filter1d(rng.normal(0, BENDS_MM, line.shape), 3, axis=0))


def _dense(line: Points) -> Points:
    """Points every 0.4 mm along a line."""
    way = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    at = np.linspace(0, way[-1], int(way[-1] / 0.4) + 2)
    return np.stack([np.interp(at, way, line[:, axis]) for axis in range(3)], axis=1)


def _draw(share: npt.NDArray[np.float32], line: Points, radius_mm: float, volume: Volume) -> None:
    """The share of every voxel that a tube around `line` fills, where it is more than what is there."""
    thick_mm, row_mm, column_mm = volume.spacing_mm
    reach = int(radius_mm / min(row_mm, column_mm)) + 4
    for index, start in enumerate(volume.positions_mm):
        near = line[np.abs(line[:, 2] - start[2]) < thick_mm / 2 + radius_mm] - start
        if not len(near):
            continue
        centre = near[:, [1, 0]] / (row_mm, column_mm)
        low = np.maximum(centre.min(axis=0).astype(int) - reach, 0)
        high = np.minimum(centre.max(axis=0).astype(int) + reach, share.shape[1:])
        if (low >= high).any():
            continue
        rows, columns = np.mgrid[low[0] : high[0], low[1] : high[1]]
        filled = np.zeros(rows.shape, np.float32)
        for part in range(WITHIN):
            away = near[:, 2] - ((part + 0.5) / WITHIN - 0.5) * thick_mm
            inside = np.full(rows.shape, -9.0, np.float32)
            for point in np.flatnonzero(np.abs(away) < radius_mm):
                aside = np.hypot((rows - centre[point, 0]) * row_mm, (columns - centre[point, 1]) * column_mm)
                inside = np.maximum(inside, np.sqrt(radius_mm**2 - away[point] ** 2) - aside)
            filled += np.clip(inside / 0.7 + 0.5, 0, 1) / WITHIN
        box = np.s_[index, low[0] : high[0], low[1] : high[1]]
        share[box] = np.maximum(share[box], filled)
