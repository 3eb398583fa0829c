"""The record and what drift and monitoring make of it, fed from the ledger by whoever looks: board, retention."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ich_node.board.drift import Drift
from ich_node.board.feedback import Book, Feedback
from ich_node.board.record import Record
from ich_node.board.studies import Card, Studies
from ich_node.board.tally import Tally
from ich_node.domain.errors import ModelError
from ich_node.infer import bundle
from ich_node.runtime.config import Config
from ich_node.store.layout import StateDir
from ich_node.store.ledger.jobs import open_ledger


@dataclass(slots=True)
class Trend:
    """Memory over months, where cards are of days."""

    record: Record
    drift: Drift
    tally: Tally = field(default_factory=Tally)

    @classmethod
    def open(cls, config: Config, opinions: Iterable[Feedback] = ()) -> Trend:
        """Read the record and follow it to its end."""
        record = Record(StateDir(config.state_dir).record)
        trend = cls(record, Drift(_error(config)))
        trend.drift.feed(record.lines)
        trend.tally.feed(record.entries())
        for opinion in opinions:
            trend.hear(opinion)
        return trend

    def catch_up(self, cards: Sequence[Card]) -> None:
        """Take in what has been answered since. Raises StoreError on a full disk."""
        news = self.record.catch_up(cards)
        self.drift.feed(news)
        self.tally.feed(news)

    def hear(self, opinion: Feedback) -> None:
        """A reader agrees or disagrees; who is unsure says neither."""
        if opinion.opinion != "unsure":
            self.drift.hear(opinion.moment, opinion.opinion == "agree")

    def begin_anew(self, moment: float, person: str) -> None:
        """What comes from now on is the normal state. Raises StoreError on a full disk."""
        self.drift.feed([self.record.begin_anew(moment, person)])


def keep(config: Config) -> None:
    """Write into the record what is not there yet, before retention removes the results that it is made from."""
    store = open_ledger(config)
    try:
        studies = Studies(store, config.state_dir / "results")
        studies.refresh()
        Record(StateDir(config.state_dir).record).catch_up(studies.cards)
    finally:
        store.close()


def book(config: Config) -> Book:
    """The readers' opinions."""
    return Book(StateDir(config.state_dir).opinions)


def _error(config: Config) -> float | None:
    """The share of wrong calls that the bundle claims at its operating point: the worse of its two errors."""
    try:
        said = bundle.load(config.bundle_dir).manifest
    except ModelError:  # `ich-node check` says it
        return None
    point = said.operating_points.get(said.present_at)
    rates = () if point is None else (point.sensitivity, point.specificity)
    worst = min((rate for rate in rates if rate is not None), default=None)
    return None if worst is None or worst >= 1 else 1 - worst
