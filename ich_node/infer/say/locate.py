"""Where a finding is: side, site, slices, strongest point, extent.

In: the evidence of a label, the head box, the intracranial space. The lit part of the CAM is laid over the standard
head (headspace.py) and looked up there. Every answer may be "not sure": laterality None, no site. A CAM is coarse
(cells of 6 to 8 mm), so an extent is a diameter in millimetres and never a volume.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial.distance import pdist

from ich_node.domain.findings import COMPARTMENTS, Laterality, Peak, Volume
from ich_node.infer.say import headspace, lobes, skull
from ich_node.infer.say.evidence import ANY, Evidence, beyond_types
from ich_node.infer.say.headspace import INFRATENTORIAL, REGIONS, HeadFrame, Template
from ich_node.infer.say.places import VENTRICLES
from ich_node.infer.say.skull import Inside
from ich_node.infer.see.blocks import Mask, shrunk
from ich_node.infer.see.crop import Crop
from ich_node.infer.see.heights import extents_mm
from ich_node.infer.see.slabs import SLAB_MM

MIDLINE_MM = 4.0
"""Evidence within this distance of the mid-plane is on neither side."""

ONE_SIDED = 0.8
"""Share of the lateral evidence that makes a finding one-sided, as phantoms count it; each side having BOTH_SIDES makes
it bilateral."""

ONE_SIDED_PICTURE = 0.9
"""The same of one slice; chosen: more, because a reader sees at once what goes across the midline."""

FALX_MM = 6.0
"""Chosen: thin blood this close to the mid-plane may be falx: a block of 2 mm more than MIDLINE_MM."""

HERE_ML, ACROSS_ML, ASTRAY_ML, ASTRAY_SHARE = 0.3, 0.15, 0.5, 0.25
"""Thin blood has one side when so much of it is there on the lit slices, less than ACROSS_ML on the other side of them,
and in the whole head less than ASTRAY_ML, or than that share of its own side. Chosen: four of seven phantoms with it on
both sides were named by one: of them one had .2 ml here, two had .2 and .4 ml across, one .7 ml astray of 1.4; what has
one side had .1 ml across and in the head."""

OPPOSITE = {Laterality.LEFT: Laterality.RIGHT, Laterality.RIGHT: Laterality.LEFT}
IN_THE_MIDDLE = ("third ventricle", "fourth ventricle")  # there is but one of each
BOTH_SIDES = 0.3  # chosen: a third with a margin; between this and ONE_SIDED nothing is said of the side
SITE_SHARE = 0.25  # chosen: at most a few sites have a quarter of the evidence each
COMPARTMENT_SHARE = 0.75  # chosen: three quarters; the tentorium is thinner than a cell of the map
MAX_RESIDUAL_MM = 6.0
"""With a worse fit to the standard head nothing is said about side and site."""

MIDLINE_SPREAD_MM = 10.0
"""Evidence centred within MIDLINE_MM that spreads no wider (standard deviation) is one finding in the middle."""

BLOOD_MM = 10.0
"""Evidence is gathered over about this distance for the strongest point: a few CAM cells, so that it lies in the middle
of a clot, not at its hottest cell."""

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
    volume: Volume, crop: Crop, evidence: Mapping[str, Evidence], space: Inside, frame: HeadFrame | None
) -> dict[str, Location]:
    """The location of every label of `evidence`; what is said of "any" takes in what is said of its types."""
    located = {label: _located(volume, crop, found, label, space, frame) for label, found in evidence.items()}
    types = [place for label, place in located.items() if label != ANY]
    if types:
        own = located[ANY]
        extents = [place.extent_mm for place in (own, *types) if place.extent_mm is not None]
        largest_first = sorted(
            (label for label in located if label != ANY), key=lambda label: -float(evidence[label].place.sum())
        )
        located[ANY] = own._replace(
            laterality=covering(
                own.laterality,
                [place.laterality for place in types],
                beyond=beyond_types(evidence, space, volume.heights_mm),
            ),
            sites=merged([located[label].sites for label in largest_first]),
            extent_mm=max(extents, default=None),
        )
    return located


def merged(parts: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """The sites of all parts, those of the first one first; the compartment last, where all name the same."""
    close = dict.fromkeys(site for sites in parts for site in sites if site not in COMPARTMENTS)
    whole = [site for site in COMPARTMENTS if all(site in sites for sites in parts)]
    return (*close, *whole)


def covering(own: Laterality | None, parts: Sequence[Laterality | None], *, beyond: bool = False) -> Laterality | None:
    """The side of a whole of which `parts` are known: none that contradicts one of them, None when not sure.

    beyond: whether the whole has blood of its own, beyond that of its parts; without, its side is that of the parts.
    """
    known = {part for part in parts if part is not None}
    if Laterality.BILATERAL in known or known >= OPPOSITE.keys():
        return Laterality.BILATERAL
    sides = known if known and len(known) == len(set(parts)) and not beyond else {own, *known}
    if None in sides or len(sides) == 1:
        return None if None in sides else sides.pop()
    if Laterality.MIDLINE in sides and Laterality.BILATERAL not in sides and len(sides) == 2:
        return None  # in the middle and on one side
    return Laterality.BILATERAL


def fit_head(space: Inside, template: Template | None = None) -> HeadFrame | None:
    """The study in the standard head (the shipped one); None when the skull is not there or does not fit."""
    edge = space.mask & ~shrunk(space.mask, 1)
    frame = headspace.fit(space.positions(edge), template or headspace.shipped())
    return frame if frame is not None and frame.residual_mm <= MAX_RESIDUAL_MM else None


def _located(
    volume: Volume, crop: Crop, evidence: Evidence, label: str, space: Inside, frame: HeadFrame | None
) -> Location:
    lit, weight, best = evidence.lit, evidence.weight, evidence.best
    if not lit.any():
        return NOWHERE
    shown = np.flatnonzero(lit.any(axis=(1, 2)))
    laterality, sites = placed(evidence, label, space, frame, extents_mm(volume.heights_mm).astype(np.float32))
    peak = _peak(volume, crop, weight[best], best, space)
    return Location(
        laterality,
        sites,
        int(shown[0]) + 1,
        int(shown[-1]) + 1,
        peak,
        extent_mm(lit[best], weight[best], space.block_mm),
    )


def on_slice(
    evidence: Evidence, index: int, label: str, space: Inside, frame: HeadFrame | None
) -> tuple[Laterality | None, tuple[str, ...]]:
    """Side and sites of the evidence on one slice alone; nothing where none is lit.

    `label` decides what the sites are named after (`name_sites`).
    """
    alone = np.zeros(len(evidence.lit), np.float32)
    alone[index] = SLAB_MM * evidence.lit[index].any()
    return placed(evidence, label, space, frame, alone, ONE_SIDED_PICTURE)


def placed(
    evidence: Evidence,
    label: str,
    space: Inside,
    frame: HeadFrame | None,
    stretch: Heat,
    one_sided: float = ONE_SIDED,
) -> tuple[Laterality | None, tuple[str, ...]]:
    """Side and sites of evidence whose slices weigh `stretch` [slices] mm; not sure of anything without a fit.

    A side is not named where more of the dense blood on the lit slices lies on the other one, nor one of thin blood
    that is on both.
    """
    weight = evidence.place * stretch[:, None, None]
    if frame is None or not weight.any():
        return None, ()
    at = frame.to_template(space.positions(weight > 0))
    said = side(at[:, 0], weight[weight > 0], one_sided)
    sites = name_sites(at, weight[weight > 0], label)
    if said in OPPOSITE and sites[:1] and sites[0] in IN_THE_MIDDLE:
        return Laterality.MIDLINE, sites
    if said in OPPOSITE:
        lit = evidence.lit.any(axis=(1, 2))
        everything = weight + evidence.elsewhere * (stretch * lit.astype(np.float32))[:, None, None]
        across = frame.to_template(space.positions(everything > 0))[:, 0]
        if side(across, everything[everything > 0]) is OPPOSITE[said]:
            return None, sites
        shown = np.asarray(lit, np.bool_)
        if evidence.thin is not None and not _is_one_sided(evidence.thin, shown, said, space, frame, stretch):
            return None, sites
    return said, sites


def _is_one_sided(thin: Mask, lit: Mask, said: Laterality, space: Inside, frame: HeadFrame, stretch: Heat) -> bool:
    """Whether thin blood [slices, h, w] is on the side that is to be named, and on no other. lit: [slices]."""
    area_mm2 = space.block_mm[0] * space.block_mm[1]

    def ml(slices: Mask) -> tuple[float, float]:
        """On that side and on the other one."""
        where = thin & (slices & (stretch > 0))[:, None, None]
        if not where.any():
            return 0.0, 0.0
        x_mm = frame.to_template(space.positions(where))[:, 0]
        volume = stretch[np.nonzero(where)[0]] * area_mm2 / 1000
        left, right = float(volume[x_mm > FALX_MM].sum()), float(volume[x_mm < -FALX_MM].sum())
        return (left, right) if said is Laterality.LEFT else (right, left)

    here, across = ml(lit)
    on_side, astray = ml(np.ones_like(lit))
    return here >= HERE_ML and across < ACROSS_ML and astray < max(ASTRAY_ML, ASTRAY_SHARE * on_side)


def midplane(volume: Volume, index: int, frame: HeadFrame | None) -> tuple[float, float, float] | None:
    """(a, b, c): a pixel of stored slice `index` lies a · row + b · column + c mm to the left of the mid-plane."""
    if frame is None:
        return None
    across = frame.matrix[0]  # template x of an LPS position
    start = across @ (volume.positions_mm[index] - frame.centre) + frame.shift[0]
    return float(across @ volume.affine[:3, 1]), float(across @ volume.affine[:3, 2]), float(start)


def side(
    x_mm: npt.NDArray[np.float64], weight: npt.NDArray[np.float32], one_sided: float = ONE_SIDED
) -> Laterality | None:
    """The side of evidence at `x_mm` (+ left) of the mid-plane; None when it is neither one side nor clearly both.

    one_sided: the share of the lateral evidence that makes it one side.
    """
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
    if share >= one_sided:
        return Laterality.LEFT
    if share <= 1 - one_sided:
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


def extent_mm(lit: Mask, weight: Heat, block_mm: tuple[float, float]) -> float | None:
    """The largest diameter of one connected part of what is lit [h, w] on a slice; approximate."""
    dense = lit & (weight >= 0.5 * weight.max())
    parts, count = ndimage.label(dense, structure=np.ones((3, 3)))
    diameters = [_diameter(np.argwhere(parts == part) * block_mm) for part in range(1, count + 1)]
    return float(round(max(diameters) + float(np.mean(block_mm)))) if diameters else None


def _diameter(points: npt.NDArray[np.floating]) -> float:
    return float(pdist(points).max()) if len(points) > 1 else 0.0


def _peak(volume: Volume, crop: Crop, weight: Heat, index: int, space: Inside) -> Peak | None:
    """The middle of the evidence on a slice: the lit block around which most of it lies."""
    if weight.max() <= 0:
        return None
    gathered = ndimage.gaussian_filter(weight, [BLOOD_MM / mm for mm in space.block_mm], mode="constant")
    block = np.unravel_index(int(np.argmax(np.where(weight > 0, gathered, 0))), weight.shape)
    row, column = ((int(block[axis]) + 0.5) * space.step[axis] - 0.5 for axis in (0, 1))
    stored_row, stored_column = skull.stored_pixel(crop, index, row, column)
    position = volume.positions_mm[index] + stored_row * volume.affine[:3, 1] + stored_column * volume.affine[:3, 2]
    frame_number = volume.frame_numbers[index] if volume.frame_numbers else None
    x, y, z = (float(round(value, 2)) for value in position)
    return Peak(volume.sop_instance_uids[index], frame_number, index, stored_row, stored_column, (x, y, z))
