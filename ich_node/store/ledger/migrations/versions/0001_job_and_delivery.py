"""Job and delivery."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """A ledger where there was none."""
    op.create_table(
        "job",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("study_uid", sa.Text, nullable=False, index=True),
        sa.Column("series_uid", sa.Text, nullable=False),
        sa.Column("input_digest", sa.Text, nullable=False),
        sa.Column("sop_instance_uids", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("rank", sa.Integer, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("not_before", sa.Float, nullable=False),
        sa.Column("worker", sa.Text),
        sa.Column("reason", sa.Text),
        sa.Column("predecessor", sa.Integer, sa.ForeignKey("job.id")),
        sa.Column("priority", sa.Text),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("updated_at", sa.Float, nullable=False),
        sa.UniqueConstraint("series_uid", "input_digest", name="same_input_never_twice"),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'delivering', 'done', 'ineligible', 'failed')", name="job_state"
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("job_ready", "job", ["state", "rank", "id"])
    op.create_table(
        "delivery",
        sa.Column("sop_instance_uid", sa.Text, primary_key=True),
        sa.Column("destination", sa.Text, primary_key=True),
        sa.Column("job_id", sa.Integer, sa.ForeignKey("job.id"), nullable=False, index=True),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("urgency", sa.Integer, nullable=False),
        sa.Column("sop_class_uid", sa.Text, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("not_before", sa.Float, nullable=False),
        sa.Column("status", sa.Integer),
        sa.Column("cause", sa.Text),
        sa.Column("sent_sop_class_uid", sa.Text),
        sa.Column("sent_sop_instance_uid", sa.Text),
        sa.Column("transaction_uid", sa.Text),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("updated_at", sa.Float, nullable=False),
        sa.CheckConstraint("state IN ('pending', 'sent', 'committed', 'failed')", name="delivery_state"),
    )
    op.create_index("delivery_due", "delivery", ["destination", "state", "urgency", "job_id", "sequence"])


def downgrade() -> None:
    """No ledger: what was in it is gone."""
    op.drop_table("delivery")
    op.drop_table("job")
