"""Storage Commitment both ways round, over real associations."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from fake_pacs import SECONDARY_CAPTURE, STORAGE_COMMITMENT, FakePacs
from ledger_builder import configuration, destination, publish_job, write_instance
from pydicom import Dataset
from pynetdicom import AE, evt
from pynetdicom.presentation import build_context, build_role

from ich_node.deliver import role as deliver_role
from ich_node.domain.ledger import DeliveryState, JobState
from ich_node.receive.commitment import Commitments, event_information, read_request
from ich_node.receive.scp import Scp
from ich_node.store.ledger.jobs import JobStore
from ich_node.store.ledger.proof import Report
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
        commitments = Commitments(config, spool, store)
        scp = Scp(config, spool, NoHints(), commitments.extension, port=0)
        thread = threading.Thread(target=commitments.run, args=(stop,))
        scp.start()
        thread.start()
        running.append((scp, thread))
        return scp, spool

    yield start
    stop.set()
    for scp, thread in running:
        scp.stop(2)
        thread.join(10)


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
        thread.join(15)


def report_on(association, request, failed=()):
    """Send the N-EVENT-REPORT that a PACS would."""
    asked = read_request(request, "X", "127.0.0.1", 0.0)
    missing = {sop: 0x0112 for _, sop in asked.references if sop in failed}
    report = Report(asked.transaction_uid, frozenset(sop for _, sop in asked.references if sop not in missing), missing)
    information = event_information(asked, report)
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
        wait_for(lambda: {d.state for d in store.deliveries(job.id)} == {DeliveryState.COMMITTED}, 20)
    first, second = [file.sop_instance_uid for file in files]
    assert pacs.order == [first, second, second]
    assert len({str(request.TransactionUID) for request in pacs.commitments}) == 2
    assert store.job(job.id).state is JobState.DONE


def test_without_a_report_in_time_it_is_asked_again_under_another_uid(tmp_path, store, delivering, wait_for):
    with FakePacs(commitment_handler=lambda _event: 0x0000) as pacs:
        publish_job(store, tmp_path, ["pacs"], classes=CLASSES)
        target = destination("pacs", pacs.port, commitment=True)
        delivering(configuration(tmp_path, target, linger_s=0, commitment_timeout_s=1))
        wait_for(lambda: len(pacs.commitments) >= 2, 15)
    assert len({str(request.TransactionUID) for request in pacs.commitments}) == len(pacs.commitments)


def test_a_peer_that_does_not_commit_leaves_the_results_sent(tmp_path, store, delivering, wait_for):
    with FakePacs() as pacs:
        job, _ = publish_job(store, tmp_path, ["pacs"], classes=CLASSES)
        delivering(configuration(tmp_path, destination("pacs", pacs.port, commitment=True)))
        wait_for(lambda: len(pacs.associations) >= 2, 15, "the question")
    assert {d.state for d in store.deliveries(job.id)} == {DeliveryState.SENT}
    assert store.job(job.id).state is JobState.DONE


# --- our senders ask -----------------------------------------------------------------------------------------------


def ask(port, references, *, keep_open=None, ae_title="SCANNER", on_report=None):
    """N-ACTION to the node; returns the status."""
    handlers = [(evt.EVT_N_EVENT_REPORT, on_report)] if on_report else []
    association = AE(ae_title).associate(
        "127.0.0.1", port, contexts=[build_context(STORAGE_COMMITMENT)], ae_title="ICHNODE", evt_handlers=handlers
    )
    assert association.is_established
    request = Dataset()
    request.TransactionUID = "2.25.99"
    request.ReferencedSOPSequence = []
    for sop_class, sop in references:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, sop
        request.ReferencedSOPSequence.append(item)
    status, _ = association.send_n_action(request, 1, STORAGE_COMMITMENT, WELL_KNOWN)
    if keep_open is not None:
        assert keep_open.wait(10), "no report"
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


def fill(tmp_path):
    write_instance(tmp_path / "incoming" / "1.2.9" / f"{HELD}.dcm", SECONDARY_CAPTURE, HELD)
    write_instance(tmp_path / "set_aside" / "1.2.9" / f"{ASIDE}.dcm", SECONDARY_CAPTURE, ASIDE)


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
    assert reports.got.wait(10)
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
    dies = Commitments(config, spool, store)  # its thread never runs
    scp = Scp(config, spool, NoHints(), dies.extension, port=0)
    scp.start()
    assert ask(scp.port, [(SECONDARY_CAPTURE, HELD)]) == 0x0000
    scp.stop(2)
    Commitments(config, spool, store).step()
    assert reports.got.wait(10)
    server.shutdown()
    assert reports.committed == [HELD]
    assert not list((tmp_path / "commitments").iterdir()), "a report is sent once"


def test_a_request_without_references_is_refused(tmp_path, node):
    scp, _ = node(configuration(tmp_path))
    assert ask(scp.port, []) == 0x0115
