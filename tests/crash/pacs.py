"""A PACS that counts: every SOP Instance by UID, and every distinct content under it."""

from __future__ import annotations

import hashlib
import threading
import time
from typing import Any

from pydicom.uid import UID
from pynetdicom import AE, evt
from pynetdicom.presentation import build_context

STORAGE = (
    "1.2.840.10008.5.1.4.1.1.7",  # Secondary Capture
    "1.2.840.10008.5.1.4.1.1.7.4",  # Multi-frame True Color Secondary Capture
    "1.2.840.10008.5.1.4.1.1.88.34",  # Comprehensive 3D SR
    "1.2.840.10008.5.1.4.1.1.88.33",
    "1.2.840.10008.5.1.4.1.1.88.22",
    "1.2.840.10008.5.1.4.1.1.88.11",  # Basic Text SR
)
SYNTAXES = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.5")


class CountingPacs:
    """A Storage SCP. contents: SOP Instance UID → SHA-256 of each distinct dataset; received: how often.

    order, times: the UID of each C-STORE and when it came (time.monotonic()).
    """

    def __init__(self, port: int = 0, ae_title: str = "PACS", address: str = "127.0.0.1") -> None:
        self.port = port
        self.address = address
        self.ae_title = ae_title
        self.contents: dict[str, set[str]] = {}
        self.received: dict[str, int] = {}
        self.order: list[str] = []
        self.times: list[float] = []
        self._lock = threading.Lock()
        self._server: Any = None

    def __enter__(self) -> CountingPacs:
        self.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()

    @property
    def sent_again(self) -> int:
        """C-STORE requests beyond the first of an instance, byte-identical or not."""
        return sum(self.received.values()) - len(self.received)

    @property
    def contradictory(self) -> list[str]:
        """Instances that came with more than one content."""
        return [uid for uid, contents in self.contents.items() if len(contents) > 1]

    def start(self) -> None:
        """Listen; again on the same port after a stop()."""
        ae = AE(self.ae_title)
        ae.require_called_aet = True
        ae.maximum_associations = 50
        ae.supported_contexts = [
            build_context("1.2.840.10008.1.1"),
            *(build_context(sop_class, [UID(syntax) for syntax in SYNTAXES]) for sop_class in STORAGE),
        ]
        self._server = ae.start_server(
            (self.address, self.port), block=False, evt_handlers=[(evt.EVT_C_STORE, self._on_store)]
        )
        self.port = self._server.server_address[1]

    def stop(self) -> None:
        """Hang up on everybody and close the port."""
        if self._server is not None:
            self._server.ae.shutdown()
            self._server = None

    def _on_store(self, event: Any) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        digest = hashlib.sha256(event.encoded_dataset(include_meta=False)).hexdigest()
        with self._lock:
            self.contents.setdefault(uid, set()).add(digest)
            self.received[uid] = self.received.get(uid, 0) + 1
            self.order.append(uid)
            self.times.append(time.monotonic())
        return 0x0000
