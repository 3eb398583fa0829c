"""What is bright, dark or odd in a head CT and is not a hemorrhage: the hard negatives of training.

Each function changes the HU of a `Scene` in place and leaves its lesions alone; sizes in millimetres.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from ich_node.phantom.lesions import Scene, blob, dot
from ich_node.phantom.tissue import BRAIN, Mask, Tissue, around, distance_mm, offsets_mm, pick, random_field


def add(scene: Scene, kind: str, rng: np.random.Generator) -> None:
    """Put a look-alike of `kind` (one of KINDS) into `scene`; nothing happens where this head has no room for it."""
    _MAKERS[kind](scene, rng)


def _blob(scene: Scene, rng: np.random.Generator, where: Mask, low: float, high: float) -> Mask:
    mask = np.zeros(scene.hu.shape, np.bool_)
    centre = pick(rng, where)
    if centre is not None:
        radius = float(np.exp(rng.uniform(np.log(low), np.log(high))))
        blob(mask, centre, radius * np.exp(rng.normal(0, 0.15, 3)), rng, scene.head.spacing_mm)
    return mask


def _blend(scene: Scene, mask: Mask, hu: float, share: float, sigma: float = 0.8) -> None:
    soft = ndimage.gaussian_filter(mask.astype(np.float32), (sigma / 2, sigma, sigma)) * share
    scene.hu += soft * (hu - scene.hu)


def _infarct(scene: Scene, rng: np.random.Generator) -> None:
    """A dark territory of one hemisphere."""
    brain = scene.head.any_of(*BRAIN)
    mask = _blob(scene, rng, scene.head.any_of(Tissue.GREY), 12, 40) & brain
    scene.hu -= ndimage.gaussian_filter(mask.astype(np.float32), (1, 2, 2)) * np.float32(rng.uniform(5, 18))


def _lacunes(scene: Scene, rng: np.random.Generator) -> None:
    for _ in range(int(rng.integers(1, 4))):
        mask = _blob(scene, rng, scene.head.any_of(Tissue.DEEP_GREY, Tissue.WHITE), 1.5, 4)
        _blend(scene, mask, float(rng.uniform(8, 18)), 0.9)


def _tumour(scene: Scene, rng: np.random.Generator) -> None:
    """A mass hardly denser than brain in its own oedema."""
    centre = _blob(scene, rng, scene.head.any_of(Tissue.WHITE), 6, 20)
    around_it = ndimage.binary_dilation(centre, iterations=int(rng.integers(3, 9)))
    swollen = (around_it & (scene.head.tissue == Tissue.WHITE)).astype(np.float32)
    scene.hu -= ndimage.gaussian_filter(swollen, (0.8, 1.5, 1.5)) * np.float32(rng.uniform(6, 14))
    _blend(scene, centre & scene.head.intracranial, float(rng.uniform(30, 44)), 0.75)


def _meningioma(scene: Scene, rng: np.random.Generator) -> None:
    """A round mass on the dura, somewhat dense or calcified."""
    surface = (scene.head.depth_mm > 0) & (scene.head.depth_mm < 3)
    mask = _blob(scene, rng, surface, 5, 14) & scene.head.intracranial
    _blend(scene, mask, float(rng.uniform(40, 48) if rng.uniform() < 0.4 else rng.uniform(110, 350)), 0.9)


def _hygroma(scene: Scene, rng: np.random.Generator) -> None:
    """A wide, dark subdural space on one side: chronic, nothing acute."""
    head = scene.head
    width = rng.uniform(3, 10)
    mask = (head.depth_mm > 0) & (head.depth_mm < width) & (head.left == (rng.uniform() < 0.5)) & ~head.infratentorial
    _blend(scene, mask & ~head.any_of(Tissue.VENOUS_SINUS), float(rng.uniform(3, 20)), 1.0)


def _craniotomy(scene: Scene, rng: np.random.Generator) -> None:
    """A bone flap or burr hole, sometimes with air under it."""
    head = scene.head
    centre = pick(rng, (head.depth_mm > 0) & (head.depth_mm < 2.1) & ~head.infratentorial)
    if centre is None:
        return
    radius = rng.uniform(8, 38)
    box = around(centre, radius + 14, head.tissue.shape, head.spacing_mm)
    r = np.sqrt(sum(o**2 for o in offsets_mm(centre, box, head.spacing_mm)))
    hole = np.abs(r - radius) < rng.uniform(0.8, 1.8) if rng.uniform() < 0.7 else r < radius
    bone = head.any_of(Tissue.BONE, Tissue.DIPLOE)[box]
    hu = scene.hu[box]
    hu[hole & bone] = rng.uniform(0, 40)
    if rng.uniform() < 0.5:
        depth = head.depth_mm[box]
        gas = (r < radius * 1.3) & (depth > 0) & (depth < rng.uniform(2, 6))
        hu[gas & (random_field(rng, r.shape, (3, 5, 5)) > rng.uniform(0.4, 1.4))] = -rng.uniform(200, 1000)


def _line(scene: Scene, rng: np.random.Generator, radius_mm: float, hu: float, outside: bool) -> None:
    """A straight dense thing: a shunt into the middle, or metal on the scalp."""
    head = scene.head
    start = pick(rng, (head.depth_mm > 0) & (head.depth_mm < 2.1) & ~head.infratentorial)
    goal = pick(rng, head.any_of(Tissue.LATERAL_VENTRICLE))
    if outside:
        start = pick(rng, head.any_of(Tissue.SKIN, Tissue.BONE))
        goal = None if start is None else start + np.rint(rng.normal(0, 6, 3)).astype(np.intp)
    if start is None or goal is None:
        return
    for part in np.linspace(0, 1, 90):
        centre = start * (1 - part) + goal * part
        box = around(centre, radius_mm + 1, head.tissue.shape, head.spacing_mm)
        if all(b.stop > b.start for b in box):
            r = np.sqrt(sum(o**2 for o in offsets_mm(centre, box, head.spacing_mm)))
            scene.hu[box] = np.where(r < radius_mm, np.float32(hu), scene.hu[box])


def _shunt(scene: Scene, rng: np.random.Generator) -> None:
    _line(scene, rng, 1.5, float(rng.uniform(120, 320)), outside=False)


def _metal(scene: Scene, rng: np.random.Generator) -> None:
    _line(scene, rng, float(rng.uniform(0.8, 2)), 3000.0, outside=True)


def _scalp_haematoma(scene: Scene, rng: np.random.Generator) -> None:
    """A dense swelling outside the skull, the commonest trap after a fall."""
    head = scene.head
    bone = head.any_of(Tissue.BONE, Tissue.DIPLOE)
    centre = pick(rng, head.any_of(Tissue.SKIN) & (np.arange(bone.shape[0]) > 30)[:, None, None])
    if centre is None:
        return
    radius, height = rng.uniform(15, 42), rng.uniform(4, 17)
    box = around(centre, radius, head.tissue.shape, head.spacing_mm)
    r = np.sqrt(sum(o**2 for o in offsets_mm(centre, box, head.spacing_mm)))
    solid = (bone | head.intracranial)[box]
    away = distance_mm(solid, head.spacing_mm) if solid.any() else np.full(r.shape, 99, np.float32)
    bump = ~solid & (away < height * np.sqrt(np.clip(1 - (r / radius) ** 2, 0, 1)) + 2) & (r < radius)
    grain = random_field(rng, r.shape, (3, 6, 6)) * 6
    scene.hu[box] = np.where(bump, np.float32(rng.uniform(38, 70)) + grain, scene.hu[box])


def _fracture(scene: Scene, rng: np.random.Generator) -> None:
    """A thin gap through the bone."""
    head = scene.head
    centre = pick(rng, head.any_of(Tissue.DIPLOE))
    if centre is None:
        return
    box = around(centre, rng.uniform(12, 40), head.tissue.shape, head.spacing_mm)
    normal = rng.normal(size=3)
    normal /= np.linalg.norm(normal)
    off = sum(n * o for n, o in zip(normal, offsets_mm(centre, box, head.spacing_mm), strict=True))
    gap = (np.abs(off + random_field(rng, off.shape, (4, 8, 8))) < 0.8) & head.any_of(Tissue.BONE, Tissue.DIPLOE)[box]
    scene.hu[box] = np.where(gap, np.float32(rng.uniform(30, 200)), scene.hu[box])


def _calcified_basal_ganglia(scene: Scene, rng: np.random.Generator) -> None:
    mask = scene.head.any_of(Tissue.DEEP_GREY) & (random_field(rng, scene.hu.shape, (2, 4, 4)) > rng.uniform(1.0, 2.0))
    _blend(scene, mask, float(rng.uniform(80, 220)), 0.9, sigma=0.5)


def _calcified_falx(scene: Scene, rng: np.random.Generator) -> None:
    mask = np.zeros(scene.hu.shape, np.bool_)
    for _ in range(int(rng.integers(1, 4))):
        mask |= _blob(scene, rng, scene.head.any_of(Tissue.DURA), 1.5, 5)
    _blend(scene, mask & ndimage.binary_dilation(scene.head.any_of(Tissue.DURA)), float(rng.uniform(100, 500)), 0.9)


def _thick_skull(scene: Scene, rng: np.random.Generator) -> None:
    """Bone that bulges inward (hyperostosis), with a wavy inner table and its partial volume."""
    head = scene.head
    wave = random_field(rng, scene.hu.shape, (9, 18, 18)) * rng.uniform(0.5, 2) + rng.uniform(0, 3)
    mask = (head.depth_mm > 0) & (head.depth_mm < wave) & ~head.infratentorial
    _blend(scene, mask, float(rng.uniform(500, 1200)), 1.0, sigma=0.6)


def _dense_sinus(scene: Scene, rng: np.random.Generator) -> None:
    """Dense venous blood in a young or dehydrated person, and a thick, dense tentorium."""
    dense = scene.head.any_of(Tissue.VENOUS_SINUS, Tissue.DURA) & scene.head.intracranial
    wide = ndimage.binary_dilation(dense, np.ones((1, 3, 3))) & scene.head.intracranial
    _blend(scene, wide & (scene.hu < 120), float(rng.uniform(50, 70)), 0.85, sigma=0.5)


def _swelling(scene: Scene, rng: np.random.Generator) -> None:
    """A brain whose fluid spaces are pressed out, so that falx and tentorium look dense."""
    fluid = scene.head.any_of(Tissue.CSF) & scene.head.intracranial
    scene.hu[fluid] = scene.hu[fluid] * 0.3 + 0.7 * np.float32(rng.uniform(24, 33))


def _choroid(scene: Scene, rng: np.random.Generator) -> None:
    """Large calcified choroid plexus in the trigones, as in many adults."""
    head = scene.head
    ventricle = head.any_of(Tissue.LATERAL_VENTRICLE)
    for side in (True, False):
        own = ventricle & (head.left == side)
        rows = np.nonzero(own)[1]
        if not len(rows) or rng.uniform() < 0.2:
            continue
        back = own & (np.arange(own.shape[1])[None, :, None] > np.percentile(rows, 55))
        for _ in range(int(rng.integers(1, 5))):
            spot = pick(rng, back)
            if spot is not None:
                dot(scene, spot, float(rng.uniform(1.5, 4.5)), float(rng.uniform(55, 350)))


def _base_bumps(scene: Scene, rng: np.random.Generator) -> None:
    """Bone that rises into the slice at base and vertex: its partial volume is as dense as blood."""
    head = scene.head
    inside = np.flatnonzero(head.intracranial.any(axis=(1, 2)))
    part = (np.arange(head.tissue.shape[0])[:, None, None] - inside[0]) / max(1, inside[-1] - inside[0])
    low = (head.depth_mm > 0) & (head.depth_mm < 2.5) & ((part < 0.4) | (part > 0.88))
    mask = np.zeros(scene.hu.shape, np.bool_)
    for _ in range(int(rng.integers(2, 9))):
        centre = pick(rng, low)
        if centre is not None:
            radii = np.exp(rng.uniform(np.log(2), np.log(8))) * np.array([0.5, 1.0, 1.0])
            blob(mask, centre, radii * np.exp(rng.normal(0, 0.2, 3)), rng, head.spacing_mm)
    soft = ndimage.gaussian_filter((mask & head.intracranial).astype(np.float32), (1.2, 1.0, 1.0))
    scene.hu += soft * np.float32(rng.uniform(0.05, 1.0)) * (np.float32(rng.uniform(200, 1100)) - scene.hu)


def _inner_rim(scene: Scene, rng: np.random.Generator) -> None:
    """A smooth bright rim under the vault, from beam hardening or a sloping inner table."""
    head = scene.head
    wave = np.clip(1 + 0.6 * random_field(rng, scene.hu.shape, (8, 22, 22)), 0, 3)
    rim = rng.uniform(5, 40) * wave * np.exp(-head.depth_mm / rng.uniform(1, 4))
    scene.hu += head.intracranial * rim.astype(np.float32)


def _dense_vessels(scene: Scene, rng: np.random.Generator) -> None:
    """A high haematocrit: arteries, veins and sinuses brighter than brain."""
    head = scene.head
    vessel = head.any_of(Tissue.ARTERY, Tissue.VENOUS_SINUS)
    if rng.uniform() < 0.6:
        vessel = ndimage.binary_dilation(vessel, np.ones((1, 3, 3))) & head.intracranial
    _blend(scene, vessel & (scene.hu < 120), float(rng.uniform(50, 74)), 0.9, sigma=0.4)


_MAKERS: dict[str, Callable[[Scene, np.random.Generator], None]] = {
    "infarct": _infarct,
    "lacunes": _lacunes,
    "tumour": _tumour,
    "meningioma": _meningioma,
    "hygroma": _hygroma,
    "craniotomy": _craniotomy,
    "shunt": _shunt,
    "metal": _metal,
    "scalp haematoma": _scalp_haematoma,
    "fracture": _fracture,
    "calcified basal ganglia": _calcified_basal_ganglia,
    "calcified falx": _calcified_falx,
    "thick skull": _thick_skull,
    "dense sinus": _dense_sinus,
    "swelling": _swelling,
    "choroid": _choroid,
    "base bumps": _base_bumps,
    "inner rim": _inner_rim,
    "dense vessels": _dense_vessels,
}

KINDS = tuple(_MAKERS)
