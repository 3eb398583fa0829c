"""The deliver role against a real Orthanc."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
from conftest import require
from ledger_builder import (
    BASIC_TEXT_SR,
    COMPREHENSIVE_3D_SR,
    SECONDARY_CAPTURE,
    configuration,
    delivering,
    destination,
    publish_job,
    write_instance,
)

from ich_node.deliver.dicom import scu
from ich_node.deliver.sender import Sender
from ich_node.deliver.web.stow import StowPeer
from ich_node.domain.ledger import DeliveryState, JobState
from ich_node.receive.catalogue import Catalogue
from ich_node.receive.commitment import Commitments
from ich_node.receive.reporting import Reporter
from ich_node.receive.scp import Scp
from ich_node.runtime.wake import Bell
from ich_node.store.ledger.jobs import JobStore
from ich_node.store.routes import route
from ich_node.store.spool import Spool

pytestmark = pytest.mark.interop
CLASSES = [SECONDARY_CAPTURE] * 6 + [COMPREHENSIVE_3D_SR, BASIC_TEXT_SR]


@pytest.fixture
def store(tmp_path: Path):
    store = JobStore.open(tmp_path / "node")
    yield store
    store.close()


def at(orthanc, **more):
    return destination("pacs", orthanc.port, ae_title="ORTHANC", **more)


def publish_jobs(store, folder, count):
    return [publish_job(store, folder, ["pacs"], series_uid=f"1.2.{n}", classes=CLASSES) for n in range(1, count + 1)]


def held(orthanc) -> set[str]:
    return {found["MainDicomTags"]["SOPInstanceUID"] for found in orthanc.find()}


def test_results_are_stored_once_although_they_are_sent_twice(tmp_path, store, orthanc, wait_for):
    config = configuration(tmp_path / "node", at(orthanc))
    job, files = publish_job(store, tmp_path / "node", ["pacs"], classes=CLASSES)
    with delivering(config):
        wait_for(lambda: store.job(job.id).state is JobState.DONE)
        with store._write() as db:  # as if the process had died before it wrote the answers down
            db.exec_driver_sql("UPDATE delivery SET state='pending'")
            db.exec_driver_sql("UPDATE job SET state='delivering'")
        wait_for(lambda: store.job(job.id).state is JobState.DONE)
    assert held(orthanc) == {file.sop_instance_uid for file in files}
    assert orthanc.get("/statistics")["CountInstances"] == len(CLASSES)


def test_a_pacs_that_is_killed_in_the_middle_and_comes_back_has_everything_once(tmp_path, store, orthanc, wait_for):
    config = configuration(tmp_path / "node", at(orthanc), retry_max_s=0.5)
    jobs = [
        publish_job(store, tmp_path / "node", ["pacs"], series_uid=f"1.2.{n}", classes=CLASSES) for n in range(1, 9)
    ]
    with delivering(config):
        wait_for(lambda: orthanc.get("/statistics")["CountInstances"] > 8)
        orthanc.kill()
        time.sleep(1)
        orthanc.start()
        wait_for(lambda: all(store.job(job.id).state is JobState.DONE for job, _ in jobs))
    assert held(orthanc) == {file.sop_instance_uid for _, files in jobs for file in files}


def test_a_pacs_that_freezes_is_given_up_on_in_time_and_tried_again(tmp_path, store, orthanc, wait_for):
    config = configuration(tmp_path / "node", at(orthanc), dimse_timeout_s=1.5)
    jobs = [
        publish_job(store, tmp_path / "node", ["pacs"], series_uid=f"1.2.{n}", classes=CLASSES) for n in range(1, 5)
    ]
    with delivering(config):
        wait_for(lambda: orthanc.get("/statistics")["CountInstances"] > 3)
        orthanc.signal(signal.SIGSTOP)
        wait_for(lambda: any(d.attempts and d.code is None for j, _ in jobs for d in store.deliveries(j.id)))
        orthanc.signal(signal.SIGCONT)
        wait_for(lambda: all(store.job(job.id).state is JobState.DONE for job, _ in jobs))
    assert held(orthanc) == {file.sop_instance_uid for _, files in jobs for file in files}


def test_two_pacs_of_which_one_is_down_hold_the_same_in_the_end(tmp_path, store, make_orthanc, wait_for):
    up, down = make_orthanc("up"), make_orthanc("down")
    down.stop()
    config = configuration(
        tmp_path / "node",
        destination("up", up.port, ae_title="ORTHANC"),
        destination("down", down.port, ae_title="ORTHANC"),
        retry_max_s=0.5,
    )
    job, files = publish_job(store, tmp_path / "node", ["up", "down"], classes=CLASSES)
    with delivering(config):
        wait_for(lambda: up.get("/statistics")["CountInstances"] == len(CLASSES))
        assert {d.state for d in store.deliveries(job.id) if d.destination == "down"} == {DeliveryState.PENDING}
        down.start()
        wait_for(lambda: store.job(job.id).state is JobState.DONE)
    assert held(up) == held(down) == {file.sop_instance_uid for file in files}


def test_orthanc_answers_our_echo(tmp_path, orthanc):
    config = configuration(tmp_path, at(orthanc))
    assert scu.echo("ICHNODE", config.deliver.destinations[0], config.deliver).ok


# --- Storage Commitment --------------------------------------------------------------------------------------------


class NoHints:
    """Nobody is assembled here."""

    def __getattr__(self, _name):
        return lambda *_arguments, **_named: None


@pytest.fixture
def scp(tmp_path, store):
    """scp(config, port): our SCP with Storage Commitment."""
    stop = threading.Event()
    running = []

    def start(config, port):
        spool = Spool(tmp_path / "node", 0)
        commitments = Commitments(config, store)
        server = Scp(config, spool, NoHints(), commitments.extension, port=port)
        thread = threading.Thread(
            target=Reporter(config, spool, commitments, Catalogue(spool, store)).run, args=(stop,)
        )
        server.start()
        thread.start()
        running.append((server, thread))

    yield start
    stop.set()
    for server, thread in running:
        server.stop(2)
        thread.join(60)


def test_orthanc_commits_to_our_results(tmp_path, store, orthanc, scp, wait_for):
    config = configuration(tmp_path / "node", at(orthanc, commitment=True))
    scp(config, orthanc.node_port)
    job, _ = publish_job(store, tmp_path / "node", ["pacs"], classes=CLASSES)
    with delivering(config):
        wait_for(lambda: {d.state for d in store.deliveries(job.id)} == {DeliveryState.COMMITTED})


def test_what_orthanc_has_deleted_is_found_out_and_sent_again(tmp_path, store, orthanc, scp, wait_for):
    plain = configuration(tmp_path / "node", at(orthanc))
    job, files = publish_job(store, tmp_path / "node", ["pacs"], classes=CLASSES)
    with delivering(plain):
        wait_for(lambda: store.job(job.id).state is JobState.DONE)
    victim = orthanc.find(SOPInstanceUID=files[2].sop_instance_uid)[0]["ID"]
    orthanc.delete(f"/instances/{victim}")
    config = configuration(tmp_path / "node", at(orthanc, commitment=True))
    scp(config, orthanc.node_port)
    with delivering(config):
        wait_for(lambda: {d.state for d in store.deliveries(job.id)} == {DeliveryState.COMMITTED})
    assert held(orthanc) == {file.sop_instance_uid for file in files}
    assert store.deliveries(job.id)[2].attempts == 3  # sent, lost, sent


def test_orthanc_learns_which_of_its_instances_we_hold(tmp_path, orthanc, scp, wait_for):
    config = configuration(tmp_path / "node", at(orthanc))
    scp(config, orthanc.node_port)
    uids = ["1.2.3.1", "1.2.3.2"]
    require("storescu")
    sent = write_instance(tmp_path / "sent.dcm", SECONDARY_CAPTURE, uids[0])  # by the one that asks
    command = ["storescu", "-aet", orthanc.ae_title, "-aec", "ICHNODE", "127.0.0.1", str(orthanc.node_port), str(sent)]
    subprocess.run(command, check=True, timeout=30)
    question = {"DicomInstances": [[SECONDARY_CAPTURE, uid] for uid in uids]}
    asked = orthanc.post("/modalities/node/storage-commitment", question)
    report = f"/storage-commitment/{asked['ID']}"
    wait_for(lambda: orthanc.get(report)["Status"] != "Pending")
    answer = orthanc.get(report)
    assert answer["Status"] == "Failure"
    assert [item["SOPInstanceUID"] for item in answer["Success"]] == [uids[0]]
    assert [(item["SOPInstanceUID"], item["FailureReason"]) for item in answer["Failures"]] == [(uids[1], 0x0112)]


def test_results_arrive_by_stow_rs(make_orthanc, tmp_path):
    """Orthanc's DICOMweb plugin takes them; the same once more changes nothing."""
    plugin = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
    if not plugin.exists():
        pytest.skip("needs orthanc-dicomweb")
    orthanc = make_orthanc(Plugins=[str(plugin)])
    target = {"name": "web", "url": f"{orthanc.url}/dicom-web"}
    config = configuration(tmp_path, dicomweb=[target], dimse_timeout_s=20, linger_s=0)
    store = JobStore.open(tmp_path)

    def owe(files):
        return route(files, config.deliver, priority="STAT", sender=None)

    job, files = publish_job(store, tmp_path, [], owe=owe, priority="STAT")
    sender = Sender("web", config.deliver, store, StowPeer(config, config.deliver.dicomweb[0]), Bell(tmp_path / "b"))
    sender.step()
    store.resend(job.id)
    sender.step()
    sender.step()  # nothing is left to do: it hangs up
    assert held(orthanc) == {file.sop_instance_uid for file in files}
    assert store.job(job.id).state is JobState.DONE
    store.close()
