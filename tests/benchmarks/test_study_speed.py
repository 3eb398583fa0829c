"""What a study costs from its files to the encoded results: 32 slices, 300 and 1,000 thin ones (`make bench`).

Every case runs in a process of its own, so that its peak memory is its own. Prints tables and asserts nothing about
time; CPU seconds mean something on a busy machine, wall seconds only on a calm one. By hand, on one machine:
`python tests/benchmarks/test_study_speed.py FOLDER [PROVIDER [SECONDS]]` with a folder of one series.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ich_node.infer import bundle, pipeline
from ich_node.infer.engine import open_engine
from ich_node.phantom import head, series
from ich_node.report import build, files
from ich_node.runtime import config
from tests.benchmarks.thin import between_slices

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.timeout(3600)  # a thousand slices are drawn, written and read on whatever machine
REPEATS = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """folder(slices): a head of so many slices over 160 mm, in 512²; more than 32 are drawn between thicker ones."""
    thick = head.phantom("intraparenchymal", slices=32, seed=5)

    def made(count):
        where = tmp_path_factory.mktemp(f"slices{count}")
        series.write_series(where, between_slices(thick, count), seed=count)
        return where

    return made


@pytest.mark.parametrize("count", [32, 300, 1000])
def test_one_study_in_one_process(folder, count):
    where = folder(count)
    script = [sys.executable, __file__, str(where), "cpu"]
    ran = subprocess.run(
        script, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    print(f"\n{count} slices\n{ran.stdout}")


def peak_mb():
    """Largest resident memory of this process alone (getrusage would count its parent's)."""
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


def study(paths, model, engine, settings):
    """Files in, encoded results out; seconds per stage."""
    analysis = pipeline.analyse(paths, model, engine, settings)
    started = time.perf_counter()
    at = datetime(2026, 1, 1, tzinfo=UTC)
    results = build.results(analysis, options=settings.report, device_name="ICH", made_at=at, predecessor=None)
    built = time.perf_counter()
    encoded = files.encode(analysis, results)
    stages = {"building": built - started, "encoding": time.perf_counter() - built}
    return analysis, encoded, {**analysis.timings_s, **stages}


def one(folder, provider):
    """Print what one study costs, first and later times."""
    settings = config.Config(infer=config.InferConfig(provider=provider))
    model = bundle.load(config.default_bundle())
    engine = open_engine(settings.infer, model)
    engine.self_test()
    paths = sorted(folder.glob("*.dcm"))
    print(f"{engine.name}; idle {peak_mb():.0f} MB")
    for number in range(REPEATS):
        before = time.perf_counter(), time.process_time()
        analysis, encoded, stages = study(paths, model, engine, settings)
        wall, cpu = time.perf_counter() - before[0], time.process_time() - before[1]
        said = ", ".join(f"{name} {1000 * seconds:.0f}" for name, seconds in stages.items())
        any_ = analysis.findings[0].probability if analysis.findings else float("nan")
        print(f"{number + 1}: CPU {cpu:.2f} s, wall {wall:.2f} s; ms: {said}; {analysis.status}, P(any) {any_:.3f}")
        del analysis  # a worker holds one volume at a time
    print(f"peak {peak_mb():.0f} MB, {len(encoded)} files")


def loop(folder, provider, seconds, ready, start, counts):
    """Studies in a row for some seconds, as one worker does them."""
    settings = config.Config(infer=config.InferConfig(provider=provider))
    model = bundle.load(config.default_bundle())
    engine = open_engine(settings.infer, model)
    engine.self_test()
    paths = sorted(Path(folder).glob("*.dcm"))
    study(paths, model, engine, settings)
    ready.release()
    start.wait()
    end, done = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        study(paths, model, engine, settings)
        done += 1
    counts.put(done)


def throughput(folder, provider, seconds, workers):
    """Studies per minute of so many workers."""
    context = multiprocessing.get_context("spawn")
    ready, start, counts = context.Semaphore(0), context.Event(), context.Queue()
    arguments = (str(folder), provider, seconds, ready, start, counts)
    processes = [context.Process(target=loop, args=arguments, daemon=True) for _ in range(workers)]
    for process in processes:
        process.start()
    for _ in processes:
        ready.acquire(timeout=120)
    start.set()
    done = sum(counts.get(timeout=seconds + 60) for _ in processes)
    for process in processes:
        process.join(10)
    return done * 60 / seconds


if __name__ == "__main__":
    where, provider = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "cpu"
    one(where, provider)
    if len(sys.argv) > 3:
        for workers in (1, 8):
            rate = throughput(where, provider, float(sys.argv[3]), workers)
            print(f"{workers} workers: {rate:.0f} studies per minute")
