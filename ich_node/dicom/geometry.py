"""Where the slices of a CT series lie: order, spacing, gaps, tilt, and what does not belong to the stack.

In: pydicom headers (no pixels). Out: `Plane`s, one per slice, and a `Stack` of those that form one volume. Pure: no
I/O, no clock. Coordinates are the patient's LPS in mm (PS3.3 C.7.6.2.1.1). Slices are ordered by their position along
the normal of the image plane, foot to head; InstanceNumber plays no part in that, because no rule ties it to the
position. Which of several images at a place belong to the stack is decided in passes.py.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from pydicom import Dataset

from ich_node.dicom import passes
from ich_node.dicom.decoding import decoding
from ich_node.dicom.making import Made, made_of
from ich_node.dicom.reading import items, numbers, text, whole
from ich_node.domain.errors import UnusableSeries
from ich_node.domain.reasons import Reason, Why

Vector = tuple[float, float, float]
Array = npt.NDArray[np.float64]

SAME_DIRECTION = math.cos(math.radians(1.0))
"""Chosen: 1°, more than rounded cosines differ and less than anything that is tilted on purpose."""
AXIAL = math.cos(math.radians(45.0))
"""A plane whose normal is within 45° of the body axis counts as axial: gantry and head tilt stay far below."""
EVEN_FRACTION, EVEN_MM = 0.1, 0.11
"""Positions are often written with one decimal, so that 0.625 mm reads 0.6, 0.7, 0.6."""
MISSED_MM = 9.0
"""Two usual slices are a part of the head that nobody looked at, and more than a small clot; positions are rounded."""
GAP_FACTOR = 1.5  # half-way from one step to two: a slice is missing from there on
UNIT_TOLERANCE, SQUARE_TOLERANCE = 0.1, 0.05
"""How far direction cosines may be from unit length and from a right angle: some senders write two decimals."""
STRAYS = 0.1
"""At most this share of the slices, or one, may be images that lie apart from the others."""
STRAY_SIDEWAYS_MM = 50.0
"""Further aside from both neighbours than any gantry or table shifts a slice: a head is 150 mm wide."""
MAX_GAP_MM = 20.0
"""A stretch that a hemorrhage can lie in unseen; beyond it slices do not belong together."""
THICK_MM = 6.0  # chosen: heads are scanned at 5 mm, and in thicker slices thin blood is averaged away
TILT_WARN_DEG = 1.0  # chosen: as for SAME_DIRECTION, below it nothing is tilted on purpose
SIDEWAYS_MM = 5.0  # chosen: a shift of a centimetre moves sides and sites; half of that is worth a word
PIXEL_MM = (0.05, 5.0)  # chosen: ten times finer or coarser than the half millimetre of a head
MOST_GROUPS = 512
"""Every slice is compared with one of each group: a bound on the time that a series can take."""


@dataclass(frozen=True, slots=True)
class Plane:
    """One slice in space. `row` points along increasing columns, `column` along increasing rows (unit vectors).

    pixel_mm: distance between rows, between columns. made: how the image was made. frame_number is 1-based.
    """

    sop_instance_uid: str
    position: Vector
    row: Vector
    column: Vector
    pixel_mm: tuple[float, float]
    shape: tuple[int, int]
    made: Made = field(default_factory=Made)
    frame_number: int | None = None

    @property
    def normal(self) -> Array:
        """Unit normal of the plane, turned to the patient's head."""
        normal = np.cross(self.row, self.column)
        return np.asarray(-normal if normal[2] < 0 else normal, np.float64)

    @property
    def axial(self) -> bool:
        """Whether the plane is within 45° of a transverse one."""
        return bool(self.normal[2] >= AXIAL)


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """Planes that form one volume.

    order: indices of the planes that were handed in, foot to head. left_out: (index, reason) of all others.
    positions_mm: float64 [n, 3]. distances_mm: float64 [n - 1], between neighbours along the normal.
    spacing_mm: (median distance, between rows, between columns). affine: (slice, row, column, 1) → LPS mm; its slice
    axis is the median step along the line through the positions, oblique when the gantry was tilted.
    tilt_deg: angle between that line and the normal. gaps: (index of the slice below, missing mm). made: how each slice
    was made. rivals: the indices of the images at each place where headers do not tell which one belongs to the stack.
    over_time: the series shows the same places again and again.
    """

    order: tuple[int, ...]
    left_out: tuple[tuple[int, Reason], ...]
    positions_mm: Array
    distances_mm: Array
    spacing_mm: tuple[float, float, float]
    affine: Array
    tilt_deg: float
    gaps: tuple[tuple[int, float], ...]
    axial: bool
    warnings: tuple[Reason, ...]
    made: tuple[Made, ...]
    rivals: tuple[tuple[int, ...], ...]
    over_time: bool

    @property
    def coverage_mm(self) -> float:
        """From the lower face of the first slice to the upper face of the last; a slice fills its step, or more."""
        ends = (self.distances_mm[0], self.distances_mm[-1]) if len(self.distances_mm) else (0.0, 0.0)
        thick = (self.made[end].thickness_mm or 0.0 for end in (0, -1))
        return float(self.distances_mm.sum() + sum(max(step, mm) / 2 for step, mm in zip(ends, thick, strict=True)))

    @property
    def missing_mm(self) -> float:
        """The largest stretch without slices, in mm; 0 without a gap."""
        return max((missing for _, missing in self.gaps), default=0.0)

    @property
    def left_out_warnings(self) -> tuple[Reason, ...]:
        """What was left out and why; the same instance twice is no news."""
        reasons = Counter(reason for _, reason in self.left_out if reason.code != Why.SAME_INSTANCE)
        return tuple(Reason(Why.LEFT_OUT, count=count, because=reason) for reason, count in reasons.items())

    @property
    def even(self) -> bool:
        """Whether all neighbours have the same distance, within 10 % or rounding."""
        return bool(len(self.order) > 1 and _even(self.distances_mm))


# --- headers → planes ----------------------------------------------------------------------------------------------


def planes_of(header: Dataset) -> tuple[Plane, ...]:
    """The planes of one instance: one of a classic CT image, one per frame of an enhanced one.

    Raises UnusableSeries with the reason when the header does not say where the slice lies.
    """
    described = items(header, "PerFrameFunctionalGroupsSequence")
    if not described and "PerFrameFunctionalGroupsSequence" not in header:
        return (_plane(header, header, None),)
    frames = range(1, len(described) + 1)
    return tuple(_plane(header, frame_attributes(header, number), number) for number in frames)


class PlanesOnce:
    """`planes_of` for headers that several ask about: the answer, or the refusal, is kept while nobody edits them."""

    def __init__(self) -> None:
        self._kept: dict[int, tuple[Dataset, tuple[Plane, ...] | UnusableSeries]] = {}

    def __call__(self, header: Dataset) -> tuple[Plane, ...]:
        """See `planes_of`."""
        if id(header) not in self._kept:  # the header is kept too: no other one gets its identity
            try:
                self._kept[id(header)] = header, planes_of(header)
            except UnusableSeries as refusal:
                self._kept[id(header)] = header, refusal
        answer = self._kept[id(header)][1]
        if isinstance(answer, UnusableSeries):
            raise answer
        return answer


def frame_attributes(header: Dataset, frame_number: int | None) -> Dataset:
    """What a frame (1-based) says of itself, flat: its own functional groups over the shared ones (PS3.3 C.7.6.16.1.1).

    A classic image (None) speaks for itself.
    """
    if frame_number is None:
        return header
    shared = items(header, "SharedFunctionalGroupsSequence")[:1]
    own = items(header, "PerFrameFunctionalGroupsSequence")[frame_number - 1 : frame_number]
    flat = Dataset()
    with decoding(Reason(Why.FRAMES_UNREADABLE)):
        for groups in (*shared, *own):
            for element in groups:
                if element.VR == "SQ" and element.value:
                    flat.update(element.value[0])
    return flat


def _plane(header: Dataset, source: Dataset, frame_number: int | None) -> Plane:
    position = _numbers(source, "ImagePositionPatient", 3, "Image Position (Patient)")
    row, column = _directions(_numbers(source, "ImageOrientationPatient", 6, "Image Orientation (Patient)"))
    pixel = _numbers(source, "PixelSpacing", 2, "Pixel Spacing")
    if not all(PIXEL_MM[0] <= value <= PIXEL_MM[1] for value in pixel):
        raise UnusableSeries(Reason(Why.PIXEL_SPACING, rows_mm=pixel[0], columns_mm=pixel[1]))
    return Plane(
        sop_instance_uid=text(header, "SOPInstanceUID"),
        position=(position[0], position[1], position[2]),
        row=row,
        column=column,
        pixel_mm=(pixel[0], pixel[1]),
        shape=(whole(header, "Rows") or 0, whole(header, "Columns") or 0),
        made=made_of(header, source),
        frame_number=frame_number,
    )


def _numbers(source: Dataset, keyword: str, count: int, name: str) -> list[float]:
    values = numbers(source, keyword)
    if len(values) != count:
        raise UnusableSeries(Reason(Why.ATTRIBUTE_MISSING, attribute=name))
    if not all(abs(item) < 1e5 for item in values):
        raise UnusableSeries(Reason(Why.ATTRIBUTE_IMPOSSIBLE, attribute=name))
    return values


def _directions(cosines: list[float]) -> tuple[Vector, Vector]:
    """Row and column direction as perpendicular unit vectors; they are often written with few decimals."""
    row, column = np.array(cosines[:3]), np.array(cosines[3:])
    lengths = float(np.linalg.norm(row)), float(np.linalg.norm(column))
    if any(abs(length - 1) > UNIT_TOLERANCE for length in lengths) or abs(row @ column) > SQUARE_TOLERANCE:
        raise UnusableSeries(Reason(Why.NOT_PERPENDICULAR))
    row = row / lengths[0]
    column = column - (column @ row) * row
    column = column / np.linalg.norm(column)
    return (float(row[0]), float(row[1]), float(row[2])), (float(column[0]), float(column[1]), float(column[2]))


# --- planes → stack ------------------------------------------------------------------------------------------------


def stack_of(planes: Sequence[Plane]) -> Stack:
    """The slices of one pass of the scanner, parallel and equally sized, one per place; axial ones before all others.

    Raises UnusableSeries when no plane is given, or when hardly two of them have anything in common.
    """
    if not planes:
        raise UnusableSeries(Reason(Why.NO_POSITION))
    left_out = {index: plane.made.purpose for index, plane in enumerate(planes) if plane.made.purpose is not None}
    if len(planes) - len(left_out) < min(passes.ENOUGH, len(planes) / 2):
        left_out = {}  # the series is about these images
    groups = _groups(planes, [index for index in range(len(planes)) if index not in left_out])
    best = max(groups, key=lambda group: (*_worth(planes, group), planes[group[0]].pixel_mm, planes[group[0]].shape))
    left_out |= {
        index: _why_other(planes[best[0]], planes[index]) for group in groups for index in group if group is not best
    }
    heights = _heights(planes, best)
    uids = [(planes[index].sop_instance_uid, planes[index].frame_number) for index in best]
    choice = passes.choose(heights, [planes[index].made for index in best], uids)
    left_out |= {best[index]: reason for index, reason in choice.left_out.items()}
    apart = _apart(np.array([planes[best[index]].position for index in choice.order]), planes[best[0]].normal)
    left_out |= {best[choice.order[place]]: reason for place, reason in apart.items()}
    order = [best[index] for place, index in enumerate(choice.order) if place not in apart]
    several = [Reason(Why.ONE_OF_SEVERAL, passes=choice.passes, detail=choice.detail)] if choice.passes > 1 else []
    rivals = tuple(tuple(best[index] for index in place) for place in choice.rivals if best[place[0]] in order)
    return _stack(planes, order, left_out, rivals, choice.over_time, several)


def _worth(planes: Sequence[Plane], group: list[int]) -> tuple[bool, bool, bool, bool, bool, int, int, int, str]:
    """The higher, the more likely a group is what the series is about; the rule of choice of passes.py."""
    count = _distinct(planes, group)
    mades = [planes[index].made for index in group]
    plain = not any(made.contrast for made in mades)
    own_energy = not any(made.spectral for made in mades)
    soft = not any(made.sharp for made in mades)
    latest = max((made.temporal, made.acquisition, made.time) for made in mades)
    return planes[group[0]].axial, count >= passes.ENOUGH, plain, own_energy, soft, count, *latest


def _apart(positions: Array, normal: Array) -> dict[int, Reason]:
    """Places in a stack, foot to head, of a few images that lie apart from the others: far away, aside, in between."""
    count = len(positions)
    few = max(1, int(STRAYS * count))
    heights = positions @ normal
    steps = np.diff(heights)
    if count < 4:
        return {}
    across = positions - heights[:, None] * normal
    aside = [
        index
        for index in range(count)
        if all(
            np.linalg.norm(across[index] - across[other]) > STRAY_SIDEWAYS_MM
            for other in (index - 1, index + 1)
            if 0 <= other < count
        )
    ]
    if 0 < len(aside) <= few:
        rest = [index for index in range(count) if index not in aside]
        return dict.fromkeys(aside, Reason(Why.ASIDE)) | {
            rest[place]: reason for place, reason in _apart(positions[rest], normal).items()
        }
    pieces = np.split(np.arange(count), np.flatnonzero(steps > MAX_GAP_MM) + 1)
    main = max(pieces, key=len)
    far = [int(index) for piece in pieces if piece is not main for index in piece]
    if 0 < len(far) <= few:
        return dict.fromkeys(far, Reason(Why.FAR_AWAY))
    usual = float(np.median(steps))
    between = [
        index
        for index in range(1, count - 1)
        if abs(heights[index + 1] - heights[index - 1] - usual) <= max(EVEN_FRACTION * usual, EVEN_MM)
        and max(steps[index - 1], steps[index]) < usual - EVEN_MM
    ]
    rest = [index for index in range(count) if index not in between]
    if 0 < len(between) <= few and _even(np.diff(heights[rest])):
        return dict.fromkeys(between, Reason(Why.SECOND_IMAGE))
    return {}


def _groups(planes: Sequence[Plane], candidates: Sequence[int]) -> list[list[int]]:
    """Indices out of `candidates` of planes with the same orientation, size and pixel spacing."""
    groups: list[list[int]] = []
    for index in candidates:
        plane = planes[index]
        for group in groups:
            if _alike(planes[group[0]], plane):
                group.append(index)
                break
        else:
            if len(groups) == MOST_GROUPS:
                raise UnusableSeries(Reason(Why.TOO_MANY_GROUPS, limit=MOST_GROUPS))
            groups.append([index])
    return groups


def _alike(one: Plane, other: Plane) -> bool:
    return (
        one.shape == other.shape
        and _parallel(one, other)
        and all(abs(a - b) <= 0.01 * a for a, b in zip(one.pixel_mm, other.pixel_mm, strict=True))
    )


def _parallel(one: Plane, other: Plane) -> bool:
    return _dot(one.row, other.row) >= SAME_DIRECTION and _dot(one.column, other.column) >= SAME_DIRECTION


def _dot(one: Vector, other: Vector) -> float:
    return one[0] * other[0] + one[1] * other[1] + one[2] * other[2]


def _why_other(main: Plane, other: Plane) -> Reason:
    """Why a plane is not part of the stack of `main`."""
    if not _parallel(main, other):
        return Reason(Why.OTHER_ORIENTATION)
    if main.shape != other.shape:
        return Reason(Why.OTHER_SIZE)
    return Reason(Why.OTHER_PIXEL_SPACING)


def _heights(planes: Sequence[Plane], indices: Sequence[int]) -> Array:
    normal = planes[indices[0]].normal
    return np.asarray(np.array([planes[index].position for index in indices]) @ normal, np.float64)


def _distinct(planes: Sequence[Plane], indices: Sequence[int]) -> int:
    return 1 + int((np.diff(np.sort(_heights(planes, indices))) > passes.SAME_PLACE_MM).sum())


def _even(distances: Array) -> bool:
    middle = float(np.median(distances))
    return bool((np.abs(distances - middle) <= max(EVEN_FRACTION * middle, EVEN_MM)).all())


def _stack(
    planes: Sequence[Plane],
    order: list[int],
    left_out: dict[int, Reason],
    rivals: tuple[tuple[int, ...], ...],
    over_time: bool,
    several: list[Reason],
) -> Stack:
    first = planes[order[0]]
    normal = first.normal
    positions = np.array([planes[index].position for index in order], np.float64)
    distances = np.diff(positions @ normal)
    step_mm = float(np.median(distances)) if len(distances) else 0.0
    direction, tilt_deg, sideways_mm = _line(positions, normal)
    affine = np.eye(4)
    affine[:3, 0] = direction * (step_mm or 1.0)
    affine[:3, 1] = np.array(first.column) * first.pixel_mm[0]
    affine[:3, 2] = np.array(first.row) * first.pixel_mm[1]
    affine[:3, 3] = positions[0]
    gaps = _gaps(distances, step_mm)
    frames = {planes[index].made.frame_of_reference for index in order}
    thickest_mm = max((planes[index].made.thickness_mm or 0.0 for index in order), default=0.0)
    warnings = [
        *several,
        *_spacing_warnings(distances, gaps),
        *([Reason(Why.THICK_PART, thickness_mm=thickest_mm)] if thickest_mm > THICK_MM else []),
        *([Reason(Why.TILT, degrees=tilt_deg)] if tilt_deg > TILT_WARN_DEG else []),
        *([Reason(Why.SIDEWAYS, sideways_mm=sideways_mm)] if sideways_mm > SIDEWAYS_MM else []),
        *([Reason(Why.NO_FRAME_OF_REFERENCE)] if "" in frames else []),
        *([Reason(Why.SEVERAL_FRAMES_OF_REFERENCE, count=len(frames - {""}))] if len(frames - {""}) > 1 else []),
    ]
    return Stack(
        order=tuple(order),
        left_out=tuple(sorted(left_out.items())),
        positions_mm=positions,
        distances_mm=distances,
        spacing_mm=(step_mm, *first.pixel_mm),
        affine=affine,
        tilt_deg=tilt_deg,
        gaps=gaps,
        axial=first.axial,
        warnings=tuple(warnings),
        made=tuple(planes[index].made for index in order),
        rivals=rivals,
        over_time=over_time,
    )


def _line(positions: Array, normal: Array) -> tuple[Array, float, float]:
    """Direction per mm along the normal, its angle to the normal in degrees, largest distance in mm from the line."""
    heights = positions @ normal
    if len(positions) < 2:
        return normal, 0.0, 0.0
    heights = heights - heights.mean()
    direction = heights @ (positions - positions.mean(axis=0)) / (heights @ heights)
    rest = positions - positions.mean(axis=0) - heights[:, None] * direction
    cosine = min(1.0, 1.0 / float(np.linalg.norm(direction)))
    return direction, math.degrees(math.acos(cosine)), float(np.linalg.norm(rest, axis=1).max())


def _gaps(distances: Array, step_mm: float) -> tuple[tuple[int, float], ...]:
    """(index below, missing mm) of distances that stand out; a change to a wider spacing is not a gap."""
    found = []
    for index, distance in enumerate(distances):
        sides = (distances[max(0, index - 2) : index], distances[index + 1 : index + 3])
        usual = max((float(side.min()) for side in sides if len(side)), default=step_mm)
        if distance > GAP_FACTOR * usual:
            found.append((index, float(distance - usual)))
    return tuple(found)


def _spacing_warnings(distances: Array, gaps: tuple[tuple[int, float], ...]) -> list[Reason]:
    found = [Reason(Why.GAP, missing_mm=missing, below=index + 1, above=index + 2) for index, missing in gaps]
    missing_mm = sum(missing for _, missing in gaps)
    if missing_mm >= MISSED_MM:
        found = [Reason(Why.GAPS, count=len(gaps), missing_mm=missing_mm)]
    usual = np.delete(distances, [index for index, _ in gaps])
    if len(usual) and not _even(usual):
        found.append(Reason(Why.UNEVEN, smallest_mm=float(usual.min()), largest_mm=float(usual.max())))
    return found
