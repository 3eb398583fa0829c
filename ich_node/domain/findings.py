"""What the pipeline works on and what it finds, as frozen values: no I/O, no clock; arrays and headers at most.

Patient coordinates are DICOM's LPS in millimetres (PS3.3 C.7.6.2.1.1): +x to the patient's left, +y to posterior, +z
to the head. Arrays of a volume are ordered (slice, row, column), slices ascending along the stack normal, foot to head.
Slice *indices* are 0-based; slice *numbers*, which people read, are 1-based in the same order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydicom import Dataset

from ich_node.domain.reasons import Reason

DISCLAIMER = "AI research result, not for diagnosis"


LABELS = ("any", "epidural", "intraparenchymal", "intraventricular", "subarachnoid", "subdural")
"""The labels of the RSNA 2019 challenge; every array with a label axis uses this order."""


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """A head CT on its own grid.

    hu: int16 [slices, rows, columns], Hounsfield units, padding −1024; slices foot to head, rows and columns as stored.
    spacing_mm: distance between slice planes (median, along the normal), between rows, between columns.
    affine: float64 [4, 4], (slice, row, column, 1) → LPS mm of the pixel centre; oblique slice axis if tilted.
    positions_mm: float64 [slices, 3], ImagePositionPatient of every slice (exact also where the spacing is uneven).
    headers: one dataset without pixel data per slice, in slice order (an Enhanced CT repeats its one dataset).
    frame_numbers: 1-based frame per slice for an Enhanced CT, else None.
    warnings: what a reader should know (gaps, gantry tilt, …).
    """

    hu: npt.NDArray[np.int16]
    spacing_mm: tuple[float, float, float]
    affine: npt.NDArray[np.float64]
    positions_mm: npt.NDArray[np.float64]
    sop_instance_uids: tuple[str, ...]
    headers: tuple[Dataset, ...]
    frame_numbers: tuple[int, ...] | None = None
    warnings: tuple[Reason, ...] = ()

    @property
    def heights_mm(self) -> npt.NDArray[np.float64]:
        """Where the slices lie along the normal of their planes, float64 [slices], ascending to the head."""
        normal = np.cross(self.affine[:3, 2], self.affine[:3, 1])
        normal = normal / np.linalg.norm(normal)
        return np.asarray(self.positions_mm @ (-normal if normal[2] < 0 else normal), np.float64)


class Priority(StrEnum):
    """How urgent the reading is."""

    STAT = "STAT"
    HIGH = "HIGH"
    ROUTINE = "ROUTINE"


@dataclass(frozen=True, slots=True)
class Band:
    """How good it is to call a study at least `priority`, from `threshold` of "any" on: as measured, 0..1."""

    priority: Priority
    threshold: float
    sensitivity: float
    specificity: float


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of the head was scanned, judged by the inside of the skull at both ends.

    vertex, base: whether the scan reaches the end of the intracranial space there. mm: from face to face of the slices.
    """

    vertex: bool
    base: bool
    mm: float

    @property
    def whole(self) -> bool:
        """Whether the scan shows all of the intracranial space from end to end."""
        return self.vertex and self.base


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What the bundle's manifest says, as far as the node needs it; clinical numbers live only there.

    thresholds: label → calibrated study probability from which a finding is called present.
    stat_threshold: calibrated study probability of "any" from which the priority is STAT.
    cam_threshold: calibrated cell probability from which a CAM cell counts as lit.
    bands: what was measured of STAT and HIGH, in this order; empty when the manifest does not say.
    """

    id: str
    version: str
    sha256: str
    labels: tuple[str, ...]
    thresholds: Mapping[str, float]
    stat_threshold: float
    cam_threshold: float
    bands: tuple[Band, ...] = ()


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


@dataclass(frozen=True, slots=True)
class Peak:
    """The middle of a finding's evidence on its best slice: 0-based row and column of the CT slice, LPS mm."""

    sop_instance_uid: str
    frame_number: int | None
    slice_index: int
    row: int
    column: int
    position_mm: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Finding:
    """One label's verdict. Where it is (laterality … extent_mm) is given only when it is present.

    also_possible: a type that reaches its threshold too, but on blood that a more probable type explains, or that lies
    where this type cannot; not present.
    laterality: None when not sure. sites: names out of domain.SITES, most likely first, may be empty.
    first_slice, last_slice: 1-based slice numbers from foot to head. peak: where most of the blood is.
    extent_mm: largest in-plane diameter of one connected lit region. What is said of "any" covers its types.
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
    also_possible: bool = False


INNER_SITES = (
    "deep grey matter",
    "lateral ventricle",
    "third ventricle",
    "fourth ventricle",
    "cerebellum",
    "brain stem",
)
"""What is one structure on either side; the template has a map of each, under the same name."""
COMPARTMENTS = ("supratentorial", "infratentorial")
"""Above and below the tentorium: said where nothing closer is known."""
SITES = (
    "frontal lobe",
    "parietal lobe",
    "temporal lobe",
    "occipital lobe",
    "cerebral hemisphere",
    *INNER_SITES,
    *COMPARTMENTS,
)
"""Every place that a finding may have."""


@dataclass(frozen=True, slots=True, eq=False)
class KeySlice:
    """A slice worth showing, and where the evidence lies on this slice.

    heat: float32 [rows, columns], calibrated CAM probability 0..1 of `label`, on the CT. laterality, sites: as in
    Finding, of this slice alone. midplane: (a, b, c), a pixel lies a · row + b · column + c mm to the left of it; None
    when the head could not be laid over the standard one.
    """

    slice_index: int
    label: str
    heat: npt.NDArray[np.float32]
    laterality: Laterality | None = None
    sites: tuple[str, ...] = ()
    midplane: tuple[float, float, float] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Analysis:
    """Everything that was found out about one series; result.json, SC, SR and text report are made from it alone.

    status: "analysed", or "not_analysed" with `reason` (then findings, slices and priority are empty).
    headers: datasets without pixel data, in slice order where there is one; never empty.
    key_slices: in anatomical order, foot to head. survey: indices of slices that show what was looked at, foot to head.
    provider: the execution provider that really ran. coverage: which part of the head was looked at; None without an
    analysis. brain_hu, noise_hu: median inside the skull and noise of the brain, as measured; None without an analysis.
    timings_s: seconds per stage.
    """

    status: Literal["analysed", "not_analysed"]
    reason: Reason | None
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
    survey: tuple[int, ...] = ()
    warnings: tuple[Reason, ...] = ()
    coverage: Coverage | None = None
    brain_hu: float | None = None
    noise_hu: float | None = None
    timings_s: Mapping[str, float] = field(default_factory=dict)

    def finding(self, label: str) -> Finding:
        """The verdict on `label`; KeyError when the series was not analysed."""
        for finding in self.findings:
            if finding.label == label:
                return finding
        raise KeyError(label)
