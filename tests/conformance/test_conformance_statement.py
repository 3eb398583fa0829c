"""docs/conformance.md says what the code does: its tables are compared with the tables of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydicom.uid import UID

from ich_node.deliver.dicom import scu
from ich_node.dicom import part10
from ich_node.receive import commitment, scp
from ich_node.receive import reception as answers
from ich_node.report.pictures import multiframe, parametric_map, presentation_state, secondary_capture
from ich_node.report.sr import codes, structured_report, text_report
from ich_node.runtime.tls import SUITES

STATEMENT = (Path(__file__).resolve().parents[2] / "docs" / "conformance.md").read_text(encoding="utf-8")


def rows(heading: str) -> list[list[str]]:
    """The cells of the table whose first heading is `heading`."""
    table = STATEMENT.split(f"\n| {heading} |", 1)[1].split("\n\n", 1)[0]
    lines = [line for line in table.splitlines()[2:] if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_accepted_transfer_syntaxes_are_those_of_the_scp():
    assert [row[1] for row in rows("transfer syntax")] == list(scp.TRANSFER_SYNTAXES)


def test_the_private_storage_classes_are_those_of_the_scp():
    assert {row[1] for row in rows("private storage class")} == set(scp.PRIVATE_STORAGE.values())


@pytest.mark.parametrize("row", [row for row in rows("SOP Class") if row[1][0].isdigit()], ids=lambda row: row[0])
def test_a_sop_class_has_its_name_and_is_accepted(row):
    assert UID(row[1]).name.removesuffix(" SOP Class") == row[0]
    if row[0].endswith("Storage"):
        assert row[1] in scp.STORAGE_CLASSES


def test_what_is_sent_is_what_the_reports_and_pictures_are_made_of():
    sent = {row[1] for row in rows("SOP Class") if row[2] != "no"}
    made = {
        *codes.MEASUREMENT_REPORT_SRS,
        codes.BASIC_TEXT_SR,
        str(secondary_capture.SecondaryCaptureImageStorage),
        str(multiframe.MultiFrameTrueColorSecondaryCaptureImageStorage),
        "1.2.840.10008.5.1.4.1.1.30",
        "1.2.840.10008.5.1.4.1.1.11.1",
    }
    assert sent == made | {scu.VERIFICATION, commitment.STORAGE_COMMITMENT}


def test_alternates_are_tried_in_the_order_of_the_statement():
    assert (scu.COMPREHENSIVE_3D_SR, scu.COMPREHENSIVE_SR, scu.ENHANCED_SR) == codes.MEASUREMENT_REPORT_SRS


def test_the_statuses_are_those_that_the_scp_returns():
    returned = (
        answers.SUCCESS,
        answers.SOP_CLASS_NOT_SUPPORTED,
        answers.OUT_OF_RESOURCES,
        answers.DATASET_MISMATCH,
        answers.CANNOT_UNDERSTAND,
    )
    assert [int(row[0], 16) for row in rows("status")] == list(returned)


def test_the_implementation_is_named_as_on_the_wire():
    assert part10.IMPLEMENTATION_CLASS_UID in STATEMENT
    assert part10.IMPLEMENTATION_VERSION_NAME.startswith("ICH_NODE_")


def test_series_have_the_numbers_of_the_statement():
    offsets = [int(re.findall(r"\d+", row[1])[0]) for row in rows("object")]
    made = (secondary_capture, multiframe, parametric_map, presentation_state, structured_report, text_report)
    assert offsets == [module.SERIES_NUMBER_OFFSET for module in made]


def test_series_have_the_descriptions_of_the_statement():
    described = [row[2] for row in rows("object")]
    assert described[2:] == [
        parametric_map.SERIES_DESCRIPTION,
        presentation_state.SERIES_DESCRIPTION,
        structured_report.SERIES_DESCRIPTION,
        text_report.SERIES_DESCRIPTION,
    ]


def test_every_code_is_in_the_statement():
    listed = {(row[1], row[0]): (row[2], row[3]) for row in rows("value")}
    assert listed == {key: (code.meaning, str(origin)) for key, (code, origin) in codes.REGISTRY.items()}


def test_the_tls_profiles_are_those_of_the_code():
    assert {row[0] for row in rows("profile")} == set(SUITES)
