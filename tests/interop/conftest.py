"""Real peers for interop tests: `orthanc`, and `require()` for Debian's programs.

Without the packages the tests skip; with ICH_NODE_REQUIRE_INTEROP set they fail instead, so that CI cannot pass by
lacking them.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.ports import free_ports

DEBIAN_PACKAGES = {"Orthanc": "orthanc", "storescu": "dcmtk", "storescp": "dcmtk", "echoscu": "dcmtk"}


def require(*programs: str) -> None:
    """Skip the test (or fail it, with ICH_NODE_REQUIRE_INTEROP) unless all `programs` are installed."""
    missing = [program for program in programs if shutil.which(program) is None]
    if not missing:
        return
    what = ", ".join(f"{program} (Debian package {DEBIAN_PACKAGES.get(program, '?')})" for program in missing)
    if os.environ.get("ICH_NODE_REQUIRE_INTEROP"):
        pytest.fail(f"interop is required, but these are missing: {what}")
    pytest.skip(f"needs {what}")


@dataclass
class Orthanc:
    """A running Orthanc. `url` is its REST interface; it knows the node as AE title ICHNODE at `node_port`."""

    directory: Path
    ae_title: str = "ORTHANC"
    port: int = 0
    http_port: int = 0
    node_port: int = 0
    settings: dict[str, Any] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Base of the REST interface."""
        return f"http://127.0.0.1:{self.http_port}"

    def get(self, path: str) -> Any:
        """The JSON answer to GET `path`."""
        with urllib.request.urlopen(f"{self.url}{path}", timeout=20) as response:  # noqa: S310 loopback
            return json.load(response)

    def read(self, path: str) -> bytes:
        """The bytes behind GET `path`, e.g. /instances/ID/file."""
        with urllib.request.urlopen(f"{self.url}{path}", timeout=60) as response:  # noqa: S310 loopback
            return bytes(response.read())

    def post(self, path: str, body: Any) -> Any:
        """The JSON answer to POST `path`; `body` is JSON, or bytes as they are."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path}", data=data, method="POST")  # noqa: S310 loopback
        with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
            return json.load(response)

    def delete(self, path: str) -> None:
        """DELETE `path`."""
        request = urllib.request.Request(f"{self.url}{path}", method="DELETE")  # noqa: S310 loopback
        urllib.request.urlopen(request, timeout=20).close()  # noqa: S310

    def find(self, level: str = "Instance", **query: str) -> list[dict[str, Any]]:
        """What is stored at `level` (Patient, Study, Series, Instance), expanded; query: DICOM keyword="value"."""
        found: list[dict[str, Any]] = self.post("/tools/find", {"Level": level, "Expand": True, "Query": query})
        return found

    def start(self) -> None:
        """Start (again): same ports, same data."""
        self.directory.mkdir(parents=True, exist_ok=True)
        configuration = self.directory / "orthanc.json"
        configuration.write_text(json.dumps(self._configuration(), indent=1))
        with (self.directory / "orthanc.out").open("ab") as output:
            self.process = subprocess.Popen(
                [shutil.which("Orthanc") or "Orthanc", str(configuration)],
                stdout=output,
                stderr=output,
                env={**os.environ, "TCP_NODELAY": "1"},  # else DCMTK waits for delayed ACKs
            )
        self._wait_until_up()

    def stop(self) -> None:
        """An orderly stop."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None

    def kill(self) -> None:
        """As a crash does it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def signal(self, number: int) -> None:
        """SIGSTOP freezes it, SIGCONT lets it go on."""
        assert self.process is not None
        self.process.send_signal(number)

    def _wait_until_up(self) -> None:
        end = time.monotonic() + 120
        while time.monotonic() < end:
            assert self.process is not None
            if self.process.poll() is not None:
                break
            try:
                self.get("/system")
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except (OSError, urllib.error.URLError):
                time.sleep(0.05)
        pytest.fail(f"Orthanc did not start: {(self.directory / 'orthanc.out').read_text()[-2000:]}")

    def _configuration(self) -> dict[str, Any]:
        folder = str(self.directory / "db")
        return {
            "Name": "INTEROP",
            "StorageDirectory": folder,
            "IndexDirectory": folder,
            "DicomAet": self.ae_title,
            "DicomPort": self.port,
            "DicomCheckCalledAet": True,
            "DicomAlwaysAllowStore": True,
            "DicomAlwaysAllowEcho": True,
            "DicomModalities": {
                "node": {
                    "AET": "ICHNODE",
                    "Host": "127.0.0.1",
                    "Port": self.node_port,
                    "AllowStorageCommitment": True,
                }
            },
            "HttpPort": self.http_port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "OverwriteInstances": False,
            "StableAge": 1,
            "SaveJobs": False,
            "SynchronousCMove": True,
            "StorageCommitmentReportsSize": 100,
            **self.settings,
        }


@pytest.fixture
def make_orthanc(tmp_path: Path) -> Iterator[Callable[..., Orthanc]]:
    """make_orthanc(name="pacs", node_port=…, **settings) starts one more Orthanc; all stop after the test."""
    require("Orthanc")
    started: list[Orthanc] = []

    def make(name: str = "orthanc", node_port: int | None = None, **settings: Any) -> Orthanc:
        port, http_port, spare = free_ports(3)
        server = Orthanc(tmp_path / name, "ORTHANC", port, http_port, node_port or spare, settings)
        started.append(server)
        server.start()
        return server

    yield make
    for server in started:
        server.stop()


@pytest.fixture
def orthanc(make_orthanc: Callable[..., Orthanc]) -> Orthanc:
    """An empty Orthanc for this test: .ae_title, .port (DICOM), .url, .get(), .post(), .node_port (for your SCP)."""
    return make_orthanc()
