"""What the pages show of the series: which ones, what of a patient, the tallies, and how a moment is written."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import jinja2

from ich_node.board.feedback import OPINIONS
from ich_node.board.studies import Card
from ich_node.dicom.part10 import read_header
from ich_node.domain.errors import UnidentifiableInstance
from ich_node.domain.ledger import JobState

HERE = Path(__file__).parent
FILTERS = ("open", "STAT", "HIGH", "ROUTINE", "NOT ANALYSED", "FAILED", "ANALYSING", "all")
HIDDEN = frozenset({"SUPERSEDED", "SET ASIDE"})  # shown under "all" only
PAGE = 500  # rows of one page; a search finds the others


def slices_of(card: Card) -> Sequence[tuple[str, int | None]]:
    """(SOP Instance UID, frame number) per slice, foot to head; in the order of UIDs where nothing was analysed."""
    if card.result and card.result.slices:
        return card.result.slices
    return [(uid, None) for uid in card.job.sop_instance_uids]


def fits(card: Card, chosen: str, reviewed: Any) -> bool:
    """Whether the list shows a card under the filter `chosen`; reviewed: the jobs that somebody has an opinion on."""
    if chosen == "all":
        return True
    if chosen == "open":
        return card.standing not in HIDDEN and card.job.id not in reviewed
    return card.standing == chosen or (chosen == "ANALYSING" and card.standing == "QUEUED")


@lru_cache(maxsize=4096)
def patient_of(path: Path) -> dict[str, str]:
    """What an image says of its patient and study, as sent; empty when it is gone or cannot be read."""
    keywords = ("PatientName", "PatientID", "AccessionNumber", "StudyDescription", "SeriesDescription")
    try:
        header = read_header(path, keywords)
        return {keyword: str(header.get(keyword) or "") for keyword in keywords}
    except (OSError, UnidentifiableInstance):
        return {}


def days_of(cards: Sequence[Card]) -> list[tuple[str, dict[str, int]]]:
    """Per day (UTC), newest last: how many of each standing."""
    days: dict[str, dict[str, int]] = {}
    for card in cards:
        if card.standing not in HIDDEN:
            day = datetime.fromtimestamp(card.job.created_at, UTC).strftime("%Y-%m-%d")
            tally = days.setdefault(day, {})
            tally[card.standing] = tally.get(card.standing, 0) + 1
    return sorted(days.items())[-14:]


def gates_of(cards: Sequence[Card]) -> list[tuple[str, int]]:
    """Reasons for "not analysed", most frequent first."""
    tally: dict[str, int] = {}
    for card in cards:
        if card.standing == "NOT ANALYSED" and card.reason:
            tally[card.reason] = tally.get(card.reason, 0) + 1
    return sorted(tally.items(), key=lambda item: -item[1])[:12]


def environment() -> jinja2.Environment:
    """The templates, with the filters that they use."""
    loader = jinja2.FileSystemLoader(HERE / "templates")
    made = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    made.filters["ago"] = ago
    made.filters["clock"] = lambda moment: datetime.fromtimestamp(moment).astimezone().strftime("%H:%M")
    made.filters["moment"] = lambda moment: datetime.fromtimestamp(moment).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    made.filters["person"] = person
    made.filters["percent"] = lambda p: "" if p is None else f"{min(99, round(p * 100))} %"
    made.globals["JobState"] = JobState
    made.globals["OPINIONS"] = OPINIONS
    return made


def person(name: str) -> str:
    """A name (PS3.5 6.2.1.2) as people write it: family, given; of several writings each."""
    groups = []
    for group in name.split("="):
        family, given, middle, prefix, suffix = (*(part.strip() for part in group.split("^")), "", "", "", "", "")[:5]
        first = " ".join(filter(None, (prefix, given, middle, suffix)))
        groups.append(", ".join(filter(None, (family, first))))
    return " · ".join(dict.fromkeys(filter(None, groups)))


def ago(seconds: float) -> str:
    """How long: 40 s, 12 min, 3 h 05, 2 d."""
    if seconds < 100:
        return f"{max(0, seconds):.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    if seconds < 100 * 3600:
        return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:02.0f}"
    return f"{seconds / 86400:.0f} d"
