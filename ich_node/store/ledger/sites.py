"""The ledger as quotas of sites need it: whose jobs wait, and what other receivers have got of whom."""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa

from ich_node.domain.ledger import JobState
from ich_node.store.ledger.rows import Rows
from ich_node.store.ledger.tables import job, share


class SiteRows(Rows):
    """See protocols.Sites."""

    def queued_by_site(self) -> dict[str, int]:
        """How many jobs of each site wait for a worker; of a caller without one, of its address."""
        waiting = sa.select(job.c.site, sa.func.count().label("jobs")).where(job.c.state == JobState.QUEUED)
        with self._read() as db:
            return {row.site or "": row.jobs for row in db.execute(waiting.group_by(job.c.site))}

    def exchange_shares(self, receiver: str, shares: Mapping[str, int], lately_s: float) -> dict[str, int]:
        """Tell what this receiver has got of each site lately (bytes), and hear what all others have.

        What one has told counts for `lately_s` seconds, also when it is gone: the bytes are there.
        """
        now = self._clock()
        told = self._insert_new(share)
        new = {"bytes": told.excluded.bytes, "told_at": told.excluded.told_at}
        told = told.on_conflict_do_update(index_elements=["receiver", "site"], set_=new)
        rows = [{"receiver": receiver, "site": site, "bytes": count, "told_at": now} for site, count in shares.items()]
        others = sa.select(share.c.site, sa.func.sum(share.c.bytes).label("bytes"))
        others = others.where(share.c.receiver != receiver, share.c.told_at > now - lately_s).group_by(share.c.site)
        with self._write() as db:
            if rows:
                db.execute(told, rows)
            return {row.site: int(row.bytes) for row in db.execute(others)}
