"""CUDA says what the CPU says, whatever the number of slices; run on a machine that has one with `pytest -m gpu`."""

from __future__ import annotations

import numpy as np
import pytest

from ich_node.infer.bundle import load
from ich_node.infer.engine import ort
from ich_node.infer.see.crop import crop_stack
from ich_node.phantom import head
from ich_node.runtime import config

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def model():
    if not ort.DRIVER.exists():
        pytest.skip("needs an NVIDIA driver and a CUDA device")
    return load(config.default_bundle())


@pytest.fixture(scope="module")
def engines(model):
    return {name: ort.OrtEngine(model.graph, model.manifest.self_test, name) for name in ("cuda", "cpu")}


@pytest.fixture(scope="module")
def box():
    """A head as the network sees it, int16 [32, rows, columns]."""
    made = head.phantom("subdural", slices=32, seed=3)
    return crop_stack(made.hu, made.spacing_mm).hu


def test_the_self_test_passes_on_cuda_with_a_tenth_of_its_tolerance(engines, model):
    assert engines["cuda"].self_test() <= model.manifest.self_test.tolerance.cuda / 10


@pytest.mark.parametrize("count", [32, 31, 31, 1, 40])
def test_cuda_answers_a_real_looking_head_as_the_cpu_does(engines, box, count):
    hu = np.concatenate([box, box[:8]])[:count]
    cuda, cpu = engines["cuda"].run(hu), engines["cpu"].run(hu)
    assert cuda.provider == ort.CUDA
    assert np.abs(cuda.logits - cpu.logits).max() <= 2e-3
    assert np.abs(cuda.cam - cpu.cam).max() <= 1e-2


def test_auto_takes_cuda_and_says_so(model):
    assert ort.OrtEngine(model.graph, provider="auto").name == ort.CUDA
