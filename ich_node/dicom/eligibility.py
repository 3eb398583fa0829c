"""Is this series one that the model was made for? The answer is a value, never an exception.

In: the headers of the instances of one series (no pixels). Out: `Eligible`, `NotAnalysed(reason)`: a head CT for which
a person expects an answer and gets a visible "not analysed, because …", or `SetAside(reason)`: not for us (a localizer,
another body part, a reformat, our own results coming back), recorded and otherwise left alone. Pure. What the header
does not say is left to the gates, which look at the pixels. What the words mean is in `vocabulary`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from pydicom import Dataset
from pydicom.uid import UID, CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage

from ich_node.dicom import vocabulary
from ich_node.dicom.geometry import MAX_GAP_MM, THICK_MM, Plane, Stack, frame_attributes, planes_of, stack_of
from ich_node.dicom.making import GIVEN
from ich_node.dicom.reading import items, number, text, texts
from ich_node.domain.errors import UnusableSeries
from ich_node.domain.reasons import Reason, Why

CT_CLASSES = frozenset({CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage})
OWN_MANUFACTURER = "ich_node"

MIN_SLICES = 6  # the least coverage below, 30 mm, at the usual 5 mm
ROUNDING_MM = 0.5
"""Positions are often written with one decimal or less."""
MAX_THICKNESS_MM, MAX_THICKEST_MM = THICK_MM, 10.0
"""Of most slices, and of any: above a thin base they may have twice the usual thickness (docs/spacing.md)."""
MAX_SPACING_MM = 7.5  # chosen: slices of 5 mm with a gap of half of it
COVERAGE_MM = (30.0, 320.0)
"""Less shows no more than a slice of the brain, more is not a head alone."""
HEAD_MM = 100.0
"""Less is a part of a head, which is looked at only when nothing else of its study is."""
HEAD_FIELD_MM = 320.0
"""Without a word on the body part, a wider field of view than this is not taken for a head."""

KEYWORDS = (
    *("SOPClassUID", "SOPInstanceUID", "Modality", "ImageType", "Manufacturer", "ContributingEquipmentSequence"),
    *("BodyPartExamined", "AnatomicRegionSequence", "StudyDescription", "SeriesDescription", "ProtocolName"),
    *("ContrastBolusAgent", "ContrastBolusAgentSequence", "ContrastBolusRoute", *GIVEN, "ConvolutionKernel"),
    *("SliceThickness", "RescaleSlope", "RescaleIntercept", "RescaleType", "ModalityLUTSequence"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns", "FrameOfReferenceUID"),
    *("TemporalPositionIdentifier", "TemporalPositionIndex", "AcquisitionNumber", "AcquisitionDate", "AcquisitionTime"),
    *(
        "AcquisitionDateTime",
        "MonoenergeticEnergyEquivalent",
        "InstanceNumber",
        "KVP",
        "NumberOfFrames",
        "SpecificCharacterSet",
    ),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
)
"""All that `verdict` looks at: a reader of headers needs no more."""


@dataclass(frozen=True, slots=True)
class Eligible:
    """The model may look at this series."""


@dataclass(frozen=True, slots=True)
class NotAnalysed:
    """A head CT that the model must not judge; `reason` completes "not analysed, because …"."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Partial(NotAnalysed):
    """A part of a head, of which `reason` says how much: looked at when its study is quiet and has nothing better."""


@dataclass(frozen=True, slots=True)
class SetAside:
    """Not a series that anybody expects an answer for."""

    reason: Reason


Verdict = Eligible | NotAnalysed | SetAside
PlanesOf = Callable[[Dataset], tuple[Plane, ...]]


def verdict(headers: Sequence[Dataset], planes_of: PlanesOf = planes_of) -> Verdict:
    """Judge one series by its headers; their order does not matter."""
    images = [header for header in headers if text(header, "SOPClassUID") in CT_CLASSES]
    if not images:
        return SetAside(_no_ct(headers))
    if any(is_own(header) for header in images):
        return SetAside(Reason(Why.OWN_RESULT))
    images = [header for header in images if "LOCALIZER" not in _image_type(header)]
    return _judged(images, planes_of) if images else SetAside(Reason(Why.LOCALIZER))


def _judged(images: Sequence[Dataset], planes_of: PlanesOf) -> Verdict:
    places, without = _placed(images, planes_of)
    if not places:
        return _without_geometry(images, without.most_common(1)[0][0])
    try:
        if len(places) > 1 and not any(any(plane.position) for _, plane in places):  # the origin is no place for all
            raise UnusableSeries(Reason(Why.NO_POSITION))
        stack = stack_of([plane for _, plane in places])
    except UnusableSeries as error:
        return _without_geometry(images, error.reason)
    slices = [places[index] for index in stack.order]
    if reason := _other_purpose(stack) or _other_body_part(slices):
        return SetAside(reason)
    if reason := unfit(stack) or _unfit_slices(slices):
        return NotAnalysed(reason)
    if stack.coverage_mm < HEAD_MM - ROUNDING_MM:
        return Partial(Reason(Why.COVERS_TOO_LITTLE, coverage_mm=stack.coverage_mm, needed_mm=HEAD_MM))
    return Eligible()


def _placed(images: Sequence[Dataset], planes_of: PlanesOf) -> tuple[list[tuple[Dataset, Plane]], Counter[Reason]]:
    """Every slice with its plane, and why others have none: a slice that is lost must not take the series with it."""
    places: list[tuple[Dataset, Plane]] = []
    without: Counter[Reason] = Counter()
    for header in images:
        try:
            places += [(header, plane) for plane in planes_of(header)]
        except UnusableSeries as error:
            without[error.reason] += 1
    return places, without or Counter([Reason(Why.NO_POSITION)])


def is_own(header: Dataset) -> bool:
    """Whether an instance was made by this project, by its equipment or a contribution to it."""
    makers = [text(header, "Manufacturer")]
    makers += [text(item, "Manufacturer") for item in items(header, "ContributingEquipmentSequence")]
    return OWN_MANUFACTURER in makers


def unfit(stack: Stack) -> Reason | None:
    """Why a stack of slices is not a head that can be judged as a whole; None when it can."""
    low, high = COVERAGE_MM
    spacing_mm, coverage_mm = stack.spacing_mm[0], stack.coverage_mm
    if len(stack.order) < MIN_SLICES:
        return Reason(Why.TOO_FEW_SLICES, count=len(stack.order), needed=MIN_SLICES)
    if spacing_mm > MAX_SPACING_MM:
        return Reason(Why.FAR_APART, spacing_mm=spacing_mm, limit_mm=MAX_SPACING_MM)
    if coverage_mm < low:
        return Reason(Why.COVERS_TOO_LITTLE, coverage_mm=coverage_mm, needed_mm=low)
    if coverage_mm > high:
        return Reason(Why.COVERS_TOO_MUCH, coverage_mm=coverage_mm, limit_mm=high)
    if stack.missing_mm > MAX_GAP_MM:
        return Reason(Why.SLICES_MISSING, gap_mm=stack.missing_mm)
    return None


# --- what the header says ------------------------------------------------------------------------------------------


def _no_ct(headers: Sequence[Dataset]) -> Reason:
    names = sorted({UID(text(header, "SOPClassUID") or "1").name for header in headers})
    return Reason(Why.NOT_CT, classes=", ".join(names)) if names else Reason(Why.NO_IMAGES)


def _image_type(header: Dataset) -> frozenset[str]:
    return frozenset(value.upper() for value in texts(header, "ImageType"))


def _without_geometry(images: Sequence[Dataset], reason: Reason) -> Verdict:
    """Slices without a place: a head CT gets the reason, anything else is left alone."""
    part = vocabulary.body_part(images[0])
    return NotAnalysed(reason) if part == vocabulary.HEAD else SetAside(reason)


def _other_purpose(stack: Stack) -> Reason | None:
    """Images that are not the CT slices themselves."""
    if not stack.axial:
        return Reason(Why.NOT_AXIAL)
    if reason := next((made.purpose for made in stack.made if made.purpose is not None), None):
        return reason
    if len(stack.order) == 1 and len(stack.left_out) > 1:
        return Reason(Why.BOLUS_TRACKING)
    return Reason(Why.OVER_TIME) if stack.over_time else None


def _other_body_part(slices: Sequence[tuple[Dataset, Plane]]) -> Reason | None:
    header, plane = slices[len(slices) // 2]
    part = vocabulary.body_part(header)
    if part is None:
        field_mm = max(size * mm for size, mm in zip(plane.shape, plane.pixel_mm, strict=True))
        return Reason(Why.WIDE_FIELD, field_mm=field_mm) if field_mm > HEAD_FIELD_MM else None
    return None if part == vocabulary.HEAD else Reason(Why.OTHER_BODY_PART, part=part)


def _unfit_slices(slices: Sequence[tuple[Dataset, Plane]]) -> Reason | None:
    """The first reason against any slice of a head CT: every one is asked, because a series may change within."""
    mades = [plane.made for _, plane in slices]
    if reason := next((found for made in mades if (found := made.contrast or made.spectral or made.sharp)), None):
        return reason
    thickness_mm = [made.thickness_mm or 0.0 for made in mades]
    for found_mm, limit_mm in ((median(thickness_mm), MAX_THICKNESS_MM), (max(thickness_mm), MAX_THICKEST_MM)):
        if found_mm > limit_mm:
            return Reason(Why.THICK_SLICES, thickness_mm=found_mm, limit_mm=limit_mm)
    return next(
        (found for header, plane in slices if (found := _rescale(frame_attributes(header, plane.frame_number)))), None
    )


def _rescale(frame: Dataset) -> Reason | None:
    if items(frame, "ModalityLUTSequence"):
        return Reason(Why.MODALITY_LUT)
    if number(frame, "RescaleSlope") is None or number(frame, "RescaleIntercept") is None:
        return Reason(Why.NO_RESCALE)
    return None if vocabulary.is_hounsfield(text(frame, "RescaleType")) else Reason(Why.NOT_HOUNSFIELD)
