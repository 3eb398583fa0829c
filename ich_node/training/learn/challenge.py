"""`ich-node train --data rsna`: network, sequence head, calibration, score, submission and bundle from the RSNA set.

One fold of the patients is kept from the network; half of its patients fit sequence head and calibration, and the other
half is only scored. What the manifest says about the bundle comes from that last part.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ich_node.domain.findings import LABELS
from ich_node.training.data import ct_ich, rsna
from ich_node.training.data.pool import MARGIN, PIXELS
from ich_node.training.evaluate import metrics
from ich_node.training.learn import calibrate, export, sequence
from ich_node.training.learn.batches import Draw, Shelf
from ich_node.training.learn.network import Network
from ich_node.training.learn.sequence import Series
from ich_node.training.learn.train import Phase, Trainer, device_of

FOLDS = 5  # chosen: the usual five
CHALLENGE = Phase("rsna", {"rsna": 32}, steps=60_000, size=256, rate=8e-4, average=0.999)


@dataclass(frozen=True, slots=True)
class Settings:
    """How to train on the set. sequence_steps: of the head over the slices."""

    phase: Phase = CHALLENGE
    sequence_steps: int = 4000
    seed: int = 2026
    pretrained: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """The network's output for all slices of a set: logits [n, 6], features [n, 96]."""

    logits: npt.NDArray[np.float32]
    features: npt.NDArray[np.float32]


def run(root: Path, out: Path, settings: Settings, *, version: str, device: str = "auto") -> dict[str, Any]:
    """Train on the set in `root`; bundle, sequence.onnx and submission.csv in `out`. The manifest."""
    start = time.monotonic()
    where = device_of(device)
    labels = rsna.read_labels(root / "stage_2_train.csv")
    data = rsna.prepare(root / "stage_2_train", labels, out / "prepared")
    fold = ct_ich.folds(data.pool.patient, data.pool.labels, FOLDS, settings.seed)
    torch.manual_seed(settings.seed)
    network = Network(settings.phase.size, pretrained=settings.pretrained)
    trainer = Trainer(network, replace(settings.phase, seed=settings.seed), out / "checkpoints", where)
    shelf = Shelf(data.pool, torch.device("cpu"))  # mapped from the disk: the whole set has 154 GB
    network = trainer.run({"rsna": Draw(shelf, where, np.flatnonzero(fold != 0))})
    kept = np.flatnonzero(fold == 0)
    answers = predict(network, data, kept, where)
    fitted = np.isin(data.pool.patient[kept], np.unique(data.pool.patient[kept])[::2])
    head = sequence.train(_series(data, kept, answers, fitted), steps=settings.sequence_steps, seed=settings.seed)
    sequence.export(head, out / "sequence.onnx")
    manifest = _bundle(network.to("cpu"), data, kept, answers, fitted, head, settings, out / "bundle", version, start)
    if (root / "stage_2_test").is_dir():
        _submit(root, out, network.to(where), head, where)
    return manifest


def predict(network: Network, data: rsna.Data, index: npt.NDArray[np.intp], device: torch.device) -> Answers:
    """The network's answers for the slices at `index`; the margin of the stored images is cut off first."""
    edge = round((PIXELS - PIXELS / MARGIN) / 2)
    logits, features = [], []
    network = network.to(device).eval()
    with torch.no_grad():
        for start in range(0, len(index), 32):
            hu = np.asarray(data.pool.hu[index[start : start + 32]])[:, edge:-edge, edge:-edge]
            found = network(torch.from_numpy(np.ascontiguousarray(hu)).to(device))
            logits.append(found[0].float().cpu().numpy())
            features.append(found[2].float().cpu().numpy())
    return Answers(np.concatenate(logits), np.concatenate(features))


def _series(
    data: rsna.Data, index: npt.NDArray[np.intp], answers: Answers, chosen: npt.NDArray[np.bool_]
) -> list[Series]:
    """The chosen slices of `index`, series by series."""
    number = data.series[index]
    parts = [np.flatnonzero((number == name) & chosen) for name in np.unique(number[chosen])]
    labels = data.pool.labels[index]
    return [Series(answers.features[part], answers.logits[part], labels[part]) for part in parts]


def _studies(
    data: rsna.Data, index: npt.NDArray[np.intp], logits: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Smoothed slice logits, series logits and series labels."""
    smooth = np.empty_like(logits)
    studies, truth = [], []
    for name in np.unique(data.series[index]):
        own = np.flatnonzero(data.series[index] == name)
        heights_mm = np.arange(len(own)) * float(data.spacing_mm[index[own[0]]])
        smooth[own] = calibrate.AGGREGATION.slices(logits[own], heights_mm)
        studies.append(calibrate.AGGREGATION.study(logits[own], heights_mm))
        truth.append(data.pool.labels[index[own]].max(axis=0))
    return smooth, np.stack(studies), np.stack(truth)


def _bundle(
    network: Network,
    data: rsna.Data,
    kept: npt.NDArray[np.intp],
    answers: Answers,
    fitted: npt.NDArray[np.bool_],
    head: sequence.SequenceHead,
    settings: Settings,
    folder: Path,
    version: str,
    start: float,
) -> dict[str, Any]:
    """Calibrate on the fitted half, score the other one, and write the bundle."""
    smooth, studies, truth = _studies(data, kept[fitted], answers.logits[fitted])
    slice_scaling = calibrate.fit(smooth, data.pool.labels[kept[fitted]])
    study_scaling = calibrate.fit(studies, truth)
    points = calibrate.operating_points(study_scaling.probability(studies), truth)
    scored = ~fitted
    smooth, _, _ = _studies(data, kept[scored], answers.logits[scored])
    labels = data.pool.labels[kept[scored]]
    p = slice_scaling.probability(smooth)
    corrected = np.concatenate([sequence.apply(head, one) for one in _series(data, kept, answers, scored)])
    ordered = np.concatenate([one.labels for one in _series(data, kept, answers, scored)])
    patients = data.pool.patient[kept[scored]]
    figures = {
        "patients": len(np.unique(patients)),
        "slices": len(labels),
        "slice_any_auc": str(metrics.bootstrap_auc_by_patient(labels[:, 0], smooth[:, 0], patients)),
        "weighted_log_loss": round(metrics.weighted_log_loss(labels, p), 4),
        "weighted_log_loss_sequence_head": round(metrics.weighted_log_loss(ordered, 1 / (1 + np.exp(-corrected))), 4),
    }
    facts = {
        "data": [
            {
                "name": "RSNA 2019 Intracranial Hemorrhage Detection, or data in its layout",
                "licence": "RSNA competition rules: research, no redistribution",
                "count": f"{len(np.unique(data.pool.patient))} patients, {len(data.pool)} slices",
                "anatomy": data.anatomy,
            }
        ],
        "training": {
            "seed": settings.seed,
            "phases": [f"{settings.phase.steps} steps at {settings.phase.size} px"],
            "minutes": round((time.monotonic() - start) / 60),
            "weights": "EfficientNet-Lite0, ImageNet (the weights package states no licence)",
        },
        "metrics": {"patients kept back from RSNA": figures},
    }
    return export.write_bundle(
        network,
        folder,
        version=version,
        slice_scaling=slice_scaling,
        study_scaling=study_scaling,
        points=points,
        cam_threshold=0.5,
        facts=facts,
    )


def _submit(root: Path, out: Path, network: Network, head: sequence.SequenceHead, device: torch.device) -> None:
    """Predict the test images and write submission.csv."""
    data = rsna.prepare(root / "stage_2_test", None, out / "prepared")
    everything = np.arange(len(data.pool))
    answers = predict(network, data, everything, device)
    p = np.empty((len(everything), len(LABELS)))
    for name in np.unique(data.series):
        own = np.flatnonzero(data.series == name)
        one = Series(answers.features[own], answers.logits[own], data.pool.labels[own])
        p[own] = 1 / (1 + np.exp(-sequence.apply(head, one)))
    rsna.write_submission(out / "submission.csv", data.ids, p)
