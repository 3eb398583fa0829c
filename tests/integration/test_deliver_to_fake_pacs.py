"""The sender against a real Storage SCP that follows a script."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from fake_pacs import (
    BASIC_TEXT_SR,
    COMPREHENSIVE_3D_SR,
    COMPREHENSIVE_SR,
    ENHANCED_SR,
    EXPLICIT,
    IMPLICIT,
    RLE,
    SECONDARY_CAPTURE,
    FakePacs,
)
from ledger_builder import configuration, delivering, destination, publish_job
from pydicom import dcmread
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.uid import RLELossless
from pynetdicom.dsutils import split_dataset

from ich_node.deliver.dicom import scu
from ich_node.dicom.pdu import Proposal
from ich_node.domain.errors import PeerUnavailable
from ich_node.domain.ledger import DeliveryState, JobState, dimse_code
from ich_node.store.ledger.jobs import JobStore

# pynetdicom, as the peer here, ends its thread with an error when it is hung up on
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


@pytest.fixture
def store(tmp_path: Path):
    store = JobStore.open(tmp_path)
    yield store
    store.close()


@pytest.fixture
def deliver(tmp_path, store, wait_for):
    """deliver(pacs, classes=…): publish one job, deliver it to the end; returns (job, files)."""

    def run(pacs: FakePacs, until=None, **job_options):
        config = configuration(tmp_path, destination("pacs", pacs.port))
        job, files = publish_job(store, tmp_path, ["pacs"], **job_options)
        with delivering(config):
            wait_for(until or (lambda: store.job(job.id).state in (JobState.DONE, JobState.FAILED)), 60, "the end")
        return store.job(job.id), files

    return run


def payload(path: Path) -> bytes:
    """The dataset's bytes without preamble and file meta information."""
    _, offset = split_dataset(path)
    return path.read_bytes()[offset:]


def states(store, job):
    return [item.state for item in store.deliveries(job.id)]


def test_results_arrive_in_order_as_the_bytes_that_were_published(store, deliver):
    with FakePacs() as pacs:
        job, files = deliver(pacs)
    assert job.state is JobState.DONE
    assert pacs.order == [file.sop_instance_uid for file in files]
    assert [pacs.stored[file.sop_instance_uid] for file in files] == [(EXPLICIT, payload(f.path)) for f in files]


def test_one_association_carries_a_whole_job(deliver):
    with FakePacs() as pacs:
        deliver(pacs)
    assert pacs.associations == ["ICHNODE"]


def test_two_destinations_get_everything_although_one_is_down_at_first(tmp_path, store, wait_for):
    up, down = FakePacs(), FakePacs()
    with up, down:
        down.stop()
        config = configuration(tmp_path, destination("up", up.port), destination("down", down.port))
        job, files = publish_job(store, tmp_path, ["up", "down"])
        with delivering(config):
            wait_for(lambda: len(up.stored) == 3, what="delivery to the one that is up")
            assert not down.order
            down.start()
            wait_for(lambda: store.job(job.id).state is JobState.DONE, what="delivery to both")
    assert down.order == up.order == [file.sop_instance_uid for file in files]


@pytest.mark.parametrize("status", [0xB000, 0xB006, 0xB007, 0x0111])
def test_warnings_and_duplicates_count_as_sent(store, deliver, status):
    with FakePacs(script=[status]) as pacs:
        job, _ = deliver(pacs)
    assert job.state is JobState.DONE
    assert store.deliveries(job.id)[0].code == dimse_code(status)


@pytest.mark.parametrize("status", [0xA900, 0xC000, 0xC123, 0x0122, 0x0124])
def test_a_permanent_refusal_fails_one_instance_with_a_plain_cause_and_the_rest_goes_on(store, deliver, status):
    with FakePacs(script=[0x0000, status]) as pacs:
        job, _ = deliver(pacs)
    assert job.state is JobState.FAILED
    assert states(store, job) == [DeliveryState.SENT, DeliveryState.FAILED, DeliveryState.SENT]
    refused = store.deliveries(job.id)[1]
    assert refused.code == dimse_code(status)
    assert refused.cause.startswith("the peer ")
    assert len(pacs.order) == 3, "nothing is tried twice"


@pytest.mark.parametrize("fault", [0xA700, 0xA7FF, 0x0110, "abort", "drop"])
def test_a_transient_failure_is_repeated_in_order_with_the_same_bytes(store, deliver, fault):
    with FakePacs(script=[0x0000, fault, fault]) as pacs:
        job, files = deliver(pacs)
    first, second, third = [file.sop_instance_uid for file in files]
    assert job.state is JobState.DONE
    assert pacs.order == [first, second, second, second, third]
    assert store.deliveries(job.id)[1].attempts == 3


def test_a_peer_that_never_answers_is_hung_up_on_and_tried_again(deliver):
    with FakePacs(script=["silent"]) as pacs:
        job, _ = deliver(pacs)
        assert len(pacs.associations) == 2
    assert job.state is JobState.DONE


def test_a_compressed_picture_goes_out_as_it_is_when_the_peer_takes_it(deliver):
    with FakePacs() as pacs:
        _, files = deliver(pacs, classes=[SECONDARY_CAPTURE], syntax=RLELossless)
    assert pacs.stored[files[0].sop_instance_uid] == (RLE, payload(files[0].path))


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
def test_a_compressed_picture_goes_out_uncompressed_when_the_peer_rejects_its_transfer_syntax(deliver, syntax):
    with FakePacs(contexts=[(SECONDARY_CAPTURE, [syntax])]) as pacs:
        job, files = deliver(pacs, classes=[SECONDARY_CAPTURE], syntax=RLELossless)
    assert job.state is JobState.DONE
    used, data = pacs.stored[files[0].sop_instance_uid]
    received = read_dataset(DicomBytesIO(data), is_implicit_VR=syntax == IMPLICIT, is_little_endian=True)
    assert used == syntax
    assert received.SOPInstanceUID == files[0].sop_instance_uid
    assert received.PixelData == dcmread(files[0].path).pixel_array.tobytes()


@pytest.mark.parametrize(("accepted", "suffix"), [(COMPREHENSIVE_SR, "1"), (ENHANCED_SR, "2")])
def test_a_peer_without_3d_reports_gets_the_next_best_one_and_the_ledger_says_so(store, deliver, accepted, suffix):
    contexts = [(SECONDARY_CAPTURE, [EXPLICIT]), (accepted, [EXPLICIT]), (BASIC_TEXT_SR, [EXPLICIT])]
    with FakePacs(contexts=contexts) as pacs:
        job, files = deliver(pacs, classes=[SECONDARY_CAPTURE, COMPREHENSIVE_3D_SR, BASIC_TEXT_SR])
    report = store.deliveries(job.id)[1]
    assert job.state is JobState.DONE
    assert pacs.order == [files[0].sop_instance_uid, files[1].sop_instance_uid + suffix, files[2].sop_instance_uid]
    assert (report.sent_sop_class_uid, report.sent_sop_instance_uid) == (accepted, pacs.order[1])
    assert "does not take Comprehensive 3D SR" in report.cause


def test_a_peer_that_accepts_the_context_but_refuses_the_3d_report_gets_the_next_best_one(deliver):
    with FakePacs(script=[0x0122]) as pacs:
        job, files = deliver(pacs, classes=[COMPREHENSIVE_3D_SR])
    assert job.state is JobState.DONE
    assert pacs.order == [files[0].sop_instance_uid, files[0].sop_instance_uid + "1"]


def test_a_sop_class_that_the_peer_does_not_take_fails_alone(store, deliver):
    with FakePacs(contexts=[(SECONDARY_CAPTURE, [EXPLICIT])]) as pacs:
        job, _ = deliver(pacs, classes=[SECONDARY_CAPTURE, BASIC_TEXT_SR])
    assert states(store, job) == [DeliveryState.SENT, DeliveryState.FAILED]
    assert store.deliveries(job.id)[1].cause == (
        "the peer accepts no presentation context for Basic Text SR Storage: the abstract syntax is not supported"
    )


def test_a_peer_that_takes_nothing_of_ours_fails_everything_at_once(store, deliver):
    with FakePacs(contexts=[]) as pacs:
        job, _ = deliver(pacs)
    assert set(states(store, job)) == {DeliveryState.FAILED}
    assert store.deliveries(job.id)[0].cause == (
        "the peer accepts none of the presentation contexts: the abstract syntax is not supported"
    )


def test_a_missing_result_file_fails_alone(tmp_path, store, wait_for):
    with FakePacs() as pacs:
        job, files = publish_job(store, tmp_path, ["pacs"])
        files[0].path.unlink()
        with delivering(configuration(tmp_path, destination("pacs", pacs.port))):
            wait_for(lambda: store.job(job.id).state is JobState.FAILED)
    assert states(store, job) == [DeliveryState.FAILED, DeliveryState.SENT, DeliveryState.SENT]


def test_an_operators_retry_sends_what_was_refused_and_only_that(tmp_path, store, deliver, wait_for):
    with FakePacs(script=[0x0000, 0xC000]) as pacs:
        job, files = deliver(pacs)
        store.retry(job.id)
        with delivering(configuration(tmp_path, destination("pacs", pacs.port))):
            wait_for(lambda: store.job(job.id).state is JobState.DONE)
    assert pacs.order[3:] == [files[1].sop_instance_uid]


def test_a_crash_before_the_answer_is_recorded_sends_the_same_bytes_again(tmp_path, store, deliver, wait_for):
    with FakePacs() as pacs:
        job, files = deliver(pacs)
        with store._write() as db:  # as if the process had died after the C-STORE response
            db.exec_driver_sql("UPDATE delivery SET state='pending' WHERE sequence=1")
            db.exec_driver_sql("UPDATE job SET state='delivering'")
        with delivering(configuration(tmp_path, destination("pacs", pacs.port))):
            wait_for(lambda: store.job(job.id).state is JobState.DONE)
    once, again = pacs.copies[files[1].sop_instance_uid]
    assert once == again


def test_a_stop_is_orderly_and_waits_for_no_time_out_of_a_peer_that_does_not_answer(tmp_path, store, wait_for):
    with FakePacs(script=["silent"]) as pacs:
        publish_job(store, tmp_path, ["pacs"])
        with delivering(configuration(tmp_path, destination("pacs", pacs.port), dimse_timeout_s=600)):
            wait_for(lambda: pacs.order)
    assert states(store, store.jobs()[0]) == [DeliveryState.PENDING] * 3


def test_an_idle_association_is_released_after_its_linger_time(tmp_path, store, deliver, wait_for):
    released = threading.Event()
    with FakePacs() as pacs:
        from pynetdicom import evt

        pacs._server.bind(evt.EVT_RELEASED, lambda _event: released.set())
        config = configuration(tmp_path, destination("pacs", pacs.port))
        publish_job(store, tmp_path, ["pacs"])
        with delivering(config):
            assert released.wait(60)


def test_echo_tells_how_fast_or_why_not(tmp_path):
    with FakePacs() as pacs:
        config = configuration(tmp_path, destination("pacs", pacs.port))
        target = config.deliver.destinations[0]
        assert scu.echo("ICHNODE", target, config.deliver).cause == "answers"
        wrong = target.model_copy(update={"ae_title": "OTHER"})
        rejected = scu.echo("ICHNODE", wrong, config.deliver)
        assert not rejected.ok
        assert rejected.cause == (
            "the peer rejects associations: it does not know the called AE title OTHER that we use for it"
        )
    nobody = scu.echo("ICHNODE", target, config.deliver)
    assert nobody.cause == "cannot connect: Connection refused"
    nowhere = target.model_copy(update={"host": "no-such-host.invalid"})
    assert scu.echo("ICHNODE", nowhere, config.deliver).cause.startswith("cannot connect: ")


def test_a_permanent_rejection_keeps_the_results_and_waits_at_the_slowest_pace(tmp_path, store, wait_for):
    with FakePacs() as pacs:
        job, _ = publish_job(store, tmp_path, ["pacs"])
        config = configuration(
            tmp_path, destination("pacs", pacs.port, ae_title="OTHER"), retry_base_s=0.1, retry_max_s=50
        )
        with delivering(config):
            wait_for(lambda: store.deliveries(job.id)[0].attempts == 1)
    held = store.deliveries(job.id)[0]
    assert "called AE title" in held.cause


def test_every_context_that_is_offered_comes_from_a_file_and_its_uncompressed_forms(tmp_path, store):
    _, files = publish_job(store, tmp_path, [], classes=[SECONDARY_CAPTURE], syntax=RLELossless)
    offered = scu.contexts_for(scu.versions(files[0].path))
    assert [(c.abstract_syntax, c.transfer_syntaxes) for c in offered] == [
        (SECONDARY_CAPTURE, (RLE,)),
        (SECONDARY_CAPTURE, (EXPLICIT,)),
        (SECONDARY_CAPTURE, (IMPLICIT,)),
    ]


def answering(reply: bytes | None):
    """A listener that is no DICOM peer: sends `reply` to everybody, or nothing at all; returns its socket."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                if reply is None:
                    kept.append(connection)
                    continue
                with connection:
                    connection.recv(65536)
                    connection.sendall(reply)

    kept: list[socket.socket] = []
    threading.Thread(target=serve, daemon=True).start()
    return listener, kept


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x02\x00\xff\xff\xff\xff" + bytes(64),
        b"\x07\x00\x00\x00\x00\x04" + bytes(4),
        None,
    ],
    ids=["hangs up", "a web server", "a PDU without end", "an abort", "silence"],
)
def test_whatever_else_listens_there_is_told_in_time_and_retryable(tmp_path, reply):
    listener, kept = answering(reply)
    config = configuration(tmp_path, destination("pacs", listener.getsockname()[1]), dimse_timeout_s=1)
    with pytest.raises(PeerUnavailable):
        scu.associate(
            "ICHNODE", config.deliver.destinations[0], config.deliver, [Proposal(scu.VERIFICATION, (IMPLICIT,))]
        )
    for opened in (listener, *kept):
        opened.close()


def test_a_compressed_file_that_is_damaged_fails_alone_when_the_peer_wants_it_uncompressed(tmp_path, store, wait_for):
    with FakePacs(contexts=[(SECONDARY_CAPTURE, [EXPLICIT])]) as pacs:
        job, files = publish_job(store, tmp_path, ["pacs"], classes=[SECONDARY_CAPTURE] * 2, syntax=RLELossless)
        damaged = bytearray(files[0].path.read_bytes())
        damaged[-200:-8] = bytes(192)
        header = damaged.index(b"\x03\x00\x00\x00\x40\x00\x00\x00")  # the RLE header: three segments, the first at 64
        damaged[header : header + 64] = b"\xff" * 64
        files[0].path.write_bytes(damaged)
        with delivering(configuration(tmp_path, destination("pacs", pacs.port))):
            wait_for(lambda: store.job(job.id).state is JobState.FAILED)
    assert states(store, job) == [DeliveryState.FAILED, DeliveryState.SENT]
    assert store.deliveries(job.id)[0].cause == "the peer wants it uncompressed, and it cannot be decompressed"
