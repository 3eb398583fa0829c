"""`ich-node train --data rsna`: network, sequence head, calibration, score, submission and bundle from the RSNA set.

One fold of the patients is kept from the network; half of its patients fit sequence head and calibration, and the other
half is only scored. What the manifest says about the bundle comes from that last part. The sequence head goes into the
bundle when studies are told apart better with it, by heads that had not seen them.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

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

    def of(self, chosen: npt.NDArray[np.bool_]) -> Answers:
        """The answers for the chosen slices."""
        return Answers(self.logits[chosen], self.features[chosen])


def run(root: Path, out: Path, settings: Settings, *, version: str, device: str = "auto") -> dict[str, Any]:
    """Train on the set in `root`; bundle and submission.csv in `out`. The manifest."""
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


def _in_sequence(
    head: sequence.SequenceHead, data: rsna.Data, index: npt.NDArray[np.intp], answers: Answers
) -> npt.NDArray[np.float32]:
    """What a head makes of the answers for the slices at `index`, in their order: logits [n, 6]."""
    corrected = np.empty_like(answers.logits)
    for name in np.unique(data.series[index]):
        own = np.flatnonzero(data.series[index] == name)
        one = Series(answers.features[own], answers.logits[own], data.pool.labels[index[own]])
        corrected[own] = sequence.apply(head, one)
    return corrected


def _crossed(
    data: rsna.Data, index: npt.NDArray[np.intp], answers: Answers, settings: Settings
) -> npt.NDArray[np.float32] | None:
    """Corrected logits of the slices at `index`, each patient's by a head that was fitted to the other half of them.

    None where there is but one patient.
    """
    half = np.isin(data.pool.patient[index], np.unique(data.pool.patient[index])[::2])
    if half.all():
        return None
    corrected = np.empty_like(answers.logits)
    for own in (half, ~half):
        others = _series(data, index, answers, ~own)
        head = sequence.train(others, steps=settings.sequence_steps, seed=settings.seed)
        corrected[own] = _in_sequence(head, data, index[own], answers.of(own))
    return corrected


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
    smooth, plain, truth = _studies(data, kept[fitted], answers.logits[fitted])
    slice_scaling = calibrate.fit(smooth, data.pool.labels[kept[fitted]])
    crossed = _crossed(data, kept[fitted], answers.of(fitted), settings)
    with_head = plain if crossed is None else _studies(data, kept[fitted], crossed)[1]
    carried = _loss(with_head, truth) < _loss(plain, truth)
    studies = with_head if carried else plain
    study_scaling = calibrate.fit(studies, truth)
    points = calibrate.operating_points(study_scaling.probability(studies), truth)
    figures = _scored(data, kept[~fitted], answers.of(~fitted), head, slice_scaling)
    figures["sequence_head_in_the_bundle"] = carried
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
        head=head if carried else None,
    )


def _loss(studies: npt.NDArray[np.float32], truth: npt.NDArray[np.float32]) -> float:
    """Log loss of studies after their own calibration."""
    return metrics.weighted_log_loss(truth, calibrate.fit(studies, truth).probability(studies))


def _scored(
    data: rsna.Data,
    index: npt.NDArray[np.intp],
    answers: Answers,
    head: sequence.SequenceHead,
    scaling: calibrate.Scaling,
) -> dict[str, Any]:
    """Figures of slices and studies that nothing was fitted to, with the sequence head and without."""
    labels, patients = data.pool.labels[index], data.pool.patient[index]
    smooth, plain, truth = _studies(data, index, answers.logits)
    corrected = _in_sequence(head, data, index, answers)
    with_head = _studies(data, index, corrected)[1]
    return {
        "patients": len(np.unique(patients)),
        "slices": len(labels),
        "slice_any_auc": str(metrics.bootstrap_auc_by_patient(labels[:, 0], smooth[:, 0], patients)),
        "study_any_auc": f"{metrics.auc(truth[:, 0], plain[:, 0]):.3f}",
        "study_any_auc_sequence_head": f"{metrics.auc(truth[:, 0], with_head[:, 0]):.3f}",
        "weighted_log_loss": round(metrics.weighted_log_loss(labels, scaling.probability(smooth)), 4),
        "weighted_log_loss_sequence_head": round(metrics.weighted_log_loss(labels, 1 / (1 + np.exp(-corrected))), 4),
    }


def _submit(root: Path, out: Path, network: Network, head: sequence.SequenceHead, device: torch.device) -> None:
    """Predict the test images and write submission.csv."""
    data = rsna.prepare(root / "stage_2_test", None, out / "prepared")
    everything = np.arange(len(data.pool))
    answers = predict(network, data, everything, device)
    p = 1 / (1 + np.exp(-_in_sequence(head, data, everything, answers).astype(np.float64)))
    rsna.write_submission(out / "submission.csv", data.ids, p)
