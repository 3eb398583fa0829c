"""The slices worth showing, each with what lies on it: of every finding the best, and its ends if they are far enough.

Many thin slices show the same; so no two pictures of a finding lie closer than APART_MM. A study without a finding has
a survey instead: three slices that show what was looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

from ich_node.domain.findings import KeySlice, Prediction, Volume
from ich_node.infer.say import explain, locate
from ich_node.infer.say.evidence import ANY, Evidence
from ich_node.infer.say.headspace import HeadFrame
from ich_node.infer.say.skull import Inside
from ich_node.infer.see.crop import Crop
from ich_node.infer.see.heights import Array

APART_MM = 10.0
"""Two slices of the usual thickness: what lies closer shows the same."""

LEVELS = (0.25, 0.5, 0.75)
"""Shares of the height of the brain at which a survey looks: base, ventricles, convexity."""

BRAIN_SHARE = 0.3
"""A slice shows brain when its inside of the skull is at least this share of the largest."""


def key_slices(
    volume: Volume,
    prediction: Prediction,
    evidence: Mapping[str, Evidence],
    crop: Crop,
    which: Literal["key", "all"],
    space: Inside,
    frame: HeadFrame | None,
) -> tuple[KeySlice, ...]:
    """The slices to show, foot to head, each with the heat of one label on the stored CT grid.

    "key": the best slice of every finding, its first and its last; none without evidence. "all": every slice with
    "any".
    """
    chosen = spread(evidence, volume.heights_mm) if which == "key" else dict.fromkeys(range(len(volume.hu)), ANY)
    shown = []
    for index, label in sorted(chosen.items()):
        heat = explain.slice_heat(prediction, label, index, crop, space)
        found = evidence.get(label)
        name = _most_on(index, evidence) if label == ANY else label
        side, sites = locate.on_slice(found, index, name, space, frame) if found else (None, ())
        shown.append(KeySlice(index, label, heat, side, sites, locate.midplane(volume, index, frame)))
    return tuple(shown)


def _most_on(index: int, evidence: Mapping[str, Evidence]) -> str:
    """The type with most evidence on a slice, after which its place is named; "any" where there is none."""
    on_slice = {label: float(found.place[index].sum()) for label, found in evidence.items() if label != ANY}
    return max(on_slice, key=on_slice.__getitem__) if any(on_slice.values()) else ANY


def spread(evidence: Mapping[str, Evidence], heights_mm: Array) -> dict[int, str]:
    """Slice → the label to show there. A slice that is the best of several types shows "any".

    Types go first; "any" shows only what lies apart from all of theirs.
    """
    chosen: dict[int, str] = {}
    for label in (*(label for label in evidence if label != ANY), *(label for label in evidence if label == ANY)):
        lit = np.flatnonzero(evidence[label].lit.any(axis=(1, 2)))
        if not len(lit):
            continue
        own: list[int] = [] if label != ANY else list(chosen)
        for index in (evidence[label].best, int(lit[0]), int(lit[-1])):
            if all(abs(heights_mm[index] - heights_mm[other]) >= APART_MM - 0.5 for other in own):
                own.append(index)
                chosen[index] = ANY if chosen.get(index, label) != label else label
    return chosen


def survey(space: Inside, heights_mm: Array) -> tuple[int, ...]:
    """Three slices through the lower, middle and upper brain, foot to head; fewer where there are fewer."""
    area = space.mask.sum(axis=(1, 2))
    brain = np.flatnonzero(area >= BRAIN_SHARE * area.max())  # every slice where no skull was found
    low, high = heights_mm[brain[0]], heights_mm[brain[-1]]
    at = [int(np.argmin(np.abs(heights_mm - (low + share * (high - low))))) for share in LEVELS]
    return tuple(dict.fromkeys(at))
