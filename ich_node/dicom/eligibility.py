"""Is this series one that the model was made for? The answer is a value, never an exception.

In: the headers of the instances of one series (no pixels). Out: `Eligible`, `NotAnalysed(reason)`: a head CT for which
a person expects an answer and gets a visible "not analysed, because …", or `SetAside(reason)`: not for us (a localizer,
another body part, a reformat, our own results coming back), recorded and otherwise left alone. Pure. What the header
does not say is left to the gates, which look at the pixels. What the words mean is in `vocabulary`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pydicom import Dataset
from pydicom.uid import UID, CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage

from ich_node.dicom import vocabulary
from ich_node.dicom.geometry import BROKEN, Plane, Stack, frame_attributes, planes_of, stack_of
from ich_node.dicom.vocabulary import number, text, texts
from ich_node.domain.errors import UnusableSeries
from ich_node.domain.reasons import Reason, Why

CT_CLASSES = frozenset({CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage})
OWN_MANUFACTURER = "ich_node"

MIN_SLICES = 10
MAX_THICKNESS_MM = 6.0
MAX_SPACING_MM = 7.5
COVERAGE_MM = (100.0, 320.0)
MAX_GAP_MM = 20.0
HEAD_FIELD_MM = 320.0
"""Without a word on the body part, a wider field of view than this is not taken for a head."""

KEYWORDS = (
    *("SOPClassUID", "SOPInstanceUID", "Modality", "ImageType", "Manufacturer", "ContributingEquipmentSequence"),
    *("BodyPartExamined", "AnatomicRegionSequence", "StudyDescription", "SeriesDescription", "ProtocolName"),
    *("ContrastBolusAgent", "ContrastBolusAgentSequence", "ContrastBolusVolume", "ConvolutionKernel"),
    *("SliceThickness", "RescaleSlope", "RescaleIntercept", "RescaleType", "ModalityLUTSequence"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns", "FrameOfReferenceUID"),
    *("TemporalPositionIdentifier", "AcquisitionNumber", "NumberOfFrames", "SpecificCharacterSet"),
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
class SetAside:
    """Not a series that anybody expects an answer for."""

    reason: Reason


Verdict = Eligible | NotAnalysed | SetAside


def verdict(headers: Sequence[Dataset]) -> Verdict:
    """Judge one series by its headers; their order does not matter."""
    try:
        return _judged(headers)
    except BROKEN:
        return NotAnalysed(Reason(Why.HEADER_UNREADABLE))


def _judged(headers: Sequence[Dataset]) -> Verdict:
    images = [header for header in headers if header.get("SOPClassUID") in CT_CLASSES]
    if not images:
        return SetAside(_no_ct(headers))
    if any(is_own(header) for header in images):
        return SetAside(Reason(Why.OWN_RESULT))
    images = [header for header in images if "LOCALIZER" not in _image_type(header)]
    if not images:
        return SetAside(Reason(Why.LOCALIZER))
    try:
        places = [(header, plane) for header in images for plane in planes_of(header)]
        stack = stack_of([plane for _, plane in places])
    except UnusableSeries as error:
        return _without_geometry(images, error.reason)
    views = [_View(*places[index], stack) for index in stack.order]
    middle = views[len(views) // 2]
    for judge in (_other_purpose, _other_body_part):
        if reason := judge(middle):
            return SetAside(reason)
    reason = unfit(stack) or _unfit_image(middle)
    return NotAnalysed(reason) if reason else Eligible()


def is_own(header: Dataset) -> bool:
    """Whether an instance was made by this project, by its equipment or a contribution to it."""
    makers = [text(header, "Manufacturer")]
    makers += [text(item, "Manufacturer") for item in header.get("ContributingEquipmentSequence") or ()]
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


@dataclass(frozen=True, slots=True)
class _View:
    """One slice of the stack: its header, its plane, and the stack."""

    header: Dataset
    plane: Plane
    stack: Stack

    @property
    def frame(self) -> Dataset:
        """The attributes of the frame itself (of the image, when it is a classic one)."""
        return frame_attributes(self.header, self.plane.frame_number)

    def said(self, keyword: str) -> str:
        """What the frame says, else the instance."""
        return text(self.frame, keyword) or text(self.header, keyword)


def _no_ct(headers: Sequence[Dataset]) -> Reason:
    names = sorted({UID(text(header, "SOPClassUID") or "1").name for header in headers})
    return Reason(Why.NOT_CT, classes=", ".join(names)) if names else Reason(Why.NO_IMAGES)


def _image_type(header: Dataset) -> frozenset[str]:
    values = [*texts(header, "ImageType")]
    if header.get("SharedFunctionalGroupsSequence") and header.get("PerFrameFunctionalGroupsSequence"):
        values += texts(frame_attributes(header, 1), "FrameType")
    return frozenset(value.upper() for value in values)


def _without_geometry(images: Sequence[Dataset], reason: Reason) -> Verdict:
    """Slices without a place: a head CT gets the reason, anything else is left alone."""
    part = vocabulary.body_part(images[0])
    return NotAnalysed(reason) if part == vocabulary.HEAD else SetAside(reason)


def _other_purpose(view: _View) -> Reason | None:
    """Images that are not the CT slices themselves."""
    if not view.stack.axial:
        return Reason(Why.NOT_AXIAL)
    if found := _image_type(view.header) & vocabulary.DERIVED_TYPES:
        return Reason(Why.NOT_THE_SLICES, word=", ".join(sorted(found)))
    if word := vocabulary.other_purpose(view.said("SeriesDescription")):
        return Reason(Why.NOT_THE_SLICES, word=word)
    if len(view.stack.order) == 1 and len(view.stack.left_out) > 1:
        return Reason(Why.BOLUS_TRACKING)
    return None


def _other_body_part(view: _View) -> Reason | None:
    part = vocabulary.body_part(view.header)
    if part is None:
        field_mm = max(size * mm for size, mm in zip(view.plane.shape, view.plane.pixel_mm, strict=True))
        return Reason(Why.WIDE_FIELD, field_mm=field_mm) if field_mm > HEAD_FIELD_MM else None
    return None if part == vocabulary.HEAD else Reason(Why.OTHER_BODY_PART, part=part)


def _unfit_image(view: _View) -> Reason | None:
    """The first reason against the slices of a head CT; None when there is none."""
    checks: tuple[Callable[[_View], Reason | None], ...] = (_contrast, _kernel, _thickness, _rescale)
    return next((reason for check in checks if (reason := check(view))), None)


def _contrast(view: _View) -> Reason | None:
    if vocabulary.is_agent(view.said("ContrastBolusAgent")):  # free text, not quoted: reasons go to logs
        return Reason(Why.CONTRAST_NAMED)
    if view.header.get("ContrastBolusAgentSequence") or (number(view.header, "ContrastBolusVolume") or 0) > 0:
        return Reason(Why.CONTRAST_RECORDED)
    description = view.said("SeriesDescription")
    if word := vocabulary.contrast_word(description):
        return Reason(Why.CONTRAST_DESCRIBED, word=word)
    return None


def _kernel(view: _View) -> Reason | None:
    kernels = texts(view.frame, "ConvolutionKernel")
    if sharp := vocabulary.sharp_kernel(kernels):
        return Reason(Why.SHARP_KERNEL, kernel=sharp)
    if not kernels and (word := vocabulary.sharp_word(view.said("SeriesDescription"))):
        return Reason(Why.SHARP_DESCRIBED, word=word)
    return None


def _thickness(view: _View) -> Reason | None:
    thickness_mm = number(view.frame, "SliceThickness")
    if thickness_mm is not None and thickness_mm > MAX_THICKNESS_MM:
        return Reason(Why.THICK_SLICES, thickness_mm=thickness_mm, limit_mm=MAX_THICKNESS_MM)
    return None


def _rescale(view: _View) -> Reason | None:
    if view.frame.get("ModalityLUTSequence"):
        return Reason(Why.MODALITY_LUT)
    if number(view.frame, "RescaleSlope") is None or number(view.frame, "RescaleIntercept") is None:
        return Reason(Why.NO_RESCALE)
    kind = text(view.frame, "RescaleType").upper()
    return None if kind in ("", "HU", "US") else Reason(Why.NOT_HOUNSFIELD)
