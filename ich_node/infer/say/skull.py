"""The inside of the skull, from HU alone, on a coarse grid: where a CAM may shine and what the template is fitted to.

In: the head box of a study. Out: `Inside`, a mask on blocks of about 2 mm. Works slice by slice on bone, because
slices may be 5 mm apart, and joins the slices last. Nothing here knows the model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ich_node.domain.findings import Coverage, Volume
from ich_node.infer.see import heights
from ich_node.infer.see.blocks import Mask, block_mean, closed, grown, opened
from ich_node.infer.see.crop import Crop

GRID_MM = 2.0
"""Chosen: thinner than the calvaria (4 to 8 mm), so that bone closes, and a map has cells of 6 mm and more."""
RIM_BLOCKS = 2  # chosen: 4 mm, the partial volume of the inner table, where blood lies
SLICE_MM = 3.5
"""Of thinner slices, only as many are looked at as lie about this far apart; the others take the nearest of them."""

BONE_HU = 180  # chosen: a block half of thin bone, half of brain has as much; blood has 90 at most
SOFT_HU = (-30, 140)  # chosen: water, brain, blood and their noise; fat and bone are outside
FAT_HU = (-150, -30)  # chosen: fat has −120 to −80, with partial volume on either side
FAT_BORDER = 0.25
"""A part of a slice with a larger share of fat along its border is not inside the skull."""

UNDER_ROOF = 0.6  # chosen: most of a part lies below brain; what is beside it (orbit, neck) does not
ROOF_BLOCKS = 3  # chosen: 6 mm, as the skull widens from a slice to the next below
VERTEX_AREA, BASE_AREA = 0.3, 0.15
"""Share of the largest area inside the skull that the last and the first slice may have. Of 14 whole heads scanned
every 5 mm the last slice has .26 at most and the first .07; towards the vertex .12 go per slice."""
STEEPEST_PER_MM = 0.06
"""The fastest that the area was seen to go towards the vertex is .05 of the largest per mm."""
NEAR_END_MM = 12.0
"""The slices at the end in which a lost mask is looked for."""
IN_PLANE = np.zeros((3, 3, 3), np.bool_)  # the four neighbours in a slice: slices may be far apart
IN_PLANE[1] = ndimage.generate_binary_structure(2, 1)


@dataclass(frozen=True, slots=True, eq=False)
class Inside:
    """The intracranial space on a coarse grid over the head box.

    mask: bool [slices, h, w]. rim: the same with RIM_BLOCKS around it in plane; everything where no skull was found.
    hu: float32 [slices, h, w], mean of the block (of a nearby slice where slices are thin). step: box pixels per block
    (row, column). origins: float64 [slices, 3], LPS mm of the centre of block (0, 0); down, right: from block to block.
    """

    mask: Mask
    rim: Mask
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
    looked_at = heights.spread_out(volume.heights_mm, SLICE_MM)
    hu = block_mean(crop.hu[looked_at], step)
    nearest = heights.nearest(volume.heights_mm, looked_at)
    middle = (step[0] - 1) / 2 * down + (step[1] - 1) / 2 * right
    mask = intracranial(hu)
    return Inside(
        mask[nearest], with_rim(mask)[nearest], hu[nearest], step, corner + middle, down * step[0], right * step[1]
    )


def coverage(volume: Volume, space: Inside) -> Coverage:
    """Whether the scan reaches both ends of the intracranial space, which gets small there.

    Where no skull was found, nothing is known to be covered.
    """
    area = space.mask.sum(axis=(1, 2)) / max(1, int(space.mask.sum(axis=(1, 2)).max()))
    heights_mm = volume.heights_mm
    return Coverage(
        vertex=bool(area.any() and _end(area[::-1], -heights_mm[::-1]) <= VERTEX_AREA),
        base=bool(area.any() and area[0] <= BASE_AREA),
        mm=float(np.ptp(heights_mm) + heights.extents_mm(heights_mm)[[0, -1]].sum() / 2),
    )


def _end(area: npt.NDArray[np.floating], heights_mm: npt.NDArray[np.float64]) -> float:
    """The area at the first slice; where it vanishes faster than a skull closes, the mask was lost, not the brain."""
    steeply = [
        float(inner) - STEEPEST_PER_MM * (at - heights_mm[0]) for inner, at in zip(area, heights_mm, strict=True)
    ]
    return float(max(steeply[: max(2, int((heights_mm < heights_mm[0] + NEAR_END_MM).sum()))]))


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


def with_rim(mask: Mask) -> Mask:
    """The mask and a rim of about 4 mm; everything where no skull was found, so that evidence is never hidden."""
    if not mask.any():
        return np.ones(mask.shape, np.bool_)
    return grown(mask, RIM_BLOCKS)


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


def intracranial(hu: npt.NDArray[np.float32]) -> Mask:
    """The intracranial space of HU [slices, h, w], foot to head, on a grid of about 2 mm."""
    bone = hu > BONE_HU
    soft = (hu > SOFT_HU[0]) & (hu < SOFT_HU[1])
    core = opened(_enclosed(bone) & soft, 2)
    core = _under_the_vault(_bordered_by_bone(core, hu))
    parts, count = ndimage.label(core)
    if count == 0:
        return np.zeros(hu.shape, np.bool_)
    space = parts == _largest(parts)
    for _ in range(2):
        space = space | (grown(space, 1) & ~bone & soft)
    return np.stack([ndimage.binary_fill_holes(image) for image in closed(space, 2)])


def _enclosed(bone: Mask) -> Mask:
    """Where a look to the front, back, left and right meets bone in at least three of the four directions."""
    seen = np.zeros(bone.shape, np.int8)
    for axis in (1, 2):
        seen += np.maximum.accumulate(bone, axis=axis)
        seen += np.flip(np.maximum.accumulate(np.flip(bone, axis), axis=axis), axis)
    return (seen >= 3) & ~bone


def _bordered_by_bone(core: Mask, hu: npt.NDArray[np.float32]) -> Mask:
    """Without parts of a slice that fat surrounds: the contents of the orbit, muscles of face and neck."""
    parts, count = ndimage.label(core, structure=IN_PLANE)
    fat = (hu > FAT_HU[0]) & (hu < FAT_HU[1])
    border = np.where(core, 0, ndimage.grey_dilation(parts, footprint=IN_PLANE[1:2]))
    around = np.bincount(border.ravel(), minlength=count + 1)
    fatty = np.bincount(border[fat], minlength=count + 1)
    keep = fatty < FAT_BORDER * np.maximum(around, 1)
    keep[0] = False
    return np.asarray(keep[parts], np.bool_)


def _under_the_vault(core: Mask) -> Mask:
    """Downwards from the slice that shows most of it: only parts that lie mostly under what was kept above."""
    kept = core.copy()
    widest = int(core.sum(axis=(1, 2)).argmax())
    for index in range(widest - 1, -1, -1):
        roof = grown(kept[index + 1], ROOF_BLOCKS)
        parts, count = ndimage.label(core[index])
        area = np.bincount(parts.ravel(), minlength=count + 1)
        covered = np.bincount(parts[roof], minlength=count + 1) >= UNDER_ROOF * area
        covered[0] = False
        kept[index] = covered[parts]
    return kept


def _largest(parts: npt.NDArray[np.integer]) -> int:
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return int(sizes.argmax())
