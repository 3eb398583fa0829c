"""A receiving node in this process, for tests: an Scp on a free port over a real spool."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ich_node.domain.dicom import Peer
from ich_node.receive.scp import Extension, Scp
from ich_node.runtime.config import Config, ReceiveConfig, StoreConfig
from ich_node.store.spool import Spool

NO_EXTENSION = Extension()


class Heard:
    """Hints as they came."""

    def __init__(self) -> None:
        self.stored_series: list[tuple[str, str]] = []
        self.endings: list[bool] = []

    def stored(self, association: int, peer: Peer | None, study_uid: str, series_uid: str) -> None:
        self.stored_series.append((study_uid, series_uid))

    def refused(self, *_: object) -> None:
        pass

    def ended(self, association: int, released: bool) -> None:
        self.endings.append(released)


class Receiver:
    """Scp, spool and hints; `with` starts and stops it."""

    def __init__(
        self, root: Path, min_free_bytes: int = 1, extension: Extension = NO_EXTENSION, **changes: Any
    ) -> None:
        self.root = root
        self.spool = Spool(root, min_free_bytes)
        self.heard = Heard()
        settings = {"acse_timeout_s": 2, "dimse_timeout_s": 3, "idle_timeout_s": 5, **changes}
        self.config = Config(receive=ReceiveConfig(**settings), store=StoreConfig(state_dir=root))
        self.scp = Scp(self.config, self.spool, self.heard, extension, port=0)

    @property
    def port(self) -> int:
        return self.scp.port

    def __enter__(self) -> Receiver:
        self.scp.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.scp.stop(within_s=5)

    def files(self) -> dict[str, bytes]:
        """Every file by its path below the state directory."""
        found = {}
        for path in self.root.rglob("*"):
            with suppress(OSError):
                if path.is_file():
                    found[str(path.relative_to(self.root))] = path.read_bytes()
        return found

    def datasets(self) -> dict[str, bytes]:
        """The dataset part of every image, by SOP Instance UID, which must lie in one series only."""
        copies = self.copies()
        assert all(len(found) == 1 for found in copies.values()), "one SOP Instance UID in several series"
        return {uid: found[0] for uid, found in copies.items()}

    def copies(self) -> dict[str, list[bytes]]:
        """The dataset parts under every SOP Instance UID, one for each series that it came in."""
        found: dict[str, list[bytes]] = {}
        for name, data in self.files().items():
            if name.endswith(".dcm"):
                found.setdefault(Path(name).stem, []).append(data[144 + int.from_bytes(data[140:144], "little") :])
        return found


def association_threads() -> int:
    """How many threads of associations and connections this process has."""
    names = [thread.name for thread in threading.enumerate()]
    return sum(name.startswith(("AcceptorThread", "Thread-")) for name in names)


def eventually(condition: Callable[[], object], timeout_s: float = 60) -> bool:
    """Whether `condition` comes true in time."""
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True
