"""Every SQL statement of the node, and with it every move of a job or a delivery (domain.ledger.JOB_TRANSITIONS).

Invariants: one transaction per move; publish() is the one commit point of a job: before it nothing has been sent, after
it nothing is computed again; a row never points at a file that is not durable (the caller writes files first).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from ich_node.domain.dicom import Series
from ich_node.domain.errors import StoreError
from ich_node.domain.ledger import (
    DELIVERY_TRANSITIONS,
    JOB_TRANSITIONS,
    Delivery,
    DeliveryState,
    Job,
    JobState,
    ResultFile,
)
from ich_node.store.ledger import database, rebuild
from ich_node.store.ledger.tables import delivery, job

URGENCY = {"STAT": 0, "HIGH": 1}
FINISHED = (JobState.DONE, JobState.INELIGIBLE, JobState.FAILED)
SETTLED = (DeliveryState.SENT, DeliveryState.COMMITTED, DeliveryState.FAILED)


@dataclass(frozen=True, slots=True)
class Sent:
    """A peer's Success or warning for a delivery; sop_… name what went out if it was an alternate."""

    item: Delivery
    status: int
    cause: str | None = None
    sop_class_uid: str | None = None
    sop_instance_uid: str | None = None


class JobStore:
    """The jobs and deliveries of one node. Safe for several threads and processes."""

    def __init__(self, engine: sa.Engine, state_dir: Path, clock: Callable[[], float] = time.time) -> None:
        self._engine = engine
        self._state_dir = state_dir
        self._clock = clock

    @classmethod
    def open(cls, state_dir: Path, clock: Callable[[], float] = time.time) -> JobStore:
        """Open the database of `state_dir`, created or migrated as needed; raises StoreError when it is damaged."""
        return cls(database.open_database(state_dir), state_dir, clock)

    def close(self) -> None:
        """Give back every connection."""
        self._engine.dispose()

    # --- receive ---------------------------------------------------------------------------------------------------

    def enqueue(self, series: Series, *, rank: int = 0) -> Job | None:
        """Queue a series; None when exactly these images have a row already.

        A job of the same series that still waits is superseded: the new one covers its images.
        """
        with self._write() as db:
            job_id = self._insert(db, series, JobState.QUEUED, rank, None)
            if job_id is None:
                return None
            older = (job.c.series_uid == series.series_uid) & (job.c.state == JobState.QUEUED) & (job.c.id != job_id)
            db.execute(
                self._moved(JobState.QUEUED, JobState.INELIGIBLE, reason=f"superseded by job {job_id}").where(older)
            )
            return self._job(db, job_id)

    def set_ineligible(self, series: Series, reason: str) -> None:
        """Record that a series is not analysed and why; a series with a row already keeps it."""
        with self._write() as db:
            self._insert(db, series, JobState.INELIGIBLE, 0, reason)

    def known(self, series_uid: str, input_digest: str) -> bool:
        """True when exactly these images have a row already."""
        found = sa.select(job.c.id).where(job.c.series_uid == series_uid, job.c.input_digest == input_digest)
        with self._read() as db:
            return db.execute(found).first() is not None

    def _insert(self, db: sa.Connection, series: Series, state: JobState, rank: int, reason: str | None) -> int | None:
        now = self._clock()
        statement = (
            sqlite.insert(job)
            .values(
                study_uid=series.study_uid,
                series_uid=series.series_uid,
                input_digest=series.input_digest,
                sop_instance_uids="\n".join(sorted({i.sop_instance_uid for i in series.instances})),
                state=state,
                rank=rank,
                attempts=0,
                not_before=0.0,
                reason=reason,
                created_at=now,
                updated_at=now,
            )
            .on_conflict_do_nothing(index_elements=["series_uid", "input_digest"])
            .returning(job.c.id)
        )
        return db.execute(statement).scalar()

    # --- infer -----------------------------------------------------------------------------------------------------

    def claim(self, worker: str) -> Job | None:
        """Take the next job that is ready: urgent rank first, then first in, first out. Counts the attempt.

        A job waits while another one of its series runs, so that a corrected result knows its predecessor.
        """
        running = job.alias()
        busy = sa.exists().where(running.c.series_uid == job.c.series_uid, running.c.state == JobState.RUNNING)
        ready = (job.c.state == JobState.QUEUED) & (job.c.not_before <= self._clock()) & ~busy
        with self._read() as db:  # no write lock while there is nothing to do
            if db.execute(sa.select(job.c.id).where(ready).limit(1)).first() is None:
                return None
        with self._write() as db:
            next_id = db.execute(
                sa.select(job.c.id).where(ready).order_by(job.c.rank.desc(), job.c.id).limit(1)
            ).scalar()
            if next_id is None:
                return None
            earlier = (
                sa.select(sa.func.max(running.c.id))
                .where(running.c.series_uid == job.c.series_uid, running.c.id < job.c.id)
                .where(sa.exists().where(delivery.c.job_id == running.c.id) | (running.c.state == JobState.DONE))
                .scalar_subquery()
            )
            self._move_job(
                db,
                next_id,
                JobState.QUEUED,
                JobState.RUNNING,
                worker=worker,
                attempts=job.c.attempts + 1,
                predecessor=earlier,
            )
            return self._job(db, next_id)

    def recover(self, worker: str) -> int:
        """Queue again what this worker was doing when it died; returns how many. The attempt stays counted."""
        mine = job.c.worker == worker
        with self._write() as db:
            moved = self._moved(JobState.RUNNING, JobState.QUEUED, worker=None, reason="the worker restarted")
            return db.execute(moved.where(mine)).rowcount

    def give_back(self, claimed: Job, reason: str) -> None:
        """Queue a claimed job again without counting the attempt: what stopped it is no fault of the job."""
        with self._write() as db:
            values = {"worker": None, "attempts": job.c.attempts - 1, "reason": reason}
            self._move_job(db, claimed.id, JobState.RUNNING, JobState.QUEUED, **values)

    def retry_later(self, claimed: Job, reason: str, not_before: float) -> None:
        """Queue a claimed job again, not to be claimed before `not_before`."""
        with self._write() as db:
            self._move_job(
                db, claimed.id, JobState.RUNNING, JobState.QUEUED, worker=None, reason=reason, not_before=not_before
            )

    def fail(self, claimed: Job, reason: str) -> None:
        """Give a claimed job up."""
        with self._write() as db:
            self._move_job(db, claimed.id, JobState.RUNNING, JobState.FAILED, worker=None, reason=reason)

    def publish(
        self,
        claimed: Job,
        files: Sequence[ResultFile],
        destinations: Sequence[str],
        *,
        priority: str | None,
        reason: str | None = None,
    ) -> None:
        """The commit point: the job is computed, its results are owed to every destination."""
        with self._write() as db:
            self._move_job(
                db,
                claimed.id,
                JobState.RUNNING,
                JobState.DELIVERING,
                worker=None,
                priority=priority,
                reason=reason,
            )
            self._owe(db, claimed.id, files, destinations, priority)
            self._finish_if_settled(db, claimed.id)

    def _owe(
        self,
        db: sa.Connection,
        job_id: int,
        files: Sequence[ResultFile],
        destinations: Sequence[str],
        priority: str | None,
    ) -> None:
        now = self._clock()
        rows = [
            {
                "sop_instance_uid": file.sop_instance_uid,
                "destination": destination,
                "job_id": job_id,
                "sequence": sequence,
                "urgency": URGENCY.get(priority or "", 2),
                "sop_class_uid": file.sop_class_uid,
                "path": str(file.path.relative_to(self._state_dir)),
                "state": DeliveryState.PENDING,
                "attempts": 0,
                "not_before": 0.0,
                "created_at": now,
                "updated_at": now,
            }
            for destination in destinations
            for sequence, file in enumerate(files)
        ]
        if rows:
            db.execute(sa.insert(delivery), rows)

    # --- deliver ---------------------------------------------------------------------------------------------------

    def due(self, destination: str, limit: int = 1000) -> list[Delivery]:
        """What to send now: STAT before HIGH before the rest, then job by job in the order of their results.

        A job whose first unsent instance must wait is left out whole: results arrive in order.
        """
        waiting = delivery.alias()
        blocked = sa.exists().where(
            waiting.c.destination == delivery.c.destination,
            waiting.c.job_id == delivery.c.job_id,
            waiting.c.state == DeliveryState.PENDING,
            waiting.c.not_before > self._clock(),
        )
        pending = (delivery.c.destination == destination) & (delivery.c.state == DeliveryState.PENDING) & ~blocked
        order = (delivery.c.urgency, delivery.c.job_id, delivery.c.sequence)
        with self._read() as db:
            rows = db.execute(sa.select(delivery).where(pending).order_by(*order).limit(limit))
            return [self._as_delivery(row) for row in rows]

    def next_due(self, destination: str) -> float | None:
        """When the earliest pending delivery may be tried, Unix seconds; None when nothing is pending."""
        pending = (delivery.c.destination == destination) & (delivery.c.state == DeliveryState.PENDING)
        with self._read() as db:
            return db.execute(sa.select(sa.func.min(delivery.c.not_before)).where(pending)).scalar()

    def sent(
        self,
        item: Delivery,
        status: int,
        *,
        cause: str | None = None,
        sop_class_uid: str | None = None,
        sop_instance_uid: str | None = None,
    ) -> None:
        """The peer said Success (or a warning); sop_… name the alternate that went out instead, if one did."""
        self.sent_all([Sent(item, status, cause, sop_class_uid, sop_instance_uid)])

    def sent_all(self, answers: Sequence[Sent]) -> None:
        """Several sent() in one transaction: the answers of one job, a commit costs more than a small C-STORE.

        After a crash before it the instances are sent again, with the same bytes and UIDs.
        """
        with self._write() as db:
            for answer in answers:
                item = answer.item
                self._move_delivery(
                    db,
                    item,
                    DeliveryState.PENDING,
                    DeliveryState.SENT,
                    status=answer.status,
                    cause=answer.cause,
                    sent_sop_class_uid=answer.sop_class_uid or item.sop_class_uid,
                    sent_sop_instance_uid=answer.sop_instance_uid or item.sop_instance_uid,
                    attempts=delivery.c.attempts + 1,
                )
            for job_id in {answer.item.job_id for answer in answers}:
                self._finish_if_settled(db, job_id)

    def refused(self, item: Delivery, status: int | None, cause: str) -> None:
        """The peer will never take it, or we give up."""
        self._settle(item, DeliveryState.FAILED, status=status, cause=cause)

    def postpone(self, item: Delivery, status: int | None, cause: str, not_before: float) -> None:
        """A transient failure: try again, not before `not_before`."""
        with self._write() as db:
            self._touch_delivery(
                db,
                item,
                status=status,
                cause=cause,
                not_before=not_before,
                attempts=delivery.c.attempts + 1,
            )

    def asked_commitment(self, items: Sequence[Delivery], transaction_uid: str | None) -> None:
        """Storage Commitment was asked for `items` under `transaction_uid` (durable before the request goes out).

        None takes it back: the request did not get through.
        """
        with self._write() as db:
            for item in items:
                self._touch_delivery(db, item, transaction_uid=transaction_uid)

    def uncommitted(
        self, destination: str, *, asked_before: float, created_after: float, limit: int = 1000
    ) -> list[Delivery]:
        """What was sent to `destination` and not asked for yet, or in vain before `asked_before`; oldest first.

        What is owed for longer than since `created_after` is left alone. Times are Unix seconds.
        """
        to_ask = delivery.c.transaction_uid.is_(None) | (delivery.c.updated_at < asked_before)
        sent = (delivery.c.destination == destination) & (delivery.c.state == DeliveryState.SENT)
        query = sa.select(delivery).where(sent, to_ask, delivery.c.created_at > created_after)
        with self._read() as db:
            rows = db.execute(query.order_by(delivery.c.updated_at, delivery.c.sequence).limit(limit))
            return [self._as_delivery(row) for row in rows]

    def of_transaction(self, transaction_uid: str) -> list[Delivery]:
        """The deliveries that a commitment transaction is about."""
        with self._read() as db:
            rows = db.execute(sa.select(delivery).where(delivery.c.transaction_uid == transaction_uid))
            return [self._as_delivery(row) for row in rows]

    def committed(self, item: Delivery) -> None:
        """The peer committed to keep it."""
        with self._write() as db:
            self._move_delivery(db, item, DeliveryState.SENT, DeliveryState.COMMITTED)

    def lost(self, item: Delivery, cause: str) -> None:
        """The peer said Success and does not have it: send it again."""
        with self._write() as db:
            self._move_delivery(db, item, DeliveryState.SENT, DeliveryState.PENDING, cause=cause, transaction_uid=None)
            state = self._job(db, item.job_id).state
            if state is not JobState.DELIVERING:  # done, or failed because of another destination
                self._move_job(db, item.job_id, state, JobState.DELIVERING)

    def _settle(self, item: Delivery, state: DeliveryState, **values: Any) -> None:
        with self._write() as db:
            values["attempts"] = delivery.c.attempts + 1
            self._move_delivery(db, item, DeliveryState.PENDING, state, **values)
            self._finish_if_settled(db, item.job_id)

    def _finish_if_settled(self, db: sa.Connection, job_id: int) -> None:
        """delivering → done when every delivery is settled, → failed when one was refused."""
        states = set(db.execute(sa.select(delivery.c.state).where(delivery.c.job_id == job_id)).scalars())
        if DeliveryState.PENDING in states:
            return
        if DeliveryState.FAILED in states:
            self._move_job(db, job_id, JobState.DELIVERING, JobState.FAILED, reason="a destination refused a result")
        else:
            self._move_job(db, job_id, JobState.DELIVERING, JobState.DONE)

    # --- people ----------------------------------------------------------------------------------------------------

    def job(self, job_id: int) -> Job | None:
        """One job."""
        with self._read() as db:
            row = db.execute(sa.select(job).where(job.c.id == job_id)).first()
            return None if row is None else _as_job(row)

    def jobs(self, state: JobState | None = None, limit: int = 100) -> list[Job]:
        """The newest jobs first."""
        query = sa.select(job).order_by(job.c.id.desc()).limit(limit)
        if state is not None:
            query = query.where(job.c.state == state)
        with self._read() as db:
            return [_as_job(row) for row in db.execute(query)]

    def jobs_of_study(self, study_uid: str) -> list[Job]:
        """The jobs of a study, oldest first."""
        query = sa.select(job).where(job.c.study_uid == study_uid).order_by(job.c.id)
        with self._read() as db:
            return [_as_job(row) for row in db.execute(query)]

    def jobs_of_series(self, series_uid: str) -> list[Job]:
        """The jobs of a series, oldest first."""
        query = sa.select(job).where(job.c.series_uid == series_uid).order_by(job.c.id)
        with self._read() as db:
            return [_as_job(row) for row in db.execute(query)]

    def deliveries(self, job_id: int) -> list[Delivery]:
        """The deliveries of a job by destination and sequence."""
        order = (delivery.c.destination, delivery.c.sequence)
        with self._read() as db:
            rows = db.execute(sa.select(delivery).where(delivery.c.job_id == job_id).order_by(*order))
            return [self._as_delivery(row) for row in rows]

    def counts(self) -> dict[str, int]:
        """Number of jobs by state."""
        with self._read() as db:
            rows = db.execute(sa.select(job.c.state, sa.func.count().label("jobs")).group_by(job.c.state))
            return {row.state: row.jobs for row in rows}

    def finished_before(self, moment: float) -> list[Job]:
        """Finished jobs that nothing has happened to since `moment` (Unix seconds), oldest first."""
        old = job.c.state.in_(FINISHED) & (job.c.updated_at < moment)
        with self._read() as db:
            return [_as_job(row) for row in db.execute(sa.select(job).where(old).order_by(job.c.updated_at))]

    def retry(self, job_id: int) -> Job:
        """An operator's retry: refused results are sent again; a job without any is computed again."""
        with self._write() as db:
            stuck = self._job(db, job_id)
            refused = (delivery.c.job_id == job_id) & (delivery.c.state == DeliveryState.FAILED)
            now = self._clock()
            reset = {"state": DeliveryState.PENDING, "attempts": 0, "not_before": 0.0}
            again = sa.update(delivery).where(refused).values(created_at=now, updated_at=now, **reset)
            owed = db.execute(again).rowcount
            target = JobState.DELIVERING if owed else JobState.QUEUED
            if stuck.state is not target:
                self._move_job(db, job_id, stuck.state, target, reason=None, not_before=0.0, attempts=0)
            return self._job(db, job_id)

    def drop(self, job_id: int) -> None:
        """An operator's decision that a job is over: what it still owes is not sent."""
        with self._write() as db:
            dropped = self._job(db, job_id)
            pending = (delivery.c.job_id == job_id) & (delivery.c.state == DeliveryState.PENDING)
            over = {"state": DeliveryState.FAILED, "cause": "dropped by an operator", "updated_at": self._clock()}
            db.execute(sa.update(delivery).where(pending).values(**over))
            target = JobState.INELIGIBLE if dropped.state is JobState.QUEUED else JobState.FAILED
            self._move_job(db, job_id, dropped.state, target, worker=None, reason="dropped by an operator")

    def owe_restored(self, destinations: Sequence[str]) -> int:
        """Owe the results of jobs that were restored from files (store/ledger/rebuild.py); returns how many jobs."""
        without = ~sa.exists().where(delivery.c.job_id == job.c.id)
        with self._write() as db:
            restored = db.execute(sa.select(job).where(job.c.state == JobState.DELIVERING, without)).all()
            for row in restored:
                self._owe(db, row.id, rebuild.result_files(self._state_dir, row.id), destinations, row.priority)
                self._finish_if_settled(db, row.id)
            return len(restored)

    # --- moves -----------------------------------------------------------------------------------------------------

    def _moved(self, old: JobState, new: JobState, **values: Any) -> sa.Update:
        if new not in JOB_TRANSITIONS[old]:
            raise StoreError(f"a job can not go from {old} to {new}")
        return sa.update(job).where(job.c.state == old).values(state=new, updated_at=self._clock(), **values)

    def _move_job(self, db: sa.Connection, job_id: int, old: JobState, new: JobState, **values: Any) -> None:
        if db.execute(self._moved(old, new, **values).where(job.c.id == job_id)).rowcount != 1:
            raise StoreError(f"job {job_id} is no longer {old}")

    def _move_delivery(
        self, db: sa.Connection, item: Delivery, old: DeliveryState, new: DeliveryState, **values: Any
    ) -> None:
        if new not in DELIVERY_TRANSITIONS[old]:
            raise StoreError(f"a delivery can not go from {old} to {new}")
        self._change_delivery(db, item, old, {"state": new, **values})

    def _touch_delivery(self, db: sa.Connection, item: Delivery, **values: Any) -> None:
        self._change_delivery(db, item, item.state, values)

    def _change_delivery(self, db: sa.Connection, item: Delivery, state: DeliveryState, values: dict[str, Any]) -> None:
        this = (delivery.c.sop_instance_uid == item.sop_instance_uid) & (delivery.c.destination == item.destination)
        this &= delivery.c.state == state
        changed = sa.update(delivery).where(this).values(updated_at=self._clock(), **values)
        if db.execute(changed).rowcount != 1:
            raise StoreError(f"the delivery of {item.sop_instance_uid} to {item.destination} has moved on")

    # --- connections -----------------------------------------------------------------------------------------------

    @contextmanager
    def _write(self) -> Iterator[sa.Connection]:
        with database.as_store_errors(), self._engine.begin() as db:
            yield db

    @contextmanager
    def _read(self) -> Iterator[sa.Connection]:
        with database.as_store_errors(), self._engine.connect() as db:
            yield db.execution_options(isolation_level="AUTOCOMMIT")

    def _job(self, db: sa.Connection, job_id: int) -> Job:
        row = db.execute(sa.select(job).where(job.c.id == job_id)).first()
        if row is None:
            raise StoreError(f"there is no job {job_id}")
        return _as_job(row)

    def _as_delivery(self, row: sa.Row[Any]) -> Delivery:
        fields = {name: getattr(row, name) for name in Delivery.__dataclass_fields__}
        fields |= {"state": DeliveryState(row.state), "path": self._state_dir / row.path}
        return Delivery(**fields)


def _as_job(row: sa.Row[Any]) -> Job:
    fields = {name: getattr(row, name) for name in Job.__dataclass_fields__}
    fields |= {"state": JobState(row.state), "sop_instance_uids": tuple(row.sop_instance_uids.split("\n"))}
    return Job(**fields)
