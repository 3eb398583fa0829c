"""Training on the RSNA 2019 Intracranial Hemorrhage Detection challenge, in the layout in which it was published.

    DIR/stage_2_train.csv          ID,Label with rows ID_<12 hex>_<label>, six rows per image
    DIR/stage_2_train/ID_<…>.dcm   CT images
    DIR/stage_2_test/ID_<…>.dcm    images without labels, for the submission (may be absent)

Slices are grouped to studies and patients by their headers and sorted along their normal; folds keep patients together.
The images become one int16 file of head boxes, mapped and not loaded. Images that cannot be decoded are left out and
counted: the published set has one.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.errors import InvalidDicomError
from rich.progress import track

from ich_node.domain.findings import LABELS
from ich_node.infer.see.crop import AIR_HU, crop_stack, turn_of
from ich_node.training.data.pool import PIXELS, Pool, enlarged

TAGS = (
    "PatientID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
)


@dataclass(frozen=True, slots=True)
class Image:
    """One image of the set: its ID, its file and what groups and orders it (position_mm along the slice normal)."""

    id: str
    path: Path
    patient: str
    series: str
    position_mm: float
    orientation: tuple[float, ...]
    pixel_mm: tuple[float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Data:
    """Head boxes ready for training. series: number of a slice's series; its slices are consecutive, from the foot."""

    pool: Pool
    ids: npt.NDArray[np.str_]
    series: npt.NDArray[np.int32]
    spacing_mm: npt.NDArray[np.float32]


def read_labels(path: Path) -> dict[str, npt.NDArray[np.float32]]:
    """Image ID → labels [6] in the order of domain.LABELS; a repeated row (the set has some) counts once.

    Raises ValueError when an image lacks a label or a row is not of the published form.
    """
    found: dict[str, npt.NDArray[np.float32]] = {}
    with path.open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            image, _, label = row["ID"].rpartition("_")
            if not image.startswith("ID_") or label not in LABELS:
                raise ValueError(f"{path}: {row['ID']!r} is not ID_<image>_<label>")
            found.setdefault(image, np.full(len(LABELS), np.nan, np.float32))[LABELS.index(label)] = float(row["Label"])
    lacking = [image for image, labels in found.items() if np.isnan(labels).any()]
    if lacking:
        raise ValueError(f"{path}: {len(lacking)} images lack a label, the first is {lacking[0]}")
    return found


def read_headers(folder: Path) -> Iterator[Image]:
    """Every readable image of `folder`."""
    for path in track(sorted(folder.glob("ID_*.dcm")), description=f"headers of {folder.name}"):
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(TAGS))
        except InvalidDicomError:
            continue
        orientation = tuple(float(v) for v in header.ImageOrientationPatient)
        normal = np.cross(orientation[:3], orientation[3:])
        position = np.array([float(v) for v in header.ImagePositionPatient])
        yield Image(
            id=path.stem,
            path=path,
            patient=str(header.PatientID),
            series=str(header.SeriesInstanceUID),
            position_mm=float(normal @ position),
            orientation=orientation,
            pixel_mm=(float(header.PixelSpacing[0]), float(header.PixelSpacing[1])),
        )


def grouped(images: Iterable[Image]) -> list[list[Image]]:
    """The series of the set, each from foot to head."""
    by_series: dict[str, list[Image]] = {}
    for image in images:
        by_series.setdefault(image.series, []).append(image)
    return [sorted(group, key=lambda image: image.position_mm) for group in by_series.values()]


def read_hu(path: Path) -> npt.NDArray[np.int16]:
    """HU [rows, columns] of one image. Raises ValueError when it cannot be decoded.

    Some scanners of the set store 12-bit unsigned values that wrap around and state an intercept of 0; their HU are
    mended as the participants found them to be (stored value + 1000, modulo 4096, minus 1000).
    """
    try:
        dataset = pydicom.dcmread(path)
        stored = dataset.pixel_array.astype(np.float32)
    except (InvalidDicomError, AttributeError, EOFError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path} cannot be decoded: {error}") from error
    slope, intercept = float(dataset.RescaleSlope), float(dataset.RescaleIntercept)
    if dataset.BitsStored == 12 and dataset.PixelRepresentation == 0 and intercept > -100:
        stored = (stored + 1000) % 4096
        intercept = -1000.0
    return np.asarray(np.round(np.clip(stored * slope + intercept, AIR_HU, 3071)), np.int16)


def prepare(folder: Path, labels: dict[str, npt.NDArray[np.float32]] | None, out: Path) -> Data:
    """Turn the images of `folder` into head boxes in `out`; once, then only mapped. Without labels they are all 0."""
    out.mkdir(parents=True, exist_ok=True)
    index = out / f"{folder.name}.npz"
    if not index.exists():
        _write(folder, labels, index)
    with np.load(index) as arrays:
        rows = {name: arrays[name] for name in arrays}
    count = len(rows["ids"])
    hu = np.memmap(index.with_suffix(".hu"), np.int16, "c", shape=(count, PIXELS, PIXELS))
    nowhere = np.zeros((count, PIXELS // 2, PIXELS // 2), np.uint8)  # never written: takes no memory
    known = (1 - rows["labels"]).astype(np.float32)  # a label that is absent has an empty mask, the others none at all
    pool = Pool(hu, rows["labels"], nowhere, known, rows["patient"], np.zeros(count, np.bool_))
    return Data(pool, rows["ids"], rows["series"], rows["spacing_mm"])


def _write(folder: Path, labels: dict[str, npt.NDArray[np.float32]] | None, index: Path) -> None:
    groups = grouped(image for image in read_headers(folder) if labels is None or image.id in labels)
    patients = {name: number for number, name in enumerate(sorted({g[0].patient for g in groups}))}
    ids, wanted, patient, series, spacings = [], [], [], [], []
    part = index.with_suffix(".hu.part")
    with part.open("wb") as stream:
        for number, group in enumerate(track(groups, description=f"head boxes of {folder.name}")):
            images, boxes, spacing = _boxes(group)
            stream.write(boxes.tobytes())
            for image in images:
                ids.append(image.id)
                wanted.append(np.zeros(len(LABELS), np.float32) if labels is None else labels[image.id])
                patient.append(patients[image.patient])
                series.append(number)
                spacings.append(spacing)
    part.rename(index.with_suffix(".hu"))
    with index.with_suffix(".part").open("wb") as stream:
        np.savez(
            stream,
            ids=np.array(ids),
            labels=np.array(wanted, np.float32).reshape(-1, len(LABELS)),
            patient=np.array(patient, np.int32),
            series=np.array(series, np.int32),
            spacing_mm=np.array(spacings, np.float32),
        )
    index.with_suffix(".part").rename(index)


def _boxes(group: list[Image]) -> tuple[list[Image], npt.NDArray[np.int16], float]:
    """The images of one series that can be decoded, as int16 [n, 320, 320], and their spacing in mm."""
    images: list[Image] = []
    stack: list[npt.NDArray[np.int16]] = []
    for image in group:
        try:
            hu = read_hu(image.path)
        except ValueError:
            continue
        if not stack or hu.shape == stack[0].shape:
            images.append(image)
            stack.append(hu)
    if not stack:
        return [], np.empty((0, PIXELS, PIXELS), np.int16), 5.0
    steps = np.diff([image.position_mm for image in images])
    spacing = float(np.median(steps)) if len(steps) and np.median(steps) > 0.1 else 5.0
    affine = np.eye(4)
    affine[:3, 2], affine[:3, 1] = images[0].orientation[:3], images[0].orientation[3:]
    box = crop_stack(np.stack(stack), (spacing, *images[0].pixel_mm), turn_of(affine))
    return images, np.stack([enlarged(one, PIXELS) for one in box.hu]), spacing


def write_submission(path: Path, ids: npt.NDArray[np.str_], probability: npt.NDArray[np.floating]) -> None:
    """The challenge's submission: ID,Label with one row per image and label, probabilities [n, 6]."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream)
        rows.writerow(("ID", "Label"))
        for image, values in zip(ids, probability, strict=True):
            rows.writerows((f"{image}_{label}", f"{value:.6f}") for label, value in zip(LABELS, values, strict=True))
