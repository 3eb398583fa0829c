"""Which destination gets what: the one place that turns the results of a job into what is owed. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ich_node.domain.ledger import Item, Owed
from ich_node.runtime.config import DestinationConfig


def route(items: Sequence[Item], destinations: Iterable[DestinationConfig]) -> list[Owed]:
    """Every item to every destination, in the order of the items."""
    return [Owed(item, destination.name) for destination in destinations for item in items]
