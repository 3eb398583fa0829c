"""Whose job is next: the highest rank, then the site that was served longest ago, then who waits longest.

The statements look at one job of each site, by the index `job_in_line`: what they cost grows with the sites that wait,
not with their jobs. They are text because both engines read it alike, and because an index over expressions serves only
who writes the same expressions.
"""

# ruff: noqa: S608 — statements made of constants
from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import sqlalchemy as sa

from ich_node.store.ledger.tables import IN_LINE, SINCE, SITE

AHEAD_S = 5.0
"""A job is begun so long before its results may go out: about what the slowest analysis takes."""
BEYOND = 1000  # every rank
LONGEST_HOLD_S = 3600.0  # chosen: far beyond the minutes that results are ever held back

# a job waits while another one of its series runs, so that a corrected result knows its predecessor; results are held
# back for minutes at most: a moment beyond was set by a clock that has been put back since
_READY = f"""{IN_LINE} AND not_before <= :now
    AND (publish_after <= :now + {AHEAD_S} OR publish_after > :now + {LONGEST_HOLD_S})
    AND NOT EXISTS (SELECT 1 FROM job AS run WHERE run.series_uid = job.series_uid AND run.state = 'running')"""
# a lease that ends later than any could was given by a clock that has been put back since
_LOST = "state = 'running' AND (lease_until < :now OR lease_until > :now + 2 * :lease_s)"
_TOP = "(SELECT rank FROM top)"
_OF_SITE = f"FROM job WHERE {_READY} AND rank = {_TOP} AND {SITE} = line.site ORDER BY {SINCE}, id LIMIT 1"

ANY = sa.text(
    f"""SELECT (SELECT id FROM job WHERE {_READY} ORDER BY rank DESC, id LIMIT 1) IS NOT NULL AS ready,
    EXISTS (SELECT 1 FROM job WHERE {_LOST}) AS lost"""
)
HEADS = sa.text(
    f"""WITH RECURSIVE top (rank) AS (SELECT max(rank) FROM job WHERE {IN_LINE} AND rank < :below), line (site) AS (
    SELECT (SELECT {SITE} FROM job WHERE {IN_LINE} AND rank = {_TOP} ORDER BY {SITE} LIMIT 1)
    UNION ALL
    SELECT (SELECT {SITE} FROM job WHERE {IN_LINE} AND rank = {_TOP} AND {SITE} > line.site ORDER BY {SITE} LIMIT 1)
    FROM line WHERE line.site IS NOT NULL
)
SELECT {_TOP} AS rank, line.site, (SELECT id {_OF_SITE}) AS id, (SELECT {SINCE} {_OF_SITE}) AS since,
    (SELECT max(served) FROM job WHERE {SITE} = line.site) AS served,
    (SELECT max(died) FROM job WHERE {SITE} = line.site AND died IS NOT NULL) AS died
FROM line WHERE line.site IS NOT NULL"""
)
FREE_OF_SITE = sa.text(
    f"""SELECT id FROM job WHERE {_READY} AND rank = :rank AND {SITE} = :site AND id NOT IN :tried
    ORDER BY {SINCE}, id LIMIT 1 FOR UPDATE SKIP LOCKED"""
).bindparams(sa.bindparam("tried", expanding=True))


@dataclass(frozen=True, slots=True)
class Head:
    """The first job of a site that is ready."""

    id: int
    rank: int
    site: str


def line_up(db: sa.Connection, now: float) -> list[Head]:
    """The first job of each site that has one of the highest rank; whose turn it is first.

    A site's turn comes by the number of the last one that it had. One whose job cost a worker its life has had all up
    to `died`.
    """
    below = BEYOND
    while rows := db.execute(HEADS, {"now": now, "below": below}).all():
        if ready := [row for row in rows if row.id is not None]:
            ready.sort(key=lambda row: (max(row.served or 0, row.died or 0), row.since, row.id))
            return [Head(row.id, row.rank, row.site) for row in ready]
        below = rows[0].rank
    return []


def next_job(db: sa.Connection, now: float, tried: Collection[int], *, several: bool) -> int | None:
    """The job whose turn it is. several: writers, as on a server; then one that no other is just taking, held."""
    heads = line_up(db, now)
    if not several:
        return heads[0].id if heads else None
    for head in heads:
        of_site = {"now": now, "rank": head.rank, "site": head.site, "tried": list(tried) or [0]}
        if (job_id := db.execute(FREE_OF_SITE, of_site).scalar()) is not None:
            return int(job_id)
    return None
