"""What the board shows of every study, from the ledger's rows and each job's result.json. No patient data in here.

In: the overview of the ledger, the results folder. Out: frozen cards in reading order. A result never changes once
it is published, so each is read once; the ledger is asked again only when it changed (`Studies.refresh`).
"""

from __future__ import annotations

import json
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ich_node.domain.ledger import FINISHED, DeliveryState, DeliveryTally, Job, JobState
from ich_node.store.ledger.protocols import Overview

SHOWN = 2000  # newest jobs on the board: two days of a service of a thousand studies a day
REMEMBERED = 4 * SHOWN  # results kept in memory, six kilobytes each of a head of 32 slices

STANDING = ("STAT", "HIGH", "FAILED", "NOT ANALYSED", "ANALYSING", "QUEUED", "ROUTINE", "SUPERSEDED", "SET ASIDE")
"""What a card can say, in reading order: what may hide blood comes before what does not."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One label that was called present; see docs/result-json.md."""

    label: str
    probability: float
    laterality: str | None
    sites: tuple[str, ...]
    first_slice: int | None
    last_slice: int | None
    extent_mm: float | None


@dataclass(frozen=True, slots=True)
class Result:
    """What the board needs of a result.json. probability: of "any", None when not analysed; figures: as far as said."""

    reason: str | None
    reason_code: str | None
    probability: float | None
    findings: tuple[Finding, ...]
    warnings: tuple[str, ...]
    slices: tuple[tuple[str, int | None], ...]  # (SOP Instance UID, frame number), foot to head
    provider: str
    model: str
    stages: Mapping[str, float]  # seconds
    scanner: str
    brain_hu: float | None
    noise_hu: float | None

    @property
    def seconds(self) -> float:
        """What the analysis took."""
        return sum(self.stages.values())


@dataclass(frozen=True, slots=True)
class Destination:
    """Where the results of a job stand at one destination. trouble: the last cause, None when all is well."""

    name: str
    sent: int
    owed: int
    refused: int
    trouble: str | None
    last_s: float


@dataclass(frozen=True, slots=True)
class Card:
    """One series on the board. Times are Unix seconds (UTC). successor: the newer job of the same series."""

    job: Job
    standing: str
    result: Result | None
    destinations: tuple[Destination, ...] = ()
    successor: int | None = None

    @property
    def key(self) -> tuple[int, float]:
        """Reading order: standing first, then who waits longest."""
        return STANDING.index(self.standing), self.job.created_at

    @property
    def reason(self) -> str | None:
        """Why there is no analysis."""
        return (
            self.job.refusal or self.job.trouble if self.standing in ("NOT ANALYSED", "FAILED", "SET ASIDE") else None
        )


@dataclass(slots=True)
class Studies:
    """The board's view of the store. Used from one thread."""

    ledger: Overview
    results: Path
    cards: tuple[Card, ...] = ()
    revision: int = 0
    _known: OrderedDict[int, Result] = field(default_factory=OrderedDict)
    _seen: tuple[tuple[int, str, float, tuple[DeliveryTally, ...]], ...] = ()

    def refresh(self) -> frozenset[int]:
        """Ask the ledger again; the ids of jobs that have just become STAT. `revision` grows when anything changed."""
        jobs = self.ledger.jobs(limit=SHOWN)
        old = {card.job.id: card for card in self.cards}
        standing = self.ledger.standing([job.id for job in jobs if not _is_settled(old.get(job.id), job)])
        moving = {job.id: standing.get(job.id, ()) for job in jobs if job.state is JobState.DELIVERING}
        seen = tuple((job.id, str(job.state), job.updated_at, moving.get(job.id, ())) for job in jobs)
        if seen == self._seen:
            return frozenset()
        before = {card.job.id for card in self.cards if card.standing == "STAT"}
        newest: dict[str, int] = {}
        for job in jobs:
            if job.state is not JobState.INELIGIBLE:
                newest[job.series_uid] = max(job.id, newest.get(job.series_uid, 0))
        cards = []
        for job in jobs:
            last, known = newest.get(job.series_uid, job.id), old.get(job.id)
            if known is None or not _is_settled(known, job):
                cards.append(self._card(job, last, standing.get(job.id, ())))
            elif (known.successor or job.id) == last:
                cards.append(known)
            else:
                cards.append(replace(known, successor=last, standing=_standing(job, last)))
        first = not self._seen and not self.revision
        self.cards, self._seen, self.revision = tuple(sorted(cards, key=lambda c: c.key)), seen, self.revision + 1
        now = {card.job.id for card in self.cards if card.standing == "STAT"}
        return frozenset() if first else frozenset(now - before)

    def card(self, job_id: int) -> Card | None:
        """The card of one job, also of one too old for the list."""
        shown = next((card for card in self.cards if card.job.id == job_id), None)
        if shown is not None:
            return shown
        job = self.ledger.job(job_id)
        if job is None:
            return None
        others = self.ledger.jobs_of_series(job.series_uid)
        newest = max((other.id for other in others if other.state is not JobState.INELIGIBLE), default=job.id)
        return self._card(job, newest, self.ledger.standing([job.id]).get(job.id, ()))

    def _card(self, job: Job, newest: int, deliveries: Sequence[DeliveryTally]) -> Card:
        result = self.result(job)
        successor = newest if newest > job.id else None
        return Card(job, _standing(job, successor), result, destinations(deliveries), successor)

    def result(self, job: Job) -> Result | None:
        """The result of a job; None as long as there is none, or when retention has taken it."""
        if job.state not in (JobState.DELIVERING, JobState.DONE, JobState.FAILED):
            return None
        if job.id in self._known:
            self._known.move_to_end(job.id)
            return self._known[job.id]
        try:
            result = parse(json.loads((self.results / str(job.id) / "result.json").read_bytes()))
        except (OSError, ValueError):
            return None
        self._known[job.id] = result
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return result


def _is_settled(card: Card | None, job: Job) -> bool:
    """Whether a card still says all about its finished job."""
    if card is None or job.state not in FINISHED or card.job.state is not job.state:
        return False
    return card.job.updated_at == job.updated_at and (card.result is not None or job.state is JobState.INELIGIBLE)


def destinations(rows: Sequence[DeliveryTally]) -> tuple[Destination, ...]:
    """Per destination: how many results are there, of how many, and what keeps the rest."""
    found = []
    for name in sorted({row.destination for row in rows}):
        own = [row for row in rows if row.destination == name]
        count: Counter[DeliveryState] = Counter()
        for row in own:
            count[row.state] += row.count
        waiting = [row for row in own if row.state in (DeliveryState.PENDING, DeliveryState.FAILED)]
        trouble = next((row.cause for row in waiting if row.cause), None)
        sent = count[DeliveryState.SENT] + count[DeliveryState.COMMITTED]
        last_s = max(row.updated_at for row in own)
        found.append(Destination(name, sent, sum(count.values()), count[DeliveryState.FAILED], trouble, last_s))
    return tuple(found)


def _standing(job: Job, successor: int | None) -> str:
    match job.state:
        case JobState.QUEUED:
            return "QUEUED"
        case JobState.RUNNING:
            return "ANALYSING"
        case JobState.INELIGIBLE:
            return "SET ASIDE"
        case _ if successor is not None:
            return "SUPERSEDED"
        case JobState.FAILED if job.priority is None and job.refusal is None:
            return "FAILED"
        case _:
            return job.priority or "NOT ANALYSED"


def parse(data: Mapping[str, Any]) -> Result:
    """A result.json of schema ich_node/result/1; keys that are missing are empty. ValueError when it is none."""
    if not isinstance(data, dict) or not str(data.get("schema", "")).startswith("ich_node/result/1"):
        raise ValueError("not a result of a schema that the board knows")
    findings = [item for item in data.get("findings", []) if isinstance(item, dict)]
    whole = next((float(item["probability"]) for item in findings if item.get("label") == "any"), None)
    model = data.get("model") or {}
    return Result(
        reason=data.get("reason"),
        reason_code=data.get("reason_code"),
        probability=whole,
        findings=tuple(_finding(item) for item in findings if item.get("present")),
        warnings=tuple(str(item) for item in data.get("warnings", [])),
        slices=tuple((str(s["sop_instance_uid"]), s.get("frame_number")) for s in data.get("slices", [])),
        provider=str(data.get("provider", "")),
        model=f"{model.get('id', '')} {model.get('version', '')}".strip(),
        stages={str(stage): float(seconds) for stage, seconds in (data.get("timings_s") or {}).items()},
        scanner=str(data.get("scanner") or ""),
        brain_hu=data.get("brain_hu"),
        noise_hu=data.get("noise_hu"),
    )


def _finding(item: Mapping[str, Any]) -> Finding:
    return Finding(
        label=str(item["label"]),
        probability=float(item["probability"]),
        laterality=item.get("laterality"),
        sites=tuple(item.get("sites") or ()),
        first_slice=item.get("first_slice"),
        last_slice=item.get("last_slice"),
        extent_mm=item.get("extent_mm"),
    )
