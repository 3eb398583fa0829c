"""Sites: whose turn it is in the queue, and how much each receiver has got of whom."""

import sqlalchemy as sa
from alembic import op

revision = "a0003"
down_revision = "a0002"
branch_labels = None
depends_on = None

DIED = sa.text("died IS NOT NULL")


def upgrade() -> None:
    """Jobs of before, and of the version before, are those of a site that is not known."""
    for column in (sa.Column("site", sa.Text), sa.Column("served", sa.Integer), sa.Column("died", sa.Integer)):
        op.add_column("job", column)
    op.create_index("job_served", "job", ["served"])
    op.create_index("job_turn", "job", ["site", "served"])
    op.create_index("job_died", "job", ["site", "died"], sqlite_where=DIED, postgresql_where=DIED)
    op.create_table(
        "share",
        sa.Column("receiver", sa.Text, primary_key=True),
        sa.Column("site", sa.Text, primary_key=True),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("told_at", sa.Float, nullable=False),
    )


def downgrade() -> None:
    """Addresses take turns."""
    op.drop_table("share")
    for index in ("job_died", "job_turn", "job_served"):
        op.drop_index(index, "job")
    for column in ("died", "served", "site"):
        op.drop_column("job", column)
