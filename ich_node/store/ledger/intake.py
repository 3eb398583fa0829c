"""The ledger as the receiver sees it: series that become jobs."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from ich_node.domain.dicom import Series
from ich_node.domain.ledger import Job, JobState, Origin
from ich_node.store.ledger.rows import Rows
from ich_node.store.ledger.tables import job

NOWHERE = Origin()


class IntakeRows(Rows):
    """See protocols.Intake."""

    def enqueue(self, series: Series, *, rank: int = 0, origin: Origin = NOWHERE, anew: bool = False) -> Job | None:
        """Queue a series; None when exactly these images have a row already, unless they are to be analysed anew.

        A job of the same series that still waits is superseded: the new one covers its images.
        """
        with self._write() as db:
            revision = self._next_revision(db, series) if anew else 0
            job_id = self._insert(db, series, JobState.QUEUED, origin, rank=rank, revision=revision)
            if job_id is None:
                return None
            older = (job.c.series_uid == series.series_uid) & (job.c.id != job_id)
            superseded = {"trouble": f"superseded by job {job_id}"}
            db.execute(self._moved(JobState.QUEUED, JobState.INELIGIBLE, **superseded).where(older))
            queued = self._job(db, job_id)
        self._state.queue_bell.ring()
        return queued

    def set_ineligible(self, series: Series, refusal: str, *, origin: Origin = NOWHERE) -> None:
        """Record that a series is not analysed and why; a series with a row already keeps it."""
        with self._write() as db:
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
    ) -> int | None:
        now = self._clock()
        statement = (
            sqlite.insert(job)
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
                refusal=refusal,
                created_at=now,
                updated_at=now,
                **asdict(origin),
            )
            .on_conflict_do_nothing(index_elements=["series_uid", "input_digest", "revision"])
            .returning(job.c.id)
        )
        return db.execute(statement).scalar()
