"""A worker that was taken over writes what it likes; what goes out is about the patient whose images came."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from datasets import encoded
from ledger_builder import (
    BASIC_TEXT_SR,
    COMPREHENSIVE_3D_SR,
    CT_IMAGE,
    SECONDARY_CAPTURE,
    configuration,
    destination,
    publish_job,
)
from pydicom import Dataset, dcmread

from ich_node.deliver.answer import Answer, Verdict
from ich_node.deliver.customs import Customs, Inspected
from ich_node.deliver.role import parts_of
from ich_node.domain.dicom import AETitle, Peer
from ich_node.domain.errors import PeerRefused
from ich_node.domain.ledger import Delivery, Owed, ResultMessage
from ich_node.store.layout import StateDir
from ich_node.store.ledger.jobs import JobStore
from ich_node.store.spool import Spool

STUDY, SERIES, PATIENT = "1.2.3", "1.2.3.4", "TEST-1"


@pytest.fixture
def store(tmp_path):
    made = JobStore.open(tmp_path)
    yield made
    made.close()


@pytest.fixture
def customs(tmp_path, store):
    return Customs(StateDir(tmp_path), store)


def receive(root: Path, study: str = STUDY, patient: str = PATIENT) -> Path:
    """The image of which the results are."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID, ds.PatientID = CT_IMAGE, f"{SERIES}.1", patient
    ds.StudyInstanceUID, ds.SeriesInstanceUID = study, SERIES
    return Spool(root, 1).put(
        series_uid=SERIES,
        sop_instance_uid=f"{SERIES}.1",
        sop_class_uid=CT_IMAGE,
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        parts=[encoded(ds)],
        sender=Peer(AETitle("CT1"), "10.0.0.1"),
    )


@pytest.fixture
def published(tmp_path, store) -> dict[str, Delivery]:
    """By name: a picture, a report with alternates, another report, and a message."""
    receive(tmp_path)
    folder = tmp_path / "results" / "1"

    def owe(files):
        said = {"study_instance_uid": STUDY, "objects": [{"sop_instance_uid": files[0].sop_instance_uid}]}
        (folder / "result.json").write_text(json.dumps(said))
        return [
            *(Owed(file, "pacs") for file in files),
            Owed(ResultMessage("result.json", folder / "result.json"), "ris"),
        ]

    publish_job(store, tmp_path, ["pacs"], classes=(SECONDARY_CAPTURE, COMPREHENSIVE_3D_SR, BASIC_TEXT_SR), owe=owe)
    picture, report, text = store.due("pacs")
    (message,) = store.due("ris")
    return {"picture": picture, "report": report, "text": text, "message": message}


@pytest.mark.parametrize("name", ["picture", "report", "text", "message"])
@pytest.mark.parametrize("images", ["there", "gone"])
def test_what_an_honest_worker_wrote_goes_out_byte_for_byte(tmp_path, customs, published, name, images):
    if images == "gone":
        (tmp_path / "incoming" / SERIES / f"{SERIES}.1.dcm").unlink()
    item = published[name]
    with customs.cleared(item) as copy:
        assert copy.path.name == item.path.name and copy.path != item.path
        assert copy.path.read_bytes() == item.path.read_bytes()
        beside = {path.name for path in copy.path.parent.iterdir()}
    expected = {
        "picture": {f"{item.item}.dcm"},
        "report": {f"{item.item}{suffix}.dcm" for suffix in ("", ".comprehensive", ".enhanced")},
        "text": {f"{item.item}.dcm"},
        "message": {"result.json", f"{published['picture'].item}.dcm"},
    }
    assert beside == expected[name]
    assert not copy.path.exists()


def changed(path: Path, **values: str) -> None:
    ds = dcmread(path)
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    ds.save_as(path)


def meta_of_another(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data.replace(b"2.25.1000", b"2.25.1009", 1))  # the first one


def linked(path: Path) -> None:
    other = path.with_name("key.pem")
    other.write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(other)


def piped(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def doubled(path: Path) -> None:
    """Two readings: one for us, one for whoever gets it."""
    data = path.read_bytes()
    path.write_bytes(data + encoded(_of(PatientID="VICTIM")))


def _of(**values: str) -> Dataset:
    ds = Dataset()
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return ds


FORGERIES: dict[str, Callable[[Path], None]] = {
    "another patient": lambda path: changed(path, PatientID="VICTIM"),
    "another study": lambda path: changed(path, StudyInstanceUID="1.2.4"),
    "an image": lambda path: changed(path, SOPClassUID=CT_IMAGE),
    "another kind than is owed": lambda path: changed(path, SOPClassUID=BASIC_TEXT_SR),
    "another object": lambda path: changed(path, SOPInstanceUID="9.9.9"),
    "a part of the series": lambda path: changed(path, SeriesInstanceUID=SERIES),
    "meta information of another object": meta_of_another,
    "two patients": doubled,
    "a link": linked,
    "a pipe": piped,
    "a folder": lambda path: (path.unlink(), path.mkdir()),  # type: ignore[dict-item,return-value]
    "nothing": lambda path: path.write_bytes(b""),  # type: ignore[dict-item,return-value]
    "noise": lambda path: path.write_bytes(b"x" * 5000),  # type: ignore[dict-item,return-value]
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_what_is_not_a_result_of_the_job_does_not_go_out(customs, published, forgery):
    FORGERIES[forgery](published["picture"].path)
    with pytest.raises(PeerRefused), customs.cleared(published["picture"]):
        pytest.fail("it was let through")


@pytest.mark.parametrize("path", ["../../etc/shadow", "2/2.25.1000.dcm", "1/../../incoming/1.2.3.4/1.2.3.4.1.dcm"])
def test_a_row_that_points_elsewhere_sends_nothing(tmp_path, customs, published, path):
    with pytest.raises(PeerRefused, match="lies where"):
        customs.place(replace(published["picture"], path=tmp_path / "results" / path))


def test_a_folder_that_is_a_link_sends_nothing(tmp_path, customs, published):
    (tmp_path / "results" / "1").rename(tmp_path / "elsewhere")
    (tmp_path / "results" / "1").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PeerRefused, match="lies where"):
        customs.place(published["picture"])


@pytest.mark.parametrize("suffix", [".comprehensive", ".enhanced", ".more"])
def test_an_alternate_is_looked_at_as_well(customs, published, suffix):
    report = published["report"].path
    beside = report.with_suffix(f"{suffix}.dcm")
    beside.write_bytes(report.read_bytes())
    changed(beside, PatientID="VICTIM")
    with pytest.raises(PeerRefused), customs.cleared(published["report"]):
        pytest.fail("it was let through")


@pytest.mark.parametrize(
    "said",
    [
        {"study_instance_uid": "1.2.4", "objects": [{"sop_instance_uid": "2.25.1000"}]},
        {"study_instance_uid": STUDY, "objects": [{"sop_instance_uid": "../../etc/shadow"}]},
        {"study_instance_uid": STUDY, "objects": []},
        [],
        7,
    ],
)
def test_a_message_about_something_else_does_not_go_out(customs, published, said):
    published["message"].path.write_text(json.dumps(said))
    with pytest.raises(PeerRefused), customs.cleared(published["message"]):
        pytest.fail("it was let through")


def test_a_message_with_the_header_of_another_patient_does_not_go_out(customs, published):
    changed(published["picture"].path, PatientID="VICTIM")
    with pytest.raises(PeerRefused), customs.cleared(published["message"]):
        pytest.fail("it was let through")


def test_what_was_looked_at_is_what_goes_out(customs, published):
    """The worker changes its file between the look and the sending."""
    item, went = published["picture"], []

    class Line:
        alive, last_progress = True, 0.0

        def send(self, path):
            changed(item.path, PatientID="VICTIM")
            went.append(str(dcmread(path).PatientID))
            return Answer(Verdict.SENT, "0x0000", "stored")

    class Somewhere:
        node = None

        def load(self, delivery):
            return delivery.path

        def connect(self, loads):
            assert loads == [item.path]
            return Line()

    peer = Inspected(Somewhere(), customs)
    load = peer.load(item)
    line = peer.connect([load])
    assert line.send(load).verdict is Verdict.SENT
    assert went == [PATIENT]
    assert line.send(load).verdict is Verdict.REFUSED, "and the next time it is not what it was"


def test_every_kind_of_destination_is_looked_at(tmp_path, store):
    more = {
        "hl7": [{"name": "ris", "host": "127.0.0.1", "port": 1}],
        "webhooks": [{"name": "hook", "url": "https://127.0.0.1/x", "secrets": [str(tmp_path / "s")]}],
        "dicomweb": [{"name": "web", "url": "https://127.0.0.1/x"}],
    }
    parts = parts_of(configuration(tmp_path, destination("pacs", 1), **more), store)
    assert [type(part._peer) for part in parts] == [Inspected] * 4
