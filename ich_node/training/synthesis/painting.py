"""Lesions painted on real slices without hemorrhage: real texture, exact masks.

Works on the images of a pool (int16 [256, 256], 1.15 times the head box, about 0.9 mm a pixel). The shapes are
those of one slice: a lens or a crescent on the inner table, a clot with oedema, blood in ventricles or sulci. Three in
ten are harmless: the same shapes as fluid or as bone, or a skull that is cut obliquely, so that not the painting but
the density of blood decides.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ich_node.phantom.lesions import TYPES
from ich_node.phantom.tissue import Floats, Mask, random_field
from ich_node.training.data.pool import PIXELS, Pool

PIXEL_MM = 0.9
SMALLEST_PX = 32
WEIGHTS = (0.3, 0.22, 0.12, 0.14, 0.22)
HARMLESS_SHARE = 0.3


@dataclass(slots=True, eq=False)
class Canvas:
    """One slice: hu float32 [256, 256], the intracranial space, the depth in it in pixels, hu without its noise."""

    hu: Floats
    inside: Mask
    depth: Floats
    quiet: Floats


def canvas(hu: npt.NDArray[np.int16]) -> Canvas | None:
    """Ready a slice for painting; None where bone does not enclose enough brain."""
    image = hu.astype(np.float32)
    skull = ndimage.binary_closing(image > 250, iterations=3)
    space = ndimage.binary_fill_holes(skull) & ~skull
    labels, count = ndimage.label(ndimage.binary_opening(space, iterations=2))
    if count == 0:
        return None
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    inside = ndimage.binary_dilation(labels == sizes.argmax(), iterations=3) & (
        ndimage.gaussian_filter(image, 0.7) < 110
    )
    inside &= space | ndimage.binary_dilation(space, iterations=2)
    brain = inside & (image > -5) & (image < 80)
    if inside.sum() < 2500 or brain.sum() < 0.85 * inside.sum():
        return None
    depth = np.asarray(ndimage.distance_transform_edt(inside), np.float32)
    return Canvas(image, inside, depth, ndimage.gaussian_filter(image, 1.2))


def paint(
    hu: npt.NDArray[np.int16], rng: np.random.Generator
) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.uint8]] | None:
    """Put one or two lesions on a slice: (HU, bits uint8 [256, 256] with bit j for type j), or None if none fits.

    No bit is set where what was painted is harmless.
    """
    ready = canvas(hu)
    if ready is None:
        return None
    bits = np.zeros(ready.hu.shape, np.uint8)
    if rng.uniform() < HARMLESS_SHARE:
        _harmless(ready, rng)
    else:
        _bleed(ready, bits, rng)
        if not bits.any():
            return None
    return np.round(np.clip(ready.hu, -1024, 3071)).astype(np.int16), bits


def _bleed(ready: Canvas, bits: npt.NDArray[np.uint8], rng: np.random.Generator) -> None:
    makers = (_epidural, _parenchymal, _ventricular, _subarachnoid, _subdural)
    count = 1 if rng.uniform() < 0.75 else 2
    for kind in rng.choice(len(TYPES), count, replace=False, p=WEIGHTS):
        mask = makers[kind](ready, rng)
        if mask is not None and mask.sum() >= SMALLEST_PX:
            _fill(ready, mask, _blood(ready.hu.shape, mask, rng), rng)
            bits |= mask.astype(np.uint8) << np.uint8(kind)


def _harmless(ready: Canvas, rng: np.random.Generator) -> None:
    """Fluid outside the brain or an infarct in it, a thick skull or a calcification, a skull cut obliquely."""
    what = rng.choice(("oblique", "fluid", "bone"), p=(0.4, 0.3, 0.3))
    if what == "oblique":
        blurred = ndimage.gaussian_filter(np.minimum(ready.hu, rng.uniform(250, 700)), rng.uniform(0.9, 2.0))
        at = ready.inside & (ready.depth < rng.uniform(2, 5)) & (blurred > ready.quiet)
        ready.hu = np.where(at, blurred, ready.hu).astype(np.float32)
        return
    maker = (_epidural, _parenchymal, _subdural)[int(rng.integers(3))]
    mask = maker(ready, rng)
    if what == "bone" and maker is _parenchymal:
        mask &= ndimage.distance_transform_edt(mask) > max(0.0, float(ndimage.distance_transform_edt(mask).max()) - 3)
    density = rng.uniform(3, 24) if what == "fluid" else rng.uniform(120, 700)
    _fill(ready, mask, np.full(mask.shape, density), rng)


def painted(pool: Pool, count: int, rng: np.random.Generator) -> Pool:
    """A pool of `count` paintings on negative slices of `pool`; each keeps the patient it was painted on."""
    negatives = np.flatnonzero(pool.labels[:, 0] == 0)
    hu: list[npt.NDArray[np.int16]] = []
    bits: list[npt.NDArray[np.uint8]] = []
    patient: list[int] = []
    while len(hu) < count:
        index = int(rng.choice(negatives))
        made = paint(pool.hu[index], rng)
        if made is not None:
            hu.append(made[0])
            bits.append(made[1].reshape(PIXELS // 2, 2, PIXELS // 2, 2).max(axis=(1, 3)))
            patient.append(int(pool.patient[index]))
    stack = np.stack(bits)
    present = np.stack([((stack >> j) & 1).any(axis=(1, 2)) for j in range(len(TYPES))], axis=1)
    labels = np.concatenate([present.any(axis=1, keepdims=True), present], axis=1).astype(np.float32)
    known = np.ones((count, labels.shape[1]), np.float32)
    return Pool(np.stack(hu), labels, stack, known, np.array(patient, np.int32), np.zeros(count, np.bool_))


def _around(ready: Canvas, rng: np.random.Generator) -> tuple[Floats, npt.NDArray[np.intp]]:
    """Distance in pixels along the inner table, roughly, from a point drawn on it."""
    edge = np.argwhere(ready.inside & (ready.depth < 2))
    start = edge[rng.integers(len(edge))]
    rows, columns = np.mgrid[: ready.hu.shape[0], : ready.hu.shape[1]]
    centre = ndimage.center_of_mass(ready.inside)
    angle = np.arctan2(rows - centre[0], columns - centre[1])
    own = np.arctan2(start[0] - centre[0], start[1] - centre[1])
    turn = np.abs((angle - own + np.pi) % (2 * np.pi) - np.pi)
    return (turn * np.hypot(*(start - np.array(centre)))).astype(np.float32), start


def _epidural(ready: Canvas, rng: np.random.Generator) -> Mask:
    along, _ = _around(ready, rng)
    half = float(np.exp(rng.uniform(np.log(9), np.log(42))))
    height = float(np.clip(half * rng.uniform(0.12, 0.75), 3, 26))
    limit = height * np.clip(1 - (along / half) ** 2, 0, 1) ** 0.55
    return _layer(ready, limit, rng)


def _subdural(ready: Canvas, rng: np.random.Generator) -> Mask:
    along, start = _around(ready, rng)
    half = rng.uniform(35, 120)
    height = float(np.exp(rng.uniform(np.log(3), np.log(14))))
    limit = height * np.clip(1 - (along / half) ** 4, 0, 1) ** 0.8
    middle = ndimage.center_of_mass(ready.inside)[1]
    columns = np.arange(ready.hu.shape[1])[None, :]
    own_side = (columns - middle) * np.sign(start[1] - middle) > -2
    return np.asarray(_layer(ready, limit, rng) & own_side, np.bool_)


def _layer(ready: Canvas, limit: Floats, rng: np.random.Generator) -> Mask:
    """What is nearer the inner table than `limit`, after the brain has moved out of the way."""
    rough = 1 + 0.14 * random_field(rng, ready.hu.shape, 12.0)
    mask = ready.inside & (ready.depth < limit * rough)
    slope = np.stack(np.gradient(ndimage.gaussian_filter(ready.depth, 2)))
    slope /= np.maximum(np.hypot(*slope), 0.05)
    push = limit * 0.8 * np.exp(-np.clip(ready.depth - limit, 0, None) / rng.uniform(10, 25)) * (ready.inside & ~mask)
    at = np.indices(ready.hu.shape) - slope * push
    moved = ndimage.map_coordinates(ready.hu, at, order=1, mode="nearest")
    ready.hu = np.where(ready.inside & ~mask & (moved < 110) & (moved > -15), moved, ready.hu).astype(np.float32)
    return np.asarray(mask, np.bool_)


def _parenchymal(ready: Canvas, rng: np.random.Generator) -> Mask:
    where = np.argwhere(ready.inside & (ready.depth > 3))
    mask = np.zeros(ready.hu.shape, np.bool_)
    base = where[rng.integers(len(where))]
    rows, columns = np.indices(ready.hu.shape, dtype=np.float32)
    several = rng.uniform() < 0.25
    for turn in range(int(rng.integers(2, 5)) if several else 1):
        centre = base + (rng.normal(0, 12, 2) if turn else 0)
        radius = float(np.exp(rng.uniform(np.log(3.5), np.log(8 if several else 25))))
        angle, ratio = rng.uniform(0, np.pi), rng.uniform(0.55, 1)
        dy, dx = rows - centre[0], columns - centre[1]
        u, v = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
        mask |= np.hypot(u, v / ratio) / radius + 0.2 * random_field(rng, mask.shape, max(3.0, radius * 0.7)) < 1
    mask &= ready.inside & (ready.depth > 1.5) & (ready.quiet > 12)
    if mask.any() and rng.uniform() < 0.8:
        away = ndimage.distance_transform_edt(~mask)
        rim = np.clip(1 - away / rng.uniform(3, 11), 0, 1) * (ready.inside & ~mask & (ready.quiet > 15))
        ready.hu = (ready.hu - rim * rng.uniform(3, 14)).astype(np.float32)
    return mask


def _ventricular(ready: Canvas, rng: np.random.Generator) -> Mask | None:
    dark = ndimage.binary_opening(ready.inside & (ready.quiet < 18) & (ready.depth > 20))
    labels, count = ndimage.label(dark)
    sizes = np.bincount(labels.ravel(), minlength=2)[1:]
    large = np.flatnonzero(sizes > 35) + 1
    if count == 0 or len(large) == 0:
        return None
    chosen = large if rng.uniform() < 0.4 else [rng.choice(large)]
    mask = ndimage.binary_dilation(np.isin(labels, chosen)) & ready.inside
    if rng.uniform() < 0.55:
        level = np.percentile(np.nonzero(mask)[0], rng.uniform(10, 75))
        mask &= np.arange(mask.shape[0])[:, None] > level
    return np.asarray(mask, np.bool_)


def _subarachnoid(ready: Canvas, rng: np.random.Generator) -> Mask:
    where = np.argwhere(ready.inside)
    centre = where[rng.integers(len(where))]
    rows, columns = np.indices(ready.hu.shape)
    near = np.hypot(rows - centre[0], columns - centre[1]) + 6 * random_field(rng, ready.hu.shape, 8.0)
    dark = ready.inside & (ready.quiet < 25) & (near < rng.uniform(18, 55)) & (ready.depth < 40)
    return np.asarray(ndimage.binary_dilation(dark) & ready.inside & (ready.quiet < 31), np.bool_)


def _blood(shape: tuple[int, ...], mask: Mask, rng: np.random.Generator) -> Floats:
    """HU of a clot with its grain; sometimes settled, lighter in front."""
    blood = rng.uniform(46, 78) + random_field(rng, shape, 4.0) * rng.uniform(1, 4)
    if rng.uniform() < 0.12:
        blood = blood - rng.uniform(5, 15) * (np.arange(shape[0])[:, None] < np.nonzero(mask)[0].mean())
    return np.asarray(blood, np.float32)


def _fill(ready: Canvas, mask: Mask, density: Floats, rng: np.random.Generator) -> None:
    """Give `mask` a density in HU, with the noise of the slice under it and a soft edge."""
    share = ndimage.gaussian_filter(mask.astype(np.float32), rng.uniform(0.5, 1.1))
    share = np.where(mask, np.maximum(share, 0.55), share) * (ready.hu < 130)
    noise = np.clip(ready.hu - ndimage.gaussian_filter(ready.hu, 1.2), -10, 10) * rng.uniform(0.8, 1.1)
    ready.hu = (ready.hu * (1 - share) + share * (density + noise)).astype(np.float32)
