"""Blocks of pixels and masks on them: means, and what lies next to what within a slice.

Arrays are [slices, rows, columns] or one slice [rows, columns]; slices do not touch each other. `grown` and `shrunk`
are dilation and erosion by shifted copies, ten times as fast as those of scipy.ndimage and equal to them.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

Mask = npt.NDArray[np.bool_]


def block_mean(hu: npt.NDArray[Any], step: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Mean over blocks of step rows × step columns; what does not fill a block at the end is left out."""
    rows, columns = hu.shape[1] // step[0], hu.shape[2] // step[1]
    whole = hu[:, : rows * step[0], : columns * step[1]]
    means = np.empty((len(hu), rows, columns), np.float32)
    exact = np.int32 if hu.dtype.kind == "i" else np.float32
    for image, mean in zip(whole, means, strict=True):  # slice by slice: one fits into the cache of a core
        lines = image[:: step[0]].astype(exact)
        for row in range(1, step[0]):
            lines += image[row :: step[0]]
        sums = lines[:, :: step[1]].copy()
        for column in range(1, step[1]):
            sums += lines[:, column :: step[1]]
        np.divide(sums, np.float32(step[0] * step[1]), out=mean, casting="same_kind")
    return means


def cell_mean(hu: npt.NDArray[Any], size: tuple[float, float]) -> npt.NDArray[np.float32]:
    """Mean over cells of size[0] rows × size[1] columns of pixels, as large on every image: a pixel that two cells
    share counts in each by the part that lies there. What does not fill a cell at the end is left out.
    """
    if all(abs(each - round(each)) < 1e-3 for each in size):
        return block_mean(hu, (round(size[0]), round(size[1])))
    down, across = (_shares(count, each) for count, each in zip(hu.shape[1:], size, strict=True))
    means = np.empty((len(hu), down.shape[0], across.shape[0]), np.float32)
    for image, mean in zip(hu, means, strict=True):
        mean[...] = (across @ (down @ image.astype(np.float32)).T).T
    return means


def _shares(pixels: int, size: float) -> sparse.csr_array:
    """[cells, pixels]: what each pixel of a line has of the mean of each cell."""
    edges = np.arange(int(pixels / size + 1e-6) + 1) * size
    rows, columns, shares = [], [], []
    for cell, (start, end) in enumerate(pairwise(edges)):
        inside = np.arange(int(start), min(pixels, int(np.ceil(end))))
        rows += [cell] * len(inside)
        columns += inside.tolist()
        shares += ((np.minimum(inside + 1, end) - np.maximum(inside, start)) / size).tolist()
    return sparse.csr_array((np.array(shares, np.float32), (rows, columns)), shape=(len(edges) - 1, pixels))


def box_of(mask: Mask, margin: int = 0) -> tuple[slice, ...]:
    """The smallest box that holds the mask, with a margin along every axis; an empty one for an empty mask.

    What only looks as far as `margin` gives the same within it, and costs as much less as it is smaller.
    """
    box = []
    for axis in range(mask.ndim):
        held = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        box.append(slice(max(0, int(held[0]) - margin), int(held[-1]) + 1 + margin) if len(held) else slice(0, 0))
    return tuple(box)


def grown(mask: Mask, times: int, *, square: bool = False) -> Mask:
    """The mask and, so many times, its neighbours within the slice: four, or all eight of a square."""
    for _ in range(times):
        out = mask.copy()
        out[..., 1:, :] |= mask[..., :-1, :]
        out[..., :-1, :] |= mask[..., 1:, :]
        beside = out.copy() if square else mask
        out[..., 1:] |= beside[..., :-1]
        out[..., :-1] |= beside[..., 1:]
        mask = out
    return mask


def shrunk(mask: Mask, times: int, *, square: bool = False) -> Mask:
    """The mask without, so many times, what has a neighbour outside it; beyond the edge of a slice all is outside."""
    for _ in range(times):
        out = mask.copy()
        out[..., 1:, :] &= mask[..., :-1, :]
        out[..., :-1, :] &= mask[..., 1:, :]
        beside = out.copy() if square else mask
        out[..., 1:] &= beside[..., :-1]
        out[..., :-1] &= beside[..., 1:]
        out[..., [0, -1], :] = False
        out[..., [0, -1]] = False
        mask = out
    return mask


def opened(mask: Mask, times: int, *, square: bool = False) -> Mask:
    """Without what is thinner than twice `times`."""
    return grown(shrunk(mask, times, square=square), times, square=square)


def closed(mask: Mask, times: int, *, square: bool = False) -> Mask:
    """With what is narrower than twice `times` between parts of the mask filled in."""
    return shrunk(grown(mask, times, square=square), times, square=square)
