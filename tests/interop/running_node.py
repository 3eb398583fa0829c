"""`ich-node run` as a hospital starts it, on a folder of its own, for tests with real peers."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.crash.evidence import job_states, query
from tests.interop.conftest import Orthanc
from tests.ports import free_port

WITHIN_S = 120


@dataclass
class RunningNode:
    """`ich-node run` on a folder of its own."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def state_dir(self) -> Path:
        return self.folder / "state"

    def start(self) -> None:
        """Start and wait for the answer to a C-ECHO."""
        command = [sys.executable, "-m", "ich_node", "run", "--config", str(self.folder / "ich_node.yaml")]
        with (self.folder / "node.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        self.until(lambda: answers_echo(self.port), "an answer to C-ECHO")

    def stop(self) -> None:
        """Stop in order."""
        if self.process is not None:
            self.process.terminate()
            assert self.process.wait(90) == 0
            self.process = None

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait for a condition, but not for ever."""
        end = time.monotonic() + WITHIN_S
        while not condition():
            if time.monotonic() > end:
                pytest.fail(f"no {what} within {WITHIN_S} s:\n{(self.folder / 'node.log').read_text()[-3000:]}")
            time.sleep(0.1)

    def until_finished(self, jobs: int) -> None:
        """Wait until there are `jobs` jobs and all have ended."""
        ended = {"done", "failed", "ineligible"}
        self.until(
            lambda: len(states := job_states(self.state_dir)) >= jobs and set(states) <= ended, f"end of {jobs} jobs"
        )

    def results(self) -> list[dict[str, Any]]:
        """result.json of every finished job, oldest first."""
        rows = query(self.state_dir, "SELECT id FROM job WHERE state = 'done' ORDER BY id")
        return [json.loads((self.state_dir / "results" / str(i) / "result.json").read_text()) for (i,) in rows]


@contextmanager
def running(folder: Path, **deliver: list[dict[str, Any]]) -> Iterator[RunningNode]:
    """A node with these destinations, by kind as in the configuration, until the end of the block."""
    port = free_port()
    settings = {
        "receive": {"port": port, "quiet_period_s": 3},
        "infer": {"provider": "cpu"},
        "deliver": {**deliver, "retry_base_s": 0.5, "retry_max_s": 2},
        "store": {"state_dir": "state", "min_free_gb": 0.1},
    }
    folder.mkdir()
    (folder / "ich_node.yaml").write_text(yaml.safe_dump(settings))
    node = RunningNode(folder, port)
    node.start()
    try:
        yield node
    finally:
        node.stop()


def answers_echo(port: int) -> bool:
    echo = ["echoscu", "-aec", "ICHNODE", "127.0.0.1", str(port)]
    return subprocess.run(echo, capture_output=True, check=False).returncode == 0


def to(orthanc: Orthanc) -> dict[str, Any]:
    """Orthanc as a destination."""
    return {"name": "pacs", "ae_title": "ORTHANC", "host": "127.0.0.1", "port": orthanc.port}
