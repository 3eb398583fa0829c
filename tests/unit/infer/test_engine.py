"""The session: what runs, what it answers, and what it refuses."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ich_node.domain.errors import EngineFailure, ModelError
from ich_node.infer.bundle import Model, load, verify
from ich_node.infer.engine.ort import CPU, Engine, self_test_input

SHIPPED = Path(__file__).resolve().parents[3] / "onnx"


@pytest.fixture(scope="module")
def engine():
    return Engine(load(SHIPPED), provider="cpu", threads=1)


def test_the_provider_that_runs_is_visible(engine):
    assert (engine.asked, engine.provider) == ("cpu", CPU)


def test_the_shipped_bundle_passes_its_self_test(engine):
    assert engine.self_test() < 1e-3


def test_a_self_test_with_another_answer_is_refused(engine):
    card = engine.model.card
    test = card.manifest["self_test"]
    wrong = {"self_test": test | {"logits": [[9.0] * 6] * 2}}
    other = Engine(Model(replace(card, manifest={**card.manifest, **wrong}), engine.model.graph), provider="cpu")
    with pytest.raises(ModelError, match="self-test"):
        other.self_test()


def test_every_slice_has_its_own_answer_whatever_the_batch(engine):
    hu = np.concatenate([self_test_input()] * 5)
    logits, cam, features = engine.run(hu)
    alone = engine.run(hu[:1])
    assert logits.shape == (10, 6)
    assert cam.shape[:2] == (10, 6)
    assert len(features) == 10
    assert np.allclose(logits[0], alone[0][0], atol=1e-4)
    assert np.allclose(logits[::2], logits[0], atol=1e-4)


def test_logits_follow_from_the_cam_alone(engine):
    logits, cam, _ = engine.run(self_test_input())
    cells = 4.0 * cam.reshape(*cam.shape[:2], -1).astype(np.float64)
    top = cells.max(axis=2)
    expected = (top + np.log(np.exp(cells - top[..., None]).mean(axis=2))) / 4.0
    assert np.allclose(logits, expected, atol=1e-4)


def test_a_clot_lights_the_cam_where_it_is(engine):
    _, cam, _ = engine.run(self_test_input())
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


def test_bytes_that_are_no_graph_are_a_model_error(engine):
    with pytest.raises(ModelError, match="can not be loaded"):
        Engine(Model(engine.model.card, b"not a graph"), provider="cpu")


def test_cuda_that_was_asked_for_by_name_is_never_replaced_silently(engine):
    try:
        gpu = Engine(engine.model, provider="cuda")
    except EngineFailure as failure:
        assert "CUDA was asked for" in str(failure)
    else:
        assert gpu.provider == "CUDAExecutionProvider"


def test_verify_says_what_it_checked():
    lines = verify(SHIPPED)
    assert any("matches" in line for line in lines)
    assert any("self-test passed" in line for line in lines)
