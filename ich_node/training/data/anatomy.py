"""Are these the heads of people, at their true size and in HU? Every source is asked before anything is trained on it.

A source whose millimetres or units are wrong trains a network that is wrong in the same way, and cross-validation on
that source does not notice: a head that is too large fills its box to the limit, and the rim where thin blood lies is
cut off. So each source is held against anatomy here, by what the network will be shown of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ich_node.infer.say import skull
from ich_node.infer.see.blocks import block_mean
from ich_node.infer.see.crop import SIDE_MM, Crop

HEAD_HU = -200  # as the crop: skin and fat are above, air below
LENGTH_MM = (165.0, 215.0)
"""Median length of the heads of a source, front to back with skin: adults have 175 to 210 mm."""
WIDTH_MM = (130.0, 170.0)  # chosen: adults have 140 to 165 mm with skin; a wrong pixel size leaves the range
BRAIN_HU = (22.0, 42.0)  # chosen: white matter has 28, grey 35 HU; a wrong window or intercept leaves the range
CSF_HU = (-5.0, 25.0)
"""The darkest fiftieth of the blocks of 2 mm inside the skull: fluid, with partial volume in the young."""
AIR_HU = (-1030.0, -700.0)
"""Along the front edge of the boxes; loose, because the air of a bone window's picture is the end of that window."""
HEAD_SHARE = (0.25, 0.75)
"""Of the box, in the slices that show most of the head: an ellipse of 0.8 · 1.0 in a square with a margin has 0.56."""
LIMIT_MM = 2.0  # chosen: a box within 2 mm of its limits was clipped


class NotHumanError(ValueError):
    """A source whose heads are not those of people at their true size, in HU."""


@dataclass(frozen=True, slots=True)
class Anatomy:
    """What one study shows: millimetres, HU, share of the box that is head, and whether the box is at its limit."""

    length_mm: float
    width_mm: float
    brain_hu: float
    csf_hu: float
    air_hu: float
    head_share: float
    at_limit: bool


def measure(box: Crop) -> Anatomy | None:
    """The anatomy of a study in its head box; None where no skull encloses anything."""
    pixel_mm = box.side_mm / box.hu.shape[1]
    step = max(1, round(skull.GRID_MM / pixel_mm))
    hu = block_mean(box.hu, (step, step))
    inside = skull.intracranial(hu)
    if not inside.any():
        return None
    area = inside.sum(axis=(1, 2))
    large = np.flatnonzero(area > 0.8 * area.max())  # the level of the ventricles and above it: no face, no neck
    head = hu[large] > HEAD_HU
    within = hu[inside]
    return Anatomy(
        length_mm=_extent(head, 1) * step * pixel_mm,
        width_mm=_extent(head, 2) * step * pixel_mm,
        brain_hu=float(np.median(within)),
        csf_hu=float(np.percentile(within, 2)),
        air_hu=float(np.median(box.hu[:, 0, :])),
        head_share=float(np.median(head.mean(axis=(1, 2)))),
        at_limit=bool(box.side_mm > SIDE_MM[1] - LIMIT_MM or box.side_mm < SIDE_MM[0] + LIMIT_MM),
    )


def _extent(head: npt.NDArray[np.bool_], axis: int) -> float:
    """Median over the slices of how many blocks the head spans along `axis`; single blocks (tubes) do not count."""
    lines = head.sum(axis=3 - axis) > 5
    spans = [np.flatnonzero(line) for line in lines]
    return float(np.median([span[-1] - span[0] + 1 for span in spans if len(span)] or [0.0]))


def table(found: Iterable[Anatomy | None]) -> dict[str, float]:
    """Medians over the studies of a source, the share of boxes at their limit, and the number of studies."""
    heads = [one for one in found if one is not None]
    if not heads:
        raise NotHumanError("no skull encloses anything in any study")
    medians = {
        name: round(float(np.median([getattr(one, name) for one in heads])), 2)
        for name in Anatomy.__slots__
        if name != "at_limit"
    }
    return {**medians, "share_at_limit": round(float(np.mean([one.at_limit for one in heads])), 3), "heads": len(heads)}


def require_human(source: str, figures: dict[str, float]) -> None:
    """Raises NotHumanError with what is wrong when the table of `source` is not that of adult heads in HU."""
    limits = {
        "length_mm": LENGTH_MM,
        "width_mm": WIDTH_MM,
        "brain_hu": BRAIN_HU,
        "csf_hu": CSF_HU,
        "air_hu": AIR_HU,
        "head_share": HEAD_SHARE,
        "share_at_limit": (0.0, 0.0),
    }
    wrong = [
        f"{name} is {figures[name]:g}, must be {low:g} to {high:g}"
        for name, (low, high) in limits.items()
        if not low <= figures[name] <= high
    ]
    if wrong:
        raise NotHumanError(f"{source}: these are not heads of people at their true size in HU: " + "; ".join(wrong))
