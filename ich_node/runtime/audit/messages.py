"""Audit messages of DICOM PS3.15 A.5 as XML, and the syslog line (RFC 5424) that carries them. Pure.

Every function returns one message: what happened, who took part, what it was about. Patient identification appears here
because A.5.3.7 asks for it; these messages go to the audit repository and nowhere else.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from xml.etree.ElementTree import Element, SubElement, tostring

# (code, coding scheme, meaning): PS3.16 CID 400 to 405
APPLICATION_ACTIVITY = ("110100", "DCM", "Application Activity")
INSTANCES_ACCESSED = ("110103", "DCM", "DICOM Instances Accessed")
INSTANCES_TRANSFERRED = ("110104", "DCM", "DICOM Instances Transferred")
EXPORT = ("110106", "DCM", "Export")
SECURITY_ALERT = ("110113", "DCM", "Security Alert")
USER_AUTHENTICATION = ("110114", "DCM", "User Authentication")
APPLICATION_START = ("110120", "DCM", "Application Start")
APPLICATION_STOP = ("110121", "DCM", "Application Stop")
LOGIN = ("110122", "DCM", "Login")
LOGOUT = ("110123", "DCM", "Logout")
NODE_AUTHENTICATION = ("110126", "DCM", "Node Authentication")
APPLICATION = ("110150", "DCM", "Application")
DESTINATION_ROLE = ("110152", "DCM", "Destination Role ID")
SOURCE_ROLE = ("110153", "DCM", "Source Role ID")
DESTINATION_MEDIA = ("110154", "DCM", "Destination Media")
URI = ("110037", "DCM", "URI")
STUDY_UID = ("110180", "DCM", "Study Instance UID")
NODE_ID = ("110182", "DCM", "Node ID")
PATIENT_NUMBER = ("2", "RFC-3881", "Patient Number")
APPLICATION_SERVER = "4"  # Audit Source Type Code, A.5.1.2.1
FACILITY_AUTHPRIV = 10  # RFC 5424 6.2.1: security and authorization messages
SEVERITY = {"0": 5, "4": 4, "8": 3, "12": 2}  # outcome → notice, warning, err, crit
MESSAGE_ID = "DICOM+RFC3881"

Code = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Source:
    """Who reports: this process. source_id: AuditSourceID; host: its network name."""

    source_id: str
    ae_title: str
    host: str
    process_id: int
    role: str


@dataclass(frozen=True, slots=True)
class Node:
    """The other end of an association."""

    ae_title: str
    address: str


@dataclass(frozen=True, slots=True)
class Study:
    """What was transferred of one study: SOP Class UID → number of instances. patient_id: None when not known."""

    study_uid: str
    counts: Mapping[str, int]
    patient_id: str | None


@dataclass(frozen=True, slots=True)
class Message:
    """An audit message. outcome: "0" success, "4" minor, "8" serious, "12" major failure."""

    xml: bytes
    outcome: str
    moment: datetime


def application_started(source: Source, moment: datetime) -> Message:
    """Application Activity, Application Start (A.5.3.1)."""
    return _application(source, APPLICATION_START, moment)


def application_stopped(source: Source, moment: datetime) -> Message:
    """Application Activity, Application Stop (A.5.3.1)."""
    return _application(source, APPLICATION_STOP, moment)


def instances_transferred(
    source: Source, moment: datetime, peer: Node, studies: Sequence[Study], *, received: bool, success: bool = True
) -> Message:
    """DICOM Instances Transferred (A.5.3.7): from `peer` to us when `received`, else from us to `peer`."""
    message = _Builder(source, INSTANCES_TRANSFERRED, "C", moment, "0" if success else "4")
    message.own_process(DESTINATION_ROLE if received else SOURCE_ROLE, requestor=not received)
    message.peer(peer, SOURCE_ROLE if received else DESTINATION_ROLE, requestor=received)
    message.audit_source()
    for study in studies:
        message.study(study)
    message.patients(studies)
    return message.done()


def exported(source: Source, moment: datetime, to: Node, study: Study, *, success: bool = True) -> Message:
    """Data Export (A.5.3.5): a message about a study went to `to`, which is no DICOM node: HL7, a webhook."""
    message = _Builder(source, EXPORT, "R", moment, "0" if success else "4")
    message.own_process(SOURCE_ROLE, requestor=True)
    message.media(to)
    message.audit_source()
    message.study(study)
    message.patients([study])
    return message.done()


def security_alert(source: Source, moment: datetime, peer: Node, description: str) -> Message:
    """Security Alert, Node Authentication (A.5.3.11): somebody was turned away at the door."""
    message = _Builder(source, SECURITY_ALERT, "E", moment, "4", NODE_AUTHENTICATION)
    message.own_process(APPLICATION, requestor=False)
    message.peer(peer, None, requestor=True)
    message.audit_source()
    message.alert(description)
    return message.done()


def user_authenticated(
    source: Source, moment: datetime, user: str, address: str, *, login: bool, success: bool = True
) -> Message:
    """User Authentication, Login or Logout (A.5.3.13)."""
    kind = LOGIN if login else LOGOUT
    message = _Builder(source, USER_AUTHENTICATION, "E", moment, "0" if success else "4", kind)
    message.user(user, address)
    message.own_process(APPLICATION, requestor=False)
    message.audit_source()
    return message.done()


def instances_accessed(
    source: Source,
    moment: datetime,
    user: str,
    address: str,
    studies: Sequence[Study],
    *,
    action: str,
    decision: str = "",
) -> Message:
    """DICOM Instances Accessed (A.5.3.6): a person looked at studies, or had something done about their results.

    action: "R" looked at or sent again, "C" made anew, "U" any other change. decision: what was asked for, in words.
    """
    message = _Builder(source, INSTANCES_ACCESSED, action, moment, "0")
    message.user(user, address)
    message.own_process(APPLICATION, requestor=False)
    message.audit_source()
    for study in studies:
        message.study(study, decision)
    message.patients(studies)
    return message.done()


def syslog(source: Source, message: Message) -> bytes:
    """The message as one RFC 5424 line: facility authpriv, severity by outcome, UTF-8 with BOM (A.6)."""
    priority = FACILITY_AUTHPRIV * 8 + SEVERITY[message.outcome]
    header = f"<{priority}>1 {_time(message.moment)} {source.host or '-'} ich-node {source.process_id} {MESSAGE_ID} - "
    return header.encode("ascii", "replace") + b"\xef\xbb\xbf" + message.xml


def _application(source: Source, kind: Code, moment: datetime) -> Message:
    message = _Builder(source, APPLICATION_ACTIVITY, "E", moment, "0", kind)
    message.own_process(APPLICATION, requestor=False)
    message.audit_source()
    return message.done()


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class _Builder:
    """Elements in the order of the schema: event, participants, source, objects."""

    def __init__(
        self, source: Source, event: Code, action: str, moment: datetime, outcome: str, kind: Code | None = None
    ) -> None:
        self._source = source
        self._moment = moment
        self._outcome = outcome
        self._root = Element("AuditMessage")
        attributes = {
            "EventActionCode": action,
            "EventDateTime": _time(moment),
            "EventOutcomeIndicator": outcome,
        }
        identification = SubElement(self._root, "EventIdentification", attributes)
        _coded(identification, "EventID", event)
        if kind is not None:
            _coded(identification, "EventTypeCode", kind)

    def own_process(self, role: Code, *, requestor: bool) -> None:
        """This process, by its process ID and AE title (A.5.2.1, A.5.2.2)."""
        participant = self._participant(str(self._source.process_id), self._source.ae_title, requestor)
        if self._source.host:
            participant.set("NetworkAccessPointID", self._source.host)
            participant.set("NetworkAccessPointTypeCode", "1")  # machine name
        participant.set("UserName", f"ich-node {self._source.role}")
        _coded(participant, "RoleIDCode", role)

    def peer(self, node: Node, role: Code | None, *, requestor: bool) -> None:
        """The other end; its process ID is not known, so its AE title stands for it."""
        participant = self._participant(node.ae_title, node.ae_title, requestor)
        if node.address:
            participant.set("NetworkAccessPointID", node.address)
            participant.set("NetworkAccessPointTypeCode", "2")  # IP address
        if role is not None:
            _coded(participant, "RoleIDCode", role)

    def media(self, node: Node) -> None:
        """Where something was exported to: a host, or a URL."""
        participant = self._participant(node.ae_title, node.ae_title, False)
        del participant.attrib["AlternativeUserID"]  # it has no AE title
        participant.set("NetworkAccessPointID", node.address)
        participant.set("NetworkAccessPointTypeCode", "5" if "://" in node.address else "2")  # URI or IP address
        _coded(participant, "RoleIDCode", DESTINATION_MEDIA)
        _coded(SubElement(participant, "MediaIdentifier"), "MediaType", URI)

    def user(self, name: str, address: str) -> None:
        """A person, by the name of the account, and where the request came from."""
        attributes = {"UserID": _legal(name) or "unknown", "UserIsRequestor": "true"}
        participant = SubElement(self._root, "ActiveParticipant", attributes)
        if address:
            participant.set("NetworkAccessPointID", address)
            participant.set("NetworkAccessPointTypeCode", "2")  # IP address

    def audit_source(self) -> None:
        """This system."""
        source = SubElement(self._root, "AuditSourceIdentification", {"AuditSourceID": self._source.source_id})
        SubElement(source, "AuditSourceTypeCode", {"csd-code": APPLICATION_SERVER})

    def study(self, study: Study, detail: str = "") -> None:
        """A study as a participant object: system object, report. detail: what was done to it, in plain words."""
        item = self._object(study.study_uid, "2", "3", STUDY_UID)
        if detail:
            value = base64.b64encode(detail.encode()).decode()
            SubElement(item, "ParticipantObjectDetail", {"type": "Decision", "value": value})
        description = SubElement(item, "ParticipantObjectDescription")
        for sop_class_uid, count in sorted(study.counts.items()):
            SubElement(description, "SOPClass", {"UID": sop_class_uid, "NumberOfInstances": str(count)})

    def patients(self, studies: Sequence[Study]) -> None:
        """Their patients as participant objects: by ID only, no name is needed to find out who was concerned."""
        for patient_id in dict.fromkeys(study.patient_id for study in studies if study.patient_id):
            self._object(patient_id, "1", "1", PATIENT_NUMBER)

    def alert(self, description: str) -> None:
        """What the alert is about: this node, and what happened in plain words."""
        item = self._object(self._source.ae_title, "2", "13", NODE_ID)
        value = base64.b64encode(description.encode()).decode()
        SubElement(item, "ParticipantObjectDetail", {"type": "Alert Description", "value": value})

    def done(self) -> Message:
        """The message."""
        return Message(tostring(self._root, encoding="utf-8"), self._outcome, self._moment)

    def _participant(self, user_id: str, ae_title: str, requestor: bool) -> Element:
        attributes = {
            "UserID": _legal(user_id),
            "AlternativeUserID": f"AETITLES={_legal(ae_title)}",
            "UserIsRequestor": "true" if requestor else "false",
        }
        return SubElement(self._root, "ActiveParticipant", attributes)

    def _object(self, identifier: str, kind: str, role: str, id_type: Code) -> Element:
        identifier = _legal(identifier)
        attributes = {
            "ParticipantObjectID": identifier,
            "ParticipantObjectTypeCode": kind,
            "ParticipantObjectTypeCodeRole": role,
        }
        item = SubElement(self._root, "ParticipantObjectIdentification", attributes)
        _coded(item, "ParticipantObjectIDTypeCode", id_type)
        SubElement(item, "ParticipantObjectName").text = identifier  # the schema wants one; the ID says it all
        return item


def _coded(parent: Element, name: str, code: Code) -> None:
    value, scheme, meaning = code
    SubElement(parent, name, {"csd-code": value, "codeSystemName": scheme, "originalText": meaning})


def _legal(text: str) -> str:
    """Without the control characters that XML 1.0 cannot hold; peers put anything into a Patient ID."""
    return "".join(character for character in text if character.isprintable())
