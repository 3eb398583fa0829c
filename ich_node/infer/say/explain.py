"""The CAM of a label inside the skull, on the grids that others need: of the CT for pictures, of blocks for places.

The CAM is, by construction of the network, the evidence that the probability was made from; here it is only brought
to another grid and kept inside the skull (plus a rim of about 4 mm, because CAM cells are 6 to 8 mm wide and a thin
extra-axial collection lies under the bone). Arrays are [slices, rows, columns]; heat is a calibrated probability 0..1.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ich_node.domain.findings import LABELS, Prediction
from ich_node.infer.say.skull import Inside
from ich_node.infer.see.crop import Crop

Heat = npt.NDArray[np.float32]


def slice_heat(prediction: Prediction, label: str, index: int, crop: Crop, space: Inside) -> Heat:
    """The CAM of `label` on stored slice `index`, float32 [rows, columns], 0 outside the skull and its rim."""
    shown = in_box(space.rim[index], crop, space)
    heat = crop.to_slice(prediction.cam[index, LABELS.index(label)], index)
    return np.where(crop.from_box(shown, index) >= 0.5, heat, np.float32(0))


def block_heat(prediction: Prediction, label: str, space: Inside, box: tuple[int, ...]) -> Heat:
    """The CAM of `label` on the blocks of `space`, float32 [slices, h, w], 0 outside the skull and its rim.

    `box`: rows and columns of the head box that CAM and blocks both lie on.
    """
    cells = prediction.cam[:, LABELS.index(label)]
    down = _at_centres(cells.shape[1], box[0], space.step[0], space.mask.shape[1])
    across = _at_centres(cells.shape[2], box[1], space.step[1], space.mask.shape[2])
    return np.where(space.rim, down @ cells @ across.T, np.float32(0))


def in_box(blocks: npt.NDArray[np.generic], crop: Crop, space: Inside) -> Heat:
    """One slice's blocks [h, w] on the pixels of the head box, float32 [rows, columns], 0 beyond the blocks."""
    pixels = np.zeros(crop.hu.shape[1:], np.float32)
    large = np.repeat(np.repeat(blocks, space.step[0], axis=0), space.step[1], axis=1)
    pixels[: large.shape[0], : large.shape[1]] = large
    return pixels


def likeliest_slice(prediction: Prediction, label: str, heat: Heat) -> int:
    """The slice with the highest probability of `label`, discounted where the evidence lies outside the skull.

    `heat` is the `block_heat` of the label: a slice counts by how much of its hottest cell is left inside.
    """
    number = LABELS.index(label)
    hottest = np.maximum(prediction.cam[:, number].max(axis=(1, 2)), 1e-9)
    left = np.minimum(heat.max(axis=(1, 2)) / hottest, 1)
    probability = prediction.slice_probability[:, number]
    return int(np.argmax(probability * left if left.any() else probability))


def _at_centres(cells: int, pixels: int, step: int, blocks: int) -> Heat:
    """Weights [blocks, cells] of linear interpolation between cell centres at block centres, flat at the edges."""
    centre = (np.arange(blocks) + 0.5) * step
    at = np.clip(centre * cells / pixels - 0.5, 0, cells - 1)
    return np.asarray(np.clip(1 - np.abs(at[:, None] - np.arange(cells)), 0, 1), np.float32)
