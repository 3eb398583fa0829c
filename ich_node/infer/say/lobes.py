"""The lobes of the cerebrum as a few planes in the standard head, from textbook landmarks.

The label maps know no lobes. The borders below follow the course of the central sulcus, the Sylvian fissure and the
parieto-occipital sulcus in the space of Talairach and Tournoux (1988), moved and scaled to the extent of the cerebrum
in the template. They are straight where the brain is not: near a border no lobe is named.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

CEREBRUM_MM = ((-66.0, 66.0), (-90.0, 78.0), (-48.0, 66.0))
"""Extent of the cerebrum in the template along x, y, z."""

TALAIRACH_MM = ((-68.0, 68.0), (-70.0, 102.0), (-42.0, 74.0))
"""Extent of the cerebrum in Talairach's atlas, y here to posterior."""

LOBES = ("frontal lobe", "parietal lobe", "temporal lobe", "occipital lobe")
SURE_SHARE = 0.6  # chosen: clearly more than half; the planes are off by some millimetres


def name(positions: npt.NDArray[np.float64], weight: npt.NDArray[np.floating]) -> list[str]:
    """The lobe (or two) that holds the evidence at template positions [n, 3]; the hemisphere when it is unclear."""
    total = float(weight.sum())
    if total <= 0:
        return ["cerebral hemisphere"]
    which = lobe_index(positions)
    share = np.bincount(which, weights=weight, minlength=len(LOBES)) / total
    if share.max() >= SURE_SHARE:
        return [LOBES[int(share.argmax())]]
    best = np.argsort(-share)[:2]
    return [LOBES[index] for index in best] if share[best].min() >= 0.35 else ["cerebral hemisphere"]


def lobe_index(positions: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    """Index into LOBES for template positions [n, 3] in the cerebrum."""
    template, atlas = np.array(CEREBRUM_MM), np.array(TALAIRACH_MM)
    scale = (atlas[:, 1] - atlas[:, 0]) / (template[:, 1] - template[:, 0])
    x, y, z = ((positions - template.mean(axis=1)) * scale + atlas.mean(axis=1)).T
    lateral = np.abs(x)
    central = 38 - 0.6 * (74 - z) * np.clip(lateral / 55, 0, 1)
    behind_central = y > np.clip(central, 5, None)
    occipital = (y > 70 + 0.3 * np.clip(z, -15, 40)) & (z < 44)
    sylvian_z = -4 + 0.53 * np.clip(y, -22, 45)
    below = (z < -22) | ((z < sylvian_z) & (y > -22))
    temporal = below & (lateral > 16) & ~occipital
    index = np.where(behind_central, 1, 0)
    index = np.where(occipital, 3, index)
    return np.asarray(np.where(temporal, 2, index), np.intp)
