"""The RSNA path at the size of the real set, without its images; run by hand: python -m tests.rsna_dry_run FOLDER.

Headers as the set has them (752,803 images of 21,744 series of 18,938 patients) are generated one by one, not written
as files: reading so many files would measure the disk. The run is stopped half way once and goes on. What it took is
written to FOLDER/figures.json: seconds of CPU, memory, the folds, and how many patients lie in two of them (0). Heads
of 512² in files say how many images a second become head boxes, and how many a second are learnt.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ich_node.domain.findings import LABELS
from ich_node.phantom.head import phantom
from ich_node.phantom.series import write_series
from ich_node.training.data import ct_ich, rsna, rsna_index
from ich_node.training.learn.batches import Draw, Shelf
from ich_node.training.learn.challenge import CHALLENGE, FOLDS
from ich_node.training.learn.network import Network
from ich_node.training.learn.train import Trainer

IMAGES, SERIES, PATIENTS = 752_803, 21_744, 18_938  # of the training part as published
STEPS = 3  # of the recipe's size, a warm-up among them


class StoppedError(Exception):
    """The run was killed."""


def names() -> Iterator[str]:
    """The IDs in their order; the published ones are spread like these."""
    return (f"ID_{number * 367:012x}" for number in range(IMAGES))


def header(name: str) -> rsna_index.Image:
    """The header of an image; consecutive names lie in unlike series, as in the published set."""
    number = int(name[3:], 16) // 367
    series = number * 7919 % SERIES
    return rsna_index.Image(
        id=name,
        patient=f"ID_{series % PATIENTS:08x}",
        series=f"ID_{series:010x}",
        position_mm=number // SERIES * 5.0,
        orientation=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
        pixel_mm=(0.488281, 0.488281),
    )


def stopped(name: str) -> rsna_index.Image:
    """A reader that is killed half way."""
    if int(name[3:], 16) // 367 == IMAGES // 2:
        raise StoppedError
    return header(name)


def memory_mb() -> float:
    """The largest memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def indexed(folder: Path) -> dict[str, float]:
    """Headers, one kill, the rest; table, series and folds in memory."""
    path = folder / "headers.csv"
    before, began = memory_mb(), time.process_time()
    try:
        rsna_index.write(names(), stopped, path)
    except StoppedError:
        half = path.read_bytes().count(b"\n")
    rsna_index.write(names(), header, path)
    written, held = time.process_time(), memory_mb()
    index = rsna_index.read(path)
    labels = np.zeros((len(index.id), len(LABELS)), np.float32)
    rng = np.random.default_rng(0)
    for number in range(1, len(LABELS)):
        ill = rng.uniform(size=len(index)) < 0.08  # of the series; in all two fifths bleed, as in the published set
        labels[:, number] = ill[index.series] & (rng.uniform(size=len(labels)) < 0.3)
    labels[:, 0] = labels[:, 1:].max(axis=1)
    read = time.process_time()
    fold = ct_ich.folds(index.patient, labels, FOLDS, 2026)
    pairs = np.unique(np.stack([index.patient, fold.astype(np.int32)]), axis=1)
    slices = sum(len(group.ids) for group in index.groups())
    return {
        "images": len(index.id),
        "series": len(index),
        "images_in_series": slices,
        "lines_when_stopped": half,
        "write_cpu_s": round(written - began, 1),
        "write_memory_mb": round(held - before, 1),
        "read_cpu_s": round(read - written, 1),
        "memory_mb": round(memory_mb() - before, 1),
        "folds_cpu_s": round(time.process_time() - read, 1),
        "patients": len(np.unique(index.patient)),
        "patients_in_two_folds": int(pairs.shape[1] - len(np.unique(index.patient))),
        "smallest_fold_share": round(float(np.bincount(fold).min() / len(fold)), 3),
    }


def learnt(folder: Path) -> dict[str, float]:
    """Images a second of one core, from files to head boxes and through the network."""
    root = folder / "stage_2_train"
    labels = {}
    for seed in range(2):
        for place, path in enumerate(write_series(folder / str(seed), phantom(None, seed=seed), seed=seed)):
            name = f"ID_{seed:06x}{place:06x}"
            root.mkdir(exist_ok=True)
            path.rename(root / f"{name}.dcm")
            labels[name] = 0b11 if place in (10, 11) else 0
    torch.set_num_threads(1)
    began = time.process_time()
    data = rsna.prepare(root, labels, folder / "prepared")
    boxed = time.process_time() - began
    phase = replace(CHALLENGE, steps=1)
    trainer = Trainer(Network(phase.size, pretrained=False), phase, folder / "checkpoints", torch.device("cpu"))
    source = {"rsna": Draw(Shelf(data.pool, torch.device("cpu")), torch.device("cpu"))}
    trainer.run(source)
    trainer.phase = replace(phase, steps=1 + STEPS)
    began = time.process_time()
    trainer.run(source)
    per_s = STEPS * sum(phase.counts.values()) / (time.process_time() - began)
    return {"boxes_per_cpu_s": round(len(labels) / boxed, 1), "learnt_per_cpu_s": round(per_s, 1)}


if __name__ == "__main__":
    where = Path(sys.argv[1])
    where.mkdir(parents=True)
    found = indexed(where)
    (where / "figures.json").write_text(json.dumps(found, indent=1) + "\n")
    (where / "figures.json").write_text(json.dumps({**found, **learnt(where)}, indent=1) + "\n")
