"""The two tables. Pixel data lives in files; every decision lives here. States and legal moves: domain/ledger.py.

Times are Unix seconds (UTC). Paths are relative to the state directory, so that it can move to another disk.
"""

from __future__ import annotations

from sqlalchemy import (
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

from ich_node.domain.ledger import DeliveryState, JobState

metadata = MetaData()


def _one_of(column: str, states: type[JobState] | type[DeliveryState]) -> str:
    return f"{column} IN ({', '.join(repr(state.value) for state in states)})"


job = Table(
    "job",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_uid", Text, nullable=False, index=True),
    Column("series_uid", Text, nullable=False),
    Column("input_digest", Text, nullable=False),  # SHA-256 over the sorted SOP Instance UIDs
    Column("sop_instance_uids", Text, nullable=False),  # what the digest was taken over, one per line
    Column("state", Text, nullable=False),
    Column("rank", Integer, nullable=False),  # 1: a rule says "before all others", 0: first in, first out
    Column("attempts", Integer, nullable=False),  # counted at claim, so that a crash counts
    Column("not_before", Float, nullable=False),
    Column("worker", Text),  # name of the worker while running
    Column("reason", Text),  # why ineligible, failed or tried again
    Column("predecessor", Integer, ForeignKey("job.id")),  # the published job that this one corrects
    Column("priority", Text),  # STAT, HIGH or ROUTINE once published, none when not analysed
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    UniqueConstraint("series_uid", "input_digest", name="same_input_never_twice"),
    CheckConstraint(_one_of("state", JobState), name="job_state"),
    Index("job_ready", "state", "rank", "id"),
    sqlite_autoincrement=True,  # an id names a results folder: never used again
)

delivery = Table(
    "delivery",
    metadata,
    Column("sop_instance_uid", Text, primary_key=True),
    Column("destination", Text, primary_key=True),
    Column("job_id", Integer, ForeignKey("job.id"), nullable=False, index=True),
    Column("sequence", Integer, nullable=False),  # order within the job
    Column("urgency", Integer, nullable=False),  # 0 STAT, 1 HIGH, 2 the rest
    Column("sop_class_uid", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("not_before", Float, nullable=False),
    Column("status", Integer),  # last DIMSE status
    Column("cause", Text),  # plain words for the last status
    Column("sent_sop_class_uid", Text),  # what really went out: the 3D SR or one of its alternates
    Column("sent_sop_instance_uid", Text),
    Column("transaction_uid", Text),  # of the Storage Commitment that was asked for
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    CheckConstraint(_one_of("state", DeliveryState), name="delivery_state"),
    Index("delivery_due", "destination", "state", "urgency", "job_id", "sequence"),
)
