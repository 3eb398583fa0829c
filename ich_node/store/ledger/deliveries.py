"""The ledger as a sender sees it: what is owed to one destination, and what became of it.

A delivery that has moved on meanwhile (dropped by an operator, proven by a report) stays as it is: an answer that comes
too late changes nothing, and the others of its batch are recorded all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa

from ich_node.domain.ledger import Delivery, DeliveryState, Job, JobState, Owed, ResultInstance, Sent
from ich_node.store.ledger import rebuild
from ich_node.store.ledger.rows import Rows, as_job
from ich_node.store.ledger.tables import delivery, hurry, job


class LedgerRows(Rows):
    """See protocols.Ledger."""

    def due(self, destination: str, limit: int = 1000) -> list[Delivery]:
        """What to send now: STAT before HIGH before the rest, then job by job in the order of their results.

        What has to wait stands aside: the other items of its job pass.
        """
        ready = delivery.c.not_before <= self._clock()
        order = (delivery.c.urgency, delivery.c.job_id, delivery.c.sequence)
        return self._pending(destination, ready, *order, limit=limit)

    def waiting(self, destination: str, limit: int = 1000) -> list[Delivery]:
        """What stands aside, tried least first."""
        aside = delivery.c.not_before > self._clock()
        order = (delivery.c.attempts, delivery.c.urgency, delivery.c.job_id)
        return self._pending(destination, aside, *order, limit=limit)

    def _pending(
        self, destination: str, which: sa.ColumnElement[bool], *order: sa.ColumnElement[Any], limit: int
    ) -> list[Delivery]:
        mine = (delivery.c.destination == destination) & (delivery.c.state == DeliveryState.PENDING)
        return self._deliveries(sa.select(delivery).where(mine, which).order_by(*order).limit(limit))

    def release(self, destination: str, sop_class_uid: str) -> None:
        """What stands aside of this SOP Class need not wait any longer."""
        mine = (delivery.c.destination == destination) & (delivery.c.state == DeliveryState.PENDING)
        aside = (delivery.c.sop_class_uid == sop_class_uid) & (delivery.c.not_before > self._clock())
        with self._write() as db:
            db.execute(sa.update(delivery).where(mine, aside).values(not_before=0.0))

    def sent_all(self, answers: Sequence[Sent]) -> None:
        """Record the answers of one batch in one transaction: a commit costs more than a small C-STORE.

        After a crash before it the items are sent again, with the same bytes and UIDs.
        """
        with self._write() as db:
            self._hold(db, {answer.delivery.job_id for answer in answers})
            for answer in answers:
                item = answer.delivery
                self._move(
                    db,
                    item,
                    DeliveryState.PENDING,
                    DeliveryState.SENT,
                    code=answer.code,
                    cause=answer.cause,
                    sent_sop_class_uid=answer.sop_class_uid or item.sop_class_uid or None,
                    sent_sop_instance_uid=answer.sop_instance_uid or (item.item if item.is_instance else None),
                    attempts=delivery.c.attempts + 1,
                )
            for job_id in {answer.delivery.job_id for answer in answers}:
                self._finish_if_settled(db, job_id)

    def refused(self, item: Delivery, code: str | None, cause: str) -> None:
        """The destination will never take it, or we give up."""
        with self._write() as db:
            self._hold(db, [item.job_id])
            values = {"code": code, "cause": cause, "attempts": delivery.c.attempts + 1}
            if self._move(db, item, DeliveryState.PENDING, DeliveryState.FAILED, **values):
                self._finish_if_settled(db, item.job_id)

    def postpone(self, item: Delivery, code: str | None, cause: str, not_before: float) -> None:
        """A transient failure: try again, not before `not_before`."""
        with self._write() as db:
            values = {"code": code, "cause": cause, "not_before": not_before, "attempts": delivery.c.attempts + 1}
            self._change(db, item, DeliveryState.PENDING, **values)

    def hurried_at(self, destination: str) -> float:
        """When an operator last said that what waits for this destination is to go now; Unix seconds, 0.0 for never."""
        with self._read() as db:
            asked = db.execute(sa.select(hurry.c.asked_at).where(hurry.c.destination == destination)).scalar()
            return 0.0 if asked is None else float(asked)

    # --- Storage Commitment ----------------------------------------------------------------------------------------

    def asked_commitment(self, items: Sequence[Delivery], transaction_uid: str | None) -> None:
        """Storage Commitment was asked for `items` under `transaction_uid` (durable before the request goes out).

        None takes it back: the request did not get through.
        """
        with self._write() as db:
            for item in items:
                self._change(db, item, DeliveryState.SENT, transaction_uid=transaction_uid)

    def uncommitted(
        self, destination: str, *, asked_before: float, created_after: float, limit: int = 1000
    ) -> list[Delivery]:
        """What was sent to `destination` and not asked for yet, or in vain before `asked_before`; oldest first.

        What is owed for longer than since `created_after` is left alone. Times are Unix seconds.
        """
        to_ask = delivery.c.transaction_uid.is_(None) | (delivery.c.updated_at < asked_before)
        sent = (delivery.c.destination == destination) & (delivery.c.state == DeliveryState.SENT)
        query = sa.select(delivery).where(sent, to_ask, delivery.c.created_at > created_after)
        return self._deliveries(query.order_by(delivery.c.created_at).limit(limit))

    def of_transaction(self, transaction_uid: str) -> list[Delivery]:
        """The deliveries that a commitment transaction is about."""
        return self._deliveries(sa.select(delivery).where(delivery.c.transaction_uid == transaction_uid))

    def committed(self, item: Delivery) -> None:
        """The peer committed to keep it."""
        with self._write() as db:
            self._move(db, item, DeliveryState.SENT, DeliveryState.COMMITTED)

    def lost(self, item: Delivery, cause: str) -> None:
        """The peer said Success and does not have it: send it again."""
        with self._write() as db:
            self._hold(db, [item.job_id])
            values = {"cause": cause, "transaction_uid": None}
            if not self._move(db, item, DeliveryState.SENT, DeliveryState.PENDING, **values):
                return
            state = self._job(db, item.job_id).state
            if state is not JobState.DELIVERING:  # done, or failed because of another destination
                self._move_job(db, item.job_id, state, JobState.DELIVERING)

    # --- a database that was rebuilt from files ----------------------------------------------------------------------

    def owe_restored(self, route: Callable[[Sequence[ResultInstance], Job], Sequence[Owed]]) -> int:
        """Owe the results of jobs that were restored from files (store/ledger/rebuild.py); returns how many jobs.

        route: which destination gets which of a job's result instances.
        """
        without = ~sa.exists().where(delivery.c.job_id == job.c.id)
        with self._write() as db:
            restored = db.execute(
                sa.select(job).where(job.c.state == JobState.DELIVERING, without).with_for_update()
            ).all()
            for row in map(as_job, restored):
                owed = route(rebuild.result_files(self._state, row.id), row)
                if rows := self._owed_rows(row.id, owed, row.priority):
                    db.execute(self._insert_new(delivery).on_conflict_do_nothing(), rows)
                self._finish_if_settled(db, row.id)
            return len(restored)
