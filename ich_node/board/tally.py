"""Every study of the record counted once, for Prometheus: what was found, why not, how long each stage took.

The record outlives restarts, and so do these counters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from ich_node.board.record import Entry
from ich_node.runtime.counters import Histogram


class Tally:
    """labels, reasons: studies with a finding of each type, and not analysed for each reason. stages, answers: seconds
    of each stage, and from the whole series to its answer by priority."""

    def __init__(self) -> None:
        self.labels: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.stages: dict[str, Histogram] = {}
        self.answers: dict[str, Histogram] = {}

    def feed(self, entries: Iterable[Entry]) -> None:
        """Count these, which were not counted before."""
        for entry in entries:
            self.labels.update(entry.labels)
            if entry.reason_code:
                self.reasons[entry.reason_code] += 1
            for stage, seconds in entry.stages.items():
                self.stages.setdefault(stage, Histogram()).observe(seconds)
            self.answers.setdefault(entry.priority or "NOT ANALYSED", Histogram()).observe(entry.answered_s)
