"""Storage Commitment both ways round, over real associations."""

from __future__ import annotations

import errno
import threading
from pathlib import Path

import pytest
from datasets import encoded
from fake_pacs import SECONDARY_CAPTURE, STORAGE_COMMITMENT, FakePacs
from ledger_builder import configuration, destination, publish_job
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.presentation import build_context, build_role

from ich_node.deliver import role as deliver_role
from ich_node.dicom.commitment import event_information
from ich_node.domain.dicom import AETitle, Peer
from ich_node.domain.ledger import DeliveryState, JobState
from ich_node.receive import reporting
from ich_node.receive.catalogue import Catalogue
from ich_node.receive.commitment import Commitments, Request
from ich_node.receive.reporting import Reporter
from ich_node.receive.scp import Scp
from ich_node.store.ledger.jobs import JobStore
from ich_node.store.spool import Spool

WELL_KNOWN = "1.2.840.10008.1.20.1.1"
CLASSES = [SECONDARY_CAPTURE, SECONDARY_CAPTURE]


@pytest.fixture
def store(tmp_path: Path):
    store = JobStore.open(tmp_path)
    yield store
    store.close()


class NoHints:
    """Nobody is assembled here."""

    def __getattr__(self, _name):
        return lambda *_arguments, **_named: None


@pytest.fixture
def node(tmp_path, store):
    """The SCP with Storage Commitment on a free port; node(config) starts it."""
    stop = threading.Event()
    running = []

    def start(config):
        spool = Spool(tmp_path, 0)
        commitments = Commitments(config, store)
        scp = Scp(config, spool, NoHints(), commitments.extension, port=0)
        thread = threading.Thread(
            target=Reporter(config, spool, commitments, Catalogue(spool, store)).run, args=(stop,)
        )
        scp.start()
        thread.start()
        running.append((scp, thread))
        return scp, spool

    yield start
    stop.set()
    for scp, thread in running:
        scp.stop(2)
        thread.join(60)


@pytest.fixture
def delivering():
    """delivering(config) runs the deliver role until the test ends."""
    stop = threading.Event()
    threads = []

    def start(config):
        thread = threading.Thread(target=deliver_role.run, args=(config, stop))
        thread.start()
        threads.append(thread)

    yield start
    stop.set()
    for thread in threads:
        thread.join(60)


def report_on(association, request, failed=()):
    """Send the N-EVENT-REPORT that a PACS would."""
    items = request.ReferencedSOPSequence
    references = tuple((str(i.ReferencedSOPClassUID), str(i.ReferencedSOPInstanceUID)) for i in items)
    missing = {sop: 0x0112 for _, sop in references if sop in failed}
    information = event_information(str(request.TransactionUID), references, missing)
    return association.send_n_event_report(information, 2 if missing else 1, STORAGE_COMMITMENT, WELL_KNOWN)[0]


def in_background(function):
    threading.Thread(target=function, daemon=True).start()


# --- we ask --------------------------------------------------------------------------------------------------------


def reporting_pacs(reports_on_new_association_to=None, lose=(), answer=0x0000):
    """A PACS that commits, on the same association or on a new one to the given port."""

    def on_action(event):
        request, same = event.action_information, event.assoc

        def later():
            if reports_on_new_association_to is None:
                report_on(same, request, lost())
                return
            ae = AE("PACS")
            roles = [build_role(STORAGE_COMMITMENT, scp_role=True)]
            contexts = [build_context(STORAGE_COMMITMENT)]
            port = reports_on_new_association_to()
            opened = ae.associate("127.0.0.1", port, contexts=contexts, ext_neg=roles, ae_title="ICHNODE")
            report_on(opened, request, lost())
            opened.release()

        if answer == 0x0000:
            in_background(later)
        return answer

    remaining = list(lose)

    def lost():
        gone = tuple(remaining)
        remaining.clear()
        return gone

    return FakePacs(commitment_handler=on_action)


def test_a_report_on_the_same_association_commits(tmp_path, store, delivering, wait_for):
    with reporting_pacs() as pacs:
        job, _ = publish_job(store, tmp_path, ["pacs"], classes=CLASSES)
        delivering(configuration(tmp_path, destination("pacs", pacs.port, commitment=True), linger_s=5))
        wait_for(lambda: {d.state for d in store.deliveries(job.id)} == {DeliveryState.COMMITTED})
    assert store.job(job.id).state is JobState.DONE
    assert len(pacs.commitments) == 1, "one request covers a job"


def test_a_report_on_a_new_association_to_our_scp_commits(tmp_path, store, node, delivering, wait_for):
    ports = []
    with reporting_pacs(reports_on_new_association_to=lambda: ports[0]) as pacs:
        config = configuration(tmp_path, destination("pacs", pacs.port, commitment=True))
        scp, _ = node(config)
        ports.append(scp.port)
        job, _ = publish_job(store, tmp_path, ["pacs"], classes=CLASSES)
        delivering(config)
        wait_for(lambda: {d.state for d in store.deliveries(job.id)} == {DeliveryState.COMMITTED})


def test_what_the_peer_lost_is_sent_again_and_asked_for_again(tmp_path, store, delivering, wait_for):
    job, files = publish_job(store, tmp_path, ["pacs"], classes=CLASSES)
    with reporting_pacs(lose=[files[1].sop_instance_uid]) as pacs:
        delivering(configuration(tmp_path, destination("pacs", pacs.port, commitment=True), linger_s=5))
        wait_for(lambda: {d.state for d in store.deliveries(job.id)} == {DeliveryState.COMMITTED})
    first, second = [file.sop_instance_uid for file in files]
    assert pacs.order == [first, second, second]
    assert len({str(request.TransactionUID) for request in pacs.commitments}) == 2
    assert store.job(job.id).state is JobState.DONE


def test_without_a_report_in_time_it_is_asked_again_under_another_uid(tmp_path, store, delivering, wait_for):
    with FakePacs(commitment_handler=lambda _event: 0x0000) as pacs:
        publish_job(store, tmp_path, ["pacs"], classes=CLASSES)
        target = destination("pacs", pacs.port, commitment=True)
        delivering(configuration(tmp_path, target, linger_s=0, commitment_timeout_s=1))
        wait_for(lambda: len(pacs.commitments) >= 2)
    assert len({str(request.TransactionUID) for request in pacs.commitments}) == len(pacs.commitments)


def test_a_peer_that_does_not_commit_leaves_the_results_sent(tmp_path, store, delivering, wait_for):
    with FakePacs() as pacs:
        job, _ = publish_job(store, tmp_path, ["pacs"], classes=CLASSES)
        delivering(configuration(tmp_path, destination("pacs", pacs.port, commitment=True)))
        wait_for(lambda: len(pacs.associations) >= 2, 60, "the question")
    assert {d.state for d in store.deliveries(job.id)} == {DeliveryState.SENT}
    assert store.job(job.id).state is JobState.DONE


# --- our senders ask -----------------------------------------------------------------------------------------------


def ask(port, references, *, keep_open=None, ae_title="SCANNER", on_report=None, uid="2.25.99", source="127.0.0.1"):
    """N-ACTION to the node; returns the status.

    keep_open: set when the report is there; then the association is released as soon as the report is answered
    (pynetdicom's reactor falls over an answer that is still to be sent when the release goes out).
    """
    handlers = [(evt.EVT_N_EVENT_REPORT, on_report)] if on_report else []
    answered = threading.Event()

    def sent(_event):
        if keep_open is not None and keep_open.is_set():
            answered.set()

    handlers.append((evt.EVT_PDU_SENT, sent))
    association = AE(ae_title).associate(
        "127.0.0.1",
        port,
        contexts=[build_context(STORAGE_COMMITMENT)],
        ae_title="ICHNODE",
        evt_handlers=handlers,
        bind_address=(source, 0),
    )
    assert association.is_established
    request = Dataset()
    request.TransactionUID = uid
    request.ReferencedSOPSequence = []
    for sop_class, sop in references:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, sop
        request.ReferencedSOPSequence.append(item)
    status, _ = association.send_n_action(request, 1, STORAGE_COMMITMENT, WELL_KNOWN)
    if keep_open is not None:
        assert keep_open.wait(10), "no report"
        assert answered.wait(60), "the report was not answered"
    association.release()
    return status.Status


class Reports:
    """Takes N-EVENT-REPORTs."""

    def __init__(self):
        self.got = threading.Event()
        self.type = self.information = None

    def __call__(self, event):
        self.type, self.information = event.event_type, event.event_information
        self.got.set()
        return 0x0000, None

    @property
    def committed(self):
        return [str(i.ReferencedSOPInstanceUID) for i in self.information.get("ReferencedSOPSequence", [])]

    @property
    def failed(self):
        failures = self.information.get("FailedSOPSequence", [])
        return {str(i.ReferencedSOPInstanceUID): i.FailureReason for i in failures}


HELD, ASIDE, UNKNOWN = "1.2.3.1", "1.2.3.2", "1.2.3.3"


def fill(tmp_path, sender="SCANNER", address="127.0.0.1", patient="P1"):
    peer = Peer(AETitle(sender), address)
    for uid, aside in ((HELD, False), (ASIDE, True)):
        dataset = Dataset()
        dataset.SOPClassUID, dataset.SOPInstanceUID = SECONDARY_CAPTURE, uid
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.PatientID = "1.2", "1.2.9", patient
        Spool(tmp_path, 0).put(
            series_uid="1.2.9", sop_instance_uid=uid, sop_class_uid=SECONDARY_CAPTURE, aside=aside,
            transfer_syntax_uid=ExplicitVRLittleEndian, parts=[encoded(dataset)], sender=peer,
        )  # fmt: skip


def test_a_sender_gets_its_report_on_the_association_that_asked(tmp_path, node):
    scp, _ = node(configuration(tmp_path))
    fill(tmp_path)
    reports = Reports()
    references = [(SECONDARY_CAPTURE, HELD), (SECONDARY_CAPTURE, ASIDE)]
    assert ask(scp.port, references, keep_open=reports.got, on_report=reports) == 0x0000
    assert (reports.type, reports.committed, reports.failed) == (1, [HELD, ASIDE], {})


def test_what_is_not_held_or_is_something_else_is_reported_as_failed(tmp_path, node):
    scp, _ = node(configuration(tmp_path))
    fill(tmp_path)
    reports = Reports()
    references = [(SECONDARY_CAPTURE, HELD), ("1.2.840.10008.5.1.4.1.1.2", ASIDE), (SECONDARY_CAPTURE, UNKNOWN)]
    ask(scp.port, references, keep_open=reports.got, on_report=reports)
    assert (reports.type, reports.committed, reports.failed) == (2, [HELD], {ASIDE: 0x0119, UNKNOWN: 0x0112})


def test_a_sender_whose_port_is_known_gets_its_report_on_a_new_association(tmp_path, store, node):
    reports = Reports()
    sender = AE("SCANNER")
    sender.add_supported_context(STORAGE_COMMITMENT, scu_role=True, scp_role=True)
    server = sender.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, reports)])
    config = configuration(tmp_path)
    callers = [{"ae_title": "SCANNER", "commitment_port": server.server_address[1]}]
    receive = type(config.receive).model_validate({"callers": callers})
    scp, _ = node(config.model_copy(update={"receive": receive}))
    fill(tmp_path)
    assert ask(scp.port, [(SECONDARY_CAPTURE, HELD)]) == 0x0000
    assert reports.got.wait(60)
    server.shutdown()
    assert reports.committed == [HELD]


def test_a_request_survives_a_restart_before_its_report(tmp_path, store, wait_for):
    reports = Reports()
    sender = AE("SCANNER")
    sender.add_supported_context(STORAGE_COMMITMENT, scu_role=True, scp_role=True)
    server = sender.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, reports)])
    config = configuration(tmp_path)
    callers = [{"ae_title": "SCANNER", "commitment_port": server.server_address[1]}]
    config = config.model_copy(update={"receive": type(config.receive).model_validate({"callers": callers})})
    fill(tmp_path)
    spool = Spool(tmp_path, 0)
    dies = Commitments(config, store)  # nobody reports
    scp = Scp(config, spool, NoHints(), dies.extension, port=0)
    scp.start()
    assert ask(scp.port, [(SECONDARY_CAPTURE, HELD)]) == 0x0000
    scp.stop(2)
    reporter = Reporter(config, spool, Commitments(config, store), Catalogue(spool, store))
    reporter.step()
    reporter.settle()
    assert reports.got.wait(60)
    server.shutdown()
    assert reports.committed == [HELD]
    assert not list((tmp_path / "commitments").iterdir()), "a report is sent once"


def test_a_disk_that_fails_for_a_moment_ends_no_reporting(tmp_path, store, wait_for, monkeypatch):
    config, stop = configuration(tmp_path), threading.Event()
    commitments = Commitments(config, store)
    reporter = Reporter(config, Spool(tmp_path, 0), commitments, Catalogue(Spool(tmp_path, 0), store))
    monkeypatch.setattr(reporting, "RETRY_S", 0.01)
    asked = []

    def pending():
        asked.append(1)
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(commitments, "pending", pending)
    thread = threading.Thread(target=reporter.run, args=(stop,))
    thread.start()
    wait_for(lambda: len(asked) > 2)
    stop.set()
    thread.join(60)


def test_a_report_that_fails_in_an_unforeseen_way_is_tried_again_for_a_day(tmp_path, store, monkeypatch):
    clock = [1000.0]
    commitments = Commitments(configuration(tmp_path), store)
    request = Request("1.2.9", "SCANNER", "127.0.0.1", clock[0], ((SECONDARY_CAPTURE, HELD),))
    monkeypatch.setattr(commitments, "pending", lambda: iter([request]))
    spool, tried = Spool(tmp_path, 0), []

    def find(_uids):
        tried.append(1)
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(spool, "find", find)
    reporter = Reporter(configuration(tmp_path), spool, commitments, Catalogue(spool, store), lambda: clock[0])
    for moment, times in ((1000.0, 1), (1005.0, 1), (1011.0, 2)):
        clock[0] = moment
        reporter.step()
        reporter.settle()
        assert len(tried) == times
    ended = []
    monkeypatch.setattr(commitments, "done", ended.append)
    clock[0] += reporting.GIVE_UP_S
    reporter.step()
    reporter.settle()
    assert ended == [request]


def test_a_request_without_references_is_refused(tmp_path, node):
    scp, _ = node(configuration(tmp_path))
    assert ask(scp.port, []) == 0x0115


# --- by relationship -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("title", "address"), [("NOBODY", "127.0.0.1"), ("SCANNER", "127.0.0.7")])
def test_nobody_learns_what_another_peer_has_sent(tmp_path, node, title, address):
    scp, _ = node(configuration(tmp_path))
    fill(tmp_path)
    reports = Reports()
    references = [(SECONDARY_CAPTURE, HELD), (SECONDARY_CAPTURE, UNKNOWN)]
    ask(scp.port, references, keep_open=reports.got, on_report=reports, ae_title=title, source=address)
    assert (reports.committed, reports.failed) == ([], {HELD: 0x0112, UNKNOWN: 0x0112})


def test_each_of_two_senders_is_told_of_its_own_bytes_under_one_uid(tmp_path, node):
    scp, _ = node(configuration(tmp_path))
    fill(tmp_path)
    fill(tmp_path, sender="OTHER", patient="P2")
    for title in ("SCANNER", "OTHER"):
        reports = Reports()
        ask(scp.port, [(SECONDARY_CAPTURE, HELD)], keep_open=reports.got, on_report=reports, ae_title=title)
        assert reports.committed == [HELD]


def test_a_transaction_uid_taken_twice_replaces_nobody_elses_request(tmp_path, store):
    config = configuration(tmp_path)
    commitments = Commitments(config, store)
    scp = Scp(config, Spool(tmp_path, 0), NoHints(), commitments.extension, port=0)
    scp.start()
    for title, sop in (("SCANNER", HELD), ("EVIL", UNKNOWN)):
        assert ask(scp.port, [(SECONDARY_CAPTURE, sop)], ae_title=title) == 0x0000
    scp.stop(2)
    assert {(r.ae_title, r.references[0][1]) for r in commitments.pending()} == {("SCANNER", HELD), ("EVIL", UNKNOWN)}


def test_a_peer_has_a_tenth_of_the_places(tmp_path, store, monkeypatch):
    monkeypatch.setattr("ich_node.receive.commitment.MOST_PENDING_OF_PEER", 2)
    config = configuration(tmp_path)
    scp = Scp(config, Spool(tmp_path, 0), NoHints(), Commitments(config, store).extension, port=0)
    scp.start()
    answers = [ask(scp.port, [(SECONDARY_CAPTURE, HELD)], uid=f"2.25.{n}", ae_title="GREEDY") for n in range(3)]
    assert answers == [0x0000, 0x0000, 0x0213]
    assert ask(scp.port, [(SECONDARY_CAPTURE, HELD)]) == 0x0000
    scp.stop(2)


def test_a_title_that_is_a_destinations_makes_nobody_report_to_that_destination(tmp_path, store):
    reports = Reports()
    pacs = AE("PACS")
    pacs.add_supported_context(STORAGE_COMMITMENT, scu_role=True, scp_role=True)
    server = pacs.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, reports)])
    config = configuration(tmp_path, destination("pacs", server.server_address[1]))
    spool, commitments = Spool(tmp_path, 0), Commitments(config, store)
    scp = Scp(config, spool, NoHints(), commitments.extension, port=0)
    scp.start()
    title = config.deliver.destinations[0].ae_title
    assert ask(scp.port, [(SECONDARY_CAPTURE, HELD)], ae_title=title, source="127.0.0.7") == 0x0000
    reporter = Reporter(config, spool, commitments, Catalogue(spool, store))
    reporter.step()
    reporter.settle()
    scp.stop(2)
    server.shutdown()
    assert not reports.got.is_set()
    assert not list(commitments.pending())


def test_a_sender_that_never_answers_its_reports_holds_up_nobody_else(tmp_path, node, monkeypatch):
    release, mute_got, reports = threading.Event(), threading.Event(), Reports()

    def mute(_event):
        mute_got.set()
        release.wait(60)
        return 0x0000, None

    scp, _ = node(configuration(tmp_path))
    fill(tmp_path)
    asking = threading.Thread(
        target=ask, args=(scp.port, [(SECONDARY_CAPTURE, HELD)]),
        kwargs={"ae_title": "MUTE", "keep_open": release, "on_report": mute},
    )  # fmt: skip
    asking.start()
    assert mute_got.wait(60)
    ask(scp.port, [(SECONDARY_CAPTURE, HELD)], keep_open=reports.got, on_report=reports)
    release.set()
    asking.join(60)
    assert reports.committed == [HELD]


@pytest.mark.parametrize(("title", "address", "answer"), [("PACS", "127.0.0.7", 0x0124), ("EVIL", "127.0.0.1", 0x0124)])
def test_a_report_counts_only_from_the_destination_that_was_asked(tmp_path, store, title, address, answer):
    publish_job(store, tmp_path, ["pacs"], classes=CLASSES)
    config = configuration(tmp_path, destination("pacs", 1, commitment=True))
    assert config.deliver.destinations[0].ae_title == "PACS"
    scp = Scp(config, Spool(tmp_path, 0), NoHints(), Commitments(config, store).extension, port=0)
    scp.start()
    association = AE(title).associate(
        "127.0.0.1", scp.port, contexts=[build_context(STORAGE_COMMITMENT)], ae_title="ICHNODE",
        ext_neg=[build_role(STORAGE_COMMITMENT, scp_role=True)], bind_address=(address, 0),
    )  # fmt: skip
    information = event_information("2.25.1", ((SECONDARY_CAPTURE, HELD),), {})
    status, _ = association.send_n_event_report(information, 1, STORAGE_COMMITMENT, WELL_KNOWN)
    association.release()
    scp.stop(2)
    assert status.Status == answer
