"""When is a series whole? DICOM has no message for it, so we decide on evidence, and a wrong decision mends itself.

In: when instances came and how their associations ended (`Evidence`), and the headers at hand. Out: the moment from
which the series may be looked at, published, or counts as whole. Pure; times are seconds on any clock that never goes
back.

1. One round of associations brought all of it, every one was released in order, nothing of it stands refused, and the
   slices form one even, contiguous stack that covers a whole head and is numbered from its lowest slice on, so that
   more could only come above: it is analysed at once and published when `grace_s` has passed without another instance,
   if the uppermost slice shows that the head ends there (the worker looks). Or
2. nothing came for `quiet_period_s`, or for twice the pause that its sender makes, and no association whose
   last image is of this series is open. Such a one may go on: the node itself ends it after `idle_timeout_s`.

A second round (an image comes after all associations that brought the series had ended) means that this sender sends
piece by piece, and only its silence tells when it is done.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom import Dataset

from ich_node.dicom.geometry import Stack, frame_attributes, planes_of, stack_of
from ich_node.dicom.reading import number
from ich_node.domain.errors import UnusableSeries

WHOLE_HEAD_MM = 130.0
"""From the foramen magnum to the vertex of an adult, at the least; a lower stack may be one that still grows."""
CONTIGUOUS = 1.3
"""A step of more than this many slice thicknesses is that of every second slice, whose neighbours are still to come."""
PAUSES = 2.0
"""A sender that made a pause may make one of twice that length."""
LONGEST_QUIET = 6.0
"""Quiet periods: more than a minute by default; who pauses longer sends another study, or again."""

KEYWORDS = ("SliceThickness", "SpacingBetweenSlices", "ImagesInAcquisition", "InstanceNumber")
"""What this looks at beyond what the geometry needs."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of a series' arrival.

    last_s: when its last instance came, or was refused. open: whether an association that may bring more of it is open.
    released_s: when the last of them ended, if it was released in order; None if not, or if it is not known, as after a
    restart. rounds: 1, and one more for every time that it grew after all its associations had ended. pause_s: the
    second longest time between two of its instances: what a sender did twice it may do again. refused: whether an
    instance of it was refused and did not come again.
    """

    last_s: float
    open: bool = True
    released_s: float | None = None
    rounds: int = 1
    pause_s: float = 0.0
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Patience:
    """`grace_s`, `quiet_period_s` and `idle_timeout_s` of `receive`."""

    grace_s: float
    quiet_period_s: float
    idle_timeout_s: float


def look_s(evidence: Evidence) -> float | None:
    """From when on a look at the slices can show that the series is whole; None when only silence can."""
    if evidence.open or evidence.released_s is None or evidence.rounds > 1 or evidence.refused:
        return None
    return max(evidence.last_s, evidence.released_s)


def publish_s(evidence: Evidence, patience: Patience) -> float:
    """From when on the results of a series that a look has shown to be whole may go out."""
    looked = look_s(evidence)
    quiet = quiet_s(evidence, patience)
    return quiet if looked is None else min(looked + patience.grace_s, quiet)


def quiet_s(evidence: Evidence, patience: Patience) -> float:
    """From when on the series counts as whole, whatever its slices look like."""
    longest = LONGEST_QUIET * patience.quiet_period_s
    silence = min(max(patience.quiet_period_s, PAUSES * evidence.pause_s), longest)
    return evidence.last_s + (max(silence, patience.idle_timeout_s) if evidence.open else silence)


def is_whole_stack(headers: Sequence[Dataset]) -> bool:
    """Whether the slices are one even, contiguous stack of a whole head, as many as their headers announce.

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
    if not (stack.axial and stack.even and stack.coverage_mm >= WHOLE_HEAD_MM):
        return False
    first, plane = places[stack.order[0]]
    if plane.frame_number is None and not _numbered_upwards([places[index][0] for index in stack.order]):
        return False
    return _contiguous(frame_attributes(first, plane.frame_number), stack) and _as_announced(first, stack)


def _contiguous(first: Dataset, stack: Stack) -> bool:
    """Whether no slice fits between two neighbours, by what the slices say of their thickness."""
    thickness = [_number(first, keyword) for keyword in ("SliceThickness", "SpacingBetweenSlices")]
    known = [value for value in thickness if value > 0]
    return not known or stack.spacing_mm[0] <= CONTIGUOUS * max(known)


def _as_announced(first: Dataset, stack: Stack) -> bool:
    """Whether there are as many slices as Images in Acquisition (0020,1002) announces, where it does."""
    return len(stack.order) >= _number(first, "ImagesInAcquisition")


def _numbered_upwards(headers: Sequence[Dataset]) -> bool:
    """Whether Instance Numbers begin at the lowest slice where a series begins, and leave none out."""
    numbers = [number(header, "InstanceNumber") for header in headers]
    known = [value for value in numbers if value is not None]
    return numbers[0] in (0, 1) and sorted(known) == [numbers[0] + index for index in range(len(headers))]


def _number(header: Dataset, keyword: str) -> float:
    """A number of a header without its sign, 0 when it has none."""
    return abs(number(header, keyword) or 0.0)
