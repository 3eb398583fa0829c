"""Hemorrhage of the five types in a phantom head, with an exact mask, and what displaces or mimics it.

A `Scene` is a head with its Hounsfield units; `add` puts one lesion into it and returns what was put where. Sizes are
in millimetres, densities in HU, and everything comes from the generator that the caller hands in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ich_node.domain.findings import LABELS, Laterality
from ich_node.phantom.habit import PLAIN, Habit, Range
from ich_node.phantom.tissue import (
    BRAIN,
    VENTRICLES,
    Floats,
    Head,
    Mask,
    Spacing,
    Tissue,
    around,
    offsets_mm,
    pick,
    random_field,
)

TYPES = LABELS[1:]  # all labels but "any"
BONE_HU = 120  # above blood and below bone with partial volume


@dataclass(frozen=True, slots=True, eq=False)
class Lesion:
    """One hemorrhage: its label, where it is (bool [planes, rows, columns]), side and site (a name of domain.SITES)."""

    label: str
    mask: Mask
    laterality: Laterality
    site: str


@dataclass(slots=True, eq=False)
class Scene:
    """A head that lesions are put into. hu: float32 [planes, rows, columns]."""

    head: Head
    hu: Floats
    lesions: list[Lesion] = field(default_factory=list)


def add(scene: Scene, label: str, rng: np.random.Generator, size: float = 1.0, habit: Habit = PLAIN) -> Lesion | None:
    """Put a hemorrhage of type `label` into `scene`; `size` scales it. None when this head has no room for it."""
    maker = {
        "epidural": _epidural,
        "subdural": _subdural,
        "intraparenchymal": _intraparenchymal,
        "intraventricular": _intraventricular,
        "subarachnoid": _subarachnoid,
    }[label]
    mask = maker(scene, rng, size, habit)
    if mask is not None:
        mask &= scene.hu < BONE_HU
    if mask is None or np.count_nonzero(mask) * np.prod(scene.head.spacing_mm) < 150:
        return None
    lesion = Lesion(label, mask, laterality_of(scene.head, mask), site_of(scene.head, mask, label))
    scene.lesions.append(lesion)
    return lesion


def laterality_of(head: Head, mask: Mask) -> Laterality:
    """The side on which 80 % of `mask` lies; otherwise midline when it stays within 12 mm of it, else bilateral."""
    share = float(head.left[mask].mean())
    if share > 0.8:
        return Laterality.LEFT
    if share < 0.2:
        return Laterality.RIGHT
    columns = np.flatnonzero(mask.any(axis=(0, 1)))
    width_mm = (columns[-1] - columns[0] + 1) * head.spacing_mm[2]
    return Laterality.MIDLINE if width_mm < 24 else Laterality.BILATERAL


def site_of(head: Head, mask: Mask, label: str) -> str:
    """Where most of `mask` lies, in the coarse words of domain.SITES."""
    if label == "intraventricular":
        lateral = np.count_nonzero(mask & (head.tissue == Tissue.LATERAL_VENTRICLE))
        return "lateral ventricle" if lateral * 2 >= np.count_nonzero(mask) else "third ventricle"
    if head.infratentorial[mask].mean() > 0.5:
        stem = np.count_nonzero(mask & (head.tissue == Tissue.BRAIN_STEM))
        return "brain stem" if stem * 2 > np.count_nonzero(mask) else "cerebellum"
    if (head.tissue[mask] == Tissue.DEEP_GREY).mean() > 0.4:
        return "deep grey matter"
    return _lobe(head, mask)


def _lobe(head: Head, mask: Mask) -> str:
    """The lobe by the place of the mask's centre between the front, back, base and vertex of the cavity."""
    inside = head.intracranial & ~head.infratentorial
    place = []
    for axis in (0, 1):
        others = tuple(a for a in range(3) if a != axis)
        span = np.flatnonzero(inside.any(axis=others))
        centre = np.average(np.arange(mask.shape[axis]), weights=mask.sum(axis=others))
        place.append((centre - span[0]) / max(1, span[-1] - span[0]))
    up, back = place
    if back > 0.8:
        return "occipital lobe"
    if up < 0.42 and back > 0.25:
        return "temporal lobe"
    return "frontal lobe" if back < 0.47 else "parietal lobe"


# --- outside the brain ---------------------------------------------------------------------------------------------


def _epidural(scene: Scene, rng: np.random.Generator, size: float, habit: Habit) -> Mask | None:
    """A lens between bone and dura."""
    start = _surface_point(scene.head, rng, base_or_vertex=habit.low_or_high[0])
    if start is None:
        return None
    radius = _log(rng, *habit.lens) * size**0.5
    height = max(habit.thinnest, min(radius * rng.uniform(*habit.flat), 30) * size**0.3)

    def thickness(r: Floats) -> Floats:
        return np.asarray(height * np.sqrt(np.clip(1 - (r / radius) ** 2, 0, 1)), np.float32)

    mask = _plaque(scene, rng, start, radius, height, thickness, _density(rng, (55, 85), (44, 56), habit.faint[0]))
    if mask is not None and mask.any() and habit.swirl and rng.uniform() < habit.swirl:
        scene.hu[mask & (random_field(rng, mask.shape, (4, 8, 8)) > 0.5)] -= np.float32(rng.uniform(8, 22))
    return mask


def _density(rng: np.random.Generator, usual: Range, faint: Range, share: float) -> float:
    """HU of blood: `faint` in a share of cases."""
    return float(rng.uniform(*usual) if share == 0 or rng.uniform() < 1 - share else rng.uniform(*faint))


def _subdural(scene: Scene, rng: np.random.Generator, size: float, habit: Habit) -> Mask | None:
    """A crescent over one hemisphere, or a layer on falx and tentorium; acute, subacute, or layered."""
    if rng.uniform() < habit.along_dura:
        return _along_dura(scene, rng)
    start = _surface_point(scene.head, rng, base_or_vertex=habit.low_or_high[1])
    if start is None:
        return None
    radius = _log(rng, *habit.crescent)
    height = _log(rng, *habit.layer) * size**0.5

    def thickness(r: Floats) -> Floats:
        return np.asarray(height * np.clip(1 - (r / radius) ** 4, 0, 1) ** 0.7, np.float32)

    mask = _plaque(scene, rng, start, radius, height, thickness, _density(rng, (54, 80), (43, 54), habit.faint[1]))
    if mask is not None and mask.any() and rng.uniform() < 0.2:
        _settle(scene, rng, mask)
    return mask


def _settle(scene: Scene, rng: np.random.Generator, mask: Mask) -> None:
    """Blood that has settled: lighter in front, so that a part is hardly denser than brain."""
    rows = np.nonzero(mask)[1]
    level = np.percentile(rows, rng.uniform(20, 55))
    upper = mask & (np.arange(mask.shape[1])[None, :, None] < level)
    scene.hu[upper] -= np.float32(rng.uniform(8, 30))


def _plaque(
    scene: Scene,
    rng: np.random.Generator,
    start: npt.NDArray[np.intp],
    radius: float,
    height: float,
    thickness: Callable[[Floats], Floats],
    hu: float,
) -> Mask | None:
    """Fill what lies nearer the inner table than `thickness(distance from start)`, and push the brain away from it."""
    head = scene.head
    side = head.left[tuple(start)]
    box = around(start, radius * 1.45 + height, head.tissue.shape, head.spacing_mm)
    depth = head.depth_mm[box]
    inward = _inward(depth, head.spacing_mm)
    offsets = offsets_mm(start, box, head.spacing_mm)
    r = np.sqrt(sum((o - depth * g) ** 2 for o, g in zip(offsets, inward, strict=True)))
    rough = 1 + 0.13 * random_field(rng, depth.shape, (6, 12, 12))
    limit = thickness(r) * rough
    allowed = head.intracranial[box] & (head.left[box] == side) & ~head.any_of(Tissue.BONE, Tissue.DIPLOE)[box]
    filled = allowed & (depth > 0) & (depth < limit)
    if not filled.any():
        return None
    push = height * np.clip(1 - (r / (1.4 * radius)) ** 2, 0, 1) * 0.85
    push = np.where(filled | ~allowed, 0, push * np.exp(-np.clip(depth - limit, 0, None) / rng.uniform(12, 28)))
    _displace(scene, box, inward, push.astype(np.float32))
    mask = np.zeros(head.tissue.shape, np.bool_)
    mask[box] = filled
    _fill(scene, rng, mask, hu)
    return mask


def _along_dura(scene: Scene, rng: np.random.Generator) -> Mask | None:
    """A thin layer along falx or tentorium."""
    head = scene.head
    dura = head.any_of(Tissue.DURA) & (head.depth_mm > 4)
    start = pick(rng, dura)
    if start is None:
        return None
    radius = rng.uniform(25, 60)
    box = around(start, radius, head.tissue.shape, head.spacing_mm)
    near = np.asarray(ndimage.distance_transform_edt(~dura[box], sampling=head.spacing_mm))
    r = np.sqrt(sum(o**2 for o in offsets_mm(start, box, head.spacing_mm)))
    side = head.left[box] == (rng.uniform() < 0.5)
    mask = np.zeros(head.tissue.shape, np.bool_)
    mask[box] = (near < rng.uniform(3, 6)) & (r < radius) & side & (head.depth_mm[box] > 1)
    _fill(scene, rng, mask, rng.uniform(54, 78))
    return mask


def _surface_point(head: Head, rng: np.random.Generator, base_or_vertex: float) -> npt.NDArray[np.intp] | None:
    """A voxel at the inner table: mostly on the convexity, sometimes low at the base or high at the vertex."""
    surface = (head.depth_mm > 0) & (head.depth_mm < 2.1)
    inside = np.flatnonzero(head.intracranial.any(axis=(1, 2)))
    low, high = inside[0], inside[-1]
    plane = np.arange(head.tissue.shape[0])[:, None, None]
    part = (plane - low) / max(1, high - low)
    if rng.uniform() < base_or_vertex:
        surface &= (part < 0.33) | (part > 0.85)
    else:
        surface &= (part > 0.3) & (part < 0.9) & ~head.infratentorial
    return pick(rng, surface)


# --- inside the brain ----------------------------------------------------------------------------------------------


def _intraparenchymal(scene: Scene, rng: np.random.Generator, size: float, habit: Habit) -> Mask | None:
    """One clot, or several contusions, with a rim of oedema."""
    head = scene.head
    where = head.any_of(Tissue.DEEP_GREY) if rng.uniform() < habit.deep else head.any_of(*BRAIN)
    if rng.uniform() < habit.shallow:
        low = habit.low and rng.uniform() < habit.low
        where = _low_surface(head) if low else where & (head.depth_mm < 22)
    base = pick(rng, where & head.intracranial)
    if base is None:
        return None
    several = rng.uniform() < habit.several
    mask = np.zeros(head.tissue.shape, np.bool_)
    for turn in range(int(rng.integers(2, 6)) if several else 1):
        shift = rng.normal(0, 12, 3) / head.spacing_mm if turn else 0
        centre = np.clip(base + shift, 1, np.array(mask.shape) - 2)
        radius = _log(rng, *(habit.contusion if several else habit.clot)) * size**0.4
        blob(mask, centre, radius * np.exp(rng.normal(0, 0.22, 3)), rng, head.spacing_mm)
    mask &= head.intracranial & ~head.any_of(Tissue.CSF, Tissue.BONE, Tissue.DIPLOE, *VENTRICLES)
    _oedema(scene, rng, mask)
    hu = _density(rng, (52, 85), (45, 54), habit.faint[2])
    _fill(scene, rng, mask, hu)
    if hu < 52 and mask.any():  # salt and pepper: a contusion mixed with brain
        scene.hu[mask & (random_field(rng, mask.shape, (2, 4, 4)) > 0.8)] -= np.float32(rng.uniform(8, 18))
    return mask


def _low_surface(head: Head) -> Mask:
    """Brain near the inner table, low in the head: where contusions lie."""
    inside = np.flatnonzero(head.intracranial.any(axis=(1, 2)))
    part = (np.arange(head.tissue.shape[0])[:, None, None] - inside[0]) / max(1, inside[-1] - inside[0])
    near = (head.depth_mm > 1) & (head.depth_mm < 14)
    return np.asarray(head.any_of(*BRAIN) & near & (part > 0.1) & (part < 0.5), np.bool_)


def _oedema(scene: Scene, rng: np.random.Generator, mask: Mask) -> None:
    if not mask.any() or rng.uniform() < 0.2:
        return
    width = rng.uniform(2, 10)
    box = _box_of(mask, 12, scene.head.spacing_mm)
    away = np.asarray(ndimage.distance_transform_edt(~mask[box], sampling=scene.head.spacing_mm))
    rim = np.clip(1 - away / width, 0, 1) * ~mask[box] * scene.head.any_of(*BRAIN)[box]
    scene.hu[box] -= (rim * rng.uniform(6, 16)).astype(np.float32)


def _intraventricular(scene: Scene, rng: np.random.Generator, size: float, habit: Habit) -> Mask | None:
    """Blood in the ventricles: a cast, or a level in the dependent horns."""
    head = scene.head
    mask = head.any_of(*VENTRICLES)
    if rng.uniform() < 0.5:
        mask &= head.left == (rng.uniform() < 0.5)
    rows = np.nonzero(mask)[1]
    if len(rows) < 50:
        return None
    if rng.uniform() < 0.55:
        level = np.percentile(rows, np.clip(rng.uniform(*habit.level) / size**0.3, 0, 92))
        slope = rng.uniform(-0.12, 0.12) * (np.arange(mask.shape[2]) - mask.shape[2] / 2)
        mask &= np.arange(mask.shape[1])[None, :, None] > level + slope[None, None, :]
    elif rng.uniform() < 0.6:
        mask &= random_field(rng, mask.shape, (6, 12, 12)) > rng.uniform(-1, 0.5)
    _fill(scene, rng, mask, rng.uniform(50, 82))
    return mask


def _subarachnoid(scene: Scene, rng: np.random.Generator, size: float, habit: Habit) -> Mask | None:
    """Blood in the basal cisterns, a Sylvian fissure, or the sulci of a convexity."""
    head = scene.head
    fluid = head.any_of(Tissue.CSF) & head.intracranial
    deep = fluid & (head.depth_mm > 18)
    cistern = rng.uniform() < habit.cistern
    candidates = deep & ~head.infratentorial if cistern else fluid & (head.depth_mm < 12) & ~head.infratentorial
    centre = pick(rng, candidates)
    if centre is None:
        return None
    radius = rng.uniform(*(habit.near_cistern if cistern else habit.near_sulcus)) * size**0.3
    box = around(centre, radius * 1.5, head.tissue.shape, head.spacing_mm)
    r = np.sqrt(sum(o**2 for o in offsets_mm(centre, box, head.spacing_mm)))
    shape = r.shape
    near = r / radius + 0.25 * random_field(rng, shape, (5, 10, 10)) < 1
    mask = np.zeros(head.tissue.shape, np.bool_)
    mask[box] = fluid[box] & near & (random_field(rng, shape, (3, 6, 6)) > rng.uniform(-2.5, -0.3))
    # A sulcus is often narrower than a voxel: the blood in it is seen over the pia too.
    if rng.uniform() < 0.5:
        grown = ndimage.binary_dilation(mask[box], np.ones((1, 3, 3)))
        mask[box] = grown & near & head.intracranial[box] & (head.depth_mm[box] > 0.5)
    _fill(scene, rng, mask, rng.uniform(habit.least_fluid, 76))
    return mask


# --- how it is put in ----------------------------------------------------------------------------------------------


def blob(
    mask: Mask,
    centre: npt.ArrayLike,
    radii_mm: npt.NDArray[np.float64],
    rng: np.random.Generator,
    spacing_mm: Spacing,
) -> None:
    """Add a rough ellipsoid, turned at random, to `mask`; centre as a voxel index (it may lie between voxels)."""
    box = around(centre, float(radii_mm.max()) * 1.6, mask.shape, spacing_mm)
    offsets = offsets_mm(centre, box, spacing_mm)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    squares = sum((sum(turn[i, j] * offsets[j] for j in range(3)) / radii_mm[i]) ** 2 for i in range(3))
    r = np.sqrt(squares)
    grain = float(radii_mm.mean()) * 0.7
    rough = random_field(rng, r.shape, tuple(max(1.5, grain / mm) for mm in spacing_mm))
    mask[box] |= r + 0.3 * rough < 1


def dot(scene: Scene, centre: npt.NDArray[np.intp], radius_mm: float, hu: float) -> None:
    """A small dense ball with a soft edge at the voxel index `centre`."""
    box = around(centre, radius_mm + 1, scene.hu.shape, scene.head.spacing_mm)
    r = np.sqrt(sum(o**2 for o in offsets_mm(centre, box, scene.head.spacing_mm)))
    share = np.clip(radius_mm + 0.5 - r, 0, 1).astype(np.float32)
    scene.hu[box] = scene.hu[box] * (1 - share) + share * np.float32(hu)


def _fill(scene: Scene, rng: np.random.Generator, mask: Mask, hu: float) -> None:
    """Give `mask` the density of a clot: `hu` with a grain, and an edge that is not cut with a knife."""
    if not mask.any():
        return
    box = _box_of(mask, 4, scene.head.spacing_mm)
    grain = random_field(rng, mask[box].shape, (2, 4, 4)) * rng.uniform(1, 5)
    share = ndimage.gaussian_filter(mask[box].astype(np.float32), (0.3, 0.7, 0.7))
    share = np.where(mask[box], np.maximum(share, 0.6), share * 0.7)
    share = np.where(scene.hu[box] > BONE_HU, 0, share).astype(np.float32)
    scene.hu[box] = scene.hu[box] * (1 - share) + share * (hu + grain)


def _displace(scene: Scene, box: tuple[slice, ...], inward: list[Floats], push_mm: Floats) -> None:
    """Move the brain in `box` inward by `push_mm`; bone stays where it is."""
    hu = scene.hu[box]
    index = np.indices(hu.shape, dtype=np.float32)
    for axis, mm in enumerate(scene.head.spacing_mm):
        index[axis] -= inward[axis] * push_mm / np.float32(mm)
    moved = ndimage.map_coordinates(hu, index, order=1, mode="nearest")
    free = scene.head.intracranial[box] & (moved < BONE_HU) & (moved > -20) & (push_mm > 0.1)
    scene.hu[box] = np.where(free, moved, hu)


def _inward(depth: Floats, spacing_mm: tuple[float, float, float]) -> list[Floats]:
    """Unit vectors of growing depth, one array per axis."""
    smooth = ndimage.gaussian_filter(depth, (1, 2, 2))
    slopes = np.gradient(smooth, *spacing_mm)
    length = np.maximum(np.sqrt(sum(s**2 for s in slopes)), 1e-2)
    return [np.asarray(s / length, np.float32) for s in slopes]


def _box_of(mask: Mask, margin_mm: float, spacing_mm: tuple[float, float, float]) -> tuple[slice, ...]:
    box = []
    for axis, mm in enumerate(spacing_mm):
        at = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        reach = int(np.ceil(margin_mm / mm))
        box.append(slice(max(0, int(at[0]) - reach), min(mask.shape[axis], int(at[-1]) + reach + 1)))
    return tuple(box)


def _log(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
