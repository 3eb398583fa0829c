"""From tissue to Hounsfield units to slices: a simulated CT scanner with its blur, noise and artefacts.

`density` gives a head its HU; `scan` cuts slices out of a scene with a gantry that may be tilted and a head that may be
turned. Slices come foot to head, rows to posterior, columns to the patient's left.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ich_node.phantom.lesions import TYPES, Scene
from ich_node.phantom.tissue import BRAIN, Floats, Head, Mask, Tissue, distance_mm, random_field


@dataclass(frozen=True, slots=True)
class Protocol:
    """How the head is scanned. positions_mm: of the slice planes along the stack, from the foot end of the head grid.

    thickness_mm: of a slice. pixel_mm, rows, columns: the image. tilt_deg: head extended (+) or flexed (−) against the
    planes. roll_deg: in the image plane. zoom: size of the head. shift_mm: of the head (row, column). warp_mm: of a
    smooth deformation. noise_hu: standard deviation in the brain. blur_px, sharp: blur and
    overshoot of the kernel.
    """

    positions_mm: tuple[float, ...]
    thickness_mm: float = 5.0
    pixel_mm: float = 0.45
    rows: int = 512
    columns: int = 512
    tilt_deg: float = 0.0
    roll_deg: float = 0.0
    lean_deg: float = 0.0
    zoom: float = 1.0
    shift_mm: tuple[float, float] = (0.0, 0.0)
    warp_mm: float = 0.0
    noise_hu: float = 3.0
    blur_px: float = 0.6
    sharp: float = 0.0
    headrest: bool = True
    streaks: bool = False
    motion: bool = False

    @property
    def spacing_mm(self) -> float:
        """Mean distance of neighbouring planes; the thickness where there is but one."""
        return float(np.diff(self.positions_mm).mean()) if len(self.positions_mm) > 1 else self.thickness_mm


@dataclass(frozen=True, slots=True, eq=False)
class Slices:
    """hu: int16 [slices, rows, columns]. mask: bool [slices, 5, rows, columns], order of lesions.TYPES."""

    hu: npt.NDArray[np.int16]
    mask: Mask


def density(head: Head, rng: np.random.Generator) -> Floats:
    """HU of a healthy head, float32 [planes, rows, columns]; age, sulci and calcification vary."""
    grey = rng.uniform(37, 43)
    white = grey - rng.uniform(4, 8)
    fluid = rng.uniform(2, 10)
    hu = _table(rng, grey, white, fluid)[head.tissue]
    _sulci(head, rng, hu, grey, fluid)
    brain = head.any_of(*BRAIN)
    shape = hu.shape
    hu += brain * (random_field(rng, shape, (3, 6, 6)) * rng.uniform(0.3, 1.0)).astype(np.float32)
    hu += brain * (random_field(rng, shape, (12, 25, 25)) * rng.uniform(0.2, 1.2)).astype(np.float32)
    soft = head.tissue == Tissue.SOFT
    hu += soft * (random_field(rng, shape, (7, 14, 14)) * rng.uniform(10, 30)).astype(np.float32)
    if rng.uniform() < 0.35:
        near = np.exp(-distance_mm(head.any_of(Tissue.LATERAL_VENTRICLE), head.spacing_mm) / rng.uniform(5, 14))
        hu -= (head.tissue == Tissue.WHITE) * (near * rng.uniform(3, 8)).astype(np.float32)
    return np.asarray(hu, np.float32)


def _table(rng: np.random.Generator, grey: float, white: float, fluid: float) -> Floats:
    hu = np.zeros(len(Tissue), np.float32)
    dura = rng.uniform(42, 62)
    hu[Tissue.AIR] = -1000
    hu[Tissue.WHITE], hu[Tissue.GREY], hu[Tissue.DEEP_GREY] = white, grey, grey + rng.uniform(-2, 2)
    hu[Tissue.CSF] = hu[Tissue.LATERAL_VENTRICLE] = fluid
    hu[Tissue.MIDLINE_VENTRICLE] = fluid + 2
    hu[Tissue.BRAIN_STEM] = grey - rng.uniform(2, 6)
    hu[Tissue.CEREBELLAR_WHITE], hu[Tissue.CEREBELLAR_GREY] = white + rng.uniform(0, 3), grey - rng.uniform(0, 3)
    hu[Tissue.DURA] = dura
    hu[Tissue.VENOUS_SINUS] = rng.uniform(46, 68)
    hu[Tissue.ARTERY] = rng.uniform(38, 52) if rng.uniform() < 0.85 else rng.uniform(52, 75)
    hu[Tissue.BONE], hu[Tissue.DIPLOE] = rng.uniform(1100, 1700), rng.uniform(350, 800)
    hu[Tissue.EYE], hu[Tissue.LENS] = rng.uniform(5, 15), rng.uniform(50, 80)
    hu[Tissue.FAT], hu[Tissue.SOFT], hu[Tissue.SKIN] = rng.uniform(-110, -80), rng.uniform(35, 60), rng.uniform(10, 45)
    return hu


def _sulci(head: Head, rng: np.random.Generator, hu: Floats, grey: float, fluid: float) -> None:
    """Sulci narrower than the age-dependent width are seen as a mixture of cortex and CSF, as in the young."""
    closed_mm = rng.uniform(0, 2.0) if rng.uniform() < 0.75 else 0.0
    thin = (head.tissue == Tissue.CSF) & (head.sulcus_mm > 0) & (head.depth_mm < 22)
    share = np.clip((head.sulcus_mm[thin] - closed_mm) / 1.5 + 0.25, rng.uniform(0.05, 0.5), 1)
    hu[thin] = (grey - 4) * (1 - share) + fluid * share


# --- the gantry ----------------------------------------------------------------------------------------------------


def scan(scene: Scene, protocol: Protocol, rng: np.random.Generator) -> Slices:
    """The slices that `protocol` takes of `scene`, with noise and artefacts drawn from `rng`."""
    head = scene.head
    smooth = protocol.thickness_mm / np.sqrt(12) / head.spacing_mm[0]
    hu = ndimage.gaussian_filter(scene.hu + _hardening(head, rng), (smooth, 0.45, 0.45), truncate=2.5)
    at = _sample_points(protocol, head, rng)
    image = _sampled(hu, at, -1000.0)
    mask = np.zeros((len(image), len(TYPES), protocol.rows, protocol.columns), np.bool_)
    for lesion in scene.lesions:
        soft = ndimage.gaussian_filter(lesion.mask.astype(np.float32), (smooth, 0, 0), truncate=2.5)
        mask[:, TYPES.index(lesion.label)] |= _sampled(soft, at, 0.0) > 0.5
    return Slices(_exposed(image, protocol, rng), mask)


def _hardening(head: Head, rng: np.random.Generator) -> Floats:
    """The bright rim that beam hardening leaves under the skull."""
    rim = rng.uniform(0, 5) * np.exp(-head.depth_mm / rng.uniform(1.5, 4))
    return np.asarray(head.intracranial * rim, np.float32)


def _sample_points(protocol: Protocol, head: Head, rng: np.random.Generator) -> Floats:
    """Voxel coordinates [3, slices, rows, columns] in the head grid of every pixel."""
    half = np.array([n * mm / 2 for n, mm in zip(head.tissue.shape, head.spacing_mm, strict=True)])
    z = (np.asarray(protocol.positions_mm) - half[0]).astype(np.float32)[:, None, None]
    y = (np.arange(protocol.rows) - (protocol.rows - 1) / 2) * protocol.pixel_mm - protocol.shift_mm[0]
    x = (np.arange(protocol.columns) - (protocol.columns - 1) / 2) * protocol.pixel_mm - protocol.shift_mm[1]
    image = (z, y.astype(np.float32)[None, :, None], x.astype(np.float32)[None, None, :])
    matrix = _rotation(protocol) / protocol.zoom
    points = np.empty((3, len(protocol.positions_mm), protocol.rows, protocol.columns), np.float32)
    for axis in range(3):
        mm = sum(np.float32(matrix[axis, j]) * image[j] for j in range(3))
        if protocol.warp_mm:
            mm = mm + _warp(protocol, rng)
        points[axis] = (mm + half[axis]) / head.spacing_mm[axis] - 0.5
    return points


def _warp(protocol: Protocol, rng: np.random.Generator) -> Floats:
    shape = (len(protocol.positions_mm), protocol.rows, protocol.columns)
    size = tuple(40 / mm for mm in (max(protocol.spacing_mm, 1.0), protocol.pixel_mm, protocol.pixel_mm))
    return random_field(rng, shape, size) * np.float32(protocol.warp_mm)


def _rotation(protocol: Protocol) -> npt.NDArray[np.float64]:
    """Turns (z, y, x): tilt about the left-right axis, lean about the front-back axis, roll in the image plane."""
    tilt, lean, roll = np.deg2rad([protocol.tilt_deg, protocol.lean_deg, protocol.roll_deg])
    about_x = np.array([[np.cos(tilt), np.sin(tilt), 0], [-np.sin(tilt), np.cos(tilt), 0], [0, 0, 1]])
    about_y = np.array([[np.cos(lean), 0, np.sin(lean)], [0, 1, 0], [-np.sin(lean), 0, np.cos(lean)]])
    about_z = np.array([[1, 0, 0], [0, np.cos(roll), np.sin(roll)], [0, -np.sin(roll), np.cos(roll)]])
    return np.asarray(about_x @ about_y @ about_z)


def _sampled(grid: Floats, at: Floats, outside: float) -> Floats:
    images = [ndimage.map_coordinates(grid, at[:, i], order=1, cval=outside) for i in range(at.shape[1])]
    return np.stack(images).astype(np.float32)


# --- what a real scanner adds ----------------------------------------------------------------------------------------


def _exposed(image: Floats, protocol: Protocol, rng: np.random.Generator) -> npt.NDArray[np.int16]:
    """Kernel, noise, streaks, motion and headrest; HU int16."""
    rest = _headrest(protocol, rng) if protocol.headrest else None
    grain = rng.uniform(0.45, 0.9)
    taken = []
    for one in image:
        hu = ndimage.gaussian_filter(one, protocol.blur_px)
        if protocol.sharp:
            hu = hu + protocol.sharp * (hu - ndimage.gaussian_filter(hu, 1.2)) * (np.abs(hu) < 250)
        if protocol.streaks and rng.uniform() < 0.5:
            hu = hu + _streaks(hu, rng)
        hu = hu + _noise(hu, protocol, grain, rng)
        if protocol.motion and rng.uniform() < 0.4:
            hu = 0.6 * hu + 0.4 * np.roll(hu, int(rng.integers(-4, 5)), axis=int(rng.integers(0, 2)))
        if rest is not None:
            hu = np.where((hu < -500) & (rest > -1000), rest, hu)
        taken.append(np.clip(np.round(hu), -1024, 3071).astype(np.int16))
    return np.stack(taken)


def _noise(hu: Floats, protocol: Protocol, grain: float, rng: np.random.Generator) -> Floats:
    """Correlated noise, less in the air around the head."""
    noise = rng.standard_normal(hu.shape, dtype=np.float32)
    noise = ndimage.gaussian_filter(noise, grain * 0.45 / min(protocol.pixel_mm, 0.9))
    coarse = np.kron(hu[::8, ::8] > -300, np.ones((8, 8), np.bool_))[: hu.shape[0], : hu.shape[1]]
    return np.asarray(noise / noise.std() * protocol.noise_hu * (0.4 + 0.6 * coarse), np.float32)


def _streaks(hu: Floats, rng: np.random.Generator) -> Floats:
    """Dark and bright bands between dense bones, at a random angle."""
    angle = float(rng.uniform(-12, 12))
    bone = ndimage.rotate((hu > 500).astype(np.float32)[::2, ::2], angle, reshape=False, order=1)
    band = bone.sum(axis=1)
    band = (band - ndimage.gaussian_filter1d(band, 5)) * rng.uniform(0.2, 0.9)
    bands = np.repeat(np.clip(band, -12, 12)[:, None], bone.shape[1], axis=1)
    whole = np.kron(ndimage.rotate(bands, -angle, reshape=False, order=1), np.ones((2, 2)))
    return np.asarray(whole[: hu.shape[0], : hu.shape[1]] * (np.abs(hu) < 200), np.float32)


def _headrest(protocol: Protocol, rng: np.random.Generator) -> Floats:
    """An open shell behind the head."""
    y, x = np.mgrid[: protocol.rows, : protocol.columns].astype(np.float32)
    y = (y - protocol.rows / 2) * protocol.pixel_mm
    x = (x - protocol.columns / 2) * protocol.pixel_mm
    radius = rng.uniform(108, 135)
    shell = np.abs(np.hypot(y - rng.uniform(-8, 8), x) - radius) < rng.uniform(1, 2.5)
    low = y > rng.uniform(20, 70)
    return np.where(shell & low, np.float32(rng.uniform(-300, 120)), np.float32(-1024))
