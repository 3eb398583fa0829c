"""CT-ICH patients (Hssayeni 2019, doi:10.13026/w8q8-ky94, CC BY 4.0) as volumes in HU and as DICOM series.

The data set has two 8-bit windows of every slice and no geometry: see training.ct_ich for how HU are made of them.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ich_node.domain.findings import Volume
from ich_node.phantom.series import write_series
from ich_node.training.data.ct_ich import SPACING_MM, hounsfield


@dataclass(frozen=True)
class CtIchHead:
    """One patient. hu: int16 [slices, rows, columns], foot to head. labels: bool [slices], any hemorrhage."""

    patient: str
    hu: npt.NDArray[np.int16]
    labels: npt.NDArray[np.bool_]
    spacing_mm: tuple[float, float, float] = SPACING_MM

    def volume(self) -> Volume:
        """As `read_volume` would give it, without headers."""
        affine = np.diag([1.0, 1.0, 1.0, 1.0])
        affine[:3, :3] = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]]) * np.array(self.spacing_mm)
        positions = np.array([[0, 0, index * self.spacing_mm[0]] for index in range(len(self.hu))])
        uids = tuple(f"2.25.{index + 1}" for index in range(len(self.hu)))
        return Volume(self.hu, self.spacing_mm, affine, positions, uids, headers=())


def rows_of(shared_data: Path) -> dict[str, list[dict[str, str]]]:
    """Rows of labels.csv by patient, slices ascending."""
    patients: dict[str, list[dict[str, str]]] = {}
    with (shared_data / "ct_ich" / "labels.csv").open() as file:
        for row in csv.DictReader(file):
            patients.setdefault(row["patient"], []).append(row)
    for patient, rows in patients.items():
        patients[patient] = [row for row in rows if row["brain"] and row["bone"]]
        rows.sort(key=lambda row: int(row["slice"]))
    return patients


def head(shared_data: Path, patient: str) -> CtIchHead:
    """One patient ("CTICH-049") in HU."""
    rows = rows_of(shared_data)[patient]
    hu = np.stack([_hu(shared_data / "ct_ich" / row["brain"], shared_data / "ct_ich" / row["bone"]) for row in rows])
    return CtIchHead(patient, hu, np.array([row["any"] == "1" for row in rows]))


def write_patient(shared_data: Path, patient: str, directory: Path, **changes: Any) -> list[Path]:
    """A DICOM series of one patient in `directory`; `changes` are fields of phantom.series.SeriesOptions."""
    options = {"patient_name": "CTICH^" + patient[-3:], "patient_id": patient, **changes}
    return write_series(directory, head(shared_data, patient), seed=int(patient[-3:]), **options)


def _hu(brain: Path, bone: Path) -> npt.NDArray[np.int16]:
    narrow, wide = (np.asarray(Image.open(path).convert("L")) for path in (brain, bone))
    return hounsfield(narrow, wide)
