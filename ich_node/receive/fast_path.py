"""The direct route of a C-STORE: from the socket's buffer to the disk in one writev, ten times as fast.

pynetdicom keeps negotiation, echo, release and abort. When its reactor asks whether there is something to read, a
C-STORE-RQ is served on the spot: PDVs become memoryviews of one buffer, which go to `reception.Incoming` (the same
checks, limits and files as on the ordinary route), and the response is one write. Every other message, and every
C-STORE-RQ of an unusual shape, is left in the buffer untouched and takes the ordinary route.

This touches internals of pynetdicom 3.0.x, all of them named in `dicom/pynetdicom_3_0.py`.
"""

from __future__ import annotations

import mmap
import struct
import time
from dataclasses import dataclass

from pynetdicom.association import Association

from ich_node.dicom.identity import clean_uid
from ich_node.receive.reception import Answer, Incoming, Reception, StoreRequest
from ich_node.receive.transport import LONGEST_PDU, QUICK_S, BoundedSocket, MessageMemory, Pace, Stream, peer_of
from ich_node.runtime.config import ReceiveConfig

BUFFER = 1 << 20  # chosen: two 512 × 512 images, so that a whole one often arrives in one piece
LONGEST_COMMAND = 1 << 12  # chosen: a C-STORE-RQ has some 150 bytes; a longer command goes the ordinary way
P_DATA = 4  # PDU type 04H, PS3.8 9.3.5
C_STORE_RQ, C_STORE_RSP, NO_DATASET = 0x0001, 0x8001, 0x0101  # PS3.7 E.1
COMMAND_FIELD, MESSAGE_ID, DATASET_TYPE = 0x0100, 0x0110, 0x0800  # elements of group 0000, PS3.7 E.1
SOP_CLASS, SOP_INSTANCE = 0x0002, 0x1000  # elements of group 0000, PS3.7 E.1
_PDU = struct.Struct(">BxI").unpack_from
_PDV = struct.Struct(">IBB").unpack_from
_ELEMENT = struct.Struct("<HHI").unpack_from
_U16 = struct.Struct("<H")


class ProtocolError(Exception):
    """The peer sent what PS3.8 does not allow here."""


@dataclass(frozen=True, slots=True)
class Command:
    """A C-STORE-RQ command set, and how much of its PDU follows."""

    request: StoreRequest
    context_id: int
    sop_class: bytes
    sop_instance: bytes
    message_id: int
    pdu_left: int


class FastSocket(BoundedSocket):
    """Serves C-STORE requests within `ready`; between messages everything unread is in `_view[_begin:_end]`."""

    def __init__(
        self,
        assoc: Association,
        stream: Stream,
        first: bytes,
        config: ReceiveConfig,
        memory: MessageMemory,
        reception: Reception,
    ):
        self._reception = reception
        self._view = memoryview(b"")
        self._begin = self._end = 0
        self._contexts: dict[int, tuple[str, str]] = {}
        super().__init__(assoc, stream, first, config, memory)

    @property
    def ready(self) -> bool:
        """Whether there is something for the ordinary route."""
        if self.assoc.dul.state_machine.current_state != "Sta6" or self.busy or self._answering:
            return bool(super().ready)
        if not self.assoc.is_established:  # for a moment after the A-ASSOCIATE-AC: a first C-STORE-RQ waits here
            time.sleep(QUICK_S)
            return False
        if self._begin == self._end and not super().ready:
            return False
        try:
            served = self._serve()
        except ProtocolError as error:
            self._forget()
            self.cause = f"the peer broke the protocol: {error}"
            self.event_queue.put("Evt19")
            return False
        except (OSError, ValueError) as error:
            self._forget()
            self.lost(error)
            return False
        if served:
            self.assoc.dul._idle_timer.restart()
        return not served

    def _serve(self) -> bool:
        """Serve one C-STORE-RQ; False when what comes next is something else, which then lies in `_ahead`."""
        self._load()
        self._pace = Pace(self._config.dimse_timeout_s)
        try:
            command = self._command()
            answer = None
            if command is not None:
                self.busy = True
                answer = self._answer(command)
            if command is None or answer is None:
                self._unload()
                return False
            self.stream.send_all(_response(command, answer), time.monotonic() + self._config.dimse_timeout_s)
        finally:
            self.busy, self._pace = False, None
        self._last_activity = time.monotonic()
        return True

    # --- the command -----------------------------------------------------------------------------------------------

    def _command(self) -> Command | None:
        """The C-STORE-RQ at the front of the buffer, consumed; None, nothing consumed, when it is none of ours."""
        self._fill(6)
        kind, pdu_length = _PDU(self._view, self._begin)
        if kind != P_DATA or not 6 <= pdu_length <= LONGEST_PDU:
            return None
        self._fill(12)
        pdv_length, context_id, flags = _PDV(self._view, self._begin + 6)
        if flags & 3 != 3 or not 2 < pdv_length <= min(LONGEST_COMMAND, pdu_length - 4):
            return None
        self._fill(10 + pdv_length)
        fields = _command_set(self._view[self._begin + 12 : self._begin + 10 + pdv_length])
        context = self._context(context_id)
        if context is None or not _is_store(fields):
            return None
        self._begin += 10 + pdv_length
        sop_class, sop_instance = fields[SOP_CLASS], fields[SOP_INSTANCE]
        request = StoreRequest(
            sop_class_uid=clean_uid(sop_class),
            sop_instance_uid=clean_uid(sop_instance),
            abstract_syntax=context[0],
            transfer_syntax_uid=context[1],
            association=id(self.assoc),
            peer=peer_of(self.assoc),
        )
        message_id = _U16.unpack(fields[MESSAGE_ID])[0]
        return Command(request, context_id, sop_class, sop_instance, message_id, pdu_length - 4 - pdv_length)

    def _context(self, context_id: int) -> tuple[str, str] | None:
        """(abstract syntax, transfer syntax) of an accepted presentation context."""
        if not self._contexts:
            self._contexts = {
                context.context_id: (str(context.abstract_syntax), str(context.transfer_syntax[0]))
                for context in self.assoc.accepted_contexts
            }
        return self._contexts.get(context_id)

    # --- the dataset -----------------------------------------------------------------------------------------------

    def _answer(self, command: Command) -> Answer | None:
        """Take the dataset in; None when another PDU, an abort perhaps, comes in its middle."""
        incoming = self._reception.begin(command.request)
        try:
            parts = self._dataset(command, incoming)
            return None if parts is None else incoming.finish(parts)
        finally:
            incoming.discard()

    def _dataset(self, command: Command, incoming: Incoming) -> list[memoryview] | None:
        """Read to the last PDV; returns what `incoming` has not been given yet."""
        parts: list[memoryview] = []
        pdu_left, last = command.pdu_left, False
        while not last:
            if not pdu_left:
                self._fill(6, parts, incoming)
                kind, pdu_left = _PDU(self._view, self._begin)
                if kind != P_DATA:
                    return None
                if not 6 <= pdu_left <= LONGEST_PDU:
                    raise ProtocolError("impossible PDU length")
                self._begin += 6
            self._fill(6, parts, incoming)
            length, context_id, flags = _PDV(self._view, self._begin)
            if context_id != command.context_id or flags & 1 or not 2 <= length <= pdu_left - 4:
                raise ProtocolError("impossible presentation data value")
            self._begin += 6
            pdu_left -= 4 + length
            last = bool(flags & 2)
            self._fragment(length - 2, parts, incoming)
        if pdu_left:
            raise ProtocolError("a PDU goes on after the last fragment")
        return parts

    def _fragment(self, left: int, parts: list[memoryview], incoming: Incoming) -> None:
        """Collect `left` bytes as few views of the buffer, emptied whenever it is full."""
        start = self._begin
        while left:
            if self._begin == self._end:
                if self._end == BUFFER:
                    parts.append(self._view[start : self._begin])
                    self._make_room(parts, incoming)
                    start = self._begin
                self._receive()
            taken = min(left, self._end - self._begin)
            self._begin += taken
            left -= taken
        parts.append(self._view[start : self._begin])

    # --- the buffer ------------------------------------------------------------------------------------------------

    def _fill(self, count: int, parts: list[memoryview] | None = None, incoming: Incoming | None = None) -> None:
        """Have at least `count` unread bytes; what was collected is handed on when there is no room for them."""
        while self._end - self._begin < count:
            if self._begin + count > BUFFER:
                self._make_room(parts, incoming)
            self._receive()

    def _receive(self) -> None:
        got = self.receive_into(self._view[self._end :])
        if not got:
            raise ConnectionError("the peer has closed in the middle of a message")
        self._end += got

    def _make_room(self, parts: list[memoryview] | None, incoming: Incoming | None) -> None:
        if parts and incoming is not None:
            incoming.write(parts)
            parts.clear()
        self._to_front(bytes(self._view[self._begin : self._end]))

    def _to_front(self, unread: bytes) -> None:
        self._view[: len(unread)] = unread
        self._begin, self._end = 0, len(unread)

    def _load(self) -> None:
        """All unread bytes to the front of the buffer, which is made for the first message."""
        if not self._view:
            self._view = memoryview(mmap.mmap(-1, BUFFER))  # the system has it back when the association ends
        unread = bytes(self._view[self._begin : self._end]) + bytes(self._ahead)  # came from here: it fits
        self._ahead = memoryview(b"")
        self._to_front(unread)
        self.stream.acknowledge_quickly()

    def _unload(self) -> None:
        """All unread bytes to where the ordinary route finds them."""
        self._ahead = memoryview(bytes(self._view[self._begin : self._end]) + bytes(self._ahead))
        self._begin = self._end = 0

    def _forget(self) -> None:
        self._begin = self._end = 0
        self._ahead = memoryview(b"")


def _command_set(data: memoryview) -> dict[int, bytes]:
    """Elements of group 0000 by element number (PS3.7 6.3.1: implicit VR little endian); empty when it is damaged."""
    fields: dict[int, bytes] = {}
    offset = 0
    while offset + 8 <= len(data):
        group, element, length = _ELEMENT(data, offset)
        offset += 8
        if group or offset + length > len(data):
            return {}
        fields[element] = bytes(data[offset : offset + length])
        offset += length
    return fields


def _is_store(fields: dict[int, bytes]) -> bool:
    numbers = [fields.get(element, b"") for element in (COMMAND_FIELD, MESSAGE_ID, DATASET_TYPE)]
    if any(len(number) != 2 for number in numbers) or not (fields.get(SOP_CLASS) and fields.get(SOP_INSTANCE)):
        return False
    return numbers[0] == _U16.pack(C_STORE_RQ) and numbers[2] != _U16.pack(NO_DATASET)


def _response(command: Command, answer: Answer) -> bytes:
    """The C-STORE-RSP in one PDU with one PDV (PS3.7 9.3.1.2)."""
    elements = [
        (SOP_CLASS, command.sop_class),
        (COMMAND_FIELD, _U16.pack(C_STORE_RSP)),
        (0x0120, _U16.pack(command.message_id)),
        (DATASET_TYPE, _U16.pack(NO_DATASET)),
        (0x0900, _U16.pack(answer.status)),
    ]
    if answer.comment:
        elements.append((0x0902, answer.comment.encode("ascii", "replace")))
    elements.append((SOP_INSTANCE, command.sop_instance))
    body = b"".join(_element(number, value) for number, value in elements)
    body = _element(0x0000, struct.pack("<I", len(body))) + body
    return struct.pack(">BxIIBB", P_DATA, len(body) + 6, len(body) + 2, command.context_id, 3) + body


def _element(number: int, value: bytes) -> bytes:
    if len(value) % 2:
        value += b" " if number == 0x0902 else b"\0"
    return struct.pack("<HHI", 0, number, len(value)) + value
