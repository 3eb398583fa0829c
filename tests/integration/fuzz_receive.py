"""A fuzzer of the DICOM upper layer, of DIMSE commands and of dataset headers, against a running SCP.

    python tests/integration/fuzz_receive.py --cases 100000 [--seed N] [--route direct|ordinary]

Every case is made from its seed and number alone. Some mutate valid messages with knowledge of their structure, some
send bytes at random, some stop in the middle. Between them the SCP must go on answering C-ECHO and C-STORE; at the end
everything that it acknowledged must be on disk byte for byte, nothing else, nothing outside, and memory must be flat.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import resource
import struct
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import structlog
from raw_scu import (
    CT,
    DEFLATED,
    ENHANCED_SR,
    EXPLICIT,
    IMPLICIT,
    P_DATA,
    RawScu,
    associate_rq,
    c_store_rq,
    command_element,
    dataset,
    element,
    pdu,
    pdv,
    status_of,
)
from receive_bench import Receiver, association_threads, eventually

CONTEXTS = ((CT, (EXPLICIT,)), (ENHANCED_SR, (EXPLICIT,)), (CT, (DEFLATED,)), (b"1.2.840.10008.1.1", (IMPLICIT,)))
STRANGE_LENGTHS = (
    0,
    1,
    2,
    3,
    5,
    0x7F,
    0x80,
    0xFF,
    0xFFFE,
    0xFFFF,
    0x10000,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFE,
    0xFFFFFFFF,
)
STRANGE_UIDS = (
    b"",
    b".",
    b"..",
    b"../../../../tmp/out",
    b"/etc/passwd",
    b"1/2",
    b"1..2",
    b"1.2\0.3",
    b"9" * 64,
    b"9" * 65,
    b"\xff\xfe",
    b"1.2 3",
    b"%2e%2e",
    b"CON",
    b"-1",
    b"~",
    b"1.2.dcm",
)
CHECK_EVERY = 200


@dataclass
class Fuzz:
    """One run. acknowledged: (SOP Instance UID, Series UID) → SHA-256 of the first dataset, to be held at the end."""

    port: int
    seed: int
    outcomes: Counter[str] = field(default_factory=Counter)
    acknowledged: dict[tuple[str, str], bytes] = field(default_factory=dict)
    scu: RawScu | None = None

    def run(self, first: int, count: int) -> None:
        """Cases `first` to `first + count - 1`, with a check from time to time."""
        for number in range(first, first + count):
            self.case(number)
            if number % CHECK_EVERY == CHECK_EVERY - 1:
                self.check(number)
        self.check(first + count)
        self.drop()

    def case(self, number: int) -> None:
        """One case; whatever the connection does is an outcome, never an error."""
        r = random.Random(f"{self.seed}-{number}")
        kind = r.choice(KINDS)
        try:
            outcome = kind(self, r, b"1.7.%d" % number)
        except TimeoutError:
            outcome = "silent"
            self.drop()
        except OSError:
            outcome = "closed"
            self.drop()
        self.outcomes[f"{kind.__name__}: {outcome}"] += 1

    def check(self, number: int) -> None:
        """The SCP still verifies and stores."""
        with RawScu(self.port) as scu:
            assert scu.associate(associate_rq(CONTEXTS))[0] == 2, f"no association after case {number}"
            echo = b"".join(
                command_element(n, v)
                for n, v in ((2, b"1.2.840.10008.1.1"), (0x100, b"\x30\0"), (0x110, b"\1\0"), (0x800, b"\1\1"))
            )
            scu.send(pdu(4, pdv(7, 3, command_element(0, struct.pack("<I", len(echo))) + echo)))
            assert scu.status() == 0, f"no C-ECHO after case {number}"
            uid = b"1.8.%d" % number
            data = dataset(uid, series=b"1.8")
            assert scu.store(uid, data) == 0, f"no C-STORE after case {number}"
            self.acknowledged[uid.decode(), "1.8"] = hashlib.sha256(data).digest()

    def association(self) -> RawScu:
        """An association that is open, the one of the last case if it survived."""
        if self.scu is None:
            self.scu = RawScu(self.port, timeout_s=0.2)
            self.scu.socket.settimeout(5)
            kind, _ = self.scu.associate(associate_rq(CONTEXTS))
            if kind != 2:
                self.drop()
                raise ConnectionError("no association")
        return self.scu

    def drop(self) -> None:
        """Close the connection in whatever state it is."""
        if self.scu is not None:
            self.scu.socket.close()
            self.scu = None

    def exchange(self, data: bytes, uid: bytes, body: bytes, whole: bool, series: bytes = b"1.7") -> str:
        """Send a message; `whole`: its framing is valid, so that there is a response."""
        scu = self.association()
        scu.send(data)
        if not whole:
            scu.socket.shutdown(1)
        kind, answer = scu.receive()
        status = status_of(answer) if kind == P_DATA else -1
        if status == 0 and uid:
            key = uid.decode("latin-1"), series.decode("latin-1")
            self.acknowledged.setdefault(key, hashlib.sha256(body).digest())
        if not whole or kind != P_DATA:
            self.drop()
        return f"0x{status:04X}" if status >= 0 else f"PDU {kind}"


def mutated(r: random.Random, data: bytes) -> bytes:
    """A few small changes anywhere."""
    out = bytearray(data)
    for _ in range(r.choice((1, 1, 2, 8))):
        at = r.randrange(len(out) + 1)
        match r.randrange(6):
            case 0 if at < len(out):
                out[at] ^= 1 << r.randrange(8)
            case 1 if at < len(out):
                out[at] = r.choice((0, 0x7F, 0x80, 0xFF))
            case 2:
                out[at:at] = r.randbytes(r.choice((1, 2, 4, 100)))
            case 3:
                del out[at : at + r.choice((1, 2, 50))]
            case 4:
                out[at : at + 4] = struct.pack(r.choice("<>") + "I", r.choice(STRANGE_LENGTHS))
            case _:
                out[at : at + 2] = struct.pack(r.choice("<>") + "H", r.choice(STRANGE_LENGTHS) & 0xFFFF)
    return bytes(out)


def tree(r: random.Random, depth: int) -> bytes:
    """A sequence whose lengths may be undefined, wrong or missing, nested `depth` deep."""
    inner = tree(r, depth - 1) if depth else element(8, 0x1155, b"UI", r.choice((b"1.2.3", *STRANGE_UIDS)))
    item_length = r.choice((len(inner), 0xFFFFFFFF, r.choice(STRANGE_LENGTHS)))
    body = struct.pack("<HHI", 0xFFFE, 0xE000, item_length) + inner
    if item_length == 0xFFFFFFFF and r.random() < 0.9:
        body += struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
    length = r.choice((len(body), 0xFFFFFFFF, r.choice(STRANGE_LENGTHS)))
    if length == 0xFFFFFFFF and r.random() < 0.9:
        body += struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    return struct.pack("<HH", 8, 0x1140) + r.choice((b"SQ", b"SQ", b"UN")) + struct.pack("<HI", 0, length) + body


def message(r: random.Random, uid: bytes, body: bytes, sop_class: bytes = CT, context: int = 1) -> bytes:
    """A valid message in pieces of any size, several PDVs to a PDU now and then."""
    out, start = [pdu(P_DATA, pdv(context, 3, c_store_rq(uid, sop_class)))], 0
    while start < len(body) or not start:
        pieces = b""
        for _ in range(r.choice((1, 1, 1, 3))):
            size = r.choice((1, 7, 100, 16378))
            last = start + size >= len(body)
            pieces += pdv(context, 2 if last else 0, body[start : start + size])
            start += size
            if last:
                break
        out.append(pdu(P_DATA, pieces))
    return b"".join(out)


# --- the kinds of cases --------------------------------------------------------------------------------------------


def request_bytes(fuzz: Fuzz, r: random.Random, uid: bytes) -> str:
    return _request(fuzz, mutated(r, associate_rq(CONTEXTS)))


def request_items(fuzz: Fuzz, r: random.Random, uid: bytes) -> str:
    classes = [
        r.choice((CT, ENHANCED_SR, r.choice(STRANGE_UIDS), r.randbytes(r.randrange(70))))
        for _ in range(r.randrange(140))
    ]
    syntaxes = [r.choice((EXPLICIT, IMPLICIT, r.choice(STRANGE_UIDS))) for _ in range(r.randrange(12))]
    called = r.choice((b"ICHNODE", r.randbytes(16), b"", b"\\"))
    return _request(
        fuzz,
        associate_rq([(sop, syntaxes) for sop in classes], called=called, calling=r.choice((b"RAW", r.randbytes(16)))),
    )


def _request(fuzz: Fuzz, data: bytes) -> str:
    with RawScu(fuzz.port, timeout_s=5) as scu:
        scu.send(data)
        scu.socket.shutdown(1)
        return f"PDU {scu.receive()[0]}"


def noise(fuzz: Fuzz, r: random.Random, uid: bytes) -> str:
    data = r.choice(
        (r.randbytes(r.randrange(1, 3000)), b"GET / HTTP/1.1\r\n\r\n", pdu(r.randrange(256), r.randbytes(50)))
    )
    return _request(fuzz, data)


def noise_in_association(fuzz: Fuzz, r: random.Random, uid: bytes) -> str:
    data = b"".join(
        pdu(r.choice((1, 2, 3, 4, 4, 4, 5, 6, 7, r.randrange(256))), r.randbytes(r.randrange(60)))
        for _ in range(r.randrange(1, 5))
    )
    return fuzz.exchange(data, b"", b"", whole=False)


def framing(fuzz: Fuzz, r: random.Random, uid: bytes) -> str:
    return fuzz.exchange(mutated(r, message(r, uid, dataset(uid, series=b"1.7"))), b"", b"", whole=False)


def lengths(fuzz: Fuzz, r: random.Random, uid: bytes) -> str:
    head = bytes((4, 0)) + struct.pack(
        ">IIBB", r.choice(STRANGE_LENGTHS), r.choice(STRANGE_LENGTHS), r.choice((1, 3, 255)), r.randrange(4)
    )
    start = pdu(P_DATA, pdv(1, 3, c_store_rq(uid))) if r.random() < 0.7 else b""
    return fuzz.exchange(start + head + r.randbytes(r.randrange(40)), b"", b"", whole=False)


def truncation(fuzz: Fuzz, r: random.Random, uid: bytes) -> str:
    whole = message(r, uid, dataset(uid, series=b"1.7", pixels=bytes(r.choice((100, 40_000)))))
    return fuzz.exchange(
        whole[: r.randrange(len(whole))] + r.choice((b"", pdu(7, bytes(4)), pdu(5, bytes(4)))), b"", b"", whole=False
    )


def command(fuzz: Fuzz, r: random.Random, uid: bytes) -> str:
    body = pdu(P_DATA, pdv(1, 3, mutated(r, c_store_rq(uid)))) + pdu(P_DATA, pdv(1, 2, dataset(uid, series=b"1.7")))
    return fuzz.exchange(body, b"", b"", whole=False)


def command_elements(fuzz: Fuzz, r: random.Random, uid: bytes) -> str:
    numbers = [0x0002, 0x0100, 0x0110, 0x0700, 0x0800, 0x0900, 0x1000, 0x1030]
    r.shuffle(numbers)
    body = b"".join(
        command_element(n, r.choice((b"", b"\1\0", b"\1\1", CT, uid, r.choice(STRANGE_UIDS), r.randbytes(5))))
        for n in numbers[: r.randrange(9)]
    )
    return fuzz.exchange(pdu(P_DATA, pdv(r.choice((1, 7, 9)), 3, body)), b"", b"", whole=False)


def strange_uids(fuzz: Fuzz, r: random.Random, uid: bytes) -> str:
    odd = {name: r.choice(STRANGE_UIDS) for name in r.sample(("series", "study", "sop_instance", "sop_class"), 2)}
    command_uid = odd.get("sop_instance", uid) if r.random() < 0.5 else uid
    odd.setdefault("sop_instance", uid)
    body = dataset(**{"series": b"1.7", **odd})
    return fuzz.exchange(
        message(r, command_uid, body), command_uid, body, whole=bool(command_uid), series=odd.get("series", b"1.7")
    )


def header(fuzz: Fuzz, r: random.Random, uid: bytes) -> str:
    body = mutated(r, dataset(uid, series=b"1.7"))
    return fuzz.exchange(message(r, uid, body), uid, body, whole=True)


def sequences(fuzz: Fuzz, r: random.Random, uid: bytes) -> str:
    parts = dataset(uid, series=b"1.7", pixels=bytes(r.choice((0, 100, 70_000))))
    at = parts.index(b"\x10\0\x10\0")
    body = parts[:at] + tree(r, r.choice((0, 1, 3, 70))) + parts[at:]
    return fuzz.exchange(message(r, uid, body), uid, body, whole=True)


def deflated(fuzz: Fuzz, r: random.Random, uid: bytes) -> str:
    deflater = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    plain = dataset(uid, series=b"1.7")
    if r.random() < 0.3:  # a bomb
        plain = struct.pack("<HH2sHI", 8, 5, b"UN", 0, 1 << 30) + bytes(1 << 21)
    body = deflater.compress(plain) + deflater.flush()
    body = mutated(r, body) if r.random() < 0.5 else body
    return fuzz.exchange(message(r, uid, body, context=5), uid, body, whole=True)


def valid(fuzz: Fuzz, r: random.Random, uid: bytes) -> str:
    body = dataset(uid, series=b"1.7", pixels=r.randbytes(r.choice((0, 2, 5000, 200_000))))
    return fuzz.exchange(message(r, uid, body), uid, body, whole=True)


KINDS: tuple[Callable[[Fuzz, random.Random, bytes], str], ...] = (
    request_bytes, request_items, noise, noise_in_association, framing, lengths, truncation, command, command_elements,
    strange_uids, strange_uids, header, header, header, header, sequences, sequences, sequences, deflated, valid,
)  # fmt: skip


def verify(fuzz: Fuzz, receiver: Receiver) -> None:
    """Everything acknowledged is on disk byte for byte; there is nothing else and nothing half."""
    assert eventually(lambda: not [name for name in receiver.files() if name.endswith(".part")]), "a part was left"
    assert eventually(lambda: receiver.scp.admission.open_associations() == 0), "an association never ends"
    names = receiver.files().keys()
    assert all(name.startswith(("incoming/", "set_aside/")) and name.endswith(".dcm") for name in names), names
    kept = {uid: [hashlib.sha256(data).digest() for data in copies] for uid, copies in receiver.copies().items()}
    lost = [key for key, digest in fuzz.acknowledged.items() if digest not in kept.get(key[0], [])]
    assert not lost, f"acknowledged, but lost or changed: {lost[:5]}"


def drop_log_line(*_: object) -> structlog.typing.EventDict:
    """A processor for structlog: a hundred thousand refusals are no news here."""
    raise structlog.DropEvent


def main() -> None:
    """The long form: fuzz a receiver of our own, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--route", choices=("direct", "ordinary"), default="direct")
    arguments = parser.parse_args()
    structlog.configure(processors=[drop_log_line])
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory(dir="/dev/shm") as folder,
        Receiver(Path(folder), fast_path=arguments.route == "direct", max_associations_per_peer=64) as receiver,
    ):
        fuzz, memory = Fuzz(receiver.port, arguments.seed), []
        for first in range(0, arguments.cases, 5000):
            fuzz.run(first, min(5000, arguments.cases - first))
            memory.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10)
            done, seconds = min(first + 5000, arguments.cases), time.monotonic() - began
            print(f"{arguments.route}: {done} cases, {memory[-1]} MiB, {seconds:.0f} s", flush=True)
        verify(fuzz, receiver)
        print(f"{len(fuzz.acknowledged)} acknowledged, none lost; {association_threads()} threads left")
    for outcome, count in sorted(fuzz.outcomes.items()):
        print(f"{count:7d} {outcome}")


if __name__ == "__main__":
    sys.exit(main())
