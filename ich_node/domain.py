"""The words of the house as frozen values: no I/O, no clock, no third-party types but numpy arrays and headers.

Patient coordinates are DICOM's LPS in millimetres (PS3.3 C.7.6.2.1.1): +x to the patient's left, +y to posterior, +z
to the head. Arrays of a volume are ordered (slice, row, column), slices ascending along the stack normal, foot to head.
Slice *indices* are 0-based; slice *numbers*, which people read, are 1-based in the same order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydicom import Dataset

DISCLAIMER = "AI research result, not for diagnosis"

LABELS = ("any", "epidural", "intraparenchymal", "intraventricular", "subarachnoid", "subdural")
"""The labels of the RSNA 2019 challenge; every array with a label axis uses this order."""

IDENTITY_CHARACTERS = frozenset(map(chr, range(0x20, 0x7F))) - {"\\"}


class AETitle(str):
    """An application entity title: 1 to 16 characters of VR AE, not all blank (PS3.5 6.2).

    Leading and trailing blanks are not significant and are removed. Raises ValueError otherwise.
    """

    __slots__ = ()

    def __new__(cls, value: str) -> AETitle:
        title = value.strip(" ")
        if not 1 <= len(title) <= 16:
            raise ValueError(f"an AE title has 1 to 16 characters, not all blank: {value!r}")
        if set(title) - IDENTITY_CHARACTERS:
            raise ValueError(f"an AE title has printable ASCII characters and no backslash: {value!r}")
        return super().__new__(cls, title)


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end of an association."""

    ae_title: AETitle
    address: str


@dataclass(frozen=True, slots=True)
class Instance:
    """One stored SOP Instance; `path` is the file as received."""

    study_uid: str
    series_uid: str
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    path: Path


@dataclass(frozen=True, slots=True)
class Series:
    """The instances of one series that are at hand."""

    study_uid: str
    series_uid: str
    instances: tuple[Instance, ...]

    @property
    def input_digest(self) -> str:
        """The identity of "these images, whatever their order"."""
        return input_digest(instance.sop_instance_uid for instance in self.instances)


def input_digest(sop_instance_uids: Iterable[str]) -> str:
    """SHA-256 (hex) of the sorted, distinct SOP Instance UIDs, one per line."""
    return hashlib.sha256("\n".join(sorted(set(sop_instance_uids))).encode()).hexdigest()


# --- durable state -------------------------------------------------------------------------------------------------


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


# --- what the pipeline works on ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """A head CT on its own grid.

    hu: int16 [slices, rows, columns], Hounsfield units, padding −1024; slices foot to head, rows and columns as stored.
    spacing_mm: distance between slice planes (median, along the normal), between rows, between columns.
    affine: float64 [4, 4], (slice, row, column, 1) → LPS mm of the pixel centre; oblique slice axis if tilted.
    positions_mm: float64 [slices, 3], ImagePositionPatient of every slice (exact also where the spacing is uneven).
    headers: one dataset without pixel data per slice, in slice order (an Enhanced CT repeats its one dataset).
    frame_numbers: 1-based frame per slice for an Enhanced CT, else None.
    warnings: what a reader should know, in plain words (gaps, gantry tilt, …).
    """

    hu: npt.NDArray[np.int16]
    spacing_mm: tuple[float, float, float]
    affine: npt.NDArray[np.float64]
    positions_mm: npt.NDArray[np.float64]
    sop_instance_uids: tuple[str, ...]
    headers: tuple[Dataset, ...]
    frame_numbers: tuple[int, ...] | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What the bundle's manifest says, as far as the node needs it; clinical numbers live only there.

    thresholds: label → calibrated study probability from which a finding is called present.
    stat_threshold: calibrated study probability of "any" from which the priority is STAT.
    cam_threshold: calibrated cell probability from which a CAM cell counts as lit.
    manifest: the whole of ich.yaml.
    """

    id: str
    version: str
    sha256: str
    labels: tuple[str, ...]
    thresholds: Mapping[str, float]
    stat_threshold: float
    cam_threshold: float
    manifest: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """What the model said.

    slice_probability: float32 [slices, 6], calibrated, 0..1, smoothed along z as the manifest says.
    study_probability: float32 [6], calibrated, 0..1.
    cam: float32 [slices, 6, h, w], calibrated cell probabilities 0..1 on the model's grid.
    """

    slice_probability: npt.NDArray[np.float32]
    study_probability: npt.NDArray[np.float32]
    cam: npt.NDArray[np.float32]


class Laterality(StrEnum):
    """Side of a finding, the patient's."""

    LEFT = "left"
    RIGHT = "right"
    BILATERAL = "bilateral"
    MIDLINE = "midline"


class Priority(StrEnum):
    """How urgent the reading is."""

    STAT = "STAT"
    HIGH = "HIGH"
    ROUTINE = "ROUTINE"


@dataclass(frozen=True, slots=True)
class Peak:
    """The strongest CAM pixel of a finding: 0-based row and column of the CT slice, centre of the pixel in LPS mm."""

    sop_instance_uid: str
    frame_number: int | None
    slice_index: int
    row: int
    column: int
    position_mm: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Finding:
    """One label's verdict. Where it is (laterality … extent_mm) is given only when it is present.

    laterality: None when not sure. sites: names out of domain.SITES, most likely first, may be empty.
    first_slice, last_slice: 1-based slice numbers from foot to head. extent_mm: largest in-plane
    diameter of the lit area.
    """

    label: str
    probability: float
    present: bool
    laterality: Laterality | None = None
    sites: tuple[str, ...] = ()
    first_slice: int | None = None
    last_slice: int | None = None
    peak: Peak | None = None
    extent_mm: float | None = None


SITES = (
    "frontal lobe",
    "parietal lobe",
    "temporal lobe",
    "occipital lobe",
    "cerebral hemisphere",
    "deep grey matter",
    "lateral ventricle",
    "third ventricle",
    "fourth ventricle",
    "cerebellum",
    "brain stem",
    "supratentorial",
    "infratentorial",
)


@dataclass(frozen=True, slots=True, eq=False)
class KeySlice:
    """A slice worth showing. heat: float32 [rows, columns], calibrated CAM probability 0..1 of `label`, on the CT."""

    slice_index: int
    label: str
    heat: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Analysis:
    """Everything that was found out about one series; result.json, SC, SR and text report are made from it alone.

    status: "analysed", or "not_analysed" with `reason` in plain words (then findings, slices and priority are empty).
    headers: datasets without pixel data, in slice order where there is one; never empty.
    key_slices: in anatomical order, foot to head. provider: the execution provider that really ran.
    timings_s: seconds per stage.
    """

    status: Literal["analysed", "not_analysed"]
    reason: str | None
    study_uid: str
    series_uid: str
    input_digest: str
    card: ModelCard
    provider: str
    headers: tuple[Dataset, ...]
    priority: Priority | None = None
    findings: tuple[Finding, ...] = ()
    volume: Volume | None = None
    prediction: Prediction | None = None
    key_slices: tuple[KeySlice, ...] = ()
    warnings: tuple[str, ...] = ()
    timings_s: Mapping[str, float] = field(default_factory=dict)

    def finding(self, label: str) -> Finding:
        """The verdict on `label`; KeyError when the series was not analysed."""
        for finding in self.findings:
            if finding.label == label:
                return finding
        raise KeyError(label)
