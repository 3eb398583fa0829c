"""The ledger as the receiver sees it: series that become jobs."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict

import sqlalchemy as sa

from ich_node.domain.dicom import Series
from ich_node.domain.ledger import Job, JobState, Origin
from ich_node.store.ledger.assembly import AssemblyRows
from ich_node.store.ledger.tables import assembly, job

NOWHERE = Origin()


def of_origin(origin: Origin) -> sa.ColumnElement[bool]:
    """Jobs of the same patient that the same sender sent, as far as both are known."""
    same: sa.ColumnElement[bool] = sa.true()
    for name in ("patient_hash", "calling_ae_title", "calling_address"):
        if (value := getattr(origin, name)) is not None:
            same &= job.c[name].is_(None) | (job.c[name] == value)
    return same


def _uid(name: str) -> str:
    """The SOP Instance UID of a file name: that of a second image under one UID has a number behind it."""
    return name.partition("~")[0]


class IntakeRows(AssemblyRows):
    """See protocols.Intake. Raises Superseded where another receiver assembles the study."""

    def enqueue(
        self,
        series: Series,
        *,
        rank: int = 0,
        origin: Origin = NOWHERE,
        anew: bool = False,
        told: str | None = None,
        publish_after: float = 0.0,
    ) -> Job | None:
        """Queue a series; None when exactly these images have a row already, unless they are to be analysed anew.

        A job of the same series, patient and sender that is not published yet is superseded when the new one covers its
        images. told: the reason to tell instead of an analysis. publish_after: Unix seconds.
        """
        with self._write() as db:
            self._ours(db, series.study_uid)
            self._alone(db, series.series_uid)
            revision = self._next_revision(db, series) if anew else 0
            job_id = self._insert(
                db,
                series,
                JobState.QUEUED,
                origin,
                rank=rank,
                revision=revision,
                told=told,
                publish_after=publish_after,
            )
            if job_id is None:
                return None
            older = (job.c.series_uid == series.series_uid) & (job.c.study_uid == series.study_uid)
            older &= (job.c.id != job_id) & of_origin(origin)
            new = {_uid(instance.sop_instance_uid) for instance in series.instances}
            rows = db.execute(sa.select(job.c.id, job.c.sop_instance_uids).where(older)).all()
            covered = [row.id for row in rows if new.issuperset(map(_uid, row.sop_instance_uids.split("\n")))]
            superseded = {"trouble": f"superseded by job {job_id}", "worker": None, "lease_until": None}
            for older_id in covered:
                for state in (JobState.QUEUED, JobState.RUNNING):
                    db.execute(self._moved(state, JobState.INELIGIBLE, **superseded).where(job.c.id == older_id))
            queued = self._job(db, job_id)
        self.bells.queue.ring()
        return queued

    def hold(self, job_id: int, until: float) -> None:
        """Keep the results of a job back, if they are not published yet; Unix seconds, never earlier than before."""
        with self._write() as db:
            unpublished = job.c.state.in_((JobState.QUEUED, JobState.RUNNING))
            held = sa.update(job).where(job.c.id == job_id, unpublished, job.c.publish_after < until)
            db.execute(held.values(publish_after=until))

    def let_go(self, job_id: int, publish_after: float = 0.0) -> None:
        """The results of a job may go out from `publish_after` on: its series is whole."""
        this: sa.ColumnElement[bool] = job.c.id == job_id
        if self.receiver is not None:
            this &= sa.exists().where(assembly.c.study_uid == job.c.study_uid, assembly.c.receiver == self.receiver)
        with self._write() as db:
            db.execute(sa.update(job).where(this).values(publish_after=publish_after))
        self.bells.queue.ring()

    def set_ineligible(self, series: Series, refusal: str, *, origin: Origin = NOWHERE) -> None:
        """Record that a series is not analysed and why; a series with a row already keeps it."""
        with self._write() as db:
            self._ours(db, series.study_uid)
            self._alone(db, series.series_uid)
            self._insert(db, series, JobState.INELIGIBLE, origin, refusal=refusal)

    def known(self, series_uid: str, input_digest: str) -> bool:
        """True when exactly these images have a row already."""
        return bool(self.known_of([(series_uid, input_digest)]))

    def known_of(self, inputs: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
        """Which of these (Series Instance UID, input digest) have a row already, asked in one query."""
        query = sa.select(job.c.series_uid, job.c.input_digest).where(
            job.c.series_uid.in_([series_uid for series_uid, _ in inputs])
        )
        with self._read() as db:
            return {(row.series_uid, row.input_digest) for row in db.execute(query)} & set(inputs)

    def images_of(self, series_uids: Collection[str]) -> dict[str, set[str]]:
        """The images of each series that have a row, asked in one query."""
        query = sa.select(job.c.series_uid, job.c.sop_instance_uids).where(job.c.series_uid.in_(list(series_uids)))
        found: dict[str, set[str]] = {}
        with self._read() as db:
            for row in db.execute(query):
                found.setdefault(row.series_uid, set()).update(row.sop_instance_uids.split())
        return found

    def _next_revision(self, db: sa.Connection, series: Series) -> int:
        same = (job.c.series_uid == series.series_uid) & (job.c.input_digest == series.input_digest)
        newest = db.execute(sa.select(sa.func.max(job.c.revision)).where(same)).scalar()
        return 0 if newest is None else int(newest) + 1

    def _insert(
        self,
        db: sa.Connection,
        series: Series,
        state: JobState,
        origin: Origin,
        *,
        rank: int = 0,
        revision: int = 0,
        refusal: str | None = None,
        told: str | None = None,
        publish_after: float = 0.0,
    ) -> int | None:
        now = self._clock()
        statement = (
            self._insert_new(job)
            .values(
                study_uid=series.study_uid,
                series_uid=series.series_uid,
                input_digest=series.input_digest,
                sop_instance_uids="\n".join(sorted({i.sop_instance_uid for i in series.instances})),
                revision=revision,
                state=state,
                rank=rank,
                attempts=0,
                claims=0,
                not_before=0.0,
                publish_after=publish_after,
                told=told,
                refusal=refusal,
                created_at=now,
                updated_at=now,
                **asdict(origin) | {"site": origin.site or origin.calling_address},
            )
            .on_conflict_do_nothing(index_elements=["series_uid", "input_digest", "revision"])
            .returning(job.c.id)
        )
        return db.execute(statement).scalar()
