"""Is the node well? The truth from the store and the disk, for people, load balancers and Prometheus.

In: the overview of the ledger, the newest results, the disk. Out: `Facts`, and the same as Prometheus text.
Counters of results come from the ledger's rows and from the record, which are never counted down; so a restart of any
role resets nothing. Those of the receiver are its own (`runtime/counters`) and begin anew when it starts.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from ich_node.board import words
from ich_node.board.studies import Card, Studies
from ich_node.board.trend import Trend
from ich_node.domain.ledger import JobState
from ich_node.runtime import counters
from ich_node.runtime.config import Config
from ich_node.runtime.counters import Histogram
from ich_node.store.layout import StateDir

OVERDUE_S = 600.0  # chosen: ten minutes in the queue, or on the way to a PACS, is no longer triage
RECEIVED = (
    ("associations_accepted", "Associations that were accepted.", None),
    ("associations_rejected", "Associations that were rejected (A-ASSOCIATE-RJ), by reason.", "reason"),
    ("associations_released", "Associations that ended in order.", None),
    ("associations_aborted", "Associations that were aborted, or lost.", None),
    ("connections_refused", "Connections that came to no association, rejected ones included.", None),
    ("instances_received", "Instances stored, by what becomes of them.", "kind"),
    ("received_bytes", "Bytes of their datasets.", "kind"),
    ("instances_refused", "Instances refused, by C-STORE status.", "status"),
)
"""What the receiver counts: name, help, label."""
ALONE = ""  # name of a receiver that is the only one
RECENT = 50  # newest results whose provider and stage times are looked at


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits for one destination: results, and for how long the oldest of them (seconds)."""

    destination: str
    results: int
    oldest_s: float
    cause: str | None


@dataclass(frozen=True, slots=True)
class Facts:
    """How the node is. queue_s: how long the oldest job has waited. providers: of the newest results, newest first."""

    jobs: dict[str, int]
    queue_s: float
    free_bytes: int
    refusing: bool
    waiting: tuple[Waiting, ...]
    providers: tuple[str, ...]
    model: str
    bundle_present: bool

    @property
    def problems(self) -> tuple[str, ...]:
        """What somebody should look at, in plain words; empty when the node is ready."""
        found = []
        if self.refusing:
            found.append("images are refused: the disk is full")
        if not self.bundle_present:
            found.append("the model bundle is missing")
        if self.queue_s > OVERDUE_S:
            found.append(f"a series has waited for {self.queue_s / 60:.0f} min: does the worker run?")
        for item in self.waiting:
            if item.oldest_s > OVERDUE_S:
                why = f" ({item.cause})" if item.cause else ""
                found.append(
                    f"{item.results} results wait for {item.destination} since {item.oldest_s / 60:.0f} min{why}"
                )
        if "CUDAExecutionProvider" in self.providers and self.providers[0] != "CUDAExecutionProvider":
            found.append(f"inference has fallen back to {self.providers[0]}")
        return tuple(found)


def facts(config: Config, studies: Studies, now: float) -> Facts:
    """Look now; `studies` is as fresh as its last refresh."""
    cards = studies.cards
    open_jobs = [card.job for card in cards if card.job.state in (JobState.QUEUED, JobState.RUNNING)]
    recent = sorted((card for card in cards if card.result), key=lambda card: -card.job.updated_at)[:RECENT]
    results = [card.result for card in recent if card.result]
    free = shutil.disk_usage(config.state_dir).free
    return Facts(
        jobs=dict(Counter(str(card.job.state) for card in cards)),
        queue_s=max((now - job.created_at for job in open_jobs), default=0.0),
        free_bytes=free,
        refusing=free < config.store.min_free_gb * 1e9,
        waiting=_waiting(cards, now),
        providers=tuple(dict.fromkeys(result.provider for result in results)),
        model=results[0].model if results else "",
        bundle_present=(Path(config.bundle_dir) / "ich.onnx").is_file(),
    )


def _waiting(cards: Sequence[Card], now: float) -> tuple[Waiting, ...]:
    found: dict[str, list[tuple[int, float, str | None]]] = {}
    for card in cards:
        for item in card.destinations:
            left = item.owed - item.sent - item.refused
            if left:
                found.setdefault(item.name, []).append((left, now - card.job.updated_at, item.trouble))
    return tuple(
        Waiting(name, sum(i[0] for i in items), max(i[1] for i in items), next((i[2] for i in items if i[2]), None))
        for name, items in sorted(found.items())
    )


class Node(Collector):
    """The node's state as Prometheus metrics, made anew at every scrape."""

    def __init__(self, config: Config, studies: Studies, trend: Trend, now: float) -> None:
        self._facts = facts(config, studies, now)
        self._studies = studies
        self._drift = trend.drift
        self._tally = trend.tally
        self._received = _received(config)
        self._now = now

    def collect(self) -> Iterator[Metric]:
        """Names by Prometheus' conventions: base units, `_total` for what only grows."""
        now, ledger = self._facts, self._studies.ledger
        by_priority = CounterMetricFamily("ich_node_results", "Published results.", labels=["priority"])
        yield _family(by_priority, {name or "NOT ANALYSED": count for name, count in ledger.priorities().items()})
        yield _family(GaugeMetricFamily("ich_node_jobs", "Jobs by state.", labels=["state"]), ledger.counts())
        for name, text, value in (
            ("queue_oldest_seconds", "How long the oldest job has waited.", now.queue_s),
            ("disk_free_bytes", "Free space for images.", now.free_bytes),
            ("disk_refusing", "1 while images are refused for lack of space.", now.refusing),
            ("ready", "1 when nothing needs attention.", not now.problems),
        ):
            yield GaugeMetricFamily(f"ich_node_{name}", text, value)
        destination = ["destination"]
        waiting = GaugeMetricFamily("ich_node_deliveries_waiting", "Results that it has not yet.", labels=destination)
        yield _family(waiting, {item.destination: item.results for item in now.waiting})
        oldest = GaugeMetricFamily("ich_node_delivery_oldest_seconds", "How long they wait.", labels=destination)
        yield _family(oldest, {item.destination: item.oldest_s for item in now.waiting})
        states = GaugeMetricFamily("ich_node_deliveries", "Deliveries by state.", labels=["destination", "state"])
        for row in ledger.delivery_counts():
            states.add_metric([row.destination, str(row.state)], row.count)
        yield states
        labels = ["model", "provider"]
        info = GaugeMetricFamily("ich_node_info", "Model and provider of the newest result.", labels=labels)
        info.add_metric([now.model, now.providers[0] if now.providers else ""], 1)
        yield info
        yield from self._answers()
        yield from self._receiver()
        yield from self._trend()

    def _answers(self) -> Iterator[Metric]:
        tally = self._tally
        labels = CounterMetricFamily("ich_node_findings", "Studies with a finding of each type.", labels=["type"])
        yield _family(labels, dict(tally.labels))
        reasons = CounterMetricFamily("ich_node_not_analysed", "Studies not analysed, by reason.", labels=["reason"])
        yield _family(reasons, dict(tally.reasons))
        yield _durations("stage_duration", "Time of each stage of an analysis.", "stage", dict(tally.stages))
        text = "Time from the whole series, when it became a job, to its answer."
        yield _durations("answer_duration", text, "priority", dict(tally.answers))

    def _receiver(self) -> Iterator[Metric]:
        """Of every receiver, by name where there are several: what each has counted begins anew by itself."""
        if not self._received:
            return
        which = [] if ALONE in self._received else ["receiver"]
        text = "When the receiver last wrote down what it has counted; it does so every few seconds."
        counted = GaugeMetricFamily("ich_node_receive_counted_timestamp_seconds", text, labels=which)
        families = [
            CounterMetricFamily(f"ich_node_{name}", text, labels=[*which, *filter(None, [label])])
            for name, text, label in RECEIVED
        ]
        text = "Time from the last image of a series to its job, by what showed that it is whole."
        waits = HistogramMetricFamily("ich_node_series_wait_seconds", text, labels=[*which, "shown_by"])
        for receiver, received in self._received.items():
            who = [receiver] if which else []
            counted.add_metric(who, received.saved_at)
            for family, (name, _, label) in zip(families, RECEIVED, strict=True):
                own = {value: count for (metric, value), count in received.counts.items() if metric == name}
                for value, count in own.items() if label else [("", sum(own.values()))]:
                    family.add_metric([*who, *([value] if label else [])], count)
            spans = {value: span for (metric, value), span in received.spans.items() if metric == "series_wait"}
            for value, span in sorted(spans.items()):
                waits.add_metric([*who, value], list(span.buckets()), span.sum_s)
        yield from (counted, *families, waits)

    def _trend(self) -> Iterator[Metric]:
        drift, what = self._drift, ["what"]
        standing = {(alarm.kind, alarm.detail) for alarm in drift.standing(self._now)}
        alarms = GaugeMetricFamily("ich_node_drift_alarm", "1 for a week after it has moved.", labels=what)
        level = GaugeMetricFamily("ich_node_drift_level", "Sum of the evidence; 1 is an alarm.", labels=what)
        for share in drift.watched:
            alarms.add_metric([words.EN.moved(share)], (share.kind, share.detail) in standing)
            level.add_metric([words.EN.moved(share)], share.total / share.limit)
        yield alarms
        yield level
        text = "Studies in the reference that drift is judged by; not judged before it is whole."
        yield GaugeMetricFamily("ich_node_drift_reference_studies", text, len(drift.reference))


def _received(config: Config) -> dict[str, counters.Counters]:
    """What receivers have counted, by the name of their host; ALONE where there is one."""
    state = StateDir(config.state_dir)
    paths = {path.stem: path for path in state.receivers.glob("*.json")} if config.store.shared else {}
    read = {name: counters.read(path) for name, path in (paths or {ALONE: state.counters}).items()}
    return {name: found for name, found in sorted(read.items()) if found is not None}


def _family(family: GaugeMetricFamily | CounterMetricFamily, values: dict[str, int] | dict[str, float]) -> Metric:
    for label, value in values.items():
        family.add_metric([label], value)
    return family


def _durations(name: str, text: str, label: str, spans: Mapping[str, Histogram]) -> Metric:
    family = HistogramMetricFamily(f"ich_node_{name}_seconds", text, labels=[label])
    for value, span in sorted(spans.items()):
        family.add_metric([value], list(span.buckets()), span.sum_s)
    return family


def metrics(config: Config, studies: Studies, trend: Trend, now: float) -> bytes:
    """The scrape (Prometheus text format 0.0.4)."""
    registry = CollectorRegistry()
    registry.register(Node(config, studies, trend, now))
    return generate_latest(registry)
