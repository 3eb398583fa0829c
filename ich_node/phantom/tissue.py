"""What a head is made of: a map of tissues on a grid in millimetres, and what can be measured on it.

Every head, whether built from formulas (`phantom.head`) or from label maps of people (`training.label_maps`), is a
`Head`: arrays [planes, rows, columns], planes from foot to head, rows to posterior, columns to the patient's left.
Lesions (`phantom.lesions`) and the scanner (`phantom.scanner`) know nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Spacing = tuple[float, float, float]


class Tissue(IntEnum):
    """What fills a voxel."""

    AIR = 0
    WHITE = 1
    GREY = 2
    DEEP_GREY = 3
    CSF = 4
    LATERAL_VENTRICLE = 5
    MIDLINE_VENTRICLE = 6
    BRAIN_STEM = 7
    CEREBELLAR_WHITE = 8
    CEREBELLAR_GREY = 9
    DURA = 10
    VENOUS_SINUS = 11
    ARTERY = 12
    BONE = 13
    DIPLOE = 14
    EYE = 15
    LENS = 16
    FAT = 17
    SOFT = 18
    SKIN = 19


BRAIN = (
    Tissue.WHITE,
    Tissue.GREY,
    Tissue.DEEP_GREY,
    Tissue.BRAIN_STEM,
    Tissue.CEREBELLAR_WHITE,
    Tissue.CEREBELLAR_GREY,
)
VENTRICLES = (Tissue.LATERAL_VENTRICLE, Tissue.MIDLINE_VENTRICLE)


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """A head without a lesion.

    tissue: uint8 [planes, rows, columns] of `Tissue`. left: bool, nearer the left hemisphere than the right one.
    infratentorial: bool. intracranial: bool, inside the inner table. depth_mm: float32, distance to the inner table, 0
    outside. sulcus_mm: float32, distance of CSF to the nearest brain, 0 outside the CSF. spacing_mm: of the three axes.
    """

    tissue: npt.NDArray[np.uint8]
    left: Mask
    infratentorial: Mask
    intracranial: Mask
    depth_mm: Floats
    sulcus_mm: Floats
    spacing_mm: Spacing

    def any_of(self, *tissues: Tissue) -> Mask:
        """Where the head is made of one of `tissues`."""
        table = np.zeros(len(Tissue), np.bool_)
        table[list(tissues)] = True
        return table[self.tissue]


def measured(
    tissue: npt.NDArray[np.uint8], left: Mask, infratentorial: Mask, intracranial: Mask, spacing_mm: Spacing
) -> Head:
    """A `Head` with its distances measured; all arrays [planes, rows, columns]."""
    depth = distance_mm(~intracranial, spacing_mm)
    fluid = (tissue == Tissue.CSF) & intracranial
    brain = np.isin(tissue, BRAIN)
    sulcus = np.where(fluid, distance_mm(brain, spacing_mm), 0).astype(np.float32)
    return Head(tissue, left, infratentorial, intracranial, depth, sulcus, spacing_mm)


def distance_mm(mask: Mask, spacing_mm: Spacing) -> Floats:
    """Distance in millimetres from every voxel to the nearest one in `mask`; 0 inside it."""
    return np.asarray(ndimage.distance_transform_edt(~mask, sampling=spacing_mm), np.float32)


def random_field(rng: np.random.Generator, shape: tuple[int, ...], size: float | tuple[float, ...]) -> Floats:
    """A smooth field of about unit variance; `size` is the distance in voxels between its independent values."""
    sizes = (size,) * len(shape) if isinstance(size, int | float) else size
    coarse = [max(3, int(np.ceil(n / s)) + 2) for n, s in zip(shape, sizes, strict=True)]
    values = rng.standard_normal(coarse).astype(np.float32)
    for axis, (n, s) in enumerate(zip(shape, sizes, strict=True)):
        weights = _linear_weights(n, values.shape[axis], s, rng.uniform())
        values = np.moveaxis(np.tensordot(weights, values, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(values) * np.float32(1.5 ** (len(shape) / 2))


def _linear_weights(count: int, nodes: int, size: float, phase: float) -> Floats:
    at = np.clip(np.arange(count) / size + phase, 0, nodes - 1)
    return np.asarray(np.clip(1 - np.abs(at[:, None] - np.arange(nodes)[None]), 0, 1), np.float32)


def around(centre: npt.ArrayLike, radius_mm: float, shape: tuple[int, ...], spacing_mm: Spacing) -> tuple[slice, ...]:
    """The box of voxels within `radius_mm` of the voxel index `centre`."""
    reach = [int(np.ceil(radius_mm / mm)) + 1 for mm in spacing_mm]
    middle = [round(float(c)) for c in np.asarray(centre)]
    return tuple(slice(max(0, c - r), min(n, c + r + 1)) for c, r, n in zip(middle, reach, shape, strict=True))


def offsets_mm(centre: npt.ArrayLike, box: tuple[slice, ...], spacing_mm: Spacing) -> list[Floats]:
    """Three broadcastable arrays: offsets in millimetres of the voxels of `box` from the voxel index `centre`."""
    offsets = []
    for axis, (c, part, mm) in enumerate(zip(np.asarray(centre, float), box, spacing_mm, strict=True)):
        values = ((np.arange(part.start, part.stop) - c) * mm).astype(np.float32)
        offsets.append(values.reshape([-1 if a == axis else 1 for a in range(3)]))
    return offsets


def pick(rng: np.random.Generator, mask: Mask) -> npt.NDArray[np.intp] | None:
    """The index of one voxel of `mask`, each as likely as another; None when there is none."""
    at = np.flatnonzero(mask)
    if len(at) == 0:
        return None
    return np.array(np.unravel_index(at[rng.integers(len(at))], mask.shape), np.intp)
