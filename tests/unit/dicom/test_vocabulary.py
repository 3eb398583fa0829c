"""What senders write, and what it means."""

from __future__ import annotations

import pytest
from descriptions import DESCRIPTIONS
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
    assert vocabulary.sharp_kernel([kernel]) == ("SHARP" if "SHARP_" in kernel else kernel)


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


@pytest.mark.parametrize("vr", ["DS", "ST", "LT", "LO", "UN"])
def test_numbers_under_another_vr_of_text_are_numbers(vr):
    header = Dataset()
    tag = BaseTag(0x00200032)
    written = b"-120\\-98,5\\12.25 "
    header._dict[tag] = RawDataElement(tag, vr, len(written), written, 0, False, True)
    assert reading.numbers(header, "ImagePositionPatient") == [-120, -98.5, 12.25]


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


def meaning(description):
    """What the words of a series description say by themselves, in the order in which the node asks."""
    if vocabulary.other_purpose(description):
        return "other purpose"
    part = vocabulary.part_named(description)
    if part != vocabulary.HEAD:
        return part
    if vocabulary.spectral_word(description):
        return "spectral"
    if vocabulary.contrast_word(description):
        return "contrast"
    return "sharp" if vocabulary.sharp_word(description) else "head"


@pytest.mark.parametrize("wanted", DESCRIPTIONS)
def test_descriptions_in_many_languages_mean_what_they_say(wanted):
    descriptions = [
        each.strip() for line in DESCRIPTIONS[wanted].split("\n") for each in line.split("|") if each.strip()
    ]
    assert {each: found for each in descriptions if (found := meaning(each)) != wanted} == {}


@pytest.mark.parametrize("description", ["QIR mono", "mono e 60", "Monoenergetic Plus 55", "VMI 40", "CBCT"])
def test_an_energy_is_one_without_a_word_on_the_head_too(description):
    assert vocabulary.part_named(description) is None
    assert vocabulary.spectral_word(description)


def test_the_table_of_descriptions_is_long_and_says_nothing_twice():
    described = [each.strip() for words in DESCRIPTIONS.values() for each in words.replace("\n", "|").split("|")]
    described = [each for each in described if each]
    assert len(described) == len(set(described)) >= 1100


@pytest.mark.parametrize(
    "agent",
    ["OMNIPAQUE 350", "Iohexol", "ULTRAVIST 300", "Non-ionic contrast 100 ml", "IV", "Imeron 400", "80 ml i.v.", "KM",
     "Visipaque 320, no reaction", "contrast", "Oral and IV", "造影剤 碘", "Омнипак 350", "Iopamiro 370", "350 mg/ml",
     "IV & PO", "IV contrast, no reaction", "Omnipaque given IV none oral", "非离子型造影剂", "contraste iv"],
)  # fmt: skip
def test_agents(agent):
    assert vocabulary.is_agent(agent)


@pytest.mark.parametrize(
    "agent",
    ["NONE GIVEN", "None", "NO", "kein KM", "keine", "ohne", "not applied", "Omnipaque not given",
     "NO OMNIPAQUE", "w/o",
     "N/A",      "without contrast", "sans", "aucun", "nessuno", "senza mdc", "ninguno", "sin contraste",
     "nenhum", "sem", "bez kontrastu",
     "brak",
     "нет", "без контраста", "无", "なし", "없음", "0", "0 ml",
     "oral", "Oral contrast", "contrast: none", "",
     "nativ",      "Unknown", "plain", "IV contrast was not administered", "KM nicht gegeben", "refused",
     "no IV contrast",
     "0ml", "0.0 ml", "NC", "NCCT", "noncon", "비조영", "nein", "KM: nein", "IV: none", "IV Contrast: NO", "não", "nej",
     "nee", "entfällt", "contraindicated", "使用しない", "barium"],
)  # fmt: skip
def test_denials_are_no_agents(agent):
    assert not vocabulary.is_agent(agent)


@pytest.mark.parametrize(
    "unit",
    ["HU", "hu", "Hounsfield Unit", "Hounsfield Units", "HOUNSFIELD", "Houndsfield", "Hounsfeld unit", "UH", "HE",
     "", "US",
     "ед. Хаунсфилда", "Hounsfield-Einheiten", "H.U."],
)  # fmt: skip
def test_hounsfield_units_in_any_spelling(unit):
    assert vocabulary.is_hounsfield(unit)


@pytest.mark.parametrize("unit", ["Z_EFF", "ED", "EDW", "MGML", "HU_MOD", "PCT", "OD", "mg/ml", "keV"])
def test_other_units_are_not_hounsfield(unit):
    assert not vocabulary.is_hounsfield(unit)


@pytest.mark.parametrize("word", ["MUELLER", "DOE^JOHN", "\x1b[31m", "[link=http://evil.example]", "19700101"])
def test_nothing_that_a_sender_added_to_a_word_is_said_again(word: str) -> None:
    said = [
        vocabulary.sharp_kernel([f"BONE{word}"]),
        vocabulary.sharp_kernel([f"BONE {word}"]),
        vocabulary.sharp_kernel([f"FC30{word}"]),
        vocabulary.contrast_word(f"Head with CONTRAST{word}"),
        vocabulary.other_purpose(f"TOPOGRAM{word}"),
        vocabulary.sharp_word(f"KNOCHEN{word} {word}"),
    ]
    assert vocabulary.plain(word).lower() not in " ".join(said).lower()
    assert all(part.isprintable() for part in said)
