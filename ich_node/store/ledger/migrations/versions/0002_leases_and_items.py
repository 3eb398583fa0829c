"""Refusal and trouble instead of reason; leases, revisions and origins; deliveries of items, keyed by job as well."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

NOT_CLINICAL = "(reason LIKE 'superseded by job %' OR reason = 'dropped by an operator')"
CLINICAL = f"state IN ('ineligible', 'delivering', 'done') AND priority IS NULL AND NOT {NOT_CLINICAL}"


def upgrade() -> None:
    """New tables beside the old ones, filled from them, then renamed: SQLite cannot change a key in place."""
    _make_jobs()
    _make_deliveries()
    op.drop_table("delivery")
    op.execute("UPDATE job SET predecessor = NULL")  # or dropping the table breaks its own foreign key
    op.drop_table("job")
    op.rename_table("new_job", "job")
    op.rename_table("new_delivery", "delivery")
    _make_indices()
    op.create_table(
        "hurry",
        sa.Column("destination", sa.Text, primary_key=True),
        sa.Column("asked_at", sa.Float, nullable=False),
    )


def _make_jobs() -> None:
    op.create_table(
        "new_job",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("study_uid", sa.Text, nullable=False),
        sa.Column("series_uid", sa.Text, nullable=False),
        sa.Column("input_digest", sa.Text, nullable=False),
        sa.Column("sop_instance_uids", sa.Text, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("rank", sa.Integer, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("claims", sa.Integer, nullable=False),
        sa.Column("not_before", sa.Float, nullable=False),
        sa.Column("worker", sa.Text),
        sa.Column("lease_until", sa.Float),
        sa.Column("refusal", sa.Text),
        sa.Column("trouble", sa.Text),
        sa.Column("predecessor", sa.Integer, sa.ForeignKey("new_job.id")),
        sa.Column("priority", sa.Text),
        sa.Column("calling_ae_title", sa.Text),
        sa.Column("calling_address", sa.Text),
        sa.Column("patient_hash", sa.Text),
        sa.Column("accession_hash", sa.Text),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("updated_at", sa.Float, nullable=False),
        sa.UniqueConstraint("series_uid", "input_digest", "revision", name="same_input_never_twice"),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'delivering', 'done', 'ineligible', 'failed')", name="job_state"
        ),
        sqlite_autoincrement=True,
    )
    # a running job of the old version has no lease: it is over at once, whoever claims next takes it
    op.execute(
        f"""
        INSERT INTO new_job
        SELECT id, study_uid, series_uid, input_digest, sop_instance_uids, 0, state, rank, attempts, attempts,
               not_before, worker, CASE state WHEN 'running' THEN 0.0 END,
               CASE WHEN {CLINICAL} THEN reason END, CASE WHEN {CLINICAL} THEN NULL ELSE reason END,
               predecessor, priority, NULL, NULL, NULL, NULL, created_at, updated_at
        FROM job ORDER BY id
        """  # noqa: S608
    )


def _make_deliveries() -> None:
    op.create_table(
        "new_delivery",
        sa.Column("job_id", sa.Integer, sa.ForeignKey("new_job.id"), primary_key=True),
        sa.Column("item", sa.Text, primary_key=True),
        sa.Column("destination", sa.Text, primary_key=True),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("urgency", sa.Integer, nullable=False),
        sa.Column("sop_class_uid", sa.Text, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("not_before", sa.Float, nullable=False),
        sa.Column("code", sa.Text),
        sa.Column("cause", sa.Text),
        sa.Column("sent_sop_class_uid", sa.Text),
        sa.Column("sent_sop_instance_uid", sa.Text),
        sa.Column("transaction_uid", sa.Text),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("updated_at", sa.Float, nullable=False),
        sa.CheckConstraint("state IN ('pending', 'sent', 'committed', 'failed')", name="delivery_state"),
    )
    op.execute(
        """
        INSERT INTO new_delivery
        SELECT job_id, sop_instance_uid, destination, sequence, urgency, sop_class_uid, path, state, attempts,
               not_before, CASE WHEN status IS NOT NULL THEN printf('0x%04X', status) END, cause,
               sent_sop_class_uid, sent_sop_instance_uid, transaction_uid, created_at, updated_at
        FROM delivery
        """
    )


def _make_indices() -> None:
    for column in ("study_uid", "patient_hash", "accession_hash"):
        op.create_index(f"ix_job_{column}", "job", [column])
    op.create_index("job_ready", "job", ["state", sa.text("rank DESC"), "id"])
    op.create_index("job_of_series", "job", ["series_uid", "state"])
    op.create_index("job_of_predecessor", "job", ["predecessor"], sqlite_where=sa.text("predecessor IS NOT NULL"))
    op.create_index("delivery_due", "delivery", ["destination", "state", "urgency", "job_id", "sequence"])
    op.create_index("delivery_age", "delivery", ["destination", "state", "created_at"])
    op.create_index(
        "delivery_transaction", "delivery", ["transaction_uid"], sqlite_where=sa.text("transaction_uid IS NOT NULL")
    )
    op.create_index(
        "instance_of_one_job",
        "delivery",
        ["destination", "item"],
        unique=True,
        sqlite_where=sa.text("sop_class_uid <> ''"),
    )


def downgrade() -> None:
    """Raises NotImplementedError."""
    raise NotImplementedError("an older version cannot hold what this one keeps: restore the copy made before")
