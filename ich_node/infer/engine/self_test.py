"""The self-test of a bundle: two head boxes that everybody can make again, and the answer that the manifest states."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ich_node.domain.errors import ModelError
from ich_node.infer.bundle import SelfTest, load
from ich_node.infer.engine import Output, open_engine
from ich_node.runtime.config import InferConfig


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


def difference(run: Callable[[npt.NDArray[np.int16]], Output], test: SelfTest, tolerance: float) -> float:
    """The largest difference of `run` from the manifest's logits and CAM peaks. Raises ModelError above tolerance."""
    answer = run(self_test_input())
    peak = answer.cam.max(axis=(2, 3))
    expected = np.asarray(test.logits), np.asarray(test.cam_peak)
    if expected[0].shape != answer.logits.shape or expected[1].shape != peak.shape:
        raise ModelError("the self-test of the manifest has another shape than the model's output")
    found = float(max(np.abs(answer.logits - expected[0]).max(), np.abs(peak - expected[1]).max()))
    if test.sequence is not None:
        if answer.sequence is None:
            raise ModelError(f"{answer.provider} did not run the sequence head")
        found = max(found, float(np.abs(answer.sequence - np.asarray(test.sequence)).max()))
    if not found <= tolerance:
        raise ModelError(f"self-test on {answer.provider}: off by {found:.2e}, tolerance {tolerance:.0e}")
    return found


def verify(bundle: Path) -> list[str]:
    """Load the bundle, run its self-test, and say what was found, one line each. Raises ModelError or EngineFailure."""
    model = load(bundle)
    engine = open_engine(InferConfig(), model)
    found = engine.self_test()
    return [
        f"{model.card.id} {model.card.version}",
        f"SHA-256 {model.card.sha256} matches",
        f"self-test passed on {engine.name}: largest difference {found:.1e}",
    ]
