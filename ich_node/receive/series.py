"""What the assembler knows of a series: while it grows, and once it is judged."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from ich_node.dicom.eligibility import Verdict
from ich_node.dicom.study import Candidate
from ich_node.domain.dicom import AETitle, Peer, Series
from ich_node.domain.ledger import Origin
from ich_node.receive.judging import Work


@dataclass(slots=True)
class Flow:
    """How images came: those of a series, or those of one sender among them. See completeness.Evidence."""

    last_s: float
    open: set[Hashable] = field(default_factory=set)
    released_s: float | None = None
    aborted: bool = False  # one of its associations was: what that one had left comes again
    rounds: int = 0
    pauses_s: tuple[float, float] = (0.0, 0.0)  # the two longest, longest first
    judged: bool = False  # since the last one came

    def came(self, association: Hashable, now: float) -> None:
        """An image came."""
        longest, second, _ = sorted((*self.pauses_s, now - self.last_s), reverse=True)
        self.pauses_s = (longest, second)
        if association not in self.open:
            self.rounds += not self.open
            self.open.add(association)

    def stirred(self, now: float) -> None:
        """An image came, or was refused."""
        self.last_s, self.judged = max(now, self.last_s), False

    def ended(self, association: Hashable, released: bool, now: float) -> None:
        """An association ended."""
        if association in self.open:
            self.open.discard(association)
            self.aborted |= not released
            self.released_s = None if self.aborted else now


@dataclass(slots=True)
class Growing:
    """A series that comes in, or came in a short while ago."""

    studies: set[str]
    flow: Flow
    flows: dict[Peer | None, Flow] = field(default_factory=dict)  # those of each sender; None: not known
    refused: dict[str, tuple[Peer | None, bool]] = field(default_factory=dict)  # SOP Instance UID → sender, for space
    looked: bool = False  # at its slices, since the last instance came
    settled: bool = False
    early: int | None = None  # the job that was queued while its results may still be held back
    held: bool = False  # a job of it waits until it is judged again
    work: Work | None = None


def sender_of(origin: Origin) -> Peer | None:
    """Who sent it, where that is known."""
    title, address = origin.calling_ae_title, origin.calling_address
    return Peer(AETitle(title), address) if title is not None and address is not None else None


@dataclass(frozen=True, slots=True)
class Judged:
    """A set of images with its verdict, until the study's other series are judged, or until the study is quiet.

    publish_s: the results may go out from then on, by our clock.
    """

    series: Series
    origin: Origin
    verdict: Verdict
    rank: int
    publish_s: float

    @property
    def sender(self) -> Peer | None:
        """Who sent the images, or the first of them."""
        return sender_of(self.origin)

    @property
    def candidate(self) -> Candidate:
        """As the choice among the series of a study sees it."""
        return Candidate(self.series.series_uid, self.verdict, len(self.series.instances))
