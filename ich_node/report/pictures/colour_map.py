"""The colours of the heat map: perceptually uniform by construction, and safe for every kind of colour vision.

The table is a path through CIELAB from deep magenta over orange to pale yellow, cut into 256 steps of equal colour
difference (CIE 1976 ΔE*ab). Lightness rises along the whole path, so that it also reads in grey.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

LIGHTNESS = (34.0, 52.0, 70.0, 93.0)
"""Chosen: rises from end to end, so that the map reads the same in grey and to the colour-blind."""
HUE_DEG = (335.0, 385.0, 425.0, 463.0)  # chosen: magenta, red, orange, yellow: colours that a CT does not have
CHROMA = (62.0, 72.0, 74.0, 62.0)
"""Four points of the path in CIE LCh(ab), inside the sRGB gamut."""

WHITE_D65 = np.array([0.95047, 1.0, 1.08883])  # XYZ of D65 white for Y = 1, IEC 61966-2-1
XYZ_TO_SRGB = np.array(
    [[3.2404542, -1.5371385, -0.4985314], [-0.9692660, 1.8760108, 0.0415560], [0.0556434, -0.2040259, 1.0572252]]
)
"""Linear sRGB of XYZ under D65, IEC 61966-2-1."""


@cache
def heat_table() -> npt.NDArray[np.uint8]:
    """sRGB [256, 3] for values 0..1."""
    fine = np.linspace(0, 1, 4096)
    lab = _path(fine)
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(lab, axis=0), axis=1))])
    even = np.interp(np.linspace(0, length[-1], 256), length, fine)
    table = np.rint(255 * lab_to_srgb(_path(even))).astype(np.uint8)
    table.setflags(write=False)
    return table


def _path(t: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """CIELAB [n, 3] at positions 0..1 of the path, smooth through its four points."""
    knots = np.linspace(0, 1, len(LIGHTNESS))
    lightness, hue, chroma = (_smooth(t, knots, values) for values in (LIGHTNESS, HUE_DEG, CHROMA))
    angle = np.deg2rad(hue)
    return np.stack([lightness, chroma * np.cos(angle), chroma * np.sin(angle)], axis=-1)


def _smooth(
    t: npt.NDArray[np.float64], knots: npt.NDArray[np.float64], values: tuple[float, ...]
) -> npt.NDArray[np.float64]:
    """The cubic through all four points."""
    return np.asarray(np.polyval(np.polyfit(knots, values, len(values) - 1), t), np.float64)


def lab_to_srgb(lab: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """sRGB 0..1 [..., 3] of CIELAB [..., 3] under D65 (CIE 15, IEC 61966-2-1); out of gamut is cut off."""
    y = (lab[..., 0] + 16) / 116
    f = np.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], axis=-1)
    xyz = WHITE_D65 * np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29))
    linear = np.clip(xyz @ XYZ_TO_SRGB.T, 0, 1)
    return np.asarray(np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055), np.float64)
