"""From a trained network to a bundle: ich.onnx, its parity with torch, and the manifest ich.yaml written by code.

Everything clinical in the manifest comes in as arrays of predictions; nothing is typed by hand.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

import onnx
from ich_node.domain.findings import DISCLAIMER, LABELS
from ich_node.infer.bundle import GRAPH, MANIFEST, SEQUENCE
from ich_node.infer.engine.ort import OrtEngine
from ich_node.infer.engine.self_test import self_test_input
from ich_node.training.learn import calibrate, sequence
from ich_node.training.learn.network import SHARPNESS, STRIDE, WINDOWS_HU, Network

OPSET = 18  # chosen: what every ONNX Runtime since 1.14 runs
PARITY = 1e-4  # chosen: the order of float32 sums makes less, a wrong graph far more
LARGEST_MB = 30.0  # chosen: the model lies in the repository and in the wheel

INTENDED_USE = (
    "Research: a second, automatic look at non-contrast head CT of adults that proposes the order of reading for acute "
    "intracranial hemorrhage and shows the evidence. Every study is still read by a person."
)
EXCLUSIONS = (
    "diagnosis, or leaving a study unread",
    "contrast studies, CT angiography, sharp (bone) kernels",
    "children, and heads after craniectomy: hardly any were in the training data",
    "fewer than 10 axial slices, slices thicker than 6 mm, parts of a head",
    "chronic hemorrhage that is no denser than brain",
)


def write_graph(network: Network, path: Path) -> None:
    """Write the network as ONNX with dynamic batch, rows and columns; weights inside the file."""
    network = network.to("cpu").eval()
    path.parent.mkdir(parents=True, exist_ok=True)
    dynamic = {"hu": {0: "batch", 1: "rows", 2: "columns"}}
    dynamic |= {name: {0: "batch"} for name in ("logits", "cam", "features")}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of the tracing exporter, about its own age
        torch.onnx.export(
            network,
            (torch.from_numpy(self_test_input()),),
            str(path),
            input_names=["hu"],
            output_names=["logits", "cam", "features"],
            dynamic_axes=dynamic,
            opset_version=OPSET,
            dynamo=False,
        )
    onnx.checker.check_model(str(path), full_check=True)


def parity(network: Network, path: Path) -> float:
    """The largest difference between torch and ONNX Runtime over all outputs, on three sizes of image."""
    engine = OrtEngine(path.read_bytes(), provider="cpu")
    rng = np.random.default_rng(7)
    largest = 0.0
    for hu in (self_test_input(), _noise(rng, (3, 431, 409)), _noise(rng, (1, 190, 192))):
        with torch.no_grad():
            expected = network(torch.from_numpy(hu))
        for mine, theirs in zip(expected, engine.run(hu)[:3], strict=True):
            largest = max(largest, float(np.abs(mine.numpy() - theirs).max()))
    return largest


def _noise(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray[Any, np.dtype[np.int16]]:
    base = np.resize(self_test_input()[1], shape[1:])
    return (base[None] + rng.normal(0, 5, shape)).astype(np.int16)


def write_bundle(
    network: Network,
    folder: Path,
    *,
    version: str,
    slice_scaling: calibrate.Scaling,
    study_scaling: calibrate.Scaling,
    points: Mapping[str, Any],
    cam_threshold: float,
    facts: Mapping[str, Any],
    head: sequence.SequenceHead | None = None,
) -> dict[str, Any]:
    """Write ich.onnx and ich.yaml into `folder`, and sequence.onnx where there is a `head` over the slices.

    The manifest comes back. `facts`: data, training, metrics.

    Raises ValueError when torch and ONNX differ by more than 1e-4 or the file is larger than 30 MB.
    """
    path = folder / GRAPH
    write_graph(network, path)
    difference = parity(network, path)
    size_mb = path.stat().st_size / 1e6
    if difference > PARITY or size_mb > LARGEST_MB:
        raise ValueError(f"parity {difference:.1e} (at most {PARITY}), size {size_mb:.1f} MB (at most {LARGEST_MB})")
    with torch.no_grad():
        logits, cam, features = network(torch.from_numpy(self_test_input()))
    manifest = {
        "id": "ich-default",
        "version": version,
        "notice": f"{DISCLAIMER}. Not for clinical use.",
        "file": GRAPH,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "size_mb": round(size_mb, 2),
        "opset": OPSET,
        "labels": list(LABELS),
        "input": {
            "name": "hu",
            "type": "int16 [batch, rows, columns]",
            "meaning": "HU of a head box in radiological orientation, padding -1024",
            "windows_hu": [list(window) for window in WINDOWS_HU],
            "size": network.size,
        },
        "outputs": {
            "logits": f"float32 [batch, {logits.shape[1]}]: log-mean-exp (r = {SHARPNESS}) of the cam",
            "cam": f"float32 [batch, {cam.shape[1]}, {cam.shape[2]}, {cam.shape[3]}]: cell logits, "
            "mean of the slice and its mirror image",
            "features": f"float32 [batch, {features.shape[1]}]: for a sequence head",
        },
        "calibration": {"slice": _lists(slice_scaling), "study": _lists(study_scaling)},
        "aggregation": {
            "rule": "a triangle along z; of a study the mean of the highest slices of each label",
            **calibrate.AGGREGATION.model_dump(),
        },
        "operating_points": dict(points),
        "present_at": "high",
        "stat_at": "rule_in",
        "cam": {"stride": STRIDE, "threshold": round(cam_threshold, 3)},
        "self_test": {
            "input": "ich_node.infer.engine.self_test: two head boxes of exact integers",
            "logits": _rounded(logits),
            "cam_peak": _rounded(cam.amax(dim=(2, 3))),
            **({} if head is None else {"sequence": _rounded(sequence.of_series(head, features, logits))}),
            "tolerance": {"cpu": 1e-3, "cuda": 2e-2},
        },
        **_head_of(head, folder),
        "parity_torch_onnx": float(f"{difference:.2e}"),
        **facts,
        "intended_use": INTENDED_USE,
        "exclusions": list(EXCLUSIONS),
    }
    text = "# Written by ich_node.training.learn.export; do not edit: the numbers come from the evaluation.\n"
    text += yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True, width=120)
    (folder / MANIFEST).write_text(text, encoding="utf-8")
    return manifest


def _head_of(head: sequence.SequenceHead | None, folder: Path) -> dict[str, Any]:
    """Write the sequence head; what the manifest says about it."""
    if head is None:
        (folder / SEQUENCE).unlink(missing_ok=True)
        return {}
    sequence.export(head, folder / SEQUENCE)
    digest = hashlib.sha256((folder / SEQUENCE).read_bytes()).hexdigest()
    return {"sequence": {"file": SEQUENCE, "sha256": digest, "rule": "its logits count for the study, never for a map"}}


def _lists(scaling: calibrate.Scaling) -> dict[str, list[float]]:
    return {name: [round(value, 5) for value in getattr(scaling, name)] for name in ("scale", "bias")}


def _rounded(rows: Tensor) -> list[list[float]]:
    return [[round(float(value), 6) for value in row] for row in rows]
