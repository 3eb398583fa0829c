"""A whole Analysis in milliseconds for tests of the results: an analytic head, honest headers, a synthetic CAM.

`make_analysis()` varies what a source varies: verdict, gantry tilt, in-plane orientation, matrix, pixel spacing,
Enhanced CT, character set. `write_series()` writes the same source as DICOM files, for validators that want both.
"""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian

from ich_node.domain.dicom import Instance as StoredInstance
from ich_node.domain.dicom import Series
from ich_node.domain.findings import (
    LABELS,
    Analysis,
    Finding,
    KeySlice,
    Laterality,
    ModelCard,
    Peak,
    Prediction,
    Priority,
    Volume,
)
from ich_node.domain.reasons import Reason, Why

CARD = ModelCard(
    id="ich_test_model",
    version="1.0.0",
    sha256=hashlib.sha256(b"weights").hexdigest(),
    labels=LABELS,
    thresholds=dict.fromkeys(LABELS, 0.5),
    stat_threshold=0.8,
    cam_threshold=0.5,
)
REFUSAL = Reason(Why.CONTRAST_NAMED)
STUDY_UID, SERIES_UID, FRAME_OF_REFERENCE = "2.25.1001", "2.25.1002", "2.25.1003"
ROW, COLUMN = np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0])
TURNS = ("axial", "flipped_columns", "flipped_rows", "half_turn", "transposed", "quarter_left", "quarter_right", "anti")


def make_analysis(
    kind: str = "positive",
    *,
    label: str = "intraparenchymal",
    laterality: Laterality = Laterality.RIGHT,
    slices: int = 12,
    rows: int = 512,
    columns: int = 512,
    pixel_mm: tuple[float, float] = (0.45, 0.45),
    tilt_deg: float = 0.0,
    turn: str = "axial",
    enhanced: bool = False,
    header: Mapping[str, Any] | None = None,
    warnings: Sequence[Reason] = (),
    reason: Reason = REFUSAL,
    hu: npt.NDArray[np.int16] | None = None,
    lesion: npt.NDArray[np.bool_] | None = None,
) -> Analysis:
    """An analysis of `kind` "positive", "negative" or "not_analysed"; `label` is the type found in a positive one.

    hu and lesion ([slices, rows, columns], rows to posterior, columns to patient left) replace the analytic head.
    """
    if hu is None or lesion is None:
        hu, lesion = analytic_head(slices, rows, columns, pixel_mm, kind == "positive", laterality)
    volume = _volume(_turned(hu, turn), pixel_mm, tilt_deg, turn, enhanced, dict(header or {}))
    common: dict[str, Any] = {
        "study_uid": str(volume.headers[0].StudyInstanceUID),
        "series_uid": str(volume.headers[0].SeriesInstanceUID),
        "input_digest": hashlib.sha256("\n".join(sorted(set(volume.sop_instance_uids))).encode()).hexdigest(),
        "card": CARD,
        "provider": "CPUExecutionProvider",
        "headers": volume.headers,
        "warnings": tuple(warnings),
    }
    if kind == "not_analysed":
        return Analysis(status="not_analysed", reason=reason, **common)
    return _analysed(kind, label, laterality, volume, _turned(lesion, turn), common)


def analytic_head(
    slices: int, rows: int, columns: int, pixel_mm: tuple[float, float], bleeding: bool, side: Laterality
) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.bool_]]:
    """HU and lesion [slices, rows, columns] of a head of ellipsoids, 5 mm slices; axes as in `make_analysis`."""
    z = (np.arange(slices) - slices * 0.45)[:, None, None] * 5.0
    y = ((np.arange(rows) - rows / 2 + 0.5) * pixel_mm[0])[None, :, None]
    x = ((np.arange(columns) - columns / 2 + 0.5) * pixel_mm[1])[None, None, :]
    size = min(rows * pixel_mm[0] * 0.44, columns * pixel_mm[1] * 0.44 / 0.82, 98.0)

    def inside(scale: float) -> npt.NDArray[np.bool_]:
        return (x / (0.82 * size)) ** 2 + (y / size) ** 2 + (z / 90.0) ** 2 < scale**2

    noise = np.random.default_rng(1).normal(0, 3, (slices, rows, columns))
    hu = np.where(inside(0.85), 34 + noise, -1000.0)
    hu = np.where(inside(1.0) & ~inside(0.93), 40 + noise, hu)
    hu = np.where(inside(0.93) & ~inside(0.85), 1100.0, hu)
    for middle in (-9.0, 9.0):
        ventricle = ((x - middle) / 6) ** 2 + ((y + 5) / 24) ** 2 + (z / 18) ** 2 < 1
        hu = np.where(ventricle, 8 + noise, hu)
    middle = {"right": -34.0, "left": 34.0}.get(side.value, 0.0)
    lesion = ((x - middle) / 15) ** 2 + ((y - 12) / 19) ** 2 + ((z - 5) / 14) ** 2 < 1
    hu = np.where(lesion & bleeding, 66 + noise, hu)
    return hu.astype(np.int16), lesion


def write_series(folder: Path, analysis: Analysis) -> list[Path]:
    """The source of an analysed series as CT files with their pixels (an Enhanced CT is one file)."""
    assert analysis.volume is not None
    pixels = (analysis.volume.hu.astype(np.int32) + 1024).astype(np.uint16)
    if analysis.volume.frame_numbers is not None:
        return [_write(folder / "ct_enhanced.dcm", analysis.headers[0], pixels)]
    pairs = enumerate(zip(analysis.headers, pixels, strict=True))
    return [_write(folder / f"ct{index:03d}.dcm", header, plane) for index, (header, plane) in pairs]


def as_series(analysis: Analysis) -> Series:
    """The series that the analysis is about, without files."""
    stored = [
        StoredInstance(
            analysis.study_uid, analysis.series_uid, h.SOPClassUID, h.SOPInstanceUID, ExplicitVRLittleEndian, Path()
        )
        for h in analysis.headers
    ]
    return Series(analysis.study_uid, analysis.series_uid, tuple(stored))


def _analysed(
    kind: str,
    label: str,
    side: Laterality,
    volume: Volume,
    lesion: npt.NDArray[np.bool_],
    common: dict[str, Any],
) -> Analysis:
    lit = np.flatnonzero(lesion.any((1, 2)))
    positive = kind == "positive"
    present = {"any", label} if positive else set()
    study = np.array([0.96 if name in present else 0.04 + 0.01 * i for i, name in enumerate(LABELS)], np.float32)
    weight = np.exp(-(((np.arange(len(volume.hu)) - lit.mean()) / (0.6 * len(lit))) ** 2))
    prediction = Prediction(
        slice_probability=(weight[:, None] * study).astype(np.float32),
        study_probability=study,
        cam=np.zeros((len(volume.hu), len(LABELS), 16, 16), np.float32),
    )
    best = int(lit[len(lit) // 2])
    findings = tuple(
        _finding(name, study[i], name in present, side, volume, lesion, best) for i, name in enumerate(LABELS)
    )
    keys = [best - 1, best, best + 1] if positive else []
    key_slices = tuple(KeySlice(index, label, _heat(lesion, index, volume), side, ("parietal lobe",)) for index in keys)
    return Analysis(
        status="analysed",
        reason=None,
        priority=Priority.STAT if positive else Priority.ROUTINE,
        findings=findings,
        volume=volume,
        prediction=prediction,
        key_slices=key_slices,
        survey=() if positive else tuple(i for i in (best - 2, best, best + 2) if 0 <= i < len(volume.hu)),
        timings_s={"read": 0.4, "infer": 2.1, "report": 0.3},
        **common,
    )


def _finding(
    name: str, p: float, present: bool, side: Laterality, volume: Volume, lesion: npt.NDArray[np.bool_], best: int
) -> Finding:
    if not present:
        return Finding(name, float(p), False)
    lit = np.flatnonzero(lesion.any((1, 2)))
    row, column = (round(float(axis.mean())) for axis in np.nonzero(lesion[best]))
    position = volume.affine @ np.array([best, row, column, 1.0])
    frames = volume.frame_numbers
    return Finding(
        label=name,
        probability=float(p),
        present=True,
        laterality=side,
        sites=("parietal lobe",),
        first_slice=int(lit[0]) + 1,
        last_slice=int(lit[-1]) + 1,
        peak=Peak(
            volume.sop_instance_uids[best],
            frames[best] if frames else None,
            best,
            row,
            column,
            (float(position[0]), float(position[1]), float(position[2])),
        ),
        extent_mm=38.0,
    )


def _heat(lesion: npt.NDArray[np.bool_], index: int, volume: Volume) -> npt.NDArray[np.float32]:
    """A CAM as a network makes one: larger and softer than the bleeding itself."""
    plane = lesion[index] if lesion[index].any() else lesion[np.flatnonzero(lesion.any((1, 2)))[0]]
    r, c = np.nonzero(plane)
    height, width = max(float(np.ptp(r)), 8.0), max(float(np.ptp(c)), 8.0)
    y, x = np.mgrid[: plane.shape[0], : plane.shape[1]]
    heat = np.exp(-(((y - r.mean()) / (0.75 * height)) ** 2 + ((x - c.mean()) / (0.75 * width)) ** 2))
    return np.asarray(0.95 * heat, np.float32)


def _turned(stack: npt.NDArray[Any], turn: str) -> npt.NDArray[Any]:
    transpose, up, back = _axes(turn)
    stored = stack.swapaxes(1, 2) if transpose else stack
    return np.ascontiguousarray(stored[:, :: -1 if up else 1, :: -1 if back else 1])


def _axes(turn: str) -> tuple[bool, bool, bool]:
    """(transposed, rows reversed, columns reversed) of a stored orientation."""
    index = TURNS.index(turn)
    up = turn in ("flipped_rows", "half_turn", "quarter_left", "anti")
    back = turn in ("flipped_columns", "half_turn", "quarter_right", "anti")
    return index >= 4, up, back


def _volume(
    hu: npt.NDArray[np.int16],
    pixel_mm: tuple[float, float],
    tilt_deg: float,
    turn: str,
    enhanced: bool,
    extra: dict[str, Any],
) -> Volume:
    transpose, up, back = _axes(turn)
    spacing = pixel_mm[::-1] if transpose else pixel_mm
    angle = math.radians(tilt_deg)
    tilted = np.array([0.0, math.cos(angle), math.sin(angle)])
    along_columns, along_rows = (tilted, ROW) if transpose else (ROW, tilted)
    row = -along_columns if back else along_columns
    column = -along_rows if up else along_rows
    count, height, width = hu.shape
    centre = (width - 1) / 2 * row * spacing[1] + (height - 1) / 2 * column * spacing[0]
    positions = np.array([[0.0, 0.0, 5.0 * index] for index in range(count)]) - centre
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = (0.0, 0.0, 5.0), column * spacing[0], row * spacing[1]
    affine[:3, 3] = positions[0]
    geometry = (positions, np.concatenate([row, column]), spacing, hu.shape)
    headers = _enhanced(*geometry, extra) if enhanced else _slices(*geometry, extra)
    return Volume(
        hu=hu,
        spacing_mm=(5.0 * math.cos(angle), spacing[0], spacing[1]),
        affine=affine,
        positions_mm=positions,
        sop_instance_uids=tuple(str(header.SOPInstanceUID) for header in headers),
        headers=headers,
        frame_numbers=tuple(range(1, count + 1)) if enhanced else None,
    )


def _common(shape: tuple[int, ...]) -> Dataset:
    header = Dataset()
    values = {
        "SpecificCharacterSet": "ISO_IR 100",
        "PatientName": "PHANTOM^HEAD",
        "PatientID": "PHANTOM-1",
        "IssuerOfPatientID": "ICH",
        "PatientBirthDate": "19700101",
        "PatientSex": "O",
        "StudyInstanceUID": STUDY_UID,
        "StudyID": "1",
        "StudyDate": "20261120",
        "StudyTime": "030000",
        "AccessionNumber": "ACC-1",
        "ReferringPhysicianName": "",
        "StudyDescription": "CT HEAD",
        "SeriesInstanceUID": SERIES_UID,
        "SeriesNumber": 2,
        "SeriesDescription": "HEAD 5.0 H31",
        "AcquisitionDate": "20261120",
        "AcquisitionTime": "030100",
        "ContentDate": "20261120",
        "ContentTime": "030200",
        "Modality": "CT",
        "Manufacturer": "Phantom maker",
        "ManufacturerModelName": "Phantom",
        "DeviceSerialNumber": "1",
        "SoftwareVersions": "1",
        "BodyPartExamined": "HEAD",
        "PatientPosition": "HFS",
        "FrameOfReferenceUID": FRAME_OF_REFERENCE,
        "PositionReferenceIndicator": "",
        "BurnedInAnnotation": "NO",
        "LossyImageCompression": "00",
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": shape[1],
        "Columns": shape[2],
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 0,
    }
    for keyword, value in values.items():
        setattr(header, keyword, value)
    return header


def _overridden(header: Dataset, extra: dict[str, Any]) -> Dataset:
    """A keyword with the value None is taken out of the header."""
    for keyword, value in extra.items():
        if value is not None:
            setattr(header, keyword, value)
        elif keyword in header:
            delattr(header, keyword)
    return header


def _numbers(values: npt.ArrayLike) -> list[float]:
    return [float(f"{value:.6f}") for value in np.asarray(values, np.float64)]


def _slices(
    positions: npt.NDArray[np.float64],
    orientation: npt.NDArray[np.float64],
    spacing: tuple[float, float],
    shape: tuple[int, ...],
    extra: dict[str, Any],
) -> tuple[Dataset, ...]:
    headers = []
    for index, position in enumerate(positions):
        header = _common(shape)
        header.SOPClassUID = CTImageStorage
        header.SOPInstanceUID = UID(f"2.25.1004{index:03d}")
        header.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        header.InstanceNumber = len(positions) - index
        header.AcquisitionNumber = 1
        header.ImagePositionPatient = _numbers(position)
        header.ImageOrientationPatient = _numbers(orientation)
        header.PixelSpacing = list(spacing)
        header.SliceThickness = 5.0
        header.SliceLocation = round(float(position[2]), 6)
        header.KVP = 120
        header.RescaleIntercept, header.RescaleSlope, header.RescaleType = -1024, 1, "HU"
        header.WindowCenter, header.WindowWidth = 40, 80
        headers.append(_overridden(header, extra))
    return tuple(headers)


def _enhanced(
    positions: npt.NDArray[np.float64],
    orientation: npt.NDArray[np.float64],
    spacing: tuple[float, float],
    shape: tuple[int, ...],
    extra: dict[str, Any],
) -> tuple[Dataset, ...]:
    header = _common(shape)
    header.SOPClassUID = EnhancedCTImageStorage
    header.SOPInstanceUID = UID("2.25.1005")
    header.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    header.InstanceNumber = 1
    header.NumberOfFrames = len(positions)
    shared, measures, plane = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = list(spacing), 5.0
    plane.ImageOrientationPatient = _numbers(orientation)
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [plane]
    header.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for position in positions:
        frame, place = Dataset(), Dataset()
        place.ImagePositionPatient = _numbers(position)
        frame.PlanePositionSequence = [place]
        frames.append(frame)
    header.PerFrameFunctionalGroupsSequence = frames
    return (_overridden(header, extra),) * len(positions)


def _write(path: Path, header: Dataset, pixels: npt.NDArray[np.uint16]) -> Path:
    dataset = copy.deepcopy(header)
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OW"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)
    return path
