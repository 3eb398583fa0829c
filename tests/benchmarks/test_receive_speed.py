"""Images per second into the node, beside DCMTK storescp (`make bench`); by hand: python FILE [--rounds N].

Both receive the same ready-made PDUs from the same sender, by turns in one run, because only ratios taken together mean
anything on a shared machine. The node makes every image durable before it answers, storescp does not; with the spool
in memory (/dev/shm) the ratio shows the cost of the code alone. Prints figures, asserts nothing about them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "integration"))

from raw_scu import P_DATA, RawScu, dataset, message, status_of

from tests.interop.test_informational_fields import dcmtk_storescp
from tests.ports import free_port

SERVE = """
import sys, time
from pathlib import Path
from ich_node.runtime import logs
from ich_node.runtime.config import Config, LogConfig, ReceiveConfig
from ich_node.receive.scp import Scp
from ich_node.store.spool import Spool
class Hints:
    def stored(self, *_): pass
    def refused(self, *_, **__): pass
    def ended(self, *_, **__): pass
logs.configure(LogConfig(), "receive")
config = Config(receive=ReceiveConfig(port=int(sys.argv[1]), fast_path=sys.argv[3] == "direct"))
Scp(config, Spool(Path(sys.argv[2]), 1), Hints()).start()
time.sleep(1e6)
"""
ORTHANC = "/usr/sbin/Orthanc"  # where Debian puts it
PDU_PIECE = {"node": 131066, "storescp": 131066, "16k": 16378}


class Receiver:
    """A receiver in a process of its own."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind, self.folder, self.port = kind, folder, free_port()
        folder.mkdir(parents=True)
        if kind == "storescp":
            command = [
                dcmtk_storescp() or "storescp",
                "--fork",
                "-B",
                "-pdu",
                "131072",
                "-od",
                str(folder),
                "-aet",
                "ICHNODE",
                str(self.port),
            ]
        elif kind == "orthanc":
            settings = {"DicomPort": self.port, "HttpServerEnabled": False, "DicomCheckCalledAet": False}
            settings |= {"StorageDirectory": str(folder), "IndexDirectory": str(folder)}
            settings |= {"SyncStorageArea": True, "OverwriteInstances": True, "StorageCompression": False}
            (folder / "orthanc.json").write_text(json.dumps(settings))
            command = [ORTHANC, str(folder / "orthanc.json")]
        else:
            command = [sys.executable, "-c", SERVE, str(self.port), str(folder), kind]
        quiet = subprocess.DEVNULL if kind == "orthanc" else None
        self.process = subprocess.Popen(command, env={**os.environ, "TCP_NODELAY": "1"}, stdout=quiet, stderr=quiet)
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except OSError:
                time.sleep(0.1)
        raise RuntimeError(f"{kind} does not listen")

    def cpu_s(self) -> float:
        """CPU seconds of the process and its ended children so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")

    def clear(self) -> None:
        """Forget what was received; Orthanc overwrites it."""
        if self.kind == "orthanc":
            return
        for path in self.folder.rglob("*"):
            if path.is_file():
                path.unlink()


def send(port: int, messages: list[bytes]) -> int:
    """One association; how many instances were acknowledged."""
    with RawScu(port, timeout_s=60) as scu:
        scu.associate()
        good = 0
        for ready_made in messages:
            scu.send(ready_made)
            kind, body = scu.receive()
            good += kind == P_DATA and status_of(body) == 0
        scu.release()
    return good


def measure(receiver: Receiver, batches: list[list[bytes]]) -> tuple[float, float]:
    """(images per second, CPU seconds of the receiver per 1000 images); one association per batch, all at a time."""
    receiver.clear()
    good: list[int] = []
    threads = [threading.Thread(target=lambda b=batch: good.append(send(receiver.port, b))) for batch in batches]
    cpu, began = receiver.cpu_s(), time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    count = sum(map(len, batches))
    if sum(good) != count:
        raise RuntimeError(f"{receiver.kind} acknowledged {sum(good)} of {count}")
    time.sleep(0.2)
    return count / seconds, 1000 * (receiver.cpu_s() - cpu) / count


def fdatasync_limit(folder: Path) -> float:
    """How many files of 525 KB this disk makes durable in a second, one after another: the limit of one association."""
    data, count, began = os.urandom(525_000), 0, time.perf_counter()
    while time.perf_counter() - began < 2:
        descriptor = os.open(folder / "limit", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.write(descriptor, data)
        os.fdatasync(descriptor)
        os.close(descriptor)
        count += 1
    return count / (time.perf_counter() - began)


@pytest.mark.skipif(dcmtk_storescp() is None, reason="needs storescp (Debian package dcmtk)")
def test_images_per_second_beside_storescp() -> None:
    run(argparse.Namespace(rounds=3, images=100))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=200)
    run(parser.parse_args())


def run(arguments: argparse.Namespace) -> None:
    """Every receiver, place and number of associations, by turns."""
    pixels = os.urandom(512 * 512 * 2)
    uids = [b"1.2.3.%d" % n for n in range(arguments.images)]
    images = [(uid, dataset(uid, pixels=pixels)) for uid in uids]
    for place, root in (("disk", Path(tempfile.mkdtemp(dir="."))), ("memory", Path(tempfile.mkdtemp(dir="/dev/shm")))):
        print(f"{place}: fdatasync of 525 KB {fdatasync_limit(root):.0f}/s, one after another", flush=True)
        kinds = ["storescp", "direct", "ordinary"]
        if place == "disk" and Path(ORTHANC).exists():
            kinds.append("orthanc")
        receivers = [Receiver(kind, root / kind) for kind in kinds]
        try:
            for associations in (1, 4, 8):
                for piece in (16378, 131066):
                    ready = [message(uid, data, piece) for uid, data in images]
                    compare(receivers, [ready[n::associations] for n in range(associations)], place, piece, arguments)
        finally:
            for receiver in receivers:
                receiver.process.kill()
                receiver.process.wait()
            shutil.rmtree(root)


def compare(
    receivers: list[Receiver], batches: list[list[bytes]], place: str, piece: int, arguments: argparse.Namespace
) -> None:
    """One line per receiver."""
    results: dict[str, list[tuple[float, float]]] = {receiver.kind: [] for receiver in receivers}
    for number in range(arguments.rounds + 1):
        for receiver in receivers if number % 2 else receivers[::-1]:
            if receiver.kind == "orthanc" and piece > 16378:  # it takes no larger PDUs
                continue
            if receiver.kind in ("ordinary", "orthanc") and number > 2:
                continue
            figures = measure(receiver, batches)
            if number:  # the first round warms up
                results[receiver.kind].append(figures)
    base = statistics.median(speed for speed, _ in results["storescp"])
    for kind, figures in ((kind, found) for kind, found in results.items() if found):
        speed = statistics.median(value for value, _ in figures)
        cpu = statistics.median(value for _, value in figures)
        print(
            f"{place:7s} {len(batches)} associations, PDUs of {piece + 6:6d}: {kind:9s} {speed:6.0f} images/s "
            f"({speed / base:4.2f} × storescp), {cpu:5.2f} CPU s per 1000",
            flush=True,
        )


if __name__ == "__main__":
    main()
