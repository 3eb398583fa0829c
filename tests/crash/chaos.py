"""`make chaos`: the long form of every fault, written as the table in docs/reliability.md.

    python -m tests.crash.chaos [--out FILE] [--seed N] [--scale 1.0] [--only NAME …]

As root on a machine with DCMTK and Orthanc; it talks to loopback only and ends by itself. Rows go to stdout as they are
done, progress to stderr. A fault whose run breaks off gets a row that says so, and the others go on.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from tests.crash import faults, peers, powercut
from tests.crash.faults import Outcome

NODE_FAULTS: dict[str, tuple[Callable[..., tuple[Outcome, object]], int]] = {
    "kill_roles": (faults.kill_roles, 200),
    "pacs_down": (faults.pacs_down, 20),
    "disk_full": (faults.disk_full, 10),
    "database_gone": (faults.database_gone, 5),
    "clock_jumps": (faults.clock_jumps, 10),
}
POWER_CUTS = {"receiver": 40, "node": 20}
RECEIVER_FAULTS: dict[str, tuple[Callable[..., Outcome], int]] = {
    "kill_receiver": (faults.kill_receiver, 50),
    "abort_in_instance": (faults.abort_in_instance, 50),
    "disk_full_receiver": (faults.disk_full_receiver, 10),
}
BEGIN, END = "<!-- chaos: begin -->", "<!-- chaos: end -->"
HEAD = (
    "| fault | peer | injections | acknowledged instances | lost | doubled | time to recover, s (median / longest) | |",
    "|---|---|---|---|---|---|---|---|",
)
SYNC_HEAD = ("| Storage SCP | fsync, fdatasync, … per acknowledged instance (strace) |", "|---|---|")


def main() -> int:
    """Run the faults and write the table; exit code 1 when a run broke off, or we lost or doubled anything."""
    arguments = _arguments()
    outcomes = []
    for outcome in run(arguments.only, arguments.seed, arguments.scale):
        outcomes.append(outcome)
        print(row(outcome), flush=True)
    syncs = {name: faults.sync_calls(faults.scratch("syncs"), name) for name in peers.available()}
    print(syncs, flush=True)
    if arguments.out is not None:
        write(arguments.out, outcomes, syncs, arguments.seed)
    return int(any(not o.ended or ((o.lost or o.doubled) and o.peer == "ich_node") for o in outcomes))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.crash.chaos", description=__doc__)
    parser.add_argument("--out", type=Path, help="file whose table is replaced")
    parser.add_argument("--seed", type=int, default=1, help="another seed, other moments (1)")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the injections (1)")
    parser.add_argument(
        "--only", nargs="+", default=[*NODE_FAULTS, *RECEIVER_FAULTS, "power_cut"], help="these faults only"
    )
    return parser.parse_args()


def run(names: list[str], seed: int, scale: float) -> Iterator[Outcome]:
    """The outcome of each fault, as it is over."""
    for name in names:
        if name == "power_cut":
            yield from _power_cuts(seed, scale)
            continue
        fault, count = NODE_FAULTS.get(name) or RECEIVER_FAULTS[name]
        for peer in ["ich_node"] if name in NODE_FAULTS else peers.available():
            print(f"{name}: {peer}", file=sys.stderr, flush=True)
            try:
                with _folder(name) as folder:
                    if name in NODE_FAULTS:
                        yield fault(folder, _scaled(count, scale), seed)[0]
                    else:
                        yield fault(folder, peer, _scaled(count, scale), seed)
            except Exception as error:
                traceback.print_exc()
                yield Outcome(name, peer, 0, 0, 0, 0, (), f"broke off: {type(error).__name__}", ended=False)


def _power_cuts(seed: int, scale: float) -> Iterator[Outcome]:
    for file_system in ("ext4", "xfs"):
        print(f"power_cut: {file_system}", file=sys.stderr, flush=True)
        if missing := powercut.lacks():
            remark = f"left out: this machine lacks {missing}"
            yield Outcome(f"power cut, {file_system}", "ich_node", 0, 0, 0, 0, (), remark)
            continue
        try:
            with _folder("power_cut") as folder:
                yield faults.power_cut(folder, _scaled(POWER_CUTS["receiver"], scale), seed, file_system)
            with _folder("power_cut_node") as folder:
                yield faults.power_cut_node(folder, _scaled(POWER_CUTS["node"], scale), seed, file_system)[0]
        except Exception as error:
            traceback.print_exc()
            remark = f"broke off: {type(error).__name__}"
            yield Outcome(f"power cut, {file_system}", "ich_node", 0, 0, 0, 0, (), remark, ended=False)


class _folder:  # noqa: N801 a context manager that reads as a verb
    """A scratch folder that is removed unless the run in it failed."""

    def __init__(self, name: str) -> None:
        self._path = faults.scratch(name)

    def __enter__(self) -> Path:
        return self._path

    def __exit__(self, kind: object, *_rest: object) -> None:
        if kind is None:
            shutil.rmtree(self._path)
        else:
            print(f"what was left: {self._path}", file=sys.stderr)


def _scaled(count: int, scale: float) -> int:
    return max(1, round(count * scale))


def row(outcome: Outcome) -> str:
    """One row of the table."""
    cells = (
        outcome.fault,
        outcome.peer,
        *((outcome.injections, outcome.acknowledged, outcome.lost, outcome.doubled) if outcome.ended else "????"),
        outcome.recovery,
        outcome.remark,
    )
    return f"| {' | '.join(map(str, cells))} |"


def write(path: Path, outcomes: list[Outcome], syncs: dict[str, float], seed: int) -> None:
    """Replace what stands between the two marks of `path`."""
    text = path.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    made = f"Made by `make chaos` on {datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, seed {seed}."
    counted = [f"| {name} | {count:.2f} |" for name, count in syncs.items()]
    table = "\n".join((BEGIN, made, "", *HEAD, *map(row, outcomes), "", *SYNC_HEAD, *counted, END))
    path.write_text(before + table + after, encoding="utf-8")


if __name__ == "__main__":
    started = time.monotonic()
    code = main()
    print(f"{time.monotonic() - started:.0f} s", file=sys.stderr)
    sys.exit(code)
