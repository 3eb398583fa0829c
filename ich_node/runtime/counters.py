"""What a role counts for monitoring, and how the board comes to know it: a small file, replaced every few seconds.

In: `get().add(…)` and `get().observe(…)` from any thread, a microsecond each. Out: `save` in the role, `read` on the
board. Nothing is durable: after a restart, or a crash, counters begin at nothing, which Prometheus takes into account.
No patient data: names and labels are of a closed set.
"""

from __future__ import annotations

import json
import os
import threading
import time
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

MODE = 0o640  # as everything else in the state directory
SAVE_EVERY_S = 5.0  # chosen: three times within the usual interval of scrapes
BOUNDS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
"""Upper bounds of durations, seconds: from a stage on a GPU to what is no longer triage."""

Key = tuple[str, str]
"""Name of a metric, value of its label ("" when it has none)."""


@dataclass(slots=True)
class Histogram:
    """How often something took how long: of each of BOUNDS_S, and beyond, the durations up to it; their sum (s)."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    sum_s: float = 0.0

    def observe(self, seconds: float) -> None:
        """One more."""
        self.counts[bisect_left(BOUNDS_S, seconds)] += 1
        self.sum_s += seconds

    def buckets(self) -> Iterator[tuple[str, float]]:
        """(upper bound as Prometheus writes it, how many took no longer)."""
        total = 0
        for bound, count in zip((*map(str, BOUNDS_S), "+Inf"), self.counts, strict=True):
            total += count
            yield bound, total


class Counters:
    """Counts and durations of one process. saved_at: Unix seconds, of those that were read from a file."""

    def __init__(self) -> None:
        self.counts: dict[Key, float] = {}
        self.spans: dict[Key, Histogram] = {}
        self.saved_at = 0.0
        self._next_s = 0.0
        self._lock = threading.Lock()

    def add(self, name: str, label: str = "", amount: float = 1) -> None:
        """Count."""
        with self._lock:
            self.counts[name, label] = self.counts.get((name, label), 0) + amount

    def observe(self, name: str, label: str, seconds: float) -> None:
        """Something took so long."""
        with self._lock:
            self.spans.setdefault((name, label), Histogram()).observe(seconds)

    def save(self, path: Path, *, now: bool = False) -> None:
        """Write them, when it is time or `now`. A disk that is full costs figures, never an image."""
        if not now and time.monotonic() < self._next_s:
            return
        self._next_s = time.monotonic() + SAVE_EVERY_S
        with self._lock:
            counts = [[*key, value] for key, value in self.counts.items()]
            spans = [[*key, span.counts, span.sum_s] for key, span in self.spans.items()]
        part = path.with_name(f"{path.name}.part")
        with suppress(OSError):
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, MODE)
            with os.fdopen(descriptor, "w") as file:
                json.dump({"counts": counts, "spans": spans}, file)
            part.replace(path)


def read(path: Path) -> Counters | None:
    """What a role has saved last; None when there is nothing that can be read."""
    found = Counters()
    try:
        data = json.loads(path.read_bytes())
        found.counts = {(str(name), str(label)): float(value) for name, label, value in data["counts"]}
        for name, label, counts, sum_s in data["spans"]:
            if len(counts) == len(BOUNDS_S) + 1:  # not those of another version
                found.spans[str(name), str(label)] = Histogram([int(count) for count in counts], float(sum_s))
        found.saved_at = path.stat().st_mtime
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return found


_current = Counters()


def get() -> Counters:
    """Those of this process."""
    return _current
