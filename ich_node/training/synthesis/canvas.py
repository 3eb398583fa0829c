"""What a real slice without hemorrhage must tell before a lesion can be painted on it: its inside, and its ventricles.

The inside of the skull is the one that the node uses for its maps (infer.say.skull), found in the whole study, so that
slices of base and vertex, which bone does not close, can be painted on as well.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ich_node.infer.say import skull
from ich_node.infer.see.blocks import block_mean
from ich_node.training.data.pool import Pool

PIXEL_MM = 0.74
"""Of a pool image: 1.15 boxes of a head of 193 mm with its margin of 6 %, over 320 pixels."""
BLOCK = 3
"""Pool pixels in a block of about 2 mm, on which the skull is found."""
SMALLEST_MM2 = 800.0
"""Less brain than this in a slice leaves no room for a lesion and its surroundings."""
VENTRICLE_HU = 20.0  # chosen: between fluid (8) and white matter (28)
VENTRICLE_DEPTH_MM = 14.0  # chosen: sulci and fissures end before
VENTRICLE_MM2 = 14.0  # chosen: smaller dark spots are noise or perivascular
LARGEST_VENTRICLES = 6  # two horns in front, two behind, third ventricle and one to spare
VENTRICLE_LEVEL = 0.8
"""Share of the largest intracranial area: in slices with less, what is dark and deep is a cistern or a sulcus."""


@dataclass(frozen=True, slots=True, eq=False)
class Canvases:
    """Slices ready for painting. index: int [n], which of the pool.

    depth: uint8 [n, 320, 320], half pixels to the skull. ventricles: uint8 [n, 320, 320], 0 or the number of a
    ventricle, from 1.
    """

    index: npt.NDArray[np.intp]
    depth: npt.NDArray[np.uint8]
    ventricles: npt.NDArray[np.uint8]


def canvases(pool: Pool, workers: int = 1) -> Canvases:
    """The slices of `pool` without hemorrhage that can be painted on; those of a patient come from foot to head."""
    parts = [np.flatnonzero(pool.patient == patient) for patient in np.unique(pool.patient)]
    with ProcessPoolExecutor(workers) as processes:
        found = list(processes.map(_of_study, [pool.hu[part] for part in parts]))
    index, depth, ventricles = [], [], []
    for part, (deep, fluid) in zip(parts, found, strict=True):
        room = (deep > 0).sum(axis=(1, 2)) * PIXEL_MM**2 > SMALLEST_MM2
        use = np.flatnonzero(room & (pool.labels[part, 0] == 0))
        index.append(part[use])
        depth.append(deep[use])
        ventricles.append(fluid[use])
    return Canvases(np.concatenate(index), np.concatenate(depth), np.concatenate(ventricles))


def _of_study(hu: npt.NDArray[np.int16]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Depth and ventricles of all slices of a study, HU [slices, 320, 320]."""
    coarse = skull.intracranial(block_mean(hu, (BLOCK, BLOCK)))
    depth, ventricles = np.zeros(hu.shape, np.uint8), np.zeros(hu.shape, np.uint8)
    area = coarse.sum(axis=(1, 2))
    for number in np.flatnonzero(area):
        inside = _inside(hu[number].astype(np.float32), coarse[number])
        deep = np.asarray(ndimage.distance_transform_edt(inside), np.float32)
        depth[number] = np.minimum(255, np.ceil(deep * 2))
        if area[number] > VENTRICLE_LEVEL * area.max():
            middle = inside & (deep * PIXEL_MM > VENTRICLE_DEPTH_MM)
            ventricles[number] = _ventricles(hu[number].astype(np.float32), middle)
    return depth, ventricles


def _inside(hu: npt.NDArray[np.float32], coarse: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The blocks on the pixels of the slice, grown to the bone and cut there."""
    fine = np.zeros(hu.shape, np.bool_)
    blocks = np.kron(coarse, np.ones((BLOCK, BLOCK), np.bool_))
    fine[: blocks.shape[0], : blocks.shape[1]] = blocks
    soft = (hu > -30) & (ndimage.gaussian_filter(hu, 0.9) < 110)
    near = ndimage.binary_dilation(fine, iterations=5)
    return np.asarray(ndimage.binary_opening(near & soft, iterations=2), np.bool_)


def _ventricles(hu: npt.NDArray[np.float32], deep: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """The largest dark parts of what is `deep` in the brain, numbered."""
    dark = ndimage.binary_opening(deep & (ndimage.gaussian_filter(hu, 1.5) < VENTRICLE_HU))
    parts, count = ndimage.label(dark)
    sizes = np.bincount(parts.ravel(), minlength=count + 1)[1:]
    large = [part + 1 for part in np.argsort(-sizes) if sizes[part] * PIXEL_MM**2 > VENTRICLE_MM2]
    found = np.zeros(hu.shape, np.uint8)
    for number, part in enumerate(large[:LARGEST_VENTRICLES]):
        found[ndimage.binary_dilation(parts == part) & deep & (found == 0)] = number + 1
    return found
