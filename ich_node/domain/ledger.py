"""What the ledger keeps: jobs and deliveries, their states and the two tables of legal moves. No I/O, no clock.

Times are Unix seconds (UTC).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import overload


class JobState(StrEnum):
    """Where a job stands; the legal moves are JOB_TRANSITIONS."""

    QUEUED = "queued"
    RUNNING = "running"
    DELIVERING = "delivering"
    DONE = "done"
    INELIGIBLE = "ineligible"
    FAILED = "failed"


class DeliveryState(StrEnum):
    """Where one item stands on its way to one destination; the legal moves are DELIVERY_TRANSITIONS."""

    PENDING = "pending"
    SENT = "sent"
    COMMITTED = "committed"
    FAILED = "failed"


JOB_TRANSITIONS: Mapping[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.INELIGIBLE}),  # claimed · superseded before it ran
    JobState.RUNNING: frozenset(  # again · publish · give up · superseded, or nothing new
        {JobState.QUEUED, JobState.DELIVERING, JobState.FAILED, JobState.INELIGIBLE}
    ),
    JobState.DELIVERING: frozenset({JobState.DONE, JobState.FAILED}),  # every delivery settled · one was refused
    JobState.DONE: frozenset({JobState.DELIVERING}),  # a destination lost what it had taken, or an operator's resend
    JobState.INELIGIBLE: frozenset({JobState.QUEUED}),  # an operator's retry
    JobState.FAILED: frozenset({JobState.QUEUED, JobState.DELIVERING}),  # an operator's retry: again, or send again
}


DELIVERY_TRANSITIONS: Mapping[DeliveryState, frozenset[DeliveryState]] = {
    DeliveryState.PENDING: frozenset({DeliveryState.SENT, DeliveryState.FAILED}),
    DeliveryState.SENT: frozenset({DeliveryState.COMMITTED, DeliveryState.PENDING}),  # proven · lost, or sent anew
    DeliveryState.COMMITTED: frozenset({DeliveryState.PENDING}),  # an operator's resend
    DeliveryState.FAILED: frozenset({DeliveryState.PENDING}),  # an operator's retry or resend
}

FINISHED = frozenset({JobState.DONE, JobState.INELIGIBLE, JobState.FAILED})
"""States in which a job waits for nobody."""


def check_job_move(old: JobState, new: JobState) -> None:
    """Raises ValueError for a move that JOB_TRANSITIONS does not have: a defect of ours, whatever the data."""
    if new not in JOB_TRANSITIONS[old]:
        raise ValueError(f"a job cannot go from {old} to {new}")


def check_delivery_move(old: DeliveryState, new: DeliveryState) -> None:
    """Raises ValueError for a move that DELIVERY_TRANSITIONS does not have."""
    if new not in DELIVERY_TRANSITIONS[old]:
        raise ValueError(f"a delivery cannot go from {old} to {new}")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a series came from, to find its job by; None: not known.

    patient_hash, accession_hash: `hashed` of Patient ID and Accession Number: the database holds neither. site: the
    group of callers that takes turns and has a quota; None: the address does.
    """

    calling_ae_title: str | None = None
    calling_address: str | None = None
    patient_hash: str | None = None
    accession_hash: str | None = None
    site: str | None = None


def hashed(text: str) -> str:
    """SHA-256 (hex) of a text that is to be found again, not read; blanks round it do not count."""
    return hashlib.sha256(text.strip().encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Arrival:
    """What one association of one of several receivers has brought of a series. Times: Unix seconds, the ledger's.

    current: whether the association's last image is of this series. first_at, last_at: of what was taken; None when it
    was all refused. ended_at: None while the association is open.
    refused: SOP Instance UID → whether it was for lack of space. number: grows with every change of its receiver.
    """

    receiver: str
    association: int
    study_uid: str
    series_uid: str
    ae_title: str | None
    address: str | None
    current: bool
    first_at: float | None
    last_at: float | None
    ended_at: float | None
    released: bool
    refused: Mapping[str, bool]
    number: int


@dataclass(frozen=True, slots=True)
class Job:
    """One series to analyse. Times are Unix seconds (UTC); `predecessor` is the job that this one corrects.

    sop_instance_uids: empty when retention has removed the images; the digest stays.
    revision: 0, and one more each time that an operator has the same images analysed anew.
    refusal: why the series was not analysed, in the reader's words; written once, with the decision.
    publish_after: results wait for that moment: more images may come. told: the code (domain.reasons.Why) of a reason
    that the images do not show, to be told instead of an analysis.
    trouble: what last went wrong, or what an operator did to it; says nothing about the series.
    priority: STAT, HIGH or ROUTINE once results of an analysis are published, None as long as there is none.
    claims: how often it was claimed, never reset; lease_until: when the worker that holds it must have been heard of.
    """

    id: int
    study_uid: str
    series_uid: str
    input_digest: str
    sop_instance_uids: tuple[str, ...]
    revision: int
    state: JobState
    rank: int
    attempts: int
    claims: int
    not_before: float
    publish_after: float
    told: str | None
    worker: str | None
    lease_until: float | None
    refusal: str | None
    trouble: str | None
    predecessor: int | None
    priority: str | None
    calling_ae_title: str | None
    calling_address: str | None
    patient_hash: str | None
    accession_hash: str | None
    created_at: float
    updated_at: float

    @property
    def is_analysed(self) -> bool:
        """Whether results of an analysis were published, not only the news that there was none."""
        return self.priority is not None


@dataclass(frozen=True, slots=True)
class ResultInstance:
    """A published SOP Instance."""

    sop_class_uid: str
    sop_instance_uid: str
    path: Path


@dataclass(frozen=True, slots=True)
class ResultMessage:
    """A published message that is no SOP Instance (HL7, JSON); `name` tells it from the others of its job."""

    name: str
    path: Path


Item = ResultInstance | ResultMessage


@dataclass(frozen=True, slots=True)
class Owed:
    """One item that one destination is to get. Per destination the order in a list of them is the order of delivery."""

    item: Item
    destination: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """One item on its way to one destination.

    item: SOP Instance UID of an instance, name of a message. sop_class_uid: empty for a message.
    code, cause: the last answer, as its protocol writes it ("0xA700", "AE", "503"), and its meaning in plain words.
    sent_sop_…: what really went out, which differs from item when the peer took an alternate.
    transaction_uid: of the Storage Commitment that was asked for.
    """

    job_id: int
    item: str
    sequence: int
    sop_class_uid: str
    path: Path
    destination: str
    state: DeliveryState
    attempts: int
    not_before: float
    code: str | None
    cause: str | None
    sent_sop_class_uid: str | None
    sent_sop_instance_uid: str | None
    transaction_uid: str | None
    created_at: float
    updated_at: float

    @property
    def is_instance(self) -> bool:
        """False for a message."""
        return bool(self.sop_class_uid)

    @property
    def sop_instance_uid(self) -> str:
        """The item, for what sends instances only."""
        return self.item


@dataclass(frozen=True, slots=True)
class DeliveryTally:
    """How many deliveries are in one state at one destination. cause, updated_at: of the one that changed last."""

    destination: str
    state: DeliveryState
    count: int
    cause: str | None
    updated_at: float


@dataclass(frozen=True, slots=True)
class Sent:
    """A destination's yes to a delivery; sop_… name what went out if it was an alternate."""

    delivery: Delivery
    code: str
    cause: str | None = None
    sop_class_uid: str | None = None
    sop_instance_uid: str | None = None


@overload
def dimse_code(status: int) -> str: ...
@overload
def dimse_code(status: int | None) -> str | None: ...
def dimse_code(status: int | None) -> str | None:
    """A DIMSE status as `code` holds it and people read it: 0xA700; None without an answer."""
    return None if status is None else f"0x{status:04X}"
