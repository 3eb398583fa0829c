"""The ledger as a worker sees it: jobs that it holds for as long as it is heard of.

Invariants: publish() is the one commit point of a job: before it nothing has been sent, after it nothing is computed
again. A claim is a lease: whoever holds it renews it; when it is over, the next claim of anybody takes the job, and the
first holder, should it wake, finds that its claim is not the last one (`claims`) and changes nothing: Superseded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import sqlalchemy as sa

from ich_node.domain.errors import ResultConflict, Superseded, TooEarly
from ich_node.domain.ledger import Job, JobState, Owed
from ich_node.store.ledger import turns
from ich_node.store.ledger.rows import Rows, as_job
from ich_node.store.ledger.tables import delivery, job

FREE = {"worker": None, "lease_until": None}
CLAIM_TRIES = 5  # chosen: each time another worker has taken a job, so some worker goes on
DEATH_TURNS = 20
"""Jobs of others that pass when a job has cost its worker its life: a fresh one takes as long as about so many."""


class _Taken(Exception):
    """A worker on another machine took this job, or another one of its series, in the same moment."""


class WorkRows(Rows):
    """See protocols.Work."""

    def claim(self, worker: str) -> Job | None:
        """Take the next job that is ready: urgent rank first, then the sites in turn. Counts the attempt.

        A site is a group of callers by configuration, or an address. The jobs of one go first in, first out; one that
        was begun before and not finished, as when it cost its worker its life, queues up behind the others. A job waits
        while another one of its series runs, so that a corrected result knows its predecessor. A job whose worker was
        not heard of within its lease is ready again, the attempt stays counted.
        """
        now = self._clock()
        with self._read() as db:  # no write lock while there is nothing to do
            found = db.execute(turns.ANY, {"now": now, "lease_s": self._lease_s}).one()
        if found.lost:
            silent = {**FREE, "trouble": "its worker was not heard of", "died": _turn() + DEATH_TURNS}
            over = (job.c.lease_until < now) | (job.c.lease_until > now + 2 * self._lease_s)
            with self._write() as db:
                db.execute(self._moved(JobState.RUNNING, JobState.QUEUED, **silent).where(over))
        elif not found.ready:
            return None
        tried: list[int] = []
        for _ in range(CLAIM_TRIES):
            with suppress(_Taken):
                return self._claim(worker, now, tried)
        return None

    def _claim(self, worker: str, now: float, tried: list[int]) -> Job | None:
        claimed = {"worker": worker, "lease_until": now + self._lease_s, "predecessor": _predecessor()}
        counted = {"attempts": job.c.attempts + 1, "claims": job.c.claims + 1, "served": _turn() + 1}
        with self._write() as db:
            job_id = turns.next_job(db, now, tried, several=self._is_served)
            if job_id is None:
                return None
            tried.append(job_id)
            taken = self._moved(JobState.QUEUED, JobState.RUNNING, **claimed, **counted).where(job.c.id == job_id)
            try:
                return as_job(db.execute(taken.returning(job)).one())
            except sa.exc.IntegrityError as error:
                raise _Taken from error

    def renew(self, claimed: Job) -> bool:
        """The worker is at it: the lease starts afresh. False when the job is no longer its own."""
        with self._write() as db:
            renewed = sa.update(job).where(_held(claimed)).values(lease_until=self._clock() + self._lease_s)
            return db.execute(renewed).rowcount == 1

    def recover(self, worker: str) -> int:
        """Queue again what an earlier process of this name was doing when it died; returns how many.

        The caller knows that it is dead. The attempt stays counted.
        """
        with self._write() as db:
            died = {**FREE, "trouble": "the worker restarted", "died": _turn() + DEATH_TURNS}
            moved = self._moved(JobState.RUNNING, JobState.QUEUED, **died)
            return db.execute(moved.where(job.c.worker == worker)).rowcount

    def give_back(self, claimed: Job, trouble: str) -> None:
        """Queue a claimed job again without counting the attempt: what stopped it is no fault of the job."""
        with self._write() as db:
            _leave(
                db,
                claimed,
                self._moved(JobState.RUNNING, JobState.QUEUED, **FREE, trouble=trouble, attempts=job.c.attempts - 1),
            )

    def retry_later(self, claimed: Job, trouble: str, not_before: float) -> None:
        """Queue a claimed job again, not to be claimed before `not_before`."""
        with self._write() as db:
            _leave(
                db,
                claimed,
                self._moved(JobState.RUNNING, JobState.QUEUED, **FREE, trouble=trouble, not_before=not_before),
            )

    def fail(self, claimed: Job, trouble: str) -> None:
        """Give a claimed job up."""
        with self._write() as db:
            _leave(db, claimed, self._moved(JobState.RUNNING, JobState.FAILED, **FREE, trouble=trouble))

    def set_aside(self, claimed: Job, refusal: str) -> None:
        """Nothing is to be said about a claimed job's images, because `refusal`."""
        with self._write() as db:
            said = {"refusal": refusal, "trouble": None}
            _leave(db, claimed, self._moved(JobState.RUNNING, JobState.INELIGIBLE, **FREE, **said))

    def publish(
        self,
        claimed: Job,
        owed: Sequence[Owed],
        *,
        priority: str | None,
        refusal: str | None = None,
        place: Callable[[], object] | None = None,
    ) -> None:
        """The commit point: the job is computed and owes its results.

        refusal: why there is no analysis; then there is no priority. place: puts the result files in their place; it is
        called while the job is held by this transaction, so that no worker that lost the job replaces the files of one
        that has it. Raises Superseded, TooEarly, ResultConflict, and what `place` raises: then nothing has changed.
        """
        rows = self._owed_rows(claimed.id, owed, priority)
        said: dict[str, Any] = {"priority": priority, "refusal": refusal, "trouble": None}
        with self._write() as db:
            _leave(db, claimed, self._moved(JobState.RUNNING, JobState.DELIVERING, **FREE, **said))
            until = self._job(db, claimed.id).publish_after
            if self._clock() < until <= self._clock() + turns.LONGEST_HOLD_S:
                raise TooEarly(until)
            try:
                if rows:
                    db.execute(sa.insert(delivery), rows)
            except sa.exc.IntegrityError as error:
                raise ResultConflict("its results bear UIDs that another job owes already") from error
            if place is not None:
                place()
            self._finish_if_settled(db, claimed.id)
        self.bells.owed.ring()


def _turn() -> sa.ScalarSelect[Any]:
    """The number of the last turn that any site had."""
    earlier = job.alias()
    return sa.select(sa.func.coalesce(sa.func.max(earlier.c.served), 0)).scalar_subquery()


def _held(claimed: Job) -> sa.ColumnElement[bool]:
    """The row, as long as this claim is its last one."""
    return (job.c.id == claimed.id) & (job.c.state == JobState.RUNNING) & (job.c.claims == claimed.claims)


def _leave(db: sa.Connection, claimed: Job, move: sa.Update) -> None:
    if db.execute(move.where(_held(claimed))).rowcount != 1:
        raise Superseded(f"job {claimed.id} was taken back from its worker")


def _predecessor() -> sa.ScalarSelect[Any]:
    """The newest earlier job of the same series and patient, from the same sender, that was published."""
    earlier = job.alias()
    owner: sa.ColumnElement[bool] = sa.true()
    for name in ("patient_hash", "calling_ae_title", "calling_address"):
        owner &= earlier.c[name].is_(None) | job.c[name].is_(None) | (earlier.c[name] == job.c[name])
    published = sa.exists().where(delivery.c.job_id == earlier.c.id) | (earlier.c.state == JobState.DONE)
    same = (earlier.c.series_uid == job.c.series_uid) & (earlier.c.id < job.c.id)
    return sa.select(sa.func.max(earlier.c.id)).where(same, owner, published).scalar_subquery()
