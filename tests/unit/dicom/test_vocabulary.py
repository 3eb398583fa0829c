"""What senders write, and what it means."""

from __future__ import annotations

import pytest
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.tag import BaseTag

from ich_node.dicom import reading, vocabulary


@pytest.mark.parametrize(
    "kernel",
    [
        "BONE",
        "BONEPLUS",
        "BONE+",
        "EDGE",
        "H60s",
        "H70h",
        "Hr64f",
        "J70h",
        "U90u",
        "B70f",
        "YA",
        "YB",
        "YC",
        "D",
        "E",
        "FC30",
        "FC31",
        "FC51",
        "FC80",
        "FC81",
        "H_SHARP_C",
        "B_VSHARP_B",
        "LUNG",
    ],
)
def test_sharp_kernels_of_the_vendors(kernel):
    assert vocabulary.sharp_kernel([kernel]) == kernel


@pytest.mark.parametrize(
    "kernel",
    [
        "SOFT",
        "STANDARD",
        "STND",
        "DETAIL",
        "H30s",
        "H31s",
        "H40h",
        "Hr36",
        "Hr40f",
        "J30s",
        "J45s",
        "Qr40d",
        "B30f",
        "UA",
        "UB",
        "UC",
        "A",
        "B",
        "C",
        "FC20",
        "FC21",
        "FC23",
        "FC26",
        "FC64",
        "FC68",
        "H_SOFT_B",
        "3",
        "",
    ],
)
def test_soft_kernels_of_the_vendors(kernel):
    assert vocabulary.sharp_kernel([kernel]) == ""


@pytest.mark.parametrize(
    "description",
    [
        "CTA",
        "CTA CIRCLE OF WILLIS",
        "Head +C",
        "HEAD C+",
        "head w contrast",
        "HEAD WITH CONTRAST",
        "Schädel mit KM",
        "HEAD POST",
        "post contrast head",
        "CT VENOGRAM",
        "Angio Kopf",
        "Head IV contrast",
    ],
)
def test_descriptions_that_speak_of_contrast(description):
    assert vocabulary.contrast_word(description)


@pytest.mark.parametrize(
    "description",
    [
        "HEAD W/O",
        "HEAD WO CONTRAST",
        "Head without contrast 5.0",
        "non-contrast head",
        "NCCT HEAD",
        "Head C-",
        "(-C)",
        "Kopf nativ",
        "ohne KM",
        "sans injection",
        "sin contraste",
        "pre contrast",
        "HEAD POST FOSSA",
        "HEAD 5.0",
        "",
        "HEAD WITH C-SPINE",
        "Unenhanced",
        "Converted to an enhanced CT",
        "no iv contrast",
        "POST OP HEAD",
        "W/O CONTRAST BRAIN",
    ],
)
def test_descriptions_that_deny_contrast_or_do_not_speak_of_it(description):
    assert vocabulary.contrast_word(description) == ""


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("HEAD", "head"),
        ("CT BRAIN", "head"),
        ("Schädel", "head"),
        ("Crâne", "head"),
        ("CT HEAD AND CERVICAL SPINE", "head"),
        ("C-SPINE", "spine"),
        ("CSPINE", "spine"),
        ("THORAX", "chest"),
        ("ORBITS", "sinuses or face"),
        ("Felsenbein", "temporal bone"),
        ("5.0 mm axial", None),
        ("", None),
    ],
)
def test_body_parts_in_several_languages(words, part):
    assert vocabulary.part_named(words) == part


def test_what_was_written_for_the_series_goes_first():
    header = Dataset()
    header.StudyDescription, header.BodyPartExamined, header.SeriesDescription = "CT HEAD", "HEAD", "C-SPINE"
    assert vocabulary.body_part(header) == "spine"


def test_an_anatomic_region_code_counts():
    region, header = Dataset(), Dataset()
    region.CodeValue, region.CodingSchemeDesignator, region.CodeMeaning = "69536005", "SCT", "Head"
    header.AnatomicRegionSequence = [region]
    assert vocabulary.body_part(header) == vocabulary.HEAD


@pytest.mark.parametrize(("value", "number"), [("5", 5.0), ("", None), ("nan", None), ("1e400", None)])
def test_a_number_is_finite_or_absent(value, number):
    header = Dataset()
    header.ImageComments = value
    assert reading.number(header, "ImageComments") == number


@pytest.mark.filterwarnings("ignore")
def test_values_that_can_not_be_read_are_dropped_also_within_sequences() -> None:
    unreadable = {0x00200013: ("IS", b"inf"), 0x00280010: ("US", b"\1"), 0x00100010: ("??", b"x")}
    item, header = Dataset(), Dataset()
    for place in (item, header):
        place.PatientID = "1"
        for tag, (vr, value) in unreadable.items():
            place._dict[BaseTag(tag)] = RawDataElement(BaseTag(tag), vr, len(value), value, 0, False, True)
    header.RequestAttributesSequence = [item]
    reading.drop_unreadable(header)
    assert [element.keyword for element in header] == ["PatientID", "RequestAttributesSequence"]
    assert [element.keyword for element in header.RequestAttributesSequence[0]] == ["PatientID"]
