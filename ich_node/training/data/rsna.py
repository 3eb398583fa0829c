"""Training on the RSNA 2019 Intracranial Hemorrhage Detection challenge, in the layout in which it was published.

    DIR/stage_2_train.csv          ID,Label with rows ID_<12 hex>_<label>, six rows per image
    DIR/stage_2_train/ID_<…>.dcm   CT images
    DIR/stage_2_test/ID_<…>.dcm    images without labels, for the submission (may be absent)

Slices are grouped to studies and patients by their headers and sorted along their normal; folds keep patients together.
The images become one int16 file of head boxes, mapped and not loaded; a run that was stopped goes on where it stood,
and none goes on when the first heads are not those of people. Images that cannot be decoded are left out and counted:
the published set has one.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.errors import InvalidDicomError
from rich.progress import track

from ich_node.domain.findings import LABELS
from ich_node.infer.see.crop import AIR_HU, crop_stack, turn_of
from ich_node.training.data import anatomy, rsna_index
from ich_node.training.data.pool import PIXELS, Pool, enlarged

USUAL_MM = 5.0  # chosen: the spacing of head CT where a series does not tell it
BOX_BYTES = PIXELS * PIXELS * 2  # of one head box on disk
GUARDED = 60
"""Series whose heads are measured before the rest is written: as many as CT-ICH has, a minute of a core."""


@dataclass(frozen=True, slots=True, eq=False)
class Data:
    """Head boxes ready for training. series: number of a slice's series; its slices are consecutive, from the foot.

    anatomy: what the first heads measure, for the card.
    """

    pool: Pool
    ids: npt.NDArray[np.str_]
    series: npt.NDArray[np.int32]
    spacing_mm: npt.NDArray[np.float32]
    anatomy: dict[str, float]


def read_labels(path: Path) -> dict[str, int]:
    """Image ID → its labels as bits, bit j = domain.LABELS[j]; a repeated row (the set has some) counts once.

    Raises ValueError when an image lacks a label or a row is not of the published form.
    """
    bits: dict[str, int] = {}
    known: dict[str, int] = {}
    place = {label: index for index, label in enumerate(LABELS)}
    with path.open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            image, _, label = row["ID"].rpartition("_")
            if not image.startswith("ID_") or label not in place or row["Label"] not in ("0", "1"):
                raise ValueError(f"{path}: {row['ID']!r}, {row['Label']!r} is not ID_<image>_<label> with 0 or 1")
            bits[image] = bits.get(image, 0) | int(row["Label"]) << place[label]
            known[image] = known.get(image, 0) | 1 << place[label]
    lacking = [image for image, found in known.items() if found != 2 ** len(LABELS) - 1]
    if lacking:
        raise ValueError(f"{path}: {len(lacking)} images lack a label, the first is {lacking[0]}")
    return bits


def unpacked(bits: Iterable[int]) -> npt.NDArray[np.float32]:
    """Labels float32 [n, 6] of `read_labels`."""
    packed = np.fromiter(bits, np.uint8)
    return np.asarray(packed[:, None] >> np.arange(len(LABELS)) & 1, np.float32)


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


def prepare(folder: Path, labels: dict[str, int] | None, out: Path) -> Data:
    """Turn the images of `folder` into head boxes in `out`; once, then only mapped. Without labels they are all 0.

    A run that was stopped goes on behind the last whole series. Raises NotHumanError when the first heads are not those
    of people at their true size.
    """
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{folder.name}.npz"
    if not path.exists():
        _write(folder, labels, path)
    with np.load(path) as arrays:
        rows = {name: arrays[name] for name in arrays}
    count = len(rows["ids"])
    hu = np.memmap(path.with_suffix(".hu"), np.int16, "c", shape=(count, PIXELS, PIXELS))
    one = np.zeros((PIXELS // 2, PIXELS // 2), np.uint8)
    # No mask is known: one empty one stands for all, so that they take no memory.
    nowhere = np.lib.stride_tricks.as_strided(one, (count, *one.shape), (0, *one.strides))
    known = (1 - rows["labels"]).astype(np.float32)  # a label that is absent has an empty mask, the others none at all
    pool = Pool(hu, rows["labels"], nowhere, known, rows["patient"], np.zeros(count, np.bool_))
    found: dict[str, float] = json.loads(path.with_suffix(".anatomy.json").read_text())
    return Data(pool, rows["ids"].astype(str), rows["series"], rows["spacing_mm"], found)


def _write(folder: Path, labels: dict[str, int] | None, path: Path) -> None:
    lines = path.with_suffix(".headers.csv")
    names = sorted(entry.name.removesuffix(".dcm") for entry in os.scandir(folder) if entry.name.endswith(".dcm"))
    wanted = (name for name in names if name.startswith("ID_") and (labels is None or name in labels))
    rsna_index.write(
        track(wanted, description=f"headers of {folder.name}", total=len(names)),
        lambda name: rsna_index.read_header(folder / f"{name}.dcm"),
        lines,
    )
    index = rsna_index.read(lines)
    done = _write_boxes(folder, index, path)
    ids = np.array([name for one in done for name in one["ids"]], f"S{rsna_index.ID_BYTES}")
    each = [len(one["ids"]) for one in done]
    values = np.zeros((len(ids), len(LABELS)), np.float32)
    if labels is not None:
        values = unpacked(labels[name.decode("ascii")] for name in ids)
    part = path.with_suffix(".part")
    with part.open("wb") as stream:
        np.savez(
            stream,
            ids=ids,
            labels=values,
            patient=np.repeat(np.array([one["patient"] for one in done], np.int32), each),
            series=np.repeat(np.arange(len(done), dtype=np.int32), each),
            spacing_mm=np.repeat(np.array([one["spacing_mm"] for one in done], np.float32), each),
        )
    part.rename(path)


def _write_boxes(folder: Path, index: rsna_index.Index, path: Path) -> list[dict[str, Any]]:
    """Append the boxes of every series to one file, and a line to the journal of what is in it; the whole journal."""
    journal, boxes = path.with_suffix(".journal"), path.with_suffix(".hu")
    done = _journal(journal)
    with journal.open("a", encoding="ascii") as lines, boxes.open("ab") as stream:
        stream.truncate(BOX_BYTES * sum(len(one["ids"]) for one in done))
        for number, group in enumerate(track(index.groups(), description=f"boxes of {folder.name}", total=len(index))):
            if number >= len(done):
                hu, one = _boxes(folder, group, measured=number < GUARDED)
                stream.write(hu.tobytes())
                stream.flush()
                lines.write(json.dumps(one) + "\n")
                lines.flush()
                done.append(one)
            if number == min(GUARDED, len(index)) - 1:
                _guard(done, path)
    return done


def _journal(path: Path) -> list[dict[str, Any]]:
    """The whole lines of the journal; a half written one is cut off."""
    if not path.exists():
        return []
    text = path.read_text(encoding="ascii")
    whole = text[: text.rfind("\n") + 1]
    path.write_text(whole, encoding="ascii")
    return [json.loads(line) for line in whole.splitlines()]


def _guard(done: list[dict[str, Any]], path: Path) -> None:
    """Hold the first heads against those of people, and keep what they measure."""
    heads = [None if one["anatomy"] is None else anatomy.Anatomy(**one["anatomy"]) for one in done[:GUARDED]]
    found = anatomy.table(heads)
    anatomy.require_human(path.stem, found)
    path.with_suffix(".anatomy.json").write_text(json.dumps(found))


def _boxes(folder: Path, group: rsna_index.Group, *, measured: bool) -> tuple[npt.NDArray[np.int16], dict[str, Any]]:
    """The images of one series that can be decoded, as int16 [n, 320, 320], and its line of the journal."""
    kept: list[int] = []
    stack: list[npt.NDArray[np.int16]] = []
    for place, name in enumerate(group.ids):
        try:
            hu = read_hu(folder / f"{name}.dcm")
        except ValueError:
            continue
        if not stack or hu.shape == stack[0].shape:
            kept.append(place)
            stack.append(hu)
    line: dict[str, Any] = {"ids": [group.ids[place] for place in kept], "patient": group.patient, "anatomy": None}
    if not stack:
        return np.empty((0, PIXELS, PIXELS), np.int16), {**line, "spacing_mm": USUAL_MM}
    steps = np.diff(group.positions_mm[kept])
    spacing = float(np.median(steps)) if len(steps) and np.median(steps) > 0.1 else USUAL_MM
    affine = np.eye(4)
    affine[:3, 2], affine[:3, 1] = group.orientation[:3], group.orientation[3:]
    box = crop_stack(np.stack(stack), (spacing, *group.pixel_mm), turn_of(affine))
    head = anatomy.measure(box) if measured else None
    line |= {"spacing_mm": spacing, "anatomy": None if head is None else asdict(head)}
    return np.stack([enlarged(one, PIXELS) for one in box.hu]), line


def write_submission(path: Path, ids: npt.NDArray[np.str_], probability: npt.NDArray[np.floating]) -> None:
    """The challenge's submission: ID,Label with one row per image and label, probabilities [n, 6]."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream)
        rows.writerow(("ID", "Label"))
        for image, values in zip(ids, probability, strict=True):
            rows.writerows((f"{image}_{label}", f"{value:.6f}") for label, value in zip(LABELS, values, strict=True))
