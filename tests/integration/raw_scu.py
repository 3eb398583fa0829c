"""A Storage SCU of bare sockets, for senders that no library lets us be: slow, half open, broken, hostile."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

CT = b"1.2.840.10008.5.1.4.1.1.2"
ENHANCED_SR = b"1.2.840.10008.5.1.4.1.1.88.22"
IMPLICIT, EXPLICIT, DEFLATED = b"1.2.840.10008.1.2", b"1.2.840.10008.1.2.1", b"1.2.840.10008.1.2.1.99"
ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA, RELEASE_RP, ABORT = 2, 3, 4, 6, 7


def item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(value)) + value


def pdu(kind: int, value: bytes) -> bytes:
    return struct.pack(">BBI", kind, 0, len(value)) + value


def pdv(context: int, flags: int, data: bytes) -> bytes:
    return struct.pack(">IBB", len(data) + 2, context, flags) + data


def associate_rq(
    contexts: Sequence[tuple[bytes, Sequence[bytes]]] = ((CT, (EXPLICIT,)),),
    called: bytes = b"ICHNODE",
    calling: bytes = b"RAW",
) -> bytes:
    proposed = b"".join(
        item(0x20, bytes((2 * n + 1 & 0xFF, 0, 0, 0)) + item(0x30, sop) + b"".join(item(0x40, uid) for uid in syntaxes))
        for n, (sop, syntaxes) in enumerate(contexts)
    )
    user = item(0x50, item(0x51, struct.pack(">I", 1 << 17)) + item(0x52, b"1.2.3.4") + item(0x55, b"RAW"))
    head = struct.pack(">HH", 1, 0) + called.ljust(16)[:16] + calling.ljust(16)[:16] + bytes(32)
    return pdu(1, head + item(0x10, b"1.2.840.10008.3.1.1.1") + proposed + user)


def element(group: int, number: int, vr: bytes, value: bytes) -> bytes:
    """Explicit VR little endian."""
    if len(value) % 2:
        value += b"\0" if vr == b"UI" else b" "
    length = struct.pack("<HI", 0, len(value)) if vr in (b"OW", b"SQ", b"UN", b"OB") else struct.pack("<H", len(value))
    return struct.pack("<HH", group, number) + vr + length + value


def command_element(number: int, value: bytes) -> bytes:
    return struct.pack("<HHI", 0, number, len(value) + len(value) % 2) + value + b"\0" * (len(value) % 2)


def c_store_rq(sop_instance: bytes, sop_class: bytes = CT, message_id: int = 1, dataset_type: int = 1) -> bytes:
    body = (
        command_element(0x0002, sop_class)
        + command_element(0x0100, b"\1\0")
        + command_element(0x0110, struct.pack("<H", message_id))
        + command_element(0x0700, b"\0\0")
        + command_element(0x0800, struct.pack("<H", dataset_type))
        + command_element(0x1000, sop_instance)
    )
    return command_element(0, struct.pack("<I", len(body))) + body


def dataset(
    sop_instance: bytes,
    series: bytes = b"1.2.3",
    study: bytes = b"1.2",
    sop_class: bytes = CT,
    pixels: bytes = bytes(1024),
    patient: bytes = b"PHANTOM^HEAD",
) -> bytes:
    return (
        element(8, 0x16, b"UI", sop_class)
        + element(8, 0x18, b"UI", sop_instance)
        + element(0x10, 0x10, b"PN", patient)
        + element(0x20, 0x0D, b"UI", study)
        + element(0x20, 0x0E, b"UI", series)
        + element(0x28, 0x10, b"US", b"\x10\0")
        + element(0x7FE0, 0x10, b"OW", pixels)
    )


def message(
    sop_instance: bytes, data: bytes, piece: int = 16378, sop_class: bytes = CT, context: int = 1, message_id: int = 1
) -> bytes:
    """A whole C-STORE-RQ as PDUs of at most `piece` bytes of dataset."""
    found = [pdu(P_DATA, pdv(context, 3, c_store_rq(sop_instance, sop_class, message_id)))]
    for start in range(0, max(len(data), 1), piece):
        last = start + piece >= len(data)
        found.append(pdu(P_DATA, pdv(context, 2 if last else 0, data[start : start + piece])))
    return b"".join(found)


@dataclass
class RawScu:
    """One connection. Raises OSError like any socket; TimeoutError after `timeout_s`."""

    port: int
    timeout_s: float = 60
    source: str = "127.0.0.1"
    tls: ssl.SSLContext | None = None
    socket: socket.socket = field(init=False)

    def __post_init__(self) -> None:
        self.socket = socket.create_connection(("127.0.0.1", self.port), self.timeout_s, (self.source, 0))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.tls is not None:
            self.socket = self.tls.wrap_socket(self.socket, server_hostname="localhost")

    def __enter__(self) -> RawScu:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def receive(self) -> tuple[int, bytes]:
        """(PDU type, the rest); (0, b"") when the peer has closed."""
        head = self._exactly(6)
        if len(head) < 6:
            return 0, b""
        return head[0], self._exactly(int.from_bytes(head[2:], "big"))

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count and (got := self.socket.recv(count - len(data))):
            data += got
        return data

    def associate(self, request: bytes | None = None) -> tuple[int, bytes]:
        self.send(request or associate_rq())
        return self.receive()

    def store(self, sop_instance: bytes, data: bytes | None = None, **shape: object) -> int:
        """Send an instance; the status of the response, or -1 when there was none."""
        self.send(message(sop_instance, dataset(sop_instance) if data is None else data, **shape))  # type: ignore[arg-type]
        return self.status()

    def status(self) -> int:
        kind, body = self.receive()
        return status_of(body) if kind == P_DATA else -1

    def release(self) -> int:
        self.send(pdu(5, bytes(4)))
        return self.receive()[0]


def status_of(body: bytes) -> int:
    """Status (0000,0900) of a response in the body of a P-DATA-TF PDU."""
    offset = 6
    while offset + 8 <= len(body):
        number, length = struct.unpack_from("<2xHI", body, offset)
        if number == 0x0900:
            return int(struct.unpack_from("<H", body, offset + 8)[0])
        offset += 8 + length
    return -1
