"""The ORU^R01 message, read back by another library than the one that builds it."""

from __future__ import annotations

import hl7
import pytest
from hl7apy.parser import parse_message

from ich_node.deliver.hl7 import oru
from ich_node.domain.errors import PeerRefused
from ich_node.runtime.config import Hl7Config

HEADER = {
    "PatientID": "P|1^2&3~4\\5",
    "IssuerOfPatientID": "HOSP",
    "PatientName": "Müller^Anna^B^Dr^Jr",
    "PatientBirthDate": "19500102",
    "PatientSex": "F",
    "AccessionNumber": "A-77",
    "StudyDate": "20260102",
    "StudyTime": "030405.123",
}


def result(**changes):
    finding = {"label": "subdural", "probability": 0.934, "present": True, "laterality": "left"}
    absent = {"label": "epidural", "probability": 0.02, "present": False, "laterality": None}
    plain = {"priority": "STAT", "findings": [finding, absent], "disclaimer": "Research, not for diagnosis."}
    return {**plain, **changes}


def config(**changes):
    return Hl7Config(name="ris", host="127.0.0.1", **changes)


def built(changes=None, **settings):
    data = oru.message(result(**(changes or {})), HEADER, config(**settings), 1_767_323_045.0)
    charset = data.split(b"\r", 1)[0].split(b"|")[17].decode()
    return hl7.parse(data.decode(oru.CHARSETS[charset])), data


def test_the_patient_is_where_hl7_has_it_and_delimiters_are_data():
    message, _ = built()
    patient = message["PID"][0]
    assert message.unescape(str(patient[3][0][0])) == HEADER["PatientID"]
    assert str(patient[3][0][3]) == "HOSP"
    assert [str(part) for part in patient[5][0]] == ["Müller", "Anna", "B", "Jr", "Dr"], "XPN has the suffix first"
    assert (str(patient[7]), str(patient[8])) == ("19500102", "F")


def test_the_order_and_its_priority():
    message, _ = built()
    order = message["OBR"][0]
    assert (str(order[5]), str(order[18]), str(order[25])) == ("S", "A-77", "P")
    assert str(order[7]) == "20260102030405"
    assert str(order[22]) == "20260102030405+0000"


def test_findings_are_observations_with_flags():
    message, _ = built()
    said = {str(o[3]).split("^")[0]: (str(o[5]), str(o[8]) if len(o) > 8 else "") for o in message["OBX"]}
    assert said["ICH-PRIORITY"] == ("STAT", "AA")
    assert said["ICH-SUBDURAL"] == ("present, left", "A")
    assert said["ICH-SUBDURAL-P"] == ("93", "")
    assert said["ICH-EPIDURAL"] == ("absent", "N")
    assert said["ICH-NOTE"] == ("Research, not for diagnosis.", "")
    assert {str(o[11]) for o in message["OBX"]} == {"P"}


def test_a_type_that_is_not_told_apart_is_neither_present_nor_absent_and_has_no_number():
    possible = {"label": "epidural", "probability": 0.98, "present": False, "also_possible": True, "laterality": None}
    message, data = built({"findings": [possible]})
    said = {str(o[3]).split("^")[0]: (str(o[5]), str(o[8]) if len(o) > 8 else "") for o in message["OBX"]}
    assert said["ICH-EPIDURAL"] == ("not told apart from another type", "")
    assert "ICH-EPIDURAL-P" not in said and b"98" not in data


def test_it_is_valid_by_the_structure_of_the_version():
    _, data = built()
    parsed = parse_message(data.decode(), find_groups=True)
    assert parsed.validate()


def test_a_corrected_result_says_so():
    message, _ = built({"predecessor": 4})
    assert str(message["OBR"][0][25]) == "C"


def test_a_series_that_was_not_analysed_says_why():
    message, _ = built({"priority": None, "findings": [], "reason": "the head is cut off"})
    assert str(message["OBX"][0][5]) == "Not analysed: the head is cut off"
    assert str(message["OBR"][0][5]) == "R"


def test_a_site_maps_fields_codes_and_a_link_as_it_wants():
    fields = {"OBR-19": "{AccessionNumber}", "OBR-4": "HEAD^CT Head^LOCAL", "MSH-8": "x"}
    message, _ = built(fields=fields, abnormal_flags={"STAT": "HH"}, link="https://board/{AccessionNumber}?a=1&b=2")
    assert (str(message["OBR"][0][19]), str(message["OBR"][0][4])) == ("A-77", "HEAD^CT Head^LOCAL")
    assert str(message["OBX"][0][8]) == "HH"
    assert any("https://board/A-77?a=1" in message.unescape(str(o[5])) for o in message["OBX"])


@pytest.mark.parametrize("key", ["PIDX-3", "OBX-5", "PID-99", "OBR-0"])
def test_a_field_that_there_is_not_is_refused_in_plain_words(key):
    with pytest.raises(PeerRefused, match=r"is no field|does not fit HL7"):
        built(fields={key: "x"})


@pytest.mark.parametrize(("charset", "declared"), [("8859/1", "8859/1"), ("ASCII", "UNICODE UTF-8")])
def test_the_declared_character_set_is_the_one_that_is_used(charset, declared):
    message, data = built(charset=charset)
    assert str(message["MSH"][0][18]) == declared
    assert "Müller".encode(oru.CHARSETS[declared]) in data


def test_enhanced_mode_asks_for_a_commit_only():
    message, _ = built(mode="enhanced")
    assert (str(message["MSH"][0][15]), str(message["MSH"][0][16])) == ("AL", "NE")


def test_the_same_result_makes_the_same_message_and_another_one_another_id():
    assert built()[1] == built()[1]
    assert oru.control_id(built()[1]) != oru.control_id(built({"predecessor": 1})[1])
