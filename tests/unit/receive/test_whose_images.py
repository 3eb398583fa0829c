"""Whose images a series holds: what does not belong costs itself a place, never the series."""

from __future__ import annotations

import pytest
from pydicom import Dataset

from ich_node.dicom.part10 import read_header
from ich_node.domain.dicom import AETitle, Peer
from ich_node.domain.ledger import JobState, hashed
from ich_node.receive import assembler as assembler_module
from ich_node.store import copies
from tests.unit.receive.reception_node import CT1, PACS, STRANGER, Node, blank, bone, head


@pytest.mark.parametrize(
    "stray",
    [
        blank("9.1", PatientID="OTHER", StudyInstanceUID="1.999"),
        blank("9.1", PatientID="OTHER"),
        blank("9.1", Manufacturer="ich_node"),
        blank("9.1", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
        blank("9.1"),
    ],
    ids=["another patient and study", "another patient", "own result", "localizer", "empty"],
)
@pytest.mark.parametrize("first", [True, False])
def test_an_image_that_does_not_belong_costs_itself_a_place_never_the_series(
    node: Node, stray: Dataset, first: bool
) -> None:
    if first:
        node.send([stray], association=9, sender=STRANGER)
    node.send(head())
    if not first:
        node.send([stray], association=9, sender=STRANGER)
    node.after(30)
    analysed = [job for job in node.rows() if job.state is JobState.QUEUED]
    assert [(len(job.sop_instance_uids), job.told, job.calling_ae_title) for job in analysed] == [(32, None, "CT1")]
    assert len(node.rows()) == 2, "the stray is recorded by itself"


def test_other_pixels_under_the_same_uids_do_not_take_the_place_of_the_real_ones(node: Node) -> None:
    false = head()
    for ds in false:
        ds.PixelData = bytes(len(ds.PixelData))
    node.send(false, association=9, sender=STRANGER)
    node.after(2)
    node.send(head())
    node.after(15)
    assert [(str(job.state), job.calling_ae_title) for job in node.rows()] == [("queued", "RED"), ("queued", "CT1")]
    assert node.rows()[0].input_digest != node.rows()[1].input_digest


def test_a_harmless_series_of_another_patient_or_sender_does_not_silence_that_of_the_study(node: Node) -> None:
    node.send(head("1.66.1", PatientID="OTHER"), association=8, sender=STRANGER)
    node.send(head("1.66.2"), association=9, sender=STRANGER)
    node.after(2)
    node.send(head("1.5.1"))
    node.after(15)
    assert [job.series_uid for job in node.rows() if job.state is JobState.QUEUED] == ["1.66.1", "1.66.2", "1.5.1"]


def test_slices_that_two_senders_share_are_one_head(node: Node) -> None:
    node.store(head()[:20], association=1, sender=CT1)
    node.store(head(), association=2, sender=PACS)
    node.release(1)
    node.release(2)
    node.after(2)
    assert [len(job.sop_instance_uids) for job in node.rows()] == [32]


def test_a_whole_set_that_comes_again_under_a_corrected_name_is_answered_again(node: Node) -> None:
    node.with_worker = True
    node.send(head(PatientID="UNKNOWN1"))
    node.after(12)
    node.send(head(PatientID="4711", PatientName="Meier^Anna"), association=2)
    node.after(15)
    assert len(node.answers) == 2
    assert len({job.patient_hash for _, job in node.answers}) == 2
    assert len({job.input_digest for _, job in node.answers}) == 2


def test_half_a_set_that_comes_again_whole_under_a_corrected_name_is_answered_under_that_name(node: Node) -> None:
    node.with_worker = True
    node.send(head(PatientID="UNKNOWN1")[:16])
    node.send(head(PatientID="4711"), association=2)
    node.after(30)
    assert [(job.told, len(job.sop_instance_uids)) for _, job in node.answers] == [(None, 32)]


def test_the_same_pictures_under_another_description_are_no_news(node: Node) -> None:
    node.send(head())
    node.after(12)
    node.send(head(AccessionNumber="A2", SeriesDescription="HEAD AXIAL"), association=2)
    assert node.after(15) == ["queued", "ineligible"]


@pytest.mark.parametrize(
    "changes", [{"AccessionNumber": "A2"}, {"PatientID": "4711", "PatientName": "Meier^Anna"}], ids=["order", "patient"]
)
def test_results_anew_are_those_of_the_newest_copies_of_the_same_sender(node: Node, changes: dict[str, str]) -> None:
    node.with_worker = True
    node.send(head(AccessionNumber="A1"))
    node.after(12)
    node.now += 1  # the clock of the ledger; files have their own
    node.send(head(**{"AccessionNumber": "A1", **changes})[:20], association=2)
    node.send(head(PatientID="FALSE"), association=3, sender=STRANGER)
    node.after(30)
    again = copies.redo(node.jobs, node.spool, 1)
    assert sorted(name.endswith("~2") for name in again.sop_instance_uids) == [False] * 12 + [True] * 20
    for path in node.spool.paths("1.5.1", again.sop_instance_uids):
        header = read_header(path, ("PatientID", "AccessionNumber"))
        expected = {"PatientID": head()[0].PatientID, "AccessionNumber": "A1", **changes}
        fresh = path.stem.endswith("~2")
        assert (header.PatientID == expected["PatientID"]) is (fresh or "PatientID" not in changes)
        assert (header.AccessionNumber == expected["AccessionNumber"]) is (fresh or "AccessionNumber" not in changes)
    assert again.accession_hash == hashed(changes.get("AccessionNumber", "A1"))
    assert again.patient_hash == hashed(changes.get("PatientID", str(head()[0].PatientID)))
    assert again.revision == 0
    assert copies.redo(node.jobs, node.spool, 1).revision == 1


def test_results_anew_without_newer_copies_are_of_the_same_images(node: Node) -> None:
    node.with_worker = True
    node.send(head())
    node.after(12)
    again = copies.redo(node.jobs, node.spool, 1)
    assert (again.input_digest, again.revision) == (node.rows()[0].input_digest, 1)


def test_a_single_slice_in_another_name_is_set_aside_and_the_rest_is_analysed_in_its_own(node: Node) -> None:
    images = head()
    images[0].PatientName = "Wrong^Person"
    node.send(images)
    node.after(30)
    assert [len(job.sop_instance_uids) for job in node.rows() if job.told is None] == [31]


@pytest.mark.parametrize("drip", ["empty images", "refused images", "an association that stays open", "other titles"])
def test_who_drips_images_into_the_series_of_another_one_silences_nothing(node: Node, drip: str) -> None:
    node.with_worker = True
    began = node.now
    node.store([blank("9.0")], association=9, sender=STRANGER)
    node.store(head()[:16])
    for number in range(40):
        if drip == "refused images":
            node.refuse(blank(f"9.{number}"), association=9, sender=STRANGER)
        elif drip == "empty images":
            node.send([blank(f"9.{number}")], association=9, sender=STRANGER)
        elif drip == "other titles":
            sender = Peer(AETitle(f"RED{number}"), STRANGER.address)
            node.send([blank(f"9.{number}")], association=100 + number, sender=sender)
        if number == 1:
            node.send(head()[16:])
        node.after(1)
    answered = [
        (at - began, job.told, len(job.sop_instance_uids)) for at, job in node.answers if job.calling_ae_title == "CT1"
    ]
    assert [(told, images) for _, told, images in answered] == [(None, 32)]
    assert answered[0][0] < 30


def test_that_holds_for_an_answer_that_was_held_back_for_a_late_image(node: Node) -> None:
    node.with_worker = True
    node.send(head())
    node.after(0.5)
    for number in range(20):
        node.send([blank(f"9.{number}")], association=9, sender=STRANGER)
        node.after(2)
    assert [(job.told, len(job.sop_instance_uids)) for _, job in node.answers] == [(None, 32)]


def test_who_drips_images_into_the_study_of_another_one_does_not_keep_a_refusal_from_being_told(node: Node) -> None:
    node.with_worker = True
    node.send(bone())
    for number in range(20):
        node.send([blank(f"9.{number}", series="1.5.66")], association=9, sender=STRANGER)
        node.after(2)
    assert [job.series_uid for _, job in node.answers] == ["1.5.2"]


def test_a_series_of_another_sender_that_is_judged_for_long_does_not_hold_up_those_of_its_study(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = iter(range(10**6))
    monkeypatch.setattr(assembler_module, "SLICE_S", 100.0)
    monkeypatch.setattr(assembler_module.time, "monotonic", lambda: float(next(moments)))  # a look at it takes a second
    node.send(head("1.5.66", count=300), association=2, sender=STRANGER)
    node.send(head())
    node.assembler.tick()
    assert [job.series_uid for job in node.rows()] == ["1.5.1"]


def test_two_senders_who_share_a_series_slowly_are_one_answer_in_the_end(node: Node) -> None:
    node.with_worker = True
    for number, sender in enumerate((CT1, PACS, CT1, PACS)):
        node.send(head()[number::4], association=number, sender=sender)
        node.after(6)
    node.after(30)
    assert [(job.told, len(job.sop_instance_uids)) for _, job in node.answers] == [(None, 32)]
