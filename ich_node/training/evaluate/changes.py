"""How fast does it fall? Studies changed as other scanners, senders and mistakes change them.

Every change takes HU [slices, rows, columns] and a spacing in mm and gives both back. One change at a time, at growing
strength. What is measured on changed studies, and with which network, is `evaluate.stress`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ich_node.infer.see.crop import AIR_HU

Hu = npt.NDArray[np.int16]
Spacing = tuple[float, float, float]
Change = Callable[[Hu, Spacing, float], tuple[Hu, Spacing]]

DENSEST_HU = 3071  # of 12 stored bits
GRAIN_PX = 0.6  # chosen: neighbouring pixels share some noise, as after a soft kernel
KERNEL_PX = 1.5  # chosen: what separates a soft from a standard kernel, about 0.6 mm
MIDDLE_HU = 40  # of the brain windows in use


def _whole(hu: npt.NDArray[np.floating]) -> Hu:
    return np.asarray(np.round(np.clip(hu, AIR_HU, DENSEST_HU)), np.int16)


def noise(hu: Hu, spacing: Spacing, sd: float) -> tuple[Hu, Spacing]:
    """Noise of `sd` HU more than there is, as of a lower dose; the same for the same shape."""
    rng = np.random.default_rng(0)
    taken = np.empty(hu.shape, np.int16)
    for index, image in enumerate(hu):
        grain = ndimage.gaussian_filter(rng.standard_normal(image.shape, dtype=np.float32), GRAIN_PX)
        taken[index] = _whole(image + grain * (sd / grain.std()))
    return taken, spacing


def kernel(hu: Hu, spacing: Spacing, strength: float) -> tuple[Hu, Spacing]:
    """A softer (negative) or sharper (positive) reconstruction; −1 is blurred by `KERNEL_PX`."""
    taken = np.empty(hu.shape, np.int16)
    for index, image in enumerate(hu.astype(np.float32)):
        taken[index] = _whole(image + strength * (image - ndimage.gaussian_filter(image, KERNEL_PX)))
    return taken, spacing


def offset(hu: Hu, spacing: Spacing, by: float) -> tuple[Hu, Spacing]:
    """A scanner whose water has `by` HU."""
    return _whole(hu.astype(np.float32) + by), spacing


def window(hu: Hu, spacing: Spacing, width: float) -> tuple[Hu, Spacing]:
    """A picture in 8 bits of a window around 40 HU, turned to HU again: what lies outside is at the window's ends."""
    low = MIDDLE_HU - width / 2
    grey = np.round(np.clip((hu.astype(np.float32) - low) / width, 0, 1) * 255)
    return _whole(grey / 255 * width + low), spacing


def scale(hu: Hu, spacing: Spacing, factor: float) -> tuple[Hu, Spacing]:
    """A sender whose Pixel Spacing is wrong by `factor`."""
    return hu, (spacing[0], spacing[1] * factor, spacing[2] * factor)


def thickness(hu: Hu, spacing: Spacing, slices: float) -> tuple[Hu, Spacing]:
    """Slices as thick as `slices` of them, and as far apart; the last may hold fewer."""
    count = round(slices)
    parts = [hu[start : start + count].mean(axis=0) for start in range(0, len(hu), count)]
    return _whole(np.stack(parts)), (spacing[0] * count, *spacing[1:])


def tilt(hu: Hu, spacing: Spacing, degrees: float) -> tuple[Hu, Spacing]:
    """A gantry tilted by `degrees` and not put straight: every slice is shifted against the last, by whole pixels."""
    per_slice = np.tan(np.deg2rad(degrees)) * spacing[0] / spacing[1]
    taken = np.full(hu.shape, AIR_HU, np.int16)
    rows = hu.shape[1]
    for index, image in enumerate(hu):
        by = round(per_slice * (index - (len(hu) - 1) / 2))
        kept = max(0, rows - abs(by))
        taken[index, max(0, by) : max(0, by) + kept] = image[max(0, -by) : max(0, -by) + kept]
    return taken, spacing


CHANGES: Mapping[str, tuple[Change, float, tuple[float, ...]]] = {
    "Pixel Spacing, wrong by a factor": (scale, 1, (0.8, 0.9, 1.1, 1.2)),
    "offset of all HU": (offset, 0, (-10, 10)),
    "8 bits of a window, width in HU": (window, 4096, (80,)),
    "added noise, HU": (noise, 0, (5, 10)),
    "slices put together": (thickness, 1, (2,)),
    "kernel, soft to sharp": (kernel, 0, (-0.8, 1.2)),
    "tilt, degrees": (tilt, 0, (20,)),
}
"""Of every change: what it does, the strength at which it does nothing, and the strengths that are measured."""


def labels_of(labels: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.float32]:
    """Labels [slices, 6] of a study of which `count` slices are left: a slice has what any slice in it has."""
    per = -(-len(labels) // count)
    return np.stack([labels[start : start + per].max(axis=0) for start in range(0, len(labels), per)])
