"""One destination's sender: what is due goes out in order, and every answer becomes one move of the ledger.

  due ──▶ associate ──▶ C-STORE ──▶ sent | refused | postponed

Invariants: the instances of a job go out in their order: a transient failure stops the batch, a permanent refusal stops
nothing. Retry is decided here alone. A destination that fails is left alone for a growing time (jittered exponential
back-off); so is an instance that fails again and again while others get through, so that it blocks nobody.
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
from typing import Protocol

from pydicom.uid import UID

from ich_node.deliver.dicom import scu
from ich_node.deliver.dicom.answers import Answer, Verdict
from ich_node.domain.errors import PeerRefused, PeerUnavailable, StoreError
from ich_node.domain.ledger import Delivery, Sent, dimse_code
from ich_node.runtime import audit, logs
from ich_node.runtime.config import Config, DeliverConfig, DestinationConfig
from ich_node.runtime.service import Stop
from ich_node.store.ledger.protocols import Ledger

BATCH = 64
"""Instances asked for at a time: a STAT result waits for at most this many others."""
WRITE_DOWN_EVERY = 16
"""Answers in one transaction; as many are asked for again after a crash, under the same UIDs."""
POLL_S = 0.2
STAND_ASIDE_ATTEMPTS = 3
"""An instance that failed this often lets the others pass before it is tried again."""


class Connection(Protocol):
    """What the sender needs of scu.Association."""

    @property
    def alive(self) -> bool: ...
    def covers(self, files: Sequence[scu.Outgoing]) -> bool: ...
    def store(self, candidates: Sequence[scu.Outgoing]) -> tuple[Answer, scu.Outgoing]: ...
    def release(self) -> None: ...
    def interrupt(self) -> None: ...


Connect = Callable[[Sequence[scu.Outgoing]], Connection]


def backoff(attempts: int, options: DeliverConfig, random_source: random.Random) -> float:
    """Seconds to wait after `attempts` failures (≥ 1): doubles up to retry_max_s, then 50 to 100 % of it.

    Jitter, so that many nodes do not return to a PACS in the same second.
    """
    longest: float = min(options.retry_max_s, options.retry_base_s * 2.0 ** min(attempts - 1, 30))
    return longest * random_source.uniform(0.5, 1.0)


def connector(config: Config, destination: DestinationConfig) -> Connect:
    """Opens associations to `destination` with the presentation contexts that given files need."""

    def connect(files: Sequence[scu.Outgoing]) -> Connection:
        return scu.associate(config.ae_title, destination, config.deliver, scu.contexts_for(files))

    return connect


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
        destination: DestinationConfig,
        options: DeliverConfig,
        store: Ledger,
        connect: Connect,
        *,
        clock: Callable[[], float] = time.time,
        random_source: random.Random | None = None,
    ) -> None:
        self.name = f"deliver-{destination.name}"
        self.destination = destination
        self.last_sign_of_life = time.monotonic()
        self._options = options
        self._store = store
        self._connect = connect
        self._clock = clock
        self._random = random_source or random.Random()
        self._connection: Connection | None = None
        self._idle_since = clock()
        self._failures = 0  # of the destination, since its last good answer
        self._held_until = 0.0
        self._log = logs.get().bind(destination=destination.name)
        self._stop: Stop = threading.Event()

    # --- life ------------------------------------------------------------------------------------------------------

    def run(self, stop: Stop) -> None:
        """Deliver until `stop` is set."""
        self._stop = stop
        try:
            while not stop.is_set():
                self.last_sign_of_life = time.monotonic()
                stop.wait(self.step())
        finally:
            self._hang_up()

    def interrupt(self) -> None:
        """From another thread: end a wait for the peer. What had no answer stays owed."""
        connection = self._connection
        if connection is not None:
            connection.interrupt()

    def step(self) -> float:
        """Do what is due now; returns the seconds until there may be more to do, at most POLL_S."""
        if self._connection is not None and self._clock() - self._idle_since >= self._options.linger_s:
            self._hang_up()
        held = self._held_until - self._clock()
        if held > 0:
            return min(held, POLL_S)
        try:
            due = self._store.due(self.destination.name, BATCH)
            if not due:
                return POLL_S
            self._deliver(due)
        except StoreError as error:  # locked or full: what was sent without being recorded is sent again, unchanged
            self._hold(str(error))
        self._idle_since = self._clock()
        return 0.0

    # --- one batch -------------------------------------------------------------------------------------------------

    def _deliver(self, due: Sequence[Delivery]) -> None:
        """Send a batch, job by job, until it is through or the destination fails."""
        readable = [(item, files) for item in due if (files := self._files(item)) is not None]
        if not readable:
            return
        try:
            connection = self._connected([file for _, files in readable for file in files])
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

    def _deliver_job(
        self, connection: Connection, job_id: int, batch: Sequence[tuple[Delivery, tuple[scu.Outgoing, ...]]]
    ) -> bool:
        """Send one job's part of a batch; False when the destination failed or we are to stop."""
        tally = _Tally(self._clock())
        try:
            for item, files in batch:
                if self._stop.is_set() or not self._deliver_one(connection, item, files, tally):
                    return False
            return True
        finally:
            self._write_down(tally)
            self._tell(job_id, tally, batch[0][1][0].path)

    def _deliver_one(
        self, connection: Connection, item: Delivery, files: Sequence[scu.Outgoing], tally: _Tally
    ) -> bool:
        """Send one instance and note the answer; False on a transient failure."""
        self.last_sign_of_life = time.monotonic()
        answer, sent = connection.store(files)
        if answer.verdict is Verdict.LATER:
            self._write_down(tally)
            self._postpone(item, answer)
            return False
        self._failures = 0
        if answer.verdict is Verdict.REFUSED:
            tally.refused[item.sop_class_uid] += 1
            self._refuse(item, answer.status, answer.cause)
            return True
        cause = answer.cause
        if sent is not files[0]:
            cause = f"{cause}; sent as {_name(sent)}, because the peer does not take {_name(files[0])}"
            tally.alternates.append(_name(sent))
        tally.answers.append(
            Sent(item, dimse_code(answer.status or 0), cause, sent.sop_class_uid, sent.sop_instance_uid)
        )
        tally.sent[sent.sop_class_uid] += 1
        if len(tally.answers) >= WRITE_DOWN_EVERY:
            self._write_down(tally)
        return True

    def _write_down(self, tally: _Tally) -> None:
        """Put the answers at hand into the ledger, in one transaction."""
        answers, tally.answers = tally.answers, []
        if answers:
            self._store.sent_all(answers)

    def _tell(self, job_id: int, tally: _Tally, sample: Path) -> None:
        """One line in the log and one or two messages in the audit trail for one job's part of a batch."""
        peer = audit.Node(self.destination.ae_title, self.destination.host)
        for counts, success in ((tally.sent, True), (tally.refused, False)):
            if counts:
                audit.get().sent(peer, counts, sample, success=success)
        if tally.sent:
            self._log.info(
                "delivery_finished",
                job=job_id,
                sent=tally.sent.total(),
                refused=tally.refused.total(),
                alternates=tally.alternates,
                seconds=round(self._clock() - tally.begin, 3),
            )

    def _files(self, item: Delivery) -> tuple[scu.Outgoing, ...] | None:
        try:
            return scu.versions(item.path)
        except PeerRefused as error:
            self._refuse(item, None, str(error))
            return None

    def _connected(self, files: Sequence[scu.Outgoing]) -> Connection:
        """The open association if it is alive and offers what `files` need, else a new one."""
        if self._connection is not None and self._connection.alive and self._connection.covers(files):
            return self._connection
        self._hang_up()
        self._connection = self._connect(files)
        return self._connection

    def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and connection.alive:
            connection.release()

    # --- failures --------------------------------------------------------------------------------------------------

    def _unreachable(self, due: Sequence[Delivery], error: PeerUnavailable) -> None:
        """No association: the whole destination waits; its first delivery carries the cause, old ones are given up."""
        slowest = isinstance(error, scu.AssociationRejected) and error.permanent
        until = self._hold(str(error), slowest=slowest)
        for position, item in enumerate(due):
            if self._too_old(item):
                self._give_up(item, None, str(error))
            elif position == 0:
                self._store.postpone(item, None, str(error), until)

    def _postpone(self, item: Delivery, answer: Answer) -> None:
        """A transient failure while sending `item`: it is tried again first, unless it keeps failing."""
        if self._too_old(item):
            self._give_up(item, answer.status, answer.cause)
            return
        until = self._hold(answer.cause, job=item.job_id, status=answer.status)
        if item.attempts + 1 >= STAND_ASIDE_ATTEMPTS:
            own_wait = backoff(item.attempts + 1, self._options, self._random)
            until = max(self._clock() + own_wait, 2 * until - self._clock())
        self._store.postpone(item, dimse_code(answer.status), answer.cause, until)

    def _hold(self, cause: str, *, slowest: bool = False, job: int | None = None, status: int | None = None) -> float:
        """Leave the destination alone for a while; returns until when."""
        self._failures += 1
        wait = backoff(64 if slowest else self._failures, self._options, self._random)
        self._held_until = self._clock() + wait
        self._log.warning(
            "delivery_postponed", cause=cause, failures=self._failures, wait_s=round(wait, 1), job=job, status=status
        )
        return self._held_until

    def _too_old(self, item: Delivery) -> bool:
        return self._clock() - item.created_at > self._options.give_up_after_h * 3600

    def _give_up(self, item: Delivery, status: int | None, cause: str) -> None:
        self._refuse(item, status, f"given up after {self._options.give_up_after_h:g} h: {cause}")

    def _refuse(self, item: Delivery, status: int | None, cause: str) -> None:
        self._store.refused(item, dimse_code(status), cause)
        self._log.error(
            "delivery_refused", job=item.job_id, sop_instance_uid=item.sop_instance_uid, status=status, cause=cause
        )


def _name(file: scu.Outgoing) -> str:
    return UID(file.sop_class_uid).name.removesuffix(" Storage")
