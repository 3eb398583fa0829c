"""A whole node as a PACS sees it: from the last C-STORE response to the accepted report, and its cost (`make bench`).

Three roles, a scanner and a PACS are processes of their own on this machine, the state directory lies on its disk.
Prints tables and asserts nothing about time: seconds mean something on a calm machine only, CPU seconds on a busy one
too. By hand: `python tests/benchmarks/test_node_speed.py [idle] [32] [300] [1500] [queue] [queue2]`.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "integration"))

from raw_scu import P_DATA, RawScu, message, status_of

from ich_node.phantom import head, series
from tests.benchmarks.thin import between_slices
from tests.crash.node import Node
from tests.crash.supervised import Supervised
from tests.datasets import encoded
from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.timeout(3600)
MEASUREMENT_REPORT = "1.2.840.10008.5.1.4.1.1.88.34"  # Comprehensive 3D SR
PLACEHOLDER = b"1.2.10000000"  # every UID and the Patient ID of a study begin with it
UIDS = 5
"""How often it stands in an image."""
PIECE = 131066  # bytes of dataset in a PDU
IDLE_S = 30.0
ANSWER_WITHIN_S = 300.0
DEFAULTS: dict[str, dict[str, Any]] = {
    "receive": {"grace_s": 1.0, "quiet_period_s": 10.0},
    "infer": {"provider": "cpu", "threads": 0},
    "deliver": {"linger_s": 5.0},
}
PACS = """
import sys, time
from pynetdicom import AE, evt
from pynetdicom.presentation import build_context
from tests.crash.pacs import STORAGE, SYNTAXES
def stored(event):
    print(time.monotonic(), event.request.AffectedSOPClassUID, event.dataset.StudyInstanceUID, flush=True)
    return 0
ae = AE("PACS")
ae.maximum_associations = 50
ae.supported_contexts = [build_context(one, list(SYNTAXES)) for one in STORAGE]
ae.start_server(("127.0.0.1", int(sys.argv[1])), evt_handlers=[(evt.EVT_C_STORE, stored)])
"""


class Study:
    """A phantom's series as ready-made PDUs, sent under other UIDs every time."""

    def __init__(self, slices: int) -> None:
        self.slices, self._number = slices, 0
        phantom = between_slices(head.phantom("intraparenchymal", slices=32, seed=7), slices)  # ends above the head
        self._images: list[bytes] = []
        for number, image in enumerate(series.build_series(phantom, seed=slices), start=1):
            prefix = PLACEHOLDER.decode()
            image.StudyInstanceUID, image.SeriesInstanceUID = f"{prefix}.1", f"{prefix}.2"
            image.SOPInstanceUID, image.FrameOfReferenceUID = f"{prefix}.3.1{number:04d}", f"{prefix}.4"
            image.PatientID = prefix
            self._images.append(encoded(image))

    def skip(self, count: int) -> None:
        """Leave out so many of the UIDs."""
        self._number += count

    def send(self, port: int) -> tuple[str, float]:
        """One association that brings all of it; the Study Instance UID, and when the last response came."""
        self._number += 1
        prefix = b"1.2.1%03d%04d" % (self.slices % 1000, self._number)
        with RawScu(port, timeout_s=60) as scu:
            scu.associate()
            for number, image in enumerate(self._images, start=1):
                uid, data = prefix + b".3.1%04d" % number, image.replace(PLACEHOLDER, prefix, UIDS)
                scu.send(message(uid, data, PIECE))
                kind, body = scu.receive()
                if kind != P_DATA or status_of(body) != 0:
                    raise RuntimeError("an image was not acknowledged")
            last_s = time.monotonic()
            scu.release()
        return (prefix + b".1").decode(), last_s


class Pacs:
    """A PACS in a process of its own. accepted: Study Instance UID → when its measurement report was."""

    def __init__(self) -> None:
        self.port, self.accepted = free_port(), dict[str, float]()
        command = [sys.executable, "-c", PACS, str(self.port)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment())
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            at, sop_class, study_uid = line.split()
            if sop_class == MEASUREMENT_REPORT:
                self.accepted[study_uid] = float(at)

    def wait(self, study_uid: str) -> float:
        """When the report of a study was accepted."""
        end = time.monotonic() + ANSWER_WITHIN_S
        while study_uid not in self.accepted:
            if time.monotonic() > end:
                raise RuntimeError(f"no report within {ANSWER_WITHIN_S:.0f} s")
            time.sleep(0.005)
        return self.accepted[study_uid]

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        self._listener.join()
        assert self._process.stdout is not None
        self._process.stdout.close()


class Meter:
    """CPU seconds and memory of the roles of a node, with the children of each."""

    def __init__(self, node: Node) -> None:
        self._pids = {name: role.process.pid for name, role in node.roles.items() if role.process}
        self._before = self.cpu_s()

    def cpu_s(self) -> dict[str, float]:
        """So far."""
        return {name: sum(map(_cpu_s, _family(pid))) for name, pid in self._pids.items()}

    def spent_s(self) -> dict[str, float]:
        """Since the meter was made, or asked."""
        before, self._before = self._before, self.cpu_s()
        return {name: self._before[name] - before[name] for name in before}

    def peak_mb(self) -> dict[str, float]:
        """The largest resident memory of each, its children added."""
        return {name: sum(map(_peak_mb, _family(pid))) for name, pid in self._pids.items()}


def _family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *map(int, children)]


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def _peak_mb(pid: int) -> float:
    found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def environment() -> dict[str, str]:
    """Our own copy is imported, and DCMTK does not wait for delayed acknowledgements."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "TCP_NODELAY": "1"}


@contextmanager
def running(workers: int = 1) -> Iterator[tuple[Node, Pacs, dict[str, float]]]:
    """A node with its PACS on this disk, and seconds to READY of each role, all started at once."""
    pacs = Pacs()
    with tempfile.TemporaryDirectory(dir=".", prefix="bench-") as folder:
        node = Node(Path(folder).resolve(), pacs.port, changes=DEFAULTS, environment=environment())
        for number in range(2, workers + 1):
            name, command = f"infer {number}", [sys.executable, "-m", "ich_node", "infer", "--config", str(node.config)]
            another = {**environment(), "ICH_NODE_WORKER": str(number)}
            node.roles[name] = Supervised(name.replace(" ", ""), command, node.folder, another)
        began, ready_s = time.monotonic(), dict[str, float]()
        for role in node.roles.values():
            role.start()
        while len(ready_s) < len(node.roles):
            for name, role in node.roles.items():
                if name not in ready_s and role.ready.is_set():
                    ready_s[name] = time.monotonic() - began
            time.sleep(0.01)
        try:
            yield node, pacs, ready_s
        finally:
            node.stop()
            pacs.close()


def said(values: dict[str, float], digits: int) -> str:
    """`receive 1.0, infer 2.0, deliver 3.0`."""
    return ", ".join(f"{name} {value:.{digits}f}" for name, value in values.items())


def idle() -> None:
    """READY, memory and CPU of a node that nobody sends to."""
    with running() as (node, _, ready_s):
        time.sleep(3)
        meter = Meter(node)
        start_s = meter.cpu_s()
        time.sleep(IDLE_S)
        minute = {name: seconds * 60 / IDLE_S for name, seconds in meter.spent_s().items()}
        print(f"READY after s: {said(ready_s, 2)}; CPU s for it: {said(start_s, 2)}")
        print(f"idle, CPU s per minute: {said(minute, 2)}; MB: {said(meter.peak_mb(), 0)}")


def one_by_one(slices: int, times: int) -> None:
    """Studies one after another."""
    study = Study(slices)
    with running() as (node, pacs, _):
        if times > 1:  # the first one warms up
            pacs.wait(study.send(node.port)[0])
            time.sleep(2)
        meter, waits = Meter(node), []
        for _ in range(times):
            study_uid, last_s = study.send(node.port)
            waits.append(pacs.wait(study_uid) - last_s)
            time.sleep(0.5)  # the other results
        cpu = {name: seconds / times for name, seconds in meter.spent_s().items()}
        ordered = sorted(waits)
        p95 = ordered[min(len(ordered) - 1, round(0.95 * len(ordered)))]
        print(
            f"{slices} slices, {times} studies: last response to report accepted p50 {statistics.median(waits):.2f} s, "
            f"p95 {p95:.2f} s; CPU s per study {sum(cpu.values()):.2f} ({said(cpu, 2)}); "
            f"peak MB: {said(meter.peak_mb(), 0)}"
        )


def queue_full(count: int, workers: int) -> None:
    """Studies of 32 slices that come faster than they can be analysed: how many a minute."""
    study = Study(32)
    with running(workers) as (node, pacs, _):
        pacs.wait(study.send(node.port)[0])
        meter = Meter(node)
        sent = [study.send(node.port)[0] for _ in range(count)]
        answered = sorted(pacs.wait(study_uid) for study_uid in sent)
        third = count // 3  # while the queue fills, and while it runs dry, others work too
        rate = 60 * (count - third - 1) / (answered[-1] - answered[third])
        cpu = {name: seconds / count for name, seconds in meter.spent_s().items()}
        print(
            f"queue full, {workers} workers: {rate:.0f} studies of 32 slices per minute; CPU s per study {said(cpu, 2)}"
        )


PARTS: dict[str, Callable[[], None]] = {
    "idle": idle,
    "32": lambda: one_by_one(32, 12),
    "300": lambda: one_by_one(300, 6),
    "1000": lambda: one_by_one(1000, 1),
    "1500": lambda: one_by_one(1500, 1),
    "queue": lambda: queue_full(24, workers=1),
    "queue2": lambda: queue_full(24, workers=2),
}


@pytest.mark.parametrize("part", PARTS)
def test_a_whole_node(part: str) -> None:
    print()
    PARTS[part]()


if __name__ == "__main__":
    for name in sys.argv[1:] or PARTS:
        PARTS[name]()
