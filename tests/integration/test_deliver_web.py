"""Webhooks and STOW-RS to a real web server: what is sent, and what each answer makes of it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from email import message_from_bytes
from email.policy import HTTP

import pytest
from ledger_builder import SECONDARY_CAPTURE, configuration, write_instance
from web_listener import WebListener

from ich_node.deliver.answer import Verdict
from ich_node.deliver.web.stow import StowPeer
from ich_node.deliver.web.webhook import WebhookPeer, signature
from ich_node.domain.errors import PeerUnavailable
from ich_node.domain.ledger import Delivery, DeliveryState

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105  the one of the standard's example
FINDING = {
    "label": "subdural",
    "probability": 0.9,
    "present": True,
    "laterality": "left",
    "sites": [],
    "peak": {"sop_instance_uid": "1.2.3"},
}


def delivery(path, sop_class_uid=""):
    """One item on its way."""
    fields = dict.fromkeys(Delivery.__dataclass_fields__)
    known = {"job_id": 7, "item": path.name, "sop_class_uid": sop_class_uid, "path": path, "attempts": 0}
    return Delivery(**{**fields, **known, "state": DeliveryState.PENDING, "created_at": 1_767_323_045.0})


@pytest.fixture
def result(tmp_path):
    write_instance(tmp_path / "9.1.dcm", SECONDARY_CAPTURE, "9.1")
    whole = {"priority": "STAT", "status": "analysed", "findings": [FINDING], "study_instance_uid": "1.2.3"}
    whole["objects"] = [{"sop_class_uid": SECONDARY_CAPTURE, "sop_instance_uid": "9.1"}]
    path = tmp_path / "result.json"
    path.write_text(json.dumps(whole))
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    (tmp_path / "old").write_text("whsec_b2xk\n")
    return path


def webhook(tmp_path, listener, **more):
    hook = {"name": "hook", "url": f"{listener.url}/hook", "secrets": [str(tmp_path / "secret")], **more}
    config = configuration(tmp_path, webhooks=[hook], dimse_timeout_s=60)
    return WebhookPeer(config, config.deliver.webhooks[0], clock=lambda: 1_800_000_000.0)


def posted(peer, item):
    connection = peer.connect([])
    try:
        return connection.send(peer.load(item))
    finally:
        connection.release()


def test_the_signature_is_the_one_of_the_standards_example():
    body = b'{"test": 2432232314}'
    made = signature([SECRET], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_result_is_posted_signed_and_without_the_patient(tmp_path, result):
    with WebListener() as listener:
        answer = posted(webhook(tmp_path, listener), delivery(result))
    path, headers, body = listener.requests[0]
    assert (answer.verdict, path) == (Verdict.SENT, "/hook")
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    mac = hmac.new(base64.b64decode(SECRET.removeprefix("whsec_")), signed, hashlib.sha256).digest()
    assert headers["webhook-signature"] == f"v1,{base64.b64encode(mac).decode()}"
    data = json.loads(body)["data"]
    assert (data["priority"], data["study_instance_uid"], data["job"]) == ("STAT", "1.2.3", 7)
    assert b"TEST-1" not in body
    assert b"DELIVERY" not in body


def test_the_patient_is_sent_when_that_is_asked_for(tmp_path, result):
    with WebListener() as listener:
        posted(webhook(tmp_path, listener, patient_data=True), delivery(result))
    assert json.loads(listener.requests[0][2])["data"]["patient"]["PatientID"] == "TEST-1"


def test_while_a_secret_is_rotated_both_sign(tmp_path, result):
    with WebListener() as listener:
        posted(webhook(tmp_path, listener, secrets=[str(tmp_path / "secret"), str(tmp_path / "old")]), delivery(result))
    assert len(listener.requests[0][1]["webhook-signature"].split(" ")) == 2


def test_a_repeated_message_has_the_same_id_and_body(tmp_path, result):
    with WebListener([500]) as listener:
        first = posted(webhook(tmp_path, listener), delivery(result))
        posted(webhook(tmp_path, listener), delivery(result))
    assert first.verdict is Verdict.LATER
    (_, one, body), (_, two, again) = listener.requests
    assert (one["webhook-id"], body) == (two["webhook-id"], again)


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (204, Verdict.SENT),
        (410, Verdict.REFUSED),
        *[(status, Verdict.LATER) for status in (302, 400, 401, 404, 429, 500, 503, "drop")],
    ],
)
def test_what_an_answer_means_to_a_webhook(tmp_path, result, answer, verdict):
    with WebListener([answer]) as listener:
        assert posted(webhook(tmp_path, listener), delivery(result)).verdict is verdict


def test_nobody_listens(tmp_path, result):
    with WebListener() as listener:
        peer = webhook(tmp_path, listener)
    answer = posted(peer, delivery(result))
    assert (answer.verdict, answer.code) == (Verdict.LATER, None)


def test_a_secret_that_is_none_is_said_and_not_sent(tmp_path, result):
    (tmp_path / "secret").write_text("not base64!")
    with WebListener() as listener:
        answer = posted(webhook(tmp_path, listener), delivery(result))
    assert (answer.verdict, answer.cause, listener.requests) == (Verdict.LATER, "a secret is not base64", [])


def archive(tmp_path, listener, **more):
    config = configuration(tmp_path, dicomweb=[{"name": "a", "url": f"{listener.url}/dicom-web", **more}])
    return StowPeer(config, config.deliver.dicomweb[0])


@pytest.fixture
def instance(tmp_path):
    return delivery(write_instance(tmp_path / "9.1.dcm", SECONDARY_CAPTURE, "9.1"), SECONDARY_CAPTURE)


def test_an_instance_is_posted_as_multipart_related(tmp_path, instance):
    (tmp_path / "token").write_text("abc\n")
    with WebListener() as listener:
        answer = posted(archive(tmp_path, listener, token=str(tmp_path / "token")), instance)
    path, headers, body = listener.requests[0]
    assert (answer.verdict, path, headers["authorization"]) == (Verdict.SENT, "/dicom-web/studies", "Bearer abc")
    parsed = message_from_bytes(f"content-type: {headers['content-type']}\r\n\r\n".encode() + body, policy=HTTP)
    (part,) = parsed.get_payload()
    assert parsed.get_content_type() == "multipart/related"
    assert (part.get_content_type(), len(body) > instance.path.stat().st_size) == ("application/dicom", True)
    assert instance.path.read_bytes() in body


def report(sequence, tag, reason, uid="9.1"):
    return {sequence: {"vr": "SQ", "Value": [{"00081155": {"Value": [uid]}, tag: {"Value": [reason]}}]}}


@pytest.mark.parametrize(
    ("answer", "verdict", "code"),
    [
        (200, Verdict.SENT, "200"),
        ((202, report("00081199", "00081196", 0xB000)), Verdict.SENT, "202"),
        ((202, report("00081198", "00081197", 0xA700)), Verdict.LATER, "0xA700"),
        ((409, report("00081198", "00081197", 0xC000)), Verdict.REFUSED, "0xC000"),
        ((409, report("00081198", "00081197", 0x0111)), Verdict.SENT, "0x0111"),
        ((200, report("00081198", "00081197", 0x0122)), Verdict.REFUSED, "0x0122"),
        ((202, report("00081198", "00081197", 0xC000, uid="1.1")), Verdict.LATER, "202"),
        *[(status, Verdict.REFUSED, str(status)) for status in (400, 413, 415)],
        *[(status, Verdict.LATER, str(status)) for status in (401, 403, 404, 409, 429, 500, 503)],
        ((200, ["rubbish"]), Verdict.SENT, "200"),
        ("drop", Verdict.LATER, None),
    ],
)
def test_what_an_answer_means_to_an_instance(tmp_path, instance, answer, verdict, code):
    with WebListener([answer]) as listener:
        found = posted(archive(tmp_path, listener), instance)
    assert (found.verdict, found.code) == (verdict, code)


def test_own_files_that_cannot_be_used_are_said(tmp_path):
    missing = {key: str(tmp_path / "missing.pem") for key in ("certificate", "private_key", "ca")}
    with WebListener() as listener, pytest.raises(PeerUnavailable, match="own certificate"):
        archive(tmp_path, listener, tls=missing).connect([])
