"""From files to jobs, with a clock of our own and real files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from structlog.testing import capture_logs

from ich_node.domain.errors import StoreError
from ich_node.domain.ledger import Job, JobState, Owed, ResultInstance
from ich_node.phantom.series import build_series
from ich_node.receive import assembler as assembler_module
from ich_node.receive.assembler import Assembler
from ich_node.runtime.config import ReceiveConfig
from ich_node.store.ledger.jobs import JobStore
from ich_node.store.spool import Spool

EXPLICIT = "1.2.840.10008.1.2.1"


class Node:
    """A spool, a job store, an assembler and a clock."""

    def __init__(self, root: Path, **changes: Any) -> None:
        self.now = 1000.0
        self.root = root
        self.spool = Spool(root, 1)
        self.jobs = JobStore.open(root)
        self.config = ReceiveConfig(**changes)
        self.restart()

    def restart(self) -> None:
        self.assembler = Assembler(self.config, self.spool, self.jobs, clock=lambda: self.now)
        self.assembler.tick()

    def store(self, datasets: list[Dataset], association: int = 1) -> None:
        for ds in datasets:
            buffer = DicomBytesIO()
            buffer.is_little_endian, buffer.is_implicit_VR = True, False
            write_dataset(buffer, ds)
            self.spool.put(
                series_uid=ds.SeriesInstanceUID,
                sop_instance_uid=ds.SOPInstanceUID,
                sop_class_uid=ds.SOPClassUID,
                transfer_syntax_uid=EXPLICIT,
                parts=[buffer.getvalue()],
            )
            self.assembler.stored(association, ds.StudyInstanceUID, ds.SeriesInstanceUID)

    def release(self, association: int = 1) -> None:
        self.assembler.ended(association, released=True)

    def send(self, datasets: list[Dataset], association: int = 1) -> None:
        self.store(datasets, association)
        self.release(association)

    def after(self, seconds: float) -> list[str]:
        """Let time pass in steps, as the role does; the states of all jobs then, oldest first."""
        end = self.now + seconds
        while self.now < end:
            self.assembler.tick()
            self.now = min(end, self.now + 0.25)
        self.assembler.tick()
        return [str(job.state) for job in self.rows()]

    def rows(self) -> list[Job]:
        return sorted(self.jobs.jobs(), key=lambda job: job.id)


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


def test_a_released_whole_head_is_queued_after_the_grace(node: Node) -> None:
    node.send(head())
    assert node.after(0.75) == []
    assert node.after(0.5) == ["queued"]
    assert node.rows()[0].series_uid == "1.5.1"


def test_an_open_association_waits_for_silence(node: Node) -> None:
    node.store(head())
    assert node.after(9.5) == []
    assert node.after(0.75) == ["queued"]


def test_an_aborted_association_waits_for_silence(node: Node) -> None:
    node.store(head())
    node.assembler.ended(1, released=False)
    assert node.after(9.5) == []
    assert node.after(0.75) == ["queued"]


def test_order_does_not_matter(node: Node) -> None:
    node.send(head()[::-1])
    assert node.after(1.25) == ["queued"]


def test_a_series_over_four_associations_is_one_job(node: Node) -> None:
    images = head()
    for part in range(4):
        node.send(images[part::4], association=part)
        assert node.after(2) == ([] if part < 3 else ["queued"])


def test_while_one_of_two_associations_is_open_the_series_grows(node: Node) -> None:
    node.store(head()[::2], association=1)
    node.store(head()[1::2], association=2)
    node.release(1)
    assert node.after(3) == []
    node.release(2)
    assert node.after(1.25) == ["queued"]


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
    assert node.after(2) == ["ineligible", "queued"]
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


def test_two_patients_under_one_series_uid_get_no_answer_at_all(node: Node) -> None:
    images = head()
    for ds in images[16:]:
        ds.PatientID = "ANOTHER"
    with capture_logs() as logged:
        node.send(images)
        assert node.after(12) == ["ineligible"]
    assert node.rows()[0].refusal == "images of more than one patient or study share this series"
    assert "ANOTHER" not in str(logged)


def test_two_studies_under_one_series_uid_get_no_answer_at_all(node: Node) -> None:
    images = head()
    for ds in images[16:]:
        ds.StudyInstanceUID = "1.777"
    node.send(images)
    assert node.after(12) == ["ineligible"]


def test_an_unreadable_file_does_not_block_its_series_or_the_next(node: Node) -> None:
    node.store(head())
    (node.spool.directory("1.5.1") / "1.5.1.99.dcm").write_bytes(b"damaged on disk")
    node.send(head("1.6.1", "1.6"))
    with capture_logs() as logged:
        assert node.after(12) == ["queued", "queued"]
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
    node.assembler.stored = lambda *_: None  # type: ignore[method-assign]
    node.send(head())
    assert node.after(45) == ["queued"]


def test_settled_series_are_never_read_again(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node.send(head())
    node.after(2)

    def read(*_: object) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr(assembler_module, "read_header", read)
    monkeypatch.setattr("ich_node.store.spool.read_instance", read)
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


def test_more_images_than_any_head_are_set_aside_unread(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembler_module, "MAX_INSTANCES", 20)
    monkeypatch.setattr(assembler_module, "read_header", lambda *_: pytest.fail("read"))
    node.send(head())
    assert node.after(12) == ["ineligible"]


def test_nothing_is_kept_of_settled_studies(node: Node) -> None:
    for number in range(5):
        node.send(head(f"1.{number + 10}.1", f"1.{number + 10}", count=26), association=number)
    node.after(30)
    assert node.assembler.growing == 0
    assert not node.assembler._study_last_s
    assert not node.assembler._brought
    assert not node.assembler._waiting
    assert {job.state for job in node.rows()} == {JobState.QUEUED}
