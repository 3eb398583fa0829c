"""The one geometry of the model: a CT volume in, a head box out, and the way back for a CAM.

Training, evaluation and the node all come through here, so that no two of them can see a head differently. In: HU
[slices, rows, columns] with its spacing and orientation. Out: `Crop`, a square in millimetres around the head on the
CT's own pixels (nothing is resampled), rows to posterior, columns to the patient's left. The square has one size per
volume; its centre follows a straight line through the slices, because a tilted gantry shifts the head from slice to
slice. What lies outside the image is air.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ich_node.domain.findings import Volume
from ich_node.infer.see.blocks import opened
from ich_node.infer.see.heights import Array, extents_mm

AIR_HU = -1024  # what scanners write for nothing: the lowest of twelve bits
HEAD_HU = -200  # chosen: skin and fat are above, hair, foam and air below
GRID_MM = 2.0  # chosen: the head is found on blocks, which are fine enough for an outline
MARGIN = 1.06  # chosen: 3 % of the head on either side; a part of training, changed with the model only
SIDE_MM = (150.0, 230.0)  # chosen: the smallest and the largest box: adults are 175 to 210 mm long with skin
SLIVER_MM = 24.0  # chosen: narrower at a row or column is an ear, a nose or a tube


@dataclass(frozen=True, slots=True)
class Turn:
    """How a stored slice becomes radiological: transpose first, then reverse axes."""

    transpose: bool = False
    reverse_rows: bool = False
    reverse_columns: bool = False

    def forward(self, stack: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """[..., rows, columns] as stored → rows to posterior, columns to the patient's left (a view)."""
        turned = stack.swapaxes(-1, -2) if self.transpose else stack
        return turned[..., :: -1 if self.reverse_rows else 1, :: -1 if self.reverse_columns else 1]

    def back(self, stack: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """The inverse of `forward` (a view)."""
        turned = stack[..., :: -1 if self.reverse_rows else 1, :: -1 if self.reverse_columns else 1]
        return turned.swapaxes(-1, -2) if self.transpose else turned


@dataclass(frozen=True, slots=True, eq=False)
class Crop:
    """A head box. hu: int16 [slices, rows, columns], HU, radiological orientation, what is outside the CT is −1024.

    corners: int [slices, 2], first row and column of the box on the turned CT grid, may be negative.
    shape: rows and columns of a stored CT slice. turn: from the stored to the radiological orientation.
    side_mm: edge of the square.
    """

    hu: npt.NDArray[np.int16]
    corners: npt.NDArray[np.intp]
    shape: tuple[int, int]
    turn: Turn
    side_mm: float

    def to_slice(self, cells: npt.NDArray[np.float32], slice_index: int) -> npt.NDArray[np.float32]:
        """Cells float32 [h, w] → float32 [rows, columns] on the stored CT slice, bilinear, 0 outside the box."""
        rows, columns = self.hu.shape[1:]
        box = _linear(cells.shape[0], rows) @ cells.astype(np.float32) @ _linear(cells.shape[1], columns).T
        return self.from_box(box, slice_index)

    def from_box(self, box: npt.NDArray[np.float32], slice_index: int) -> npt.NDArray[np.float32]:
        """Pixels of the box float32 [rows, columns] → the same on the stored CT slice, 0 outside the box."""
        turned_shape = self.shape[::-1] if self.turn.transpose else self.shape
        whole = np.zeros(turned_shape, np.float32)
        row, column = (int(value) for value in self.corners[slice_index])
        inside, source = _overlap((row, column), self.hu.shape[1:], turned_shape)
        whole[inside] = box[source]
        return np.ascontiguousarray(self.turn.back(whole)).astype(np.float32)

    def to_box(self, image: npt.NDArray[np.generic], slice_index: int, fill: float = 0) -> npt.NDArray[np.generic]:
        """A stored slice [rows, columns] (a mask, say) → the same box that `hu` shows of that slice."""
        turned = self.turn.forward(image)
        return _cut(turned, self.corners[slice_index], self.hu.shape[1:], fill)


def crop(volume: Volume) -> Crop:
    """Turn `volume` to radiological orientation and cut the head box out of every slice."""
    return crop_stack(volume.hu, volume.spacing_mm, turn_of(volume.affine), volume.heights_mm)


def crop_stack(
    hu: npt.NDArray[np.int16],
    spacing_mm: tuple[float, float, float],
    turn: Turn | None = None,
    heights_mm: Array | None = None,
) -> Crop:
    """Cut the head box out of HU [slices, rows, columns], foot to head, spacing in the same order.

    heights_mm: where the slices lie; every `spacing_mm[0]` when left out.
    """
    turn = turn or Turn()
    turned = turn.forward(hu)
    row_mm, column_mm = spacing_mm[1:] if not turn.transpose else spacing_mm[:0:-1]
    centres_mm, side_mm = head_box(turned, (row_mm, column_mm), heights_mm)
    rows, columns = round(side_mm / row_mm), round(side_mm / column_mm)
    corners = np.round(centres_mm / (row_mm, column_mm) - np.array([rows, columns]) / 2).astype(np.intp)
    boxes = [_cut(image, corner, (rows, columns), AIR_HU) for image, corner in zip(turned, corners, strict=True)]
    return Crop(np.stack(boxes).astype(np.int16), corners, (hu.shape[1], hu.shape[2]), turn, side_mm)


def turn_of(affine: npt.NDArray[np.float64]) -> Turn:
    """The turn that brings rows to posterior (+y) and columns to the patient's left (+x) of an axial affine."""
    along_row, along_column = affine[:3, 1], affine[:3, 2]
    transpose = abs(along_row[0]) > abs(along_row[1])
    if transpose:
        along_row, along_column = along_column, along_row
    return Turn(bool(transpose), bool(along_row[1] < 0), bool(along_column[0] < 0))


def head_box(
    hu: npt.NDArray[np.generic], pixel_mm: tuple[float, float], heights_mm: Array | None = None
) -> tuple[npt.NDArray[np.float64], float]:
    """Centres [slices, 2] (row, column, mm from the image corner) and the edge in mm of the square around the head.

    heights_mm: where the slices lie along the body; evenly when left out.
    """
    heights = np.arange(len(hu), dtype=np.float64) if heights_mm is None else heights_mm
    stretch = extents_mm(heights)
    step = tuple(max(1, round(GRID_MM / mm)) for mm in pixel_mm)
    cell_mm = (step[0] * pixel_mm[0], step[1] * pixel_mm[1])
    head = _head(hu[:, :: step[0], :: step[1]])
    image_mm = np.array([hu.shape[1] * pixel_mm[0], hu.shape[2] * pixel_mm[1]])
    spans = np.full((len(hu), 2, 2), np.nan)
    for axis in (0, 1):
        width_mm = head.sum(axis=2 - axis) * cell_mm[1 - axis]
        for index, profile in enumerate(width_mm):
            wide = np.flatnonzero(profile > SLIVER_MM)
            if len(wide):
                spans[index, axis] = wide[0] * cell_mm[axis], (wide[-1] + 1) * cell_mm[axis]
    seen = np.flatnonzero(~np.isnan(spans).any(axis=(1, 2)))
    if len(seen) == 0:
        return np.tile(image_mm / 2, (len(hu), 1)), SIDE_MM[1]
    extent_mm = (spans[seen, :, 1] - spans[seen, :, 0]).max(axis=1)
    shares = np.rint(stretch / max(stretch.min(), 0.1 * stretch.max())).astype(int)  # thin slices count for less
    side_mm = float(np.clip(np.percentile(np.repeat(extent_mm, shares[seen]), 80) * MARGIN, *SIDE_MM))
    large = seen[extent_mm > 0.6 * extent_mm.max()]
    centres = [_line(heights[large], spans[large, axis].mean(axis=1), heights) for axis in (0, 1)]
    return np.stack(centres, axis=1), side_mm


def _head(hu: npt.NDArray[np.generic]) -> npt.NDArray[np.bool_]:
    """The head, without headrest and tubes: the largest thing that survives an in-plane opening of about 12 mm."""
    labels, count = ndimage.label(opened(np.greater(hu, HEAD_HU), 3))
    if count == 0:
        return np.zeros(hu.shape, np.bool_)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray(labels == sizes.argmax(), np.bool_)


def _line(at: Array, values: Array, heights_mm: Array) -> Array:
    """A line through (at, values) that outliers do not move (Theil–Sen), evaluated at `heights_mm`."""
    if len(at) < 4:
        return np.full(len(heights_mm), float(np.median(values)))
    apart = at[:, None] - at
    slope = np.median((values[:, None] - values)[apart > 0] / apart[apart > 0])
    intercept = np.median(values) - slope * np.median(at)
    return np.asarray(intercept + slope * heights_mm, np.float64)


def _linear(cells: int, pixels: int) -> npt.NDArray[np.float32]:
    """Weights [pixels, cells] of linear interpolation between cell centres, flat beyond the outermost ones."""
    at = np.clip((np.arange(pixels) + 0.5) * cells / pixels - 0.5, 0, cells - 1)
    weights = 1 - np.abs(at[:, None] - np.arange(cells)[None, :])
    return np.asarray(np.clip(weights, 0, 1), np.float32)


def _overlap(
    corner: tuple[int, int], size: tuple[int, ...], shape: tuple[int, ...]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Where a box lies on an image: slices into the image, and the same part as slices into the box."""
    starts = [max(0, c) for c in corner]
    stops = [max(start, min(n, c + s)) for start, c, s, n in zip(starts, corner, size, shape, strict=True)]
    inside = tuple(slice(a, b) for a, b in zip(starts, stops, strict=True))
    source = tuple(slice(a - c, b - c) for a, b, c in zip(starts, stops, corner, strict=True))
    return inside, source


def _cut(
    image: npt.NDArray[np.generic], corner: npt.NDArray[np.intp], size: tuple[int, ...], fill: float
) -> npt.NDArray[np.generic]:
    box = np.full(size, fill, image.dtype)
    inside, source = _overlap((int(corner[0]), int(corner[1])), size, image.shape)
    box[source] = image[inside]
    return box
