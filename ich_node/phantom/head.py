"""A head from formulas: skull with diploe, scalp, brain, ventricles, cisterns, falx, tentorium, eyes and skull base.

It stands in for a patient in the demo and the tests, and takes part in training; no data of a person is in it. The
same seed gives the same head, bit for bit, on the same numpy. Coordinates inside this module are millimetres from the
middle of the brain: x to the patient's left, y to posterior, z to the head.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ich_node.phantom import lesions
from ich_node.phantom.lesions import Lesion, Scene, dot
from ich_node.phantom.scanner import Protocol, density, scan
from ich_node.phantom.tissue import (
    Floats,
    Head,
    Mask,
    Tissue,
    distance_mm,
    measured,
    pick,
    random_field,
)

Point = tuple[float, float, float]

GRID_MM = (2.0, 1.0, 1.0)  # chosen: across slices as fine as they are usually cut, in plane about two pixels
VISIBLE_MM3 = 6000  # chosen: 6 ml, a hemorrhage that nobody overlooks
BOX_MM = (176.0, 236.0, 190.0)
"""Chosen: an adult head with skin and a margin: left to right, front to back, foot to head."""
BRAIN_MIDDLE_MM = (92.0, 122.0, 95.0)  # where the middle of the brain lies in that box


@dataclass(frozen=True, slots=True, eq=False)
class Phantom:
    """A scanned phantom. hu: int16 [slices, rows, columns], foot → head, rows to posterior, columns to patient left.

    mask: bool [slices, 5, rows, columns], one per type. spacing_mm: (slice, row, column). truth: one entry per lesion,
    with its label, side and site.
    """

    hu: npt.NDArray[np.int16]
    mask: Mask
    spacing_mm: tuple[float, float, float]
    truth: tuple[Lesion, ...]


def phantom(label: str | None, *, slices: int = 32, rows: int = 512, columns: int = 512, seed: int = 0) -> Phantom:
    """A whole head CT with one hemorrhage of type `label` (None: without), 5 mm slices, pixels for a 230 mm image."""
    rng = np.random.default_rng([seed, 20260401])
    anatomy = head(rng)
    healthy = Scene(anatomy, density(anatomy, rng))
    calcify(healthy, rng)
    scene = healthy if label is None else _bleeding(healthy, label, rng)
    spacing = 160.0 / slices
    start = 14.0 + rng.uniform(-1, 1)
    protocol = Protocol(
        positions_mm=tuple(start + spacing * (i + 0.5) for i in range(slices)),
        thickness_mm=spacing,
        pixel_mm=230.0 / max(rows, columns),
        rows=rows,
        columns=columns,
        tilt_deg=float(rng.uniform(-6, 6)),
        roll_deg=float(rng.normal(0, 3)),
        shift_mm=(float(rng.normal(0, 3)), float(rng.normal(0, 3))),
    )
    taken = scan(scene, protocol, rng)
    return Phantom(taken.hu, taken.mask, (spacing, protocol.pixel_mm, protocol.pixel_mm), tuple(scene.lesions))


def _bleeding(healthy: Scene, label: str, rng: np.random.Generator) -> Scene:
    """The head with a hemorrhage large enough to be seen by a person: of some tries, the first of at least 6 ml."""
    best = healthy
    for _ in range(12):
        scene = Scene(healthy.head, healthy.hu.copy())
        lesion = lesions.add(scene, label, rng, size=1.6)
        if lesion and (not best.lesions or lesion.mask.sum() > best.lesions[0].mask.sum()):
            best = scene
        if best.lesions and best.lesions[0].mask.sum() * np.prod(GRID_MM) >= VISIBLE_MM3:
            return best
    return best


def calcify(scene: Scene, rng: np.random.Generator) -> None:
    """The ordinary calcifications of adults: pineal gland and choroid plexus, in most heads."""
    spots = []
    ventricle = scene.head.any_of(Tissue.LATERAL_VENTRICLE)
    for side in (True, False):
        rows = np.nonzero(ventricle & (scene.head.left == side))[1]
        if len(rows) and rng.uniform() < 0.6:
            back = np.arange(ventricle.shape[1])[None, :, None] > np.percentile(rows, 65)
            spots.append(pick(rng, ventricle & back & (scene.head.left == side)))
    middle = np.argwhere(scene.head.any_of(Tissue.MIDLINE_VENTRICLE) & ~scene.head.infratentorial)
    if len(middle) and rng.uniform() < 0.6:
        spots.append((middle.mean(axis=0) + np.array([0, rng.uniform(14, 20), 0])).astype(np.intp))
    for spot in spots:
        if spot is not None:
            dot(scene, spot, rng.uniform(0.8, 2.2), rng.uniform(120, 400))


# --- anatomy -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _Frame:
    """Warped coordinates in mm, float32 [planes, rows, columns] each, and the generator that shapes this head."""

    x: Floats
    y: Floats
    z: Floats
    rng: np.random.Generator

    def ball(self, centre: Point, radii: Point, power: float = 2) -> Mask:
        """The inside of a (super)ellipsoid; centre and radii as (x, y, z)."""
        box = self._box(
            [c - r for c, r in zip(centre, radii, strict=True)], [c + r for c, r in zip(centre, radii, strict=True)]
        )
        axes = (self.x[box], self.y[box], self.z[box])
        parts = [np.abs((axis - c) / r) ** power for axis, c, r in zip(axes, centre, radii, strict=True)]
        return self._whole(box, sum(parts) < 1)

    def tube(self, points: list[Point], radius: float) -> Mask:
        """Everything within `radius` of the polyline through `points`."""
        inside = np.zeros(self.x.shape, np.bool_)
        for a, b in pairwise(points):
            low, high = np.minimum(a, b) - radius, np.maximum(a, b) + radius
            box = self._box(low, high)
            inside[box] |= self._segment_mm(np.array(a), np.array(b), box) < radius
        return inside

    def _segment_mm(self, a: npt.NDArray[np.float64], b: npt.NDArray[np.float64], box: tuple[slice, ...]) -> Floats:
        d = (b - a).astype(np.float32)
        px, py, pz = (axis[box] - np.float32(v) for axis, v in zip((self.x, self.y, self.z), a, strict=True))
        t = np.clip((px * d[0] + py * d[1] + pz * d[2]) / float(d @ d), 0, 1)
        return np.asarray(np.sqrt((px - t * d[0]) ** 2 + (py - t * d[1]) ** 2 + (pz - t * d[2]) ** 2), np.float32)

    def _box(self, low: npt.ArrayLike, high: npt.ArrayLike) -> tuple[slice, ...]:
        """Voxels that may have coordinates between low and high (x, y, z): the grid's box with room for the warp."""
        bounds = zip(np.asarray(low)[::-1], np.asarray(high)[::-1], BRAIN_MIDDLE_MM, GRID_MM, self.x.shape, strict=True)
        box = []
        for a, b, middle, mm, n in bounds:
            first, last = min(0.85 * a, 1.18 * a) - 6, max(0.85 * b, 1.18 * b) + 6
            box.append(slice(int(np.clip((first + middle) / mm, 0, n)), int(np.clip((last + middle) / mm + 1, 0, n))))
        return tuple(box)

    def _whole(self, box: tuple[slice, ...], part: npt.NDArray[np.bool_]) -> Mask:
        whole = np.zeros(self.x.shape, np.bool_)
        whole[box] = part
        return whole


def head(rng: np.random.Generator) -> Head:
    """A healthy head of formulas, of a random size, shape and age, on a grid of 2 × 1 × 1 mm."""
    frame = _frame(rng)
    cavity = _cavity(frame)
    away = distance_mm(cavity, GRID_MM)
    tissue = _outside(frame, cavity, away)
    _inside(frame, cavity, tissue)
    intracranial = cavity & ~np.isin(tissue, (Tissue.BONE, Tissue.DIPLOE))
    return measured(tissue, frame.x > 0, _below_tentorium(frame), intracranial, GRID_MM)


def _frame(rng: np.random.Generator) -> _Frame:
    """Coordinates with the head's own size and a gentle, smooth asymmetry."""
    shape = tuple(int(n / mm) for n, mm in zip(BOX_MM, GRID_MM, strict=True))
    scale = rng.normal(1, 0.03) * np.exp(rng.normal(0, 0.025, 3))
    axes = []
    for axis, (n, mm, middle) in enumerate(zip(shape, GRID_MM, BRAIN_MIDDLE_MM, strict=True)):
        line = ((np.arange(n) + 0.5) * mm - middle) / scale[axis]
        line = line.astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        axes.append(line + random_field(rng, shape, (22, 45, 45)) * np.float32(1.3))
    return _Frame(axes[2], axes[1], axes[0], rng)


def _cavity(frame: _Frame) -> Mask:
    """The inside of the skull: an egg on the three steps of the skull base."""
    x, y, z = frame.x, frame.y, frame.z
    back = np.where(y > 0, 80 + 4 * np.cos(np.clip(x / 30, -1.5, 1.5)), 80).astype(np.float32)
    half = 66 - 7 * np.clip(-y / 80, 0, 1) ** 2
    egg = (np.abs(x) / half) ** 2.25 + (np.abs(y) / back) ** 2.25 + (np.abs(z) / np.where(z > 0, 68, 66)) ** 2.2 < 1
    orbit_roof = 16 * np.exp(-np.hypot((np.abs(x) - 30) / 12, (y + 66) / 20))
    front = z > -29 + orbit_roof + 0.035 * np.clip(np.abs(x) - 32, 0, None) ** 2
    # Every floor is a bowl: a level one would fill a thick slice with a mean of bone and brain, which looks like blood.
    middle = (z > -49 + 0.016 * (y + 12) ** 2 + 0.03 * (np.abs(x) - 34) ** 2) & (np.abs(x) > 9)
    deep = np.clip(-(z + 16) / 50, 0, 1)
    rear = ((x / 62) ** 2 + ((y - 36) / 46) ** 2 < (1 - deep**2.5)) & (z > -66)
    rear |= z > -18 - 0.2 * np.clip(np.abs(x) - 40, 0, None)
    ridge = np.exp(-(((y - (24 - 0.5 * np.abs(x))) / 5) ** 2)) * (np.abs(x) > 12)
    petrous = z < -40 + 20 * ridge - 0.1 * np.abs(np.abs(x) - 30)
    sella = (x / 8) ** 2 + ((y + 14) / 8) ** 2 + ((z + 25) / 9) ** 2 < 1
    clivus = (np.abs(x) <= 12) & (y > -8 - 0.42 * (z + 22))
    planum = (np.abs(x) < 9) & (y <= -22) & (z > -26)
    floor = np.where(y < -36, front, np.where(y < 10, middle | planum | sella | clivus | (z > -21), rear))
    floor &= ~(petrous & (ridge > 0.3))
    canal = (x / 15) ** 2 + ((y - 20) / 17) ** 2 < 1
    inside = (egg & floor) | (canal & (z < -40) & (z > -64))
    return np.asarray(ndimage.gaussian_filter(inside.astype(np.float32), (1.0, 2.0, 2.0), truncate=2) > 0.5, np.bool_)


def _outside(frame: _Frame, cavity: Mask, away: Floats) -> npt.NDArray[np.uint8]:
    """Everything around the cavity: bone, diploe, scalp, face, orbits, air spaces, neck."""
    rng, x, y, z = frame.rng, frame.x, frame.y, frame.z
    shape = away.shape
    thick = rng.uniform(4.0, 6.5) * (1 + 0.22 * random_field(rng, shape, (12, 25, 25)))
    thick = thick + 5 * np.exp(-(((y - 76) / 9) ** 2 + (x / 9) ** 2 + ((z + 8) / 14) ** 2)) + 2 * (z < -18)
    outer = thick + rng.uniform(3.5, 7.5) * (1 + 0.15 * random_field(rng, shape, (12, 25, 25)))
    tissue = np.zeros(shape, np.uint8)
    lower = z < 4
    face = frame.ball((0, -50, -52), (54, 62, 64), 2.4) & lower
    neck = frame.ball((0, 22, -76), (52, 56, 80), 2.4) & lower
    body = (away < outer) | face | neck
    tissue[body] = Tissue.SOFT
    fatty = body & (away > thick + 1.2) & (random_field(rng, shape, (6, 11, 11)) > rng.uniform(-0.6, 0.8))
    tissue[fatty] = Tissue.FAT
    rim = body & ~ndimage.binary_erosion(body, np.ones((1, 3, 3)), iterations=2)
    tissue[rim & (away > thick)] = Tissue.SKIN
    _face(frame, tissue, face)
    shell = (away < thick) & (away > 0)
    tissue[shell] = Tissue.BONE
    tissue[shell & (away > 0.33 * thick) & (away < 0.68 * thick) & (thick > 4)] = Tissue.DIPLOE
    _air_spaces(frame, tissue, shell)
    canal = ((x / 15) ** 2 + ((y - 20) / 17) ** 2 < 1) & (z < -62)
    tissue[canal] = Tissue.CSF
    tissue[canal & ((x / 7) ** 2 + ((y - 18) / 7) ** 2 < 1)] = Tissue.BRAIN_STEM
    arch = (np.abs(np.hypot(x / 1.05, y - 20) - 22) < 4) & (z < -70)
    tissue[arch & ~canal] = Tissue.BONE
    tissue[cavity] = Tissue.CSF
    return tissue


def _face(frame: _Frame, tissue: npt.NDArray[np.uint8], face: Mask) -> None:
    """Orbits with eyes and lenses in fat, orbital walls, cheekbones and the upper jaw."""
    for side in (1, -1):
        orbit = frame.ball((side * 32, -74, -32), (19, 27, 17))
        wall = frame.ball((side * 32, -72, -32), (22, 29, 20)) & (frame.y > -88)
        tissue[wall & face & ~orbit] = Tissue.BONE
        tissue[orbit & face] = Tissue.FAT
        tissue[frame.tube([(side * 32, -80, -32), (side * 16, -44, -30)], 2.0) & face] = Tissue.SOFT
        tissue[frame.ball((side * 32, -86, -32), (12, 12, 12))] = Tissue.EYE
        tissue[frame.ball((side * 32, -96, -32), (4.5, 2.2, 4.5))] = Tissue.LENS
        tissue[frame.tube([(side * 44, -84, -48), (side * 60, -58, -48), (side * 64, -30, -44)], 3.5)] = Tissue.BONE
    jaw = (np.abs(np.hypot(frame.x, (frame.y + 62) * 0.8) - 30) < 5) & (frame.y < -60) & (frame.z < -62)
    tissue[jaw & face] = Tissue.BONE


def _air_spaces(frame: _Frame, tissue: npt.NDArray[np.uint8], shell: Mask) -> None:
    """Nose, paranasal sinuses and mastoid cells."""
    cells = random_field(frame.rng, tissue.shape, (2, 3.5, 3.5)) > 0.1
    nose = frame.ball((0, -74, -52), (13, 30, 18), 2.5) & (np.abs(np.abs(frame.x) - 6.5) > 1.2)
    tissue[nose & (np.abs(frame.x) > 1)] = Tissue.AIR
    for side in (1, -1):
        tissue[frame.ball((side * 28, -66, -58), (13, 15, 12), 2.5)] = Tissue.AIR
        mastoid = frame.ball((side * 52, 24, -44), (13, 16, 17))
        petrous = (np.abs(np.abs(frame.x) - 34) < 22) & (np.abs(frame.y - 22 + 0.45 * np.abs(frame.x)) < 6)
        bone = (mastoid & (tissue != Tissue.CSF)) | (petrous & (frame.z < -24) & (frame.z > -50) & (tissue > 0))
        tissue[bone & (side * frame.x > 0)] = Tissue.BONE
        tissue[mastoid & cells & (tissue == Tissue.BONE)] = Tissue.AIR
    tissue[frame.ball((0, -28, -38), (13, 12, 11), 2.5) & (np.abs(frame.x) > 0.8)] = Tissue.AIR
    frontal = frame.ball((0, -84, -8), (24, 5, 14))
    if frame.rng.uniform() < 0.7:
        tissue[frontal & shell] = Tissue.AIR


def _below_tentorium(frame: _Frame) -> Mask:
    """The tentorium is a tent: high in the middle, low at the sides and behind."""
    roof = -14 - 0.32 * np.abs(frame.x) - 0.10 * np.clip(frame.y - 14, 0, None)
    return np.asarray((frame.y > -4) & (frame.z < roof), np.bool_)


def _inside(frame: _Frame, cavity: Mask, tissue: npt.NDArray[np.uint8]) -> None:
    """Brain, fluid spaces and dura."""
    rng, x, z = frame.rng, frame.x, frame.z
    depth = distance_mm(~cavity, GRID_MM)
    below = _below_tentorium(frame)
    fluid_mm = rng.uniform(0.8, 3.2) * (1 + 0.5 * np.clip((z - 30) / 30, 0, 1))  # more of it over the vertex
    folds = np.abs(random_field(rng, x.shape, (4.5, 9, 9))) + 0.012 * depth
    sulcus = (folds < rng.uniform(0.08, 0.24)) & (depth < 17)
    cortex = (depth < fluid_mm + rng.uniform(2, 3.5)) | ((folds < 0.5) & (depth < 32))
    brain = cavity & (depth > fluid_mm) & ~sulcus & (z > -62)
    tissue[brain & ~below & ~cortex] = Tissue.WHITE
    tissue[brain & ~below & cortex] = Tissue.GREY
    _posterior_fossa(frame, brain & below, tissue)
    _deep(frame, tissue)
    _ventricles(frame, tissue)
    _cisterns(frame, cavity, tissue, below)
    _dura(frame, cavity, tissue, depth, below)


def _posterior_fossa(frame: _Frame, brain: Mask, tissue: npt.NDArray[np.uint8]) -> None:
    folia = np.abs(np.sin((frame.z + 0.35 * frame.y) / 2.2)) > 0.45
    white = frame.ball((0, 36, -38), (34, 22, 12))
    tissue[brain] = Tissue.CEREBELLAR_GREY
    tissue[brain & white & folia] = Tissue.CEREBELLAR_WHITE
    stem = frame.tube([(0, 2, -16), (0, 6, -34), (0, 16, -66)], 11.0) & (tissue > 0) & (tissue < Tissue.DURA)
    tissue[stem] = Tissue.BRAIN_STEM
    tissue[frame.ball((0, 20, -34), (7, 4.5, 9))] = Tissue.MIDLINE_VENTRICLE


def _deep(frame: _Frame, tissue: npt.NDArray[np.uint8]) -> None:
    for side in (1, -1):
        thalamus = frame.ball((side * 11, 8, 0), (9, 15, 10))
        putamen = frame.ball((side * 26, -10, -2), (5.5, 18, 11))
        caudate = frame.ball((side * 13, -24, 5), (5, 9, 10))
        tissue[(thalamus | putamen | caudate) & (tissue > 0)] = Tissue.DEEP_GREY


def _ventricles(frame: _Frame, tissue: npt.NDArray[np.uint8]) -> None:
    wide = frame.rng.uniform(3.6, 7.5)
    for side in (1, -1):
        width = wide * frame.rng.uniform(0.88, 1.12)
        body = frame.tube([(side * 9, -36, 4), (side * 9, -18, 12), (side * 12, 10, 18), (side * 22, 36, 10)], width)
        horns = frame.tube([(side * 24, 36, 8), (side * 20, 60, 4)], width * 0.7)
        horns |= frame.tube([(side * 26, 34, 6), (side * 34, 8, -16), (side * 30, -8, -22)], width * 0.5)
        tissue[(body | horns) & (np.abs(frame.x) > 1.2) & (side * frame.x > 0)] = Tissue.LATERAL_VENTRICLE
    third = (np.abs(frame.x) < wide * 0.4) & (((frame.y - 2) / 15) ** 2 + ((frame.z + 2) / 11) ** 2 < 1)
    tissue[third] = Tissue.MIDLINE_VENTRICLE


def _cisterns(frame: _Frame, cavity: Mask, tissue: npt.NDArray[np.uint8], below: Mask) -> None:
    """Suprasellar, ambient and quadrigeminal cisterns, Sylvian fissures, the gap between the hemispheres."""
    star = frame.ball((0, -16, -19), (19, 14, 9), 1.2)
    shell = np.abs(np.hypot(frame.x, frame.y - 4) - 14.5) < frame.rng.uniform(1.2, 2.6)
    ambient = shell & (frame.z > -26) & (frame.z < -10) & (frame.y > -12)
    plate = frame.ball((0, 22, -12), (9, 5, 6))
    gap = (np.abs(frame.x) < frame.rng.uniform(1.2, 2.2)) & ~below & ((frame.z > 24) | (np.abs(frame.y) > 46))
    fissure = np.zeros(cavity.shape, np.bool_)
    width = frame.rng.uniform(0.9, 2.4)
    for side in (1, -1):
        fissure |= frame.tube([(side * 20, -18, -24), (side * 36, -20, -14), (side * 44, 0, -4)], width + 0.6)
        lateral = side * frame.x
        insula = (np.abs(lateral - 40) < 0.5 * width) & (np.abs(frame.y + 8) < 20) & (np.abs(frame.z) < 12)
        branch = (np.abs(frame.z + 8 - 0.9 * (frame.y + 12)) < 0.8 * width) & (lateral > 39)
        fissure |= insula | (branch & (frame.y > -30) & (frame.y < 18))
    ring = cavity & (star | ambient | plate | gap | fissure)
    tissue[ring & (frame.z > -60)] = Tissue.CSF
    for side in (1, -1):
        artery = frame.tube([(side * 6, -16, -24), (side * 22, -18, -24), (side * 38, -14, -14)], 1.3)
        tissue[artery & cavity] = Tissue.ARTERY
    tissue[frame.tube([(0, -12, -22), (0, -7, -44)], 1.6) & cavity] = Tissue.ARTERY


def _dura(frame: _Frame, cavity: Mask, tissue: npt.NDArray[np.uint8], depth: Floats, below: Mask) -> None:
    """Falx, tentorium and the venous sinuses along them."""
    x, y, z = frame.x, frame.y, frame.z
    free_edge = 22 - 0.10 * np.clip(y, -60, 60) - 10 * (np.abs(y) > 50)
    falx = (np.abs(x) < 0.5) & cavity & ~below & ((z > free_edge) | ((np.abs(y) > 52) & (z > -12))) & (depth > 0)
    above = np.roll(below, 1, axis=0) & ~below
    tent = cavity & above & (np.hypot(x, y - 4) > 17)
    sagittal = (np.abs(x) + 0.8 * depth < 4.5) & cavity & (z > 0) & (depth > 0)
    torcula = frame.ball((0, 77, -14), (4.5, 4, 5))
    transverse = (depth < 5) & (depth > 0) & (np.abs(z + 18 + 0.2 * np.abs(x)) < 4.5) & (y > 18) & (np.abs(x) > 4)
    tissue[falx | tent] = Tissue.DURA
    tissue[(sagittal | torcula | transverse) & cavity] = Tissue.VENOUS_SINUS
