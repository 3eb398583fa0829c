"""From files to jobs, with a clock of our own and real files."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset
from structlog.testing import capture_logs

from ich_node.dicom.part10 import read_header
from ich_node.domain.dicom import AETitle, Peer, input_digest
from ich_node.domain.errors import StoreError, Superseded, TooEarly
from ich_node.domain.ledger import Job, JobState, Owed, ResultInstance, hashed
from ich_node.phantom.series import build_series
from ich_node.receive import arrivals as arrivals_module
from ich_node.receive import assembler as assembler_module
from ich_node.receive import owners as owners_module
from ich_node.receive import reading as reading_module
from ich_node.receive import sweep as sweep_module
from ich_node.receive.assembler import Assembler
from ich_node.receive.judge import Judge
from ich_node.receive.judging import Judging
from ich_node.runtime import caged
from ich_node.runtime.config import ReceiveConfig
from ich_node.store import copies
from ich_node.store.ledger.jobs import JobStore
from ich_node.store.spool import Spool
from tests.datasets import EXPLICIT, encoded

CT1, PACS = Peer(AETitle("CT1"), "10.0.0.1"), Peer(AETitle("PACS"), "10.0.0.2")
STRANGER = Peer(AETitle("RED"), "10.0.0.66")


class InProcess:
    """What a judging child does, here: the tests of the child itself are in test_judging.py."""

    clock = staticmethod(time.thread_time)

    def __init__(self) -> None:
        self.judge = Judge()
        self.said = caged.READY
        self.cpu_s = 0.0
        self.event = os.eventfd(1)

    def send(self, question: Any, data: bytes, cpu_s: float) -> None:
        started = self.clock()
        answer = self.judge.answer(json.loads(json.dumps(question)))
        self.cpu_s += self.clock() - started
        self.said += json.dumps(answer).encode() + b"\n"

    def some(self) -> bytes:
        said, self.said = self.said, b""
        return said

    def fileno(self) -> int:
        return self.event

    def end(self) -> None:
        os.close(self.event)


def write(spool: Spool, ds: Dataset, sender: Peer | None) -> None:
    """Put an image into a spool."""
    spool.put(
        series_uid=ds.SeriesInstanceUID,
        sop_instance_uid=ds.SOPInstanceUID,
        sop_class_uid=ds.SOPClassUID,
        transfer_syntax_uid=EXPLICIT,
        parts=[encoded(ds)],
        sender=sender,
    )


class Node:
    """A spool, a job store, an assembler and a clock."""

    def __init__(self, root: Path, **changes: Any) -> None:
        self.now = 1000.0
        self.root = root
        self.spool = Spool(root, 1)
        self.jobs = JobStore.open(root, clock=lambda: self.now)
        self.config = ReceiveConfig(**changes)
        self.with_worker = False
        self.claimed: list[Job] = []
        self.answers: list[tuple[float, Job]] = []
        self.restart()

    def restart(self) -> None:
        judging = Judging(self.spool, InProcess)
        self.assembler = Assembler(
            self.config, self.spool, self.jobs, lambda: self.now, lambda: self.now, judging=judging
        )
        self.assembler.tick()

    def store(self, datasets: list[Dataset], association: int = 1, sender: Peer | None = CT1) -> None:
        for ds in datasets:
            write(self.spool, ds, sender)
            self.assembler.arrivals.stored(association, sender, ds.StudyInstanceUID, ds.SeriesInstanceUID)

    def release(self, association: int = 1) -> None:
        self.assembler.arrivals.ended(association, released=True)

    def send(self, datasets: list[Dataset], association: int = 1, sender: Peer | None = CT1) -> None:
        self.store(datasets, association, sender)
        self.release(association)

    def refuse(self, ds: Dataset, association: int = 1, sender: Peer = CT1, series: bool = True) -> None:
        series_uid = str(ds.SeriesInstanceUID) if series else None
        self.assembler.arrivals.refused(association, sender, series_uid, str(ds.SOPInstanceUID), for_space=True)

    def work(self) -> None:
        """What a worker does that needs no time: every job is claimed, and published as soon as it may be.

        Only the last slice shows that a head ends there; the others are held back for the quiet period.
        """
        while job := self.jobs.claim("w"):
            self.claimed.append(job)
            if job.publish_after and f"{job.series_uid}.32" not in job.sop_instance_uids:
                self.jobs.hold(job.id, job.created_at + self.config.quiet_period_s)
        for job in list(self.claimed):
            with suppress(TooEarly):
                try:
                    self.jobs.publish(job, [], priority=None if job.told else "ROUTINE", refusal=job.told)
                    self.answers.append((self.now, job))
                except Superseded:
                    pass
                self.claimed.remove(job)

    def after(self, seconds: float) -> list[str]:
        """Let time pass in steps, as the role does; the states of all jobs then, oldest first."""
        end = self.now + seconds
        while self.now < end:
            self.assembler.tick()
            if self.with_worker:
                self.work()
            self.now = min(end, self.now + 0.25)
        self.assembler.tick()
        return [str(job.state) for job in self.rows()]

    def rows(self) -> list[Job]:
        return sorted(self.jobs.jobs(), key=lambda job: job.id)


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine one tick might not get to the end."""
    monkeypatch.setattr(assembler_module, "SLICE_S", 60.0)


@pytest.fixture
def make_node(tmp_path: Path) -> Callable[..., Node]:
    return lambda **changes: Node(tmp_path, **changes)


@pytest.fixture
def node(make_node: Callable[..., Node]) -> Node:
    return make_node()


def head(series: str = "1.5.1", study: str = "1.5", count: int = 32, **changes: Any) -> list[Dataset]:
    """A whole head CT, small in its planes."""
    volume = SimpleNamespace(hu=np.zeros((count, 48, 48), np.int16), spacing_mm=(5.0, 4.8, 4.8))
    datasets = build_series(volume)  # type: ignore[arg-type]
    for number, ds in enumerate(datasets):
        ds.StudyInstanceUID, ds.SeriesInstanceUID = study, series
        ds.SOPInstanceUID = f"{series}.{number + 1}"
        for keyword, value in changes.items():
            setattr(ds, keyword, value)
    return datasets


def bone(series: str = "1.5.2", **changes: Any) -> list[Dataset]:
    return head(series, ConvolutionKernel="H70h", **changes)


def localizer(series: str = "1.5.9") -> list[Dataset]:
    return head(series, count=1, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])


def test_a_released_whole_head_is_analysed_at_once_and_published_after_the_grace(node: Node) -> None:
    node.send(head())
    assert node.after(0) == ["queued"]
    job = node.rows()[0]
    assert (job.series_uid, job.publish_after) == ("1.5.1", node.now + 1)
    assert node.after(30) == ["queued"]


def test_an_open_association_is_waited_for_until_the_node_ends_it(node: Node) -> None:
    node.store(head())
    assert node.after(119) == []
    assert node.after(2) == ["queued"]


def test_an_open_association_that_has_gone_on_to_another_series_leaves_silence(node: Node) -> None:
    node.store(head())
    node.store(localizer())
    assert node.after(9.5) == []
    assert node.after(0.75) == ["queued"]


def test_an_aborted_association_waits_for_silence(node: Node) -> None:
    node.store(head())
    node.assembler.arrivals.ended(1, released=False)
    assert node.after(9.5) == []
    assert node.after(0.75) == ["queued"]


def test_after_an_abort_of_one_of_two_associations_only_silence_tells(node: Node) -> None:
    node.store(head()[:20], association=1)
    node.store(head()[20:], association=2)
    node.assembler.arrivals.ended(1, released=False)
    node.release(2)
    assert node.after(9.5) == []
    assert node.after(0.75) == ["queued"]


def test_order_does_not_matter(node: Node) -> None:
    node.send(head()[::-1])
    assert node.after(1.25) == ["queued"]


def test_a_series_over_four_associations_is_one_job(node: Node) -> None:
    images = head()
    for part in range(4):
        node.send(images[part::4], association=part)
        assert node.after(4) == []
    assert node.after(7) == ["queued"]


def test_while_one_of_two_associations_is_open_the_series_grows(node: Node) -> None:
    node.store(head()[::2], association=1)
    node.store(head()[1::2], association=2)
    node.release(1)
    assert node.after(3) == []
    node.release(2)
    assert node.after(0) == ["queued"]


def test_two_studies_on_one_association_are_two_jobs(node: Node) -> None:
    both = [ds for pair in zip(head("1.5.1", "1.5"), head("1.6.1", "1.6"), strict=True) for ds in pair]
    node.send(both)
    assert node.after(1.25) == ["queued", "queued"]


def test_duplicates_change_nothing(node: Node) -> None:
    node.send(head())
    node.after(2)
    node.send(head())
    assert node.after(12) == ["queued"]


def test_late_slices_make_a_new_job_that_covers_the_first(node: Node) -> None:
    node.send(head()[:26])
    assert node.after(2) == ["queued"]
    node.send(head()[26:], association=2)
    assert node.after(9) == ["queued"]
    assert node.after(3) == ["ineligible", "queued"]
    assert node.rows()[0].trouble == f"superseded by job {node.rows()[1].id}"


def test_a_second_eligible_series_of_the_study_is_not_analysed(node: Node) -> None:
    node.send(head("1.5.1"))
    node.after(2)
    node.send(head("1.5.2"))
    assert node.after(2) == ["queued", "ineligible"]
    assert node.rows()[1].refusal == "another series of this study is analysed"


def test_every_series_is_analysed_where_that_is_configured(make_node: Callable[..., Node]) -> None:
    node = make_node(one_series_per_study=False)
    node.send(head("1.5.1") + head("1.5.2"))
    assert node.after(2) == ["queued", "queued"]


def test_a_bone_series_beside_a_good_one_says_nothing(node: Node) -> None:
    node.send(bone("1.5.2") + head("1.5.1"))
    assert node.after(30) == ["queued", "ineligible"]
    assert [job.series_uid for job in node.rows()] == ["1.5.1", "1.5.2"]


def test_a_good_series_that_comes_within_the_quiet_period_wins(node: Node) -> None:
    node.send(bone("1.5.2"))
    assert node.after(8) == []
    node.send(head("1.5.1"), association=2)
    assert node.after(30) == ["queued", "ineligible"]


def test_a_bone_series_alone_becomes_a_visible_answer(node: Node) -> None:
    node.send(bone())
    assert node.after(9) == []
    assert node.after(2) == ["queued"]


def test_a_good_series_after_that_answer_is_analysed_all_the_same(node: Node) -> None:
    node.send(bone())
    node.after(12)
    node.send(head("1.5.1"))
    assert node.after(2) == ["queued", "queued"]


@pytest.mark.parametrize("again", [False, True])
def test_a_whole_head_after_an_answered_part_of_one_is_analysed(node: Node, again: bool) -> None:
    node.with_worker = True
    node.send(head("1.5.7", count=14))  # 70 mm
    assert node.after(30) == ["done"]
    assert node.rows()[0].is_analysed
    if again:
        node.restart()
    node.send(head("1.5.8"), association=2)
    assert node.after(30) == ["done", "done"]
    assert all(job.is_analysed for job in node.rows())


def test_that_holds_across_a_restart(node: Node) -> None:
    node.send(bone())
    node.after(12)
    node.restart()
    node.send(head("1.5.1"))
    assert node.after(2) == ["queued", "queued"]


def test_that_holds_after_the_answer_was_delivered(node: Node) -> None:
    node.send(bone())
    node.after(12)
    job = node.jobs.claim("w")
    assert job
    node.jobs.publish(job, [], priority=None, refusal="bone kernel")
    node.send(head("1.5.1"))
    assert node.after(2) == ["done", "queued"]


def test_that_holds_although_the_pacs_refused_a_part_of_it_and_an_operator_retried(node: Node) -> None:
    node.send(bone())
    node.after(12)
    job = node.jobs.claim("w")
    assert job
    file = ResultInstance("1.1", "9.1", node.spool.results / "1" / "9.1.dcm")
    node.jobs.publish(job, [Owed(file, "pacs")], priority=None, refusal="bone kernel")
    for _ in range(2):
        node.jobs.refused(node.jobs.due("pacs")[0], "0xC000", "cannot understand")
        node.jobs.retry(job.id)
    assert node.rows()[0].refusal == "bone kernel"
    node.send(head("1.5.1"))
    assert node.after(2) == ["delivering", "queued"]


def test_two_unfit_series_of_a_study_get_one_answer(node: Node) -> None:
    node.send(bone("1.5.2") + bone("1.5.3"))
    assert sorted(node.after(30)) == ["ineligible", "queued"]


def test_more_slices_of_a_waiting_series_replace_it(node: Node) -> None:
    node.send(bone()[:26])
    node.after(5)
    node.send(bone()[26:], association=2)
    assert node.after(30) == ["queued"]


def test_a_series_of_a_failed_job_does_not_block_its_sibling(node: Node) -> None:
    node.send(head("1.5.1"))
    node.after(2)
    job = node.jobs.claim("w")
    assert job
    node.jobs.fail(job, "broken")
    node.send(head("1.5.2"))
    assert node.after(2) == ["failed", "queued"]


def test_a_localizer_is_recorded_and_left_alone(node: Node) -> None:
    node.send(localizer() + head())
    assert sorted(node.after(12)) == ["ineligible", "queued"]


def test_two_patients_under_one_series_uid_are_both_told_so_and_neither_is_analysed(node: Node) -> None:
    images = head()
    for ds in images[16:]:
        ds.PatientID = "ANOTHER"
    with capture_logs() as logged:
        node.send(images)
        assert node.after(25) == ["queued", "queued"]
    assert {job.told for job in node.rows()} == {"several_owners"}
    assert "ANOTHER" not in str(logged)


def test_two_names_under_one_patient_id_are_both_told_so(node: Node) -> None:
    images = head()
    for ds in images[16:]:
        ds.PatientName = "Meier^Anna"
    node.send(images)
    assert node.after(25) == ["queued", "queued"]


def test_two_studies_under_one_series_uid_are_both_told_so(node: Node) -> None:
    images = head()
    for ds in images[16:]:
        ds.StudyInstanceUID = "1.777"
    node.send(images)
    assert node.after(25) == ["queued", "queued"]
    assert {job.told for job in node.rows()} == {"several_owners"}


def test_an_unreadable_file_does_not_block_its_series_or_the_next(node: Node) -> None:
    node.store(head())
    (node.spool.directory("1.5.1") / "1.5.1.99.dcm").write_bytes(b"damaged on disk")
    node.send(head("1.6.1", "1.6"))
    with capture_logs() as logged:
        assert sorted(node.after(12)) == ["ineligible", "queued", "queued"]
    assert "series_unreadable" in {line["event"] for line in logged}


def test_a_series_of_unreadable_files_blocks_nothing(node: Node) -> None:
    directory = node.spool.directory("1.8.1")
    directory.mkdir()
    (directory / "1.8.1.1.dcm").write_bytes(b"damaged on disk")
    node.restart()
    node.send(head())
    assert node.after(40) == ["queued"]


def test_what_lay_on_disk_at_the_start_is_assembled_by_silence(node: Node) -> None:
    node.store(head())
    node.restart()
    assert node.after(9.5) == []
    assert node.after(1) == ["queued"]


def test_a_lost_hint_is_made_up_for_by_looking_around(node: Node) -> None:
    node.after(1)
    node.assembler.arrivals.stored = lambda *_: None  # type: ignore[method-assign]
    node.send(head())
    assert node.after(45) == ["queued"]


def test_settled_series_are_never_read_again(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node.send(head())
    node.after(2)

    def read(*_: object) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr(reading_module, "check_header", read)
    monkeypatch.setattr(sweep_module, "read_instance", read)
    node.restart()
    assert node.after(120) == ["queued"]


def test_an_urgent_series_goes_first(make_node: Callable[..., Node]) -> None:
    node = make_node(urgent_rule={"StationName": "^ED"})
    node.send(head("1.5.1", "1.5"))
    node.send(head("1.6.1", "1.6", StationName="EDCT1"), association=2)
    assert node.after(2) == ["queued", "queued"]
    job = node.jobs.claim("w")
    assert job
    assert job.series_uid == "1.6.1"


def test_a_database_that_is_locked_for_a_while_costs_only_time(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node.send(head())
    with monkeypatch.context() as broken:

        def locked(*_: object, **__: object) -> None:
            raise StoreError("locked")

        broken.setattr(node.jobs, "enqueue", locked)
        with pytest.raises(StoreError):
            node.after(5)
    assert node.after(1) == ["queued"]


def test_a_locked_database_does_not_lose_a_series_that_waits(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node.send(bone())
    node.after(5)
    with monkeypatch.context() as broken:

        def locked(*_: object, **__: object) -> None:
            raise StoreError("locked")

        broken.setattr(node.jobs, "enqueue", locked)
        with pytest.raises(StoreError):
            node.after(20)
    assert node.after(1) == ["queued"]


def test_more_images_than_any_head_are_set_aside(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owners_module, "MOST_IMAGES", 20)
    node.send(head())
    assert node.after(12) == ["ineligible"]


def test_nothing_is_kept_of_settled_studies(node: Node) -> None:
    for number in range(5):
        node.send(head(f"1.{number + 10}.1", f"1.{number + 10}", count=26), association=number)
    node.after(30)
    assert node.assembler.arrivals.growing == 0
    node.now += 1000
    node.after(0)
    assert not node.assembler.arrivals.series
    assert not node.assembler.arrivals._study_last_s
    assert not node.assembler.arrivals._brought
    assert not node.assembler._answering.waiting
    assert {job.state for job in node.rows()} == {JobState.QUEUED}


# --- one answer, when it is whole ----------------------------------------------------------------------------------


@pytest.fixture
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda _: None)
    monkeypatch.setattr("os.fdatasync", lambda _: None)


@pytest.mark.usefixtures("quick_disk")
@pytest.mark.parametrize("seed", range(18))
def test_any_split_in_any_order_with_pauses_below_the_quiet_period_is_one_answer(
    make_node: Callable[..., Node], seed: int
) -> None:
    """Into associations that follow or overlap each other and end in any way, however the head is numbered."""
    chance = random.Random(seed)
    node, images = make_node(), head()
    node.with_worker = True
    numbering = chance.choice(["upwards", "upwards", "downwards", "none"])
    for number, image in enumerate(images, 1):
        image.InstanceNumber = {"upwards": number, "downwards": 33 - number, "none": None}[numbering]
    images = chance.choice([images, images[::-1], chance.sample(images, 32)])
    first = {chance.choice([chance.randint(1, 31), chance.randint(25, 31)])}
    cuts = sorted(first | {chance.randint(1, 31) for _ in range(chance.choice([0, 0, 1, 2, 5, 31]))})
    open_ones: list[int] = []
    for number, (begin, end) in enumerate(zip([0, *cuts], [*cuts, 32], strict=True)):
        node.store(images[begin:end], association=number)
        open_ones.append(number)
        pause_s = chance.uniform(0, 9.5)
        node.after(pause_s / 2)
        while open_ones and chance.random() < 0.8:
            node.assembler.arrivals.ended(open_ones.pop(0), released=chance.random() < 0.8)
        node.after(pause_s / 2)
    for number in open_ones:
        node.release(number)
    node.after(45)
    whole = input_digest(str(image.SOPInstanceUID) for image in images)
    assert [job.input_digest for _, job in node.answers] == [whole]


@pytest.mark.usefixtures("quick_disk")
def test_one_association_per_image_is_one_answer(node: Node) -> None:
    node.with_worker = True
    for number, image in enumerate(head()):
        node.send([image], association=number)
        node.after(1.5)
    node.after(15)
    assert [len(job.sop_instance_uids) for _, job in node.answers] == [32]


def test_a_late_slice_holds_the_answer_back_until_the_series_is_whole(node: Node) -> None:
    node.with_worker = True
    node.send(head()[:28])
    node.after(0.5)
    node.send(head()[28:], association=2)
    node.after(30)
    assert [len(job.sop_instance_uids) for _, job in node.answers] == [32]


def test_a_late_duplicate_only_delays_the_answer(node: Node) -> None:
    node.with_worker = True
    node.send(head())
    node.after(0.5)
    node.send(head()[:1], association=2)
    node.after(30)
    assert [len(job.sop_instance_uids) for _, job in node.answers] == [32]


@pytest.mark.parametrize("identified", [True, False])
def test_while_images_stand_refused_there_is_no_analysis_and_then_the_reason(node: Node, identified: bool) -> None:
    node.with_worker = True
    node.store(head()[:28])
    for image in head()[28:]:
        node.refuse(image, series=identified)
    node.release()
    assert node.after(9) == []
    node.after(15)
    assert [job.told for _, job in node.answers] == ["refused_for_space"]
    node.send(head(), association=2)
    node.after(15)
    assert [(job.told, len(job.sop_instance_uids)) for _, job in node.answers[1:]] == [(None, 32)]


def test_images_refused_before_the_first_one_was_taken_count_as_well(node: Node) -> None:
    node.with_worker = True
    for image in head()[:4]:
        node.refuse(image)
    node.send(head()[4:])
    node.after(30)
    assert [job.told for _, job in node.answers] == ["refused_for_space"]


def test_what_an_association_was_refused_says_nothing_of_the_next_one_that_bears_its_number(node: Node) -> None:
    node.refuse(head("1.6.1", "1.6")[0], series=False)
    node.release()
    node.send(head())
    node.after(15)
    assert [job.told for job in node.rows()] == [None]


def test_who_is_refused_without_end_is_not_remembered_instead_of_others(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrivals_module, "MOST_REFUSED", 8)
    node.refuse(head()[0])
    for image in head("1.6.1", "1.6"):
        node.refuse(image, association=2, sender=STRANGER, series=False)
    node.send(head()[1:])
    node.after(30)
    assert [job.told for job in node.rows()] == ["refused_for_space"]


def test_a_restart_remembers_what_was_refused(node: Node) -> None:
    node.store(head()[:28])
    node.refuse(head()[30])
    node.after(1)
    node.restart()
    node.after(25)
    assert [job.told for job in node.rows()] == ["refused_for_space"]


def test_what_another_sender_was_refused_does_not_silence_the_series(node: Node) -> None:
    node.store(head())
    node.refuse(head()[3], association=9, sender=STRANGER)
    node.release()
    node.after(15)
    assert [job.told for job in node.rows()] == [None]


# --- whose images --------------------------------------------------------------------------------------------------


def blank(uid: str, series: str = "1.5.1", study: str = "1.5", **changes: Any) -> Dataset:
    """An image of a few hundred bytes without a place in space."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = "1.2.840.10008.5.1.4.1.1.2", uid, "CT"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = study, series
    ds.PatientID, ds.PatientName = head()[0].PatientID, head()[0].PatientName
    for keyword, value in changes.items():
        setattr(ds, keyword, value)
    return ds


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


# --- within its means ----------------------------------------------------------------------------------------------


def test_headers_without_end_cost_one_series_its_answer_and_no_other_one_time(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading_module, "MOST_ITEMS", 50)
    heavy = head("1.8.1", "1.8")
    for ds in heavy:
        ds.ReferencedImageSequence = [Dataset() for _ in range(20)]
    node.send(heavy, association=9, sender=STRANGER)
    node.send(head())
    node.after(12)
    assert {job.series_uid: job.told for job in node.rows()} == {"1.8.1": "headers_too_large", "1.5.1": None}
    node.restart()
    monkeypatch.setattr(reading_module, "read_header", lambda *_: pytest.fail("read again"))
    node.after(40)


def test_headers_without_end_in_the_series_of_another_one_cost_only_themselves(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading_module, "MOST_ITEMS", 50)
    heavy = [blank(f"9.{number}") for number in range(40)]
    for ds in heavy:
        ds.ReferencedImageSequence = [Dataset() for _ in range(20)]
    node.send(heavy, association=9, sender=STRANGER)
    node.send(head())
    node.after(30)
    assert sorted((len(job.sop_instance_uids), job.told) for job in node.rows()) == [
        (32, None),
        (40, "headers_too_large"),
    ]


def test_who_costs_much_reading_waits_for_those_who_cost_little(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds, real = [0.0], reading_module.read_header

    def slow(path: Path, keywords: Sequence[str], *checked: Any) -> Dataset:
        header = real(path, keywords, *checked)
        seconds[0] += 2.5 if header.StudyInstanceUID == "1.8" else 0.001
        return header

    monkeypatch.setattr(assembler_module.time, "monotonic", lambda: seconds[0])
    monkeypatch.setattr(reading_module.Reading.__init__, "__defaults__", (lambda: seconds[0],))  # CPU seconds
    monkeypatch.setattr(InProcess, "clock", lambda _: seconds[0])
    monkeypatch.setattr(reading_module, "read_header", slow)
    for number in range(20):
        node.send([blank(f"9.{number}", f"1.8.{number}", "1.8")], association=100 + number, sender=STRANGER)
    node.send(head())
    monkeypatch.setattr(assembler_module, "SLICE_S", 0.2)
    while not any(job.series_uid == "1.5.1" for job in node.rows()):
        node.now += 0.1
        node.assembler.tick()
    assert seconds[0] < 5 * 2.5


def test_a_series_of_thousands_of_images_does_not_hold_up_another_one(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = iter(range(10**6))
    monkeypatch.setattr(assembler_module, "SLICE_S", 100.0)
    monkeypatch.setattr(assembler_module.time, "monotonic", lambda: float(next(moments)))  # a look at it takes a second
    node.send(head("1.7.1", "1.7", count=300), association=2, sender=STRANGER)
    node.send(head())
    node.assembler.tick()
    assert [job.series_uid for job in node.rows()] == ["1.5.1"]


def test_headers_are_read_while_a_series_comes_in_and_never_twice(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    check = reading_module.check_header
    monkeypatch.setattr(reading_module, "check_header", lambda path: (read.append(path.stem), check(path))[1])
    images = head()
    node.store(images[:20])
    node.after(1)
    assert len(read) == 20
    node.store(images[20:])
    node.after(1)
    assert sorted(read) == sorted(image.SOPInstanceUID for image in images)
    assert not node.rows()
    node.release()
    node.after(30)
    assert len(node.rows()) == 1
    assert len(read) == len(images)


def test_what_is_judged_goes_before_what_is_read_ahead(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []
    answer = Judge.answer

    def tell(judge: Judge, question: dict[str, Any]) -> dict[str, Any]:
        asked.append((Path(question["folder"]).name, question["do"]))
        return answer(judge, question)

    monkeypatch.setattr(Judge, "answer", tell)
    node.store(head("1.6.1", "1.6"), association=2)
    node.send(head())
    node.assembler.tick()
    assert {series for series, _ in asked} == {"1.5.1"}
    node.after(1)
    assert ("1.6.1", "read") in asked
    assert ("1.6.1", "judge") not in asked
