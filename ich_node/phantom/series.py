"""A phantom head as a DICOM CT series that a scanner could have made (PS3.3 A.3), with the variations of real life.

In: HU [slices, rows, columns], foot to head, rows to posterior, columns to the patient's left. Out: CT Image Storage
instances, one file each. Pure but for the files: the same phantom, seed and options give the same bytes. The anatomy
keeps its place in patient coordinates under every variation: a flipped, rotated or prone image says so in its
orientation.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRBigEndian, ExplicitVRLittleEndian

from ich_node import __version__

DIRECTIONS = {
    "L": (1.0, 0.0, 0.0),
    "R": (-1.0, 0.0, 0.0),
    "P": (0.0, 1.0, 0.0),
    "A": (0.0, -1.0, 0.0),
}
FIRST_STUDY = datetime(2026, 1, 5, 8, 0, 0)  # noqa: DTZ001 DICOM DA and TM are local times


class HeadVolume(Protocol):
    """What the writer needs of a phantom."""

    @property
    def hu(self) -> npt.NDArray[np.int16]:
        """HU int16 [slices, rows, columns], foot to head, rows to posterior, columns to the patient's left."""

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between slices, rows, columns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesOptions:
    """How the series is written.

    orientation: where a row and a column of the image point to, as in Patient Orientation (PS3.3 C.7.6.1.1.1).
    tilt_deg: gantry tilt; the table still moves along the body. positions_mm: where the slices lie along the body,
    one per slice. instance_numbers: "ascending" with the position, "descending" or "shuffled".
    signed, intercept, padding_value: the stored values. column_step: keep every n-th column (non-square pixels).
    attributes: keyword → value that replaces or adds an attribute of every image; None removes it.
    """

    transfer_syntax: str = ExplicitVRLittleEndian
    patient_name: str = "PHANTOM^HEAD"
    patient_id: str | None = None
    character_set: str | Sequence[str] = "ISO_IR 100"
    patient_position: str = "HFS"
    orientation: tuple[str, str] = ("L", "P")
    tilt_deg: float = 0.0
    positions_mm: Sequence[float] | None = None
    instance_numbers: str = "ascending"
    series_number: int = 2
    signed: bool = False
    intercept: int = -1024
    padding_value: int | None = None
    photometric_interpretation: str = "MONOCHROME2"
    column_step: int = 1
    attributes: Mapping[str, Any] = field(default_factory=dict)


def write_series(directory: Path, phantom: HeadVolume, *, seed: int = 0, **changes: Any) -> list[Path]:
    """Write one file per slice into `directory` (created if need be); `changes` are fields of SeriesOptions.

    Returns the paths, foot to head. The file names tell nothing of the order.
    """
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for dataset in build_series(phantom, seed=seed, **changes):
        paths.append(directory / f"{dataset.SOPInstanceUID.rpartition('.')[2][-12:]}.dcm")
        dataset.save_as(paths[-1], enforce_file_format=True)
    return paths


def build_series(phantom: HeadVolume, *, seed: int = 0, **changes: Any) -> list[Dataset]:
    """The datasets of a series, foot to head, encoded in the wanted transfer syntax; see `write_series`."""
    options = replace(SeriesOptions(), **changes)
    hu = phantom.hu[:, :, :: options.column_step]
    slice_mm, row_mm, column_mm = phantom.spacing_mm
    grid = Grid(hu.shape[1:], (row_mm, column_mm * options.column_step), options)
    heights = heights_of(phantom, options)
    numbers = _instance_numbers(options.instance_numbers, len(hu), seed)
    datasets = []
    for index, (image, height, number) in enumerate(zip(hu, heights, numbers, strict=True)):
        dataset = common(seed, options)
        dataset.SOPInstanceUID = uid("instance", seed, options.series_number, index)
        dataset.InstanceNumber = number
        dataset.SliceThickness = ds(slice_mm)
        grid.place(dataset, height)
        set_pixels(dataset, grid.turned(image), options)
        _override(dataset, options.attributes)
        datasets.append(encoded(dataset, UID(options.transfer_syntax)))
    return datasets


def heights_of(phantom: HeadVolume, options: SeriesOptions) -> Sequence[float]:
    """Where the slices lie along the body, in mm: as wanted, or evenly around the isocentre."""
    count, slice_mm = len(phantom.hu), phantom.spacing_mm[0]
    return options.positions_mm or [(index - (count - 1) / 2) * slice_mm for index in range(count)]


def uid(role: str, seed: int, *fields: object) -> str:
    """A UID that the same arguments always give: 2.25 and 128 bits of a hash (PS3.5 B.2)."""
    text = "\n".join(["ich_node phantom", role, str(seed), *map(str, fields)])
    return f"2.25.{int.from_bytes(hashlib.sha256(text.encode()).digest()[:16])}"


def ds(value: float) -> str:
    """A number as a Decimal String of at most 16 characters (PS3.5 6.2)."""
    return f"{round(value, 6) + 0.0:.10g}"


# --- where the pixels lie ------------------------------------------------------------------------------------------


class Grid:
    """The image plane in space, and the phantom's pixels turned into it."""

    def __init__(self, shape: tuple[int, ...], pixel_mm: tuple[float, float], options: SeriesOptions) -> None:
        self._row, self._column = (np.array(DIRECTIONS[letter]) for letter in options.orientation)
        self._transposed = options.orientation[0] in "AP"
        self.pixel_mm = pixel_mm[::-1] if self._transposed else pixel_mm
        self._shape = shape[::-1] if self._transposed else shape
        tilt = math.radians(options.tilt_deg)
        turn = np.array([[1, 0, 0], [0, math.cos(tilt), -math.sin(tilt)], [0, math.sin(tilt), math.cos(tilt)]])
        self._row, self._column = turn @ self._row, turn @ self._column

    def turned(self, image: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
        """Phantom pixels (rows to posterior, columns to the left) as this plane shows them."""
        turned = image.T if self._transposed else image
        down, right = (self._column[0], self._row[1]) if self._transposed else (self._column[1], self._row[0])
        return turned[:: 1 if down > 0 else -1, :: 1 if right > 0 else -1]

    def place(self, dataset: Dataset, height_mm: float) -> None:
        """Image Plane attributes (PS3.3 C.7.6.2); the middle of the image lies on the table's axis."""
        rows, columns = self._shape
        row_mm, column_mm = self.pixel_mm
        corner = -self._row * column_mm * (columns - 1) / 2 - self._column * row_mm * (rows - 1) / 2
        dataset.ImagePositionPatient = [ds(value) for value in corner + np.array([0, 0, height_mm])]
        dataset.ImageOrientationPatient = [ds(value) for value in (*self._row, *self._column)]
        dataset.PixelSpacing = [ds(row_mm), ds(column_mm)]
        dataset.SliceLocation = ds(height_mm)


def _instance_numbers(how: str, count: int, seed: int) -> list[int]:
    ascending = list(range(1, count + 1))
    if how == "ascending":
        return ascending
    if how == "descending":
        return ascending[::-1]
    return [int(number) for number in np.random.default_rng([seed, 7]).permutation(ascending)]


# --- the image -----------------------------------------------------------------------------------------------------


def common(seed: int, options: SeriesOptions) -> Dataset:
    """Everything that all images of the series share, apart from pixels."""
    made = FIRST_STUDY + timedelta(hours=seed % 10_000)
    dataset = Dataset()
    dataset.SpecificCharacterSet = options.character_set
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.SOPClassUID = CTImageStorage
    # Patient
    dataset.PatientName = options.patient_name
    dataset.PatientID = options.patient_id or f"PHANTOM{seed:04d}"
    dataset.PatientBirthDate = "19560229"
    dataset.PatientSex = "O"
    dataset.PatientAge = "069Y"
    # General Study
    dataset.StudyInstanceUID = uid("study", seed)
    dataset.StudyID = f"{seed % 10**9}"
    dataset.AccessionNumber = f"PH{seed % 10**9:06d}"
    dataset.ReferringPhysicianName = ""
    dataset.StudyDescription = "CT HEAD WITHOUT CONTRAST (PHANTOM)"
    # General Series
    dataset.Modality = "CT"
    dataset.SeriesInstanceUID = uid("series", seed, options.series_number)
    dataset.SeriesNumber = options.series_number
    dataset.SeriesDescription = "HEAD AXIAL 5.0"
    dataset.ProtocolName = "HEAD ROUTINE"
    dataset.BodyPartExamined = "HEAD"
    dataset.PatientPosition = options.patient_position
    dataset.FrameOfReferenceUID = uid("frame of reference", seed)
    dataset.PositionReferenceIndicator = "OM"
    # General Equipment
    dataset.Manufacturer = "ich_node phantom"
    dataset.ManufacturerModelName = "procedural head"
    dataset.DeviceSerialNumber = "0"
    dataset.SoftwareVersions = __version__
    # General Image, CT Image
    for name in ("Study", "Series", "Acquisition", "Content"):
        setattr(dataset, f"{name}Date", made.strftime("%Y%m%d"))
        setattr(dataset, f"{name}Time", made.strftime("%H%M%S"))
    dataset.AcquisitionNumber = 1
    dataset.KVP = "120"
    dataset.ExposureTime = "1000"
    dataset.XRayTubeCurrent = "250"
    dataset.GantryDetectorTilt = ds(options.tilt_deg)
    dataset.ConvolutionKernel = "STANDARD"
    dataset.WindowCenter, dataset.WindowWidth = "40", "80"
    return dataset


def set_pixels(dataset: Dataset, hu: npt.NDArray[np.int16], options: SeriesOptions) -> None:
    """Image Pixel and rescale attributes for HU [..., rows, columns] (PS3.3 C.7.6.3, C.8.2.1)."""
    bits = 16 if options.signed else 12
    low, high = (-0x8000, 0x7FFF) if options.signed else (0, 0xFFF)
    stored = np.clip(hu.astype(np.int32) - options.intercept, low, high)
    if options.padding_value is not None:
        stored[hu <= -1024] = options.padding_value
        keyword_vr = "SS" if options.signed else "US"
        dataset.add_new("PixelPaddingValue", keyword_vr, options.padding_value)
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = options.photometric_interpretation
    dataset.Rows, dataset.Columns = hu.shape[-2:]
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, bits, bits - 1
    dataset.PixelRepresentation = int(options.signed)
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = str(options.intercept), "1", "HU"
    dataset.add_new("PixelData", "OW", stored.astype("<i2" if options.signed else "<u2").tobytes())


def _override(dataset: Dataset, attributes: Mapping[str, Any]) -> None:
    for keyword, value in attributes.items():
        if value is not None:
            setattr(dataset, keyword, value)
        elif keyword in dataset:
            delattr(dataset, keyword)


def encoded(dataset: Dataset, transfer_syntax: UID) -> Dataset:
    """The dataset with File Meta Information, its Pixel Data in `transfer_syntax`."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.ImplementationClassUID = UID(uid("implementation", 0))
    meta.ImplementationVersionName = "ICH_NODE_PHANTOM"
    meta.TransferSyntaxUID = UID(ExplicitVRLittleEndian) if transfer_syntax.is_encapsulated else transfer_syntax
    dataset.file_meta = meta
    if transfer_syntax.is_encapsulated:
        dataset.compress(transfer_syntax, generate_instance_uid=False)
    elif transfer_syntax == ExplicitVRBigEndian:
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
    return dataset
