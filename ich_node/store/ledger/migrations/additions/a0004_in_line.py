"""Whose turn it is, by an index: the jobs that wait by rank, site and since when."""

import sqlalchemy as sa
from alembic import op

revision = "a0004"
down_revision = "a0003"
branch_labels = None
depends_on = None

SITE = sa.text("coalesce(site, '')")
SINCE = sa.text("(CASE WHEN attempts > 0 THEN updated_at ELSE created_at END)")
QUEUED, DIED = sa.text("state = 'queued'"), sa.text("died IS NOT NULL")


def upgrade() -> None:
    """The version before finds its way without them."""
    for index in ("job_died", "job_turn"):
        op.drop_index(index, "job")
    op.create_index("job_turn", "job", [SITE, "served"])
    op.create_index("job_died", "job", [SITE, "died"], sqlite_where=DIED, postgresql_where=DIED)
    waits = [sa.text("rank"), SITE, SINCE, sa.text("id")]
    op.create_index("job_in_line", "job", waits, sqlite_where=QUEUED, postgresql_where=QUEUED)


def downgrade() -> None:
    """As before."""
    for index in ("job_in_line", "job_died", "job_turn"):
        op.drop_index(index, "job")
    op.create_index("job_turn", "job", ["site", "served"])
    op.create_index("job_died", "job", ["site", "died"], sqlite_where=DIED, postgresql_where=DIED)
