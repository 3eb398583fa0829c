"""The inside of the skull, from HU alone, on a coarse grid: where a CAM may shine and what the template is fitted to.

In: the head box of a study. Out: `Inside`, a mask on blocks of about 2 mm. Works slice by slice on bone, because
slices may be 5 mm apart, and joins the slices last. Nothing here knows the model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ich_node.domain import Volume
from ich_node.infer.crop import Crop

GRID_MM = 2.0
BONE_HU = 180
SOFT_HU = (-30, 140)
DISC = ndimage.generate_binary_structure(2, 1)[None]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Inside:
    """The intracranial space on a coarse grid over the head box.

    mask: bool [slices, h, w]. hu: float32 [slices, h, w], mean of the block. step: box pixels per block (row, column).
    origins: float64 [slices, 3], LPS mm of the centre of block (0, 0); down, right: LPS mm from block to block.
    """

    mask: Mask
    hu: npt.NDArray[np.float32]
    step: tuple[int, int]
    origins: npt.NDArray[np.float64]
    down: npt.NDArray[np.float64]
    right: npt.NDArray[np.float64]

    @property
    def block_mm(self) -> tuple[float, float]:
        """Height and width of a block."""
        return float(np.linalg.norm(self.down)), float(np.linalg.norm(self.right))

    def positions(self, where: Mask) -> npt.NDArray[np.float64]:
        """LPS mm [n, 3] of the block centres where `where` [slices, h, w] holds, in the order of argwhere."""
        index, row, column = np.nonzero(where)
        return np.asarray(self.origins[index] + row[:, None] * self.down + column[:, None] * self.right)


def inside(volume: Volume, crop: Crop) -> Inside:
    """Find the intracranial space of a study; an empty mask where no skull encloses anything."""
    corner, down, right = box_geometry(volume, crop)
    step = max(1, round(GRID_MM / float(np.linalg.norm(down)))), max(1, round(GRID_MM / float(np.linalg.norm(right))))
    hu = block_mean(crop.hu, step)
    middle = (step[0] - 1) / 2 * down + (step[1] - 1) / 2 * right
    return Inside(intracranial(hu), hu, step, corner + middle, down * step[0], right * step[1])


def box_geometry(
    volume: Volume, crop: Crop
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """LPS mm: centre of box pixel (0, 0) per slice [slices, 3], one pixel down [3], one pixel to the right [3]."""
    down, right = volume.affine[:3, 1], volume.affine[:3, 2]
    last_row, last_column = crop.shape[0] - 1, crop.shape[1] - 1
    if crop.turn.transpose:
        down, right, last_row, last_column = right, down, last_column, last_row
    start = volume.positions_mm
    if crop.turn.reverse_rows:
        start, down = start + last_row * down, -down
    if crop.turn.reverse_columns:
        start, right = start + last_column * right, -right
    return start + crop.corners[:, :1] * down + crop.corners[:, 1:] * right, down, right


def stored_pixel(crop: Crop, slice_index: int, row: float, column: float) -> tuple[int, int]:
    """A box pixel as row and column of the stored slice, kept on the slice."""
    rows, columns = crop.shape[::-1] if crop.turn.transpose else crop.shape
    at_row = int(np.clip(round(row) + crop.corners[slice_index, 0], 0, rows - 1))
    at_column = int(np.clip(round(column) + crop.corners[slice_index, 1], 0, columns - 1))
    if crop.turn.reverse_rows:
        at_row = rows - 1 - at_row
    if crop.turn.reverse_columns:
        at_column = columns - 1 - at_column
    return (at_column, at_row) if crop.turn.transpose else (at_row, at_column)


def block_mean(hu: npt.NDArray[np.generic], step: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Mean over blocks of step rows × step columns; what does not fill a block at the end is left out."""
    rows, columns = hu.shape[1] // step[0], hu.shape[2] // step[1]
    whole = hu[:, : rows * step[0], : columns * step[1]].astype(np.float32)
    return np.asarray(whole.reshape(len(hu), rows, step[0], columns, step[1]).mean(axis=(2, 4)), np.float32)


def intracranial(hu: npt.NDArray[np.float32]) -> Mask:
    """The intracranial space of HU [slices, h, w] on a grid of about 2 mm."""
    bone = hu > BONE_HU
    soft = (hu > SOFT_HU[0]) & (hu < SOFT_HU[1])
    core = ndimage.binary_opening(_enclosed(bone) & soft, structure=DISC, iterations=2)
    labels, count = ndimage.label(core)
    if count == 0:
        return np.zeros(hu.shape, np.bool_)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    space = labels == sizes.argmax()
    space = ndimage.binary_dilation(space, structure=DISC, iterations=2, mask=~bone & soft)
    closed = ndimage.binary_closing(space, structure=DISC, iterations=2)
    return np.stack([ndimage.binary_fill_holes(image) for image in closed])


def _enclosed(bone: Mask) -> Mask:
    """Where a look to the front, back, left and right meets bone in at least three of the four directions."""
    seen = np.zeros(bone.shape, np.int8)
    for axis in (1, 2):
        seen += np.maximum.accumulate(bone, axis=axis)
        seen += np.flip(np.maximum.accumulate(np.flip(bone, axis), axis=axis), axis)
    return (seen >= 3) & ~bone
