"""Audit messages against the schema of PS3.15 A.5.1, and against what A.5.3 asks of each kind."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from pathlib import Path

import pytest
from lxml import etree

from ich_node.runtime.audit import messages
from ich_node.runtime.audit.messages import Node, Source, Study

SOURCE = Source("ich-node", "ICHNODE", "node.example", 4711, "receive")
MOMENT = datetime(2026, 1, 5, 8, 0, 0, 123456, tzinfo=UTC)
PEER = Node("SCANNER", "192.0.2.7")
CT = "1.2.840.10008.5.1.4.1.1.2"
STUDIES = [Study("1.2.3", {CT: 30, "1.2.840.10008.5.1.4.1.1.7": 1}, "PID-1"), Study("1.2.4", {CT: 1}, "PID-1")]
EVERY = {
    "start": messages.application_started(SOURCE, MOMENT),
    "stop": messages.application_stopped(SOURCE, MOMENT),
    "received": messages.instances_transferred(SOURCE, MOMENT, PEER, STUDIES, received=True),
    "sent": messages.instances_transferred(SOURCE, MOMENT, PEER, STUDIES[:1], received=False),
    "refused": messages.instances_transferred(SOURCE, MOMENT, PEER, STUDIES[:1], received=False, success=False),
    "accessed": messages.instances_accessed(
        SOURCE, MOMENT, "operator", "", STUDIES, action="C", decision="jobs redo 7"
    ),
    "message": messages.exported(SOURCE, MOMENT, Node("RIS", "192.0.2.9"), STUDIES[0]),
    "webhook": messages.exported(SOURCE, MOMENT, Node("hook", "https://h.example/x"), STUDIES[0], success=False),
    "alert": messages.security_alert(SOURCE, MOMENT, PEER, "calling AE title not allowed"),
}


@pytest.fixture(scope="module")
def schema():
    return etree.RelaxNG(etree.parse(Path(__file__).with_name("audit_message.rng")))


def parsed(message):
    return etree.fromstring(message.xml)


def codes(root, path):
    return [(element.get("csd-code"), element.get("codeSystemName")) for element in root.findall(path)]


@pytest.mark.parametrize("name", EVERY)
def test_every_message_is_valid_by_the_schema(schema, name):
    schema.assertValid(parsed(EVERY[name]))


def test_the_schema_rejects_a_message_without_its_event(schema):
    root = parsed(EVERY["start"])
    root.remove(root[0])
    assert not schema.validate(root)


@pytest.mark.parametrize(("name", "kind"), [("start", "110120"), ("stop", "110121")])
def test_application_activity_says_start_or_stop(name, kind):
    root = parsed(EVERY[name])
    assert codes(root, "EventIdentification/EventID") == [("110100", "DCM")]
    assert codes(root, "EventIdentification/EventTypeCode") == [(kind, "DCM")]
    assert codes(root, "ActiveParticipant/RoleIDCode") == [("110150", "DCM")]


@pytest.mark.parametrize(
    ("name", "roles"), [("received", ["110152", "110153"]), ("sent", ["110153", "110152"])], ids=["received", "sent"]
)
def test_a_transfer_names_source_and_destination(name, roles):
    root = parsed(EVERY[name])
    assert codes(root, "EventIdentification/EventID") == [("110104", "DCM")]
    own, peer = root.findall("ActiveParticipant")
    assert [own.find("RoleIDCode").get("csd-code"), peer.find("RoleIDCode").get("csd-code")] == roles
    assert own.get("AlternativeUserID") == "AETITLES=ICHNODE"
    assert (peer.get("UserID"), peer.get("NetworkAccessPointID")) == ("SCANNER", "192.0.2.7")
    assert peer.get("UserIsRequestor") == ("true" if name == "received" else "false")


def test_a_transfer_names_every_study_with_its_counts_and_every_patient_once():
    root = parsed(EVERY["received"])
    objects = root.findall("ParticipantObjectIdentification")
    assert [(item.get("ParticipantObjectTypeCodeRole"), item.get("ParticipantObjectID")) for item in objects] == [
        ("3", "1.2.3"),
        ("3", "1.2.4"),
        ("1", "PID-1"),
    ]
    counts = objects[0].findall("ParticipantObjectDescription/SOPClass")
    assert {item.get("UID"): item.get("NumberOfInstances") for item in counts}[CT] == "30"


def test_a_refused_transfer_is_a_minor_failure():
    root = parsed(EVERY["refused"])
    assert root.find("EventIdentification").get("EventOutcomeIndicator") == "4"


def test_an_operators_decision_names_who_decided_what_about_which_study():
    root = parsed(EVERY["accessed"])
    assert codes(root, "EventIdentification/EventID") == [("110103", "DCM")]
    assert root.find("EventIdentification").get("EventActionCode") == "C"
    person, own = root.findall("ActiveParticipant")
    assert (person.get("UserID"), person.get("UserIsRequestor")) == ("operator", "true")
    assert own.get("UserIsRequestor") == "false"
    first, second, patient = root.findall("ParticipantObjectIdentification")
    assert [item.get("ParticipantObjectID") for item in (first, second, patient)] == ["1.2.3", "1.2.4", "PID-1"]
    assert base64.b64decode(first.find("ParticipantObjectDetail").get("value")) == b"jobs redo 7"


def test_an_alert_says_who_was_turned_away_and_why():
    root = parsed(EVERY["alert"])
    assert codes(root, "EventIdentification/EventID") == [("110113", "DCM")]
    assert codes(root, "EventIdentification/EventTypeCode") == [("110126", "DCM")]
    assert root.findall("ActiveParticipant")[1].get("UserID") == "SCANNER"
    detail = root.find("ParticipantObjectIdentification/ParticipantObjectDetail")
    assert detail.get("type") == "Alert Description"
    assert base64.b64decode(detail.get("value")) == b"calling AE title not allowed"


def test_text_that_xml_can_not_hold_does_no_harm(schema):
    nasty = Study("1.2.3", {CT: 1}, 'a<b>&"\x00\x1b\ud800ü')
    message = messages.instances_transferred(SOURCE, MOMENT, Node("<X>\x01", "::1"), [nasty], received=True)
    schema.assertValid(parsed(message))


def test_the_syslog_line_follows_rfc_5424():
    line = messages.syslog(SOURCE, EVERY["start"])
    head, _, body = line.partition(b"\xef\xbb\xbf")
    assert head == b"<85>1 2026-01-05T08:00:00.123Z node.example ich-node 4711 DICOM+RFC3881 - "
    assert body == EVERY["start"].xml
    assert messages.syslog(SOURCE, EVERY["alert"]).startswith(b"<84>1 "), "a failure is a warning"


def test_a_patient_is_named_by_id_only():
    assert b"Name>PID-1<" in EVERY["received"].xml
    assert not any(b"PatientName" in message.xml for message in EVERY.values())


def test_what_leaves_for_no_dicom_node_is_an_export():
    for name, address, code, outcome in (
        ("message", "192.0.2.9", "2", "0"),
        ("webhook", "https://h.example/x", "5", "4"),
    ):
        root = parsed(EVERY[name])
        assert codes(root, "EventIdentification/EventID") == [("110106", "DCM")]
        assert root.find("EventIdentification").get("EventOutcomeIndicator") == outcome
        ours, theirs = root.findall("ActiveParticipant")
        assert (theirs.get("NetworkAccessPointID"), theirs.get("NetworkAccessPointTypeCode")) == (address, code)
        assert codes(root, "ActiveParticipant/MediaIdentifier/MediaType") == [("110037", "DCM")]
        objects = [item.get("ParticipantObjectID") for item in root.findall("ParticipantObjectIdentification")]
        assert (objects, ours.get("UserIsRequestor")) == (["1.2.3", "PID-1"], "true")
