"""How an image was made, as far as its header says: kernel, contrast, energy, time, and what it is instead of a slice.

In: the header of an image and the attributes of one of its frames. Out: `Made`, a frozen value that images at one place
are told apart by (passes.py) and that every slice of a series is asked for (eligibility.py). Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydicom import Dataset

from ich_node.dicom import vocabulary
from ich_node.dicom.reading import items, number, text, texts, whole
from ich_node.domain.reasons import Reason, Why


@dataclass(frozen=True, slots=True)
class Made:
    """How an image was made; empty, 0 or None where the header is silent.

    purpose: why it is no slice of the scanner. contrast, sharp, spectral: what says that a contrast agent or a sharp
    kernel was used, or that the values are not those of one tube and a ring of detectors. time: Acquisition DateTime,
    or Date and Time, as text. kvp: kilovolts.
    """

    purpose: Reason | None = None
    contrast: Reason | None = None
    sharp: Reason | None = None
    spectral: Reason | None = None
    kernel: str = ""
    kvp: float = 0.0
    image_type: str = ""
    frame_of_reference: str = ""
    temporal: int = 0
    acquisition: int = 0
    time: str = ""
    instance: int | None = None
    thickness_mm: float | None = None


def made_of(header: Dataset, frame: Dataset) -> Made:
    """What `frame` (the image itself, when it is a classic one) says, else the instance."""

    def said(*keywords: str) -> str:
        return next((found for source in (frame, header) for name in keywords if (found := text(source, name))), "")

    def counted(*keywords: str) -> int:
        return next((found for name in keywords if (found := whole(frame, name)) is not None), 0)

    types = tuple(value.upper() for name in ("ImageType", "FrameType") for value in texts(frame, name))
    types = types or tuple(value.upper() for value in texts(header, "ImageType"))
    description = said("SeriesDescription")
    return Made(
        purpose=_purpose(types, description),
        contrast=_contrast(said("ContrastBolusAgent"), header, description),
        sharp=_sharp(texts(frame, "ConvolutionKernel") or texts(header, "ConvolutionKernel"), description),
        spectral=_spectral(types, description, frame),
        kernel=said("ConvolutionKernel"),
        kvp=number(frame, "KVP") or number(header, "KVP") or 0.0,
        image_type="\\".join(types),
        frame_of_reference=text(header, "FrameOfReferenceUID"),
        temporal=counted("TemporalPositionIndex", "TemporalPositionIdentifier"),
        acquisition=counted("FrameAcquisitionNumber", "AcquisitionNumber"),
        time=said("FrameAcquisitionDateTime", "AcquisitionDateTime")
        or said("AcquisitionDate") + said("AcquisitionTime"),
        instance=whole(header, "InstanceNumber"),
        thickness_mm=number(frame, "SliceThickness"),
    )


GIVEN = ("ContrastBolusVolume", "ContrastBolusTotalDose", "ContrastFlowRate")
"""Attributes whose number says that something was injected."""


def _purpose(types: tuple[str, ...], description: str) -> Reason | None:
    if found := vocabulary.derived_types(types):
        return Reason(Why.NOT_THE_SLICES, word=found)
    if word := vocabulary.other_purpose(description):
        return Reason(Why.NOT_THE_SLICES, word=word)
    return None


def _contrast(agent: str, header: Dataset, description: str) -> Reason | None:
    by_mouth = vocabulary.is_by_mouth(text(header, "ContrastBolusRoute"))
    if vocabulary.is_agent(agent) and not by_mouth:  # free text, not quoted: reasons go to logs
        return Reason(Why.CONTRAST_NAMED)
    given = any((number(header, keyword) or 0) > 0 for keyword in GIVEN)
    if items(header, "ContrastBolusAgentSequence") or (given and not by_mouth):
        return Reason(Why.CONTRAST_RECORDED)
    if word := vocabulary.contrast_word(description):
        return Reason(Why.CONTRAST_DESCRIBED, word=word)
    return None


def _spectral(types: tuple[str, ...], description: str, frame: Dataset) -> Reason | None:
    if word := vocabulary.spectral_word(description, types):
        return Reason(Why.SPECTRAL, word=word)
    if (kev := number(frame, "MonoenergeticEnergyEquivalent")) is not None:
        return Reason(Why.SPECTRAL, word=f"{kev:g} keV")
    return None


def _sharp(kernels: list[str], description: str) -> Reason | None:
    if sharp := vocabulary.sharp_kernel(kernels):
        return Reason(Why.SHARP_KERNEL, kernel=sharp)
    if not kernels and (word := vocabulary.sharp_word(description)):
        return Reason(Why.SHARP_DESCRIBED, word=word)
    return None
