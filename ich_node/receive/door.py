"""From an accepted connection to an association: who gets a thread, who gets a place, who is told no.

    accept → address known? → thread → TLS handshake → 74 bytes: titles, address, certificate → the items, counted
           → slot → only then a pynetdicom association, which sees the request as we write it

A stranger costs one system call and a file descriptor for a moment. A connection that says nothing costs a thread for
at most `acse_timeout_s`, and no slot. What is turned away is told with cause and remedy, a line a minute for each
address and cause.
"""

from __future__ import annotations

import contextlib
import hashlib
import socket
import ssl
import struct
import sys
import time
from collections import deque
from collections.abc import Callable
from socketserver import BaseServer
from typing import Any

from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from ich_node.receive import upper_layer
from ich_node.receive.admission import UNKNOWN_VERSION, Admission, Rejection, plain_address
from ich_node.receive.association_request import (
    FIXED,
    HEAD,
    NO_CLASS,
    Proposal,
    Titles,
    read_proposal,
    read_titles,
    request_length,
)
from ich_node.receive.transport import BoundedSocket, Stream
from ich_node.runtime import audit, counters, logs
from ich_node.runtime.config import CallerConfig, ReceiveConfig
from ich_node.runtime.tls import Reloading, certificate_names

ABORT = bytes((7, 0, 0, 0, 0, 4, 0, 0, 2, 0))  # A-ABORT by the service provider, no reason given (PS3.8 9.3.8)

STRANGER_S, MOST_STRANGERS = 5.0, 256
"""A stranger's connection is closed after so long, unread and without a thread, so that trying again keeps him busier
than us; of more than so many the oldest is closed at once."""

NO_LINGERING = struct.pack("ii", 1, 0)  # struct linger: on, 0 s

MakeSocket = Callable[[Association, Stream, bytes], BoundedSocket]
Contexts = Callable[[Proposal, CallerConfig], list[PresentationContext]]


class Server(ThreadedAssociationServer):  # type: ignore[misc]  # pynetdicom has no types
    """Accepts connections; everything that can block happens in the connection's own thread."""

    request_queue_size = 4096  # more than strangers fill between two turns: a full queue costs a caller a second
    daemon_threads = True
    block_on_close = False

    admission: Admission
    config: ReceiveConfig
    tls: Reloading | None
    make_socket: MakeSocket
    contexts_for: Contexts
    supports: Callable[[str], bool]

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self._strangers: deque[tuple[float, Any]] = deque()  # (when to close it, its socket)
        super().__init__(*arguments, **named)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Give the connection its thread, if it may ask for anything at all."""
        address = plain_address(client_address[0])
        if self.admission.knows(address):
            super().process_request(request, client_address)
            super().service_actions()  # dead associations, every 60 connections: it holds the interpreter
            return
        self.tell(address, Titles("", "", 1), "address of no caller", "add it to receive.callers if it may send")
        self._strangers.append((time.monotonic() + STRANGER_S, request))

    def service_actions(self) -> None:
        """Between two connections: close those of strangers."""
        now = time.monotonic()
        while self._strangers and (self._strangers[0][0] <= now or len(self._strangers) > MOST_STRANGERS):
            _drop(self._strangers.popleft()[1])

    def tell(self, address: str, titles: Titles, reason: str, remedy: str) -> None:
        """Log and audit that a connection was turned away, a line a minute for each address and reason."""
        counters.get().add("connections_refused")
        count = self.admission.trouble((address, reason))
        if not count:
            return
        logs.get().warning(
            "association_rejected",
            address=address,
            calling_ae_title=titles.calling,
            called_ae_title=titles.called,
            reason=reason,
            remedy=remedy,
            count=count,
        )
        audit.get().turned_away(audit.Node(titles.calling or "unknown", address), reason)

    def shutdown(self) -> None:
        """Stop accepting and close the port; associations go on."""
        BaseServer.shutdown(self)  # pynetdicom's own knows only servers that it started itself
        self.server_close()
        while self._strangers:
            _drop(self._strangers.popleft()[1])

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """A connection that failed before its association: no reason to print a traceback."""
        address = plain_address(client_address[0])
        self.tell(address, Titles("", "", 1), f"failed before its association ({type(sys.exception()).__name__})", "")


def _drop(connection: socket.socket) -> None:
    """Close a stranger's connection so that nothing of it stays, in the kernel neither (socket(7): SO_LINGER, 0)."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGERING)
    connection.close()


class Handler(RequestHandler):  # type: ignore[misc]  # pynetdicom has no types
    """One connection, from its first byte to the start of an association."""

    server: Server

    def handle(self) -> None:
        """Read the A-ASSOCIATE-RQ, decide on it, start the association."""
        self._address = plain_address(self.client_address[0])
        self._titles = Titles("", "", 1)
        self._stream = Stream(self.request)
        admission = self.server.admission
        admission.arrived(self._address, id(self), self._evict)
        started = False
        try:
            started = self._started(time.monotonic() + self.server.config.acse_timeout_s)
        except ssl.SSLError as error:
            cause = str(getattr(error, "verify_message", "") or error.reason or "connection closed").lower()
            self._tell(
                f"TLS handshake failed: {cause.replace('_', ' ')}", "compare certificate and authorities of both sides"
            )
        except TimeoutError:
            self._tell("no whole association request in time", "look at the peer, the network, receive.acse_timeout_s")
        except ValueError as error:
            self._tell(str(error), "the peer does not speak DICOM, or TLS where there is none")
            with contextlib.suppress(OSError):
                self._stream.send_all(ABORT, time.monotonic() + 1)
        except OSError:
            self._tell("the peer hung up before its association request was whole", "")
        finally:
            admission.decided(self._address, id(self))
        if not started:
            self.server.shutdown_request(self._stream.socket)

    def _evict(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.socket.shutdown(socket.SHUT_RDWR)

    def _tell(self, reason: str, remedy: str) -> None:
        self.server.tell(self._address, self._titles, reason, remedy)

    def _started(self, deadline: float) -> bool:
        names = None
        if self.server.tls is not None:
            self._stream.start_tls(self.server.tls.current(), deadline)
            names = self._certificate_names()
        head = self._stream.receive_exactly(HEAD, deadline)
        if not head:
            return False  # a probe: connected and gone
        length = request_length(head)
        self._titles = read_titles(self._stream.receive_exactly(FIXED, deadline))
        caller = self.server.admission.caller(self._titles.calling, self._titles.called, self._address, names)
        if self._titles.version != 1:
            caller = UNKNOWN_VERSION
        items = self._stream.receive_exactly(length - FIXED, deadline)  # also before a rejection, which arrives then
        if isinstance(caller, Rejection):
            return self._rejected(caller, deadline)
        if len(items) < length - FIXED:
            raise ValueError("the association request is cut short")
        proposal = read_proposal(self._titles, bytes(items), self.server.supports)
        slot = self.server.admission.admit(self._address)
        if isinstance(slot, Rejection):
            return self._rejected(slot, deadline)
        self._caller, self._proposal = caller, proposal
        with contextlib.ExitStack() as if_it_fails:
            if_it_fails.callback(setattr, slot, "alive", lambda: False)
            super().handle()
            if_it_fails.pop_all()
        slot.alive = self._association.is_alive
        return True

    def _certificate_names(self) -> frozenset[str]:
        secured = self._stream.socket
        assert isinstance(secured, ssl.SSLSocket)  # noqa: S101  start_tls has made it one
        der = secured.getpeercert(binary_form=True) or b""
        return certificate_names(secured.getpeercert() or {}, hashlib.sha256(der).hexdigest())

    def _rejected(self, rejection: Rejection, deadline: float) -> bool:
        counters.get().add("associations_rejected", rejection.reason)
        self._tell(rejection.reason, rejection.remedy)
        self._stream.send_all(rejection.pdu(), deadline)
        return False

    def _create_association(self) -> Association:
        assoc = super()._create_association()
        assoc.dul.socket = None
        while not assoc.dul.event_queue.empty():  # what the socket that we replace has announced
            assoc.dul.event_queue.get_nowait()
        upper_layer.calm(assoc, self.server.config.max_instance_mb << 20)
        bounded = self.server.make_socket(assoc, self._stream, self._proposal.encoded())
        assoc.set_socket(bounded)
        assoc.bind(evt.EVT_DIMSE_RECV, lambda event: bounded.message_received(event.message))
        assoc.acceptor.supported_contexts = self.server.contexts_for(self._proposal, self._caller)
        self._tell_refused({str(context.abstract_syntax) for context in assoc.acceptor.supported_contexts})
        self._association = assoc
        return assoc

    def _tell_refused(self, supported: set[str]) -> None:
        proposed = {context.abstract_syntax for context in self._proposal.contexts.values()}
        refused, senseless = sorted(proposed - supported - {NO_CLASS}), self._proposal.senseless
        if (refused or senseless) and (count := self.server.admission.trouble((self._address, *refused, *senseless))):
            logs.get().info(
                "contexts_refused",
                address=self._address,
                calling_ae_title=self._titles.calling,
                sop_classes=refused,
                senseless=senseless,
                count=count,
            )
