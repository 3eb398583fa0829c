"""`ich-node replay`: analyse again what is still here and say what would be answered today. Publishes nothing.

For the evening before another bundle or setting goes live: the newest studies, as they came, through the pipeline of
this configuration; what was answered then beside what would be answered now.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import track

from ich_node.board.studies import Card, Studies
from ich_node.commands.status import found
from ich_node.commands.tables import show
from ich_node.domain.errors import UnusableSeries
from ich_node.domain.findings import Analysis
from ich_node.domain.ledger import JobState
from ich_node.infer import bundle, pipeline
from ich_node.infer.engine import open_engine
from ich_node.report.said.reasons import english
from ich_node.runtime import service
from ich_node.runtime.config import Config
from ich_node.store.ledger.jobs import JobStore, open_ledger
from ich_node.store.spool import Spool

ANSWERED = (JobState.DONE, JobState.DELIVERING, JobState.FAILED)
NOT_ANALYSED = "NOT ANALYSED"
LOOKED_AT = 1000  # newest jobs among which the answered ones are


@dataclass(frozen=True, slots=True)
class Answer:
    """A priority or NOT ANALYSED, and the probability of "any"."""

    priority: str
    probability: float | None = None
    reason: str = ""

    @property
    def verdict(self) -> tuple[str, str]:
        """What a reader would notice."""
        return self.priority, self.reason

    def __str__(self) -> str:
        return self.priority if self.probability is None else f"{self.priority} {self.probability:.1%}"


def run(config: Config, wanted: str | None, last: int) -> int:
    """Replay a study (UID, accession number, Patient ID, job) or the `last` answered; 1 when an answer would differ."""
    model = bundle.load(config.bundle_dir)
    engine = open_engine(config.infer, model)
    spool = Spool(config.state_dir, min_free_bytes=0)
    store = open_ledger(config)
    try:
        cards = _cards(store, config, wanted, last)
    finally:
        store.close()
    rows, differ = [], 0
    for card in track(cards, "replaying", console=Console(stderr=True), transient=True):
        then = _then(card)
        paths = spool.paths(card.job.series_uid, card.job.sop_instance_uids)
        if not all(path.is_file() for path in paths) or not paths:
            rows.append((card.job.id, str(then), "", "its images are no longer here"))
            continue
        now = _now(paths, lambda paths: pipeline.analyse(paths, model, engine, config))
        differ += (same := then.verdict == now.verdict) is False
        rows.append((card.job.id, str(then), str(now), "same" if same else f"differs {now.reason}".strip()))
    show(("job", "then", "now", ""), rows)
    return service.EXIT_FAILURE if differ else service.EXIT_OK


def _cards(store: JobStore, config: Config, wanted: str | None, last: int) -> list[Card]:
    """The answered jobs in question, oldest first."""
    studies = Studies(store, config.state_dir / "results")
    jobs = found(store, wanted) if wanted else store.jobs(limit=LOOKED_AT)
    answered = sorted((job for job in jobs if job.state in ANSWERED), key=lambda job: -job.id)
    cards = (studies.card(job.id) for job in answered)
    return [card for card in cards if card is not None and card.result is not None][: None if wanted else last][::-1]


def _then(card: Card) -> Answer:
    result = card.result
    probability = None if result is None or result.reason else result.probability
    return Answer(card.job.priority or NOT_ANALYSED, probability, (result.reason or "") if result else "")


def _now(paths: Sequence[Path], analyse: Callable[[Sequence[Path]], Analysis]) -> Answer:
    try:
        analysis = analyse(paths)
    except UnusableSeries as refusal:
        return Answer(NOT_ANALYSED, None, english(refusal.reason))
    if analysis.reason is not None or analysis.priority is None:
        return Answer(NOT_ANALYSED, None, "" if analysis.reason is None else english(analysis.reason))
    return Answer(analysis.priority.value, analysis.finding("any").probability)
