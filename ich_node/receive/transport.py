"""The transport under pynetdicom, with a bound on everything: time, length and memory.

Every PDU has a largest length; a started message must keep coming: never silent for `dimse_timeout_s`, never slower
than LEAST_RATE over such a time; all messages that are held in memory together have a limit. Idle associations sleep
instead of polling every millisecond.

This touches what pynetdicom 3.0.x does not promise, all of it named in `dicom/pynetdicom_3_0.py`.
"""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any

from pynetdicom.association import Association
from pynetdicom.transport import AssociationSocket

from ich_node.domain.dicom import AETitle, Peer
from ich_node.runtime.config import ReceiveConfig

MAX_PDU = 1 << 17
"""The Maximum Length (PS3.8 D.1) that we ask for; DCMTK's largest."""
LONGEST_PDU = 1 << 20
"""The longest PDU that we read, for senders that do not keep to the Maximum Length."""
LEAST_RATE = 1 << 15
"""Bytes a second of a message under way, over each `dimse_timeout_s`: a line of 256 kbit/s is slow, less is a drip."""
MOST_MESSAGE_BYTES = 1 << 29
"""Messages of the ordinary route that are held in memory, all associations together: odd ones are rare and small."""
PIECE = 1 << 16  # chosen: 64 KiB from a socket at a time
SLEEP_S, QUICK_S, RECENT_S, LAST_MOMENT_S = 0.1, 0.001, 0.2, 0.5
"""Chosen: idle, and busy until so long after the last byte; a last PDU may take half a second."""


class Pace:
    """How long a message under way may take: as long as it keeps coming."""

    def __init__(self, within_s: float) -> None:
        self._within_s = within_s
        self._bytes = 0
        self.deadline = time.monotonic() + within_s

    def received(self, count: int) -> None:
        """So many bytes have come."""
        self._bytes += count

    def goes_on(self) -> bool:
        """At the deadline: whether enough has come for another one."""
        if self._bytes < LEAST_RATE * self._within_s:
            return False
        self._bytes, self.deadline = 0, time.monotonic() + self._within_s
        return True


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
        self._pace: Pace | None = None
        self._answering = False
        self.cause = ""
        """Why we ended the association, in plain words; empty when we did not."""
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
        if self._answering:  # one message at a time (PS3.7 D.3.3.3): the next one waits in the peer's memory
            time.sleep(QUICK_S)
            return False
        if self._ahead:
            return True
        now = time.monotonic()
        try:
            if self._pace is not None and now > self._pace.deadline and not self._pace.goes_on():
                raise TimeoutError("a started message was not completed")
            found = self.stream.readable(QUICK_S if now - self._last_activity < RECENT_S else SLEEP_S)
        except (OSError, ValueError) as error:
            self.lost(error)
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
        piece = bytearray(min(nr_bytes, PIECE))
        with memoryview(piece) as view:
            while len(data) < nr_bytes and (got := self.receive_into(view[: nr_bytes - len(data)])):
                data += view[:got]
        self._is_data = not self._is_data and nr_bytes == 6 and data[:1] == b"\4"  # P-DATA-TF: its body is next
        return data

    def send(self, bytestream: bytes) -> None:
        """Send a PDU; a peer that does not read it is lost."""
        try:
            self.stream.send_all(bytestream, time.monotonic() + self._config.dimse_timeout_s)
        except (OSError, ValueError) as error:
            self.lost(error)
        if self._answering:
            self._message_over()
        if self._pace is None:
            self.busy = False

    def receive_into(self, view: memoryview) -> int:
        """Some bytes of the message under way, at least one; 0 when the peer has closed."""
        while True:
            pace = self._pace or Pace(self._config.dimse_timeout_s)
            try:
                got = self.stream.receive_into(view, pace.deadline)
            except TimeoutError:
                if not pace.goes_on():
                    raise
            else:
                pace.received(got)
                return got

    def message_received(self, message: Any) -> None:
        """A DIMSE message is complete. A request keeps its memory, and the next message out, until it is answered."""
        self._pace = None  # busy until the response is sent
        name = type(message).__name__
        if name.endswith("_RQ") and name != "C_CANCEL_RQ":
            self._answering = True
        else:
            self._message_over()

    def served(self) -> None:
        """The request at hand has been dealt with, perhaps without a response: the next one may come."""
        if self._answering:
            self._message_over()

    def _message_over(self) -> None:
        self._memory.change(-self._message_bytes)
        self._message_bytes, self._answering = 0, False

    def lost(self, error: Exception) -> None:
        """Tell the state machine that the connection is gone (PS3.8 9.2: Evt17)."""
        if isinstance(error, TimeoutError):
            self.cause = "the peer was silent, or too slow, in the middle of a message"
        else:
            self.cause = "the connection was lost"
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
        if self._pace is None:
            self._pace = Pace(self._config.dimse_timeout_s)
        kept = min(nr_bytes, (self._config.max_instance_mb << 20) - self._message_bytes)  # SleepingDimse drops the rest
        self._memory.change(kept)
        self._message_bytes += kept

    def _shutdown_socket(self) -> None:
        self._message_over()
        super()._shutdown_socket()
        self.stream.socket.close()  # which pynetdicom leaves to the garbage collector when the peer was first


def peer_of(association: Association) -> Peer | None:
    """Who requested an association; None for a title that is none."""
    with contextlib.suppress(ValueError):
        return Peer(AETitle(association.requestor.ae_title), association.requestor.address)
    return None
