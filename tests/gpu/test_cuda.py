"""CUDA says what the CPU says; run on a machine that has one with `pytest -m gpu`."""

from __future__ import annotations

import numpy as np
import pytest

from ich_node.infer.bundle import load
from ich_node.infer.engine import ort as engine
from ich_node.runtime import config

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def model():
    if not engine.DRIVER.exists():
        pytest.skip("needs an NVIDIA driver and a CUDA device")
    return load(config.default_bundle())


def test_cuda_answers_within_the_tolerance_of_the_manifest(model):
    cuda, cpu = (engine.Engine(model, provider=provider) for provider in ("cuda", "cpu"))
    hu = np.random.default_rng(1).integers(-1000, 1500, (9, 300, 300)).astype(np.int16)
    tolerance = model.card.manifest["self_test"]["tolerance"]["cuda"]
    for ours, theirs in zip(cuda.run(hu), cpu.run(hu), strict=True):
        assert np.abs(ours - theirs).max() <= tolerance


def test_auto_takes_cuda_and_says_so(model):
    assert engine.Engine(model, provider="auto").provider == engine.CUDA
