"""A head of two ellipsoids for tests that need a head in milliseconds rather than a good one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class ShapeHead:
    """hu: int16 [slices, rows, columns], foot to head; spacing_mm: slice, row, column."""

    hu: npt.NDArray[np.int16]
    spacing_mm: tuple[float, float, float]


def shape_head(slices: int = 30, size: int = 128, slice_mm: float = 5.0, noise_hu: float = 3.0) -> ShapeHead:
    """Skull, brain and a marker: a block of 70 HU left, front and above the middle, so that no turn goes unseen."""
    pixel_mm = 230.0 / size
    z, y, x = np.meshgrid(
        (np.arange(slices) - (slices - 1) / 2) * slice_mm,
        (np.arange(size) - (size - 1) / 2) * pixel_mm,
        (np.arange(size) - (size - 1) / 2) * pixel_mm,
        indexing="ij",
        sparse=True,
    )
    outside = np.sqrt((z / 120) ** 2 + (y / 95) ** 2 + (x / 78) ** 2)
    hu = np.full(outside.shape, -1000.0)
    hu[outside < 1] = 1100
    hu[outside < 0.91] = 34
    hu[(outside < 0.91) & (x > 15) & (x < 35) & (y < -15) & (y > -40) & (z > 5) & (z < 30)] = 70
    hu += np.random.default_rng(0).normal(0, noise_hu, hu.shape)
    return ShapeHead(np.rint(np.maximum(hu, -1024)).astype(np.int16), (slice_mm, pixel_mm, pixel_mm))
