"""Time to result against slices and against senders at once, and where every millisecond goes, as two pictures.

    python -m tests.benchmarks.speed_curves            measures a whole node and writes docs/figures/speed.json
    python -m tests.benchmarks.speed_curves draw       draws docs/images/speed-curves.png and speed-where.png from it

What is measured on a busy machine says so: the load is in the file and under the pictures.
"""

from __future__ import annotations

import copy
import json
import os
import re
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from tests.benchmarks.test_node_speed import ROOT, Pacs, Study, running
from tests.crash.node import Node

FIGURES = ROOT / "docs" / "figures" / "speed.json"
CURVES, WHERE = ROOT / "docs" / "images" / "speed-curves.png", ROOT / "docs" / "images" / "speed-where.png"
SLICES, TIMES = (32, 100, 300, 600), 3
SENDERS = (1, 2, 4, 8)
PUBLISHED_S = {"mercure begins": 60.0, "a cleared product answers": 33.5, "MONAI's gateway begins": 5.0}
"""Published times from the last image on; of two of them only the wait before they begin."""
STAGES = ("headers", "volume", "gates", "model", "explanation")
COLOURS = {
    "judged whole": "#8d99ae",
    "claimed": "#c9cfd8",
    "headers": "#a8dadc",
    "volume": "#7bc0c4",
    "gates": "#4d9aa0",
    "model": "#e07a5f",
    "explanation": "#f2b880",
    "report, files on disk": "#81b29a",
    "held for the grace": "#eeeeee",
    "sent, accepted": "#5b5f97",
}
Figures = dict[str, Any]


# --- measuring -----------------------------------------------------------------------------------------------------


def measured() -> Figures:
    """All of it, with the machine that it was measured on."""
    load = os.getloadavg()[0]
    thick, thin = Study(32), Study(300)
    slices, where = [], {}
    for count in SLICES:
        study = {32: thick, 300: thin}.get(count) or Study(count)
        with running() as (node, pacs, _):
            pacs.wait(study.send(node.port)[0])  # the first one warms up
            time.sleep(2)
            waits = []
            for number in range(TIMES):
                study_uid, last_s = study.send(node.port)
                last_at = time.time() - (time.monotonic() - last_s)
                accepted_s = pacs.wait(study_uid)
                waits.append(accepted_s - last_s)
                time.sleep(0.5)
                if count in (32, 300):
                    where[str(count)] = stages(node, last_at, waits[-1], number + 2)
        slices.append([count, statistics.median(waits), max(waits)])
        print(f"{count} slices: {slices[-1][1]:.2f} s, at most {slices[-1][2]:.2f}", flush=True)
    senders = []
    with running() as (node, pacs, _):
        pacs.wait(thick.send(node.port)[0])
        for count in SENDERS:
            waits = at_once(node, pacs, thick, count)
            senders.append([count, statistics.median(waits), max(waits)])
            print(f"{count} senders at once: {senders[-1][1]:.2f} s, at most {senders[-1][2]:.2f}", flush=True)
    machine = {"processor": processor(), "cores": len(os.sched_getaffinity(0)), "load": round(load, 1)}
    machine["date"] = datetime.now(UTC).date().isoformat()
    return {"machine": machine, "slices": slices, "senders": senders, "where": where}


def at_once(node: Node, pacs: Pacs, study: Study, count: int) -> list[float]:
    """Seconds from the last response to the accepted report of so many studies that come at once."""
    waits: list[float] = []

    def send(number: int) -> None:
        own = copy.copy(study)
        own.skip(1000 * count + 100 * number)
        study_uid, last_s = own.send(node.port)
        waits.append(pacs.wait(study_uid) - last_s)

    threads = [threading.Thread(target=send, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return waits


def stages(node: Node, last_at: float, accepted_s: float, job_id: int) -> dict[str, float]:
    """Seconds of a study by where they went, in their order, from its last response on."""
    queued, finished = (
        event(node, role, what, job_id) for role, what in (("receive", "series_queued"), ("infer", "job_finished"))
    )
    result = json.loads((node.state_dir / "results" / str(job_id) / "result.json").read_bytes())
    end_s = at(finished) - last_at
    begin_s = end_s - finished["seconds"]
    queued_s = at(queued) - last_at
    inner = {stage: float(result["timings_s"][stage]) for stage in STAGES}
    making = finished["seconds"] - finished["held_s"] - sum(inner.values())
    return {
        "judged whole": queued_s,
        "claimed": max(0.0, begin_s - queued_s),
        **inner,
        "report, files on disk": making,
        "held for the grace": finished["held_s"],
        "sent, accepted": max(0.0, accepted_s - end_s),
    }


def event(node: Node, role: str, what: str, job_id: int) -> dict[str, Any]:
    """The line of a role's log about a job."""
    return next(
        line for line in lines(node.folder / f"{role}.log") if line.get("event") == what and line["job"] == job_id
    )


def lines(path: Path) -> Iterator[dict[str, Any]]:
    """Lines of a log that are JSON."""
    for line in path.read_text().splitlines():
        if line.startswith("{"):
            yield json.loads(line)


def at(line: dict[str, Any]) -> float:
    """When it was written, Unix seconds."""
    return datetime.fromisoformat(line["timestamp"]).timestamp()


def processor() -> str:
    """Its name, and the widest vectors that it has."""
    text = Path("/proc/cpuinfo").read_text()
    name = re.search(r"model name\s*:\s*(.*)", text)
    vectors = next((flag for flag in ("avx512f", "avx2") if flag in text), "")
    return f"{name[1].strip() if name else 'unknown'} {vectors}".strip()


# --- drawing -------------------------------------------------------------------------------------------------------


def under(figures: Figures) -> str:
    """What stands under a picture."""
    machine = figures["machine"]
    return f"{machine['processor']}, {machine['cores']} cores, CPU only, load {machine['load']}, {machine['date']}"


def draw_curves(figures: Figures) -> None:
    """Two plots side by side: against slices, and against senders."""
    figure = Figure(figsize=(10, 4.2))
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, name, label in (
        (left, "slices", "slices of the series"),
        (right, "senders", "studies of 32 slices at once"),
    ):
        counts, medians, longest = zip(*figures[name], strict=True)
        axes.plot(counts, longest, "-", color="0.7", label="longest")
        axes.plot(counts, medians, "o-", color="tab:blue", label="median")
        axes.set_xlabel(label)
        axes.set_yscale("log")
        axes.set_ylim(0.5, 100)
        axes.set_yticks([1, 2, 5, 10, 20, 60], ["1", "2", "5", "10", "20", "60"])
        axes.grid(axis="y", color="0.92")
        for words, seconds in PUBLISHED_S.items():
            axes.axhline(seconds, color="tab:red", lw=0.8, ls=":")
            axes.text(axes.get_xlim()[1], seconds * 1.04, words, ha="right", fontsize=8, color="tab:red")
    left.set_ylabel("last response → report accepted, s")
    right.set_xticks(SENDERS, map(str, SENDERS))
    left.legend(frameon=False, loc="lower right")
    figure.text(0.5, -0.02, under(figures), ha="center", fontsize=8, color="0.4")
    figure.savefig(CURVES, dpi=110, bbox_inches="tight")


def draw_where(figures: Figures) -> None:
    """A bar for each series, from the last response to the accepted report."""
    figure = Figure(figsize=(10, 3.0))
    axes = figure.subplots()
    counts = sorted(figures["where"], key=int, reverse=True)  # the fewest slices on top
    for row, parts in enumerate(figures["where"][count] for count in counts):
        start = 0.0
        for name, seconds in parts.items():
            axes.barh(row, 1000 * seconds, 0.6, 1000 * start, color=COLOURS[name], edgecolor="white", lw=0.5)
            if seconds > 0.02 * sum(parts.values()):
                axes.text(
                    1000 * (start + seconds / 2), row, f"{1000 * seconds:.0f}", ha="center", va="center", fontsize=7
                )
            start += seconds
    axes.set_yticks(range(len(counts)), [f"{count} slices" for count in counts])
    axes.set_xlabel("ms after the last response of the series")
    names = list(dict.fromkeys(name for parts in figures["where"].values() for name in parts))
    handles = [axes.barh(0, 0, color=COLOURS[name]) for name in names]
    axes.legend(handles, names, ncols=6, frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    figure.text(0.5, -0.1, under(figures), ha="center", fontsize=8, color="0.4")
    figure.savefig(WHERE, dpi=110, bbox_inches="tight")


def main() -> None:
    """See the module's text."""
    if sys.argv[1:] != ["draw"]:
        FIGURES.write_text(json.dumps(measured(), indent=1) + "\n")
    figures = json.loads(FIGURES.read_text())
    draw_curves(figures)
    draw_where(figures)


if __name__ == "__main__":
    main()
