"""A phantom head as one Enhanced CT Image (PS3.3 A.38.1): all slices as frames of one multi-frame instance.

In: a phantom and the options of `series`. Out: one dataset, encoded. The frames lie in the order of the phantom, foot
to head, or as `frame_order` says; where each one lies stands in its functional groups only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import UID, EnhancedCTImageStorage

from ich_node.phantom.series import Grid, HeadVolume, SeriesOptions, common, ds, encoded, heights_of, set_pixels, uid

HEAD = Code("69536005", "SCT", "Head")
ORIGINAL = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
ONLY_CLASSIC = (
    *("AcquisitionNumber", "KVP", "ExposureTime", "XRayTubeCurrent", "GantryDetectorTilt", "ConvolutionKernel"),
    *("WindowCenter", "WindowWidth", "RescaleIntercept", "RescaleSlope", "RescaleType", "SliceThickness"),
    *("BodyPartExamined", "AcquisitionDate", "AcquisitionTime"),
)


def build_enhanced(
    phantom: HeadVolume, *, seed: int = 0, frame_order: Sequence[int] | None = None, **changes: Any
) -> Dataset:
    """One Enhanced CT of the whole phantom; `changes` are fields of SeriesOptions."""
    options = replace(SeriesOptions(), **changes)
    order = [int(index) for index in (range(len(phantom.hu)) if frame_order is None else frame_order)]
    grid = Grid(phantom.hu.shape[1:], phantom.spacing_mm[1:], options)
    heights = heights_of(phantom, options)
    dataset = common(seed, options)
    dataset.SOPClassUID = EnhancedCTImageStorage
    dataset.SOPInstanceUID = uid("enhanced", seed, options.series_number)
    set_pixels(dataset, np.stack([grid.turned(phantom.hu[index]) for index in order]), options)
    dataset.NumberOfFrames = len(order)
    places = []
    for index in order:
        place = Dataset()
        grid.place(place, heights[index])
        places.append(place)
    dataset.SharedFunctionalGroupsSequence = [_shared(dataset, places[0], phantom.spacing_mm[0])]
    dataset.PerFrameFunctionalGroupsSequence = [
        _per_frame(place, index, dataset.AcquisitionDate + dataset.AcquisitionTime)
        for index, place in zip(order, places, strict=True)
    ]
    _module(dataset)
    for keyword, value in options.attributes.items():
        setattr(dataset, keyword, value)
    return encoded(dataset, UID(options.transfer_syntax))


def _item(**attributes: Any) -> list[Dataset]:
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return [item]


def _code(code: Code) -> list[Dataset]:
    return _item(CodeValue=code.value, CodingSchemeDesignator=code.scheme_designator, CodeMeaning=code.meaning)


def _shared(image: Dataset, place: Dataset, thickness_mm: float) -> Dataset:
    """The functional groups that all frames share (PS3.3 A.38.1.4)."""
    groups = Dataset()
    groups.PixelMeasuresSequence = _item(PixelSpacing=place.PixelSpacing, SliceThickness=ds(thickness_mm))
    groups.PlaneOrientationSequence = _item(ImageOrientationPatient=place.ImageOrientationPatient)
    groups.FrameAnatomySequence = _item(FrameLaterality="U", AnatomicRegionSequence=_code(HEAD))
    groups.FrameVOILUTSequence = _item(WindowCenter=image.WindowCenter, WindowWidth=image.WindowWidth)
    groups.PixelValueTransformationSequence = _item(
        RescaleIntercept=image.RescaleIntercept, RescaleSlope=image.RescaleSlope, RescaleType=image.RescaleType
    )
    groups.CTImageFrameTypeSequence = _item(
        FrameType=ORIGINAL,
        PixelPresentation="MONOCHROME",
        VolumetricProperties="VOLUME",
        VolumeBasedCalculationTechnique="NONE",
    )
    groups.CTAcquisitionTypeSequence = _item(AcquisitionType="SPIRAL", ConstantVolumeFlag="NO", FluoroscopyFlag="NO")
    groups.CTAcquisitionDetailsSequence = _item(
        RotationDirection="CW",
        RevolutionTime=1.0,
        SingleCollimationWidth=0.6,
        TotalCollimationWidth=19.2,
        TableHeight=150.0,
        GantryDetectorTilt=float(image.GantryDetectorTilt),
        DataCollectionDiameter=500.0,
    )
    groups.CTTableDynamicsSequence = _item(TableSpeed=11.5, TableFeedPerRotation=11.5, SpiralPitchFactor=0.6)
    groups.CTGeometrySequence = _item(DistanceSourceToDetector=1000.0, DistanceSourceToDataCollectionCenter=550.0)
    groups.CTReconstructionSequence = _item(
        ReconstructionAlgorithm="FILTER_BACK_PROJ",
        ConvolutionKernel=image.ConvolutionKernel,
        ConvolutionKernelGroup="BRAIN",
        ReconstructionDiameter=230.0,
        ReconstructionPixelSpacing=[float(value) for value in place.PixelSpacing],
        ReconstructionAngle=360.0,
        ImageFilter="NONE",
    )
    groups.CTExposureSequence = _item(
        ExposureTimeInms=1000.0,
        XRayTubeCurrentInmA=250.0,
        ExposureInmAs=250.0,
        ExposureModulationType="NONE",
        CTDIvol=50.0,
    )
    groups.CTXRayDetailsSequence = _item(
        KVP=120.0, FocalSpots=[1.0], FilterType="WEDGE", FilterMaterial="ALUMINUM", CalciumScoringMassFactorPatient=1.0
    )
    groups.IrradiationEventIdentificationSequence = _item(IrradiationEventUID=uid("irradiation", int(image.StudyID)))
    return groups


def _per_frame(place: Dataset, index: int, acquired: str) -> Dataset:
    groups = Dataset()
    groups.FrameContentSequence = _item(
        FrameAcquisitionNumber=1,
        FrameReferenceDateTime=acquired,
        FrameAcquisitionDateTime=acquired,
        FrameAcquisitionDuration=1000.0,
        StackID="1",
        InStackPositionNumber=index + 1,
        DimensionIndexValues=[1, index + 1],
    )
    groups.PlanePositionSequence = _item(ImagePositionPatient=place.ImagePositionPatient)
    groups.CTPositionSequence = _item(
        TablePosition=float(place.SliceLocation),
        DataCollectionCenterPatient=[0.0, 0.0, float(place.SliceLocation)],
        ReconstructionTargetCenterPatient=[0.0, 0.0, float(place.SliceLocation)],
    )
    return groups


def _module(dataset: Dataset) -> None:
    """Attributes of the modules that a classic CT image has not (PS3.3 C.8.15.2, C.7.6.16, C.7.6.17)."""
    dataset.AcquisitionDateTime = dataset.AcquisitionDate + dataset.AcquisitionTime
    for keyword in ONLY_CLASSIC:
        if keyword in dataset:
            delattr(dataset, keyword)
    dataset.ImageType = ORIGINAL
    dataset.AcquisitionNumber = 1
    dataset.AcquisitionDuration = 30.0
    dataset.ContentQualification = "RESEARCH"
    dataset.ImageComments = "Synthetic head, no patient"
    dataset.BurnedInAnnotation = "NO"
    dataset.LossyImageCompression = "00"
    dataset.PresentationLUTShape = "IDENTITY"
    dataset.PixelPresentation = "MONOCHROME"
    dataset.VolumetricProperties = "VOLUME"
    dataset.VolumeBasedCalculationTechnique = "NONE"
    dataset.InstanceNumber = 1
    dataset.AcquisitionContextSequence = []
    organization = uid("dimensions", 0)
    dataset.DimensionOrganizationSequence = _item(DimensionOrganizationUID=organization)
    dataset.DimensionIndexSequence = [
        *_item(
            DimensionOrganizationUID=organization,
            DimensionIndexPointer=0x00209056,  # Stack ID
            FunctionalGroupPointer=0x00209111,  # Frame Content Sequence
        ),
        *_item(
            DimensionOrganizationUID=organization,
            DimensionIndexPointer=0x00209057,  # In-Stack Position Number
            FunctionalGroupPointer=0x00209111,
        ),
    ]
