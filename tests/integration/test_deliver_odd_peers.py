"""Whatever a peer answers is its own trouble: informational fields are informational, and what is wrong is named."""

from __future__ import annotations

import re
import struct

import pytest
from fake_pacs import FakePacs
from ledger_builder import (
    BASIC_TEXT_SR,
    SECONDARY_CAPTURE,
    configuration,
    delivering,
    destination,
    publish_job,
    write_instance,
)
from odd_pacs import ABORT, CLASS_UID, MAXIMUM, RELEASE_RQ, VERSION, OddPacs, element, item, pdu

from ich_node.deliver.answer import Verdict
from ich_node.deliver.dicom import scu
from ich_node.domain.errors import PeerUnavailable
from ich_node.domain.ledger import DeliveryState, JobState
from ich_node.store.ledger.jobs import JobStore

IMPLICIT = b"1.2.840.10008.1.2"
ROLE = item(0x54, struct.pack(">H", 17) + b"1.2.840.10008.1.1" + b"\0\1")

TAKEN = {
    "called title padded with NUL": {"called": b"PACS".ljust(16, b"\0")},
    "called title all NUL": {"called": bytes(16)},
    "another called title": {"called": b"OTHER".ljust(16)},
    "called title of any bytes": {"called": bytes(range(0x80, 0x90))},
    "version name of 17 characters": {"user": MAXIMUM + CLASS_UID + item(0x55, b"ABCDEFGHIJKLMNOPQ")},
    "version name empty": {"user": MAXIMUM + CLASS_UID + item(0x55, b"")},
    "version name in Latin-1": {"user": MAXIMUM + CLASS_UID + item(0x55, b"M\xdcLLER")},
    "no implementation class UID": {"user": MAXIMUM + VERSION},
    "implementation class UID that is none": {"user": MAXIMUM + item(0x52, b"GE.MED") + VERSION},
    "no Maximum Length": {"user": CLASS_UID + VERSION},
    "nothing in the user information": {"user": b""},
    "Maximum Length 0": {"user": item(0x51, bytes(4)) + CLASS_UID},
    "Maximum Length 16": {"user": item(0x51, struct.pack(">I", 16)) + CLASS_UID},
    "Maximum Length odd": {"user": item(0x51, struct.pack(">I", 4095)) + CLASS_UID},
    "Maximum Length of 32 bits": {"user": item(0x51, b"\xff" * 4) + CLASS_UID},
    "unknown user item": {"user": MAXIMUM + CLASS_UID + item(0x5F, b"abc") + VERSION},
    "unknown item at the end": {"items": item(0x99, b"zz")},
    "asynchronous operations unasked": {"user": MAXIMUM + CLASS_UID + item(0x53, b"\0\1\0\1")},
    "role selection unasked": {"user": MAXIMUM + CLASS_UID + ROLE},
    "user identity unasked": {"user": MAXIMUM + CLASS_UID + item(0x59, bytes(2))},
    "protocol version 3": {"version": 3},
    "transfer syntax padded with NUL": {"syntax": lambda proposed: (0, proposed + b"\0")},
    "other contexts rejected without a transfer syntax": {
        "syntax": lambda proposed: (0, proposed) if proposed == IMPLICIT else (3, None)
    },
    "other contexts rejected with an unknown result": {
        "syntax": lambda proposed: (0, proposed) if proposed == IMPLICIT else (5, b"")
    },
}

UNAVAILABLE = {
    "accepted without a transfer syntax": ({"syntax": lambda _: (0, None)}, "Transfer Syntax Sub-Item is missing"),
    "accepted with one that was not proposed": ({"syntax": lambda _: (0, b"1.2.3")}, "none that we proposed"),
    "no answer to any context": ({"associate": pdu(2, b"\0\1" + bytes(66))}, "no answer to its presentation context"),
    "protocol version 0": ({"version": 0}, "Protocol-version is 0x0000"),
    "Maximum Length 6": ({"user": item(0x51, struct.pack(">I", 6))}, "Maximum Length is 6"),
    "an item longer than the PDU": ({"items": b"\x21\0\xff\xff"}, "item 0x21 is longer than the A-ASSOCIATE-AC"),
    "a short accept": ({"associate": pdu(2, b"\0\1")}, "ends before its first item"),
    "a short reject": ({"associate": pdu(3, b"\0\1")}, "has no reason"),
    "an abort by the provider": ({"associate": pdu(7, b"\0\0\2\1")}, "a PDU that it does not know"),
    "a PDU of another type": ({"associate": pdu(6, bytes(4))}, "PDU type 0x06 is out of place"),
    "a web server": ({"associate": b"HTTP/1.1 400 Bad Request\r\n\r\n"}, "PDU type 0x48 is unknown"),
    "a PDU without end": ({"associate": b"\x02\0\xff\xff\xff\xff" + bytes(64)}, "4294967295 bytes is too long"),
    "half an accept": ({"associate": pdu(2, bytes(100))[:50]}, "did not answer the association request within 1 s"),
}


@pytest.fixture
def store(tmp_path):
    store = JobStore.open(tmp_path)
    yield store
    store.close()


def associated(tmp_path, pacs, files, **options):
    config = configuration(tmp_path, destination("pacs", pacs.port), **{"dimse_timeout_s": 60, **options})
    return scu.associate("ICHNODE", config.deliver.destinations[0], config.deliver, scu.contexts_for(files))


@pytest.mark.parametrize("odd", TAKEN)
def test_informational_fields_are_informational(tmp_path, odd):
    files = scu.versions(write_instance(tmp_path / "a.dcm", SECONDARY_CAPTURE, "1.2.3"))
    with OddPacs(**TAKEN[odd]) as pacs:
        association = associated(tmp_path, pacs, files)
        answer, _ = association.store(files)
        association.release()
    assert (answer.verdict, pacs.stored) == (Verdict.SENT, ["1.2.3"])
    assert not any(length % 2 for length in pacs.lengths), "presentation data values have an even length"


@pytest.mark.parametrize("odd", UNAVAILABLE)
def test_an_answer_that_contradicts_the_standard_is_told_with_its_field_and_tried_again(tmp_path, odd):
    files = scu.versions(write_instance(tmp_path / "a.dcm", SECONDARY_CAPTURE, "1.2.3"))
    answer, said = UNAVAILABLE[odd]
    with OddPacs(**answer) as pacs, pytest.raises(PeerUnavailable, match=said):
        associated(tmp_path, pacs, files, dimse_timeout_s=1 if "within 1 s" in said else 60)


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        ({"message_id": 4711}, "Message ID Being Responded To is not that of our request"),
        ({"extra": b"\0\0\2\t\xff\0\0\0"}, r"\(0000,0902\) is longer than its command set"),
        ({"status": lambda _: 0, "delay_s": 2}, "did not answer within 1 s"),
    ],
    ids=["to another message", "cut off", "late"],
)
def test_a_damaged_answer_is_no_answer(tmp_path, odd, said):
    files = scu.versions(write_instance(tmp_path / "a.dcm", SECONDARY_CAPTURE, "1.2.3"))
    with OddPacs(**odd) as pacs:
        association = associated(tmp_path, pacs, files, dimse_timeout_s=1 if "within 1 s" in said else 60)
        answer, _ = association.store(files)
    assert (answer.verdict, answer.code) == (Verdict.LATER, None)
    assert re.search(said, answer.cause)
    assert not association.alive


def test_what_the_peer_says_about_a_status_is_kept_and_cleaned(tmp_path):
    files = scu.versions(write_instance(tmp_path / "a.dcm", SECONDARY_CAPTURE, "1.2.3"))
    said = element(0x0901, b"\x10\0\x20\0") + element(0x0902, b"no\x1b[31m such patient\xe4")
    with OddPacs(status=lambda _: 0xC001, extra=said) as pacs:
        association = associated(tmp_path, pacs, files)
        answer, _ = association.store(files)
        association.release()
    assert answer.cause == "the peer cannot understand the instance"
    assert answer.remark == '"no?[31m such patient?"; offending element (0010,0020)'


@pytest.mark.parametrize("odd", ["accepted without a transfer syntax", "a PDU without end", "protocol version 0"])
def test_an_odd_destination_is_its_own_trouble(tmp_path, store, wait_for, odd):
    with OddPacs(**UNAVAILABLE[odd][0]) as bad, FakePacs() as good:
        config = configuration(tmp_path, destination("bad", bad.port), destination("good", good.port))
        job, _ = publish_job(store, tmp_path, ["bad", "good"])
        with delivering(config):
            wait_for(lambda: len(good.stored) == 3, 60, "the healthy destination")
            wait_for(lambda: store.deliveries(job.id)[0].cause, 60, "the cause")
            again, _ = publish_job(store, tmp_path, ["bad", "good"], series_uid="1.2.3.5")
            wait_for(lambda: len(good.stored) == 6, 60, "the next study")
    assert {d.state for d in store.deliveries(again.id) if d.destination == "bad"} == {DeliveryState.PENDING}
    first = store.deliveries(job.id)[0]
    assert (first.destination, UNAVAILABLE[odd][1] in first.cause) == ("bad", True)


@pytest.mark.parametrize("after", [None, ABORT, RELEASE_RQ], ids=["hangs up", "aborts", "releases"])
def test_a_peer_that_ends_the_association_after_every_answer_costs_no_wait(tmp_path, store, wait_for, after):
    with OddPacs(after=after) as pacs:
        job, files = publish_job(store, tmp_path, ["pacs"], classes=[SECONDARY_CAPTURE] * 6 + [BASIC_TEXT_SR])
        slow = {"retry_base_s": 600, "retry_max_s": 900, "dimse_timeout_s": 60}  # a wait would never end here
        with delivering(configuration(tmp_path, destination("pacs", pacs.port), **slow)):
            wait_for(lambda: store.job(job.id).state is JobState.DONE)
    assert list(dict.fromkeys(pacs.stored)) == [file.sop_instance_uid for file in files]


def test_a_status_that_refuses_one_kind_of_object_lets_the_others_pass(tmp_path, store, wait_for):
    with FakePacs(refuses={SECONDARY_CAPTURE: 0xA700}) as pacs:
        job, files = publish_job(store, tmp_path, ["pacs"], classes=[SECONDARY_CAPTURE] * 4 + [BASIC_TEXT_SR])
        with delivering(configuration(tmp_path, destination("pacs", pacs.port))):
            wait_for(lambda: files[4].sop_instance_uid in pacs.stored, 60, "the report")
            pacs.refuses.clear()
            wait_for(lambda: store.job(job.id).state is JobState.DONE, 60, "the pictures after the repair")


@pytest.mark.parametrize("count", [2000, pytest.param(20_000, marks=pytest.mark.slow)])
def test_no_response_is_lost_under_load(tmp_path, count):
    files = scu.versions(write_instance(tmp_path / "a.dcm", BASIC_TEXT_SR, "1.2.3"))
    with OddPacs() as pacs:
        association = associated(tmp_path, pacs, files)
        try:
            verdicts = [association.store(files)[0].verdict for _ in range(count)]
        finally:
            association.release()
    assert verdicts == [Verdict.SENT] * count
