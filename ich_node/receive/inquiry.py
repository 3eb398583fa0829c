"""Questions about one series, as a course of them (`Steps`), and what their answers are worth.

In: what is known of a series. Out: an `Outcome`: sets of images with verdicts. Answers come from a process that has
looked at hostile bytes (judge.py), so nothing that it says is taken for granted; `Garbled` is what it must not say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ich_node.dicom.eligibility import Eligible, NotAnalysed, Partial, SetAside, Verdict
from ich_node.dicom.identity import is_uid
from ich_node.domain.dicom import AETitle, Instance, Peer, Series
from ich_node.domain.ledger import Origin
from ich_node.domain.reasons import Reason, Why
from ich_node.store.spool import Spool

MOST_ATTEMPTS = 3
"""At judging images that cost a child its life: after that they are told without being read."""
LONGEST_WORDS = 200
"""Characters of a reason's value: they are our own words."""
SHA256_BYTES = 32
EVERYBODY = "*"
"""Whose images cost the child its life, where that is not known."""

Question = dict[str, Any]
Answer = dict[str, Any]
Steps = Generator[Question, Answer, None]


class Garbled(Exception):
    """An answer is not one."""


@dataclass(frozen=True, slots=True)
class Found:
    """A set of images that were judged together. names: of their files."""

    study_uid: str
    names: tuple[str, ...]
    senders: frozenset[Peer | None]
    origin: Origin
    verdict: Verdict
    is_urgent: bool


@dataclass(slots=True)
class Outcome:
    """What became of a part of a series: sets, and names of files that were read, cost too much, or cannot be read.

    whole: it is one set, and a whole stack by itself (completeness.is_whole_stack)."""

    sets: list[Found] = field(default_factory=list)
    whole: bool = False
    read: set[str] = field(default_factory=set)
    too_costly: set[str] = field(default_factory=set)
    unreadable: set[str] = field(default_factory=set)

    def __iadd__(self, other: Outcome) -> Outcome:
        self.sets += other.sets
        self.whole = False
        self.read |= other.read
        self.too_costly |= other.too_costly
        self.unreadable |= other.unreadable
        return self


@dataclass(frozen=True, slots=True)
class Inquiry:
    """Questions about a series. urgent: `receive.urgent_rule`."""

    series_uid: str
    folder: str
    urgent: Mapping[str, str]

    def look(self) -> Generator[Question, Answer, dict[str, float]]:
        """Whose images are there, and what their reading has cost."""
        answer = yield self._question("look")
        with _checked():
            return {str(address): float(s) for address, s in answer["addresses"].items()}

    def read(self, addresses: Mapping[str, float]) -> Generator[Question, Answer, None]:
        """Read all that came from some addresses, the cheapest one first."""
        left = dict(addresses)
        while left:
            address = min(left, key=lambda each: left[each])
            answer = yield self._question("read", addresses=[address])
            with _checked():
                more, left[address] = answer["more"], float(answer["cost"])
            if not more:
                del left[address]

    def judge(
        self, addresses: Collection[str], refused: Mapping[Peer | None, Why], names: Callable[[], Collection[str]]
    ) -> Generator[Question, Answer, Outcome]:
        """Judge what came from some addresses. refused: why images of a sender were. names: of the files there are
        by then."""
        told = [[[sender.ae_title, sender.address] if sender else None, str(why)] for sender, why in refused.items()]
        for _ in range(MOST_ATTEMPTS):
            answer = yield self._question("judge", addresses=list(addresses), refused=told)
            with _checked():
                if not answer.get("unread"):
                    return _judged(answer, frozenset(names()))
            yield from self.read(dict.fromkeys(addresses, 0.0))  # it had to make room in between
        raise Garbled

    def verdict(self, names: Collection[str]) -> Generator[Question, Answer, bool]:
        """Whether some images may be analysed."""
        answer = yield self._question("verdict", names=list(names))
        with _checked():
            return bool(answer["eligible"])

    def _question(self, do: str, **more: Any) -> Question:
        return {"do": do, "folder": self.folder, "urgent": dict(self.urgent), **more}


def parts(addresses: Collection[str], failures: Counter[str]) -> tuple[list[list[str]], list[str]]:
    """Whose images are judged together, those first that cost no child its life; and whose are given up."""
    count = {address: failures[address] + failures[EVERYBODY] for address in addresses}
    innocent = [address for address in addresses if not count[address]]
    alone = [[address] for address in addresses if 0 < count[address] < MOST_ATTEMPTS]
    given_up = [address for address in addresses if count[address] >= MOST_ATTEMPTS]
    return [part for part in (innocent, *alone) if part], given_up


def named(study_uid: str, series_uid: str, names: Iterable[str], spool: Spool) -> Series:
    """Images by the names of their files: that of a second image under one SOP Instance UID is not the UID."""
    paths = spool.paths(series_uid, list(names))
    return Series(study_uid, series_uid, tuple(Instance(study_uid, series_uid, "", p.stem, "", p) for p in paths))


# --- answers, checked ----------------------------------------------------------------------------------------------


@contextmanager
def _checked() -> Iterator[None]:
    """Whatever goes wrong in reading an answer makes it Garbled."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, RecursionError) as error:
        raise Garbled from error


def _judged(answer: Answer, names: frozenset[str]) -> Outcome:
    found = [_found(each, names) for each in answer["sets"]]
    listed = [_names(answer[key], names) for key in ("read", "too_costly", "unreadable")]
    return Outcome(found, bool(answer["whole"]), *map(set, listed))


def _found(told: Mapping[str, Any], names: frozenset[str]) -> Found:
    if not is_uid(told["study"]):
        raise ValueError
    sender = _peer(told["sender"])
    origin = Origin(
        calling_ae_title=sender.ae_title if sender else None,
        calling_address=sender.address if sender else None,
        patient_hash=_digest(told["patient"]),
        accession_hash=None if told["accession"] is None else _digest(told["accession"]),
    )
    verdicts = {kind.__name__: kind for kind in (NotAnalysed, Partial, SetAside)}
    verdict = Eligible() if told["verdict"] == "Eligible" else verdicts[told["verdict"]](_reason(told["reason"]))
    senders = frozenset(map(_peer, told["senders"]))
    return Found(told["study"], _names(told["names"], names), senders, origin, verdict, bool(told["urgent"]))


def _names(told: Any, names: frozenset[str]) -> tuple[str, ...]:
    if not names.issuperset(told):
        raise ValueError
    return tuple(told)


def _peer(told: Any) -> Peer | None:
    return None if told is None else Peer(AETitle(told[0]), str(told[1])[:LONGEST_WORDS])


def _digest(told: str) -> str:
    if len(bytes.fromhex(told)) != SHA256_BYTES:
        raise ValueError
    return told


def _reason(told: Any) -> Reason:
    code, values = told
    return Reason(Why(code), **{name: _value(value) for name, value in values.items()})


def _value(value: Any) -> int | float | str | Reason:
    if isinstance(value, list):
        return _reason(value)
    if isinstance(value, str):
        return "".join(filter(str.isprintable, value[:LONGEST_WORDS]))
    if isinstance(value, int | float):
        return value
    raise TypeError
