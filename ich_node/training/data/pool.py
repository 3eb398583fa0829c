"""Training slices on disk: head boxes of one size, HU, with labels and masks.

A pool holds int16 images [n, 320, 320] that show 1.15 times the head box, so that turning and shifting a slice does not
meet the edge; masks at half that resolution as bits; labels in the order of domain.LABELS.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ich_node.infer.see.crop import AIR_HU, Crop

PIXELS = 320
"""1.15 head boxes at 0.9 pixels of a network of 256 px: nothing that it could see is lost."""
MARGIN = 1.15  # chosen: 7 % on either side, so that turns and shifts in training show no edge
SMALLEST_MM2 = 25.0  # chosen: 5 × 5 mm, less than a cell of the map; a smaller spot is doubtful, see UNSEEN_MM2
UNSEEN_MM2 = 4.0  # chosen: 2 × 2 mm; what is smaller counts as nothing, what lies between is left out


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """hu: int16 [n, 320, 320]. labels: float32 [n, 6]. bits: uint8 [n, 160, 160], bit j = type j (without "any").

    known: float32 [n, 6], 1 where the mask of that channel is known. patient: int32 [n], −1 for synthetic slices.
    doubtful: bool [n], a lesion is there but smaller than what a reader would call.
    """

    hu: npt.NDArray[np.int16]
    labels: npt.NDArray[np.float32]
    bits: npt.NDArray[np.uint8]
    known: npt.NDArray[np.float32]
    patient: npt.NDArray[np.int32]
    doubtful: npt.NDArray[np.bool_]

    def take(self, index: npt.NDArray[np.intp]) -> Pool:
        """The slices at `index`."""
        return Pool(*(getattr(self, name)[index] for name in self.__slots__))

    def __len__(self) -> int:
        return len(self.hu)


def joined(pools: Sequence[Pool]) -> Pool:
    """All slices of `pools` in one."""
    return Pool(*(np.concatenate([getattr(p, name) for p in pools]) for name in Pool.__slots__))


def save(pool: Pool, path: Path) -> None:
    """Write `pool` so that `load` can map the images; the file appears whole or not at all."""
    part = path.with_suffix(".part")
    with part.open("wb") as stream:
        np.savez(stream, **{name: getattr(pool, name) for name in Pool.__slots__})
    part.rename(path)


def load(path: Path) -> Pool:
    """Read what `save` wrote."""
    with np.load(path) as arrays:
        return Pool(*(arrays[name] for name in Pool.__slots__))


def pool_of(box: Crop, masks: npt.NDArray[np.bool_]) -> Pool:
    """A scan with exact masks bool [slices, 5, rows, columns] on the grid of `box.hu`, as pool slices."""
    count, pixel_mm = len(box.hu), box.side_mm / box.hu.shape[1]
    area_mm2 = masks.sum(axis=(2, 3)) * pixel_mm**2
    present = area_mm2 >= SMALLEST_MM2
    labels = np.concatenate([present.any(axis=1, keepdims=True), present], axis=1).astype(np.float32)
    doubtful = ((area_mm2 > UNSEEN_MM2) & ~present).any(axis=1)
    hu = np.stack([enlarged(image, PIXELS) for image in box.hu])
    bits = np.zeros((count, PIXELS // 2, PIXELS // 2), np.uint8)
    for j in range(masks.shape[1]):
        for i in np.flatnonzero(area_mm2[:, j] > 0):
            share = enlarged(masks[i, j].astype(np.float32), PIXELS // 2, outside=0.0)
            bits[i] |= (share > 0.4).astype(np.uint8) << j
    return Pool(hu, labels, bits, np.ones((count, 6), np.float32), np.full(count, -1, np.int32), doubtful)


def enlarged(image: npt.NDArray[Any], pixels: int, outside: float = AIR_HU) -> npt.NDArray[Any]:
    """A head box [rows, columns] with the margin around it, at `pixels`²; antialiased, dtype kept."""
    out = np.arange(pixels) + 0.5 - pixels / 2
    scale = [n * MARGIN / pixels for n in image.shape]
    source = image.astype(np.float32)
    blur = [max(0.0, 0.42 * (s - 1)) for s in scale]
    if max(blur) > 0.05:
        source = ndimage.gaussian_filter(source, blur, mode="nearest")
    rows, columns = (out * s + n / 2 - 0.5 for s, n in zip(scale, image.shape, strict=True))
    grid = np.meshgrid(rows, columns, indexing="ij")
    taken = ndimage.map_coordinates(source, grid, order=1, cval=outside)
    return np.asarray(taken if image.dtype.kind == "f" else np.round(taken), image.dtype)
