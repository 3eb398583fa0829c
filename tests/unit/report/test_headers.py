"""Patient, study, equipment and time in every result."""

from __future__ import annotations

import io
import struct
import time
from datetime import UTC, datetime

import pydicom
import pytest
from pydicom import Dataset
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from pydicom.uid import UID, SecondaryCaptureImageStorage

from ich_node.dicom import reading
from ich_node.report import build, encoding, headers
from ich_node.report.pictures.secondary_capture import set_file_meta
from ich_node.runtime.config import ReportConfig
from tests.analysis_builder import make_analysis

MADE_AT = datetime(2026, 11, 20, 23, 30, 5, tzinfo=UTC)
EQUIPMENT = headers.Equipment("ich", ("ich_node 0.1.0", "ich 1.0"), UID("2.25.1"), "ICHNODE")


def source(**attributes: object) -> Dataset:
    header = Dataset()
    header.StudyInstanceUID = "1.2.3"
    header.PatientName = "PHANTOM^HEAD"
    header.PatientID = "P1"
    for keyword, value in attributes.items():
        setattr(header, keyword, value)
    return header


def stamped(header: Dataset, dataset: Dataset | None = None) -> Dataset:
    result = Dataset() if dataset is None else dataset
    headers.stamp(result, header, EQUIPMENT, MADE_AT)
    return result


def through_a_file(dataset: Dataset) -> Dataset:
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, implicit_vr=False, little_endian=True)
    buffer.seek(0)
    return pydicom.dcmread(buffer, force=True)


def test_patient_and_study_are_the_sources() -> None:
    result = stamped(source(IssuerOfPatientID="HOSPITAL", AccessionNumber="A1", PatientAge="045Y", StudyID="S"))
    assert (result.PatientName, result.PatientID, result.IssuerOfPatientID) == ("PHANTOM^HEAD", "P1", "HOSPITAL")
    assert (result.StudyInstanceUID, result.AccessionNumber, result.PatientAge) == ("1.2.3", "A1", "045Y")


@pytest.mark.parametrize("keyword", headers.TYPE_2)
def test_a_type_2_attribute_that_the_source_lacks_is_there_and_empty(keyword: str) -> None:
    header = source()
    if keyword in header:
        delattr(header, keyword)
    assert stamped(header)[keyword].is_empty


def test_a_type_3_attribute_that_the_source_lacks_is_not_invented() -> None:
    made_elsewhere = Dataset()
    made_elsewhere.PatientAge = "001Y"
    made_elsewhere.SpecificCharacterSet = "ISO_IR 192"
    result = stamped(source(), made_elsewhere)
    assert "PatientAge" not in result
    assert "SpecificCharacterSet" not in result


def test_series_equipment_window_and_private_attributes_of_the_ct_stay_behind() -> None:
    header = source(SeriesDescription="HEAD", StationName="CT1", InstitutionName="H", WindowCenter=40, KVP=120)
    header.private_block(0x0029, "MAKER", create=True).add_new(0x10, "LO", "secret")
    result = stamped(header)
    for keyword in ("SeriesDescription", "StationName", "InstitutionName", "WindowCenter", "KVP"):
        assert keyword not in result
    assert not any(element.tag.is_private for element in result)


@pytest.mark.parametrize(
    ("character_set", "name"),
    [
        ("ISO_IR 100", "MÜLLER^JÖRG"),
        ("ISO_IR 144", "Люкceмбypг"),
        ("ISO_IR 192", "王^小東"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    ],
)
def test_a_name_survives_in_its_own_character_set_byte_by_byte(character_set: object, name: str) -> None:
    header = through_a_file(source(SpecificCharacterSet=character_set, PatientName=name))
    written = through_a_file(stamped(header))
    assert written.SpecificCharacterSet == header.SpecificCharacterSet
    assert written.get_item("PatientName").value == through_a_file(header).get_item("PatientName").value
    assert written.PatientName == name


def test_changing_the_result_never_changes_the_source() -> None:
    header = source(ProcedureCodeSequence=[headers.code_item(headers.PROCESSING_EQUIPMENT)])
    stamped(header).ProcedureCodeSequence[0].CodeMeaning = "changed"
    assert header.ProcedureCodeSequence[0].CodeMeaning == "Processing Equipment"


def test_contributing_equipment_names_the_node_and_its_model() -> None:
    (item,) = stamped(source()).ContributingEquipmentSequence
    (purpose,) = item.PurposeOfReferenceCodeSequence
    assert (purpose.CodeValue, purpose.CodingSchemeDesignator) == ("109102", "DCM")
    assert (item.Manufacturer, item.ManufacturerModelName, item.DeviceUID) == ("ich_node", "ich", "2.25.1")
    assert list(item.SoftwareVersions) == ["ich_node 0.1.0", "ich 1.0"]
    assert item.ContributionDateTime == "20261120233005+0000"


def test_an_item_of_contributing_equipment_that_a_library_added_is_replaced() -> None:
    dataset = Dataset()
    dataset.ContributingEquipmentSequence = [Dataset(), Dataset()]
    assert len(stamped(source(), dataset).ContributingEquipmentSequence) == 1


def test_times_are_those_of_made_at_on_the_clock_of_the_study() -> None:
    result = stamped(source(TimezoneOffsetFromUTC="+0100"))
    assert (result.ContentDate, result.ContentTime) == ("20261121", "003005")
    assert (result.SeriesDate, result.InstanceCreationTime) == ("20261121", "003005")
    assert result.TimezoneOffsetFromUTC == "+0100"


@pytest.fixture
def in_tokyo(monkeypatch):
    """The clock of the node in another time zone, nine hours ahead."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize("offset", [None, "", "-0000", "+0060", "+1500", "-1230", "garbage", "+9"])
def test_without_an_offset_of_the_study_the_time_is_the_nodes_and_says_so(in_tokyo, offset):
    result = stamped(source() if offset is None else source(TimezoneOffsetFromUTC=offset))
    assert (result.ContentDate, result.ContentTime, result.TimezoneOffsetFromUTC) == ("20261121", "083005", "+0900")
    assert result.ContributingEquipmentSequence[0].ContributionDateTime == "20261121083005+0900"


@pytest.mark.parametrize(("offset", "clock"), [("+1400", "21 13:30"), ("-1200", "20 11:30"), ("+0545 ", "21 05:15")])
def test_any_offset_that_the_standard_allows_is_the_studys(in_tokyo, offset, clock):
    assert headers.local_time(MADE_AT, source(TimezoneOffsetFromUTC=offset)).strftime("%d %H:%M") == clock


def raw_file(**text: bytes) -> Dataset:
    """A header as read from a file in which these attributes hold these bytes."""
    file = pydicom.dcmread(io.BytesIO(to_bytes(source())), force=True)
    for keyword, value in text.items():
        padded = value + b" " * (len(value) % 2)
        tag = Tag(keyword)
        file[tag] = RawDataElement(tag, dictionary_VR(tag), len(padded), padded, 0, False, True)
    reading.keep_sent_text(file)
    return file


def to_bytes(dataset: Dataset) -> bytes:
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, implicit_vr=False, little_endian=True)
    return buffer.getvalue()


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom says what it cannot decode
@pytest.mark.parametrize(
    ("character_set", "name"),
    [
        (b"", "Müller".encode("latin1")),
        (b"ISO_IR 192", "Müller".encode("latin1")),
        (b"ISO_IR 100", "Müller".encode()),
        (b"ISO_IR_100", "Müller".encode("latin1")),
        (b"XYZ", "Müller".encode("latin1")),
        (b"", "王小明".encode("big5")),
        (b"GB18030", b"\xff\xfeWANG"),
        (b"\\ISO 2022 IR 87", b"Yamada^Tarou=\x1b$B;3ED^\x1b$BB@O:"),
    ],
)
def test_text_keeps_the_bytes_of_the_source_whatever_its_character_set_claims(character_set, name):
    header = raw_file(SpecificCharacterSet=character_set, PatientName=name, PatientID=name, StudyDescription=name)
    reading.drop_unreadable(header)  # decodes everything
    result = stamped(header)
    result.SOPClassUID, result.SOPInstanceUID = SecondaryCaptureImageStorage, "1.2.3.4"
    set_file_meta(result)
    written = encoding.part10(result)
    for keyword in ("PatientName", "PatientID", "StudyDescription"):
        group, element = Tag(keyword).group, Tag(keyword).element
        start = written.index(
            struct.pack("<HH2sH", group, element, dictionary_VR(keyword).encode(), len(name) + len(name) % 2)
        )
        assert written[start + 8 :].startswith(name)


def test_text_under_a_tag_of_another_kind_is_not_kept():
    assert Tag("ReferencedStudySequence") not in reading.sent_text(raw_file(PatientID=b"P1"))


def with_raw(header: Dataset, keyword: str, vr: str, value: bytes) -> None:
    tag = Tag(keyword)
    header[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)


KEPT_AS_THEY_ARE = {"PatientID", "PatientName", "StudyInstanceUID"}
COPIED = [
    keyword
    for keyword in (*headers.PATIENT_AND_STUDY, "RequestAttributesSequence", "BodyPartExamined")
    if keyword not in KEPT_AS_THEY_ARE and dictionary_VR(keyword) not in ("US", "FL", "FD")
]


@pytest.mark.parametrize("kind", ["positive", "not_analysed"])
def test_elements_of_another_kind_than_the_dictionarys_are_left_out_and_named(kind):
    analysis = make_analysis(kind, header={"PatientID": "P1", "PatientName": "Doe^Jane"})
    for header in analysis.headers:
        for keyword in COPIED:
            sequence = dictionary_VR(keyword) == "SQ"
            with_raw(header, keyword, *(("LO", b"Header Anonymizer ") if sequence else ("FL", bytes(4))))
    (warning,) = reading.cleaned(analysis.headers)
    assert str(dict(warning.values)["keywords"]).startswith("StudyDate, StudyTime, AccessionNumber")
    made = build.results(analysis, options=ReportConfig(), device_name="ICHNODE", made_at=MADE_AT, predecessor=None)
    for result in made.objects:
        written = pydicom.dcmread(io.BytesIO(encoding.part10(result)))
        assert (written.PatientID, str(written.PatientName)) == ("P1", "Doe^Jane")
        assert reading.drop_unreadable(written) == []


@pytest.mark.parametrize("read_before", [False, True])
@pytest.mark.parametrize("vr", ["LO", "OB", "UN", "CS", "UT"])
def test_dates_codes_and_numbers_in_text_get_their_own_vr(vr, read_before):
    values = {"StudyDate": b"20261126", "PatientSex": b"F ", "PatientWeight": b"62.5", "PatientAge": b"045Y"}
    header = raw_file()
    for keyword, value in values.items():
        with_raw(header, keyword, vr, value)
        if read_before:
            reading.text(header, keyword)
    assert reading.cleaned([header]) == ()
    result = through_a_file(stamped(header))
    if read_before and vr == "OB":
        return  # decoded as bytes: what cannot be made text is left out
    assert (result.StudyDate, result.PatientSex, result.PatientAge) == ("20261126", "F", "045Y")
    assert float(result.PatientWeight) == 62.5
    assert [result[keyword].VR for keyword in values] == [dictionary_VR(keyword) for keyword in values]


@pytest.mark.parametrize("vr", ["SH", "UT", "OB", "UN", "ST"])
def test_text_under_another_vr_of_text_or_as_plain_bytes_gets_its_own(vr):
    header = raw_file()
    for keyword in ("PatientID", "PatientName"):
        with_raw(header, keyword, vr, "Müller".encode("latin1"))
    reading.keep_sent_text(header)
    assert reading.cleaned([header]) == ()
    for keyword in ("PatientID", "PatientName"):
        sent = reading.sent_text(header)[Tag(keyword)]
        assert (sent.VR, sent.value) == (dictionary_VR(keyword), "Müller".encode("latin1"))
        assert dictionary_VR(keyword) == header[keyword].VR


def test_a_source_whose_identity_was_removed_without_a_word_on_how_gives_a_valid_result():
    assert stamped(source(PatientIdentityRemoved="YES")).DeidentificationMethod == headers.METHOD_UNKNOWN
    assert stamped(source(PatientIdentityRemoved="YES", DeidentificationMethod="own")).DeidentificationMethod == "own"
    assert "DeidentificationMethod" not in stamped(source(PatientIdentityRemoved="NO"))
    assert "DeidentificationMethod" not in stamped(source())


@pytest.mark.filterwarnings("ignore:Invalid value for VR CS")
@pytest.mark.parametrize(
    ("said", "removed", "method"),
    [
        ({"DeidentificationMethod": ""}, "YES", headers.METHOD_UNKNOWN),
        ({"DeidentificationMethod": " "}, "YES", headers.METHOD_UNKNOWN),
        ({"DeidentificationMethodCodeSequence": []}, "YES", headers.METHOD_UNKNOWN),
        ({"PatientIdentityRemoved": "yes"}, "YES", headers.METHOD_UNKNOWN),
        ({"PatientIdentityRemoved": "Y"}, None, None),
        ({"PatientIdentityRemoved": ""}, None, None),
        ({"PatientIdentityRemoved": "no", "DeidentificationMethod": ""}, "NO", None),
    ],
)
def test_what_a_source_says_in_vain_of_its_identity_does_not_spoil_the_result(said, removed, method):
    made = stamped(source(**{"PatientIdentityRemoved": "YES", **said}))
    assert (made.get("PatientIdentityRemoved"), made.get("DeidentificationMethod")) == (removed, method)
    assert "DeidentificationMethodCodeSequence" not in made


def test_west_of_greenwich_is_behind() -> None:
    assert headers.local_time(MADE_AT, source(TimezoneOffsetFromUTC="-0330")).strftime("%d %H:%M") == "20 20:00"


def test_a_time_without_a_time_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        headers.local_time(datetime(2026, 1, 1), source())  # noqa: DTZ001


def test_results_are_marked_as_research() -> None:
    assert stamped(source()).ContentQualification == "RESEARCH"


def test_every_order_in_the_header_becomes_a_referenced_request() -> None:
    order = Dataset()
    order.RequestedProcedureID = "RP1"
    order.ScheduledProcedureStepID = "SPS1"
    (request,) = headers.referenced_requests(source(AccessionNumber="A1", RequestAttributesSequence=[order]))
    assert (request.StudyInstanceUID, request.AccessionNumber, request.RequestedProcedureID) == ("1.2.3", "A1", "RP1")
    assert "ScheduledProcedureStepID" not in request
    for keyword in headers.REQUEST:
        assert keyword in request


def test_without_an_order_there_is_no_referenced_request() -> None:
    assert headers.referenced_requests(source()) == []


def test_images_carry_body_part_and_order() -> None:
    dataset = Dataset()
    headers.image_context(dataset, source(BodyPartExamined="HEAD", RequestAttributesSequence=[Dataset()]))
    assert dataset.BodyPartExamined == "HEAD"
    assert len(dataset.RequestAttributesSequence) == 1


def test_images_of_an_unnamed_body_part_show_a_head() -> None:
    for header in (source(), source(BodyPartExamined="")):
        dataset = Dataset()
        headers.image_context(dataset, header)
        assert dataset.BodyPartExamined == "HEAD"


def test_a_completed_header_has_empty_type_2_attributes_and_leaves_the_source_alone() -> None:
    header = through_a_file(source(SpecificCharacterSet=["", "ISO 2022 IR 87"], PatientName="A^B=山田^太郎"))
    completed = headers.complete(header)
    assert all(keyword in completed and not completed[keyword].value for keyword in headers.TYPE_2)
    assert completed.SpecificCharacterSet == "ISO_IR 192"
    completed.StudyInstanceUID = "1.2"
    assert (header.PatientName, header.StudyInstanceUID) == ("A^B=山田^太郎", source().StudyInstanceUID)
    assert header.SpecificCharacterSet == ["", "ISO 2022 IR 87"]
    assert "StudyID" not in header


@pytest.mark.parametrize(
    ("character_set", "expected"),
    [
        (None, "Schaedel - >= 5 %"),
        ("ISO_IR 6", "Schaedel - >= 5 %"),
        ("ISO_IR 100", "Schädel - >= 5 %"),
        ("ISO_IR 192", "Schädel – ≥ 5 %"),
        (["", "ISO 2022 IR 100"], "Schädel - >= 5 %"),
    ],
)
def test_our_words_are_spelled_in_the_sources_character_set(character_set: object, expected: str) -> None:
    header = source() if character_set is None else source(SpecificCharacterSet=character_set)
    assert headers.encodable("Schädel – ≥ 5 %", header) == expected


def test_what_has_no_plain_spelling_becomes_a_question_mark() -> None:
    assert headers.encodable("山", source()) == "?"
