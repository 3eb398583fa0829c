"""`make cluster`: the long form of the cluster's faults, written as the table in docs/reliability.md.

    python -m tests.cluster.chaos [--out FILE] [--seed N] [--faults 500] [--longest S] [--state DIR]

As root, with PostgreSQL, tritonserver, DCMTK, Orthanc and iproute2. How far it is goes to stderr; --state keeps
logs and files for a look. Ends with 1 when anything was lost, doubled, published twice or not ended.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

from tests.cluster.faults import Found, run
from tests.cluster.network import lacks
from tests.crash.faults import scratch

BEGIN, END = "<!-- cluster: begin -->", "<!-- cluster: end -->"
HEAD = ("| fault | times | until the next result was in a PACS, s (median / longest) |", "|---|---|---|")


def main() -> int:
    """Run, print, write."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.chaos", description=__doc__)
    parser.add_argument("--out", type=Path, help="file whose table is replaced")
    parser.add_argument("--seed", type=int, default=1, help="another seed, other moments (1)")
    parser.add_argument("--faults", type=int, default=500, help="how many (500)")
    parser.add_argument("--longest", type=float, default=math.inf, metavar="S", help="inject for so long at most")
    parser.add_argument("--state", type=Path, help="where it happens; kept (none: a folder that is removed)")
    arguments = parser.parse_args()
    if missing := lacks():
        parser.error(f"this machine lacks {missing}")
    folder = arguments.state or scratch("cluster")
    folder.mkdir(exist_ok=True)
    found = run(folder, arguments.faults, arguments.seed, longest_s=arguments.longest)
    text = table(found, arguments.seed)
    print(text, flush=True)
    if arguments.out is not None:
        write(arguments.out, text)
    if not arguments.state and not found.broken:
        shutil.rmtree(folder)
    return int(bool(found.broken))


def table(found: Found, seed: int) -> str:
    """What was promised and what was found, with every fault below it."""
    first, second = found.verdicts["pacs1"], found.verdicts["pacs2"]
    when = f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores"
    made = f"Made by `make cluster` on {when}, seed {seed}, in {found.seconds:.0f} s."
    rows = (
        ("faults", sum(found.counts.values())),
        ("series; acknowledged images", f"{found.series}; {first.acknowledged}"),
        ("acknowledged images lost", len(first.lost)),
        (
            "results owed to each PACS; missing in the first, in the second",
            f"{first.owed}; {len(first.missing)}, {len(second.missing)}",
        ),
        (
            "results doubled, or with two contents, in the first PACS, in the second",
            f"{len(first.doubled)}, {len(second.doubled)}",
        ),
        ("jobs; not ended; failed", f"{first.jobs}; {first.unfinished}; {first.failed}"),
        ("jobs that two workers published", len(found.told_twice)),
        ("answers that correct an earlier one of their series", found.corrected),
        ("results sent again to the first PACS, with the same bytes", first.sent_again),
        ("database servers that take writes at the end", len(found.in_charge)),
    )
    totals = [f"| {name} | {value} |" for name, value in rows]
    return "\n".join([made, "", "| | |", "|---|---|", *totals, "", *HEAD, *found.rows()])


def write(path: Path, text: str) -> None:
    """Replace what stands between the two marks of `path`."""
    before, _, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    path.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that hosts and servers go as well
    sys.exit(main())
