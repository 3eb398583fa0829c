"""`ich-node report MONTH`: how the month was, as one HTML page on standard output. Reads only."""

from __future__ import annotations

from ich_node.board import month
from ich_node.board.record import entry_of
from ich_node.board.studies import Studies
from ich_node.board.trend import Trend, book
from ich_node.domain.errors import ConfigError
from ich_node.runtime import service
from ich_node.runtime.config import Config
from ich_node.store.ledger.jobs import open_ledger


def run(config: Config, wanted: str) -> int:
    """Print the page of a month that is written as 2026-11."""
    try:
        first = month.begin(wanted)
    except ValueError as error:
        raise ConfigError([f"{wanted!r} is no month: write it as 2026-11"]) from error
    opinions = book(config).entries
    trend = Trend.open(config, opinions)
    entries = {entry.job_id: entry for entry in trend.record.entries()}
    store = open_ledger(config)
    try:
        studies = Studies(store, config.state_dir / "results")
        studies.refresh()
    finally:
        store.close()
    newest = [entry for card in studies.cards if (entry := entry_of(card)) is not None]  # not yet in the record
    entries = {entry.job_id: entry for entry in newest} | entries
    this, last = (
        month.month_of(moment, list(entries.values()), opinions, tuple(trend.drift.alarms))
        for moment in (first, month.before(first))
    )
    print(month.page(this, last, config.ae_title, config.report.language))
    return service.EXIT_OK
