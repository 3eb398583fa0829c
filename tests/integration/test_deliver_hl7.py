"""ORU messages to a real listener: what each acknowledgement makes of the delivery."""

from __future__ import annotations

import json
import threading

import pytest
from fake_pacs import FakePacs
from hl7_listener import Listener
from ledger_builder import BASIC_TEXT_SR, SECONDARY_CAPTURE, configuration, destination, publish_job

from ich_node.deliver import role
from ich_node.domain.ledger import DeliveryState, JobState
from ich_node.runtime import audit
from ich_node.store.ledger.jobs import JobStore
from ich_node.store.routes import route


@pytest.fixture
def store(tmp_path):
    store = JobStore.open(tmp_path)
    yield store
    store.close()


@pytest.fixture
def deliver(tmp_path, store, wait_for):
    """deliver(config, priority=…): publish a result to ris and pacs, deliver until `until(job)`; returns the job."""

    def run(config, until, priority="STAT"):
        def owe(files):
            listed = [{"sop_class_uid": f.sop_class_uid, "sop_instance_uid": f.sop_instance_uid} for f in files]
            result = {"priority": priority, "findings": [], "disclaimer": "Research.", "objects": listed}
            result["study_instance_uid"] = "1.2.3"
            files[0].path.with_name("result.json").write_text(json.dumps(result))
            return route(files, config.deliver, priority=priority, sender=None)

        classes = [SECONDARY_CAPTURE, BASIC_TEXT_SR]
        job, files = publish_job(store, tmp_path, [], classes=classes, priority=priority, owe=owe)
        stop = threading.Event()
        thread = threading.Thread(target=role.run, args=(config, stop))
        thread.start()
        try:
            wait_for(lambda: until(job))
        finally:
            stop.set()
            thread.join(60)
        return job, files

    return run


def listening(tmp_path, listener, *pacs, timeout_s=60, **more):
    ris = {"name": "ris", "host": "127.0.0.1", "port": listener.port, **more}
    return configuration(tmp_path, *pacs, hl7=[ris], dimse_timeout_s=timeout_s)


def message_of(store, job):
    return next(item for item in store.deliveries(job.id) if item.destination == "ris")


def test_a_message_and_the_instances_are_deliveries_alike(tmp_path, store, deliver):
    with Listener() as listener, FakePacs() as pacs:
        config = listening(tmp_path, listener, destination("pacs", pacs.port))
        job, files = deliver(config, lambda job: store.job(job.id).state is JobState.DONE)
    assert len(listener.messages) == 1
    assert pacs.order == [file.sop_instance_uid for file in files]
    assert (message_of(store, job).code, message_of(store, job).cause) == ("AA", "accepted")


@pytest.mark.parametrize("fault", ["AE", "CE", "silent", "drop", "other", "rubbish"])
def test_what_may_pass_is_sent_again_with_the_same_bytes(tmp_path, store, deliver, fault):
    with Listener([fault, fault]) as listener:
        config = listening(tmp_path, listener, timeout_s=3 if fault == "silent" else 60)
        deliver(config, lambda job: store.job(job.id).state is JobState.DONE)
    assert len(listener.messages) == 3
    assert len(set(listener.messages)) == 1


@pytest.mark.parametrize("code", ["AR", "CR"])
def test_a_reject_is_final_and_its_words_are_shown(tmp_path, store, deliver, code):
    error = "ERR||PID^1^3|204^Unknown key identifier^HL70357|E||||no such patient"
    with Listener([code], said="unknown patient", error=error) as listener:
        job, _ = deliver(listening(tmp_path, listener), lambda job: store.job(job.id).state is JobState.FAILED)
    sent = message_of(store, job)
    assert (sent.state, sent.code, len(listener.messages)) == (DeliveryState.FAILED, code, 1)
    assert "unknown patient" in sent.cause
    assert "204^Unknown key identifier" in sent.cause
    assert "no such patient" in sent.cause


@pytest.mark.parametrize(("code", "success"), [("AA", True), ("AR", False)])
def test_a_message_is_in_the_audit_trail(tmp_path, store, deliver, monkeypatch, code, success):
    said = []

    class Listening(audit.Trail):
        def exported(self, to, results, *, success):
            said.append((to.ae_title, results.name, success))

    monkeypatch.setattr(audit, "_current", Listening())
    ends = {JobState.DONE, JobState.FAILED}
    with Listener([code]) as listener:
        job, _ = deliver(listening(tmp_path, listener), lambda job: store.job(job.id).state in ends)
    assert said == [("ris", str(job.id), success)]


def test_only_the_priorities_that_a_route_names_are_sent(tmp_path, store, deliver):
    with Listener() as listener, FakePacs() as pacs:
        config = listening(tmp_path, listener, destination("pacs", pacs.port), priorities=["STAT"])
        deliver(config, lambda job: store.job(job.id).state is JobState.DONE, priority="ROUTINE")
    assert (len(pacs.order), listener.messages) == (2, [])
