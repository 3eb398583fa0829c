"""Pictures as Secondary Capture images that lie exactly where the CT slices lie.

In: an analysis, its content (words), options, identity and time. Out: SC Image Storage datasets (PS3.3 A.8.1) in order:
the summary page, then the overlays from foot to head. A viewer that sorts by position must keep that order, so that the
page lies one slice distance below the lowest slice; a viewer that sorts by Instance Number finds it first anyway.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from ich_node import geometry
from ich_node.domain import DISCLAIMER, Analysis, Volume
from ich_node.report import headers, overlay
from ich_node.report.drawing import Picture
from ich_node.report.identifiers import Identity

SERIES_NUMBER_OFFSET = 1
SOURCE_IMAGE = Code("121322", "DCM", "Source image for image processing operation")
PLANE = "ImagePositionPatient ImageOrientationPatient PixelSpacing SliceThickness SliceLocation".split()  # noqa: SIM905
LOSSY = "LossyImageCompression LossyImageCompressionRatio LossyImageCompressionMethod".split()  # noqa: SIM905
FRAME_OF_REFERENCE = ("FrameOfReferenceUID", "PositionReferenceIndicator")


@dataclass(frozen=True, slots=True, eq=False)
class Slice:
    """A source image or frame: `header` is the instance, `plane` what the frame says of itself."""

    header: Dataset
    plane: Dataset
    frame_number: int | None

    @classmethod
    def of(cls, volume: Volume, index: int) -> Slice:
        """Slice `index` of a volume."""
        number = volume.frame_numbers[index] if volume.frame_numbers else None
        header = volume.headers[index]
        return cls(header, geometry.frame_attributes(header, number), number)

    @property
    def grid(self) -> overlay.Grid:
        """Its orientation and pixel size."""
        spacing = [float(value) for value in self.plane.PixelSpacing]
        return overlay.Grid(tuple(map(float, self.plane.ImageOrientationPatient)), (spacing[0], spacing[1]))


class Series:
    """A series of secondary captures in the making: what all of its images have in common."""

    def __init__(
        self, analysis: Analysis, identity: Identity, number: int, description: str, made_at: datetime
    ) -> None:
        self._identity = identity
        self._source = analysis.headers[0]
        common = Dataset()
        headers.stamp(common, self._source, headers.Equipment.of(analysis.card, identity), made_at)
        headers.image_context(common, self._source)
        common.SeriesInstanceUID = identity.series("sc")
        common.SeriesNumber = number
        common.SeriesDescription = description
        common.Modality = "CT"
        common.ConversionType = "WSD"
        common.SecondaryCaptureDeviceManufacturer = common.Manufacturer
        common.SecondaryCaptureDeviceManufacturerModelName = common.ManufacturerModelName
        common.SecondaryCaptureDeviceSoftwareVersions = common.SoftwareVersions
        common.DateOfSecondaryCapture, common.TimeOfSecondaryCapture = common.ContentDate, common.ContentTime
        common.ImageType = ["DERIVED", "SECONDARY"]
        common.BurnedInAnnotation = "YES"
        common.ImageComments = DISCLAIMER
        headers.copy_elements(common, self._source, LOSSY)
        self._common = common

    def image(self, picture: Picture, role: str, source: str, number: int, derivation: str) -> Dataset:
        """One RGB picture uint8 [rows, columns, 3] as SC image `number`, without geometry and sources."""
        image = copy.deepcopy(self._common)
        image.SOPClassUID = SecondaryCaptureImageStorage
        image.SOPInstanceUID = self._identity.instance(role, source)
        image.InstanceNumber = number
        image.DerivationDescription = derivation
        set_pixels(image, picture)
        set_file_meta(image)
        return image


def set_pixels(image: Dataset, picture: Picture) -> None:
    """Image Pixel module of RGB uint8 [rows, columns, 3] or [frames, rows, columns, 3] (PS3.3 C.7.6.3)."""
    image.SamplesPerPixel = 3
    image.PhotometricInterpretation = "RGB"
    image.PlanarConfiguration = 0
    image.Rows, image.Columns = picture.shape[-3:-1]
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 8, 8, 7, 0
    data = picture.tobytes()
    image.PixelData = data + b"\0" * (len(data) % 2)
    image["PixelData"].VR = "OB"


def set_file_meta(image: Dataset) -> None:
    """File meta information of a native little endian object (PS3.10 7.1)."""
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID


def set_plane(image: Dataset, source: Slice) -> None:
    """Put an image exactly where a source slice lies (PS3.3 C.7.6.2, C.7.4.1)."""
    headers.copy_elements(image, source.plane, PLANE)
    headers.copy_elements(image, source.header, FRAME_OF_REFERENCE, empty=("PositionReferenceIndicator",))
    image.PatientOrientation = list(overlay.patient_orientation(source.grid.orientation))


def source_items(sources: Iterable[Slice], preserved: bool) -> list[Dataset]:
    """Items of Source Image Sequence (PS3.3 C.7.6.1.1.4), one per instance with all of its frames that were used."""
    items: dict[str, Dataset] = {}
    for source in sources:
        uid = str(source.header.SOPInstanceUID)
        item = items.get(uid)
        if item is None:
            item = items[uid] = Dataset()
            item.ReferencedSOPClassUID = source.header.SOPClassUID
            item.ReferencedSOPInstanceUID = uid
            item.PurposeOfReferenceCodeSequence = [headers.code_item(SOURCE_IMAGE)]
            item.SpatialLocationsPreserved = "YES" if preserved else "NO"
        if source.frame_number is not None:
            item.ReferencedFrameNumber = [*_numbers(item.get("ReferencedFrameNumber")), source.frame_number]
    return list(items.values())


def _numbers(value: object) -> list[int]:
    if value is None:
        return []
    return [int(str(item)) for item in value] if isinstance(value, Iterable) else [int(str(value))]
