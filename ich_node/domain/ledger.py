"""What the ledger keeps: jobs and deliveries, their states and the two tables of legal moves. No I/O, no clock.

Times are Unix seconds (UTC).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class JobState(StrEnum):
    """Where a job stands; the legal moves are JOB_TRANSITIONS."""

    QUEUED = "queued"
    RUNNING = "running"
    DELIVERING = "delivering"
    DONE = "done"
    INELIGIBLE = "ineligible"
    FAILED = "failed"


class DeliveryState(StrEnum):
    """Where one instance stands on its way to one destination; the legal moves are DELIVERY_TRANSITIONS."""

    PENDING = "pending"
    SENT = "sent"
    COMMITTED = "committed"
    FAILED = "failed"


JOB_TRANSITIONS: Mapping[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.INELIGIBLE}),  # claimed · superseded before it ran
    JobState.RUNNING: frozenset({JobState.QUEUED, JobState.DELIVERING, JobState.FAILED}),  # retry · publish · give up
    JobState.DELIVERING: frozenset({JobState.DONE, JobState.FAILED}),  # every delivery settled · one was refused
    JobState.DONE: frozenset({JobState.DELIVERING}),  # a destination lost what it had taken
    JobState.INELIGIBLE: frozenset({JobState.QUEUED}),  # an operator's retry
    JobState.FAILED: frozenset({JobState.QUEUED, JobState.DELIVERING}),  # an operator's retry: again, or send again
}


DELIVERY_TRANSITIONS: Mapping[DeliveryState, frozenset[DeliveryState]] = {
    DeliveryState.PENDING: frozenset({DeliveryState.SENT, DeliveryState.FAILED}),
    DeliveryState.SENT: frozenset({DeliveryState.COMMITTED, DeliveryState.PENDING}),  # proven · the peer lost it
    DeliveryState.COMMITTED: frozenset(),
    DeliveryState.FAILED: frozenset({DeliveryState.PENDING}),  # an operator's retry
}


@dataclass(frozen=True, slots=True)
class Job:
    """One series to analyse. Times are Unix seconds (UTC); `predecessor` is the job that this one corrects."""

    id: int
    study_uid: str
    series_uid: str
    input_digest: str
    sop_instance_uids: tuple[str, ...]
    state: JobState
    rank: int
    attempts: int
    not_before: float
    worker: str | None
    reason: str | None
    predecessor: int | None
    priority: str | None
    created_at: float
    updated_at: float


@dataclass(frozen=True, slots=True)
class ResultFile:
    """One published result instance, in the order in which it is to be delivered."""

    sop_class_uid: str
    sop_instance_uid: str
    path: Path


@dataclass(frozen=True, slots=True)
class Delivery:
    """One result instance on its way to one destination.

    status, cause: the last DIMSE status and its meaning in plain words. sent_sop_…: what really went out, which differs
    from sop_… when the peer took an alternate. transaction_uid: of the Storage Commitment that was asked for.
    """

    job_id: int
    sequence: int
    sop_class_uid: str
    sop_instance_uid: str
    path: Path
    destination: str
    state: DeliveryState
    attempts: int
    not_before: float
    status: int | None
    cause: str | None
    sent_sop_class_uid: str | None
    sent_sop_instance_uid: str | None
    transaction_uid: str | None
    created_at: float
    updated_at: float
