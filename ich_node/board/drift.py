"""Has what the node sees or says moved? A sequential test on shares, against what the site had at first. Pure.

Every question is a share of the studies: that are positive, whose score lies in the upper half of the reference, whose
brain is denser than 95 % of the reference, that were not analysed for this reason, that come from that scanner, that
readers disagree with. The reference is the first BASELINE studies with this bundle at this site; for the readers it is
the bundle's own error in cross-validation.

The test is Page's CUSUM (Biometrika 1954) of the log likelihood ratio between the share that is expected and the one
that would matter. Between false alarms of one such sum pass at least e^limit studies in the mean (Lorden, Annals of
Mathematical Statistics 1971), whatever the share: so limit = ln(sums x studies a year) means at most one false alarm a
year for all of them together. tests/unit/board/test_drift.py simulates it; docs/monitoring.md has the figures.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from ich_node.board.record import Entry, Line, NewReference

BASELINE = 500  # chosen: a share of 15 % is known to within 1.6 %; two weeks of a service of forty studies a day
RECENT = 100  # studies whose share an alarm names: enough for whole per cents
TAIL = 0.05  # chosen: what counts as unusually dense, loose or noisy in the reference
TAIL_MATTERS = 0.25  # chosen: five times as many: a quarter of the studies is not what it was
HALF_MATTERS = 0.7  # chosen: of the scores in the upper half of the reference
KIND_MATTERS = 0.08  # chosen: a reason or scanner doubles, and has eight in a hundred more than that
RARE = 0.01  # chosen: a reason or scanner below this share of the reference counts as one that it did not have
YEAR_S = 365.25 * 86400  # the mean Gregorian year
STUDIES_A_YEAR = (1_000.0, 200_000.0)  # the pace of the reference is taken, within reason
SHOWN_S = 7 * 86400.0  # chosen: an alarm stands for a week; while the cause lasts it comes again
KEPT = 100  # alarms: years of them

Look = Callable[[Entry], bool | None]
"""Whether a study counts for a share; None: it says nothing about it."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something has moved. kind, detail: as in Share. share: of the last studies (RECENT at most)."""

    moment: float
    kind: str
    detail: str
    expected: float
    share: float


@dataclass(slots=True)
class Share:
    """One sum. kind: what it is about, words.py has the words; detail: a limit in HU, a reason's code, a scanner.

    expected, matters: the shares between which it decides.
    """

    kind: str
    detail: str
    look: Look
    expected: float
    matters: float
    limit: float = math.inf
    total: float = 0.0
    recent: deque[bool] = field(default_factory=lambda: deque(maxlen=RECENT))
    _yes: float = field(init=False)
    _no: float = field(init=False)

    def __post_init__(self) -> None:
        self._yes = math.log(self.matters / self.expected)
        self._no = math.log((1 - self.matters) / (1 - self.expected))

    def add(self, counts: bool) -> bool:
        """One more study; whether this is an alarm, after which the sum begins anew."""
        self.recent.append(counts)
        self.total = max(0.0, self.total + (self._yes if counts else self._no))
        if self.total < self.limit:
            return False
        self.total = 0.0
        return True

    @property
    def share(self) -> float:
        """Of the last studies."""
        return sum(self.recent) / len(self.recent) if self.recent else math.nan


@dataclass(slots=True)
class Drift:
    """Follows the record. error: the share of wrong calls that the bundle claims, for readers; None: not said."""

    error: float | None = None
    baseline: int = BASELINE
    reference: list[Entry] = field(default_factory=list)
    shares: tuple[Share, ...] = ()
    readers: Share | None = None
    alarms: deque[Alarm] = field(default_factory=lambda: deque(maxlen=KEPT))

    def feed(self, lines: Iterable[Line]) -> None:
        """More of the record, in order."""
        for line in lines:
            if isinstance(line, NewReference) or self._is_of_another_bundle(line):
                self.reference, self.shares, self.readers = [], (), None
            if isinstance(line, NewReference):
                continue
            if len(self.reference) < self.baseline:
                self._learn(line)
            else:
                self._judge(line)

    def hear(self, moment: float, agrees: bool) -> None:
        """A reader's opinion: they agree or disagree."""
        if self.readers is not None and self.readers.add(not agrees):
            self._alarm(moment, self.readers)

    def standing(self, now: float) -> tuple[Alarm, ...]:
        """The alarms that a person should look at, newest first."""
        return tuple(alarm for alarm in reversed(self.alarms) if now - alarm.moment < SHOWN_S)

    @property
    def watched(self) -> tuple[Share, ...]:
        """Every sum; none while the reference is being collected."""
        return self.shares if self.readers is None else (*self.shares, self.readers)

    def _is_of_another_bundle(self, entry: Entry) -> bool:
        """A result that names none says nothing about it."""
        return bool(self.reference and entry.model) and entry.model != self.reference[0].model

    def _learn(self, entry: Entry) -> None:
        if entry.model:
            self.reference.append(entry)
        if len(self.reference) < self.baseline:
            return
        self.shares = tuple(shares_of(self.reference))
        if self.error is not None:
            self.readers = Share("readers_disagree", "", lambda _: None, *_more(self.error))
        span_s = max(1.0, self.reference[-1].moment - self.reference[0].moment)
        lowest, highest = STUDIES_A_YEAR
        year = min(highest, max(lowest, self.baseline / span_s * YEAR_S))
        for share in self.watched:
            share.limit = math.log(len(self.watched) * year)

    def _judge(self, entry: Entry) -> None:
        for share in self.shares:
            counts = share.look(entry)
            if counts is not None and share.add(counts):
                self._alarm(entry.moment, share)

    def _alarm(self, moment: float, share: Share) -> None:
        self.alarms.append(Alarm(moment, share.kind, share.detail, share.expected, share.share))


def shares_of(reference: Sequence[Entry]) -> list[Share]:
    """The sums for a reference."""
    analysed = [entry for entry in reference if entry.probability is not None]
    found = []
    if analysed:
        positive = _share(sum(entry.positive for entry in analysed), len(analysed))
        found += [
            Share("positive_more", "", _positive, *_more(positive)),
            Share("positive_fewer", "", _positive, positive, positive / 2),
        ]
        middle = _quantile([entry.probability for entry in analysed if entry.probability is not None], 0.5)
        upper: Look = lambda entry: None if entry.probability is None else entry.probability > middle  # noqa: E731
        found += [
            Share("score_higher", "", upper, 0.5, HALF_MATTERS),
            Share("score_lower", "", upper, 0.5, 1 - HALF_MATTERS),
        ]
    found += _tails(analysed, "brain_hu")
    found += _tails(analysed, "noise_hu")
    found += _kinds(reference, "reason", lambda entry: entry.reason_code or "")
    found += _kinds(analysed, "scanner", lambda entry: entry.scanner)
    return found


def _tails(analysed: Sequence[Entry], name: str) -> list[Share]:
    """Both ends of a figure."""
    values = [value for entry in analysed if (value := getattr(entry, name)) is not None]
    if len(values) < len(analysed) / 2 or not values:  # results of an older version do not say it
        return []
    low, high = _quantile(values, TAIL), _quantile(values, 1 - TAIL)

    def look(compare: Callable[[float], bool]) -> Look:
        return lambda entry: None if (value := getattr(entry, name)) is None else compare(value)

    return [
        Share(f"{name}_above", f"{high:.1f}", look(lambda value: value > high), TAIL, TAIL_MATTERS),
        Share(f"{name}_below", f"{low:.1f}", look(lambda value: value < low), TAIL, TAIL_MATTERS),
    ]


def _kinds(reference: Sequence[Entry], name: str, kind_of: Callable[[Entry], str]) -> list[Share]:
    """A share per kind that the reference has, and one for all others."""
    counts = Counter(kind_of(entry) for entry in reference)
    common = {kind for kind, count in counts.items() if kind == "" or count >= RARE * len(reference)}

    def is_kind(kind: str) -> Look:
        return lambda entry: kind_of(entry) == kind

    found = [
        Share(name, kind, is_kind(kind), *_kind(_share(counts[kind], len(reference)))) for kind in sorted(common - {""})
    ]
    rare = sum(count for kind, count in counts.items() if kind not in common)
    expected = max(RARE, _share(rare, len(reference)))
    return [*found, Share(f"{name}_other", "", lambda entry: kind_of(entry) not in common, *_kind(expected))]


def _positive(entry: Entry) -> bool | None:
    return None if entry.probability is None else entry.positive


def _more(expected: float) -> tuple[float, float]:
    """A share, and the double of it (half of the way to all where that is less)."""
    return expected, min(2 * expected, (1 + expected) / 2)


def _kind(expected: float) -> tuple[float, float]:
    return expected, min(2 * expected + KIND_MATTERS, (1 + expected) / 2)


def _share(count: int, of: int) -> float:
    """Never 0 or 1: the rule of succession."""
    return (count + 1) / (of + 2)


def _quantile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
