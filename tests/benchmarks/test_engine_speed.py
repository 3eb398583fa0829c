"""What the network costs: 32 and 31 slices, first and second time, on every provider that is here (`make bench`).

Prints a table and asserts nothing about time. CPU seconds are those of this process with all its threads.
"""

from __future__ import annotations

import time

import numpy as np
import pytest

from ich_node.infer.bundle import load
from ich_node.infer.engine import ort
from ich_node.infer.see.crop import crop_stack
from ich_node.phantom import head
from ich_node.runtime import config

PROVIDERS = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.fixture(scope="module")
def box():
    """A head as the network sees it, int16 [40, rows, columns]."""
    made = head.phantom("subdural", slices=32, seed=3)
    hu = crop_stack(made.hu, made.spacing_mm).hu
    return np.concatenate([hu, hu[:8]])


@pytest.mark.parametrize("provider", PROVIDERS)
def test_slices_in_the_engine(provider, box):
    if provider == "cuda" and not ort.DRIVER.exists():
        pytest.skip("needs an NVIDIA driver and a CUDA device")
    model = load(config.default_bundle())
    started = time.perf_counter()
    engine = ort.OrtEngine(model.graph, model.manifest.self_test, provider)
    opened = time.perf_counter()
    off = engine.self_test()
    print(
        f"\n{engine.name}: session {opened - started:.2f} s, self-test {time.perf_counter() - opened:.2f} s, {off:.1e}"
    )
    print("slices  time     ms   CPU ms")
    for count in (32, 31, 1, 40):
        for which in ("first", "second", "third"):
            before = time.perf_counter(), time.process_time()
            engine.run(box[:count])
            wall, cpu = time.perf_counter() - before[0], time.process_time() - before[1]
            print(f"{count:6d}  {which:6s} {1000 * wall:6.1f} {1000 * cpu:8.1f}")
