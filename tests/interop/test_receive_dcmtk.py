"""Real senders of DCMTK against the receive role: what they were told is stored is on disk, byte for byte."""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from pydicom import dcmread

from ich_node.phantom.series import write_series

pytestmark = [pytest.mark.interop, pytest.mark.skipif(not shutil.which("storescu"), reason="needs DCMTK")]

TRANSCODERS = {"-xt": ["dcmcjpls"], "-xs": ["dcmcjpeg", "+e1"], "-xr": ["dcmcrle"]}


@pytest.fixture
def images(tmp_path: Path, request: pytest.FixtureRequest) -> list[Path]:
    """A series of its own for every test, because both routes keep what they got."""
    seed = zlib.crc32(request.node.name.encode())
    noise = np.random.default_rng(seed).integers(-1000, 1000, (32, 64, 64), np.int16)
    volume = SimpleNamespace(hu=noise, spacing_mm=(5.0, 3.6, 3.6))
    return write_series(tmp_path / "series", volume, seed=seed)  # type: ignore[arg-type]


class Node:
    """The receive role in a process of its own."""

    def __init__(self, root: Path, direct: bool) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = listener.getsockname()[1]
        self.root = root / "state"
        settings = {
            "receive": {"port": self.port, "fast_path": direct, "quiet_period_s": 3},
            "store": {"state_dir": str(self.root), "min_free_gb": 0.001},
        }
        (root / "node.yaml").write_text(yaml.safe_dump(settings))
        command = [sys.executable, "-m", "ich_node", "receive", "--config", str(root / "node.yaml")]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)

    def listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def send(self, files: Sequence[Path], *options: str, program: str = "storescu") -> int:
        command = [program, *options, "-aec", "ICHNODE", "127.0.0.1", str(self.port), *map(str, files)]
        environment = {**os.environ, "TCP_NODELAY": "1"}
        return subprocess.run(command, env=environment, check=False, capture_output=True, timeout=120).returncode

    def keeps(self, files: Sequence[Path]) -> bool:
        """Whether the dataset part of every file is in the spool, byte for byte."""
        kept = {path.stem: body(path) for path in self.root.glob("incoming/*/*.dcm")}
        return all(kept.get(str(dcmread(path, stop_before_pixels=True).SOPInstanceUID)) == body(path) for path in files)


def body(path: Path) -> bytes:
    """The dataset part of a file."""
    data = path.read_bytes()
    return data[144 + int.from_bytes(data[140:144], "little") :]


@pytest.fixture(params=[True, False], ids=["direct", "ordinary"], scope="module")
def node(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    running = Node(tmp_path_factory.mktemp("node"), request.param)
    try:
        end = time.monotonic() + 200
        while not running.listens():
            assert time.monotonic() < end, "the role does not listen"
            time.sleep(0.2)
        yield running
    finally:
        running.process.terminate()
        assert running.process.wait(60) == 0


def test_plain(node: Node, images: list[Path]) -> None:
    assert node.send(images) == 0
    assert node.keeps(images)


def test_dcmsend(node: Node, images: list[Path]) -> None:
    assert node.send(images, program="dcmsend") == 0
    assert node.keeps(images)


def test_shuffled_split_and_sent_twice(node: Node, images: list[Path]) -> None:
    shuffled = random.Random(1).sample(images, len(images))
    for part in range(4):
        assert node.send(shuffled[part::4] + shuffled[:3]) == 0
    assert node.keeps(images)


@pytest.mark.parametrize("option", TRANSCODERS)
def test_compressed(node: Node, images: list[Path], tmp_path: Path, option: str) -> None:
    compressed = []
    for path in images[:8]:
        target = tmp_path / path.name
        subprocess.run([*TRANSCODERS[option], str(path), str(target)], check=True)
        compressed.append(target)
    assert node.send(compressed, option) == 0
    assert node.keeps(compressed)


def test_an_abort_after_half_the_series(node: Node, images: list[Path]) -> None:
    node.send(images[:16], "--abort")
    assert node.keeps(images[:16])


def test_eight_at_a_time(node: Node, images: list[Path]) -> None:
    command = ["storescu", "-aec", "ICHNODE", "127.0.0.1", str(node.port)]
    senders = [subprocess.Popen([*command, *map(str, images[n::8])]) for n in range(8)]
    assert [sender.wait(120) for sender in senders] == [0] * 8
    assert node.keeps(images)


def test_echo(node: Node) -> None:
    command = ["echoscu", "-aec", "ICHNODE", "127.0.0.1", str(node.port)]
    assert subprocess.run(command, check=False).returncode == 0
    assert subprocess.run([*command[:2], "OTHER", *command[3:]], check=False, capture_output=True).returncode != 0
