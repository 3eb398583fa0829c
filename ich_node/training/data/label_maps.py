"""Twenty heads as label maps become phantom heads.

The label maps are those that SynthSeg trains with (Billot et al., Medical Image Analysis 2023; Apache-2.0): 1 mm, RAS,
with skull, diploe, CSF, vessels, eyes and skin. `read` turns one into a `phantom.tissue.Head`; `save` and `load` keep
it in a small file.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ich_node.phantom.tissue import BRAIN, Floats, Head, Mask, Spacing, Tissue, distance_mm, measured

SPACING_MM: Spacing = (2.0, 1.0, 1.0)  # the grid of the phantoms: every second slice of maps of 1 mm
MARGIN_VOXELS = ((30, 26), (28, 26), (28, 28))
"""Chosen: room for skull, scalp and a piece of the face: before and after, along each axis."""

VALUES = {
    Tissue.WHITE: (2, 41, 25, 57, 30, 62, 85, 21, 22),
    Tissue.GREY: (3, 42, 17, 53, 18, 54, 136, 137, 163, 164),
    Tissue.DEEP_GREY: (10, 49, 11, 50, 12, 51, 13, 52, 26, 58, 28, 60),
    Tissue.CSF: (24,),
    Tissue.LATERAL_VENTRICLE: (4, 43, 5, 44, 72),
    Tissue.MIDLINE_VENTRICLE: (14, 15),
    Tissue.BRAIN_STEM: (16,),
    Tissue.CEREBELLAR_WHITE: (7, 46),
    Tissue.CEREBELLAR_GREY: (8, 47),
    Tissue.VENOUS_SINUS: (514,),
    Tissue.ARTERY: (502,),
    Tissue.BONE: (515,),
    Tissue.DIPLOE: (516,),
    Tissue.EYE: (506,),
    Tissue.LENS: (508,),
    Tissue.FAT: (509,),
    Tissue.SOFT: (507, 512, 530),
    Tissue.SKIN: (511,),
}
"""Meaning of the values of a label map: FreeSurfer's for the brain, SynthSeg's for what is around it."""
LEFT, RIGHT = (2, 3, 10, 11, 12, 13), (41, 42, 49, 50, 51, 52)  # white, cortical and deep grey matter of either side
HINDBRAIN = (7, 8, 46, 47, 16)  # cerebellum and brain stem


def read(path: Path) -> Head:
    """The head of one label map file (NIfTI), planes of 2 mm."""
    import nibabel  # noqa: PLC0415 — heads that are kept are read without it

    image = nibabel.as_closest_canonical(nibabel.load(path))
    values = np.asarray(image.dataobj).astype(np.int16)[::-1, ::-1, :].transpose(2, 1, 0)
    values = values[_box(np.isin(values, (2, 3, 41, 42, 7, 8, 46, 47, 16)))][::2]
    table = np.zeros(1024, np.uint8)
    for name, codes in VALUES.items():
        table[list(codes)] = name
    tissue = table[values]
    to_left = distance_mm(np.isin(values, LEFT), SPACING_MM)
    to_right = distance_mm(np.isin(values, RIGHT), SPACING_MM)
    to_hind = distance_mm(np.isin(values, HINDBRAIN), SPACING_MM)
    intracranial = _intracranial(tissue)
    _add_dura(tissue, intracranial, to_left, to_right, to_hind)
    return measured(tissue, to_left < to_right, to_hind < np.minimum(to_left, to_right), intracranial, SPACING_MM)


def save(head: Head, path: Path) -> None:
    """Keep what cannot be measured anew: tissue, sides and cavity, packed; the file appears whole or not at all."""
    bits = np.packbits(np.stack([head.left, head.infratentorial, head.intracranial]), axis=-1)
    part = path.with_suffix(".part")
    with part.open("wb") as stream:
        np.savez_compressed(stream, tissue=head.tissue, bits=bits, spacing=np.array(head.spacing_mm))
    part.rename(path)


def load(path: Path) -> Head:
    """What `save` kept, with its distances measured."""
    with np.load(path) as arrays:
        tissue, spacing = arrays["tissue"], arrays["spacing"].tolist()
        left, below, inside = np.unpackbits(arrays["bits"], axis=-1, count=tissue.shape[2]).astype(np.bool_)
    return measured(tissue, left, below, inside, (spacing[0], spacing[1], spacing[2]))


def _box(brain: Mask) -> tuple[slice, ...]:
    """The brain with room around it for skull, scalp and a piece of the face."""
    box = []
    for axis, (before, after) in enumerate(MARGIN_VOXELS):
        at = np.flatnonzero(brain.any(axis=tuple(a for a in range(3) if a != axis)))
        box.append(slice(max(0, int(at[0]) - before), int(at[-1]) + after + 1))
    return tuple(box)


def _intracranial(tissue: npt.NDArray[np.uint8]) -> Mask:
    inner = np.isin(tissue, (*BRAIN, Tissue.CSF, Tissue.LATERAL_VENTRICLE, Tissue.MIDLINE_VENTRICLE))
    opened = ndimage.binary_opening(inner) | np.isin(tissue, (Tissue.WHITE, Tissue.GREY, Tissue.DEEP_GREY))
    labels = ndimage.label(opened)[0]
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    largest = labels == sizes.argmax()
    closed = ndimage.binary_closing(largest, iterations=3) | largest
    return np.asarray(closed & ~np.isin(tissue, (Tissue.BONE, Tissue.DIPLOE, Tissue.SKIN, Tissue.SOFT)), np.bool_)


def _add_dura(
    tissue: npt.NDArray[np.uint8], intracranial: Mask, to_left: Floats, to_right: Floats, to_hind: Floats
) -> None:
    """Falx and tentorium, where CSF is equally far from both sides; the maps do not have them."""
    fluid = np.isin(tissue, (Tissue.CSF, Tissue.VENOUS_SINUS)) & intracranial
    cerebrum = np.minimum(to_left, to_right)
    falx = fluid & (np.abs(to_left - to_right) < 1.01) & (to_left < 7) & (to_hind > 12)
    tent = fluid & (np.abs(to_hind - cerebrum) < 1.01) & (to_hind < 6)
    tissue[falx | tent] = Tissue.DURA
