"""Where a finding is: side, site, slices, strongest point, extent.

In: the CAM of a label, the head box, the intracranial space. The lit part of the CAM is laid over the standard head
(headspace.py) and looked up there. Every answer may be "not sure": laterality None, no site. A CAM is coarse (cells of
6 to 8 mm), so an extent is a diameter in millimetres and never a volume.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial.distance import pdist

from ich_node.domain.findings import Laterality, ModelCard, Peak, Prediction, Volume
from ich_node.infer.say import explain, headspace, lobes, skull
from ich_node.infer.say.headspace import INFRATENTORIAL, REGIONS, HeadFrame, Template
from ich_node.infer.say.skull import Inside
from ich_node.infer.see.crop import Crop
from ich_node.infer.see.heights import extents_mm

MIDLINE_MM = 4.0
"""Evidence within this distance of the mid-plane is on neither side."""

ONE_SIDED = 0.85
"""Share of the lateral evidence that makes a finding one-sided; each side having BOTH_SIDES makes it bilateral."""

BOTH_SIDES = 0.3
SITE_SHARE = 0.25
COMPARTMENT_SHARE = 0.75
MAX_RESIDUAL_MM = 6.0
"""With a worse fit to the standard head nothing is said about side and site."""

MIDLINE_SPREAD_MM = 10.0
"""Evidence centred within MIDLINE_MM that spreads no wider (standard deviation) is one finding in the middle."""

BLOOD_HU = (45.0, 100.0)
MINOR_PART = 0.1
VENTRICLES = ("lateral ventricle", "third ventricle", "fourth ventricle")
Heat = npt.NDArray[np.float32]


class Location(NamedTuple):
    """The fields of domain.Finding that say where it is, in their order."""

    laterality: Laterality | None
    sites: tuple[str, ...]
    first_slice: int | None
    last_slice: int | None
    peak: Peak | None
    extent_mm: float | None


NOWHERE = Location(None, (), None, None, None, None)


def locate_all(
    volume: Volume, crop: Crop, prediction: Prediction, labels: Iterable[str], card: ModelCard, space: Inside
) -> dict[str, Location]:
    """The location of every label of `labels`; the standard head is fitted once, and only if there is any label."""
    wanted = tuple(labels)
    frame = fit_head(space) if wanted else None
    return {label: _located(volume, crop, prediction, label, card, space, frame) for label in wanted}


def locate(
    volume: Volume, crop: Crop, prediction: Prediction, label: str, card: ModelCard, space: Inside | None = None
) -> Location:
    """The location of one label."""
    space = space or skull.inside(volume, crop)
    return locate_all(volume, crop, prediction, (label,), card, space)[label]


def fit_head(space: Inside, template: Template | None = None) -> HeadFrame | None:
    """The study in the standard head (the shipped one); None when the skull is not there or does not fit."""
    edge = space.mask & ~ndimage.binary_erosion(space.mask, structure=skull.DISC)
    frame = headspace.fit(space.positions(edge), template or headspace.shipped())
    return frame if frame is not None and frame.residual_mm <= MAX_RESIDUAL_MM else None


def _located(
    volume: Volume,
    crop: Crop,
    prediction: Prediction,
    label: str,
    card: ModelCard,
    space: Inside,
    frame: HeadFrame | None,
) -> Location:
    heat = explain.block_heat(prediction, label, space, (crop.hu.shape[1], crop.hu.shape[2]))
    best = explain.best_slice(prediction, label, heat)
    lit = lit_blocks(heat, best, card.cam_threshold)
    if not lit.any():
        return NOWHERE
    weight = np.where(lit, heat, 0) * blood_gate(space.hu)
    stretch = extents_mm(volume.heights_mm).astype(np.float32)[:, None, None]  # many thin slices are no more blood
    shown = np.flatnonzero(lit.any(axis=(1, 2)))
    laterality, sites = _named(frame, space.positions(lit), (weight * stretch)[lit], label)
    peak = _peak(volume, crop, weight[best], best, space)
    return Location(
        laterality, sites, int(shown[0]) + 1, int(shown[-1]) + 1, peak, extent_mm(lit, weight, space.block_mm)
    )


def _named(
    frame: HeadFrame | None, positions: npt.NDArray[np.float64], weight: Heat, label: str
) -> tuple[Laterality | None, tuple[str, ...]]:
    """Side and sites of evidence at LPS positions [n, 3]; not sure of anything without a fit."""
    if frame is None:
        return None, ()
    at = frame.to_template(positions)
    return side(at[:, 0], weight), name_sites(at, weight, label)


def lit_blocks(heat: Heat, best: int, threshold: float) -> npt.NDArray[np.bool_]:
    """Where the CAM reaches the threshold, without specks; at least the brighter half of the best slice.

    A speck is a connected part with less than MINOR_PART of the heat of the largest part.
    """
    lit = heat >= threshold
    if not lit[best].any():
        lit[best] = heat[best] >= max(heat[best].max() / 2, 1e-6)
    parts, count = ndimage.label(lit, structure=np.ones((3, 3, 3)))
    if count < 2:
        return lit
    mass = ndimage.sum_labels(heat, parts, np.arange(count + 1))
    mass[0] = 0
    keep = mass >= MINOR_PART * mass.max()
    keep[np.unique(parts[best])] = True
    keep[0] = False
    return np.asarray(keep[parts], np.bool_)


def blood_gate(hu: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Weight of a block's evidence: 1 where it is as dense as fresh blood, 0.25 elsewhere (thin or old blood)."""
    return np.where((hu >= BLOOD_HU[0]) & (hu <= BLOOD_HU[1]), 1, 0.25).astype(np.float32)


def side(x_mm: npt.NDArray[np.float64], weight: npt.NDArray[np.float32]) -> Laterality | None:
    """The side of evidence at `x_mm` (+ left) of the mid-plane; None when it is neither one side nor clearly both."""
    total = float(weight.sum())
    if total <= 0:
        return None
    centre = float(np.average(x_mm, weights=weight))
    spread = float(np.sqrt(np.average((x_mm - centre) ** 2, weights=weight)))
    if abs(centre) <= MIDLINE_MM and spread <= MIDLINE_SPREAD_MM:
        return Laterality.MIDLINE
    left, right = float(weight[x_mm > MIDLINE_MM].sum()), float(weight[x_mm < -MIDLINE_MM].sum())
    if left + right < 0.4 * total:
        return Laterality.MIDLINE
    share = left / (left + right)
    if share >= ONE_SIDED:
        return Laterality.LEFT
    if share <= 1 - ONE_SIDED:
        return Laterality.RIGHT
    return Laterality.BILATERAL if BOTH_SIDES <= share <= 1 - BOTH_SIDES else None


def shares(positions: npt.NDArray[np.float64], weight: npt.NDArray[np.float32], template: Template) -> dict[str, float]:
    """Region → share of the evidence at template positions [n, 3] that lies in it."""
    mean = np.average(template.region_probability(positions), axis=0, weights=weight)
    return dict(zip(REGIONS, mean.tolist(), strict=True))


def compartment(share: Mapping[str, float]) -> str | None:
    """ "supratentorial" or "infratentorial"; None when the evidence lies on both sides of the tentorium."""
    below = sum(share[region] for region in INFRATENTORIAL)
    if below >= COMPARTMENT_SHARE:
        return "infratentorial"
    return "supratentorial" if below <= 1 - COMPARTMENT_SHARE else None


def name_sites(positions: npt.NDArray[np.float64], weight: npt.NDArray[np.float32], label: str) -> tuple[str, ...]:
    """Sites out of domain.SITES for evidence at template positions [n, 3], most likely first, the compartment last.

    An intraventricular hemorrhage is in a ventricle by its name: the one with the largest share.
    """
    template = headspace.shipped()
    share = shares(positions, weight, template)
    if label == "intraventricular":
        ventricle = max(VENTRICLES, key=share.__getitem__)
        return (ventricle,) if share[ventricle] > 0 else ()
    sites: list[str] = []
    for region in sorted(share, key=share.__getitem__, reverse=True):
        if share[region] >= SITE_SHARE:
            hemisphere = weight * template.region_probability(positions)[:, REGIONS.index("hemisphere")]
            sites += lobes.name(positions, hemisphere) if region == "hemisphere" else [region]
    whole = compartment(share)
    return (*sites, whole) if whole else tuple(sites)


def extent_mm(lit: npt.NDArray[np.bool_], weight: Heat, block_mm: tuple[float, float]) -> float | None:
    """The largest in-plane diameter of the lit area, in the slice that shows most of it; approximate."""
    index = int(np.argmax(weight.sum(axis=(1, 2))))
    dense = lit[index] & (weight[index] >= 0.5 * weight[index].max())
    points = np.argwhere(dense) * block_mm
    if len(points) == 0:
        return None
    return float(round((pdist(points).max() if len(points) > 1 else 0) + float(np.mean(block_mm))))


def _peak(volume: Volume, crop: Crop, weight: Heat, index: int, space: Inside) -> Peak | None:
    """The strongest evidence on the slice: heat, weighed by whether the tissue is as dense as blood."""
    if weight.max() <= 0:
        return None
    block = np.unravel_index(int(np.argmax(weight)), weight.shape)
    row, column = ((int(block[axis]) + 0.5) * space.step[axis] - 0.5 for axis in (0, 1))
    stored_row, stored_column = skull.stored_pixel(crop, index, row, column)
    position = volume.positions_mm[index] + stored_row * volume.affine[:3, 1] + stored_column * volume.affine[:3, 2]
    frame_number = volume.frame_numbers[index] if volume.frame_numbers else None
    x, y, z = (float(round(value, 2)) for value in position)
    return Peak(volume.sop_instance_uids[index], frame_number, index, stored_row, stored_column, (x, y, z))
