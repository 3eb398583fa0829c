"""PhysioNet CT-ICH (Hssayeni 2019, doi:10.13026/w8q8-ky94, CC BY 4.0) as HU, labels and masks.

The set comes as 8-bit JPG in a brain and a bone window; HU are put together from both, exact to half a unit between −20
and 100 HU and to 13 HU elsewhere. Layout of `root`: labels.csv with one row per slice (patient, slice, brain, bone,
mask, any … subdural), slices from foot to head.
"""

from __future__ import annotations

import csv
from collections.abc import Container, Iterator
from dataclasses import dataclass
from itertools import groupby, zip_longest
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from ich_node.domain.findings import LABELS
from ich_node.infer.see.crop import crop_stack
from ich_node.training.data.pool import PIXELS, Pool, enlarged, joined

SPACING_MM = (5.0, 0.354, 0.354)
"""The set states none. Its slices are 5 mm; its pictures are 512² slices of about 0.45 mm, enlarged to 650², so that a
pixel is 0.45 · 512 / 650 mm. `training.data.anatomy` holds the heads against those of people."""
BRAIN_WINDOW = (120.0, 40.0)  # (width, centre) in HU of the pictures that the data set comes as
OTHER_BRAIN_WINDOW = {"CTICH-050": (80.0, 30.0)}
BONE_ZERO, BONE_STEP = 72.0, 0.077  # of the bone pictures: grey of 0 HU, greys per HU
ANY_BIT = 5  # after the five types: drawn, of whichever type


@dataclass(frozen=True, slots=True, eq=False)
class Study:
    """One patient. hu: int16 [slices, rows, columns], foot to head, radiological. labels: float32 [slices, 6].

    masks: bool [slices, rows, columns], a reader's outline; masked: bool [slices], where there is one.
    """

    patient: str
    hu: npt.NDArray[np.int16]
    labels: npt.NDArray[np.float32]
    masks: npt.NDArray[np.bool_]
    masked: npt.NDArray[np.bool_]


def studies(root: Path, among: Container[int] | None = None) -> Iterator[Study]:
    """The patients of the set in `root` in the order of labels.csv; of `among`, their numbers in it, where given."""
    with (root / "labels.csv").open(newline="", encoding="utf-8-sig") as stream:
        rows = list(csv.DictReader(stream))
    for number, (patient, group) in enumerate(groupby(rows, key=lambda row: row["patient"])):
        if among is None or number in among:
            yield _study(root, patient, sorted(group, key=lambda row: int(row["slice"])))


def in_turn(root: Path) -> list[int]:
    """The numbers of all patients, those with and without hemorrhage in turn for as long as there are both."""
    with (root / "labels.csv").open(newline="", encoding="utf-8-sig") as stream:
        groups = groupby(csv.DictReader(stream), key=lambda row: row["patient"])
        ill = [any(float(row[LABELS[0]]) for row in rows) for _, rows in groups]
    turns = zip_longest(np.flatnonzero(ill).tolist(), np.flatnonzero(np.logical_not(ill)).tolist())
    return [number for turn in turns for number in turn if number is not None]


def _study(root: Path, patient: str, rows: list[dict[str, str]]) -> Study:
    window = OTHER_BRAIN_WINDOW.get(patient, BRAIN_WINDOW)
    hu = np.stack(
        [
            hounsfield(_grey(root / row["brain"]), _grey(root / row["bone"]) if row["bone"] else None, window)
            for row in rows
        ]
    )
    labels = np.array([[float(row[label]) for label in LABELS] for row in rows], np.float32)
    masks = np.zeros(hu.shape, np.bool_)
    for index, row in enumerate(rows):
        if row["mask"]:
            masks[index] = _grey(root / row["mask"]) > 127
    return Study(patient, hu, labels, masks, np.asarray(masks.any(axis=(1, 2)), np.bool_))


def hounsfield(
    brain: npt.NDArray[np.uint8], bone: npt.NDArray[np.uint8] | None, window: tuple[float, float] = BRAIN_WINDOW
) -> npt.NDArray[np.int16]:
    """HU of one slice from its two pictures; `window` is the (width, centre) of the brain picture.

    Without a bone picture everything above the brain window counts as bone and everything below it as air.
    """
    width, centre = window
    fine = centre - width / 2 + brain.astype(np.float32) * (width / 255)
    coarse = np.where(brain > 127, 900.0, -900.0) if bone is None else (bone.astype(np.float32) - BONE_ZERO) / BONE_STEP
    hu = np.where(brain >= 252, np.maximum(coarse, centre + width / 2), fine)
    hu = np.where(brain <= 3, np.minimum(coarse, centre - width / 2), hu)
    return np.round(np.clip(hu, -1024, 3071)).astype(np.int16)


def pool(root: Path, spacing_mm: tuple[float, float, float] = SPACING_MM) -> Pool:
    """All slices as a training pool; `patient` counts the patients in the order of labels.csv."""
    return joined([_pool_of(study, number, spacing_mm) for number, study in enumerate(studies(root))])


def _pool_of(study: Study, number: int, spacing_mm: tuple[float, float, float]) -> Pool:
    box = crop_stack(study.hu, spacing_mm)
    count = len(study.hu)
    bits = np.zeros((count, PIXELS // 2, PIXELS // 2), np.uint8)
    known = np.zeros((count, len(LABELS)), np.float32)
    known[study.labels[:, 0] == 0] = 1
    for index in np.flatnonzero(study.masked):
        types = np.flatnonzero(study.labels[index, 1:])
        drawn = enlarged(box.to_box(study.masks[index], int(index)).astype(np.float32), PIXELS // 2, outside=0.0) > 0.4
        bits[index] = drawn.astype(np.uint8) << np.uint8(ANY_BIT)
        known[index, 0] = 1
        if len(types) == 1:
            bits[index] |= drawn.astype(np.uint8) << np.uint8(types[0])
            known[index] = 1
    hu = np.stack([enlarged(image, PIXELS) for image in box.hu])
    patient = np.full(count, number, np.int32)
    return Pool(hu, study.labels, bits, known, patient, np.zeros(count, np.bool_))


def folds(
    patients: npt.NDArray[np.int32], labels: npt.NDArray[np.float32], count: int, seed: int
) -> npt.NDArray[np.intp]:
    """A fold 0 … count − 1 for every slice: no patient in two folds, rare types spread over the folds."""
    rng = np.random.default_rng(seed)
    names, own = np.unique(patients, return_inverse=True)
    order = np.argsort(own, kind="stable")
    present = np.maximum.reduceat(labels[order], np.searchsorted(own[order], np.arange(len(names))))
    rarity = present @ (1 / np.maximum(present.sum(axis=0), 1))
    load = np.zeros((count, labels.shape[1] + 1))
    fold = np.zeros(len(names), np.intp)
    for index in np.lexsort((rng.uniform(size=len(names)), -rarity)):
        need = np.append(present[index], 0.2)
        best = int(np.argmin(load @ need + 1e-3 * rng.uniform(size=count)))
        load[best] += np.append(present[index] / np.maximum(present.sum(axis=0), 1), 1 / len(names))
        fold[index] = best
    return fold[own]


def _grey(path: Path) -> npt.NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image.convert("L"))
