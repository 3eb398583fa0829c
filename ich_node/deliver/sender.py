"""One destination's sender: what is due goes out in order, and every answer becomes one move of the ledger.

  due ──▶ connect ──▶ send ──▶ sent | refused | postponed

How a kind of destination connects and sends is its own (dicom/, hl7/, web/); when to try again is decided here alone.

Invariants: the items of a job go out in their order: a transient failure stops the batch for a few tries, a
permanent refusal stops nothing.

  no connection, no answer    the destination is left alone for a growing time (jittered exponential back-off);
                              meanwhile it is asked (C-ECHO) whether it answers again, and then everything goes at once
  hung up after answers       a new connection at once
  a transient status          the item is tried a few times, then it stands aside for a growing time of its own and
                              the others pass; as long as nothing gets through, each of them is tried once. Whatever
                              their waits, one of what stands aside is tried every minute; when it gets through, the
                              others of its SOP Class go at once
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

from pydicom.uid import UID

from ich_node.deliver.answer import Answer, Verdict
from ich_node.dicom.requestor import Rejected
from ich_node.domain.errors import PeerRefused, PeerUnavailable, StoreError
from ich_node.domain.ledger import Delivery, Sent
from ich_node.runtime import audit, logs
from ich_node.runtime.config import DeliverConfig
from ich_node.runtime.patience import Patience
from ich_node.runtime.service import Stop
from ich_node.store.ledger.protocols import Bell, Ledger

BATCH = 64
"""Instances asked for at a time: an association is opened for all that they need."""
WRITE_DOWN_EVERY = 16
"""Answers in one transaction; as many are asked for again after a crash, under the same UIDs. A STAT result
waits for at most this many others."""
POLL_S = 0.5
"""For what no bell told; a stop waits for it."""
STAND_ASIDE_ATTEMPTS = 3
"""An instance that failed this often lets the others pass before it is tried again."""
PROBE_S = 30.0
"""How soon a destination that answers again is noticed."""
RETRY_ASIDE_S = 60.0
"""One instance that stands aside is tried this often, whatever its own wait: the fault may be mended."""


Load = Any
"""What a kind of destination sends for one delivery; only that kind looks into it."""


class Connection(Protocol):
    """What the sender needs of an open line to a destination."""

    @property
    def alive(self) -> bool:
        """Whether another load can go out on it."""

    @property
    def last_progress(self) -> float:
        """When the peer last gave a sign, time.monotonic(); an age beyond the longest wait means that it hangs."""

    def covers(self, loads: Sequence[Load]) -> bool:
        """Whether every load may be sent on this line; a new one is opened otherwise."""

    def send(self, load: Load) -> Answer:
        """Send one load and wait for the answer, within the configured bounds; a fault is an answer too."""

    def release(self) -> None:
        """End it in order."""

    def interrupt(self) -> None:
        """End whatever it waits for, from any thread."""


class Peer(Protocol):
    """What the sender needs of a kind of destination; each method may raise PeerUnavailable or PeerRefused."""

    node: audit.Node

    def load(self, item: Delivery) -> Load:
        """What goes out for a delivery."""

    def connect(self, loads: Sequence[Load]) -> Connection:
        """An open line that covers the loads, as far as the peer lets it."""

    def answers(self) -> bool:
        """Whether the destination answers again; asked while it is given time, so it is cheap."""


@dataclass
class _Tally:
    """What happened to one job's instances in one batch; `answers` are not yet in the ledger."""

    begin: float
    answers: list[Sent] = field(default_factory=list)

    sent: Counter[str] = field(default_factory=Counter)  # SOP Class UID → instances
    refused: Counter[str] = field(default_factory=Counter)
    alternates: list[str] = field(default_factory=list)


class Sender:
    """Delivers to one destination. step() is driven by run(); clock and random source are injected for tests."""

    def __init__(
        self,
        name: str,
        options: DeliverConfig,
        store: Ledger,
        peer: Peer,
        bell: Bell,
        *,
        clock: Callable[[], float] = time.time,
        random_source: random.Random | None = None,
    ) -> None:
        self.name = f"deliver-{name}"
        self._destination = name
        self._seen_alive = time.monotonic()
        self._options = options
        self._store = store
        self._peer = peer
        self._clock = clock
        self._bell = bell
        self._patience = Patience(options.retry_base_s, options.retry_max_s, random_source or random.Random())
        self._connection: Connection | None = None
        self._answered = False  # on this association
        self._idle_since = clock()
        self._failures = 0  # of the destination, since its last answer
        self._held_since = self._held_until = self._next_probe = 0.0
        self._probe_wait = PROBE_S
        self._passing = False  # an instance stands aside and nothing has got through since
        self._next_aside = 0.0
        self._log = logs.get().bind(destination=name)
        self._stop: Stop = threading.Event()

    # --- life ------------------------------------------------------------------------------------------------------

    def run(self, stop: Stop) -> None:
        """Deliver until `stop` is set."""
        self._stop = stop
        try:
            with self._bell.listen() as ear:
                while not stop.is_set():
                    self._seen_alive = time.monotonic()
                    ear.wait(self.step())
        finally:
            self._hang_up()

    @property
    def last_sign_of_life(self) -> float:
        """When this thread, or the line to the peer, moved last; time.monotonic()."""
        connection = self._connection
        return max(self._seen_alive, 0.0 if connection is None else connection.last_progress)

    def interrupt(self) -> None:
        """From another thread: end a wait for the peer. What had no answer stays owed."""
        connection = self._connection
        if connection is not None:
            connection.interrupt()

    def step(self) -> float:
        """Do what is due now; returns the seconds until there may be more to do, at most POLL_S."""
        if self._connection is not None and self._clock() - self._idle_since >= self._options.linger_s:
            self._hang_up()
        try:
            if self._clock() < self._held_until and not self._answers_again():
                return POLL_S
            due = self._store.due(self._destination, BATCH) or self._one_aside()
            if not due:
                return POLL_S
            self._deliver(due)
        except StoreError as error:  # locked or full: what was sent without being recorded is sent again, unchanged
            self._hold(str(error), self._patience.wait(1))
        self._idle_since = self._clock()
        return 0.0

    def _answers_again(self) -> bool:
        """While the destination is left alone: ask it now and then; True ends the back-off, as an operator does."""
        now = self._clock()
        if self._store.hurried_at(self._destination) >= self._held_since:
            self._held_until = 0.0
            return True
        if now < self._next_probe or not self._store.due(self._destination, 1):
            return False
        self._next_probe = now + self._probe_wait
        if not self._peer.answers():
            return False
        self._probe_wait = min(2 * self._probe_wait, self._options.retry_max_s)  # until more than an echo is answered
        self._held_until = 0.0
        return True

    def _one_aside(self) -> list[Delivery]:
        """Of what stands aside the one that was tried least, once a minute."""
        if self._clock() < self._next_aside:
            return []
        self._next_aside = self._clock() + RETRY_ASIDE_S
        return self._store.waiting(self._destination, 1)

    # --- one batch -------------------------------------------------------------------------------------------------

    def _deliver(self, due: Sequence[Delivery]) -> None:
        """Send a batch, job by job, until it is through or the destination fails."""
        readable = [(item, load) for item in due if (load := self._load(item)) is not None]
        if not readable:
            return
        try:
            connection = self._connected([load for _, load in readable])
        except PeerUnavailable as error:
            self._unreachable([item for item, _ in readable], error)
            return
        except PeerRefused as error:
            for item, _ in readable:
                self._refuse(item, None, str(error))
            return
        for job_id, group in groupby(readable, key=lambda pair: pair[0].job_id):
            if not self._deliver_job(connection, job_id, list(group)):
                return

    def _deliver_job(self, connection: Connection, job_id: int, batch: Sequence[tuple[Delivery, Load]]) -> bool:
        """Send one job's part of a batch; False when the destination failed or we are to stop."""
        tally = _Tally(self._clock())
        try:
            for item, load in batch:
                if self._stop.is_set() or not self._deliver_one(connection, item, load, tally):
                    return False
            return True
        finally:
            self._write_down(tally)
            self._tell(job_id, tally, batch[0][0].path)

    def _deliver_one(self, connection: Connection, item: Delivery, load: Load, tally: _Tally) -> bool:
        """Send one item and note the answer; False on a transient failure."""
        self._seen_alive = time.monotonic()
        answer = connection.send(load)
        if answer.verdict is Verdict.LATER:
            self._write_down(tally)
            return self._postpone(item, answer)
        self._answered_well()
        if answer.verdict is Verdict.REFUSED:
            tally.refused[item.sop_class_uid] += 1
            self._refuse(item, answer.code, answer.cause, answer.in_full)
            return True
        self._passing = False
        sop_class_uid, sop_instance_uid = answer.sent_as or (item.sop_class_uid, item.item)
        if answer.sent_as is not None:
            tally.alternates.append(UID(sop_class_uid).name.removesuffix(" Storage"))
        what = (sop_class_uid, sop_instance_uid) if item.is_instance else (None, None)
        tally.answers.append(Sent(item, answer.code or "", answer.in_full, *what))
        tally.sent[sop_class_uid] += 1
        self._call_back(item)
        if len(tally.answers) >= WRITE_DOWN_EVERY:
            self._write_down(tally)
            return not self._overtaken(item)
        return True

    def _overtaken(self, item: Delivery) -> bool:
        """Whether something more urgent than `item` has come."""
        first = self._store.due(self._destination, 1)
        return bool(first) and first[0].job_id > item.job_id  # later, and yet before what is left of this job

    def _call_back(self, item: Delivery) -> None:
        """Something that stood aside got through: what else stands aside of its SOP Class is sent again now."""
        if item.attempts >= STAND_ASIDE_ATTEMPTS:
            self._store.release(self._destination, item.sop_class_uid)

    def _write_down(self, tally: _Tally) -> None:
        """Put the answers at hand into the ledger, in one transaction."""
        answers, tally.answers = tally.answers, []
        if answers:
            self._store.sent_all(answers)

    def _tell(self, job_id: int, tally: _Tally, sample: Path) -> None:
        """One line in the log and one or two messages in the audit trail for one job's part of a batch."""
        for counts, success in ((tally.sent, True), (tally.refused, False)):
            instances = Counter({sop_class: count for sop_class, count in counts.items() if sop_class})
            if instances:
                audit.get().sent(self._peer.node, instances, sample, success=success)
            if counts[""]:  # a message has no SOP Class
                audit.get().exported(self._peer.node, sample.parent, success=success)
        if tally.sent:
            self._log.info(
                "delivery_finished",
                job=job_id,
                sent=tally.sent.total(),
                refused=tally.refused.total(),
                alternates=tally.alternates,
                seconds=round(self._clock() - tally.begin, 3),
            )

    def _load(self, item: Delivery) -> Load | None:
        try:
            return self._peer.load(item)
        except PeerRefused as error:
            self._refuse(item, None, str(error))
            return None

    def _connected(self, loads: Sequence[Load]) -> Connection:
        """The open connection if it is alive and made for such loads, else a new one."""
        if self._connection is not None and self._connection.alive and self._connection.covers(loads):
            return self._connection
        self._hang_up()
        self._answered = False
        self._connection = self._peer.connect(loads)
        return self._connection

    def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and connection.alive:
            connection.release()

    # --- failures --------------------------------------------------------------------------------------------------

    def _answered_well(self) -> None:
        self._answered = True
        self._failures = 0
        self._probe_wait = PROBE_S

    def _unreachable(self, due: Sequence[Delivery], error: PeerUnavailable) -> None:
        """No association: the whole destination waits; its first delivery carries the cause, old ones are given up."""
        self._failures += 1
        permanent = isinstance(error, Rejected) and error.permanent
        self._hold(str(error), self._patience.longest() if permanent else self._patience.wait(self._failures))
        for position, item in enumerate(due):
            if self._too_old(item):
                self._give_up(item, None, str(error))
            elif position == 0:
                self._store.postpone(item, None, str(error), self._clock())

    def _postpone(self, item: Delivery, answer: Answer) -> bool:
        """A transient failure while sending `item`; returns whether the next one is to be tried at once."""
        if self._too_old(item):
            self._give_up(item, answer.code, answer.cause, answer.in_full)
            return answer.code is not None
        if answer.code is None:
            self._no_answer(item, answer)
            return False
        self._answered_well()
        tries = item.attempts + 1
        if tries < STAND_ASIDE_ATTEMPTS and not self._passing:
            self._store.postpone(item, answer.code, answer.in_full, self._clock())
            self._hold(answer.cause, self._patience.wait(tries), job=item.job_id, code=answer.code)
            return False
        self._passing = True
        self._stand_aside(item, answer, self._patience.wait(tries))
        return True

    def _no_answer(self, item: Delivery, answer: Answer) -> None:
        """The association ended. After an answer on it another one is opened at once, else the destination waits."""
        if self._answered:
            self._store.postpone(item, None, answer.cause, self._clock())
            return
        wait = self._patience.wait(self._failures + 1)
        self._failures += 1
        if item.attempts + 1 >= STAND_ASIDE_ATTEMPTS:
            self._stand_aside(item, answer, wait + self._patience.wait(item.attempts + 1))
        else:
            self._store.postpone(item, None, answer.cause, self._clock())
        self._hold(answer.cause, wait, job=item.job_id)

    def _stand_aside(self, item: Delivery, answer: Answer, wait_s: float) -> None:
        now = self._clock()
        self._next_aside = now + RETRY_ASIDE_S
        self._store.postpone(item, answer.code, answer.in_full, now + wait_s)

    def _hold(self, cause: str, wait_s: float, *, job: int | None = None, code: str | None = None) -> None:
        """Leave the destination alone for a while."""
        self._held_since = self._clock()
        self._held_until = self._held_since + wait_s
        self._next_probe = self._clock() + self._probe_wait
        self._log.warning(
            "delivery_postponed", cause=cause, failures=self._failures, wait_s=round(wait_s, 1), job=job, code=code
        )

    def _too_old(self, item: Delivery) -> bool:
        return self._clock() - item.created_at > self._options.give_up_after_h * 3600

    def _give_up(self, item: Delivery, code: str | None, cause: str, in_full: str = "") -> None:
        prefix = f"given up after {self._options.give_up_after_h:g} h: "
        self._refuse(item, code, prefix + cause, prefix + (in_full or cause))

    def _refuse(self, item: Delivery, code: str | None, cause: str, in_full: str = "") -> None:
        """For good. cause: our words, for the log. in_full: the peer's as well, for the ledger."""
        self._store.refused(item, code, in_full or cause)
        self._log.error("delivery_refused", job=item.job_id, item=item.item, code=code, cause=cause)
