"""A PACS of bare sockets whose A-ASSOCIATE-AC and answers can be odd; it takes everything else with Success."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

MAX_LENGTH = 0x51
SUCCESS = 0x0000


def item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(value)) + value


def pdu(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxI", kind, len(body)) + body


def element(number: int, value: bytes) -> bytes:
    return struct.pack("<HHI", 0, number, len(value)) + value


ABORT = pdu(7, bytes(4))
RELEASE_RQ = pdu(5, bytes(4))
CLASS_UID, VERSION = item(0x52, b"1.2.3.4"), item(0x55, b"ODDPACS")
MAXIMUM = item(MAX_LENGTH, struct.pack(">I", 16384))


@dataclass
class OddPacs:
    """user: user information; syntax: answer to a context's proposal, (result, transfer syntax or None).

    after: what it does after each C-STORE-RSP. status: of the n-th C-STORE. extra: more elements of every response.
    answer: replaces the whole response. lengths: of every P-DATA-TF received. stored: SOP Instance UIDs.
    """

    version: int = 1
    called: bytes | None = None
    user: bytes = MAXIMUM + CLASS_UID + VERSION
    syntax: Callable[[bytes], tuple[int, bytes | None]] = lambda proposed: (0, proposed)
    items: bytes = b""
    associate: bytes | None = None
    after: bytes | None = b""
    status: Callable[[int], int] = lambda _number: SUCCESS
    extra: bytes = b""
    message_id: int | None = None
    delay_s: float = 0.0
    stored: list[str] = field(default_factory=list)
    datasets: list[bytes] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    associations: int = 0

    def __enter__(self) -> OddPacs:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection, connection.makefile("rb") as reader, suppress(OSError, struct.error):
            command, dataset = b"", b""
            while True:
                kind, length = struct.unpack(">BxI", reader.read(6))
                body = reader.read(length)
                if kind == 1:
                    self.associations += 1
                    connection.sendall(self.associate if self.associate is not None else self._accepted(body))
                elif kind == 4:
                    self.lengths.append(length)
                    size, context, control = struct.unpack_from(">IBB", body)
                    if control & 1:
                        command += body[6 : 4 + size]
                    else:
                        dataset += body[6 : 4 + size]
                    echo = control & 1 and b"\0\0\0\1\2\0\0\0\x30\0" in command
                    if control & 2 and (echo or not control & 1):
                        if not self._answer(connection, context, command, dataset):
                            return
                        command, dataset = b"", b""
                elif kind == 5:
                    connection.sendall(pdu(6, bytes(4)))
                else:
                    return

    def _accepted(self, request: bytes) -> bytes:
        contexts, offset = b"", 68
        while offset < len(request):
            kind, length = struct.unpack_from(">BxH", request, offset)
            value = request[offset + 4 : offset + 4 + length]
            if kind == 0x20:
                proposed = value[value.index(b"\x40\0", 4 + 4 + value[7]) :]
                result, syntax = self.syntax(proposed[4 : 4 + proposed[3]])
                chosen = b"" if syntax is None else item(0x40, syntax)
                contexts += item(0x21, bytes((value[0], 0, result, 0)) + chosen)
            offset += 4 + length
        head = struct.pack(">H2x", self.version) + (self.called or request[4:20]) + request[20:36] + bytes(32)
        application = item(0x10, b"1.2.840.10008.3.1.1.1")
        return pdu(2, head + application + contexts + item(0x50, self.user) + self.items)

    def _answer(self, connection: socket.socket, context: int, command: bytes, dataset: bytes) -> bool:
        """Answer a request; False when the connection is to end."""
        fields, offset = {}, 0
        while offset < len(command):
            number, length = struct.unpack_from("<2xHI", command, offset)
            fields[number] = command[offset + 8 : offset + 8 + length]
            offset += 8 + length
        status = self.status(len(self.stored)) if dataset else SUCCESS
        if dataset and status == SUCCESS:
            self.stored.append(fields[0x1000].decode().strip("\0"))
            self.datasets.append(dataset)
        time.sleep(self.delay_s)
        kind = struct.unpack("<H", fields[0x100])[0] | 0x8000
        responded = fields[0x110] if self.message_id is None else struct.pack("<H", self.message_id)
        body = element(0x100, struct.pack("<H", kind)) + element(0x120, responded) + element(0x800, b"\1\1")
        body += element(0x900, struct.pack("<H", status)) + self.extra
        response = element(0, struct.pack("<I", len(body))) + body
        connection.sendall(pdu(4, struct.pack(">IBB", len(response) + 2, context, 3) + response))
        if not dataset:
            return True
        connection.sendall(self.after or b"")
        return self.after is not None and self.after != ABORT
