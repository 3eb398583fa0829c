"""The ledger at a glance, for board, status command and monitoring: read only, a few statements whatever is kept."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import sqlalchemy as sa

from ich_node.domain.ledger import DeliveryState, DeliveryTally, JobState
from ich_node.store.ledger.rows import Rows
from ich_node.store.ledger.tables import delivery, job

AT_ONCE = 500  # ids in one statement: SQLite takes 32,766 variables, older builds 999


class OverviewRows(Rows):
    """See protocols.Overview."""

    def standing(self, job_ids: Collection[int]) -> dict[int, tuple[DeliveryTally, ...]]:
        """Where the results of these jobs stand, per destination and state; jobs that owe nothing are left out."""
        found: dict[int, list[DeliveryTally]] = {}
        with self._read() as db:
            for part in _parts(sorted(job_ids)):
                columns = (delivery.c.job_id, *self._tally)
                grouped = sa.select(*columns).where(delivery.c.job_id.in_(part))
                for row in db.execute(grouped.group_by(delivery.c.job_id, delivery.c.destination, delivery.c.state)):
                    found.setdefault(row.job_id, []).append(_as_tally(row))
        return {job_id: tuple(rows) for job_id, rows in found.items()}

    def delivery_counts(self) -> list[DeliveryTally]:
        """All deliveries, per destination and state."""
        with self._read() as db:
            rows = db.execute(sa.select(*self._tally).group_by(delivery.c.destination, delivery.c.state))
            return [_as_tally(row) for row in rows]

    @property
    def _tally(self) -> tuple[sa.ColumnElement[Any], ...]:
        cause: sa.ColumnElement[Any] = (
            delivery.c.cause
        )  # SQLite: of the row that max() found (lang_select, bare columns)
        if self._is_served:
            from sqlalchemy.dialects.postgresql import aggregate_order_by  # noqa: PLC0415 — for who has that server

            cause = sa.func.array_agg(aggregate_order_by(cause, delivery.c.updated_at.desc()))[1].label("cause")
        last = sa.func.max(delivery.c.updated_at).label("last")
        return delivery.c.destination, delivery.c.state, sa.func.count().label("number"), cause, last

    def stamp(self) -> object:
        """Another value whenever something may have been written since."""
        if self._is_served:
            with self._read() as db:
                return db.execute(sa.select(sa.cast(sa.func.pg_current_snapshot(), sa.Text))).scalar_one()
        try:
            status = self._state.database.stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns

    def priorities(self) -> dict[str | None, int]:
        """How many jobs have published results, by priority; None: not analysed, and said so."""
        published = job.c.state.in_([JobState.DELIVERING, JobState.DONE, JobState.FAILED])
        told = job.c.priority.is_not(None) | job.c.refusal.is_not(None)
        query = sa.select(job.c.priority, sa.func.count().label("jobs")).where(published, told)
        with self._read() as db:
            return {row.priority: row.jobs for row in db.execute(query.group_by(job.c.priority))}


def _as_tally(row: sa.Row[tuple[str, str, int, str | None, float]]) -> DeliveryTally:
    return DeliveryTally(row.destination, DeliveryState(row.state), row.number, row.cause, row.last)


def _parts(ids: list[int]) -> Iterator[list[int]]:
    for start in range(0, len(ids), AT_ONCE):
        yield ids[start : start + AT_ONCE]
