"""Along the body in millimetres: what each slice speaks for, wherever the slices lie.

Slices may be thin at the base and thick above, or have gaps, so that no single spacing describes them; whatever is
counted, averaged or smoothed from foot to head goes by `heights_mm`: float64 [slices], ascending, the position of every
slice along the normal of its plane. Evenly spaced slices weigh the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating]

UNSEEN_MM = 7.5
"""No slice speaks for more than half of this to either side: beyond lies a gap, which nobody looked at. The widest
usual distance of slices (dicom/eligibility.py)."""


def steps_mm(heights_mm: Sequence[float] | Array) -> tuple[Array, Array]:
    """Distance to the slice below and above, float64 [slices] each; at both ends that to the only neighbour."""
    heights = np.asarray(heights_mm, np.float64)
    if len(heights) < 2:
        return np.ones(len(heights)), np.ones(len(heights))
    between = np.diff(heights)
    return np.concatenate([between[:1], between]), np.concatenate([between, between[-1:]])


def extents_mm(heights_mm: Sequence[float] | Array) -> Array:
    """The stretch that each slice speaks for, float64 [slices]: half of the way to both neighbours."""
    below, above = (np.minimum(step, UNSEEN_MM) for step in steps_mm(heights_mm))
    return np.asarray((below + above) / 2)


def slab_starts(heights_mm: Sequence[float] | Array, slab_mm: float) -> npt.NDArray[np.intp]:
    """The first slice of every slab: neighbours whose stretches add up to the height closest to `slab_mm`."""
    starts, filled_mm = [], np.inf
    below, _ = steps_mm(heights_mm)
    for index, extent_mm in enumerate(extents_mm(heights_mm)):
        full = filled_mm + extent_mm / 2 >= slab_mm - 1e-3  # positions are rounded to micrometres at best
        if full or below[index] >= slab_mm - 1e-3:  # a slab reaches across no gap
            starts.append(index)
            filled_mm = 0.0
        filled_mm += extent_mm
    return np.asarray(starts, np.intp)


def spread_out(heights_mm: Sequence[float] | Array, apart_mm: float) -> npt.NDArray[np.intp]:
    """Indices of slices about `apart_mm` from each other, the lowest first; every one where they lie wider."""
    below, _ = steps_mm(heights_mm)
    chosen: list[int] = []
    for index, height in enumerate(heights_mm):
        if not chosen or height - heights_mm[chosen[-1]] > apart_mm - below[index] / 2 + 1e-3:
            chosen.append(index)
    return np.asarray(chosen, np.intp)


def nearest(heights_mm: Sequence[float] | Array, chosen: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """For every slice the place in `chosen` of the nearest of them, int [slices]; halfway, of the upper one."""
    heights = np.asarray(heights_mm, np.float64)
    middles = (heights[chosen[1:]] + heights[chosen[:-1]]) / 2
    return np.asarray(np.searchsorted(middles - 1e-3, heights, side="right"), np.intp)
