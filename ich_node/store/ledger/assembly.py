"""The ledger as several receivers share it: what each has got, and which of them judges a study.

A study is assembled by one receiver at a time, for it gets one answer: whoever first has something of it, until that
one has done with it, or its own lease is over; then any other one takes it over, with all that anybody has got of it.
Invariant: a receiver that has lost a study makes no row for it (`_ours`, asked by `intake` within its transaction).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ich_node.domain.errors import Superseded
from ich_node.domain.ledger import Arrival
from ich_node.store.ledger.leases import LeaseRows
from ich_node.store.ledger.tables import arrival, assembly, lease

RECEIVING = "receive/"
"""Leases of receivers: this and the receiver's name."""
RECEIVING_S = 15.0
"""A receiver that was not heard of for so long is taken for dead: of the order of the quiet period of a series."""
MOST_AT_ONCE = 500
"""Studies in one statement: older builds of SQLite take 999 variables."""
KEY = ("receiver", "association", "study_uid", "series_uid")


class AssemblyRows(LeaseRows):
    """See protocols.Assembly."""

    receiver: str | None = None
    """Which one of several receivers this process is; None: it is the only one."""

    def join(self, receiver: str) -> None:
        """Be one of several receivers from now on, under a name that no other process ever has."""
        self.receiver = receiver
        self.stay()

    def stay(self) -> None:
        """Be heard of: the lease starts afresh."""
        self.take(f"{RECEIVING}{self.receiver}", self._me, RECEIVING_S)

    def part(self, receiver: str) -> None:
        """A receiver has ended: others may have its studies at once."""
        self.leave(f"{RECEIVING}{receiver}", receiver)

    def receivers(self) -> set[str]:
        """Those that are heard of."""
        return self.holders(RECEIVING)

    def now(self) -> float:
        """The ledger's clock, Unix seconds."""
        return self._clock()

    def report(self, arrivals: Sequence[Arrival], wanted: Collection[str]) -> set[str]:
        """Make known what has come to this receiver, and take the studies that nobody assembles; see `acquire`.

        wanted: the studies in it that this receiver does not assemble already.
        """
        rows = [_as_row(each) for each in arrivals]
        told = self._insert_new(arrival)
        new = {column.name: told.excluded[column.name] for column in arrival.c if column.name not in KEY}
        with self._write() as db:
            mine = self._take_studies(db, wanted)  # first, as `settle` does
            if rows:
                db.execute(told.on_conflict_do_update(index_elements=KEY, set_=new), rows)
        return mine

    def ended(self, association: int, at: float, released: bool, number: int) -> None:
        """An association of this receiver has ended."""
        mine = (arrival.c.receiver == self._me) & (arrival.c.association == association)
        with self._write() as db:
            db.execute(sa.update(arrival).where(mine).values(ended_at=at, released=released, number=number))

    def acquire(self, study_uids: Collection[str]) -> set[str]:
        """Take studies that no living receiver assembles; those that this one assembles then."""
        with self._write() as db:
            return self._take_studies(db, study_uids)

    def _take_studies(self, db: sa.Connection, study_uids: Collection[str]) -> set[str]:
        if not study_uids:
            return set()
        ordered = sorted(study_uids)  # so that no two receivers wait for each other
        new = [{"study_uid": study_uid, "receiver": self._me} for study_uid in ordered]
        same = {"receiver": assembly.c.receiver}  # holds the row: `settle` does not take it away before we are through
        db.execute(self._insert_new(assembly).on_conflict_do_update(index_elements=["study_uid"], set_=same), new)
        # not within ON CONFLICT: a condition there that looks into another table would look at every study at once
        free = sa.select(assembly.c.study_uid).where(assembly.c.study_uid.in_(ordered), ~self._is_assembled())
        orphans = list(db.execute(free.order_by(assembly.c.study_uid).with_for_update()).scalars())
        db.execute(sa.update(assembly).where(assembly.c.study_uid.in_(orphans)).values(receiver=self._me))
        mine = (assembly.c.receiver == self._me) & assembly.c.study_uid.in_(ordered)
        return set(db.execute(sa.select(assembly.c.study_uid).where(mine)).scalars())

    def _is_assembled(self) -> sa.ColumnElement[bool]:
        """Whether the receiver of a study is heard of."""
        alive = (lease.c.holder == assembly.c.receiver) & (lease.c.until >= self._clock())
        return sa.exists().where(alive, lease.c.name.startswith(RECEIVING, autoescape=True))

    def assembled(self) -> set[str]:
        """The studies that this receiver assembles."""
        with self._read() as db:
            mine = sa.select(assembly.c.study_uid).where(assembly.c.receiver == self._me)
            return set(db.execute(mine).scalars())

    def orphans(self) -> set[str]:
        """Studies whose receiver is not heard of any more, some at a time."""
        with self._read() as db:
            return set(
                db.execute(sa.select(assembly.c.study_uid).where(~self._is_assembled()).limit(MOST_AT_ONCE)).scalars()
            )

    def arrivals(self, study_uids: Collection[str]) -> list[Arrival]:
        """All that any receiver has got of these studies."""
        with self._read() as db:
            rows = db.execute(sa.select(arrival).where(arrival.c.study_uid.in_(list(study_uids))))
            return [_as_arrival(row) for row in rows]

    def news(self, seen: Mapping[str, int]) -> list[Arrival]:
        """What has come to others of the studies that this one assembles. seen: receiver → number of the last one."""
        mine = sa.exists().where(assembly.c.study_uid == arrival.c.study_uid, assembly.c.receiver == self._me)
        with self._read() as db:
            rows = db.execute(sa.select(arrival).where(arrival.c.receiver != self._me, mine, _beyond(seen)))
            return [_as_arrival(row) for row in rows]

    def settle(self, study_uids: Collection[str], seen: Mapping[str, int]) -> set[str]:
        """Have done with studies, but for those of which more has come to others meanwhile; which they were."""
        with self._write() as db:
            mine = (assembly.c.receiver == self._me) & assembly.c.study_uid.in_(list(study_uids))
            held = sa.select(assembly.c.study_uid).where(mine).order_by(assembly.c.study_uid).with_for_update()
            done = set(db.execute(held).scalars())  # nobody adds to them until the end of this transaction
            more = sa.select(arrival.c.study_uid).where(
                arrival.c.study_uid.in_(done), arrival.c.receiver != self._me, _beyond(seen)
            )
            done -= set(db.execute(more).scalars())
            db.execute(sa.delete(arrival).where(arrival.c.study_uid.in_(done)))
            db.execute(sa.delete(assembly).where(assembly.c.study_uid.in_(done)))
        return done

    def _ours(self, db: sa.Connection, study_uid: str) -> None:
        """Raises Superseded unless this receiver assembles the study, until the end of the transaction.

        Whoever is the only receiver assembles everything.
        """
        if self.receiver is None:
            return
        holder = sa.select(assembly.c.receiver).where(assembly.c.study_uid == study_uid).with_for_update(read=True)
        if db.execute(holder).scalar() != self.receiver:
            raise Superseded("another receiver assembles this study")

    @property
    def _me(self) -> str:
        assert self.receiver is not None, "join() comes first"  # noqa: S101
        return self.receiver


def _beyond(seen: Mapping[str, int]) -> sa.ColumnElement[bool]:
    """What was not seen yet."""
    later = [(arrival.c.receiver == receiver) & (arrival.c.number > number) for receiver, number in seen.items()]
    return sa.or_(arrival.c.receiver.not_in(list(seen)), *later)


def _as_row(value: Arrival) -> dict[str, Any]:
    fields = {name: getattr(value, name) for name in Arrival.__dataclass_fields__}
    return fields | {"refused": json.dumps(sorted(value.refused.items()))}


def _as_arrival(row: sa.Row[Any]) -> Arrival:
    fields = {name: getattr(row, name) for name in Arrival.__dataclass_fields__}
    return Arrival(**fields | {"refused": dict(json.loads(row.refused))})
