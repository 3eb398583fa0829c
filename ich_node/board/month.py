"""One month on one page, for the meeting where somebody asks how it was. Pure, but for the templates.

In: the record of answers, the readers' opinions, the alarms of drift. Out: `Month`, and an HTML page that prints on one
sheet of A4 and needs nothing else.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from ich_node import __version__
from ich_node.board import view, words
from ich_node.board.drift import Alarm
from ich_node.board.feedback import Feedback
from ich_node.board.record import Entry

KINDS = ("STAT", "HIGH", "ROUTINE", "NOT ANALYSED")
ROWS = 6  # chosen: the most frequent ones; all of it fits one sheet
TWENTIETH = 20  # of the studies were slower than the figure that is called 95 %


@dataclass(frozen=True, slots=True)
class Month:
    """What happened in a month. days: of every day with studies, how many of each kind. seconds: median and 95 %.

    opinions: (what the node said, opinion) → how often.
    """

    first: datetime
    studies: int
    kinds: dict[str, int]
    days: list[tuple[str, dict[str, int]]]
    seconds: tuple[float, float] | None
    labels: list[tuple[str, int]]
    reasons: list[tuple[str, int]]
    scanners: list[tuple[str, int]]
    models: list[str]
    opinions: dict[tuple[str, str], int]
    alarms: tuple[Alarm, ...]

    def share(self, kind: str) -> float | None:
        """Of the studies."""
        return self.kinds.get(kind, 0) / self.studies if self.studies else None


def begin(text: str) -> datetime:
    """The first moment of a month that is written as 2026-11, local time. Raises ValueError."""
    return datetime.strptime(text, "%Y-%m").astimezone()


def end(first: datetime) -> datetime:
    """The first moment of the month after."""
    year, month = divmod(first.year * 12 + first.month, 12)
    return datetime(year, month + 1, 1).astimezone()


def before(first: datetime) -> datetime:
    """The first moment of the month before."""
    year, month = divmod(first.year * 12 + first.month - 2, 12)
    return datetime(year, month + 1, 1).astimezone()


def month_of(first: datetime, entries: Sequence[Entry], opinions: Sequence[Feedback], alarms: Sequence[Alarm]) -> Month:
    """The figures of the month that begins at `first`."""
    since, until = first.timestamp(), end(first).timestamp()
    own = [entry for entry in entries if since <= entry.moment < until]
    last_of: dict[tuple[int, str], Feedback] = {
        (opinion.job_id, opinion.reader): opinion for opinion in opinions if since <= opinion.moment < until
    }
    days: dict[str, Counter[str]] = {}
    for entry in own:
        day = datetime.fromtimestamp(entry.moment).astimezone().strftime("%d")
        days.setdefault(day, Counter())[kind_of(entry)] += 1
    took = sorted(entry.answered_s for entry in own)
    slow = took[len(took) - 1 - len(took) // TWENTIETH] if took else 0.0
    return Month(
        first=first,
        studies=len(own),
        kinds=dict(Counter(kind_of(entry) for entry in own)),
        days=sorted((day, dict(tally)) for day, tally in days.items()),
        seconds=(statistics.median(took), slow) if took else None,
        labels=Counter(label for entry in own for label in entry.labels).most_common(),
        reasons=Counter(entry.reason_code for entry in own if entry.reason_code).most_common(ROWS),
        scanners=Counter(entry.scanner or "–" for entry in own).most_common(ROWS),
        models=sorted({entry.model for entry in own if entry.model}),
        opinions=dict(Counter((opinion.said, opinion.opinion) for opinion in last_of.values())),
        alarms=tuple(alarm for alarm in alarms if since <= alarm.moment < until),
    )


def kind_of(entry: Entry) -> str:
    """Its priority, or NOT ANALYSED."""
    return entry.priority or "NOT ANALYSED"


def page(now: Month, last: Month, node: str, language: str) -> str:
    """The HTML page. last: the month before, to compare with. node: whose page it is."""
    w = words.DE if language == "de" else words.EN
    most = max((sum(tally.values()) for _, tally in now.days), default=1)
    template = view.environment().get_template("month.html")
    return template.render(w=w, m=now, last=last, node=node, version=__version__, kinds=KINDS, most=most)
