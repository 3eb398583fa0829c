"""The bundle: ich.onnx beside its manifest ich.yaml, and what the numbers of the manifest make of the network's output.

A bundle may carry a second graph, sequence.onnx, that reads what the network said about the slices of a series and
answers with the logits that count for the study. The maps and the slices stay those of the network.

In: logits and CAM of one series, slices from foot to head. Out: `Prediction`. Every clinical number (calibration,
aggregation, thresholds) is read from the manifest; there is none in the code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
import numpy.typing as npt
import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from ich_node.domain.errors import ModelError
from ich_node.domain.findings import LABELS, Band, ModelCard, Prediction, Priority
from ich_node.infer.see.heights import Array, extents_mm, steps_mm

GRAPH = "ich.onnx"
MANIFEST = "ich.yaml"
SEQUENCE = "sequence.onnx"

Floats = npt.NDArray[np.float32]


Probability = Annotated[float, Field(gt=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Millimetres = Annotated[float, Field(gt=0)]
Numbers = Annotated[tuple[float, ...], Field(min_length=len(LABELS), max_length=len(LABELS))]


class Part(BaseModel):
    """A part of the manifest: what is written there stays as it is; what the node does not use is kept for people."""

    model_config = ConfigDict(frozen=True, extra="allow")


class Aggregation(Part):
    """How the logits [slices, labels] of a series become those of its slices and its study.

    Everything is in millimetres between positions, so that thin slices say the same as thick ones, also where a series
    has both: a slice is smoothed with its neighbours, by a triangle of `slice_half_width_mm`; the study is the mean of
    each label's highest logits over `study_span_mm`, smoothed by `study_half_width_mm` only, because a small lesion
    crosses one or two slices.
    """

    slice_half_width_mm: Millimetres
    study_half_width_mm: Millimetres
    study_span_mm: Millimetres

    def slices(self, logits: Floats, heights_mm: Array) -> Floats:
        """Logits [slices, labels] of the slices at `heights_mm`, in the same order."""
        return smoothed(logits, self.slice_half_width_mm, heights_mm)

    def study(self, logits: Floats, heights_mm: Array) -> Floats:
        """Logits [labels] of the study."""
        return top_mean(smoothed(logits, self.study_half_width_mm, heights_mm), self.study_span_mm, heights_mm)


class Scaling(Part):
    """Calibration: sigmoid of scale · logit + bias, one number per label in the order of LABELS."""

    scale: Numbers
    bias: Numbers

    def probability(self, logits: Floats) -> Floats:
        """Calibrated probabilities 0..1 of logits whose last axis is the label."""
        exponent = np.clip(logits * np.asarray(self.scale) + np.asarray(self.bias), -60, 60)  # exp stays finite
        return np.asarray(1 / (1 + np.exp(-exponent)), np.float32)


class Calibration(Part):
    """One scaling for slices and cells, one for studies."""

    slice: Scaling
    study: Scaling


class OperatingPoint(Part):
    """Label → calibrated study probability from which a finding is called present.

    sensitivity, specificity: of "any" at this point, from cross-validation over studies.
    """

    thresholds: dict[str, Probability]
    sensitivity: Share | None = None
    specificity: Share | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if missing := set(LABELS) - set(self.thresholds):
            raise ValueError(f"no thresholds for {', '.join(sorted(missing))}")
        return self


class Cam(Part):
    """threshold: calibrated cell probability from which a cell counts as lit."""

    threshold: Probability


class Tolerance(Part):
    """Largest difference of the self-test, per kind of device."""

    cpu: float
    cuda: float


class SelfTest(Part):
    """What the network answers to the self-test's input: logits and CAM peaks, both [slices, labels].

    sequence: what the sequence head makes of it [slices, labels], where the bundle has one.
    """

    logits: tuple[Numbers, ...]
    cam_peak: tuple[Numbers, ...]
    sequence: tuple[Numbers, ...] | None = None
    tolerance: Tolerance


class SequenceHead(Part):
    """A graph over the slices of a series, with the SHA-256 of its file.

    features float32 [1, slices, F] and logits float32 [1, slices, labels] of the network, foot to head → corrected
    float32 [1, slices, labels].
    """

    sha256: str


def _the_labels(labels: tuple[str, ...]) -> tuple[str, ...]:
    if labels != LABELS:
        raise ValueError(f"labels are {labels}, must be {LABELS}")
    return labels


class Manifest(Part):
    """ich.yaml. present_at, stat_at: names of operating points. From notice on: for people, and printed as it is."""

    id: str
    version: str
    sha256: str
    labels: Annotated[tuple[str, ...], AfterValidator(_the_labels)]
    calibration: Calibration
    aggregation: Aggregation
    operating_points: dict[str, OperatingPoint]
    present_at: str
    stat_at: str
    cam: Cam
    self_test: SelfTest | None = None
    sequence: SequenceHead | None = None
    notice: str = ""
    opset: int = 0
    data: tuple[dict[str, Any], ...] = ()
    metrics: dict[str, dict[str, Any]] = {}
    intended_use: str = ""
    exclusions: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _points_exist(self) -> Self:
        if missing := {self.present_at, self.stat_at} - set(self.operating_points):
            raise ValueError(f"no operating point {', '.join(sorted(missing))}")
        return self

    @model_validator(mode="after")
    def _head_is_tested(self) -> Self:
        if self.sequence is not None and (self.self_test is None or self.self_test.sequence is None):
            raise ValueError("a sequence head without its answer in the self-test")
        return self

    @property
    def identity(self) -> str:
        """The SHA-256 of the network or, with a sequence head, of both hashes: other weights are another model."""
        if self.sequence is None:
            return self.sha256
        return hashlib.sha256(f"{self.sha256}\n{self.sequence.sha256}".encode()).hexdigest()

    def card(self) -> ModelCard:
        """What the rest of the node needs to know."""
        return ModelCard(
            id=self.id,
            version=self.version,
            sha256=self.identity,
            labels=self.labels,
            thresholds={label: self.operating_points[self.present_at].thresholds[label] for label in LABELS},
            stat_threshold=self.operating_points[self.stat_at].thresholds["any"],
            cam_threshold=self.cam.threshold,
            bands=tuple(self._bands()),
        )

    def _bands(self) -> Iterator[Band]:
        for priority, name in ((Priority.STAT, self.stat_at), (Priority.HIGH, self.present_at)):
            point = self.operating_points[name]
            if point.sensitivity is not None and point.specificity is not None:
                yield Band(priority, point.thresholds["any"], point.sensitivity, point.specificity)


@dataclass(frozen=True)
class Model:
    """A verified bundle. graph, sequence: the bytes of its ONNX files, whose SHA-256 the manifest states."""

    manifest: Manifest
    graph: bytes
    sequence: bytes | None = None

    @cached_property
    def card(self) -> ModelCard:
        """What the rest of the node needs to know of the manifest."""
        return self.manifest.card()

    def predict(self, logits: Floats, cam: Floats, heights_mm: Array, sequence: Floats | None = None) -> Prediction:
        """Calibrated probabilities of a series from logits [slices, 6] and cam [slices, 6, h, w], foot to head.

        `heights_mm`: where the slices lie along the body [slices]. `sequence`: what the sequence head made of the
        logits [slices, 6]; the study's probability comes from it. Raises ModelError when a value is not finite, or
        when the bundle has a head and the engine did not run it.
        """
        if (sequence is None) != (self.sequence is None):
            raise ModelError("the engine and the bundle do not agree on a sequence head")
        of_study = logits if sequence is None else sequence
        if not (np.isfinite(logits).all() and np.isfinite(cam).all()):
            raise ModelError("the model's output holds values that are not finite")
        rule, calibration = self.manifest.aggregation, self.manifest.calibration
        return Prediction(
            slice_probability=calibration.slice.probability(rule.slices(logits, heights_mm)),
            study_probability=calibration.study.probability(rule.study(of_study, heights_mm)),
            cam=calibration.slice.probability(cam.swapaxes(1, 3)).swapaxes(1, 3),
        )


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
    """Mean [labels] of each label's highest logits [slices, labels], each weighing what it fills of `span_mm`.

    The last one that finds room weighs what is left, so that slices of 6 mm are not averaged over more than those of 5.
    """
    stretch = np.broadcast_to(extents_mm(heights_mm)[:, None], logits.shape)
    order = np.argsort(-logits, axis=0, kind="stable")
    stretch, highest = np.take_along_axis(stretch, order, axis=0), np.take_along_axis(logits, order, axis=0)
    left_mm = span_mm - (np.cumsum(stretch, axis=0) - stretch)
    weight = np.clip(left_mm, 0, stretch)
    return np.asarray((highest * weight).sum(axis=0) / weight.sum(axis=0), np.float32)


def load(bundle: Path) -> Model:
    """Read and verify the bundle in the folder `bundle`. Raises ModelError when it is not what its manifest says."""
    try:
        said = yaml.safe_load((bundle / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ModelError(f"the model bundle in {bundle} cannot be read: {error}") from error
    if not isinstance(said, dict):
        raise ModelError(f"{bundle / MANIFEST} is not a mapping")
    try:
        manifest = Manifest.model_validate(said)
    except ValidationError as error:
        holes = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise ModelError(f"{bundle / MANIFEST} is not a complete manifest: {holes}") from error
    head = manifest.sequence
    sequence = None if head is None else _verified(bundle / SEQUENCE, head.sha256)
    return Model(manifest, _verified(bundle / GRAPH, manifest.sha256), sequence)


def _verified(path: Path, sha256: str) -> bytes:
    """The bytes of a file of the bundle. Raises ModelError when they are not those that the manifest means."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"the model bundle in {path.parent} cannot be read: {error}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise ModelError(f"{path} has SHA-256 {found}, its manifest says {sha256}")
    return content


def info(bundle: Path) -> list[str]:
    """What the manifest says about the bundle, one line each, for people. Raises ModelError."""
    said = load(bundle).manifest
    lines = [f"{said.id} {said.version}: {said.notice}", f"SHA-256 {said.sha256}, opset {said.opset}"]
    if said.sequence is not None:
        lines.append(f"sequence head, SHA-256 {said.sequence.sha256}: the study's probability comes from it")
    for name, point in said.operating_points.items():
        limits = ", ".join(f"{label} {value:.3f}" for label, value in point.thresholds.items())
        lines.append(f"{name}: {limits}")
    lines.append(f"present at {said.present_at}, STAT at {said.stat_at}")
    lines += [f"data: {source['name']}, {source['licence']}, {source['count']}" for source in said.data]
    for name, metrics in said.metrics.items():
        lines.append(f"{name}: " + "; ".join(f"{key} {value}" for key, value in metrics.items()))
    lines.append(f"intended use: {said.intended_use}")
    lines += [f"not for: {exclusion}" for exclusion in said.exclusions]
    return lines
