"""Where the evidence lies: the CAM of a label inside the skull, and the slices worth showing.

The CAM is, by construction of the network, the evidence that the probability was made from; here it is only brought
to another grid and kept inside the skull (plus a rim of about 4 mm, because CAM cells are 6 to 8 mm wide and a thin
extra-axial collection lies under the bone). Arrays are [slices, rows, columns]; heat is a calibrated probability 0..1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ich_node.domain import LABELS, Finding, KeySlice, Prediction
from ich_node.infer.crop import Crop
from ich_node.infer.skull import DISC, Inside

RIM_BLOCKS = 2
Heat = npt.NDArray[np.float32]


def key_slices(
    prediction: Prediction,
    findings: Sequence[Finding],
    crop: Crop,
    which: Literal["key", "all"],
    space: Inside,
) -> tuple[KeySlice, ...]:
    """The slices to show, foot to head, each with the heat of one label on the stored CT grid.

    "key": the best slice of every present finding; none when nothing is present. A slice that is the best of one type
    (and perhaps of "any") shows that type; of several types, it shows "any". "all": every slice with "any".
    """
    rim = around(space)
    if which == "all":
        chosen = dict.fromkeys(range(len(crop.hu)), LABELS[0])
    else:
        chosen = _merged(
            {finding.label: best_slice(prediction, finding.label, rim) for finding in findings if finding.present}
        )
    return tuple(
        KeySlice(index, label, slice_heat(prediction, label, index, crop, space, rim))
        for index, label in sorted(chosen.items())
    )


def slice_heat(
    prediction: Prediction, label: str, index: int, crop: Crop, space: Inside, rim: npt.NDArray[np.bool_] | None = None
) -> Heat:
    """The CAM of `label` on stored slice `index`, float32 [rows, columns], 0 outside the skull and its rim."""
    rim = around(space) if rim is None else rim
    shown = in_box(rim[index], crop, space)
    heat = crop.to_slice(prediction.cam[index, LABELS.index(label)], index)
    return np.where(crop.to_slice(shown, index) >= 0.5, heat, np.float32(0))


def block_heat(prediction: Prediction, label: str, space: Inside, box: tuple[int, ...]) -> Heat:
    """The CAM of `label` on the blocks of `space`, float32 [slices, h, w], 0 outside the skull and its rim.

    `box`: rows and columns of the head box that CAM and blocks both lie on.
    """
    cells = prediction.cam[:, LABELS.index(label)]
    down = _at_centres(cells.shape[1], box[0], space.step[0], space.mask.shape[1])
    across = _at_centres(cells.shape[2], box[1], space.step[1], space.mask.shape[2])
    heat = np.einsum("ij,sjk,lk->sil", down, cells, across, optimize=True)
    return np.where(around(space), heat, 0).astype(np.float32)


def in_box(blocks: npt.NDArray[np.generic], crop: Crop, space: Inside) -> Heat:
    """One slice's blocks [h, w] on the pixels of the head box, float32 [rows, columns], 0 beyond the blocks."""
    pixels = np.zeros(crop.hu.shape[1:], np.float32)
    large = np.repeat(np.repeat(blocks, space.step[0], axis=0), space.step[1], axis=1)
    pixels[: large.shape[0], : large.shape[1]] = large
    return pixels


def best_slice(prediction: Prediction, label: str, rim: npt.NDArray[np.bool_]) -> int:
    """The slice with the highest probability of `label` among those that show any of the inside of the skull."""
    probability = prediction.slice_probability[:, LABELS.index(label)]
    seen = rim.any(axis=(1, 2))
    return int(np.argmax(np.where(seen, probability, -1) if seen.any() else probability))


def around(space: Inside) -> npt.NDArray[np.bool_]:
    """The inside of the skull and a rim; everything where no skull was found, so that evidence is never hidden."""
    if not space.mask.any():
        return np.ones(space.mask.shape, np.bool_)
    return np.asarray(ndimage.binary_dilation(space.mask, structure=DISC, iterations=RIM_BLOCKS), np.bool_)


def _merged(best: dict[str, int]) -> dict[int, str]:
    """Label → slice turned into slice → the label to show there."""
    chosen: dict[int, str] = {}
    for index in set(best.values()):
        types = [label for label in best if best[label] == index and label != LABELS[0]]
        chosen[index] = types[0] if len(types) == 1 else LABELS[0]
    return chosen


def _at_centres(cells: int, pixels: int, step: int, blocks: int) -> npt.NDArray[np.float64]:
    """Weights [blocks, cells] of linear interpolation between cell centres at block centres, flat at the edges."""
    centre = (np.arange(blocks) + 0.5) * step
    at = np.clip(centre * cells / pixels - 0.5, 0, cells - 1)
    return np.asarray(np.clip(1 - np.abs(at[:, None] - np.arange(cells)), 0, 1), np.float64)
