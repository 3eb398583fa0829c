"""The bundle: ich.onnx beside its manifest ich.yaml, and what the numbers of the manifest make of the network's output.

In: logits and CAM of one series, slices from foot to head. Out: `Prediction`. Every clinical number (calibration,
aggregation, thresholds) is read from the manifest; there is none in the code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from ich_node.domain.errors import ModelError
from ich_node.domain.findings import LABELS, ModelCard, Prediction
from ich_node.infer.see.heights import Array, extents_mm, steps_mm

GRAPH = "ich.onnx"
MANIFEST = "ich.yaml"

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Model:
    """A verified bundle. graph: the bytes of ich.onnx, whose SHA-256 the manifest states."""

    card: ModelCard
    graph: bytes

    def predict(self, logits: Floats, cam: Floats, heights_mm: Array) -> Prediction:
        """Calibrated probabilities of a series from logits [slices, 6] and cam [slices, 6, h, w], foot to head.

        `heights_mm`: where the slices lie along the body [slices]. Raises ModelError when a value is not finite.
        """
        if not (np.isfinite(logits).all() and np.isfinite(cam).all()):
            raise ModelError("the model's output holds values that are not finite")
        manifest = self.card.manifest
        rule = Aggregation.of(manifest)
        of_slice, of_study = manifest["calibration"]["slice"], manifest["calibration"]["study"]
        return Prediction(
            slice_probability=_calibrated(rule.slices(logits, heights_mm), of_slice),
            study_probability=_calibrated(rule.study(logits, heights_mm), of_study),
            cam=_calibrated(cam.swapaxes(1, 3), of_slice).swapaxes(1, 3),
        )


@dataclass(frozen=True, slots=True)
class Aggregation:
    """How the logits [slices, labels] of a series become those of its slices and its study.

    Everything is in millimetres between positions, so that thin slices say the same as thick ones, also where a series
    has both: a slice is smoothed with its neighbours, by a triangle of `slice_half_width_mm`; the study is the mean of
    each label's highest logits over `study_span_mm`, smoothed by `study_half_width_mm` only, because a small lesion
    crosses one or two slices.
    """

    slice_half_width_mm: float
    study_half_width_mm: float
    study_span_mm: float

    @classmethod
    def of(cls, manifest: Mapping[str, Any]) -> Aggregation:
        """What the manifest says. Raises KeyError, ValueError."""
        found = cls(*(float(manifest["aggregation"][name]) for name in cls.__slots__))
        if min(found.slice_half_width_mm, found.study_half_width_mm, found.study_span_mm) <= 0:
            raise ValueError("aggregation: lengths must be positive")
        return found

    def slices(self, logits: Floats, heights_mm: Array) -> Floats:
        """Logits [slices, labels] of the slices at `heights_mm`, in the same order."""
        return smoothed(logits, self.slice_half_width_mm, heights_mm)

    def study(self, logits: Floats, heights_mm: Array) -> Floats:
        """Logits [labels] of the study."""
        return top_mean(smoothed(logits, self.study_half_width_mm, heights_mm), self.study_span_mm, heights_mm)


def smoothed(logits: Floats, half_width_mm: float, heights_mm: Array) -> Floats:
    """Logits [slices, labels] averaged along z with a triangle that reaches 0 at `half_width_mm`.

    A neighbour counts by the stretch that it speaks for: 1-2-1 for 10 mm and slices every 5. Beyond the ends the scan
    is taken to go on as it ends.
    """
    heights, values = np.asarray(heights_mm, np.float64), np.asarray(logits, np.float64)
    below, above = steps_mm(heights)
    before, after = (int(np.ceil(half_width_mm / step)) for step in (below[0], above[-1]))
    at = np.concatenate(
        [heights[0] - below[0] * np.arange(before, 0, -1), heights, heights[-1] + above[-1] * np.arange(1, after + 1)]
    )
    stretch = np.pad(extents_mm(heights), (before, after), mode="edge")
    weights = np.clip(1 - np.abs(heights[:, None] - at[None, :]) / half_width_mm, 0, None) * stretch
    padded = np.pad(values, ((before, after), (0, 0)), mode="edge")
    return np.asarray(weights @ padded / weights.sum(axis=1, keepdims=True), np.float32)


def top_mean(logits: Floats, span_mm: float, heights_mm: Array) -> Floats:
    """Mean [labels] of each label's highest logits [slices, labels], over slices that speak for about `span_mm`."""
    stretch = np.broadcast_to(extents_mm(heights_mm)[:, None], logits.shape)
    order = np.argsort(-logits, axis=0, kind="stable")
    stretch, highest = np.take_along_axis(stretch, order, axis=0), np.take_along_axis(logits, order, axis=0)
    counts = np.cumsum(stretch, axis=0) - stretch / 2 < span_mm + 1e-3
    counts[0] = True
    return np.asarray((highest * stretch).sum(axis=0, where=counts) / stretch.sum(axis=0, where=counts), np.float32)


def _calibrated(logits: Floats, calibration: Mapping[str, Any]) -> Floats:
    """Sigmoid of scale · logit + bias; the last axis is the label."""
    scale, bias = (np.asarray(calibration[name], np.float64) for name in ("scale", "bias"))
    return np.asarray(1 / (1 + np.exp(-np.clip(logits * scale + bias, -60, 60))), np.float32)


def load(bundle: Path) -> Model:
    """Read and verify the bundle in the folder `bundle`. Raises ModelError when it is not what its manifest says."""
    try:
        manifest = yaml.safe_load((bundle / MANIFEST).read_text(encoding="utf-8"))
        graph = (bundle / GRAPH).read_bytes()
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ModelError(f"the model bundle in {bundle} can not be read: {error}") from error
    if not isinstance(manifest, dict):
        raise ModelError(f"{bundle / MANIFEST} is not a mapping")
    try:
        card = _card(manifest)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{bundle / MANIFEST} is not a complete manifest: {error!r}") from error
    found = hashlib.sha256(graph).hexdigest()
    if found != card.sha256:
        raise ModelError(f"{bundle / GRAPH} has SHA-256 {found}, its manifest says {card.sha256}")
    return Model(card, graph)


def _card(manifest: dict[str, Any]) -> ModelCard:
    labels = tuple(str(label) for label in manifest["labels"])
    if labels != LABELS:
        raise ValueError(f"labels are {labels}, must be {LABELS}")
    for part in ("slice", "study"):
        for name in ("scale", "bias"):
            if len(manifest["calibration"][part][name]) != len(LABELS):
                raise ValueError(f"calibration.{part}.{name} must have {len(LABELS)} numbers")
    Aggregation.of(manifest)
    points = manifest["operating_points"]
    thresholds = {label: _probability(points[manifest["present_at"]]["thresholds"][label]) for label in LABELS}
    return ModelCard(
        id=str(manifest["id"]),
        version=str(manifest["version"]),
        sha256=str(manifest["sha256"]),
        labels=labels,
        thresholds=thresholds,
        stat_threshold=_probability(points[manifest["stat_at"]]["thresholds"]["any"]),
        cam_threshold=_probability(manifest["cam"]["threshold"]),
        manifest=manifest,
    )


def _probability(value: object) -> float:
    number = float(str(value))
    if not 0 < number < 1:
        raise ValueError(f"{value!r} is not a probability between 0 and 1")
    return number


def verify(bundle: Path) -> list[str]:
    """Load the bundle, run its self-test, and say what was found, one line each. Raises ModelError or EngineFailure."""
    from ich_node.infer.engine.ort import Engine  # noqa: PLC0415 — reading a manifest must not load the runtime

    model = load(bundle)
    engine = Engine(model)
    difference = engine.self_test()
    return [
        f"{model.card.id} {model.card.version}",
        f"SHA-256 {model.card.sha256} matches",
        f"self-test passed on {engine.provider}: largest difference {difference:.1e}",
    ]


def info(bundle: Path) -> list[str]:
    """What the manifest says about the bundle, one line each, for people. Raises ModelError."""
    card = load(bundle).card
    manifest = card.manifest
    lines = [f"{card.id} {card.version}: {manifest['notice']}", f"SHA-256 {card.sha256}, opset {manifest['opset']}"]
    for name, point in manifest["operating_points"].items():
        limits = ", ".join(f"{label} {value:.3f}" for label, value in point["thresholds"].items())
        lines.append(f"{name}: {limits}")
    lines.append(f"present at {manifest['present_at']}, STAT at {manifest['stat_at']}")
    lines += [f"data: {source['name']}, {source['licence']}, {source['count']}" for source in manifest["data"]]
    for name, metrics in manifest["metrics"].items():
        lines.append(f"{name}: " + "; ".join(f"{key} {value}" for key, value in metrics.items()))
    lines.append(f"intended use: {manifest['intended_use']}")
    lines += [f"not for: {exclusion}" for exclusion in manifest["exclusions"]]
    return lines
