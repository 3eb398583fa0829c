"""ONNX Runtime, and nothing but ONNX Runtime: one session that turns head boxes into logits, CAM and features.

This is the only module that imports onnxruntime. Which execution provider was asked for and which one really runs are
both visible; there is no silent fall-back from a GPU that was asked for by name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as native

from ich_node.domain.errors import EngineFailure, ModelError
from ich_node.domain.findings import LABELS
from ich_node.infer.bundle import Model

BATCH = 8
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
OUTPUTS = ("logits", "cam", "features")
DRIVER = Path("/proc/driver/nvidia/version")
NATIVE_ERRORS: tuple[type[Exception], ...] = (
    native.EPFail,
    native.Fail,
    native.InvalidArgument,
    native.InvalidGraph,
    native.InvalidProtobuf,
    native.NotImplemented,
    native.RuntimeException,
)

Floats = npt.NDArray[np.float32]


class Engine:
    """One inference session for the life of a worker. `asked` is the wanted provider, `provider` the one that runs."""

    def __init__(self, model: Model, provider: str = "auto", threads: int = 0) -> None:
        """Open the session. provider: "auto", "cuda" or "cpu"; threads: of the CPU provider, 0 for one per core.

        Raises ModelError when the graph can not be loaded, EngineFailure when CUDA was asked for and is not obtained.
        """
        self.asked = provider
        self.model = model
        self.session = _open(model, provider, threads)
        self.provider = str(self.session.get_providers()[0])
        if provider == "cuda" and self.provider != CUDA:
            raise EngineFailure(f"CUDA was asked for, but only {self.provider} could be obtained")

    def run(self, hu: npt.NDArray[np.int16]) -> tuple[Floats, Floats, Floats]:
        """HU [slices, rows, columns] → logits [slices, 6], cam [slices, 6, h, w], features [slices, F].

        Raises EngineFailure when the runtime fails, ModelError when the output is not finite or has another shape.
        """
        parts = [self._batch(hu[start : start + BATCH]) for start in range(0, len(hu), BATCH)]
        logits, cam, features = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        if logits.shape != (len(hu), len(LABELS)) or cam.shape[:2] != logits.shape:
            raise ModelError(f"the model answered with shapes {logits.shape} and {cam.shape} to {len(hu)} slices")
        if not all(np.isfinite(array).all() for array in (logits, cam, features)):
            raise ModelError("the model's output holds values that are not finite")
        return logits, cam, features

    def self_test(self) -> float:
        """Run the manifest's self-test; the largest difference from its answer. Raises ModelError above tolerance."""
        test = self.model.card.manifest["self_test"]
        logits, cam, _ = self.run(self_test_input())
        tolerance = float(test["tolerance"]["cuda" if self.provider == CUDA else "cpu"])
        peak = cam.max(axis=(2, 3))
        expected = np.asarray(test["logits"]), np.asarray(test["cam_peak"])
        if expected[0].shape != logits.shape or expected[1].shape != peak.shape:
            raise ModelError("the self-test of the manifest has another shape than the model's output")
        difference = float(max(np.abs(logits - expected[0]).max(), np.abs(peak - expected[1]).max()))
        if not difference <= tolerance:
            raise ModelError(f"self-test on {self.provider}: off by {difference:.2e}, tolerance {tolerance:.0e}")
        return difference

    def _batch(self, hu: npt.NDArray[np.int16]) -> list[Any]:
        try:
            return list(self.session.run(OUTPUTS, {"hu": np.ascontiguousarray(hu, np.int16)}))
        except NATIVE_ERRORS as error:
            raise EngineFailure(f"inference on {self.provider} failed: {error}") from error


def _open(model: Model, provider: str, threads: int) -> Any:
    wanted = [CPU]
    worth_trying = provider == "cuda" or (provider == "auto" and DRIVER.exists())
    if worth_trying and CUDA in onnxruntime.get_available_providers():
        onnxruntime.preload_dlls()
        wanted.insert(0, CUDA)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.enable_cpu_mem_arena = False  # a worker lives for months; the arena never gives memory back
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads leave the CPU to the others
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(model.graph, options, providers=wanted)
    except NATIVE_ERRORS as error:
        raise ModelError(f"the graph of {model.card.id} can not be loaded: {error}") from error


def self_test_input() -> npt.NDArray[np.int16]:
    """Two head boxes of exact integers, int16 [2, 160, 144]: a skull with brain, and the same with a dense clot."""
    row, column = np.mgrid[:160, :144]
    radius = ((row - 80) * 100 // 76) ** 2 + ((column - 72) * 100 // 62) ** 2
    hu = np.full((2, 160, 144), -1000, np.int16)
    hu[:, radius < 10000] = 20
    hu[:, radius < 9000] = 1100
    hu[:, radius < 7400] = 34
    hu[:, ((row - 84) ** 2 < 400) & ((column - 72) ** 2 < 9)] = 6
    hu[1, (row - 66) ** 2 + (column - 98) ** 2 < 150] = 68
    return hu
