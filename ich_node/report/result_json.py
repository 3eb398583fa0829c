"""result.json: one machine-readable result for the pipeline, the board and evaluation. See docs/result-json.md.

The schema is versioned: a reader that knows "ich_node/result/1" can read every file that says so; keys may be added
within a version, never change their meaning.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pydicom import Dataset

from ich_node.dicom import reading
from ich_node.domain.findings import DISCLAIMER, LABELS, Analysis, Finding
from ich_node.report.said.reasons import english

SCHEMA = "ich_node/result/1"
SCANNER = ("Manufacturer", "ManufacturerModelName", "ConvolutionKernel")
LONGEST_NAME = 64
"""Characters of VR LO (PS3.5 6.2)."""


def as_dict(
    analysis: Analysis, objects: Sequence[tuple[str, str]] = (), predecessor: int | None = None, revision: int = 0
) -> dict[str, Any]:
    """The result as plain values; `objects` are the (SOP Class UID, SOP Instance UID) to deliver, in that order."""
    return {
        "schema": SCHEMA,
        "disclaimer": DISCLAIMER,
        "status": analysis.status,
        "reason": None if analysis.reason is None else english(analysis.reason),
        "reason_code": None if analysis.reason is None else analysis.reason.code,
        "study_instance_uid": analysis.study_uid,
        "series_instance_uid": analysis.series_uid,
        "input_digest": analysis.input_digest,
        "sop_instance_uids": sorted({str(header.SOPInstanceUID) for header in analysis.headers}),
        "predecessor": predecessor,
        "revision": revision,
        "model": {"id": analysis.card.id, "version": analysis.card.version, "sha256": analysis.card.sha256},
        "provider": analysis.provider,
        "scanner": scanner_of(analysis.headers[0]),
        "brain_hu": _rounded(analysis.brain_hu),
        "noise_hu": _rounded(analysis.noise_hu),
        "priority": analysis.priority,
        "findings": [_finding(finding) for finding in analysis.findings],
        "slices": _slices(analysis),
        "warnings": [english(warning) for warning in analysis.warnings],
        "warning_codes": [warning.code for warning in analysis.warnings],
        "timings_s": {stage: round(seconds, 4) for stage, seconds in analysis.timings_s.items()},
        "objects": [{"sop_class_uid": sop_class, "sop_instance_uid": instance} for sop_class, instance in objects],
    }


def encode(result: dict[str, Any]) -> bytes:
    """The file's bytes."""
    return (json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def scanner_of(header: Dataset) -> str:
    """Maker, model and reconstruction kernel in one line, "" where the header says none."""
    said = (reading.text(header, keyword)[:LONGEST_NAME] for keyword in SCANNER)
    return " ".join(filter(None, said))


def _rounded(hu: float | None) -> float | None:
    return None if hu is None else round(hu, 1)


def _finding(finding: Finding) -> dict[str, Any]:
    peak = finding.peak
    return {
        "label": finding.label,
        "probability": finding.probability,
        "present": finding.present,
        "also_possible": finding.also_possible,
        "laterality": finding.laterality,
        "sites": list(finding.sites),
        "first_slice": finding.first_slice,
        "last_slice": finding.last_slice,
        "extent_mm": finding.extent_mm,
        "peak": None
        if peak is None
        else {
            "sop_instance_uid": peak.sop_instance_uid,
            "frame_number": peak.frame_number,
            "row": peak.row,
            "column": peak.column,
            "position_mm": list(peak.position_mm),
        },
    }


def _slices(analysis: Analysis) -> list[dict[str, Any]]:
    volume, prediction = analysis.volume, analysis.prediction
    if volume is None or prediction is None:
        return []
    return [
        {
            "sop_instance_uid": uid,
            "frame_number": None if volume.frame_numbers is None else volume.frame_numbers[index],
            "position_mm": [float(x) for x in volume.positions_mm[index]],
            "probabilities": {
                label: float(p) for label, p in zip(LABELS, prediction.slice_probability[index], strict=True)
            },
        }
        for index, uid in enumerate(volume.sop_instance_uids)
    ]
