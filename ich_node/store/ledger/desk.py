"""The ledger as people and house-keeping see it: what there is, and an operator's decisions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from ich_node.domain.dicom import input_digest
from ich_node.domain.errors import WrongState
from ich_node.domain.ledger import FINISHED, DeliveryState, Job, JobState, Origin, Owed
from ich_node.store.ledger.rows import Rows, as_job
from ich_node.store.ledger.tables import delivery, hurry, job

DROPPED = "dropped by an operator"


class DeskRows(Rows):
    """See protocols.Desk."""

    # --- what there is ---------------------------------------------------------------------------------------------

    def job(self, job_id: int) -> Job | None:
        """One job."""
        with self._read() as db:
            row = db.execute(sa.select(job).where(job.c.id == job_id)).first()
            return None if row is None else as_job(row)

    def jobs(
        self,
        state: JobState | None = None,
        *,
        study_uid: str | None = None,
        patient_hash: str | None = None,
        accession_hash: str | None = None,
        calling_ae_title: str | None = None,
        since: float | None = None,
        until: float | None = None,
        limit: int = 100,
    ) -> list[Job]:
        """The newest jobs first, of those that fit all that is given. since, until: made when, Unix seconds."""
        query = sa.select(job).order_by(job.c.id.desc()).limit(limit)
        exact = {
            job.c.state: state,
            job.c.study_uid: study_uid,
            job.c.patient_hash: patient_hash,
            job.c.accession_hash: accession_hash,
            job.c.calling_ae_title: calling_ae_title,
        }
        for column, value in exact.items():
            if value is not None:
                query = query.where(column == value)
        if since is not None:
            query = query.where(job.c.created_at >= since)
        if until is not None:
            query = query.where(job.c.created_at < until)
        return self._jobs(query)

    def jobs_of_series(self, series_uid: str) -> list[Job]:
        """The jobs of a series, oldest first."""
        return self._jobs(sa.select(job).where(job.c.series_uid == series_uid).order_by(job.c.id))

    def forget_images(self, series_uid: str) -> None:
        """The images of a series are gone for good: its jobs keep the digest of them, not the list."""
        with self._write() as db:
            db.execute(sa.update(job).where(job.c.series_uid == series_uid).values(sop_instance_uids=""))

    def counts(self) -> dict[str, int]:
        """Number of jobs by state."""
        with self._read() as db:
            rows = db.execute(sa.select(job.c.state, sa.func.count().label("jobs")).group_by(job.c.state))
            return {row.state: row.jobs for row in rows}

    # --- what an operator decides ----------------------------------------------------------------------------------
    # each raises NoSuchJob, or WrongState when the job is not in a state for it

    def retry(self, job_id: int) -> Job:
        """Once more: refused results are sent again; a job without any is computed again."""
        with self._write() as db:
            stuck = self._job(db, job_id)
            _expect(stuck, "tried again", JobState.INELIGIBLE, JobState.FAILED)
            refused = (delivery.c.job_id == job_id) & (delivery.c.state == DeliveryState.FAILED)
            if self._owe_again(db, refused):
                self._move_job(db, job_id, stuck.state, JobState.DELIVERING, trouble=None)
            else:
                afresh = {"attempts": 0, "not_before": 0.0, "refusal": None, "priority": None, "trouble": None}
                afresh |= {"told": None, "publish_after": 0.0}
                self._move_job(db, job_id, stuck.state, JobState.QUEUED, **afresh)
            again = self._job(db, job_id)
        self._ring()
        return again

    def drop(self, job_id: int) -> None:
        """It is over: it is not computed any more, and what it still owes is not sent."""
        with self._write() as db:
            dropped = self._job(db, job_id)
            _expect(dropped, "dropped", JobState.QUEUED, JobState.RUNNING, JobState.DELIVERING)
            pending = (delivery.c.job_id == job_id) & (delivery.c.state == DeliveryState.PENDING)
            over = {"state": DeliveryState.FAILED, "cause": DROPPED, "updated_at": self._clock()}
            db.execute(sa.update(delivery).where(pending).values(**over))
            target = JobState.INELIGIBLE if dropped.state is JobState.QUEUED else JobState.FAILED
            self._move_job(db, job_id, dropped.state, target, worker=None, lease_until=None, trouble=DROPPED)

    def redo(self, job_id: int, images: Sequence[str] = (), origin: Origin | None = None) -> Job:
        """Results anew: another job for the same images, whose results name those of this one as predecessors.

        images, origin: the files to take instead, and whose they are; see `store.copies`.
        """
        with self._write() as db:
            old = self._job(db, job_id)
            _expect(old, "done anew", *FINISHED, JobState.DELIVERING)
            if not old.sop_instance_uids:
                raise WrongState(f"job {job_id} cannot be done anew: its images are no longer here")
            self._alone(db, old.series_uid)
            changed: dict[str, Any] = {}
            if images and origin is not None and set(images) != set(old.sop_instance_uids):
                changed = {"input_digest": input_digest(images), "sop_instance_uids": "\n".join(images), "told": None}
                changed |= {"patient_hash": origin.patient_hash, "accession_hash": origin.accession_hash}
            digest = changed.get("input_digest", old.input_digest)
            same = (job.c.series_uid == old.series_uid) & (job.c.input_digest == digest)
            newest = db.execute(sa.select(sa.func.max(job.c.revision)).where(same)).scalar()
            revision = 0 if newest is None else newest + 1
            copied = {name: job.c[name] for name in COPIED if name not in changed}
            now = self._clock()
            fresh = {
                **changed,
                "revision": revision,
                "state": JobState.QUEUED,
                "attempts": 0,
                "claims": 0,
                "not_before": 0.0,
            }
            fresh |= {"publish_after": 0.0, "created_at": now, "updated_at": now}
            values = sa.select(*copied.values(), *(sa.literal(value) for value in fresh.values()))
            inserted = sa.insert(job).from_select([*copied, *fresh], values.where(job.c.id == job_id))
            again = self._job(db, db.execute(inserted.returning(job.c.id)).scalar_one())
        self._ring()
        return again

    def resend(self, job_id: int, destination: str | None = None, owed: Sequence[Owed] = ()) -> int:
        """The same bytes once more, to one destination or all that had them; returns how many items.

        owed: what a destination is to get that the job never owed it, e.g. one that is new in the configuration.
        """
        with self._write() as db:
            old = self._job(db, job_id)
            _expect(old, "sent again", JobState.DELIVERING, JobState.DONE, JobState.FAILED)
            this = (delivery.c.job_id == job_id) & (delivery.c.state != DeliveryState.PENDING)
            if destination is not None:
                this &= delivery.c.destination == destination
            count = self._owe_again(db, this)
            if rows := self._owed_rows(job_id, owed, old.priority):
                new = self._insert_new(delivery).on_conflict_do_nothing().returning(delivery.c.item)
                count += len(db.execute(new, rows).all())
            if not count:
                raise WrongState(f"job {job_id} has no results that could be sent again")
            if old.state is not JobState.DELIVERING:
                self._move_job(db, job_id, old.state, JobState.DELIVERING, trouble=None)
        self._ring()
        return count

    def hurry(self, destinations: Sequence[str]) -> int:
        """What waits for these destinations goes now, whatever back-off it is in; returns how many items wait."""
        now = self._clock()
        with self._write() as db:
            for name in destinations:
                asked = self._insert_new(hurry).values(destination=name, asked_at=now)
                db.execute(asked.on_conflict_do_update(index_elements=["destination"], set_={"asked_at": now}))
            waiting = delivery.c.destination.in_(destinations) & (delivery.c.state == DeliveryState.PENDING)
            count = db.execute(sa.update(delivery).where(waiting).values(not_before=0.0)).rowcount
        self._ring()
        return count

    def _ring(self) -> None:
        self.bells.queue.ring()
        self.bells.owed.ring()

    def _owe_again(self, db: sa.Connection, which: sa.ColumnElement[bool]) -> int:
        """Back to pending, as if newly owed; returns how many."""
        now = self._clock()
        fresh: dict[str, Any] = {"state": DeliveryState.PENDING, "attempts": 0, "not_before": 0.0}
        fresh |= {"transaction_uid": None, "created_at": now, "updated_at": now}
        return db.execute(sa.update(delivery).where(which).values(**fresh)).rowcount


COPIED = (
    *("study_uid", "series_uid", "input_digest", "sop_instance_uids", "rank", "told"),
    *("calling_ae_title", "calling_address", "patient_hash", "accession_hash", "site"),
)
"""What a job that is done anew has in common with the first."""


def _expect(found: Job, deed: str, *states: JobState) -> None:
    if found.state not in states:
        fitting = ", ".join(sorted(states))
        raise WrongState(f"job {found.id} is {found.state}: what can be {deed} is {fitting}")
