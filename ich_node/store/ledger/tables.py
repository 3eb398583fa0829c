"""The tables. Pixel data lives in files; every decision lives here. States and legal moves: domain/ledger.py.

Times are Unix seconds (UTC). Paths are relative to the state directory, so that it can move to another disk. Nothing
here names a patient: Patient ID and Accession Number are hashes.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
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
    text,
)

from ich_node.domain.ledger import DeliveryState, JobState

metadata = MetaData()

SITE = "coalesce(site, '')"  # none: of a caller that is not known, or queued by the version before
SINCE = "(CASE WHEN attempts > 0 THEN updated_at ELSE created_at END)"
"""Since when a job waits for its turn: one that was begun and not finished queues up behind the others."""
IN_LINE = "state = 'queued'"


def _one_of(column: str, states: type[JobState] | type[DeliveryState]) -> str:
    return f"{column} IN ({', '.join(repr(state.value) for state in states)})"


def _where(condition: str) -> dict[str, Any]:
    """Of a partial index, in the words of either engine."""
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}


job = Table(
    "job",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_uid", Text, nullable=False, index=True),
    Column("series_uid", Text, nullable=False),
    Column("input_digest", Text, nullable=False),  # SHA-256 over the sorted SOP Instance UIDs
    Column("sop_instance_uids", Text, nullable=False),  # what the digest was taken over, one per line
    Column("revision", Integer, nullable=False),  # 0, and one more each time the same images are analysed anew
    Column("state", Text, nullable=False),
    Column("rank", Integer, nullable=False),  # 1: a rule says "before all others", 0: in turn
    Column("attempts", Integer, nullable=False),  # counted at claim, so that a crash counts
    Column("claims", Integer, nullable=False),  # never reset: tells a worker whose lease is over from the next one
    Column("not_before", Float, nullable=False),
    Column("publish_after", Float, nullable=False),  # its results wait for that: the series may go on
    Column("told", Text),  # code of the reason to tell instead of an analysis: domain.reasons.Why
    Column("worker", Text),  # name of the worker while running, for people
    Column("lease_until", Float),  # while running: the worker is heard of before, or loses the job
    Column("refusal", Text),  # why not analysed, for the reader; written once
    Column("trouble", Text),  # what last went wrong, for the operator
    Column("predecessor", Integer, ForeignKey("job.id")),  # the published job that this one corrects
    Column("priority", Text),  # STAT, HIGH or ROUTINE once an analysis is published, none when not analysed
    Column("calling_ae_title", Text),
    Column("calling_address", Text),
    Column("patient_hash", Text, index=True),
    Column("accession_hash", Text, index=True),
    Column("site", Text),  # whose turn it is: a group of callers, or an address; none: not known
    Column("served", Integer),  # number of the turn in which it was last claimed
    Column("died", Integer),  # its worker died with it: until that turn its site lets others pass
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    UniqueConstraint("series_uid", "input_digest", "revision", name="same_input_never_twice"),
    CheckConstraint(_one_of("state", JobState), name="job_state"),
    Index("job_ready", "state", text("rank DESC"), "id"),
    Index("job_in_line", "rank", text(SITE), text(SINCE), "id", **_where(IN_LINE)),  # what may be claimed: turns
    Index("job_of_series", "series_uid", "state"),
    Index("job_of_predecessor", "predecessor", **_where("predecessor IS NOT NULL")),  # for the foreign key
    Index("one_running_of_series", "series_uid", unique=True, **_where("state = 'running'")),
    Index("job_served", "served"),
    Index("job_turn", text(SITE), "served"),
    Index("job_died", text(SITE), "died", **_where("died IS NOT NULL")),
    sqlite_autoincrement=True,  # an id names a results folder: never used again
)

delivery = Table(
    "delivery",
    metadata,
    Column("job_id", Integer, ForeignKey("job.id"), primary_key=True),
    Column("item", Text, primary_key=True),  # SOP Instance UID, or name of a message
    Column("destination", Text, primary_key=True),
    Column("sequence", Integer, nullable=False),  # order within the job
    Column("urgency", Integer, nullable=False),  # 0 STAT, 1 HIGH, 2 the rest
    Column("sop_class_uid", Text, nullable=False),  # empty for a message
    Column("path", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("not_before", Float, nullable=False),
    Column("code", Text),  # last answer as its protocol writes it: 0xA700, AE, 503
    Column("cause", Text),  # plain words for the last answer
    Column("sent_sop_class_uid", Text),  # what really went out: the 3D SR or one of its alternates
    Column("sent_sop_instance_uid", Text),
    Column("transaction_uid", Text),  # of the Storage Commitment that was asked for
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    CheckConstraint(_one_of("state", DeliveryState), name="delivery_state"),
    Index("delivery_due", "destination", "state", "urgency", "job_id", "sequence"),
    Index("delivery_age", "destination", "state", "created_at"),  # what a destination is asked to commit to
    Index("delivery_transaction", "transaction_uid", **_where("transaction_uid IS NOT NULL")),
    Index(
        "instance_of_one_job", "destination", "item", unique=True, **_where("sop_class_uid <> ''")
    ),  # one SOP Instance UID has one content, so one job
)

hurry = Table(
    "hurry",
    metadata,
    Column("destination", Text, primary_key=True),
    Column("asked_at", Float, nullable=False),  # when an operator last said: what waits for it goes now
)

# --- for several machines: store.shared -----------------------------------------------------------------------------

lease = Table(
    "lease",
    metadata,
    Column("name", Text, primary_key=True),  # what is held
    Column("holder", Text, nullable=False),  # a process: host, and a word of its own
    Column("until", Float, nullable=False),  # by the ledger's clock: then anybody may take it
)

assembly = Table(
    "assembly",
    metadata,
    Column("study_uid", Text, primary_key=True),
    Column("receiver", Text, nullable=False, index=True),  # who judges its series, for as long as its own lease holds
)

share = Table(
    "share",
    metadata,
    Column("receiver", Text, primary_key=True),
    Column("site", Text, primary_key=True),
    Column("bytes", BigInteger, nullable=False),  # that it has got of the site lately
    Column("told_at", Float, nullable=False),
)

arrival = Table(
    "arrival",
    metadata,
    Column("receiver", Text, primary_key=True),
    Column("association", Integer, primary_key=True),
    Column("study_uid", Text, primary_key=True, index=True),
    Column("series_uid", Text, primary_key=True),
    Column("ae_title", Text),
    Column("address", Text),
    Column("current", Boolean, nullable=False),  # whether the association's last image is of this series
    Column("first_at", Float),  # none: of this series it has only refused
    Column("last_at", Float),
    Column("ended_at", Float),  # none: the association is open
    Column("released", Boolean, nullable=False),
    Column("refused", Text, nullable=False),  # JSON: [SOP Instance UID, for space] of each
    Column("number", Integer, nullable=False),  # of the receiver's last change to a row, always upwards
)

# --- where instances lie ---------------------------------------------------------------------------------------------

folder = Table(
    "folder",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("kind", Text, nullable=False),  # incoming or set_aside
    Column("name", Text, nullable=False),  # a Series Instance UID
    Column("modified_ns", BigInteger, nullable=False),  # when it was listed; 0: it was being written
    UniqueConstraint("kind", "name", name="one_place"),
)

held = Table(
    "held",
    metadata,
    Column("digest", BigInteger, primary_key=True, autoincrement=False),  # of a SOP Instance UID: held.digest
    Column("folder", Integer, ForeignKey("folder.id"), primary_key=True, autoincrement=False),
    Index("held_of_folder", "folder"),
    sqlite_with_rowid=False,  # a million instances take 40 MB
)
