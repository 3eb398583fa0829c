"""Labelled studies for an evaluation: DICOM files under a folder, and what a CSV says is in them.

A label file is a CSV with a header, in one of these forms; docs/evaluation.md shows an example of each.

* Wide: one row per study or per slice. The first column that is one of KEYS names the row; columns any, epidural,
  intraparenchymal, intraventricular, subarachnoid, subdural hold 0 or 1, empty for unknown. "any" may be left out.
* Wide by number: a column that names the study and a column InstanceNumber (or slice) with that number of each slice.
* RSNA 2019: columns ID and Label, one row per slice and label, ID = <SOP Instance UID>_<label>.

A key matches a UID, a Patient ID, an accession number, or the name of a file or folder, whichever the studies have.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from ich_node.domain.errors import IchNodeError
from ich_node.domain.findings import LABELS

KEYS = {
    "sopinstanceuid": "slice",
    "slice": "slice",
    "image": "slice",
    "seriesinstanceuid": "study",
    "studyinstanceuid": "study",
    "accessionnumber": "study",
    "study": "study",
    "folder": "study",
    "name": "study",
    "patientid": "study",
    "patient": "study",
}
"""Column (small letters, without blanks and underscores) → what one row is about."""

HEADER_TAGS = (
    "PatientID",
    "AccessionNumber",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SOPInstanceUID",
    "SeriesNumber",
    "InstanceNumber",
    "Modality",
)
NUMBER_COLUMNS = ("instancenumber", "slice")
Truth = npt.NDArray[np.float64]


class LabelError(IchNodeError):
    """The label file or the studies cannot be evaluated; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Labels:
    """What is known: key → truth [6] in the order of domain.LABELS, NaN where unknown.

    The key of a slice is a name of it, or `numbered(study, instance number)`.
    """

    studies: Mapping[str, Truth] = field(default_factory=dict)
    slices: Mapping[str, Truth] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SeriesFiles:
    """One series on disk. files: SOP Instance UID → path; numbers: SOP Instance UID → Instance Number, as text."""

    series_uid: str
    number: int
    modality: str
    files: Mapping[str, Path]
    numbers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class StudyFiles:
    """One study on disk, its series by number. names: every key that it may be called by in a label file."""

    study_uid: str
    patient: str
    names: frozenset[str]
    series: tuple[SeriesFiles, ...]


def read_labels(path: Path) -> Labels:
    """Read a label file. Raises LabelError, with the line, when it is none of the forms or holds other than 0 and 1."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise LabelError(f"{path}: cannot be read: {error}") from error
    dialect = ";" if text.partition("\n")[0].count(";") > text.partition("\n")[0].count(",") else ","
    rows = list(csv.DictReader(text.splitlines(), delimiter=dialect))
    if not rows:
        raise LabelError(f"{path}: no rows")
    columns = {_plain(name): name for name in rows[0] if name is not None}
    if {"id", "label"} <= set(columns):
        return _rsna(path, rows, columns)
    return _wide(path, rows, columns)


def _plain(name: str) -> str:
    return name.strip().lower().replace("_", "").replace(" ", "")


def _rsna(path: Path, rows: Sequence[Mapping[str, str]], columns: Mapping[str, str]) -> Labels:
    slices: dict[str, Truth] = {}
    for line, row in enumerate(rows, start=2):
        key, _, label = row[columns["id"]].strip().rpartition("_")
        if label not in LABELS or not key:
            raise LabelError(f"{path}, line {line}: the ID does not end in one of {', '.join(LABELS)}")
        truth = slices.setdefault(key, np.full(len(LABELS), math.nan))
        truth[LABELS.index(label)] = _value(path, line, label, row[columns["label"]])
    return Labels(slices=slices)


def _wide(path: Path, rows: Sequence[Mapping[str, str]], columns: Mapping[str, str]) -> Labels:
    key = next((name for name in KEYS if name in columns), None)
    number = next((name for name in NUMBER_COLUMNS if name in columns), None)
    parent = next((name for name in KEYS if KEYS[name] == "study" and name in columns), None)
    by_number = number is not None and parent is not None and all(row[columns[number]].isdigit() for row in rows)
    if by_number:
        key = parent
    if key is None:
        raise LabelError(f"{path}: no column names the study or slice; one of: {', '.join(KEYS)}")
    if not set(LABELS) & set(columns):
        raise LabelError(f"{path}: no label column; one or more of: {', '.join(LABELS)}")
    found: dict[str, Truth] = {}
    for line, row in enumerate(rows, start=2):
        truth = np.full(len(LABELS), math.nan)
        for index, label in enumerate(LABELS):
            if label in columns:
                truth[index] = _value(path, line, label, row[columns[label]])
        name = (row[columns[key]] or "").strip()
        if not name:
            raise LabelError(f"{path}, line {line}: column {columns[key]} is empty")
        if by_number and number is not None:
            name = numbered(name, row[columns[number]])
        if name in found and not np.array_equal(found[name], truth, equal_nan=True):
            raise LabelError(f"{path}, line {line}: {name} was labelled otherwise in an earlier line")
        found[name] = with_any(truth)
    return Labels(slices=found) if by_number or KEYS[key] == "slice" else Labels(studies=found)


def numbered(study: str, number: str) -> str:
    """The key of a slice that is known by its study and its Instance Number."""
    return f"{study}#{int(number)}"


def with_any(truth: Truth) -> Truth:
    """The truth with "any" filled in where the types tell it. Raises LabelError when they contradict it."""
    completed = truth.copy()
    types = truth[1:]
    if (types == 1).any():
        if truth[0] == 0:
            raise LabelError("a row has a type of hemorrhage, but its label any is 0")
        completed[0] = 1
    elif math.isnan(truth[0]) and not np.isnan(types).any():
        completed[0] = 0
    if truth[0] == 0:
        completed[1:] = 0
    return completed


def _value(path: Path, line: int, label: str, text: str | None) -> float:
    plain = (text or "").strip().lower()
    if plain in ("", "nan", "na", "?"):
        return math.nan
    if plain in ("1", "1.0", "true", "yes"):
        return 1.0
    if plain in ("0", "0.0", "false", "no"):
        return 0.0
    raise LabelError(f"{path}, line {line}: {label} is {text!r}, must be 0, 1 or empty")


def find_studies(folder: Path) -> list[StudyFiles]:
    """Every study under `folder`, by UID. Files that are not DICOM are passed over; LabelError when nothing is left."""
    if not folder.is_dir():
        raise LabelError(f"{folder} is not a folder")
    found: dict[str, dict[str, list[tuple[Path, Dataset]]]] = {}
    for path, header in _headers(folder):
        found.setdefault(header.StudyInstanceUID, {}).setdefault(header.SeriesInstanceUID, []).append((path, header))
    if not found:
        raise LabelError(f"no DICOM image under {folder}")
    return [_study(folder, uid, series) for uid, series in sorted(found.items())]


def _headers(folder: Path) -> Iterator[tuple[Path, Dataset]]:
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            header = dcmread(path, stop_before_pixels=True, specific_tags=list(HEADER_TAGS))
        except (InvalidDicomError, OSError, EOFError):
            continue
        if all(tag in header for tag in HEADER_TAGS[2:5]):
            yield path, header


def _study(folder: Path, uid: str, series: Mapping[str, list[tuple[Path, Dataset]]]) -> StudyFiles:
    members = [member for images in series.values() for member in images]
    names = {uid, *series}
    for path, header in members:
        names |= {str(header.get(tag, "")) for tag in HEADER_TAGS[:2]}
        names |= set(path.relative_to(folder).parts[:-1]) | {"/".join(path.relative_to(folder).parts[:-1])}
    patient = str(members[0][1].get("PatientID", "")) or uid
    ordered = sorted((_series(key, images) for key, images in series.items()), key=lambda s: (s.number, s.series_uid))
    return StudyFiles(uid, patient, frozenset(names - {""}), tuple(ordered))


def _series(uid: str, images: list[tuple[Path, Dataset]]) -> SeriesFiles:
    first = images[0][1]
    number = first.get("SeriesNumber")
    files = {str(header.SOPInstanceUID): path for path, header in images}
    numbers = {str(header.SOPInstanceUID): str(header.get("InstanceNumber", "")) for _, header in images}
    modality = str(first.get("Modality", ""))
    return SeriesFiles(uid, int(number) if number not in (None, "") else 0, modality, files, numbers)


def truth_of_study(study: StudyFiles, labels: Labels, slices: Mapping[str, Truth]) -> Truth | None:
    """The truth of a study: its own row, else from `slices`, its labelled slices; None without either.

    A label is present when one slice has it, absent when every slice is known not to have it, else unknown.
    """
    rows = [labels.studies[name] for name in study.names if name in labels.studies]
    if len({row.tobytes() for row in rows}) > 1:
        raise LabelError(f"study {study.study_uid} has several rows in the label file that differ")
    if rows:
        return rows[0]
    if not slices:
        return None
    stacked = np.stack(list(slices.values()))
    present = (stacked == 1).any(axis=0)
    return np.where(np.isnan(stacked).any(axis=0) & ~present, math.nan, present.astype(np.float64))


def truth_of_slices(study: StudyFiles, series: SeriesFiles, labels: Labels) -> dict[str, Truth]:
    """SOP Instance UID → truth of the slices that the label file knows, by UID, file name, file stem or number."""
    found = {}
    for uid, path in series.files.items():
        names = [uid, path.name, path.stem]
        if series.numbers[uid].isdigit():
            names += [numbered(name, series.numbers[uid]) for name in sorted(study.names)]
        row = next((labels.slices[name] for name in names if name in labels.slices), None)
        if row is not None:
            found[uid] = row
    return found
