"""When a series is whole, and which series of a study is answered: from files to jobs, with a clock of our own."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from ich_node.domain.dicom import input_digest
from ich_node.domain.errors import StoreError
from ich_node.domain.ledger import JobState, Owed, ResultInstance
from ich_node.receive import arrivals as arrivals_module
from ich_node.receive import owners as owners_module
from ich_node.receive import reading as reading_module
from ich_node.receive import sweep as sweep_module
from tests.unit.receive.reception_node import STRANGER, Node, bone, head, localizer


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


def test_a_job_that_a_fail_over_has_forgotten_is_made_again(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node.send(head())
    assert node.after(35) == ["queued"]
    with monkeypatch.context() as broken:

        def away(*_: object, **__: object) -> None:
            raise StoreError("server closed the connection")

        broken.setattr(node.jobs, "enqueue", away)
        node.send(head("1.6.1", "1.6"), association=2)
        with pytest.raises(StoreError):
            node.after(2)
    with node.jobs._write() as db:  # a standby took over that had not heard of it
        db.exec_driver_sql("DELETE FROM job")
    assert node.after(60) == ["queued", "queued"]
    assert {job.series_uid for job in node.rows()} == {"1.5.1", "1.6.1"}


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
