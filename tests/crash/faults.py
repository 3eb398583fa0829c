"""Every fault as one function: harm at seeded random moments, then what was promised is compared with what is there.

How far each is goes to stderr.
"""

from __future__ import annotations

import contextlib
import random
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pynetdicom import AE

from tests.crash import powercut
from tests.crash.evidence import Verdict, judge, query, wait_until_done
from tests.crash.node import ROLES, Node
from tests.crash.pacs import CountingPacs
from tests.crash.peers import RECEIVERS, Receiver
from tests.crash.scanner import Patients, Scanner, send_once

END_WITHIN_S = 900
RECOVER_WITHIN_S = 120
CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
LIVES_S = {"receive": 1.5, "infer": 4.0, "deliver": 2.0}
"""A role is killed within this time after it was ready."""
POWER_CUT_CHANCE = 0.1
SAY_EVERY_S = 20


@dataclass(frozen=True)
class Outcome:
    """One row of the table. recovery_s: per injection, from the harm (or its end) until all worked again.

    ended: False when the run broke off, so that nothing is known.
    """

    fault: str
    peer: str
    injections: int
    acknowledged: int
    lost: int
    doubled: int
    recovery_s: tuple[float, ...]
    remark: str = ""
    ended: bool = True

    @property
    def recovery(self) -> str:
        """Median and longest, in seconds."""
        if not self.recovery_s:
            return "–"
        return f"{statistics.median(self.recovery_s):.1f} / {max(self.recovery_s):.1f}"


def scratch(name: str) -> Path:
    """A folder for one run."""
    return Path(tempfile.mkdtemp(prefix=f"ich-node-{name}-"))


def say(text: str) -> None:
    """How far it is."""
    print(f"  {text}", file=sys.stderr, flush=True)


def counted(injections: int) -> Iterator[int]:
    """0 … injections − 1; tells about ten times how many are done."""
    for number in range(injections):
        yield number
        if (number + 1) % max(1, injections // 10) == 0:
            say(f"{number + 1} of {injections}")


# --- SIGKILL of the roles ---------------------------------------------------------------------------------------------


def kill_roles(folder: Path, kills: int, seed: int) -> tuple[Outcome, Verdict]:
    """SIGKILL every role at random moments after its start, one in ten times all at once, while two scanners send."""
    with CountingPacs() as pacs, Node(folder / "node", pacs.port) as node:
        patients = Patients(folder / "sent", seed=seed)
        scanners = [Scanner(patients, node.port, seed + i) for i in range(2)]
        for scanner in scanners:
            scanner.start()
        enough = threading.Event()
        killers = [
            threading.Thread(
                target=_kill_again_and_again, args=(node, name, random.Random(f"{seed} {name}"), kills, enough)
            )
            for name in ROLES
        ]
        for killer in killers:
            killer.start()
        while any(killer.is_alive() for killer in killers):
            enough.wait(SAY_EVERY_S)
            for killer in killers:
                killer.join(1)
            say(f"{node.kills} of {kills}")
        return _settle("SIGKILL of a role", node, pacs, scanners, node.kills, node.recovery_s)


def _kill_again_and_again(node: Node, name: str, rng: random.Random, kills: int, enough: threading.Event) -> None:
    while not enough.is_set():
        node.roles[name].wait_ready()
        enough.wait(rng.uniform(0, LIVES_S[name]))
        if node.kills >= kills:
            enough.set()
        elif rng.random() < POWER_CUT_CHANCE:
            node.kill_all()
        else:
            node.roles[name].kill()


def _settle(
    fault: str,
    node: Node,
    pacs: CountingPacs,
    scanners: Sequence[Scanner],
    injections: int,
    recovery_s: Sequence[float],
    remark: str = "",
) -> tuple[Outcome, Verdict]:
    """Let the scanners finish and the node work off its queue, then judge."""
    say("working off the queue")
    for scanner in scanners:
        scanner.finish()
    node.wait_ready()
    series = [paths for scanner in scanners for paths in scanner.series]
    wait_until_done(node.state_dir, series, time.monotonic() + END_WITHIN_S)
    verdict = judge(node.state_dir, [path for scanner in scanners for path in scanner.acknowledged], pacs)
    said = f"{len(series)} series, {verdict.jobs} jobs, {verdict.owed} results; sent again: {verdict.sent_again}"
    if node.unexpected:
        said += f"; ended by themselves: {node.unexpected}"
    outcome = Outcome(
        fault=fault,
        peer="ich_node",
        injections=injections,
        acknowledged=verdict.acknowledged,
        lost=len(verdict.lost) + len(verdict.missing),
        doubled=len(verdict.doubled),
        recovery_s=tuple(recovery_s),
        remark=f"{said}; {remark}" if remark else said,
    )
    return outcome, verdict


# --- the PACS ---------------------------------------------------------------------------------------------------------


def pacs_down(folder: Path, outages: int, seed: int) -> tuple[Outcome, Verdict]:
    """The PACS goes away at random moments for some seconds; recovery is the time until nothing more is owed."""
    rng = random.Random(seed)
    recovery = []
    with CountingPacs() as pacs, Node(folder / "node", pacs.port) as node:
        scanner = Scanner(Patients(folder / "sent", seed=seed), node.port, seed)
        scanner.start()
        for _ in counted(outages):
            time.sleep(rng.uniform(1, 4))
            pacs.stop()
            time.sleep(rng.uniform(2, 6))
            pacs.start()
            recovery.append(_first_arrival(pacs))
        outcome, verdict = _settle("PACS down", node, pacs, [scanner], outages, recovery)
        attempts = {attempts for (attempts,) in query(node.state_dir, "SELECT attempts FROM job WHERE state = 'done'")}
        assert attempts == {1}, f"inference was repeated: {attempts}"
        assert in_order(node.state_dir, pacs), "results of a job arrived out of order"
    return outcome, verdict


def _first_arrival(pacs: CountingPacs) -> float:
    """Seconds until the next instance arrives; TimeoutError when none does."""
    before = len(pacs.order)
    return _seconds_until(lambda: len(pacs.order) > before)


def _seconds_until(condition: Callable[[], bool]) -> float:
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > RECOVER_WITHIN_S:
            raise TimeoutError(f"not recovered after {RECOVER_WITHIN_S} s")
        time.sleep(0.02)
    return time.monotonic() - started


def in_order(state_dir: Path, pacs: CountingPacs) -> bool:
    """True when the first arrivals of every job's results came in the order of the ledger."""
    first = {uid: i for i, uid in reversed(list(enumerate(pacs.order)))}
    rows = query(state_dir, "SELECT job_id, item FROM delivery WHERE state = 'sent' ORDER BY job_id, sequence")
    arrivals: dict[object, list[int]] = {}
    for job_id, uid in rows:
        arrivals.setdefault(job_id, []).append(first[str(uid)])
    return all(places == sorted(places) for places in arrivals.values())


# --- disk, database, clock --------------------------------------------------------------------------------------------


def disk_full(folder: Path, times: int, seed: int) -> tuple[Outcome, Verdict]:
    """The disk of the node fills up to the last byte at random moments and is freed again; needs root for its tmpfs.

    No job may suffer: three attempts, as by default, are enough, because waiting for space counts as none.
    """
    rng = random.Random(seed)
    recovery = []
    with small_disk(folder / "disk", "96m") as disk, CountingPacs() as pacs:
        store = {"state_dir": str(disk / "state"), "min_free_gb": 0.000001}
        changes = {"store": store, "infer": {"max_attempts": 3}}
        with Node(folder / "node", pacs.port, changes=changes) as node:
            scanner = Scanner(Patients(folder / "sent", seed=seed), node.port, seed)
            scanner.start()
            for _ in counted(times):
                time.sleep(rng.uniform(1, 5))
                fill(disk / "ballast")
                time.sleep(rng.uniform(1, 4))
                (disk / "ballast").unlink()
                recovery.append(_until_stored(node))
            outcome, verdict = _settle("disk full to the last byte", node, pacs, [scanner], times, recovery)
            spoilt = query(node.state_dir, "SELECT id, refusal FROM job WHERE state = 'done' AND refusal IS NOT NULL")
            assert not spoilt, f"not analysed: {spoilt}"
            return outcome, verdict


def _until_stored(node: Node) -> float:
    """Seconds until the spool holds one more file."""
    before = _stored(node)
    return _seconds_until(lambda: _stored(node) > before)


def _stored(node: Node) -> int:
    return sum(1 for _ in (node.state_dir / "incoming").rglob("*.dcm"))


def database_gone(folder: Path, times: int, seed: int) -> tuple[Outcome, Verdict]:
    """All roles are killed and node.db is deleted; the node starts with what the files tell."""
    rng = random.Random(seed)
    with CountingPacs() as pacs, Node(folder / "node", pacs.port) as node:
        scanner = Scanner(Patients(folder / "sent", seed=seed), node.port, seed)
        scanner.start()
        recovery = []
        for _ in counted(times):
            _first_arrival(pacs)  # there are results that only their files know about then
            time.sleep(rng.uniform(0, 5))
            node.stop(signal.SIGKILL)
            for path in node.state_dir.glob("node.db*"):
                path.unlink()
            started = time.monotonic()
            node.start()
            recovery.append(time.monotonic() - started)
        return _settle("database deleted", node, pacs, [scanner], times, recovery)


def clock_jumps(folder: Path, jumps: int, seed: int) -> tuple[Outcome, Verdict]:
    """The wall clock of all roles jumps by up to a week, forward and back."""
    rng = random.Random(seed)
    offset = folder / "offset"
    set_clock(offset, 0)
    with CountingPacs() as pacs, Node(folder / "node", pacs.port, environment=wrong_clock(offset)) as node:
        scanner = Scanner(Patients(folder / "sent", seed=seed), node.port, seed)
        scanner.start()
        recovery = []
        for _ in counted(jumps):
            time.sleep(rng.uniform(1, 4))
            set_clock(offset, round(rng.uniform(-7, 7) * 86400))
            recovery.append(_first_arrival(pacs))
        set_clock(offset, 0)
        return _settle("clock jumps by up to a week", node, pacs, [scanner], jumps, recovery)


def set_clock(offset: Path, seconds: int) -> None:
    """Let every process that runs under wrong_clock(offset) see a wall clock that is `seconds` ahead."""
    draft = offset.with_suffix(".new")
    draft.write_text(f"{seconds}\n")
    draft.rename(offset)


def wrong_clock(offset: Path) -> dict[str, str]:
    """Environment under which the wall clock alone is wrong; compiles wall_clock.c beside `offset`."""
    library = offset.with_name("wall_clock.so")
    source = Path(__file__).with_name("wall_clock.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", str(library), str(source)], check=True)
    return {"LD_PRELOAD": str(library), "WALL_CLOCK_OFFSET": str(offset)}


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A tmpfs of its own at `folder`."""
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0755", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(ballast: Path) -> None:
    """Write until there is no space left."""
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        block = bytes(65536)
        while file.write(block) == len(block):
            pass


# --- receiving, side by side ------------------------------------------------------------------------------------------


def kill_receiver(folder: Path, peer: str, kills: int, seed: int) -> Outcome:
    """SIGKILL the receiver at random moments while a scanner sends."""

    def harm(receiver: Receiver, rng: random.Random) -> None:
        receiver.process.wait_ready()
        time.sleep(rng.uniform(0, 1.0))
        receiver.process.kill()
        receiver.process.wait_ready()

    return _receiving("SIGKILL while receiving", folder, peer, kills, seed, harm)


def abort_in_instance(folder: Path, peer: str, aborts: int, seed: int) -> Outcome:
    """A second sender breaks off in the middle of an instance: part of a P-DATA-TF, then a TCP reset."""
    spare = Patients(folder / "broken", slices=10, seed=seed + 7).next()

    def harm(receiver: Receiver, rng: random.Random) -> None:
        time.sleep(rng.uniform(0, 0.3))
        break_off(rng.choice(spare), receiver.port, receiver.called, rng.uniform(0.05, 0.95))

    return _receiving("abort in mid-instance", folder, peer, aborts, seed, harm)


def disk_full_receiver(folder: Path, peer: str, times: int, seed: int) -> Outcome:
    """The receiver's disk fills to the last byte while a scanner sends, and is freed again."""
    with small_disk(folder / "disk", "64m") as disk:

        def harm(_receiver: Receiver, rng: random.Random) -> None:
            time.sleep(rng.uniform(0.5, 2))
            fill(disk / "ballast")
            time.sleep(rng.uniform(0.5, 2))
            (disk / "ballast").unlink()

        return _receiving("disk full while receiving", folder, peer, times, seed, harm, store=disk)


def power_cut(folder: Path, cuts: int, seed: int, file_system: str) -> Outcome:
    """The power goes while a scanner sends: the disk of that moment is mounted again; needs root and loop devices."""
    looked_at, lost, closed, control_lost, recovery = powercut.cut_under_receiver(folder, cuts, seed, file_system)
    remark = f"beside it, without fsync: {control_lost} of {closed} lost"
    return Outcome(f"power cut while receiving, {file_system}", "ich_node", cuts, looked_at, lost, 0, recovery, remark)


def power_cut_node(folder: Path, cuts: int, seed: int, file_system: str) -> tuple[Outcome, Verdict]:
    """The power goes under the whole node while a scanner sends and a PACS takes results; it starts on what is left."""
    rng = random.Random(seed)
    recovery, closed, control_lost = [], 0, 0
    with powercut.Disk(folder / "power", file_system) as disk, CountingPacs() as pacs:
        changes = {"store": {"state_dir": str(disk.root / "state"), "min_free_gb": 0.01}}
        with Node(folder / "node", pacs.port, changes=changes) as node:
            scanner = Scanner(Patients(folder / "sent", seed=seed), node.port, seed)
            scanner.start()
            for number in counted(cuts):
                control = powercut.Control(disk.root / f"control-{number}")
                control.start()
                time.sleep(rng.uniform(0.5, 6))
                written, lost, seconds = powercut.cut_under_node(disk, node, control)
                closed, control_lost = closed + written, control_lost + lost
                recovery.append(seconds)
            remark = f"beside it, without fsync: {control_lost} of {closed} lost"
            fault = f"power cut of the whole node, {file_system}"
            return _settle(fault, node, pacs, [scanner], cuts, recovery, remark)


def _receiving(
    fault: str,
    folder: Path,
    peer: str,
    injections: int,
    seed: int,
    harm: Callable[[Receiver, random.Random], None],
    store: Path | None = None,
) -> Outcome:
    folder.mkdir(parents=True, exist_ok=True)
    receiver: Receiver = RECEIVERS[peer](folder, store)
    receiver.start()
    try:
        patients = Patients(folder / "sent", seed=seed)
        scanner = Scanner(patients, receiver.port, seed, called=receiver.called, longest_pause_s=0.2)
        scanner.start()
        rng = random.Random(seed)
        for _ in counted(injections):
            harm(receiver, rng)
        scanner.finish()
        receiver.process.wait_ready()
        lost = [path for path in scanner.acknowledged if not receiver.holds(path)]
        damaged = receiver.damaged()
        remark = f"{damaged} truncated files under a final name" if damaged else ""
    finally:
        receiver.stop()
    return Outcome(
        fault,
        receiver.name,
        injections,
        len(scanner.acknowledged),
        len(lost),
        0,
        tuple(receiver.process.recovery_s),
        remark,
    )


def sync_calls(folder: Path, peer: str, series: int = 5) -> float:
    """How often a receiver forces data to the disk (fsync and its kin) per instance that it acknowledges."""
    folder.mkdir(parents=True, exist_ok=True)
    receiver: Receiver = RECEIVERS[peer](folder, None)
    trace = folder / "syncs"
    calls = "trace=fsync,fdatasync,sync_file_range,syncfs,sync,msync"
    receiver.process.under("strace", "-D", "-f", "-qq", "-e", calls, "-o", str(trace))
    receiver.start()
    try:
        patients = Patients(folder / "sent", seed=3)
        before = len(trace.read_text().splitlines())
        acknowledged = sum(
            len(send_once(patients.next(), receiver.port, called=receiver.called)) for _ in range(series)
        )
        return (len(trace.read_text().splitlines()) - before) / acknowledged
    finally:
        receiver.stop()


def break_off(path: Path, port: int, called: str, share: float) -> None:
    """Open an association, send `share` of one instance, then reset the connection."""
    entity = AE("BREAKER")
    entity.add_requested_context(CT, EXPLICIT)
    association = entity.associate("127.0.0.1", port, ae_title=called)
    if not association.is_established:
        return
    context = association.accepted_contexts[0].context_id
    connection = association.dul.socket.socket
    dataset = dcmread(path)
    command = c_store_request(str(dataset.SOPInstanceUID))
    data = path.read_bytes()[-dataset.Rows * dataset.Columns * 2 :]  # what it says does not matter: it never ends
    with contextlib.suppress(OSError):
        connection.sendall(p_data(context, 0x03, command))
        connection.sendall(p_data(context, 0x00, data[:8192]))
        whole = p_data(context, 0x00, data[8192:16384])
        connection.sendall(whole[: int(len(whole) * share)])
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
    association.kill()


def p_data(context: int, control: int, fragment: bytes) -> bytes:
    """One P-DATA-TF with one PDV (PS3.8 9.3.5)."""
    item = struct.pack(">IBB", len(fragment) + 2, context, control) + fragment
    return struct.pack(">BBI", 4, 0, len(item)) + item


def c_store_request(sop_instance_uid: str) -> bytes:
    """The command set of a C-STORE-RQ (PS3.7 9.3.1), implicit VR little endian."""

    def element(number: int, value: bytes) -> bytes:
        value += b"\0" * (len(value) % 2)
        return struct.pack("<HHI", 0, number, len(value)) + value

    body = b"".join(
        (
            element(0x0002, CT.encode()),
            element(0x0100, struct.pack("<H", 1)),
            element(0x0110, struct.pack("<H", 7)),
            element(0x0700, struct.pack("<H", 0)),
            element(0x0800, struct.pack("<H", 1)),
            element(0x1000, sop_instance_uid.encode()),
        )
    )
    return element(0x0000, struct.pack("<I", len(body))) + body
