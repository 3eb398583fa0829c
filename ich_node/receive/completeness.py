"""When is a series whole? DICOM has no message for it, so we decide on evidence, and a wrong decision mends itself.

In: when instances came and how their associations ended (`Evidence`), and the headers at hand. Out: the moment from
which the series counts as whole. Pure; times are seconds on any clock that never goes back.

1. every association that brought instances was released in order, the slices form one even, contiguous stack that
   covers a head, and `grace_s` passed since; or
2. `quiet_period_s` passed without another instance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom import Dataset

from ich_node.dicom.geometry import Stack, frame_attributes, planes_of, stack_of
from ich_node.dicom.reading import number
from ich_node.domain.errors import UnusableSeries

HEAD_MM = 100.0
CONTIGUOUS = 1.3
"""A step of more than this many slice thicknesses is that of every second slice, whose neighbours are still to come."""

KEYWORDS = ("SliceThickness", "SpacingBetweenSlices", "ImagesInAcquisition")
"""What this looks at beyond what the geometry needs."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of a series' arrival.

    last_s: when its last instance came. open: whether an association that brought some is still open. released_s: when
    the last of them ended, if it was released in order; None if not, or if it is not known, as after a restart.
    """

    last_s: float
    open: bool = True
    released_s: float | None = None


@dataclass(frozen=True, slots=True)
class Patience:
    """`receive.grace_s` and `receive.quiet_period_s`."""

    grace_s: float
    quiet_period_s: float


def early_s(evidence: Evidence, patience: Patience) -> float | None:
    """From when on a look at the slices can show that the series is whole; None when only silence can."""
    if evidence.open or evidence.released_s is None:
        return None
    return min(max(evidence.last_s, evidence.released_s) + patience.grace_s, quiet_s(evidence, patience))


def quiet_s(evidence: Evidence, patience: Patience) -> float:
    """From when on the series counts as whole, whatever its slices look like."""
    return evidence.last_s + patience.quiet_period_s


def is_whole_stack(headers: Sequence[Dataset]) -> bool:
    """Whether the slices are one even, contiguous stack of at least 100 mm and as many as their headers announce.

    Headers that do not say where they lie, and those of another orientation (a localizer), do not count.
    """
    places = []
    for header in headers:
        try:
            places += [(header, plane) for plane in planes_of(header)]
        except UnusableSeries:
            continue
    try:
        stack = stack_of([plane for _, plane in places])
    except UnusableSeries:
        return False
    if not (stack.axial and stack.even and stack.coverage_mm >= HEAD_MM):
        return False
    first, plane = places[stack.order[0]]
    return _contiguous(frame_attributes(first, plane.frame_number), stack) and _as_announced(first, stack)


def _contiguous(first: Dataset, stack: Stack) -> bool:
    """Whether no slice fits between two neighbours, by what the slices say of their thickness."""
    thickness = [_number(first, keyword) for keyword in ("SliceThickness", "SpacingBetweenSlices")]
    known = [value for value in thickness if value > 0]
    return not known or stack.spacing_mm[0] <= CONTIGUOUS * max(known)


def _as_announced(first: Dataset, stack: Stack) -> bool:
    """Whether there are as many slices as Images in Acquisition (0020,1002) announces, where it does."""
    return len(stack.order) >= _number(first, "ImagesInAcquisition")


def _number(header: Dataset, keyword: str) -> float:
    """A number of a header without its sign, 0 when it has none."""
    return abs(number(header, keyword) or 0.0)
