"""Where the blood of a type can lie at all: on the dura, in a ventricle. Anatomy, not the model's opinion.

In: the blood under the CAM of a type, on the blocks of `Inside`, and the fit to the standard head. Out: whether the
type can be its name. What bleeds between skull and dura, or under the dura, lies on it; blood that brain surrounds does
not. Blood inside the brain or between its folds may lie anywhere: contusions reach the surface, cisterns the middle.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ich_node.infer.say import headspace
from ich_node.infer.say.headspace import INFRATENTORIAL, REGIONS, HeadFrame
from ich_node.infer.say.skull import Inside
from ich_node.infer.see.blocks import Mask

THICKEST_MM = 30.0
"""Of a collection on the dura; chosen: 30 mm are half of half a head. A quarter of the blood of a layer lies within a
quarter of its thickness from the dura."""

AT_TENTORIUM = (0.1, 0.9)
"""Chosen: share of standard heads that have a point below the tentorium, where it runs through that point in some."""

IN_VENTRICLE = 0.05
"""Chosen: mean share of standard heads in which the blood's place is a ventricle. Low, since ventricles differ: blood
in them was seen with .16 and more."""

VENTRICLES = ("lateral ventricle", "third ventricle", "fourth ventricle")
Distances = npt.NDArray[np.float64]


def possible(label: str, blood: Mask, space: Inside, frame: HeadFrame | None) -> bool:
    """Whether `blood` [slices, h, w] can be of this type; True where the head did not fit or no blood is given.

    Epidural: a quarter of it within THICKEST_MM / 4 of the inner table. Subdural: or of falx or tentorium, which are
    dura too. Intraventricular: where ventricles are. The other types: anywhere.
    """
    if frame is None or not blood.any() or label not in ("epidural", "subdural", "intraventricular"):
        return True
    at = frame.to_template(space.positions(blood))
    region = headspace.shipped().region_probability(at)
    if label == "intraventricular":
        return bool(region[:, [REGIONS.index(name) for name in VENTRICLES]].sum(axis=1).mean() >= IN_VENTRICLE)
    mm = np.minimum(_within_slice_mm(blood, space), -headspace.shipped().distance(at))
    if label == "subdural":
        below = region[:, [REGIONS.index(name) for name in INFRATENTORIAL]].sum(axis=1)
        mm = np.where((below > AT_TENTORIUM[0]) & (below < AT_TENTORIUM[1]), 0, np.minimum(mm, np.abs(at[:, 0])))
    return bool(np.percentile(mm, 25) <= THICKEST_MM / 4)


def _within_slice_mm(blood: Mask, space: Inside) -> Distances:
    """From every block of blood to the nearest one outside the skull in its slice, in the order of argwhere.

    More exact than the standard head, but near the vertex it does not see the bone above.
    """
    shown = blood.any(axis=(1, 2))
    depth = [ndimage.distance_transform_edt(inside, sampling=space.block_mm) for inside in space.mask[shown]]
    return np.asarray(np.stack(depth)[blood[shown]], np.float64)
