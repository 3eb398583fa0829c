"""A real Triton Inference Server as the engine. The one that can be had without a GPU has no ONNX backend: its Python
backend runs the very file that `ich-node model repository` wrote, the rest of the repository is used as it is."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from ich_node.domain.errors import EngineFailure, ModelError
from ich_node.infer.bundle import load
from ich_node.infer.engine import open_engine, triton
from ich_node.infer.engine.self_test import self_test_input
from ich_node.runtime.config import InferConfig, TritonConfig, default_bundle
from tests import triton_server
from tests.ports import free_ports
from tests.triton_server import SERVER, repository


@pytest.fixture(scope="module")
def model():
    return load(default_bundle())


@dataclass
class Server:
    """A running tritonserver and where it answers."""

    process: subprocess.Popen[bytes]
    address: str


@contextmanager
def running(models: Path, port: int) -> Iterator[Server]:
    """The server on a loopback port; the node has to find out itself when it is ready."""
    command = triton_server.command(models, "127.0.0.1", port)
    with (
        (models / "log").open("wb") as log,
        subprocess.Popen(command, env=triton_server.environment(), stderr=log, start_new_session=True) as process,
    ):
        try:
            yield Server(process, f"127.0.0.1:{port}")
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # the backend has a process of its own


@pytest.fixture(scope="module")
def server(model, tmp_path_factory) -> Iterator[Server]:
    if not (SERVER / "bin" / "tritonserver").exists():
        missing = "needs a tritonserver: tests/interop/tritonserver/install.sh"
        pytest.fail(missing) if os.environ.get("ICH_NODE_REQUIRE_INTEROP") else pytest.skip(missing)
    models = repository(model, tmp_path_factory.mktemp("models"))
    with running(models, free_ports(1)[0]) as found:
        yield found


def options(server: Server, **more: object) -> InferConfig:
    return InferConfig(engine="triton", triton=TritonConfig.model_validate({"address": server.address, **more}))


@pytest.fixture(scope="module")
def engine(server, model):
    """The engine, as soon as the server is ready."""
    last: EngineFailure | None = None
    for _ in range(600):
        try:
            return open_engine(options(server), model)
        except EngineFailure as error:
            last = error
            assert server.process.poll() is None, "the server ended"
            try:
                server.process.wait(0.2)
            except subprocess.TimeoutExpired:
                continue
    raise AssertionError(f"never ready: {last}")


def test_the_server_says_what_the_embedded_engine_says(engine, model):
    embedded = open_engine(InferConfig(provider="cpu", threads=1), model)
    hu = np.concatenate([self_test_input()] * 18)  # two requests, the second not full
    hu += np.arange(len(hu), dtype=np.int16)[:, None, None]
    ours, served = embedded.run(hu), engine.run(hu)
    assert served.provider == "Triton"
    for mine, theirs in zip(ours[:3], served[:3], strict=True):
        assert np.abs(mine - theirs).max() < 1e-5
    assert engine.self_test() < 1e-3


def test_images_of_every_size_are_taken(engine):
    for shape in ((1, 90, 200), (3, 300, 200)):
        assert engine.run(np.full(shape, -1000, np.int16)).logits.shape == (shape[0], 6)


def test_a_server_with_another_graph_has_no_such_model(server, model, engine):
    other = replace(model, manifest=model.manifest.model_copy(update={"sha256": "0" * 64}))
    with pytest.raises(EngineFailure, match="has no model ich_0000000000000000"):
        open_engine(options(server), other)


def test_a_model_of_that_name_from_another_bundle_is_refused(server, model, engine, monkeypatch):
    monkeypatch.setattr(triton, "HASH_PARAMETER", "another_parameter")
    with pytest.raises(ModelError, match="not made from this bundle"):
        open_engine(options(server), model)


def test_a_deadline_is_kept_and_the_engine_goes_on(server, model, engine):
    hasty = triton.TritonEngine(options(server).triton, model)
    hasty._deadline_s = 0.2
    with pytest.raises(EngineFailure, match="Triton failed"):
        hasty.run(np.full((32, 512, 512), -1000, np.int16))  # takes a CPU longer
    assert hasty.recoverable
    assert len(engine.run(self_test_input()).logits) == 2


def test_a_server_that_is_gone_is_an_engine_failure_and_never_another_engine(model, tmp_path, server):
    models = repository(model, tmp_path)
    with running(models, free_ports(1)[0]) as own:
        engine = None
        while engine is None:
            try:
                engine = open_engine(options(own), model)
            except EngineFailure:
                assert own.process.poll() is None, "the server ended"
        own.process.kill()
        own.process.wait()
        with pytest.raises(EngineFailure):
            engine.run(self_test_input())
        with pytest.raises(EngineFailure):
            open_engine(options(own), model)


def test_the_repository_is_what_a_server_with_the_onnx_backend_wants(model, tmp_path):
    written = triton.write_repository(model, tmp_path)
    place = tmp_path / triton.model_name(model)
    assert written == [str(place / "1" / "model.onnx"), str(place / "config.pbtxt")]
    assert (place / "1" / "model.onnx").read_bytes() == model.graph
    text = (place / "config.pbtxt").read_text()
    assert 'platform: "onnxruntime_onnx"' in text
    assert model.card.sha256 in text


def test_the_command_writes_the_repository(tmp_path):
    command = [sys.executable, "-m", "ich_node", "model", "repository", str(tmp_path)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert [Path(line).name for line in said] == ["model.onnx", "config.pbtxt"]
    shutil.rmtree(tmp_path)
