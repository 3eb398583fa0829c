"""What the views of the ledger share: connections, and moves that happen only where a row stands as expected.

Invariants: one transaction per move; a row never points at a file that is not durable (the caller writes files first);
every move is one of domain.ledger's tables, anything else is a ValueError before SQL is made of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from ich_node.domain.errors import NoSuchJob
from ich_node.domain.ledger import (
    Delivery,
    DeliveryState,
    Item,
    Job,
    JobState,
    Owed,
    ResultInstance,
    check_delivery_move,
    check_job_move,
)
from ich_node.store.layout import StateDir
from ich_node.store.ledger import database
from ich_node.store.ledger.protocols import Bells
from ich_node.store.ledger.tables import delivery, job

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql

URGENCY = {"STAT": 0, "HIGH": 1}
NOT_URGENT = 2  # after STAT and HIGH


class Rows:
    """Base of the views. Safe for several threads and processes. `clock`: Unix seconds."""

    def __init__(
        self, engine: sa.Engine, state: StateDir, clock: Callable[[], float], lease_s: float, bells: Bells
    ) -> None:
        self._engine = engine
        self._state = state
        self._clock = clock
        self._lease_s = lease_s
        self.bells = bells

    # --- connections -----------------------------------------------------------------------------------------------

    @contextmanager
    def _write(self) -> Iterator[sa.Connection]:
        with database.as_store_errors(), self._engine.begin() as db:
            yield db

    @contextmanager
    def _read(self) -> Iterator[sa.Connection]:
        with database.as_store_errors(), self._engine.connect() as db:
            yield db.execution_options(isolation_level="AUTOCOMMIT")

    @property
    def _is_served(self) -> bool:
        """PostgreSQL, so that there may be several writers."""
        return self._engine.dialect.name == "postgresql"

    def _insert_new(self, table: sa.Table) -> sqlite.Insert | postgresql.Insert:
        """An INSERT that knows ON CONFLICT, in the words of the engine."""
        if self._is_served:
            from sqlalchemy.dialects import postgresql  # noqa: PLC0415 — for who has that server

            return postgresql.insert(table)
        return sqlite.insert(table)

    def _alone(self, db: sa.Connection, series_uid: str) -> None:
        """Nobody else makes a job of this series until the end of the transaction."""
        if self._is_served:  # SQLite has one writer at a time
            db.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(series_uid, 0))))

    def _hold(self, db: sa.Connection, job_ids: Collection[int]) -> None:
        """Nobody else moves these jobs or what they owe until the end of the transaction.

        SQLite has one writer at a time and holds them anyway. Always before their deliveries, so that no two
        transactions wait for each other.
        """
        db.execute(sa.select(job.c.id).where(job.c.id.in_(job_ids)).order_by(job.c.id).with_for_update())

    # --- jobs ------------------------------------------------------------------------------------------------------

    def _moved(self, old: JobState, new: JobState, **values: Any) -> sa.Update:
        """The statement for one legal move; the caller says of which rows."""
        check_job_move(old, new)
        return sa.update(job).where(job.c.state == old).values(state=new, updated_at=self._clock(), **values)

    def _move_job(self, db: sa.Connection, job_id: int, old: JobState, new: JobState, **values: Any) -> bool:
        """False when the job no longer is in state `old`."""
        return db.execute(self._moved(old, new, **values).where(job.c.id == job_id)).rowcount == 1

    def _job(self, db: sa.Connection, job_id: int) -> Job:
        """Held until the end of the transaction. Raises NoSuchJob."""
        row = db.execute(sa.select(job).where(job.c.id == job_id).with_for_update()).first()
        if row is None:
            raise NoSuchJob(job_id)
        return as_job(row)

    def _jobs(self, query: sa.Select[Any]) -> list[Job]:
        with self._read() as db:
            return [as_job(row) for row in db.execute(query)]

    def _finish_if_settled(self, db: sa.Connection, job_id: int) -> None:
        """delivering → done when every delivery is settled, → failed when one was refused."""
        states = set(db.execute(sa.select(delivery.c.state).where(delivery.c.job_id == job_id)).scalars())
        if DeliveryState.PENDING in states:
            return
        if DeliveryState.FAILED in states:
            refused = {"trouble": "a destination refused a result"}
            self._move_job(db, job_id, JobState.DELIVERING, JobState.FAILED, **refused)
        else:
            self._move_job(db, job_id, JobState.DELIVERING, JobState.DONE)

    # --- deliveries ------------------------------------------------------------------------------------------------

    def _change(self, db: sa.Connection, item: Delivery, found: DeliveryState, **values: Any) -> bool:
        """Change a delivery that is `found` so; False when it has moved on."""
        this = (delivery.c.job_id == item.job_id) & (delivery.c.item == item.item)
        this &= (delivery.c.destination == item.destination) & (delivery.c.state == found)
        return db.execute(sa.update(delivery).where(this).values(updated_at=self._clock(), **values)).rowcount == 1

    def _move(self, db: sa.Connection, item: Delivery, old: DeliveryState, new: DeliveryState, **values: Any) -> bool:
        check_delivery_move(old, new)
        return self._change(db, item, old, state=new, **values)

    def _owed_rows(self, job_id: int, owed: Sequence[Owed], priority: str | None) -> list[dict[str, Any]]:
        """Rows for what a job owes; the sequence counts per destination."""
        now = self._clock()
        next_of: dict[str, int] = {}
        rows = []
        for one in owed:
            sequence = next_of.setdefault(one.destination, 0)
            next_of[one.destination] += 1
            rows.append(
                {
                    "job_id": job_id,
                    "item": _name(one.item),
                    "destination": one.destination,
                    "sequence": sequence,
                    "urgency": URGENCY.get(priority or "", NOT_URGENT),
                    "sop_class_uid": one.item.sop_class_uid if isinstance(one.item, ResultInstance) else "",
                    "path": str(one.item.path.relative_to(self._state.root)),
                    "state": DeliveryState.PENDING,
                    "attempts": 0,
                    "not_before": 0.0,
                    "created_at": now,
                    "updated_at": now,
                }
            )
        return rows

    def _deliveries(self, query: sa.Select[Any]) -> list[Delivery]:
        with self._read() as db:
            return [self._as_delivery(row) for row in db.execute(query)]

    def _as_delivery(self, row: sa.Row[Any]) -> Delivery:
        fields = {name: getattr(row, name) for name in Delivery.__dataclass_fields__}
        fields |= {"state": DeliveryState(row.state), "path": self._state.root / row.path}
        return Delivery(**fields)

    def deliveries(self, job_id: int) -> list[Delivery]:
        """The deliveries of a job by destination and sequence."""
        order = (delivery.c.destination, delivery.c.sequence)
        return self._deliveries(sa.select(delivery).where(delivery.c.job_id == job_id).order_by(*order))

    def jobs_of_study(self, study_uid: str) -> list[Job]:
        """The jobs of a study, oldest first."""
        return self._jobs(sa.select(job).where(job.c.study_uid == study_uid).order_by(job.c.id))


def as_job(row: sa.Row[Any]) -> Job:
    """A row of the table as a value."""
    fields = {name: getattr(row, name) for name in Job.__dataclass_fields__}
    fields |= {"state": JobState(row.state), "sop_instance_uids": tuple(row.sop_instance_uids.split())}
    return Job(**fields)


def _name(item: Item) -> str:
    return item.sop_instance_uid if isinstance(item, ResultInstance) else item.name
