"""An association that we request (PS3.8 7): a socket, no thread, and a bound on every wait.

One message at a time: a request goes out, then whatever the peer sends is read until the response to it is there, so
that no response can be lost to another reader. A peer may release, abort, hang up, fall silent or send rubbish at any
moment: the association is then closed and PeerUnavailable says what it did.

A response must be complete within `timeout_s`. Sending may take as long as the line needs: it ends when nothing is
taken for `timeout_s`, or less than SLOWEST_RATE in all.
"""

from __future__ import annotations

import contextlib
import itertools
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from ich_node.dicom import dimse
from ich_node.dicom import pdu as ul
from ich_node.dicom.pdu import MalformedPdu, Negotiated, Proposal
from ich_node.domain.errors import PeerUnavailable

LONGEST_PDU = 1 << 20
"""The longest PDU that is read, for peers that do not keep to our Maximum Length."""
LONGEST_MESSAGE = 1 << 20
"""Bytes of a message that a peer sends us: a commitment report on 500 instances has 100 KB."""
SLOWEST_RATE = 8000
"""Bytes per second: one ISDN channel. A peer that takes less holds the sender up on purpose."""
PIECE = 1 << 16  # chosen: 64 KiB from a socket at a time, more than a PDU usually has
RELEASE_S = 5.0
"""A release is a courtesy: the results are there already."""

Secure = Callable[[socket.socket], socket.socket]


@dataclass(frozen=True, slots=True)
class Message:
    """A DIMSE message from the peer: command set and dataset bytes, in the context with that ID."""

    context_id: int
    command: dimse.Command
    dataset: bytes

    @property
    def field(self) -> int:
        """Its Command Field."""
        return dimse.number(self.command, dimse.COMMAND_FIELD, "Command Field")


Serve = Callable[[Message], int]
"""Takes a request of the peer's and returns the DIMSE status to answer it with."""


class Rejected(PeerUnavailable):
    """The peer rejected the association; `permanent` as in PS3.8 9.3.4."""

    def __init__(self, cause: str, *, permanent: bool) -> None:
        super().__init__(cause)
        self.permanent = permanent


class Requestor:
    """An established association; made by request_association(). One thread uses it, any may interrupt() it."""

    def __init__(self, opened: socket.socket, timeout_s: float, contexts: Mapping[int, Proposal]) -> None:
        self.contexts = contexts
        self.negotiated: Negotiated
        self._socket = opened
        self._timeout_s = timeout_s
        self._ahead = bytearray()
        self._message_ids = itertools.cycle(range(1, 1 << 16))
        self._open = True
        self._serves: dict[int, Serve] = {}
        self.last_progress = time.monotonic()

    # --- messages --------------------------------------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        """True until either side has ended the association; reads what the peer has sent meanwhile."""
        with contextlib.suppress(PeerUnavailable):
            if self._open and self._waiting():  # one message at a look: a peer that never ends is not listened to
                self._serve(self._message(time.monotonic() + self._timeout_s))
        return self._open

    def serve(self, command_field: int, handler: Serve) -> None:
        """Let `handler` answer the peer's requests with this Command Field."""
        self._serves[command_field] = handler

    def request(self, context_id: int, elements: dimse.Elements, dataset: Iterable[bytes] | None = None) -> Message:
        """Send a request and return its response; raises PeerUnavailable. `elements` without ID and dataset type.

        An OSError of `dataset`'s own is let through; the association is closed then, in the middle of a message.
        """
        message_id = next(self._message_ids)
        kind = dimse.NO_DATASET if dataset is None else dimse.WITH_DATASET
        self._send(context_id, {**elements, dimse.MESSAGE_ID: message_id, dimse.DATASET_TYPE: kind}, dataset)
        deadline = time.monotonic() + self._timeout_s
        while True:
            message = self._message(deadline)
            with self._failures("answer"):
                if not message.field & dimse.RESPONSE:
                    self._serve(message)
                    continue
                if message.field != int(elements[dimse.COMMAND_FIELD]) | dimse.RESPONSE:
                    raise MalformedPdu(f"Command Field of the response is 0x{message.field:04X}")
                if dimse.number(message.command, dimse.RESPONDED_TO, "Message ID Being Responded To") != message_id:
                    raise MalformedPdu("Message ID Being Responded To is not that of our request")
                dimse.number(message.command, dimse.STATUS, "Status")
            return message

    def listen(self, until: Callable[[], bool], seconds: float) -> None:
        """Serve the peer's requests until `until()` or for so long, or until the association ends."""
        end = time.monotonic() + seconds
        with contextlib.suppress(PeerUnavailable):
            while self._open and not until() and (left := end - time.monotonic()) > 0:
                if self._waiting(left):
                    self._serve(self._message(time.monotonic() + self._timeout_s))

    def _serve(self, message: Message) -> None:
        """Answer a request of the peer's."""
        with self._failures("answer"):
            handler = self._serves.get(message.field)
            if handler is None:
                raise MalformedPdu(f"Command Field 0x{message.field:04X} is out of place")
            elements: dict[int, bytes | str | int] = {
                dimse.COMMAND_FIELD: message.field | dimse.RESPONSE,
                dimse.RESPONDED_TO: dimse.number(message.command, dimse.MESSAGE_ID, "Message ID"),
            }
        for element in (dimse.AFFECTED_SOP_CLASS, dimse.AFFECTED_SOP_INSTANCE, dimse.EVENT_TYPE):
            if element in message.command:
                elements[element] = message.command[element]
        elements[dimse.STATUS] = handler(message)
        self._send(message.context_id, {**elements, dimse.DATASET_TYPE: dimse.NO_DATASET}, None)

    def _send(self, context_id: int, elements: dimse.Elements, dataset: Iterable[bytes] | None) -> None:
        length = ul.fragment_length(self.negotiated.longest)
        begin, taken = time.monotonic(), 0
        parts = [(ul.COMMAND, iter([dimse.command_set(elements)]))]
        if dataset is not None:
            parts.append((ul.DATA, iter(dataset)))
        for control, pieces in parts:
            for fragment, last in ul.fragments(self._or_close(pieces), length):
                with self._failures("take a message"):
                    self._write(ul.p_data(context_id, control | (ul.LAST if last else 0), fragment))
                    taken += len(fragment)
                    if time.monotonic() - begin > self._timeout_s + taken / SLOWEST_RATE:
                        raise TimeoutError

    def _or_close(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """The same; an OSError of theirs closes the association: half a message cannot be taken back."""
        try:
            yield from pieces
        except OSError:
            self.abort()
            raise

    # --- the end ---------------------------------------------------------------------------------------------------

    def release(self) -> None:
        """End the association in order; a peer that does not answer is hung up on."""
        self._timeout_s = min(self._timeout_s, RELEASE_S)
        with contextlib.suppress(PeerUnavailable):
            with self._failures("answer the release"):
                self._write(ul.pdu(ul.RELEASE_RQ, bytes(4)))
            deadline = time.monotonic() + self._timeout_s
            while self._open:  # what the peer has sent before it saw our request is passed over
                with self._failures("answer the release"):
                    kind, _ = self._pdu(deadline)
                if kind == ul.RELEASE_RQ:  # both at once: the requestor answers first (PS3.8 7.2.2)
                    with self._failures("answer the release"):
                        self._write(ul.pdu(ul.RELEASE_RP, bytes(4)))
                elif kind in (ul.RELEASE_RP, ul.ABORT):
                    break
        self.close()

    def abort(self) -> None:
        """End the association at once."""
        if self._open:
            with contextlib.suppress(OSError):
                self._socket.settimeout(0)  # whatever the peer reads
                self._socket.send(ul.abort())
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._open = False
        self._socket.close()

    def interrupt(self) -> None:
        """From another thread: end a wait at once, and with it the association."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)  # TLS's own is not for two threads

    # --- bytes -----------------------------------------------------------------------------------------------------

    @contextmanager
    def _failures(self, what: str) -> Iterator[None]:
        """Any failure of the peer in here closes the association and becomes PeerUnavailable in plain words.

        what: what the peer was to do, as in "the peer did not … within 60 s".
        """
        try:
            yield
        except PeerUnavailable:
            self.close()
            raise
        except MalformedPdu as error:
            self.abort()
            raise PeerUnavailable(f"the peer sent a damaged message: {error}") from error
        except TimeoutError as error:
            self.abort()
            raise PeerUnavailable(f"the peer did not {what} within {self._timeout_s:g} s") from error
        except OSError as error:  # ssl.SSLError is one
            cause = self._last_words() or f"the connection broke: {in_words(error)}"
            self.close()
            raise PeerUnavailable(cause) from error

    def _last_words(self) -> str | None:
        """The A-ABORT that may have come before the connection broke."""
        with contextlib.suppress(OSError, PeerUnavailable, MalformedPdu):
            while True:
                kind, body = self._pdu(time.monotonic() + 0.1)  # it is there already, or never
                if kind == ul.ABORT:
                    return ul.read_abort(body)
        return None

    def _message(self, deadline: float) -> Message:
        """The next whole message (PS3.8 Annex E), of either direction."""
        command, dataset = bytearray(), bytearray()
        found: dict[int, bytes] | None = None
        with self._failures("answer"):
            while True:
                kind, body = self._pdu(deadline)
                if kind == ul.RELEASE_RQ:
                    with contextlib.suppress(OSError):
                        self._write(ul.pdu(ul.RELEASE_RP, bytes(4)))
                    raise PeerUnavailable("the peer released the association")
                if kind == ul.ABORT:
                    raise PeerUnavailable(ul.read_abort(body))
                if kind != ul.P_DATA:
                    raise MalformedPdu(f"PDU type 0x{kind:02X} is out of place")
                for context_id, control, fragment in ul.read_p_data(body):
                    part = command if control & ul.COMMAND else dataset
                    part += fragment
                    if len(part) > LONGEST_MESSAGE:
                        raise MalformedPdu("a message is too long")
                    if not control & ul.LAST:
                        continue
                    if control & ul.COMMAND:
                        found = dimse.read_command_set(bytes(command))
                        if dimse.number(found, dimse.DATASET_TYPE, "Command Data Set Type") == dimse.NO_DATASET:
                            return Message(context_id, found, b"")
                    elif found is not None:
                        return Message(context_id, found, bytes(dataset))

    def _pdu(self, deadline: float) -> tuple[int, bytes]:
        """(type, body) of the next PDU; raises OSError, TimeoutError or MalformedPdu."""
        head = self._read(6, deadline)
        kind, length = head[0], int.from_bytes(head[2:], "big")
        if not ul.ASSOCIATE_AC <= kind <= ul.ABORT:
            raise MalformedPdu(f"PDU type 0x{kind:02X} is unknown")
        if length > LONGEST_PDU:
            raise MalformedPdu(f"a PDU of {length} bytes is too long")
        return kind, self._read(length, deadline)

    def _read(self, count: int, deadline: float) -> bytes:
        while len(self._ahead) < count:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._socket.settimeout(left)
            piece = self._socket.recv(PIECE)
            if not piece:
                self.close()
                raise PeerUnavailable("the peer hung up")
            self._ahead += piece
            self.last_progress = time.monotonic()
        taken = bytes(self._ahead[:count])
        del self._ahead[:count]
        return taken

    def _write(self, data: bytes) -> None:
        self._socket.settimeout(self._timeout_s)
        self._socket.sendall(data)
        self.last_progress = time.monotonic()

    def _waiting(self, seconds: float = 0.0) -> bool:
        """Whether the peer has sent something, or does within `seconds`; raises PeerUnavailable when it is gone."""
        if self._ahead:
            return True
        with self._failures("answer"):
            if not _readable(self._socket, seconds):
                return False
            self._socket.settimeout(0)
            try:
                piece = self._socket.recv(PIECE)
            except (BlockingIOError, ssl.SSLWantReadError):  # bytes of TLS alone
                return False
            if not piece:
                raise PeerUnavailable("the peer hung up")
            self._ahead += piece
            return True


def request_association(
    address: tuple[str, int],
    *,
    calling: str,
    called: str,
    proposals: Sequence[Proposal],
    connect_timeout_s: float,
    timeout_s: float,
    secure: Secure | None = None,
) -> Requestor:
    """Connect and negotiate; `secure` wraps the connected socket, for TLS.

    Raises PeerUnavailable when that fails, Rejected when the peer says no. An association without an accepted
    presentation context is returned: `negotiated` says why.
    """
    opened = connect(address, connect_timeout_s, secure)
    contexts = ul.context_ids(proposals)
    association = Requestor(opened, timeout_s, contexts)
    with association._failures("answer the association request"):
        association._write(ul.associate_rq(calling, called, contexts))
        kind, body = association._pdu(time.monotonic() + timeout_s)
        if kind == ul.ASSOCIATE_RJ:
            permanent, cause = ul.read_associate_rj(body, calling, called)
            raise Rejected(cause, permanent=permanent)
        if kind == ul.ABORT:
            raise PeerUnavailable(f"{ul.read_abort(body)}, when an association was requested")
        if kind != ul.ASSOCIATE_AC:
            raise MalformedPdu(f"PDU type 0x{kind:02X} is out of place")
        association.negotiated = ul.read_associate_ac(body, contexts)
    return association


def connect(address: tuple[str, int], timeout_s: float, secure: Secure | None) -> socket.socket:
    """A connected socket, wrapped by `secure` if there is one; raises PeerUnavailable in plain words."""
    end = time.monotonic() + timeout_s
    try:
        opened = socket.create_connection(address, timeout_s)
    except (OSError, UnicodeError) as error:  # UnicodeError: a host name that is none
        raise PeerUnavailable(f"cannot connect: {in_words(error)}") from error
    try:
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else a small PDU waits for a delayed ACK
        opened.settimeout(max(0.1, end - time.monotonic()))
        return opened if secure is None else secure(opened)
    except (OSError, PeerUnavailable) as error:
        opened.close()
        raise PeerUnavailable(f"cannot connect: {in_words(error)}") from error


def in_words(error: Exception) -> str:
    """Why a connection failed, in the words of TLS or of the operating system."""
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {getattr(error, 'verify_message', '') or error.reason or error}"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error)


def _readable(opened: socket.socket, seconds: float) -> bool:
    if isinstance(opened, ssl.SSLSocket) and opened.pending():
        return True
    poll = select.poll()
    poll.register(opened, select.POLLIN)
    return bool(poll.poll(seconds * 1000))
