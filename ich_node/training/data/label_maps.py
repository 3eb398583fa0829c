"""Twenty heads as label maps become phantom heads, and phantom heads become training slices.

The label maps are those that SynthSeg trains with (Billot et al., Medical Image Analysis 2023; Apache-2.0): 1 mm, RAS,
with skull, diploe, CSF, vessels, eyes and skin. `read` turns one into a `phantom.tissue.Head`; `draw` takes a head,
from here or from formulas, and makes a scan with or without hemorrhage, with look-alikes and artefacts.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ich_node.infer.see.crop import crop_stack
from ich_node.phantom import lesions, lookalikes
from ich_node.phantom.head import calcify
from ich_node.phantom.lesions import Scene
from ich_node.phantom.scanner import Protocol, density, scan
from ich_node.phantom.tissue import BRAIN, Floats, Head, Mask, Spacing, Tissue, distance_mm, measured
from ich_node.training.data.pool import Pool, pool_of

SPACING_MM: Spacing = (2.0, 1.0, 1.0)
MARGIN_VOXELS = ((30, 26), (28, 26), (28, 28))

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
LEFT, RIGHT = (2, 3, 10, 11, 12, 13), (41, 42, 49, 50, 51, 52)
HINDBRAIN = (7, 8, 46, 47, 16)
"""Meaning of the values of a label map: FreeSurfer's for the brain, SynthSeg's for what is around it."""


def read(path: Path) -> Head:
    """The head of one label map file (NIfTI), planes of 2 mm."""
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


# --- from a head to training slices ----------------------------------------------------------------------------------

PLANES = 26
TYPE_WEIGHTS = (0.24, 0.2, 0.14, 0.2, 0.22)


@dataclass(frozen=True, slots=True)
class Recipe:
    """What one synthetic scan is to show: labels in the order in which they are put in, and look-alikes."""

    labels: tuple[str, ...]
    lookalikes: tuple[str, ...]


def recipe(rng: np.random.Generator) -> Recipe:
    """A quarter without hemorrhage; else mostly one type, sometimes two. Look-alikes in every second scan."""
    labels: tuple[str, ...] = ()
    if rng.uniform() > 0.25:
        count = 1 if rng.uniform() < 0.7 else 2
        drawn = rng.choice(len(lesions.TYPES), count, replace=False, p=TYPE_WEIGHTS)
        outside_first = sorted(drawn, key=lambda i: lesions.TYPES[i] not in ("epidural", "subdural"))
        labels = tuple(lesions.TYPES[i] for i in outside_first)
    chance = 0.45 if labels else 0.75
    others = tuple(name for name in rng.permutation(lookalikes.KINDS) if rng.uniform() < chance / 3)
    return Recipe(labels, others[:3])


def draw(head: Head, rng: np.random.Generator) -> Pool:
    """Make one scan of `head` and keep its slices that teach something: all with a lesion, some of the others."""
    wanted = recipe(rng)
    scene = Scene(head, density(head, rng))
    calcify(scene, rng)
    for kind in wanted.lookalikes:
        lookalikes.add(scene, kind, rng)
    for label in wanted.labels:
        lesions.add(scene, label, rng, size=float(np.exp(rng.normal(0, 0.4))))
    protocol = random_protocol(head, rng)
    taken = scan(scene, protocol, rng)
    step = float(np.diff(protocol.positions_mm).mean())
    box = crop_stack(taken.hu, (step, protocol.pixel_mm, protocol.pixel_mm))
    masks = np.stack([[box.to_box(one, i) for one in masks] for i, masks in enumerate(taken.mask)]).astype(np.bool_)
    pool = pool_of(box, masks)
    ill = pool.labels[:, 0] > 0
    keep = (ill | (rng.uniform(size=len(ill)) < (0.25 if wanted.labels else 0.6))) & ~pool.doubtful
    return pool.take(np.flatnonzero(keep))


def random_protocol(head: Head, rng: np.random.Generator) -> Protocol:
    """Planes through the head with a scanner, a position and a quality drawn at random."""
    zoom = float(rng.uniform(0.86, 1.1))
    reach = head.tissue.shape[0] * head.spacing_mm[0]
    inside = np.flatnonzero(head.intracranial.sum(axis=(1, 2)) > 300) * head.spacing_mm[0]
    middle, start, stop = reach / 2, inside[0] - 12, inside[-1] + 6
    low, high = middle + (start - middle) * zoom, middle + (stop - middle) * zoom
    step = (high - low) / PLANES
    thick = float(rng.choice([0.6, 1.25, 2.5, 3, 4, 5, 5], p=[0.08, 0.12, 0.15, 0.15, 0.15, 0.2, 0.15]))
    noise = np.exp(rng.uniform(np.log(1.2), np.log(6.5))) / (max(thick, 0.6) / 3) ** 0.3
    pixel = float(rng.uniform(0.78, 0.95))
    return Protocol(
        positions_mm=tuple(low + (i + rng.uniform(0.35, 0.65)) * step for i in range(PLANES)),
        thickness_mm=thick,
        pixel_mm=pixel,
        rows=int(244 / pixel),
        columns=int(244 / pixel),
        tilt_deg=float(rng.uniform(-20, 12)),
        roll_deg=float(rng.normal(0, 7)),
        lean_deg=float(rng.normal(0, 4)),
        zoom=zoom,
        shift_mm=(float(rng.normal(0, 5)), float(rng.normal(0, 5))),
        warp_mm=float(rng.uniform(0.3, 2.2)),
        noise_hu=float(noise),
        blur_px=float(rng.uniform(0.2, 0.8)),
        sharp=float(rng.uniform(0.2, 0.7)) if rng.uniform() < 0.2 else 0.0,
        headrest=bool(rng.uniform() < 0.6),
        streaks=bool(rng.uniform() < 0.4),
        motion=bool(rng.uniform() < 0.06),
    )
