"""Does memory stay flat? Many small head CTs through all three roles, resident memory sampled all along.

    python -m tests.crash.endurance [--jobs 500] [--slices 20] [--out samples.csv]

Prints, per role, the median of the second and of the last tenth of the samples, in MB.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

from ich_node.phantom import series
from tests.crash import scanner
from tests.crash.evidence import job_states, judge, wait_until_done
from tests.crash.faults import scratch
from tests.crash.node import Node
from tests.crash.pacs import CountingPacs

SAMPLE_S = 2.0
AHEAD = 20
"""So many jobs may wait before the scanner pauses."""


def main() -> int:
    """Run and print; exit code 1 when something was lost or doubled."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash.endurance", description=__doc__)
    parser.add_argument("--jobs", type=int, default=500)
    parser.add_argument("--slices", type=int, default=20)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    folder = scratch("endurance")
    samples: list[dict[str, int]] = []
    with CountingPacs() as pacs, Node(folder / "node", pacs.port) as node:
        sent = _series(folder, arguments.jobs, arguments.slices)
        acknowledged: list[Path] = []
        started = next_sample = time.monotonic()
        for number, paths in enumerate(sent, start=1):
            acknowledged += scanner.send_all(paths, node.port, deadline=time.monotonic() + 600)
            while sum(state in {"queued", "running"} for state in job_states(node.state_dir)) > AHEAD:
                time.sleep(0.5)
            if time.monotonic() > next_sample:
                samples.append({name: role.memory_kb() for name, role in node.roles.items()})
                next_sample = time.monotonic() + SAMPLE_S
            if number % 25 == 0:
                print(f"{number} series, {time.monotonic() - started:.0f} s, kB: {samples[-1]}", flush=True)
        wait_until_done(node.state_dir, sent, time.monotonic() + 3600)
        verdict = judge(node.state_dir, acknowledged, pacs)
        seconds = time.monotonic() - started
    if arguments.out is not None:
        rows = [",".join(str(value) for value in sample.values()) for sample in samples]
        arguments.out.write_text("\n".join([",".join(samples[0]), *rows]) + "\n")
    print(f"{verdict.acknowledged} instances, {verdict.jobs} jobs, {verdict.owed} results in {seconds:.0f} s")
    print(f"lost {len(verdict.lost) + len(verdict.missing)}, doubled {len(verdict.doubled)}")
    tenth = max(1, len(samples) // 10)
    for name in samples[0]:
        early = statistics.median(sample[name] for sample in samples[tenth : 2 * tenth])
        late = statistics.median(sample[name] for sample in samples[-tenth:])
        most = max(sample[name] for sample in samples)
        print(f"{name}: {early / 1000:.0f} MB early, {late / 1000:.0f} MB late, {most / 1000:.0f} MB at most")
    return int(bool(verdict.lost or verdict.missing or verdict.doubled))


def _series(folder: Path, count: int, slices: int) -> list[list[Path]]:
    """`count` series of the middle `slices` slices of one head."""
    whole = scanner.small_head(32, 128)
    first = (len(whole.hu) - slices) // 2
    part = replace(whole, hu=whole.hu[first : first + slices], mask=whole.mask[first : first + slices])
    return [series.write_series(folder / "sent" / f"{i:05}", part, seed=700_000 + i) for i in range(count)]


if __name__ == "__main__":
    sys.exit(main())
