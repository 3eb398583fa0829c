"""What the node said, a line a study, for as long as the state directory lives: results themselves are deleted.

One file that only grows, about 400 bytes a study, for drift, the monthly report and monitoring. No patient data: the
number of the job, when, from which calling AE title, priority, reason, figures and the time of each stage. What is not
in it yet is added whenever somebody looks (`catch_up`); a line that is torn or comes twice changes nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from ich_node.board.studies import Card
from ich_node.domain.errors import StoreError

MODE = 0o640  # as everything else in the state directory
FIRST_ANSWERS = frozenset({"STAT", "HIGH", "ROUTINE", "NOT ANALYSED", "SUPERSEDED"})


@dataclass(frozen=True, slots=True)
class Entry:
    """One study's first answer. moment: when its series was whole, Unix s. answered_s: from then to the last move.

    stages: seconds of each stage of the analysis; empty in lines of an older version.
    priority, probability, brain_hu, noise_hu: None when not analysed. reason_code: None when analysed.
    """

    job_id: int
    moment: float
    answered_s: float
    model: str
    priority: str | None
    reason_code: str | None
    positive: bool
    probability: float | None
    labels: tuple[str, ...]
    brain_hu: float | None
    noise_hu: float | None
    scanner: str
    caller: str
    stages: Mapping[str, float] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class NewReference:
    """Somebody said that what comes from now on is the normal state."""

    moment: float
    person: str


Line = Entry | NewReference


class Record:
    """The file, and what stands in it, in order."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: set[int] = set()
        self.lines: list[Line] = [line for line in _read(path) if self._is_news(line)]

    def catch_up(self, cards: Iterable[Card]) -> list[Entry]:
        """Add the results that are not there yet, oldest first, and return them. Raises StoreError on a full disk."""
        new = sorted((card for card in cards if card.job.id not in self._known), key=lambda card: card.job.id)
        news = [entry for card in new if (entry := entry_of(card)) is not None]
        self._append(news)
        return news

    def begin_anew(self, moment: float, person: str) -> NewReference:
        """Keep that a new reference begins; it is on disk when this returns. Raises StoreError on a full disk."""
        line = NewReference(moment, person)
        self._append([line])
        return line

    def entries(self) -> list[Entry]:
        """The studies."""
        return [line for line in self.lines if isinstance(line, Entry)]

    def _append(self, news: Iterable[Line]) -> None:
        lines = [line for line in news if self._is_news(line)]
        if not lines:
            return
        data = "".join(json.dumps(asdict(line), ensure_ascii=False) + "\n" for line in lines).encode()
        try:
            self._path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, MODE)
            try:
                os.write(descriptor, b"\n" + data)  # an empty line ends what a power cut has torn
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            self._known -= {line.job_id for line in lines if isinstance(line, Entry)}
            raise StoreError(f"{self._path}: {error.strerror}") from error
        self.lines += lines

    def _is_news(self, line: Line) -> bool:
        """Whether it is the first of its kind; remembers it."""
        if isinstance(line, NewReference):
            return True
        new = line.job_id not in self._known
        self._known.add(line.job_id)
        return new


def entry_of(card: Card) -> Entry | None:
    """What is kept of a card; None while there is no result, and of results that correct another."""
    result, job = card.result, card.job
    if result is None or card.standing not in FIRST_ANSWERS or job.predecessor is not None or job.revision:
        return None
    return Entry(
        job_id=job.id,
        moment=job.created_at,
        answered_s=max([job.updated_at, *(item.last_s for item in card.destinations)]) - job.created_at,
        model=result.model,
        priority=job.priority,
        reason_code=result.reason_code,
        positive=bool(result.findings),
        probability=result.probability,
        labels=tuple(sorted(finding.label for finding in result.findings if finding.label != "any")),
        brain_hu=result.brain_hu,
        noise_hu=result.noise_hu,
        scanner=result.scanner,
        caller=job.calling_ae_title or "",
        stages=result.stages,
    )


def _read(path: Path) -> Iterator[Line]:
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return
    names = {item.name for item in fields(Entry)}
    for line in lines:
        try:
            data = json.loads(line)
            if "person" in data:
                yield NewReference(float(data["moment"]), str(data["person"]))
            else:
                known = {name: value for name, value in data.items() if name in names}
                yield Entry(**{**known, "labels": tuple(known["labels"])})
        except (ValueError, TypeError, KeyError):
            continue  # torn by a power cut, or empty
