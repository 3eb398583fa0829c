"""Which destination gets what: the one place that turns the results of a job into what is owed. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from ich_node.domain.ledger import Owed, ResultInstance, ResultMessage
from ich_node.runtime.config import DeliverConfig, DestinationConfig, DicomWebConfig, RouteConfig

RESULT_JSON = "result.json"
URGENT = frozenset({"STAT", "HIGH"})
"""Results that somebody must get: a node that tells nobody is worth nothing."""
PRIORITIES = ("STAT", "HIGH", "ROUTINE", "NOT_ANALYSED")
TEXT_REPORTS = frozenset({"1.2.840.10008.5.1.4.1.1.88.11"})  # Basic Text SR
STRUCTURED_REPORTS = frozenset(f"1.2.840.10008.5.1.4.1.1.88.{n}" for n in (22, 33, 34))


def kind_of(sop_class_uid: str) -> str:
    """The kind of object, as `objects` in the configuration names it."""
    if sop_class_uid in TEXT_REPORTS:
        return "text_report"
    return "structured_report" if sop_class_uid in STRUCTURED_REPORTS else "pictures"


def wants(destination: RouteConfig, priority: str | None, sender: str | None) -> bool:
    """Whether a destination gets results of this priority (None: not analysed) of a study that `sender` has sent."""
    asked = (priority or "NOT_ANALYSED") in destination.priorities
    return asked and any(fnmatchcase(sender or "", pattern) for pattern in destination.senders)


def plan(deliver: DeliverConfig) -> list[tuple[str, str]]:
    """(priority, names of the destinations that may get a result of it) for every priority."""
    return [
        (priority, ", ".join(to.name for to in deliver.everywhere if priority in to.priorities))
        for priority in PRIORITIES
    ]


def route(
    instances: Sequence[ResultInstance], deliver: DeliverConfig, *, priority: str | None, sender: str | None
) -> list[Owed]:
    """What is owed to whom: instances to an archive, in their order; result.json, beside them, to the others.

    Messages come first in the list: they are what is waited for.
    """
    owed = []
    for destination in deliver.everywhere:
        if not wants(destination, priority, sender):
            continue
        if isinstance(destination, DestinationConfig | DicomWebConfig):
            chosen = [item for item in instances if kind_of(item.sop_class_uid) in destination.objects]
            owed += [Owed(item, destination.name) for item in chosen]
        elif instances:
            owed.append(Owed(ResultMessage(RESULT_JSON, _beside(instances[0].path)), destination.name))
    return owed


def _beside(path: Path) -> Path:
    return path.with_name(RESULT_JSON)
