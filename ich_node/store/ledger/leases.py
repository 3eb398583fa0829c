"""What one process at a time may do, whichever machine it is on: a lease by name, by the ledger's clock.

A lease is held for as long as its holder is heard of. Who has lost one may not know it yet, so whoever acts by a lease
either asks for it within the transaction that it guards (`store/ledger/assembly`), or stops before it is over
(`deliver/lease`).
"""

from __future__ import annotations

import sqlalchemy as sa

from ich_node.store.ledger.rows import Rows
from ich_node.store.ledger.tables import lease


class LeaseRows(Rows):
    """See protocols.Leases."""

    def take(self, name: str, holder: str, seconds: float) -> bool:
        """Take a lease that is free or over, or hold one's own for longer: `seconds` from now. False: another has it.

        One's own that is over and that nobody has taken is still one's own.
        """
        now = self._clock()
        wanted = self._insert_new(lease).values(name=name, holder=holder, until=now + seconds)
        # one that ends later than any could was given by a clock that has been put back since
        free = (lease.c.until < now) | (lease.c.until > now + 2 * seconds)
        taken = wanted.on_conflict_do_update(
            index_elements=["name"],
            set_={"holder": holder, "until": now + seconds},
            where=(lease.c.holder == holder) | free,
        ).returning(lease.c.name)
        with self._write() as db:
            return db.execute(taken).scalar() is not None

    def leave(self, name: str, holder: str) -> None:
        """Give a lease back, so that nobody waits for its end."""
        with self._write() as db:
            db.execute(sa.delete(lease).where(lease.c.name == name, lease.c.holder == holder))

    def holders(self, kind: str) -> set[str]:
        """Who holds a lease whose name begins with `kind` now."""
        with self._read() as db:
            alive = sa.select(lease.c.holder).where(lease.c.name.startswith(kind, autoescape=True))
            return set(db.execute(alive.where(lease.c.until >= self._clock())).scalars())
