"""One table of what senders write that the standard calls informational, or that is merely untidy, against real SCPs.

What DCMTK's storescp takes, the node takes; Orthanc, made of the same library, stands beside it.
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.raw_scu import (
    ASSOCIATE_AC,
    CT,
    EXPLICIT,
    RawScu,
    associate_rq,
    c_store_rq,
    dataset,
    element,
    item,
    pdu,
    pdv,
)
from tests.integration.receive_bench import Receiver

pytestmark = pytest.mark.interop

MAX, CLASS, NAME = item(0x51, struct.pack(">I", 16384)), item(0x52, b"1.2.3.4"), item(0x55, b"RAW")


def dcmtk_storescp() -> str | None:
    """DCMTK's program, not pynetdicom's of the same name, which stands beside this Python."""
    folders = [Path(folder) for folder in os.environ["PATH"].split(os.pathsep) if folder]
    found = [folder / "storescp" for folder in folders if folder.resolve() != Path(sys.executable).parent.resolve()]
    return next((str(path) for path in found if path.is_file()), None)


@dataclass
class Asked:
    """An SCP that listens on a port."""

    port: int

    def associates(self, request: bytes) -> bool:
        with RawScu(self.port) as scu:
            try:
                return scu.associate(request)[0] == ASSOCIATE_AC
            except OSError:
                return False

    def stores(self, uid: bytes, data: bytes, command: bytes | None = None) -> bool:
        with RawScu(self.port) as scu:
            assert scu.associate()[0] == ASSOCIATE_AC
            try:
                scu.send(pdu(4, pdv(1, 3, command or c_store_rq(uid))))
                for start in range(0, len(data), 16000):
                    scu.send(pdu(4, pdv(1, 2 if start + 16000 >= len(data) else 0, data[start : start + 16000])))
                return scu.status() == 0
            except OSError:
                return False


@pytest.fixture(scope="module")
def storescp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    program = dcmtk_storescp()
    if program is None:
        pytest.skip("needs storescp (Debian package dcmtk)")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    folder = tmp_path_factory.mktemp("storescp")
    command = [program, "-aet", "ICHNODE", "+xa", "--fork", "-od", str(folder), str(port)]
    process = subprocess.Popen(command, env={**os.environ, "TCP_NODELAY": "1"}, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 120
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            break
        except OSError:
            time.sleep(0.05)
    yield Asked(port)
    process.terminate()
    process.wait(10)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    with Receiver(tmp_path_factory.mktemp("node")) as receiver:
        yield Asked(receiver.port)


def request(
    called: bytes = b"ICHNODE".ljust(16),
    calling: bytes = b"CT1".ljust(16),
    user: bytes = item(0x50, MAX + CLASS + NAME),
    version: int = 1,
    abstract: bytes = CT,
    syntax: bytes = EXPLICIT,
    more: bytes = b"",
) -> bytes:
    context = item(0x20, bytes((1, 0, 0, 0)) + item(0x30, abstract) + item(0x40, syntax))
    head = struct.pack(">HH", version, 0) + called + calling + bytes(32)
    return pdu(1, head + item(0x10, b"1.2.840.10008.3.1.1.1") + context + more + user)


def user(*items: bytes) -> bytes:
    return request(user=item(0x50, b"".join(items)))


REQUESTS = {
    "plain": request(),
    "called title padded with NUL": request(called=b"ICHNODE".ljust(16, b"\0")),
    "called title with rubbish behind a NUL": request(called=b"ICHNODE\0xyz".ljust(16, b"\0")),
    "calling title padded with NUL": request(calling=b"CT1".ljust(16, b"\0")),
    "calling title in Latin-1": request(calling="CT_KÖLN".encode("latin-1").ljust(16)),
    "calling title in UTF-8": request(calling="CT_KÖLN".encode().ljust(16)),
    "calling title with a tab": request(calling=b"CT\t1".ljust(16)),
    "calling title with a backslash": request(calling=b"CT\\1".ljust(16)),
    "version name of 17 characters": user(MAX, CLASS, item(0x55, b"ABCDEFGHIJKLMNOPQ")),
    "version name of 40 characters": user(MAX, CLASS, item(0x55, b"x" * 40)),
    "version name in Latin-1": user(MAX, CLASS, item(0x55, "MÜLLER".encode("latin-1"))),
    "version name padded with NUL": user(MAX, CLASS, item(0x55, b"RAW\0\0\0")),
    "empty version name": user(MAX, CLASS, item(0x55, b"")),
    "no version name": user(MAX, CLASS),
    "no class UID": user(MAX, NAME),
    "class UID that is none": user(MAX, item(0x52, b"GE.MEDICAL"), NAME),
    "class UID padded with NUL": user(MAX, item(0x52, b"1.2.3.4\0"), NAME),
    "no maximum length": user(CLASS, NAME),
    "maximum length 0": user(item(0x51, bytes(4)), CLASS, NAME),
    "empty user information": user(),
    "no user information": request(user=b""),
    "unknown user item": user(MAX, CLASS, item(0x5F, b"abc"), NAME),
    "user items in another order": user(NAME, CLASS, MAX),
    "asynchronous operations": user(MAX, CLASS, item(0x53, b"\0\x08\0\1"), NAME),
    "role selection": user(MAX, CLASS, item(0x54, struct.pack(">H", len(CT)) + CT + b"\1\1"), NAME),
    "extended negotiation": user(MAX, CLASS, item(0x56, struct.pack(">H", len(CT)) + CT + b"\2\0\0\0\0\0"), NAME),
    "user identity": user(MAX, CLASS, item(0x58, b"\2\0\0\3bob\0\3pwd"), NAME),
    "further bits of the protocol version": request(version=3),
    "abstract syntax padded with NUL": request(abstract=CT + b"\0"),
    "abstract syntax padded with a blank": request(abstract=CT + b" "),
    "transfer syntax padded with NUL": request(syntax=EXPLICIT + b"\0"),
    "unknown class": request(abstract=b"1.2.3.4.5"),
    "abstract syntax that is no UID beside a good one": request(
        more=item(0x20, b"\3\0\0\0" + item(0x30, b"CT Image") + item(0x40, EXPLICIT))
    ),
    "even context ID beside a good one": request(more=item(0x20, b"\2\0\0\0" + item(0x30, CT) + item(0x40, EXPLICIT))),
    "same context ID twice": request(more=item(0x20, b"\1\0\0\0" + item(0x30, CT) + item(0x40, EXPLICIT))),
    "16 KB of contexts": associate_rq(((CT, (EXPLICIT,)),) * 128),
}


@pytest.mark.parametrize("fact", REQUESTS)
def test_a_request_that_storescp_takes_is_taken(storescp: Asked, node: Asked, fact: str) -> None:
    assert storescp.associates(REQUESTS[fact])
    assert node.associates(REQUESTS[fact])


def shuffled(uid: bytes, order: Callable[[int], object]) -> bytes:
    parts = {
        0x00080016: element(8, 0x16, b"UI", CT),
        0x00080018: element(8, 0x18, b"UI", uid),
        0x00100020: element(0x10, 0x20, b"LO", b"P1"),
        0x0020000D: element(0x20, 0x0D, b"UI", b"1.2"),
        0x0020000E: element(0x20, 0x0E, b"UI", b"1.2.3"),
        0x00280010: element(0x28, 0x10, b"US", b"\x10\0"),
    }
    return b"".join(parts[tag] for tag in sorted(parts, key=order)) + element(0x7FE0, 0x10, b"OW", bytes(512))


def unknown(vr: bytes) -> bytes:
    return struct.pack("<HH", 9, 0x1001) + vr + struct.pack("<H", 4) + b"ABCD"


DATASETS: dict[str, Callable[[bytes], bytes]] = {
    "plain": dataset,
    **{f"element of VR {vr!r}": (lambda uid, vr=vr: unknown(vr) + dataset(uid)) for vr in (b"??", b"  ", b"--", b"lo")},
    "element of VR '\\0\\0'": lambda uid: unknown(b"\0\0") + dataset(uid),
    "group 29 first of all": lambda uid: element(0x29, 0x1001, b"LO", b"ABCD") + dataset(uid),
    "Series before Study UID": lambda uid: shuffled(uid, lambda tag: tag if tag != 0x0020000D else 0x0020000F),
    "group 28 before group 20": lambda uid: shuffled(uid, lambda tag: tag if tag >> 16 != 0x20 else 0x29000000),
    "SOP Instance UID behind group 10": lambda uid: shuffled(uid, lambda tag: tag if tag != 0x00080018 else 0x00110000),
    "everything the other way round": lambda uid: shuffled(uid, lambda tag: -tag),
    "1.5 MB before the UIDs": lambda uid: (
        struct.pack("<HH2sHI", 9, 0x1010, b"OB", 0, 1_500_000) + bytes(1_500_000) + dataset(uid)
    ),
    "blank before a UID": lambda uid: dataset(uid, series=b" 1.2.3"),
    "newline behind a UID": lambda uid: dataset(uid, series=b"1.2.3\n"),
    "UID with leading zeros": lambda uid: dataset(uid, series=b"1.2.03.4"),
    "padding behind the pixels": lambda uid: (
        dataset(uid) + struct.pack("<HH2sHI", 0xFFFC, 0xFFFC, b"OB", 0, 64) + bytes(64)
    ),
    "group 0 in the dataset": lambda uid: element(0, 0x10, b"LO", b"x ") + dataset(uid),
}


@pytest.mark.parametrize("fact", DATASETS)
def test_a_dataset_that_storescp_keeps_is_kept(storescp: Asked, node: Asked, fact: str) -> None:
    uid = b"1.2.3.%d" % (1 + list(DATASETS).index(fact))
    assert storescp.stores(uid, DATASETS[fact](uid))
    assert node.stores(uid, DATASETS[fact](uid))


def test_blanks_round_the_uids_of_a_command_do_not_count(storescp: Asked, node: Asked) -> None:
    for name, padded in (("1.2.3.901", b"1.2.3.901 \0"), ("1.2.3.902", b" 1.2.3.902")):
        data = dataset(name.encode())
        assert storescp.stores(b"", data, c_store_rq(padded))
        assert node.stores(b"", data, c_store_rq(padded))


def test_orthanc_takes_the_same(orthanc, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """Of the requests all; Orthanc compares called titles in its own way."""
    asked = Asked(orthanc.port)
    title = orthanc.ae_title.encode().ljust(16)
    refused = [
        fact for fact, sent in REQUESTS.items() if not asked.associates(sent.replace(b"ICHNODE".ljust(16), title, 1))
    ]
    assert [fact for fact in refused if not fact.startswith("called title")] == []
