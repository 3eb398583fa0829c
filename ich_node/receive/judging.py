"""Judging in a child process: who is asked what next, and what becomes of a child that dies.

In: `Work`, a course of questions about one series (inquiry.py). Out: the answers go back into it. Questions take turns.
There are two children: one for all series, of which a question may cost QUICK_S, and one for those that have cost a
child its life, so that they hold up only each other. A death is noted beside the series (`Spool`), as that of the
address whose image was read: it is judged by itself from then on, after the others, and after MOST_ATTEMPTS no more.
Nothing here waits: `go_on` asks and listens for a moment.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from heapq import nsmallest
from itertools import count
from multiprocessing.connection import wait
from typing import Any, Protocol

from ich_node.receive.inquiry import EVERYBODY, Answer, Garbled, Question, Steps
from ich_node.runtime import caged, logs
from ich_node.store.spool import Spool

QUICK_S, PATIENT_S = 4.0, 20.0
"""CPU seconds of a question: three times as slow as it was measured on a busy machine, 2,000 thin slices take 3.4, and
the header of 2,000 frames takes 9 (tests/benchmarks/test_budgets.py)."""
FADING, FORGOTTEN_S = 0.998, 0.002
"""Of what judging has cost a sender, each time: half of it is forgotten after half a minute, the rest in the end."""
AHEAD_S = 1.0
"""CPU seconds by which a sender's judging may be ahead of that of others who wait: that of a few hundred images."""
AGAIN_S = 5.0
"""Seconds until another child is started where one does not start: it takes a person to mend that."""
MOST_AT_ONCE = 8
"""Series of which headers are read in turn: what a child keeps of them has a bound."""
LONGEST_ANSWER = 1 << 24
"""Bytes: every image of a series is named three times at most, of which there are 80,000 then."""


class Asked(Protocol):
    """A child, as `caged.Child` is one."""

    def send(self, question: Any, data: bytes, cpu_s: float) -> None:
        """Ask."""

    def some(self) -> bytes:
        """What has come of its answer."""

    def fileno(self) -> int:
        """To wait for that."""

    @property
    def cpu_s(self) -> float:
        """CPU seconds that it has taken so far."""

    def end(self) -> None:
        """End it."""


def open_child() -> Asked:
    """A process that judges; OSError when there can be none."""
    return caged.Child("ich_node.receive.judge")


@dataclass(eq=False)
class Work:
    """A course of questions about a series. addresses: of whom its images are, as far as that is known."""

    series_uid: str
    steps: Steps
    addresses: Collection[str]
    patient: bool = False
    question: Question | None = None
    begun: bool = False
    done: bool = False
    number: int = field(default_factory=count().__next__)


@dataclass(eq=False)
class Lane:
    """A child and what it is asked. cpu_s: that a question may cost."""

    cpu_s: float
    patient: bool
    child: Asked | None = None
    ready: bool = False
    heard: bytes = b""
    work: Work | None = None
    turns: deque[Work] = field(default_factory=deque)
    most_s: float = 0.0  # that the senders of those may have cost
    before_s: float = 0.0  # CPU seconds of the child before the question
    until_s: float = 0.0  # after that it hangs
    not_before_s: float = 0.0


class Judging:
    """See the module's text."""

    def __init__(self, spool: Spool, children: Callable[[], Asked] = open_child) -> None:
        self._spool = spool
        self._children = children
        self._lanes = (Lane(QUICK_S, patient=False), Lane(PATIENT_S, patient=True))
        self._spent_s: dict[str, float] = {}  # address → CPU seconds of judging lately

    def go_on(self, works: Collection[Work], seconds: float) -> None:
        """Ask and listen for so many seconds at most; what is in no `works` any more is dropped.

        Raises what a course of questions raises, which is done then.
        """
        end = time.monotonic() + seconds
        self._spent_s = {address: kept for address, s in self._spent_s.items() if (kept := FADING * s) > FORGOTTEN_S}
        works = frozenset(works)
        for work in works:
            if work.question is None and not work.done:
                self._advance(work, None)
        self._open(self._lanes[0])  # it takes a second to load what it needs
        while True:
            for lane in self._lanes:
                if lane.work is None and time.monotonic() >= lane.not_before_s:
                    self._ask(lane, works)
            busy: dict[Any, Lane] = {lane.child: lane for lane in self._lanes if lane.work is not None}
            spoke = wait(list(busy), max(0.0, end - time.monotonic())) if busy else []
            for child in spoke:
                self._listen(busy[child], works)
            for lane in busy.values():
                if lane.work is not None and time.monotonic() > lane.until_s:
                    self._lost(lane)
            if not spoke or time.monotonic() >= end:
                return

    def close(self) -> None:
        """End the children."""
        for lane in self._lanes:
            if lane.child is not None:
                lane.child.end()
                lane.child, lane.work = None, None

    # --- asking ----------------------------------------------------------------------------------------------------

    def _ask(self, lane: Lane, works: Collection[Work]) -> None:
        """Ask the next question: of a few series in turn, but not of who costs much more than others."""
        work = self._next(lane, works)
        if work is None or not self._open(lane) or lane.child is None:
            return
        work.begun = True
        lane.work, lane.before_s = work, lane.child.cpu_s if lane.ready else 0.0
        start_s = 0.0 if lane.ready else caged.START_S
        lane.until_s = time.monotonic() + start_s + caged.ANSWERING_S + caged.CPU_TO_WALL * lane.cpu_s
        try:
            lane.child.send({**(work.question or {}), "cpu_s": lane.cpu_s}, b"", 0.0)
        except OSError:
            self._lost(lane)

    def _next(self, lane: Lane, works: Collection[Work]) -> Work | None:
        while lane.turns:
            work = lane.turns.popleft()
            if work in works and not work.done and self._cost_s(work) <= lane.most_s:
                return work
        waiting = [work for work in works if work.patient == lane.patient and not work.done]
        if waiting:
            lane.most_s = min(map(self._cost_s, waiting)) + AHEAD_S
            cheap = [work for work in waiting if self._cost_s(work) <= lane.most_s]
            lane.turns.extend(nsmallest(MOST_AT_ONCE, cheap, key=lambda work: (not work.begun, work.number)))
        return lane.turns.popleft() if lane.turns else None

    def _open(self, lane: Lane) -> bool:
        """Start a child if there is none."""
        if lane.child is None and time.monotonic() >= lane.not_before_s:
            try:
                lane.child, lane.ready, lane.heard = self._children(), False, b""
            except OSError:
                self._lost(lane)
        return lane.child is not None

    def _cost_s(self, work: Work) -> float:
        """What the judging of images of its senders has cost lately; of several, what that of the cheapest one has."""
        return min((self._spent_s.get(address, 0.0) for address in work.addresses), default=0.0)

    # --- listening -------------------------------------------------------------------------------------------------

    def _listen(self, lane: Lane, works: Collection[Work]) -> None:
        assert lane.child is not None and lane.work is not None  # noqa: S101
        try:
            some = lane.child.some()
            lane.heard += some
            if not some or len(lane.heard) > LONGEST_ANSWER:
                raise EOFError
            if not lane.ready and lane.heard.startswith(caged.READY):
                lane.ready, lane.heard = True, lane.heard[len(caged.READY) :]
                lane.before_s = lane.child.cpu_s
            if not lane.heard.endswith(b"\n"):
                return
            answer = json.loads(lane.heard)
            self._charge(lane.work, lane.child.cpu_s - lane.before_s)
            if lane.work in works:
                is_look = (lane.work.question or {}).get("do") == "look"
                self._advance(lane.work, answer)
                lane.work.addresses = list(answer["addresses"]) if is_look else lane.work.addresses
            else:
                lane.work.steps.close()
        except (OSError, EOFError, Garbled, json.JSONDecodeError, UnicodeDecodeError, RecursionError):
            self._lost(lane)
        finally:
            if lane.heard.endswith(b"\n"):
                lane.heard, lane.work = b"", None

    def _advance(self, work: Work, answer: Answer | None) -> None:
        try:
            work.question = work.steps.send(answer) if answer is not None else next(work.steps)
        except StopIteration:
            work.done = True
        except BaseException:
            work.done = True
            raise

    def _charge(self, work: Work, seconds: float) -> None:
        whose = _blamed(work)
        self._spent_s[whose] = self._spent_s.get(whose, 0.0) + seconds

    def _lost(self, lane: Lane) -> None:
        """The child died, hangs, talks nonsense or does not start, which is not for the series."""
        work, child, was_ready = lane.work, lane.child, lane.ready
        lane.child, lane.work, lane.ready, lane.heard = None, None, False, b""
        if child is not None:
            child.end()
        if work is None or not was_ready:
            lane.not_before_s = time.monotonic() + AGAIN_S
            logs.get().error("child_ended", child="judge", reason="it does not start", retry_in_s=AGAIN_S)
            return
        whose = _blamed(work)
        logs.get().error("child_ended", child="judge", series=work.series_uid, address=whose)
        self._spool.judging_failed(work.series_uid, whose)
        self._charge(work, lane.cpu_s)
        work.steps.close()
        work.done = True


def _blamed(work: Work) -> str:
    """Whose images a question is about; EVERYBODY when they are of several."""
    asked = (work.question or {}).get("addresses") or work.addresses
    return next(iter(asked)) if len(asked) == 1 else EVERYBODY
