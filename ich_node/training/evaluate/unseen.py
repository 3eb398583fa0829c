"""Phantom studies of heads that training never saw: the two label maps that are kept back, whole scans, all types.

Every scan has look-alikes as in training; half of the scans are without hemorrhage. A slice counts as positive for a
type when the mask covers 25 mm² of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ich_node.domain.findings import LABELS
from ich_node.infer.see.crop import Crop, crop_stack
from ich_node.phantom import lesions, lookalikes
from ich_node.phantom.habit import PLAIN, Habit
from ich_node.phantom.head import calcify
from ich_node.phantom.lesions import Scene
from ich_node.phantom.scanner import density, scan
from ich_node.phantom.tissue import Head
from ich_node.training.data.pool import SMALLEST_MM2
from ich_node.training.evaluate import metrics
from ich_node.training.learn import calibrate
from ich_node.training.learn.network import Network
from ich_node.training.synthesis.scans import kept_back, random_protocol


def measure(network: Network, heads_of: Path, scans_per_type: int, seed: int) -> dict[str, Any]:
    """Slice and study AUC of every type over scans of the heads in the folder `heads_of` that are kept back."""
    heads = kept_back(heads_of)
    rng = np.random.default_rng([seed, 99])
    wanted = [*lesions.TYPES, *[None] * len(lesions.TYPES)] * scans_per_type
    slices, studies, slice_labels, study_labels = [], [], [], []
    for number, label in enumerate(wanted):
        box, heights_mm, labels = _scan(heads[number % len(heads)], label, rng)
        with torch.no_grad():
            logits = np.concatenate(
                [network.eval()(torch.from_numpy(box.hu[i : i + 8]))[0].numpy() for i in range(0, len(box.hu), 8)]
            )
        slices.append(calibrate.AGGREGATION.slices(logits, heights_mm))
        studies.append(calibrate.AGGREGATION.study(logits, heights_mm))
        slice_labels.append(labels)
        study_labels.append(labels.max(axis=0))
    return _figures(np.concatenate(slices), np.concatenate(slice_labels), np.stack(studies), np.stack(study_labels))


def _scan(
    head: Head, label: str | None, rng: np.random.Generator
) -> tuple[Crop, npt.NDArray[np.float64], npt.NDArray[np.float32]]:
    """A scan, where its slices lie, and its slice labels [slices, 6]."""
    scene = scene_of(head, label, rng)
    protocol = random_protocol(head, rng)
    taken = scan(scene, protocol, rng)
    box = crop_stack(taken.hu, (protocol.spacing_mm, protocol.pixel_mm, protocol.pixel_mm))
    return box, np.array(protocol.positions_mm), labels_of(taken.mask, protocol.pixel_mm)


def scene_of(head: Head, label: str | None, rng: np.random.Generator, habit: Habit = PLAIN) -> Scene:
    """The head with two look-alikes and, where there is room for one, a hemorrhage of type `label`."""
    scene = Scene(head, density(head, rng))
    calcify(scene, rng)
    for kind in rng.choice(lookalikes.KINDS, 2, replace=False):
        lookalikes.add(scene, str(kind), rng)
    for _ in range(6):
        if label is None or lesions.add(scene, label, rng, habit=habit):
            break
    return scene


def labels_of(masks: npt.NDArray[np.bool_], pixel_mm: float) -> npt.NDArray[np.float32]:
    """Slice labels [slices, 6] of exact masks [slices, 5, rows, columns]."""
    present = masks.sum(axis=(2, 3)) * pixel_mm**2 >= SMALLEST_MM2
    return np.concatenate([present.any(axis=1, keepdims=True), present], axis=1).astype(np.float32)


def _figures(
    slices: npt.NDArray[np.float32],
    slice_labels: npt.NDArray[np.float32],
    studies: npt.NDArray[np.float32],
    study_labels: npt.NDArray[np.float32],
) -> dict[str, Any]:
    by_slice, by_study = {}, {}
    for index, label in enumerate(LABELS):
        # A type against the well: another type in the same scan is neither.
        free = study_labels[:, 0] == 0
        use = free | (study_labels[:, index] > 0)
        by_study[label] = round(metrics.auc(study_labels[use, index], studies[use, index]), 3)
        by_slice[label] = round(metrics.auc(slice_labels[:, index], slices[:, index]), 3)
    return {"studies": len(studies), "slices": len(slices), "study_auc": by_study, "slice_auc": by_slice}
