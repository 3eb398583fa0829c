"""The session: what runs, what it answers, and what it refuses."""

from pathlib import Path

import numpy as np
import pytest
from structlog.testing import capture_logs

from ich_node.domain.errors import EngineFailure, ModelError
from ich_node.domain.findings import LABELS
from ich_node.infer import pipeline
from ich_node.infer.bundle import load
from ich_node.infer.engine import Output, ort
from ich_node.infer.engine.ort import CPU, CUDA, OrtEngine
from ich_node.infer.engine.self_test import self_test_input, verify
from ich_node.phantom import head, series
from ich_node.runtime import config, cores
from tests.density_model import density_model

SHIPPED = Path(__file__).resolve().parents[3] / "onnx"


@pytest.fixture(scope="module")
def model():
    return load(SHIPPED)


@pytest.fixture(scope="module")
def engine(model):
    return OrtEngine(model.graph, model.manifest.self_test, provider="cpu", threads=1)


def test_the_provider_that_runs_is_visible(engine):
    assert (engine.asked, engine.name, engine.run(self_test_input()).provider) == ("cpu", CPU, CPU)


def test_the_shipped_bundle_passes_its_self_test(engine):
    assert engine.self_test() < 1e-3


def test_a_self_test_with_another_answer_is_refused(model):
    wrong = model.manifest.self_test.model_copy(update={"logits": ((9.0,) * 6,) * 2})
    with pytest.raises(ModelError, match="self-test"):
        OrtEngine(model.graph, wrong, provider="cpu").self_test()


def test_every_slice_has_its_own_answer_whatever_the_batch(engine):
    hu = np.concatenate([self_test_input()] * 5)
    logits, cam, features = engine.run(hu)[:3]
    alone = engine.run(hu[:1])
    assert logits.shape == (10, 6)
    assert cam.shape[:2] == (10, 6)
    assert len(features) == 10
    assert np.allclose(logits[0], alone[0][0], atol=1e-4)
    assert np.allclose(logits[::2], logits[0], atol=1e-4)


def test_logits_follow_from_the_cam_alone(engine):
    logits, cam = engine.run(self_test_input())[:2]
    cells = 4.0 * cam.reshape(*cam.shape[:2], -1).astype(np.float64)
    top = cells.max(axis=2)
    expected = (top + np.log(np.exp(cells - top[..., None]).mean(axis=2))) / 4.0
    assert np.allclose(logits, expected, atol=1e-4)


def test_a_clot_lights_the_cam_where_it_is(engine):
    cam = engine.run(self_test_input()).cam
    gain = cam[1, 0] - cam[0, 0]
    row, column = np.unravel_index(gain.argmax(), gain.shape)
    assert abs((row + 0.5) / gain.shape[0] - 66 / 160) < 0.1
    assert abs((column + 0.5) / gain.shape[1] - 98 / 144) < 0.1


def test_images_of_any_size_are_taken(engine):
    for shape in ((1, 90, 200), (2, 512, 512)):
        assert engine.run(np.full(shape, -1000, np.int16))[0].shape == (shape[0], 6)


def test_an_input_of_the_wrong_rank_is_an_engine_failure(engine):
    with pytest.raises(EngineFailure, match="failed"):
        engine.run(np.zeros((2, 8), np.int16))


def test_bytes_that_are_no_graph_are_a_model_error():
    with pytest.raises(ModelError, match="cannot be loaded"):
        OrtEngine(b"not a graph", provider="cpu")


def test_cuda_that_was_asked_for_by_name_is_never_replaced_silently(model):
    try:
        gpu = OrtEngine(model.graph, provider="cuda")
    except EngineFailure as failure:
        assert "CUDA was asked for" in str(failure)
    else:
        assert gpu.name == CUDA


def test_verify_says_what_it_checked():
    lines = verify(SHIPPED)
    assert any("matches" in line for line in lines)
    assert any("self-test passed" in line for line in lines)


# --- a GPU, played ----------------------------------------------------------------------------------------------------


class Gpu:
    """A session that calls itself CUDA and has room for so many slices; its logits are each slice's first value."""

    def __init__(self, room):
        self.room, self.seen = room, []

    def get_providers(self):
        return [CUDA]

    def run(self, _outputs, inputs, _options):
        hu = inputs["hu"]
        self.seen.append(len(hu))
        if len(hu) > self.room:
            raise ort.native.RuntimeException("BFCArena: Available memory of 1 is smaller than requested bytes of 2")
        logits = np.repeat(hu[:, 0, :1].astype(np.float32), len(LABELS), axis=1)
        return [logits, np.zeros((len(hu), len(LABELS), 2, 2), np.float32), np.zeros((len(hu), 4), np.float32)]


@pytest.fixture
def on_gpu(monkeypatch, model):
    """on_gpu(room): an engine whose CUDA session has room for so many slices; its CPU session is the real one."""
    real = ort._open

    def make(room):
        gpu = Gpu(room)
        monkeypatch.setattr(ort, "_open", lambda graph, *, cuda: gpu if cuda else real(graph, cuda=False))
        return OrtEngine(model.graph, provider="cuda", threads=1), gpu

    return make


def slices(count):
    hu = np.full((count, 96, 96), -1000, np.int16)
    hu[:, 0, 0] = np.arange(count)
    return hu


@pytest.mark.parametrize("count", [1, 31, 32, 33, 70])
def test_a_gpu_sees_one_batch_shape_for_life_and_every_slice_keeps_its_answer(on_gpu, count):
    engine, gpu = on_gpu(room=32)
    answer = engine.run(slices(count))
    assert set(gpu.seen) == {32}
    assert answer.logits[:, 0].tolist() == list(range(count))
    assert answer.provider == CUDA
    assert not engine.recoverable


def test_a_gpu_without_room_is_asked_for_less_and_says_so(on_gpu):
    engine, gpu = on_gpu(room=8)
    with capture_logs() as said:
        answer = engine.run(slices(31))
        engine.run(slices(31))
    assert answer.logits[:, 0].tolist() == list(range(31))
    assert gpu.seen == [32, *[8] * 8]
    assert [(line["event"], line["on_cpu"]) for line in said] == [("gpu_memory_full", False)]


def test_a_gpu_without_any_room_leaves_the_series_to_the_cpu_and_the_result_says_so(on_gpu):
    engine, gpu = on_gpu(room=0)
    with capture_logs() as said:
        answer = engine.run(slices(3))
    assert answer.provider == CPU
    assert [line["on_cpu"] for line in said] == [False, True]
    gpu.room = 8
    assert engine.run(slices(3)).provider == CUDA


def test_another_error_of_a_gpu_is_no_reason_to_go_on_with_it(on_gpu, monkeypatch):
    engine, gpu = on_gpu(room=32)

    def broken(*_):
        raise ort.native.RuntimeException("CUDA failure 700: an illegal memory access was encountered")

    monkeypatch.setattr(gpu, "run", broken)
    with pytest.raises(EngineFailure, match="700"):
        engine.run(slices(3))


# --- cores and the seam ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("quota", "cores_of"), [("50000 100000", 1), ("400000 100000", 4), ("max 100000", 99), ("x", 99)]
)
def test_threads_keep_to_the_quota_of_the_control_group(tmp_path, monkeypatch, quota, cores_of):
    monkeypatch.setattr(cores.os, "sched_getaffinity", lambda _pid: range(99))
    (tmp_path / "cpu.max").write_text(quota + "\n")
    assert cores.usable(tmp_path) == cores_of


def test_threads_keep_to_the_cores_that_the_process_may_use(tmp_path, monkeypatch):
    monkeypatch.setattr(cores.os, "sched_getaffinity", lambda _pid: {3, 5})
    assert cores.usable(tmp_path) == 2


class Remote:
    """How an engine elsewhere (Triton, say) takes its place: four names, and the pipeline asks for no more."""

    name = "Triton 2.60, ich 1"
    recoverable = True

    def run(self, hu):
        count = len(hu)
        return Output(
            logits=np.full((count, 6), -9, np.float32),
            cam=np.full((count, 6, 28, 28), -9, np.float32),
            features=np.zeros((count, 1), np.float32),
            provider=self.name,
        )

    def self_test(self):
        return 0.0


def test_another_engine_takes_its_place_without_a_change_to_what_stands(tmp_path):
    paths = series.write_series(tmp_path, head.phantom(None, rows=256, columns=256, seed=1), seed=1)
    analysis = pipeline.analyse(paths, density_model(), Remote(), config.Config())
    assert (analysis.status, analysis.provider, str(analysis.priority)) == ("analysed", Remote.name, "ROUTINE")
