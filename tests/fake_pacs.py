"""A PACS that follows a script: a real Storage SCP on loopback, with the answers that a test wants."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pynetdicom import AE, evt
from pynetdicom.presentation import build_context

VERIFICATION = "1.2.840.10008.1.1"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
COMPREHENSIVE_3D_SR = "1.2.840.10008.5.1.4.1.1.88.34"
COMPREHENSIVE_SR = "1.2.840.10008.5.1.4.1.1.88.33"
ENHANCED_SR = "1.2.840.10008.5.1.4.1.1.88.22"
BASIC_TEXT_SR = "1.2.840.10008.5.1.4.1.1.88.11"
STORAGE_COMMITMENT = "1.2.840.10008.1.20.1"
EXPLICIT, IMPLICIT, RLE = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.5"
EVERYTHING = tuple(
    (sop_class, (EXPLICIT, IMPLICIT, RLE))
    for sop_class in (SECONDARY_CAPTURE, COMPREHENSIVE_3D_SR, COMPREHENSIVE_SR, ENHANCED_SR, BASIC_TEXT_SR)
)

Answer = int | str | Callable[[Any], int]
"""A DIMSE status, "abort", "drop" (the connection), "silent", or a function of the event."""


@dataclass
class FakePacs:
    """Answers C-STORE number n with script[n], and with Success when the script is over; refuses: SOP Class → status.

    stored: SOP Instance UID → (transfer syntax, dataset bytes as received); order: every C-STORE, as it came;
    associations: calling AE titles.
    """

    contexts: Sequence[tuple[str, Iterable[str]]] = EVERYTHING
    script: list[Answer] = field(default_factory=list)
    refuses: dict[str, int] = field(default_factory=dict)
    ae_title: str = "PACS"
    port: int = 0
    order: list[str] = field(default_factory=list)
    stored: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    copies: dict[str, list[bytes]] = field(default_factory=dict)
    associations: list[str] = field(default_factory=list)
    commitments: list[Any] = field(default_factory=list)
    commitment_handler: Callable[[Any], int] | None = None
    ssl_context: ssl.SSLContext | None = None
    _server: Any = None
    _release: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> FakePacs:
        self.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()

    def start(self) -> None:
        """Listen; again on the same port after a stop()."""
        ae = AE(self.ae_title)
        ae.require_called_aet = True
        ae.supported_contexts = [
            build_context(VERIFICATION),
            *(build_context(sop_class, list(syntaxes)) for sop_class, syntaxes in self.contexts),
        ]
        handlers = [(evt.EVT_C_STORE, self._on_store), (evt.EVT_ACCEPTED, self._on_accepted)]
        if self.commitment_handler is not None:
            ae.add_supported_context(STORAGE_COMMITMENT)
            handlers.append((evt.EVT_N_ACTION, self._on_action))
        self._release.clear()
        self._server = ae.start_server(
            ("127.0.0.1", self.port), block=False, evt_handlers=handlers, ssl_context=self.ssl_context
        )
        self.port = self._server.server_address[1]

    def stop(self) -> None:
        """Hang up on everybody and close the port."""
        self._release.set()
        if self._server is not None:
            self._server.ae.shutdown()
            self._server = None

    def _on_accepted(self, event: Any) -> None:
        self.associations.append(event.assoc.requestor.ae_title)

    def _on_store(self, event: Any) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        self.order.append(uid)
        usual = self.refuses.get(str(event.request.AffectedSOPClassUID), 0x0000)
        answer = self.script.pop(0) if self.script else usual
        if callable(answer):
            answer = answer(event)
        if isinstance(answer, str):
            return self._misbehave(event, answer)
        if answer in (0x0000, 0x0111) or answer & 0xF000 == 0xB000:
            data = event.encoded_dataset(include_meta=False)
            self.stored.setdefault(uid, (str(event.context.transfer_syntax), data))
            self.copies.setdefault(uid, []).append(data)
        return answer

    def _misbehave(self, event: Any, how: str) -> int:
        if how == "abort":
            event.assoc.abort()
        elif how == "drop":
            event.assoc.dul.socket.close()
        else:
            self._release.wait(60)
        return 0xA700

    def _on_action(self, event: Any) -> tuple[int, None]:
        self.commitments.append(event.action_information)
        assert self.commitment_handler is not None
        return self.commitment_handler(event), None
