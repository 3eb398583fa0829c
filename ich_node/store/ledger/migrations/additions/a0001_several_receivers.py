"""Leases, who assembles which study, and what each receiver has got of it."""

import sqlalchemy as sa
from alembic import op

revision = "a0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Tables that the version before does not look at."""
    op.create_table(
        "lease",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("until", sa.Float, nullable=False),
    )
    op.create_table(
        "assembly",
        sa.Column("study_uid", sa.Text, primary_key=True),
        sa.Column("receiver", sa.Text, nullable=False, index=True),
    )
    op.create_table(
        "arrival",
        sa.Column("receiver", sa.Text, primary_key=True),
        sa.Column("association", sa.Integer, primary_key=True),
        sa.Column("study_uid", sa.Text, primary_key=True, index=True),
        sa.Column("series_uid", sa.Text, primary_key=True),
        sa.Column("ae_title", sa.Text),
        sa.Column("address", sa.Text),
        sa.Column("current", sa.Boolean, nullable=False),
        sa.Column("first_at", sa.Float),
        sa.Column("last_at", sa.Float),
        sa.Column("ended_at", sa.Float),
        sa.Column("released", sa.Boolean, nullable=False),
        sa.Column("refused", sa.Text, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
    )


def downgrade() -> None:
    """Without them there is one receiver."""
    for table in ("arrival", "assembly", "lease"):
        op.drop_table(table)
