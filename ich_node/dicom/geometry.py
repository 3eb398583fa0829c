"""Where the slices of a CT series lie: order, spacing, gaps, tilt, and what does not belong to the stack.

In: pydicom headers (no pixels). Out: `Plane`s, one per slice, and a `Stack` of those that form one volume. Pure: no
I/O, no clock. Coordinates are the patient's LPS in mm (PS3.3 C.7.6.2.1.1). Slices are ordered by their position along
the normal of the image plane, foot to head; InstanceNumber plays no part, because no rule ties it to the position.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError

from ich_node.domain.errors import UnusableSeries
from ich_node.domain.reasons import Reason, Why

Vector = tuple[float, float, float]
Array = npt.NDArray[np.float64]

BROKEN = (
    InvalidDicomError,
    BytesLengthException,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    EOFError,
    OSError,
    RuntimeError,  # decoders; NotImplementedError; RecursionError of nested sequences
    ArithmeticError,
    MemoryError,
    struct.error,
    zlib.error,
)
"""What pydicom and its decoders raise on bytes that are not what they claim to be."""

SAME_DIRECTION = math.cos(math.radians(1.0))
AXIAL = math.cos(math.radians(45.0))
"""A plane whose normal is within 45° of the body axis counts as axial: gantry and head tilt stay far below."""
SAME_POSITION_MM = 0.05
EVEN_FRACTION, EVEN_MM = 0.1, 0.11
"""Positions are often written with one decimal, so that 0.625 mm reads 0.6, 0.7, 0.6."""
GAP_FACTOR = 1.5
TILT_WARN_DEG = 1.0
SIDEWAYS_MM = 5.0
PIXEL_MM = (0.05, 5.0)
MOST_GROUPS = 512
"""Every slice is compared with one of each group: a bound on the time that a series can take."""


@dataclass(frozen=True, slots=True)
class Plane:
    """One slice in space. `row` points along increasing columns, `column` along increasing rows (unit vectors).

    pixel_mm: distance between rows, between columns. `acquisition` orders repeated scans; frame_number is 1-based.
    """

    sop_instance_uid: str
    position: Vector
    row: Vector
    column: Vector
    pixel_mm: tuple[float, float]
    shape: tuple[int, int]
    frame_of_reference: str
    acquisition: tuple[int, int] = (0, 0)
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
    tilt_deg: angle between that line and the normal. gaps: (index of the slice below, missing mm).
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

    @property
    def coverage_mm(self) -> float:
        """From the lower face of the first slice to the upper face of the last."""
        return float(self.distances_mm.sum()) + self.spacing_mm[0]

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
    try:
        if "PerFrameFunctionalGroupsSequence" not in header:
            return (_plane(header, header, None),)
        frames = range(1, len(header.PerFrameFunctionalGroupsSequence) + 1)
        return tuple(_plane(header, frame_attributes(header, number), number) for number in frames)
    except BROKEN as error:
        raise UnusableSeries(Reason(Why.POSITION_UNREADABLE)) from error


def frame_attributes(header: Dataset, frame_number: int | None) -> Dataset:
    """What a frame (1-based) says of itself, flat: its own functional groups over the shared ones (PS3.3 C.7.6.16.1.1).

    A classic image (None) speaks for itself.
    """
    if frame_number is None:
        return header
    shared = header.get("SharedFunctionalGroupsSequence") or [Dataset()]
    flat = Dataset()
    for groups in (shared[0], header.PerFrameFunctionalGroupsSequence[frame_number - 1]):
        for element in groups:
            if element.VR == "SQ" and element.value:
                flat.update(element.value[0])
    return flat


def _plane(header: Dataset, source: Dataset, frame_number: int | None) -> Plane:
    position = _numbers(source.get("ImagePositionPatient"), 3, "Image Position (Patient)")
    cosines = _numbers(source.get("ImageOrientationPatient"), 6, "Image Orientation (Patient)")
    pixel = _numbers(source.get("PixelSpacing"), 2, "Pixel Spacing")
    row, column = cosines[:3], cosines[3:]
    if not (_unit(row) and _unit(column) and abs(sum(a * b for a, b in zip(row, column, strict=True))) < 0.01):
        raise UnusableSeries(Reason(Why.NOT_PERPENDICULAR))
    if not all(PIXEL_MM[0] <= value <= PIXEL_MM[1] for value in pixel):
        raise UnusableSeries(Reason(Why.PIXEL_SPACING, rows_mm=pixel[0], columns_mm=pixel[1]))
    return Plane(
        sop_instance_uid=str(header.get("SOPInstanceUID", "")),
        position=(position[0], position[1], position[2]),
        row=(row[0], row[1], row[2]),
        column=(column[0], column[1], column[2]),
        pixel_mm=(pixel[0], pixel[1]),
        shape=(int(header.get("Rows") or 0), int(header.get("Columns") or 0)),
        frame_of_reference=str(header.get("FrameOfReferenceUID") or ""),
        acquisition=_acquisition(source),
        frame_number=frame_number,
    )


def _numbers(value: object, count: int, name: str) -> list[float]:
    values = [float(item) for item in value] if isinstance(value, Iterable) and not isinstance(value, str) else []
    if len(values) != count:
        raise UnusableSeries(Reason(Why.ATTRIBUTE_MISSING, attribute=name))
    if not all(math.isfinite(item) and abs(item) < 1e5 for item in values):
        raise UnusableSeries(Reason(Why.ATTRIBUTE_IMPOSSIBLE, attribute=name))
    return values


def _unit(vector: Sequence[float]) -> bool:
    return abs(math.hypot(*vector) - 1) < 0.01


def _acquisition(source: Dataset) -> tuple[int, int]:
    """(temporal position, acquisition number): a repeated scan has the higher one."""

    def number(*keywords: str) -> int:
        for keyword in keywords:
            value = source.get(keyword)
            if value is not None and str(value).strip().lstrip("+-").isdigit():
                return int(str(value))
        return 0

    return (
        number("TemporalPositionIndex", "TemporalPositionIdentifier"),
        number("FrameAcquisitionNumber", "AcquisitionNumber"),
    )


# --- planes → stack ------------------------------------------------------------------------------------------------


def stack_of(planes: Sequence[Plane]) -> Stack:
    """The largest set of parallel, equally sized planes, one per position; axial ones go before all others.

    Raises UnusableSeries when no plane is given, or when hardly two of them have anything in common.
    """
    if not planes:
        raise UnusableSeries(Reason(Why.NO_POSITION))
    groups = _groups(planes)
    best = max(groups, key=lambda group: (planes[group[0]].axial, _distinct(planes, group), -group[0]))
    left_out = {
        index: _why_other(planes[best[0]], planes[index]) for group in groups for index in group if group != best
    }
    order, repeated = _one_per_position(planes, best)
    left_out.update(repeated)
    return _stack(planes, order, left_out)


def _groups(planes: Sequence[Plane]) -> list[list[int]]:
    """Indices of planes with the same orientation, size, pixel spacing and Frame of Reference."""
    groups: list[list[int]] = []
    for index, plane in enumerate(planes):
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
        and one.frame_of_reference == other.frame_of_reference
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
    if main.frame_of_reference != other.frame_of_reference:
        return Reason(Why.OTHER_FRAME_OF_REFERENCE)
    return Reason(Why.OTHER_PIXEL_SPACING)


def _heights(planes: Sequence[Plane], indices: Sequence[int]) -> Array:
    normal = planes[indices[0]].normal
    return np.asarray(np.array([planes[index].position for index in indices]) @ normal, np.float64)


def _distinct(planes: Sequence[Plane], indices: Sequence[int]) -> int:
    return 1 + int((np.diff(np.sort(_heights(planes, indices))) > SAME_POSITION_MM).sum())


def _one_per_position(planes: Sequence[Plane], group: list[int]) -> tuple[list[int], dict[int, Reason]]:
    """Indices foot to head with one plane per position, and why the others went.

    Where positions repeat, the acquisition with the most positions is taken, of equals the latest: a scan is
    repeated because the first one was not good enough.
    """
    by_acquisition: dict[tuple[int, int], list[int]] = {}
    for index in group:
        by_acquisition.setdefault(planes[index].acquisition, []).append(index)
    rank = {key: (_distinct(planes, members), key) for key, members in by_acquisition.items()}
    whole = max(by_acquisition, key=lambda key: rank[key])
    if len(by_acquisition) > 1 and _interleaved(planes, group, by_acquisition[whole]):
        left_out = dict.fromkeys(set(group) - set(by_acquisition[whole]), Reason(Why.OTHER_ACQUISITION))
        group = by_acquisition[whole]
    else:
        left_out = {}
    heights = dict(zip(group, _heights(planes, group), strict=True))
    order: list[int] = []
    preference = sorted(
        group, key=lambda index: (-rank[planes[index].acquisition][0], *(-n for n in planes[index].acquisition), index)
    )
    place = {index: number for number, index in enumerate(preference)}
    for index in sorted(group, key=lambda index: (heights[index], place[index])):
        if order and heights[index] - heights[order[-1]] <= SAME_POSITION_MM:
            keep, drop = sorted((order[-1], index), key=place.__getitem__)
            order[-1] = keep
            same = planes[keep].sop_instance_uid == planes[drop].sop_instance_uid
            left_out[drop] = Reason(Why.SAME_INSTANCE if same else Why.SECOND_IMAGE)
        else:
            order.append(index)
    return order, left_out


def _interleaved(planes: Sequence[Plane], group: list[int], members: list[int]) -> bool:
    """Whether `members` alone are an even stack of nearly all of `group`'s extent, and all together are not."""
    all_heights, heights = np.unique(np.round(_heights(planes, group), 2)), np.sort(_heights(planes, members))
    if len(heights) < 3 or _even(np.diff(all_heights)):
        return False
    extent = all_heights[-1] - all_heights[0]
    return bool(_even(np.diff(heights)) and heights[-1] - heights[0] >= 0.8 * extent)


def _even(distances: Array) -> bool:
    middle = float(np.median(distances))
    return bool((np.abs(distances - middle) <= max(EVEN_FRACTION * middle, EVEN_MM)).all())


def _stack(planes: Sequence[Plane], order: list[int], left_out: dict[int, Reason]) -> Stack:
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
    warnings = [
        *_spacing_warnings(distances, gaps),
        *([Reason(Why.TILT, degrees=tilt_deg)] if tilt_deg > TILT_WARN_DEG else []),
        *([Reason(Why.SIDEWAYS, sideways_mm=sideways_mm)] if sideways_mm > SIDEWAYS_MM else []),
        *([] if first.frame_of_reference else [Reason(Why.NO_FRAME_OF_REFERENCE)]),
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
    usual = np.delete(distances, [index for index, _ in gaps])
    if len(usual) and not _even(usual):
        found.append(Reason(Why.UNEVEN, smallest_mm=float(usual.min()), largest_mm=float(usual.max())))
    return found
