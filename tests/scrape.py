"""What the board tells Prometheus, as a table."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from ich_node.board import health, role
from ich_node.runtime.config import Config
from ich_node.store.ledger.jobs import JobStore

Scrape = dict[tuple[str, ...], float]


def scrape(config: Config, store: JobStore, now: float = 2e9) -> Scrape:
    """A scrape of a board that has just started: (name without ich_node_, values of labels by label) → value."""
    board = role.make(config, store)
    text = health.metrics(config, board.studies, board.trend, now).decode()
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            values = [value for _, value in sorted(sample.labels.items())]
            found[sample.name.removeprefix("ich_node_"), *values] = sample.value
    return found
