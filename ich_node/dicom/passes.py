"""Several images at a place: which of them form one pass of the scanner, and which pass is the one to analyse.

One Series Instance UID often holds more than one scan: a repeat after motion, a plain and a contrast phase, two
kernels, time points. In: where parallel slices lie along their normal, and how each was made. Out: the slices of one
pass, never a mixture. Pure. Nothing here depends on the order of the images or on UIDs, except to know the same
instance again.

Images are told apart by what their headers say, one attribute after the other (KEYS), and only where they compete for
the same stretch of the body: a thin base and a thick vertex, or a table that stops for every slice, stay one pass. Then
by runs of instance numbers. What still shares a place is left to a look at the pixels (`rivals`).

The rule of choice: enough slices for a head · plain before contrast · soft before sharp · the usual energy · whole
before part · later before earlier.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from ich_node.dicom.making import Made
from ich_node.domain.reasons import Reason, Why

Array = npt.NDArray[np.float64]

SAME_PLACE_MM = 0.05
"""Positions that differ by less are one: they are written with one to six decimals."""
CROWDED = 0.75
"""A slice closer to another than this share of that one's own step fills no hole: it is a second image of the place."""
HOLE = 1.5
"""A step this much wider than the usual one is a hole that another part of the scan may fill (geometry.GAP_FACTOR)."""
STRAYS = 0.1
"""At most this share of a scan, or one image, beside it are no scan of their own (geometry.STRAYS); chosen."""
OVERLAP = 0.25
"""A slice whose nearest neighbour lies that share of its own thickness inside it still shows something else; chosen."""
COMPETING = 1 / 3
"""Parts that share more than this of one of them are two scans; with less, the seam of one scan in two parts."""
WHOLE_MM = 10.0
"""A pass that is shorter than the longest by no more than two usual slices is whole too."""
MOST_PASSES = 8
"""More values than this of one attribute tell no passes apart; as many images at each place are a series over time."""
USUAL_KVP = 120.0
"""Of two energies the one nearer to what the model was trained on."""
ENOUGH = 10
"""As many slices as a head has at least (eligibility.MIN_SLICES)."""


KEYS: tuple[tuple[str, Callable[[Made], object]], ...] = (
    ("contrast", lambda made: made.contrast is not None),
    ("spectral", lambda made: str(made.spectral or "")),
    ("sharp", lambda made: made.sharp is not None),
    ("temporal", lambda made: made.temporal),
    ("acquisition", lambda made: made.acquisition),
    ("time", lambda made: made.time),
    ("kernel", lambda made: made.kernel),
    ("energy", lambda made: made.kvp),
    ("image_type", lambda made: made.image_type),
    ("thickness", lambda made: made.thickness_mm or 0.0),
    ("frame_of_reference", lambda made: made.frame_of_reference),
)
"""In this order: what matters most for the answer first, then time, then what may differ within one scan."""
NEVER_FILLING = ("contrast", "spectral", "sharp")
"""Slices with these fill no gaps of others. What else differs may: rotations in turn, a UID in every second slice."""
IN_TIME = ("temporal", "acquisition", "time")
"""Attributes whose order is that of the scan, and which may have a value for every slice."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One pass. order: indices foot to head, one per place. left_out: index → reason. rivals: the indices at each place
    where headers tell nothing apart. passes: how many there were; detail: what tells the chosen one from the others,
    in DICOM's words. over_time: so many images at each place that the series shows a flow.
    """

    order: tuple[int, ...]
    left_out: dict[int, Reason]
    rivals: tuple[tuple[int, ...], ...]
    passes: int
    detail: str
    over_time: bool


def choose(heights_mm: Array, made: Sequence[Made], uids: Sequence[object]) -> Choice:
    """One pass among parallel slices at `heights_mm`; `uids` know the same instance (or frame) again."""
    first = {uid: index for index, uid in reversed(list(enumerate(uids)))}
    left_out = {index: Reason(Why.SAME_INSTANCE) for index, uid in enumerate(uids) if first[uid] != index}
    members = sorted(first.values(), key=lambda index: _by_place(heights_mm, made, index))
    passes = _split(members, heights_mm, made)
    longest = max(_extent(one, heights_mm) for one in passes)
    ranks = [_rank(one, heights_mm, made, longest) for one in passes]
    best = max(ranks)
    chosen = [index for one, rank in zip(passes, ranks, strict=True) if rank == best for index in one]
    if sum(rank == best for rank in ranks) == 1:
        chosen = _trimmed(chosen, heights_mm, made)
    scans = [one for one in passes if len(one) > max(1, STRAYS * len(chosen))]
    strays = {index for one in passes if one not in scans for index in one}
    left_out |= {
        index: Reason(Why.SECOND_IMAGE if index in strays else Why.OTHER_ACQUISITION)
        for index in set(members) - set(chosen)
    }
    places = _places(chosen, heights_mm)
    order = tuple(place[0] for place in places)
    left_out |= {index: Reason(Why.SECOND_IMAGE) for place in places for index in place[1:]}
    return Choice(
        order=order,
        left_out=left_out,
        rivals=tuple(tuple(place) for place in places if len(place) > 1),
        passes=len(scans),
        detail=_detail(order, [index for one in scans for index in one], made) if len(scans) > 1 else "",
        over_time=len(members) >= MOST_PASSES * len(_places(members, heights_mm)),
    )


def _by_place(heights_mm: Array, made: Sequence[Made], index: int) -> tuple[float, float, int]:
    number = made[index].instance
    return round(float(heights_mm[index]), 3), np.inf if number is None else number, index


# --- telling passes apart ------------------------------------------------------------------------------------------


def _split(members: list[int], heights_mm: Array, made: Sequence[Made]) -> list[list[int]]:
    """The passes among `members`."""
    for name, value_of in KEYS:
        groups: dict[object, list[int]] = {}
        for index in members:
            groups.setdefault(value_of(made[index]), []).append(index)
        if len(groups) < 2 or (len(groups) > MOST_PASSES and name not in IN_TIME):
            continue
        thick = made if name not in NEVER_FILLING else ()
        runs = _runs([groups[value] for value in sorted(groups)], heights_mm, thick)  # type: ignore[type-var]
        if 1 < len(runs) <= MOST_PASSES:
            return [one for run in runs for one in _split(run, heights_mm, made)]
    runs = _numbered(members, heights_mm, made)
    return runs if 1 < len(runs) <= MOST_PASSES else [members]


def _runs(groups: list[list[int]], heights_mm: Array, made: Sequence[Made] = ()) -> list[list[int]]:
    """Groups in their order joined as long as they do not compete for the same stretch of the body.

    made: how the images were made, where they may fill each other's gaps.
    """
    runs: list[list[int]] = []
    for group in groups:
        if runs and not _compete(runs[-1], group, heights_mm, made):
            runs[-1] = [*runs[-1], *group]
        else:
            runs.append(group)
        if len(runs) > MOST_PASSES:
            break
    return runs


def _numbered(members: list[int], heights_mm: Array, made: Sequence[Made]) -> list[list[int]]:
    """Runs of instance numbers that go one way along the body; one when the numbers tell nothing."""
    numbers = [made[index].instance for index in members]
    if None in numbers or len(set(numbers)) < len(numbers):
        return [members]
    ordered = sorted(members, key=lambda index: made[index].instance or 0)
    groups, way = [[ordered[0]]], 0.0
    for below, above in pairwise(ordered):
        turn = float(np.sign(round(float(heights_mm[above] - heights_mm[below]), 3)))
        if turn == 0 or turn * way < 0:
            groups.append([above])
            way = 0.0
        else:
            groups[-1].append(above)
            way = turn
    few = len(groups) <= max(2, min(MOST_PASSES, len(members) // ENOUGH))
    return _runs(groups, heights_mm, made) if few else [members]


def _compete(one: list[int], other: list[int], heights_mm: Array, made: Sequence[Made] = ()) -> bool:
    """Whether two groups of slices show the same stretch of the body."""
    shares = (len(_crowding(a, b, heights_mm, made)) / len(a) for a, b in ((one, other), (other, one)))
    return any(share > COMPETING for share in shares)


def _crowding(slices: Sequence[int], others: Sequence[int], heights_mm: Array, made: Sequence[Made] = ()) -> list[int]:
    """Those of `slices` that are a second image of a place among `others`.

    made: a slice that fits between its neighbours by its thickness is none.
    """
    there = np.sort(heights_mm[list(others)])
    steps = np.diff(there)
    steps = steps[steps > SAME_PLACE_MM]
    usual_mm = float(np.median(steps)) if len(steps) else 0.0
    found = []
    for index in slices:
        height = float(heights_mm[index])
        above = int(np.searchsorted(there, height))
        around = there[[max(0, above - 1), min(above, len(there) - 1)]]
        if np.abs(around - height).min() <= SAME_PLACE_MM:
            found.append(index)
        elif 0 < above < len(there):
            step_mm = float(there[above] - there[above - 1])
            near_mm = min(height - there[above - 1], there[above] - height)
            thickness_mm = (made[index].thickness_mm or 0.0) if made else 0.0
            if 0 < (1 - OVERLAP) * thickness_mm <= near_mm:
                continue
            if step_mm < HOLE * usual_mm or near_mm < CROWDED * usual_mm / 2:
                found.append(index)
    return found


# --- choosing ------------------------------------------------------------------------------------------------------


def _extent(members: Sequence[int], heights_mm: Array) -> float:
    return float(np.ptp(heights_mm[list(members)]))


def _rank(members: list[int], heights_mm: Array, made: Sequence[Made], longest_mm: float) -> tuple[object, ...]:
    """The higher, the better; equal where nothing in the headers makes one better than the other."""
    mine = [made[index] for index in members]
    return (
        len(_places(members, heights_mm)) >= ENOUGH,
        not any(one.contrast for one in mine),
        not any(one.spectral for one in mine),
        not any(one.sharp for one in mine),
        -max(round(abs(one.kvp - USUAL_KVP) / 10) if one.kvp else 0 for one in mine),
        _extent(members, heights_mm) >= longest_mm - WHOLE_MM,
        max(one.temporal for one in mine),
        max(one.acquisition for one in mine),
        max(one.time for one in mine),
        round(_extent(members, heights_mm)),
        max(-1 if one.instance is None else one.instance for one in mine),
        tuple(sorted({(one.kernel, one.kvp, one.image_type, one.thickness_mm or 0.0) for one in mine})),
    )


def _trimmed(members: list[int], heights_mm: Array, made: Sequence[Made]) -> list[int]:
    """A pass in several parts without the slices where they overlap: those of the smaller part go."""
    parts: dict[tuple[object, ...], list[int]] = {}
    for index in members:
        one = made[index]
        parts.setdefault((one.temporal, one.acquisition, one.kernel, one.thickness_mm), []).append(index)
    kept: list[int] = []
    for part in sorted(parts.values(), key=lambda part: (-len(part), heights_mm[part[0]])):
        crowding = set(_crowding(part, kept, heights_mm, made)) if kept else set()
        kept += part if len(crowding) > COMPETING * len(part) else [index for index in part if index not in crowding]
    return kept


def _places(members: Sequence[int], heights_mm: Array) -> list[list[int]]:
    """Indices foot to head, those at one place together, by instance number."""
    places: list[list[int]] = []
    for index in sorted(members, key=lambda index: heights_mm[index]):
        if places and heights_mm[index] - heights_mm[places[-1][0]] <= SAME_PLACE_MM:
            places[-1].append(index)
        else:
            places.append([index])
    return places


def _detail(chosen: Sequence[int], others: Sequence[int], made: Sequence[Made]) -> str:
    """What tells the chosen pass from all, as attributes and their values."""
    said = []
    attributes: tuple[tuple[str, Callable[[Made], object]], ...] = (
        ("Contrast/Bolus Agent", lambda one: "–" if not one.contrast else "+"),
        ("Convolution Kernel", lambda one: one.kernel),
        ("Temporal Position", lambda one: one.temporal or ""),
        ("Acquisition Number", lambda one: one.acquisition or ""),
        ("Acquisition Time", lambda one: one.time),
        ("Image Type", lambda one: one.image_type),
        ("KVP", lambda one: f"{one.kvp:g}" if one.kvp else ""),
        ("Slice Thickness", lambda one: f"{one.thickness_mm:g}" if one.thickness_mm else ""),
    )
    for name, value_of in attributes:
        mine = {str(value_of(made[index])) for index in chosen}
        if len(mine) == 1 and mine != {str(value_of(made[index])) for index in others} and (value := mine.pop()):
            said.append(f"{name} {value}")
    if said:
        return ", ".join(said[:3])
    numbers = {number for index in chosen if (number := made[index].instance) is not None}
    rest = {made[index].instance for index in set(others) - set(chosen)}
    return f"Instance Number {min(numbers)}–{max(numbers)}" if numbers and not numbers & rest else ""
