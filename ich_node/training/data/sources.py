"""Where the labelled studies of an evaluation come from: DICOM files with a label file, or a known data set."""

from __future__ import annotations

import argparse
import csv
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydicom import dcmread

from ich_node.domain.findings import LABELS
from ich_node.phantom.head import phantom
from ich_node.phantom.series import write_series
from ich_node.training.data import cases, ct_ich
from ich_node.training.data.cases import LabelError, StudyFiles
from ich_node.training.evaluate.measure import Case

DATA = ("ct_ich", "phantoms")
FIRST_PHANTOM_SEED = 7_000_000  # chosen: far from the seeds that training draws
VISIBLE_MM2 = 25.0
"""A slice of a phantom counts as positive for a type from this area."""


@dataclass(frozen=True, slots=True, eq=False)
class Pixels:
    """What the series writer needs. hu: int16 [slices, rows, columns], foot to head, radiological orientation."""

    hu: npt.NDArray[np.int16]
    spacing_mm: tuple[float, float, float]


@contextmanager
def opened(arguments: argparse.Namespace) -> Iterator[tuple[str, int, Iterator[Case]]]:
    """Title, number and stream of the cases. Raises LabelError when the options do not belong together."""
    if arguments.data == "ct_ich":
        if arguments.root is None:
            raise LabelError("--data ct_ich needs --root DIR")
        with tempfile.TemporaryDirectory(prefix="ich_node_evaluate_") as scratch:
            yield "CT-ICH (Hssayeni 2019, CC BY 4.0)", *_ct_ich(arguments.root, Path(scratch))
        return
    if arguments.data == "phantoms":
        with tempfile.TemporaryDirectory(prefix="ich_node_evaluate_") as scratch:
            count = arguments.phantoms
            yield "phantom heads from formulas", count * len(LABELS), _phantoms(count, Path(scratch))
        return
    if arguments.studies is None or arguments.labels is None:
        raise LabelError("give --studies DIR and --labels CSV, or --data with what it needs")
    found = labelled(arguments.studies, arguments.labels, arguments.masks)
    yield str(arguments.studies.resolve().name), len(found), iter(found)


def labelled(studies: Path, labels: Path, masks: Path | None = None) -> list[Case]:
    """Every study under `studies` that the label file knows. Raises LabelError when it knows none of them."""
    truth = cases.read_labels(labels)
    outlines = _masks(masks) if masks else {}
    found, unknown = [], 0
    for study in cases.find_studies(studies):
        case = _case(study, truth, outlines)
        if case is None:
            unknown += 1
        else:
            found.append(case)
    if not found:
        example = next(iter({**truth.studies, **truth.slices}))
        raise LabelError(
            f"none of the {unknown} studies under {studies} is named in {labels}; a row of it is called {example!r}, "
            "which is no UID, patient ID, accession number, file or folder name of theirs"
        )
    if unknown:
        print(f"{unknown} of {unknown + len(found)} studies have no label and are left out")
    return found


def _case(study: StudyFiles, labels: cases.Labels, masks: Mapping[str, npt.NDArray[np.bool_]]) -> Case | None:
    slices: dict[str, cases.Truth] = {}
    for series in study.series:
        slices |= cases.truth_of_slices(study, series, labels)
    truth = cases.truth_of_study(study, labels, slices)
    return None if truth is None else Case(study, truth, slices, masks)


def _masks(folder: Path) -> dict[str, npt.NDArray[np.bool_]]:
    return {path.stem: np.asarray(Image.open(path).convert("L")) > 0 for path in sorted(folder.glob("*.png"))}


def _phantoms(count: int, scratch: Path) -> Iterator[Case]:
    """Heads from formulas with seeds that no training uses: `count` of every type and as many without hemorrhage."""
    for number in range(count):
        for offset, label in enumerate((None, *LABELS[1:])):
            yield _phantom_case(label, FIRST_PHANTOM_SEED + number * len(LABELS) + offset, scratch)


def _phantom_case(label: str | None, seed: int, scratch: Path) -> Case:
    head = phantom(label, seed=seed)
    folder = scratch / str(seed)
    uids = [path_uid(path) for path in write_series(folder, head, seed=seed, patient_id=str(seed))]
    (found,) = cases.find_studies(folder)
    sizes = head.mask.sum(axis=(2, 3)) * head.spacing_mm[1] * head.spacing_mm[2]
    types = (sizes >= VISIBLE_MM2).astype(np.float64)
    truth = np.concatenate([types.max(axis=1, keepdims=True), types], axis=1)
    masks = {uid: head.mask[i].any(axis=0) for i, uid in enumerate(uids) if truth[i, 0]}
    side = head.truth[0].laterality if len(head.truth) == 1 else None
    return Case(found, truth.max(axis=0), dict(zip(uids, truth, strict=True)), masks, side)


def path_uid(path: Path) -> str:
    """The SOP Instance UID of a file."""
    return str(dcmread(path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID)


def _ct_ich(root: Path, scratch: Path) -> tuple[int, Iterator[Case]]:
    """CT-ICH as DICOM series, one patient at a time, so that it takes the way of every other study."""
    if not (root / "labels.csv").is_file():
        raise LabelError(f"{root} has no labels.csv: it is not the CT-ICH data set")
    with (root / "labels.csv").open(newline="", encoding="utf-8-sig") as stream:
        patients = {row["patient"] for row in csv.DictReader(stream)}
    return len(patients), (_ct_ich_case(study, scratch, seed) for seed, study in enumerate(ct_ich.studies(root)))


def _ct_ich_case(study: ct_ich.Study, scratch: Path, seed: int) -> Case:
    folder = scratch / study.patient
    paths = write_series(folder, Pixels(study.hu, ct_ich.SPACING_MM), seed=seed, patient_id=study.patient)
    uids = [path_uid(path) for path in paths]
    (found,) = cases.find_studies(folder)
    slices = {uid: study.labels[index].astype(np.float64) for index, uid in enumerate(uids)}
    masks = {uid: study.masks[index] for index, uid in enumerate(uids) if study.masked[index]}
    return Case(found, study.labels.max(axis=0).astype(np.float64), slices, masks)
