"""DICOMweb Store Transaction, STOW-RS (PS3.18 10.5): one instance a request, its answer in the words of C-STORE.

200                      stored, with a warning where the response names one
202, 409                 what the response says of this instance: a Failure Reason means what a DIMSE status means
400, 410, 413, 415       final: the same bytes meet the same answer
anything else            tried again: 401, 403 and 404 are settings, 429 and 5xx pass
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from ich_node.deliver.answer import Answer, Verdict
from ich_node.deliver.dicom.answers import meaning
from ich_node.deliver.web.http import Client, Line, Reply, secret
from ich_node.domain.errors import PeerRefused, PeerUnavailable
from ich_node.domain.ledger import Delivery
from ich_node.runtime import audit
from ich_node.runtime.config import Config, DicomWebConfig

FAILED, REFERENCED = "00081198", "00081199"
SOP_INSTANCE, FAILURE_REASON, WARNING_REASON = "00081155", "00081197", "00081196"
FINAL = frozenset({400, 410, 413, 415})  # malformed, gone, too large, of an unsupported type
SETTINGS = {401: "it wants other credentials", 403: "it does not allow this node to store", 404: "the URL is not known"}


@dataclass(frozen=True, slots=True)
class Load:
    """An instance as a Part 10 file."""

    sop_instance_uid: str
    data: bytes


class StowConnection(Line):
    """Sends to one STOW-RS service."""

    def __init__(self, client: Client, destination: DicomWebConfig) -> None:
        super().__init__(client)
        self._destination = destination

    def send(self, load: Load) -> Answer:
        """POST it as multipart/related."""
        boundary = hashlib.sha256(load.data).hexdigest()
        head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        body = head + load.data + f"\r\n--{boundary}--\r\n".encode()
        headers = {
            "content-type": f'multipart/related; type="application/dicom"; boundary={boundary}',
            "accept": "application/dicom+json",
        }
        try:
            if self._destination.token is not None:
                headers["authorization"] = f"Bearer {secret(self._destination.token)}"
            reply = self._client.post(f"{self._destination.url.rstrip('/')}/studies", body, headers)
        except PeerUnavailable as error:
            return Answer(Verdict.LATER, None, str(error))
        return answered(reply, load.sop_instance_uid)


def answered(reply: Reply, sop_instance_uid: str) -> Answer:
    """What a response says of an instance."""
    code = str(reply.status)
    report = _report(reply.body)
    failure = _reason(report, FAILED, sop_instance_uid, FAILURE_REASON)
    if failure is not None:
        return meaning(failure)
    if reply.status == 200 or (reply.status == 202 and _names(report, REFERENCED, sop_instance_uid)):
        warning = _reason(report, REFERENCED, sop_instance_uid, WARNING_REASON)
        return Answer(Verdict.SENT, code, "stored" if warning is None else meaning(warning).cause)
    if reply.status in FINAL:
        return Answer(Verdict.REFUSED, code, f"the service refuses it with HTTP status {code}")
    words = SETTINGS.get(reply.status)
    cause = f"the service answers with HTTP status {code}"
    return Answer(Verdict.LATER, code, f"{cause}: {words}" if words else cause)


def _report(body: bytes) -> dict[str, Any]:
    """The Store Instances Response in the DICOM JSON Model (PS3.18 F); empty when there is none."""
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    if isinstance(found, list) and found:
        found = found[0]
    return found if isinstance(found, dict) else {}


def _items(report: dict[str, Any], sequence: str, sop_instance_uid: str) -> list[dict[str, Any]]:
    element = report.get(sequence)
    items = element.get("Value", []) if isinstance(element, dict) else []
    return [item for item in items if isinstance(item, dict) and _first(item, SOP_INSTANCE) == sop_instance_uid]


def _names(report: dict[str, Any], sequence: str, sop_instance_uid: str) -> bool:
    return bool(_items(report, sequence, sop_instance_uid))


def _reason(report: dict[str, Any], sequence: str, sop_instance_uid: str, tag: str) -> int | None:
    reasons = [_first(item, tag) for item in _items(report, sequence, sop_instance_uid)]
    return next((reason for reason in reasons if isinstance(reason, int)), None)


def _first(item: dict[str, Any], tag: str) -> Any:
    element = item.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return values[0] if isinstance(values, list) and values else None


class StowPeer:
    """A destination that is a STOW-RS service."""

    def __init__(self, config: Config, destination: DicomWebConfig) -> None:
        self.node = audit.Node(destination.name, destination.url)
        self._config = config
        self._destination = destination

    def load(self, item: Delivery) -> Load:
        """The file of a delivery; raises PeerRefused when it cannot be read."""
        try:
            data = item.path.read_bytes()
            uid = str(dcmread(item.path, stop_before_pixels=True, specific_tags=["SOPInstanceUID"]).SOPInstanceUID)
        except (OSError, InvalidDicomError, AttributeError) as error:
            raise PeerRefused(f"the result file cannot be read: {type(error).__name__}") from error
        return Load(uid, data)

    def connect(self, loads: Sequence[Load]) -> StowConnection:  # noqa: ARG002
        """A client; raises PeerUnavailable when our own certificate cannot be used."""
        return StowConnection(Client(self._destination.tls, self._config.deliver), self._destination)

    def answers(self) -> bool:
        """True: the next instance is as good a question as any."""
        return True
