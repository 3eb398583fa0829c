"""Other Storage SCPs under the same supervisor, so that a fault can be tried on all of them side by side."""

from __future__ import annotations

import json
import os
import shutil
import urllib.error
import urllib.request
from pathlib import Path
from typing import Protocol

from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from tests.crash.evidence import dataset_bytes, is_held
from tests.crash.node import Node
from tests.crash.supervised import Supervised, answers
from tests.ports import free_port


class Receiver(Protocol):
    """Something that acknowledges instances and should have them afterwards."""

    name: str
    called: str
    port: int
    process: Supervised

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def holds(self, sent: Path) -> bool: ...
    def damaged(self) -> int: ...


class IchNode:
    """The receive role of a node."""

    name, called = "ich_node", "ICHNODE"

    def __init__(self, folder: Path, store: Path | None = None) -> None:
        changes = {"store": {"min_free_gb": 0.001, **({"state_dir": str(store / "state")} if store else {})}}
        self._node = Node(folder, None, changes=changes)
        self.port, self.process = self._node.port, self._node.roles["receive"]

    def start(self) -> None:
        """Start receiving."""
        self.process.start()
        self.process.wait_ready()

    def stop(self) -> None:
        """Stop."""
        self.process.stop()

    def holds(self, sent: Path) -> bool:
        """True when the instance is there, whole and byte-equal."""
        return is_held(self._node.state_dir, sent)

    def damaged(self) -> int:
        """Files under a final name that are not whole."""
        return sum(not readable(path) for path in (self._node.state_dir / "incoming").rglob("*.dcm"))


class Storescp:
    """DCMTK storescp, one process, writing what it receives bit by bit (+B)."""

    name, called = "DCMTK storescp", "STORESCP"

    def __init__(self, folder: Path, store: Path | None = None) -> None:
        self._files = (store or folder) / "files"
        self._files.mkdir(parents=True)
        self.port = free_port()
        command = ["storescp", "+B", "-aet", self.called, "-od", str(self._files), str(self.port)]
        environment = {**os.environ, "TCP_NODELAY": "1"}
        self.process = Supervised("storescp", command, folder, environment, probe=lambda: answers(self.port))

    def start(self) -> None:
        """Start receiving."""
        self.process.start()
        self.process.wait_ready()

    def stop(self) -> None:
        """Stop."""
        self.process.stop()

    def holds(self, sent: Path) -> bool:
        """True when the instance is there, whole and byte-equal."""
        uid = str(dcmread(sent, stop_before_pixels=True).SOPInstanceUID)
        return any(
            readable(path) and dataset_bytes(path) == dataset_bytes(sent) for path in self._files.glob(f"*{uid}")
        )

    def damaged(self) -> int:
        """Files under a final name that are not whole."""
        return sum(not readable(path) for path in self._files.iterdir())


class Orthanc:
    """Orthanc as Debian ships it, with its defaults for durability."""

    name, called = "Orthanc", "ORTHANC"

    def __init__(self, folder: Path, store: Path | None = None) -> None:
        self.port, self._http = free_port(), free_port()
        files = (store or folder) / "db"
        files.mkdir(parents=True)
        settings = {
            "StorageDirectory": str(files),
            "IndexDirectory": str(files),
            "DicomAet": self.called,
            "DicomPort": self.port,
            "HttpPort": self._http,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomAlwaysAllowStore": True,
        }
        path = folder / "orthanc.json"
        path.write_text(json.dumps(settings))
        self.process = Supervised(
            "Orthanc", ["Orthanc", str(path)], folder, dict(os.environ), probe=lambda: answers(self.port)
        )

    def start(self) -> None:
        """Start receiving."""
        self.process.start()
        self.process.wait_ready()

    def stop(self) -> None:
        """Stop."""
        self.process.stop()

    def holds(self, sent: Path) -> bool:
        """True when it gives the instance back with the bytes of its dataset."""
        uid = str(dcmread(sent, stop_before_pixels=True).SOPInstanceUID)
        address = f"http://127.0.0.1:{self._http}"
        found = json.loads(fetch(f"{address}/tools/lookup", uid.encode()))
        instances = [item["ID"] for item in found if item["Type"] == "Instance"]
        if not instances:
            return False
        try:
            data = fetch(f"{address}/instances/{instances[0]}/file")
        except urllib.error.HTTPError:
            return False
        return data.endswith(dataset_bytes(sent))

    def damaged(self) -> int:
        """Not visible from outside."""
        return 0


RECEIVERS = {"ich_node": IchNode, "storescp": Storescp, "Orthanc": Orthanc}


def available() -> list[str]:
    """The receivers that can be started on this machine."""
    return [name for name in RECEIVERS if name == "ich_node" or shutil.which(name)]


def readable(path: Path) -> bool:
    """True when the file is DICOM with all of its pixels."""
    try:
        dataset = dcmread(path)
    except (InvalidDicomError, EOFError, OSError):
        return False
    return len(dataset.get("PixelData", b"")) >= dataset.Rows * dataset.Columns * 2


def fetch(address: str, body: bytes | None = None) -> bytes:
    """GET, or POST when there is a body."""
    with urllib.request.urlopen(urllib.request.Request(address, data=body), timeout=30) as answer:  # noqa: S310 loopback
        data: bytes = answer.read()
        return data
