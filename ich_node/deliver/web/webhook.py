"""A result as a JSON message, signed in the manner of Standard Webhooks 1.0 (standardwebhooks.com).

  webhook-id          the same for every attempt at the same result: a receiver that has it already may drop it
  webhook-timestamp   of this attempt, Unix seconds: a receiver refuses old ones
  webhook-signature   v1,base64(HMAC-SHA256(secret, id.timestamp.body)), one for each secret while they are rotated

A 2xx counts as sent, 410 (Gone) is final, everything else is tried again.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from ich_node.deliver.answer import Answer, Verdict
from ich_node.deliver.web.http import Client, Line, secret
from ich_node.domain.errors import PeerRefused, PeerUnavailable
from ich_node.domain.ledger import Delivery
from ich_node.runtime import audit
from ich_node.runtime.config import Config, WebhookConfig

PREFIX = "whsec_"
GONE = 410  # Standard Webhooks: the receiver wants no more of it
KEPT = ("status", "reason", "reason_code", "priority", "predecessor", "model", "provider", "warnings", "disclaimer")
"""Keys of result.json that say nothing of the patient."""
FINDING = ("label", "probability", "present", "laterality", "sites", "extent_mm")
PATIENT = ("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber")


@dataclass(frozen=True, slots=True)
class Load:
    """A message: webhook-id and body."""

    message_id: str
    body: bytes


def payload(result: Mapping[str, Any], job_id: int, made_at: float, patient: Mapping[str, str]) -> bytes:
    """The body. made_at: Unix seconds. patient: empty unless the configuration asks for it."""
    data = {key: result.get(key) for key in KEPT}
    data["job"] = job_id
    data["study_instance_uid"] = result.get("study_instance_uid")
    data["findings"] = [{key: finding.get(key) for key in FINDING} for finding in result.get("findings", ())]
    if patient:
        data["patient"] = dict(patient)
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(made_at))
    body = {"type": "ich_node.result", "timestamp": moment, "data": data}
    return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def signature(secrets: Sequence[str], message_id: str, timestamp: int, body: bytes) -> str:
    """The webhook-signature header: newest secret first. Raises PeerUnavailable for a secret that is none."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    found = []
    for text in secrets:
        try:
            key = base64.b64decode(text.removeprefix(PREFIX), validate=True)
        except binascii.Error as error:
            raise PeerUnavailable("a secret is not base64") from error
        found.append(f"v1,{base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()}")
    return " ".join(found)


class WebhookConnection(Line):
    """Sends to one URL."""

    def __init__(self, client: Client, destination: WebhookConfig, clock: Callable[[], float]) -> None:
        super().__init__(client)
        self._destination = destination
        self._clock = clock

    def send(self, load: Load) -> Answer:
        """POST it."""
        timestamp = int(self._clock())
        try:
            secrets = [secret(path) for path in self._destination.secrets]
            headers = {
                "content-type": "application/json",
                "webhook-id": load.message_id,
                "webhook-timestamp": str(timestamp),
                "webhook-signature": signature(secrets, load.message_id, timestamp, load.body),
            }
            reply = self._client.post(self._destination.url, load.body, headers)
        except PeerUnavailable as error:
            return Answer(Verdict.LATER, None, str(error))
        code = str(reply.status)
        if 200 <= reply.status < 300:
            return Answer(Verdict.SENT, code, "accepted")
        if reply.status == GONE:
            return Answer(Verdict.REFUSED, code, "the receiver is gone for good")
        return Answer(Verdict.LATER, code, f"the receiver answers with HTTP status {code}")


class WebhookPeer:
    """A destination that is a webhook."""

    def __init__(self, config: Config, destination: WebhookConfig, clock: Callable[[], float] = time.time) -> None:
        self.node = audit.Node(destination.name, destination.url)
        self._config = config
        self._destination = destination
        self._clock = clock

    def load(self, item: Delivery) -> Load:
        """The message for a delivery of result.json; raises PeerRefused when it cannot be made."""
        try:
            result = json.loads(item.path.read_bytes())
            patient = {}
            if self._destination.patient_data:
                first = item.path.parent / f"{result['objects'][0]['sop_instance_uid']}.dcm"
                header = dcmread(first, stop_before_pixels=True, specific_tags=list(PATIENT))
                patient = {keyword: str(header.get(keyword, "")) for keyword in PATIENT}
        except (OSError, ValueError, KeyError, IndexError, InvalidDicomError) as error:
            raise PeerRefused(f"the result cannot be read: {type(error).__name__}") from error
        body = payload(result, item.job_id, item.created_at, patient)
        digest = hashlib.sha256(f"{self._destination.name}\n".encode() + body).hexdigest()
        return Load(f"msg_{digest[:32]}", body)

    def connect(self, loads: Sequence[Load]) -> WebhookConnection:  # noqa: ARG002
        """A client; raises PeerUnavailable when our own certificate cannot be used."""
        return WebhookConnection(Client(self._destination.tls, self._config.deliver), self._destination, self._clock)

    def answers(self) -> bool:
        """True: a webhook has nothing to ask but the message itself, so it is tried again."""
        return True
