"""An honest scanner beside every attack: the rate at which its images are stored, when its bleeding head is answered,
and whether anything of its patient has changed. A whole node (`ich-node run`), attackers in processes of their own.

    PYTHONPATH=. python tests/integration/attack_beside.py [--attack NAME ...] [--seconds 6] [--turns 2] [--out FILE]

The rate under attack is taken in turns with the rate alone, because only ratios of one run mean anything on a shared
machine. The scanner has an address of its own; RED is another caller of the node, strangers are none.
"""

from __future__ import annotations

import argparse
import json
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pydicom
import yaml
from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from raw_scu import (
    ASSOCIATE_AC,
    CT,
    RawScu,
    associate_rq,
    c_store_rq,
    command_element,
    dataset,
    element,
    item,
    message,
    pdu,
    pdv,
)

from ich_node.domain.ledger import Job, JobState
from ich_node.phantom import head, series
from ich_node.store.layout import StateDir
from ich_node.store.ledger.jobs import JobStore
from tests.ports import free_port

SCANNER, RED, STRANGER = "127.0.0.9", "127.0.0.7", "127.0.0.66"
STUDY, SERIES, PATIENT = b"1.2.77", b"1.2.77.1", "VICTIM"
COMMITMENT, WELL_KNOWN = b"1.2.840.10008.1.20.1", b"1.2.840.10008.1.20.1.1"
ANSWERED_S = 30.0
"""What the scanner's people are promised, from the last image on; beside it stands what was measured alone."""
GIVE_UP_S = 240.0

Attack = Callable[[int, int], None]
ATTACKS: dict[str, tuple[int, Attack]] = {}
"""Name → attackers at a time, and what each does again and again (port, number)."""


def attack(attackers: int) -> Callable[[Attack], Attack]:
    """Register an attack by its name."""

    def register(work: Attack) -> Attack:
        ATTACKS[work.__name__] = (attackers, work)
        return work

    return register


# --- attacks -------------------------------------------------------------------------------------------------------


@attack(128)
def silent_strangers(port: int, number: int) -> None:
    with socket.create_connection(("127.0.0.1", port), 5, (f"127.0.0.{100 + number // 32}", 0)) as line:
        line.settimeout(15)
        line.recv(1)


@attack(8)
def large_requests(port: int, number: int) -> None:
    extended = item(0x57, struct.pack(">H", 1) + b"1" + struct.pack(">H", 1) + b"1" + struct.pack(">H", 0))
    user = item(0x50, item(0x51, b"\0\0\x40\0") + extended * 4500)
    with RawScu(port, source=STRANGER) as scu:
        scu.send(pdu(1, struct.pack(">HH", 1, 0) + b"ICHNODE".ljust(16) + b"X".ljust(16) + bytes(32) + user))
        scu.receive()


@attack(2)
def churn(port: int, number: int) -> None:
    with RawScu(port, source=RED) as scu:
        scu.associate(associate_rq(calling=b"RED"))


@attack(1)
def bombs(port: int, number: int) -> None:
    _action(
        port, element(8, 0x1195, b"UI", b"1.2.3") + element(8, 0x1199, b"SQ", b"\xfe\xff\x00\xe0\0\0\0\0" * 500_000)
    )


@attack(1)
def unknown_commitments(port: int, number: int) -> None:
    references = b"".join(_reference(b"9.%d.%d" % (time.monotonic_ns(), n)) for n in range(5000))
    _action(port, element(8, 0x1195, b"UI", b"1.2.%d" % time.monotonic_ns()) + element(8, 0x1199, b"SQ", references))


@attack(1)
def items(port: int, number: int) -> None:
    many = element(8, 0x1140, b"SQ", b"\xfe\xff\x00\xe0\0\0\0\0" * 99_000)
    name = b"6.%d" % time.monotonic_ns()
    _store(port, ((b"%s.%d" % (name, n), _plain(b"%s.%d" % (name, n), name, many)) for n in range(10)))
    time.sleep(1)


@attack(1)
def marks(port: int, number: int) -> None:
    words = element(8, 5, b"CS", b"ISO_IR 192") + element(
        8, 0x103E, b"UN", ("HEAD " + "\u0301\u0323" * 200_000).encode()
    )
    name = b"7.%d" % time.monotonic_ns()
    _store(port, [(name, _plain(name, name, words))])
    time.sleep(0.2)


@attack(1)
def drip(port: int, number: int) -> None:
    name = b"8.%d" % time.monotonic_ns()
    _store(port, [(name, _plain(name, SERIES, study=STUDY, patient=PATIENT.encode()))])
    time.sleep(1)


@attack(1)
def other_pixels(port: int, number: int) -> None:
    for ds in bleeding():
        ds.PixelData = bytes(len(ds.PixelData))
        _store(port, [(str(ds.SOPInstanceUID).encode(), _encoded(ds))])
    time.sleep(1)


@attack(1)
def twice(port: int, number: int) -> None:
    name = b"5.%d" % time.monotonic_ns()
    body = _plain(name, name) + element(0x20, 0x0D, b"UI", STUDY)
    _store(port, [(name, body)])


@attack(1)
def flood(port: int, number: int) -> None:
    name = b"4.%d" % time.monotonic_ns()
    _store(port, ((b"%s.%d" % (name, n), _plain(b"%s.%d" % (name, n), b"%s.%d" % (name, n))) for n in range(200)))


@attack(1)
def scans(port: int, number: int) -> None:
    edge, name = 2048, b"3.%d" % time.monotonic_ns()
    table = b"\xff\xdb" + struct.pack(">HB", 67, 0) + bytes([1]) * 64
    frame = b"\xff\xc2" + struct.pack(">HBHHB", 11, 8, edge, edge, 1) + bytes((1, 0x11, 0))
    scan = b"\xff\xda" + struct.pack(">HB", 8, 1) + bytes((1, 0, 1, 1, 0)) + bytes(40)
    code = b"\xff\xd8" + table + frame + scan * 3000 + b"\xff\xd9"
    made = []
    for n, ds in enumerate(bleeding()[:14]):
        ds.StudyInstanceUID = ds.SeriesInstanceUID = name.decode()
        ds.SOPInstanceUID, ds.Rows, ds.Columns = f"{name.decode()}.{n}", edge, edge
        ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8, 8, 7
        ds.PixelData = pydicom.encaps.encapsulate([code])
        ds["PixelData"].VR = "OB"
        ds["PixelData"].is_undefined_length = True
        made.append((str(ds.SOPInstanceUID).encode(), _encoded(ds)))
    _store(port, made, b"1.2.840.10008.1.2.4.50")
    time.sleep(10)


@attack(1)
def pipelined(port: int, number: int) -> None:
    with RawScu(port, 2, RED) as scu:
        scu.associate(associate_rq(calling=b"RED"))
        padded = c_store_rq(b"2.1") + command_element(0x5110, b"x" * 5000)
        while True:
            scu.send(pdu(4, pdv(1, 3, padded)) + pdu(4, pdv(1, 0, bytes(100_000))) * 10)


def _plain(uid: bytes, series_uid: bytes, more: bytes = b"", study: bytes = b"", patient: bytes = b"RED") -> bytes:
    """A CT image that is hardly one; `more` stands before its patient."""
    body = dataset(uid, series=series_uid, study=study or series_uid, patient=patient)
    at = body.index(b"\x10\0\x10\0PN")
    return body[:at] + more + body[at:]


def _reference(uid: bytes) -> bytes:
    body = element(8, 0x1150, b"UI", CT) + element(8, 0x1155, b"UI", uid)
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(body)) + body


def _store(port: int, images: Iterator[tuple[bytes, bytes]] | list[tuple[bytes, bytes]], syntax: bytes = b"") -> None:
    with RawScu(port, 60, RED) as scu:
        scu.associate(associate_rq(calling=b"RED", contexts=((CT, (syntax or b"1.2.840.10008.1.2.1",)),)))
        for uid, data in images:
            scu.send(message(uid, data))
            scu.receive()


def _action(port: int, information: bytes) -> None:
    asked = (
        command_element(3, COMMITMENT)
        + command_element(0x100, struct.pack("<H", 0x130))
        + command_element(0x110, b"\1\0")
        + command_element(0x800, b"\1\0")
        + command_element(0x1001, WELL_KNOWN)
        + command_element(0x1008, b"\1\0")
    )
    with RawScu(port, 60, RED) as scu:
        scu.associate(associate_rq(calling=b"RED", contexts=((COMMITMENT, (b"1.2.840.10008.1.2.1",)),)))
        scu.send(pdu(4, pdv(1, 3, command_element(0, struct.pack("<I", len(asked))) + asked)))
        for start in range(0, len(information), 100_000):
            piece = information[start : start + 100_000]
            scu.send(pdu(4, pdv(1, 2 if start + 100_000 >= len(information) else 0, piece)))
        scu.receive()


def attackers(name: str, port: int) -> None:
    """Attack until this process is ended."""
    count, work = ATTACKS[name]

    def again(number: int) -> None:
        while True:
            with suppress(OSError):
                work(port, number)
            time.sleep(0.01)

    threads = [threading.Thread(target=again, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    threads[0].join()


# --- the honest scanner --------------------------------------------------------------------------------------------


def bleeding() -> list[Dataset]:
    """The head of the scanner's patient."""
    made = series.build_series(head.phantom("subdural", slices=32, rows=256, columns=256, seed=1), seed=1)
    for n, ds in enumerate(made):
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.PatientID = STUDY.decode(), SERIES.decode(), PATIENT
        ds.SOPInstanceUID = f"{SERIES.decode()}.{n + 1}"
    return made


def _encoded(ds: Dataset) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, ds)
    return buffer.getvalue()


def rate(port: int, seconds: float) -> float:
    """Images of 512 KB that the scanner stores in a second, ten to an association; raises when one is not stored."""
    pixels, count, began = bytes(512 << 10), 0, time.monotonic()
    while time.monotonic() - began < seconds:
        with RawScu(port, 60, SCANNER) as scu:
            scu.associate(associate_rq(calling=b"CT1"))
            for _ in range(10):
                uid = b"1.9.%d" % time.monotonic_ns()
                assert scu.store(uid, dataset(uid, series=b"1.9", pixels=pixels)) == 0
                count += 1
            scu.release()
    return count / (time.monotonic() - began)


def answer(port: int, state: Path) -> tuple[float, Job]:
    """Send the bleeding head; seconds until its results may go out, and its job."""
    images = [(str(ds.SOPInstanceUID).encode(), _encoded(ds)) for ds in bleeding()]  # no association waits for this
    with RawScu(port, 60, SCANNER) as scu:
        kind, body = scu.associate(associate_rq(calling=b"CT1"))
        assert kind == ASSOCIATE_AC, f"PDU {kind} {body.hex()}"
        for uid, data in images:
            assert scu.store(uid, data) == 0
        scu.release()
    sent, store = time.monotonic(), JobStore.open(state)
    try:
        while time.monotonic() - sent < GIVE_UP_S:
            for job in store.jobs_of_series(SERIES.decode()):
                ended = job.state in (JobState.DELIVERING, JobState.DONE, JobState.FAILED)
                if ended and job.calling_address == SCANNER and len(job.sop_instance_uids) == 32:
                    return time.monotonic() - sent, job
            time.sleep(0.1)
    finally:
        store.close()
    raise TimeoutError(f"no answer within {GIVE_UP_S:.0f} s")


def unchanged(state: Path, job: Job) -> bool:
    """Whether images and results of the scanner's patient are as they must be."""
    folder = StateDir(state).incoming / job.series_uid
    sent = {str(ds.SOPInstanceUID): bytes(ds.PixelData) for ds in bleeding()}
    kept = [pydicom.dcmread(folder / f"{name}.dcm") for name in job.sop_instance_uids]
    same = all(bytes(ds.PixelData) == sent[ds.SOPInstanceUID] and ds.PatientID == PATIENT for ds in kept)
    results = [pydicom.dcmread(path) for path in StateDir(state).results_of(job.id).glob("*.dcm")]
    return (
        same
        and bool(results)
        and {(ds.PatientID, ds.StudyInstanceUID) for ds in results} == {(PATIENT, STUDY.decode())}
    )


@contextmanager
def running(folder: Path) -> Iterator[int]:
    """A whole node; its port."""
    port = free_port()
    callers = [{"ae_title": "CT1", "addresses": [SCANNER]}, {"ae_title": "RED", "addresses": [RED]}]
    settings = {
        "receive": {"port": port, "quiet_period_s": 4, "callers": callers, "urgent_rule": {"PatientID": PATIENT}},
        "infer": {"provider": "cpu"},
        "store": {"state_dir": "state", "min_free_gb": 0.1},
        "board": {"port": free_port()},
    }
    (folder / "ich_node.yaml").write_text(yaml.safe_dump(settings))
    with (folder / "node.log").open("ab") as log:
        command = [sys.executable, "-m", "ich_node", "run", "--config", str(folder / "ich_node.yaml")]
        node = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        end = time.monotonic() + 120
        while time.monotonic() < end:
            with suppress(OSError, AssertionError), RawScu(port, source=SCANNER) as scu:
                assert scu.associate(associate_rq(calling=b"CT1"))[0] == 2
                break
            time.sleep(0.2)
        yield port
    finally:
        node.terminate()
        node.wait(90)


@contextmanager
def meanwhile(names: list[str], port: int) -> Iterator[None]:
    """The attacks at once, each in a process of its own."""
    command = [sys.executable, __file__, "--port", str(port), "--attack"]
    started = [subprocess.Popen([*command, name], stderr=subprocess.DEVNULL) for name in names]
    time.sleep(3)
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def beside(names: list[str], seconds: float, turns: int) -> dict[str, object]:
    """What the scanner notices of some attacks at once; none: of nothing."""
    with tempfile.TemporaryDirectory() as name, running(Path(name)) as port:
        state, alone, under = Path(name) / "state", [], []
        rate(port, 1)
        for _ in range(turns):
            alone.append(rate(port, seconds))
            with meanwhile(names, port):
                under.append(rate(port, seconds))
        with meanwhile(names, port):
            took, job = answer(port, state)
        return {
            "attack": " + ".join(names) or "none",
            "alone": round(statistics.median(alone), 1),
            "under": round(statistics.median(under), 1),
            "share": round(statistics.median(u / a for u, a in zip(under, alone, strict=True)), 2),
            "answered_s": round(took, 1),
            "priority": job.priority,
            "unchanged": unchanged(state, job),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--attack", nargs="*", choices=ATTACKS)
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--port", type=int, help="attack this port; for the processes that this one starts")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.port:
        attackers(options.attack[0], options.port)
    for names in [[], *([name] for name in options.attack or ATTACKS)]:
        found = beside(names, options.seconds, options.turns)
        print(json.dumps(found), flush=True)
        if options.out:
            with options.out.open("a") as file:
                file.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
