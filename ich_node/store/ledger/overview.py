"""The ledger at a glance, for board, status command and monitoring: read only, a few statements whatever is kept."""

from __future__ import annotations

from collections.abc import Collection, Iterator

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
                columns = (delivery.c.job_id, *_TALLY)
                grouped = sa.select(*columns).where(delivery.c.job_id.in_(part))
                for row in db.execute(grouped.group_by(delivery.c.job_id, delivery.c.destination, delivery.c.state)):
                    found.setdefault(row.job_id, []).append(_tally(row))
        return {job_id: tuple(rows) for job_id, rows in found.items()}

    def delivery_counts(self) -> list[DeliveryTally]:
        """All deliveries, per destination and state."""
        with self._read() as db:
            rows = db.execute(sa.select(*_TALLY).group_by(delivery.c.destination, delivery.c.state))
            return [_tally(row) for row in rows]

    def priorities(self) -> dict[str | None, int]:
        """How many jobs have published results, by priority; None: not analysed, and said so."""
        published = job.c.state.in_([JobState.DELIVERING, JobState.DONE, JobState.FAILED])
        told = job.c.priority.is_not(None) | job.c.refusal.is_not(None)
        query = sa.select(job.c.priority, sa.func.count().label("jobs")).where(published, told)
        with self._read() as db:
            return {row.priority: row.jobs for row in db.execute(query.group_by(job.c.priority))}


_TALLY = (
    delivery.c.destination,
    delivery.c.state,
    sa.func.count().label("number"),
    delivery.c.cause,  # SQLite: of the row that max() found (lang_select.html, bare columns)
    sa.func.max(delivery.c.updated_at).label("last"),
)


def _tally(row: sa.Row[tuple[str, str, int, str | None, float]]) -> DeliveryTally:
    return DeliveryTally(row.destination, DeliveryState(row.state), row.number, row.cause, row.last)


def _parts(ids: list[int]) -> Iterator[list[int]]:
    for start in range(0, len(ids), AT_ONCE):
        yield ids[start : start + AT_ONCE]
