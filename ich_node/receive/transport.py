"""The transport under pynetdicom, with a bound on everything: time, length, memory, and who gets a thread.

    accept → TLS handshake → A-ASSOCIATE-RQ read whole → admission → only then a pynetdicom association

Half-open connections, load-balancer probes and strangers cost one blocked thread for at most `acse_timeout_s` and no
slot. From then on every PDU has a largest length, every started message a deadline (`dimse_timeout_s`), and all
messages that are held in memory together a limit. Idle associations sleep instead of polling every millisecond.

This touches what pynetdicom 3.0.x does not promise, all of it named in `dicom/pynetdicom_3_0.py`.
"""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable
from socketserver import BaseServer
from typing import Any

from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

from ich_node.domain.dicom import AETitle, Peer
from ich_node.receive import upper_layer
from ich_node.receive.admission import UNKNOWN_CALLER, Admission, Rejection, plain_address
from ich_node.runtime import audit, logs
from ich_node.runtime.config import ReceiveConfig
from ich_node.runtime.tls import Reloading

MAX_PDU = 1 << 17
"""The Maximum Length (PS3.8 D.1) that we ask for; DCMTK's largest."""
LONGEST_PDU = 1 << 20
"""The longest PDU that we read, for senders that do not keep to the Maximum Length."""
LONGEST_REQUEST = 1 << 18
"""128 presentation contexts with 25 transfer syntaxes each."""
ABORT = bytes((7, 0, 0, 0, 0, 4, 0, 0, 2, 0))  # A-ABORT by the service provider, no reason given (PS3.8 9.3.8)
PIECE = 1 << 16
SLEEP_S, QUICK_S, RECENT_S, LAST_MOMENT_S = 0.1, 0.001, 0.2, 0.5


class Stream:
    """A connected socket, plain or TLS, on which no call waits longer than its deadline (time.monotonic)."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def start_tls(self, context: ssl.SSLContext, deadline: float) -> None:
        """The server's side of a handshake."""
        secured = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.socket = secured
        self._try(secured.do_handshake, select.POLLIN, deadline)

    def receive_into(self, view: memoryview, deadline: float) -> int:
        """Some bytes, at least one; 0 when the peer has closed."""
        return int(self._try(lambda: self.socket.recv_into(view), select.POLLIN, deadline))

    def receive_exactly(self, count: int, deadline: float) -> bytearray:
        """`count` bytes, fewer only when the peer has closed."""
        data = bytearray()
        piece = bytearray(min(count, PIECE))
        with memoryview(piece) as view:
            while len(data) < count and (got := self.receive_into(view[: count - len(data)], deadline)):
                data += view[:got]
        return data

    def send_all(self, data: bytes, deadline: float) -> None:
        """Send everything."""
        sent = 0
        while sent < len(data):
            rest = data[sent:]
            sent += self._try(lambda: self.socket.send(rest), select.POLLOUT, deadline)  # noqa: B023  called at once

    def acknowledge_quickly(self) -> None:
        """Senders with Nagle's algorithm wait for our ACK before the last piece of every message."""
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def readable(self, wait_s: float) -> bool:
        """Whether there is something to read within `wait_s`; raises OSError when the socket is closed."""
        if isinstance(self.socket, ssl.SSLSocket) and self.socket.pending():
            return True
        return self._poll(select.POLLIN, wait_s)

    def _try(self, call: Callable[[], Any], wanted: int, deadline: float) -> Any:
        while True:
            try:
                return call()
            except ssl.SSLWantWriteError:
                needed = select.POLLOUT
            except ssl.SSLWantReadError:
                needed = select.POLLIN
            except BlockingIOError:
                needed = wanted
            remaining = deadline - time.monotonic()
            if remaining <= 0 or not self._poll(needed, remaining):
                raise TimeoutError("the peer is too slow")

    def _poll(self, wanted: int, wait_s: float) -> bool:
        if self.socket.fileno() < 0:
            raise OSError(errno.EBADF, "the socket is closed")
        poll = select.poll()
        poll.register(self.socket, wanted)
        return bool(poll.poll(wait_s * 1000))


class MessageMemory:
    """How many bytes of unfinished messages the ordinary route holds, all associations together."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0
        self._lock = threading.Lock()

    def change(self, count: int) -> None:
        """Hold more, or less; raises ConnectionError beyond the limit."""
        with self._lock:
            if count > 0 and self._held + count > self._limit:
                raise ConnectionError("too many bytes of unfinished messages")
            self._held += count


class BoundedSocket(AssociationSocket):  # type: ignore[misc]  # pynetdicom has no types
    """pynetdicom's socket with deadlines and largest lengths; serves every message on the ordinary route."""

    def __init__(self, assoc: Association, stream: Stream, first: bytes, config: ReceiveConfig, memory: MessageMemory):
        """first: bytes already received, the A-ASSOCIATE-RQ."""
        self.stream = stream
        self.busy = False
        self._ahead = memoryview(first)
        self._config = config
        self._memory = memory
        self._message_bytes = 0
        self._message_deadline: float | None = None
        self._is_data = False
        self._last_activity = time.monotonic()
        super().__init__(assoc, client_socket=stream.socket)

    @property
    def ready(self) -> bool:
        """Whether there is something to read; sleeps a moment when not, long when nothing has come for a while."""
        if self.socket is None or not self._is_connected:
            time.sleep(QUICK_S)
            return False
        if self.assoc.dul.state_machine.current_state == "Sta13":  # closing: nothing is read any more
            self._drain()
            return False
        if self._ahead:
            return True
        now = time.monotonic()
        try:
            if self._message_deadline is not None and now > self._message_deadline:
                raise TimeoutError("a started message was not completed")
            found = self.stream.readable(QUICK_S if now - self._last_activity < RECENT_S else SLEEP_S)
        except (OSError, ValueError):
            self.lost()
            return False
        if found:
            self._last_activity = time.monotonic()
        return found

    def recv(self, nr_bytes: int) -> bytearray:
        """`nr_bytes` bytes, fewer when the peer has closed; raises OSError beyond a length, a time or the memory."""
        if nr_bytes > LONGEST_PDU:
            raise ConnectionError("a PDU is too long")
        if self._is_data:
            self._count(nr_bytes)
        data = bytearray(self._ahead[:nr_bytes])
        self._ahead = self._ahead[nr_bytes:]
        if len(data) < nr_bytes:
            data += self.stream.receive_exactly(nr_bytes - len(data), self.deadline())
        self._is_data = not self._is_data and nr_bytes == 6 and data[:1] == b"\4"  # P-DATA-TF: its body is next
        return data

    def send(self, bytestream: bytes) -> None:
        """Send a PDU; a peer that does not read it is lost."""
        try:
            self.stream.send_all(bytestream, time.monotonic() + self._config.dimse_timeout_s)
        except (OSError, ValueError):
            self.lost()
        if self._message_deadline is None:
            self.busy = False

    def deadline(self) -> float:
        """Until when the message, or else the PDU, at hand must be complete."""
        return self._message_deadline or time.monotonic() + self._config.dimse_timeout_s

    def message_received(self) -> None:
        """A DIMSE message is complete."""
        self._memory.change(-self._message_bytes)
        self._message_bytes, self._message_deadline = 0, None  # busy until the response is sent

    def lost(self) -> None:
        """Tell the state machine that the connection is gone (PS3.8 9.2: Evt17)."""
        self.event_queue.put("Evt17")

    def _drain(self) -> None:
        """Swallow what is under way for a moment: closing over unread bytes would take our last PDU with it."""
        end = time.monotonic() + LAST_MOMENT_S
        with contextlib.suppress(OSError, ValueError), memoryview(bytearray(PIECE)) as scrap:
            while (remaining := end - time.monotonic()) > 0 and self.stream.readable(remaining):
                if not self.stream.receive_into(scrap, end):
                    break

    def _count(self, nr_bytes: int) -> None:
        self.busy = True
        if self._message_deadline is None:
            self._message_deadline = time.monotonic() + self._config.dimse_timeout_s
        kept = min(nr_bytes, (self._config.max_instance_mb << 20) - self._message_bytes)  # SleepingDimse drops the rest
        self._memory.change(kept)
        self._message_bytes += kept

    def _shutdown_socket(self) -> None:
        self.message_received()
        super()._shutdown_socket()
        self.stream.socket.close()  # which pynetdicom leaves to the garbage collector when the peer was first


MakeSocket = Callable[[Association, Stream, bytes], BoundedSocket]
Contexts = Callable[[A_ASSOCIATE], list[PresentationContext]]


class Server(ThreadedAssociationServer):  # type: ignore[misc]  # pynetdicom has no types
    """Accepts connections; everything that can block happens in the connection's own thread."""

    request_queue_size = 128
    daemon_threads = True
    block_on_close = False

    admission: Admission
    config: ReceiveConfig
    tls: Reloading | None
    make_socket: MakeSocket
    storage_contexts: Contexts

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002
        """Whether the connection may ask for anything at all."""
        return self.admission.arrived(plain_address(client_address[0]))

    def process_request(self, request: Any, client_address: Any) -> None:
        """Give the connection its thread."""
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no more threads
            self.admission.decided(plain_address(client_address[0]))
            raise

    def shutdown(self) -> None:
        """Stop accepting and close the port; associations go on."""
        BaseServer.shutdown(self)  # pynetdicom's own knows only servers that it started itself
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """A connection that failed before its association: no reason to print a traceback."""
        logs.get().warning("association_rejected", address=client_address[0], reason=type(sys.exception()).__name__)


class Handler(RequestHandler):  # type: ignore[misc]  # pynetdicom has no types
    """One connection, from its first byte to the start of an association."""

    server: Server

    def handle(self) -> None:
        """Read the A-ASSOCIATE-RQ, decide on it, start the association."""
        address = plain_address(self.client_address[0])
        try:
            started = self._started(address)
        except (OSError, ValueError) as error:  # TLS and time-outs are OSErrors
            started = False
            logs.get().info("association_rejected", address=address, reason=f"no request ({type(error).__name__})")
            if isinstance(error, ssl.SSLError):
                audit.get().turned_away(audit.Node("unknown", address), f"TLS handshake failed: {error.reason}")
        finally:
            self.server.admission.decided(address)
        if not started:
            self.server.shutdown_request(self._stream.socket if hasattr(self, "_stream") else self.request)

    def _started(self, address: str) -> bool:
        deadline = time.monotonic() + self.server.config.acse_timeout_s
        self._stream = Stream(self.request)
        if self.server.tls is not None:
            self._stream.start_tls(self.server.tls.current(), deadline)
        self._first = self._read_request(deadline)
        if not self._first:
            return False  # a probe: connected and gone
        request = _decoded(self._first)
        if request is None:
            self._stream.send_all(ABORT, deadline)
            raise ValueError("not an association request")
        return self._admitted(request, address, deadline)

    def _read_request(self, deadline: float) -> bytes:
        head = self._stream.receive_exactly(6, deadline)
        if not head:
            return b""
        length = int.from_bytes(head[2:], "big")
        if len(head) < 6 or head[0] != 1 or length > LONGEST_REQUEST:
            self._stream.send_all(ABORT, deadline)
            raise ValueError("not an association request")
        return bytes(head + self._stream.receive_exactly(length, deadline))

    def _admitted(self, request: A_ASSOCIATE, address: str, deadline: float) -> bool:
        calling, called = str(request.calling_ae_title).strip(), str(request.called_ae_title).strip()
        decision = self.server.admission.admit(calling, called, address) if calling else UNKNOWN_CALLER
        if isinstance(decision, Rejection):
            logs.get().warning(
                "association_rejected", address=address, calling_ae_title=calling, reason=decision.reason
            )
            audit.get().turned_away(audit.Node(calling, address), decision.reason)
            self._stream.send_all(decision.pdu(), deadline)
            return False
        self._request = request
        try:
            super().handle()
        except BaseException:
            decision.alive = lambda: False
            raise
        decision.alive = self._association.is_alive
        return True

    def _create_association(self) -> Association:
        assoc = super()._create_association()
        assoc.dul.socket = None
        while not assoc.dul.event_queue.empty():  # what the socket that we replace has announced
            assoc.dul.event_queue.get_nowait()
        upper_layer.calm(assoc, self.server.config.max_instance_mb << 20)
        bounded = self.server.make_socket(assoc, self._stream, self._first)
        assoc.set_socket(bounded)
        assoc.bind(evt.EVT_DIMSE_RECV, lambda _event: bounded.message_received())
        assoc.acceptor.supported_contexts = [
            *assoc.acceptor.supported_contexts,
            *self.server.storage_contexts(self._request),
        ]
        self._association = assoc
        return assoc


def _decoded(data: bytes) -> A_ASSOCIATE | None:
    """The request in an A-ASSOCIATE-RQ PDU; None when pynetdicom can not read it, or could not negotiate it.

    Every presentation context proposes one abstract syntax (PS3.8 9.3.2.2).
    """
    try:
        pdu = A_ASSOCIATE_RQ()
        pdu.decode(data)
        request = pdu.to_primitive()
    except Exception:  # pynetdicom lets anything through on hostile bytes; the caller says what follows
        return None
    proposed = request.presentation_context_definition_list
    return request if all(context.abstract_syntax for context in proposed) else None


def peer_of(association: Association) -> Peer | None:
    """Who requested an association; None for a title that is none."""
    with contextlib.suppress(ValueError):
        return Peer(AETitle(association.requestor.ae_title), association.requestor.address)
    return None
