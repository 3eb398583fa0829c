"""The worker's decisions: what is published, tried again, given up, and that none of it is silent."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from pydicom import dcmread

from ich_node.domain.dicom import Instance, Series
from ich_node.domain.errors import EngineFailure, SpoolFull, StoreError, UnusableSeries
from ich_node.domain.ledger import JobState, Sent
from ich_node.domain.reasons import Reason, Why
from ich_node.infer import identity_alone, worker
from ich_node.phantom import series
from ich_node.runtime import config
from ich_node.store.ledger.jobs import LEASE_S, JobStore
from ich_node.store.spool import Spool
from tests.analysis_builder import make_analysis
from tests.ledger_builder import Clock

STUDY, SERIES = "1.2", "1.2.3"


class FakeEngine:
    """Takes the place of ONNX Runtime; the pipeline is replaced as well."""

    name = "CPUExecutionProvider"
    recoverable = True


class FakeModel:
    card = make_analysis("negative", slices=12).card


class FullDisk:
    """A spool that has room to read, and none to write results while `full`."""

    def __init__(self, spool):
        self._spool, self.full = spool, True

    def __getattr__(self, name):
        return getattr(self._spool, name)

    def draft_results(self, *what):
        if self.full:
            raise SpoolFull("No space left on device")
        return self._spool.draft_results(*what)


class FullDatabase:
    """A ledger that can be read and claimed from, but not published to while `full`."""

    def __init__(self, jobs):
        self._jobs, self.full = jobs, True

    def __getattr__(self, name):
        return getattr(self._jobs, name)

    def publish(self, *what, **named):
        if self.full:
            raise StoreError("database: database or disk is full")
        return self._jobs.publish(*what, **named)


class OneHand(worker.Worker):
    """A worker that does one job after the other."""

    def work_once(self):
        job = self.claim()
        if job is not None:
            self.work_on(job)
        return job is not None


@pytest.fixture
def settings(tmp_path):
    pacs = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 1}
    store = {"state_dir": str(tmp_path), "min_free_gb": 0.001}
    data = {"deliver": {"destinations": [pacs]}, "store": store, "infer": {"retry_base_s": 0.000001}}
    return config.parse(data, tmp_path)


@pytest.fixture
def clock():
    return Clock(time.time())


@pytest.fixture
def jobs(tmp_path, clock):
    store = JobStore.open(tmp_path, clock=clock)
    yield store
    store.close()


@pytest.fixture
def spool(tmp_path):
    return Spool(tmp_path, 0)


@pytest.fixture
def work(settings, jobs, spool, clock):
    """work(story): a worker whose pipeline is `story`; reading headers, writing and publishing are real."""

    def make(story, *, jobs=jobs, spool=spool, name="1"):
        return OneHand(settings, FakeModel(), FakeEngine(), jobs, spool, clock, name, analyse=story)

    return make


def queue(jobs, settings):
    """Three slices in the spool, and their job."""
    spool = Spool(settings.state_dir, 0)
    tiny = SimpleNamespace(hu=np.zeros((3, 16, 16), np.int16), spacing_mm=(5.0, 1.0, 1.0))
    instances = []
    for dataset in series.build_series(tiny):
        path = spool.directory(SERIES) / f"{dataset.SOPInstanceUID}.dcm"
        path.parent.mkdir(exist_ok=True)
        dataset.save_as(path, enforce_file_format=True)
        instances.append(Instance(STUDY, SERIES, str(dataset.SOPClassUID), str(dataset.SOPInstanceUID), "", path))
    return jobs.enqueue(Series(STUDY, SERIES, tuple(instances)))


@cache
def bleeding():
    return make_analysis("positive", slices=12, rows=256, columns=256, pixel_mm=(0.9, 0.9))


def positive(*_arguments):
    return bleeding()


def failing(error):
    def story(*_arguments):
        raise error

    return story


def test_an_empty_queue_is_no_work(work):
    assert not work(positive).work_once()


def test_results_are_published_with_their_priority(work, jobs, settings):
    job = queue(jobs, settings)
    assert work(positive).work_once()
    assert jobs.job(job.id).state is JobState.DELIVERING
    assert jobs.job(job.id).priority == "STAT"
    owed = jobs.due("pacs")
    assert len(owed) >= 4
    assert all(item.path.exists() for item in owed)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_full_database_at_publish_ends_the_role_and_a_second_attempt_makes_the_same_bytes(work, jobs, settings):
    job = queue(jobs, settings)
    full = FullDatabase(jobs)
    one = work(positive, jobs=full)
    drafts = []
    for _ in range(2):
        with pytest.raises(StoreError):
            one.work_once()
        (draft,) = (settings.state_dir / "results").iterdir()
        drafts.append(contents(draft))
        assert jobs.due("pacs") == []
        jobs.recover("1")
    full.full = False
    assert one.work_once()
    assert jobs.job(job.id).state is JobState.DELIVERING
    assert drafts[0] == drafts[1] == contents(settings.state_dir / "results" / str(job.id))
    assert [path.name for path in (settings.state_dir / "results").iterdir()] == [str(job.id)]


def predecessors(deliveries):
    """The SOP Instance UIDs that any of these objects names as corrected by it."""
    return {
        item.ReferencedSOPInstanceUID
        for delivery in deliveries
        for study in dcmread(delivery.path, stop_before_pixels=True).get("PredecessorDocumentsSequence", ())
        for one_series in study.ReferencedSeriesSequence
        for item in one_series.ReferencedSOPSequence
    }


def test_results_anew_are_other_objects_that_name_the_first_reports(work, jobs, settings):
    first = queue(jobs, settings)
    one = work(positive)
    one.work_once()
    again = jobs.redo(first.id)
    one.work_once()
    before, after = ({item.item for item in jobs.deliveries(job.id)} for job in (first, again))
    assert jobs.job(again.id).state is JobState.DELIVERING
    assert not before & after
    named = predecessors(jobs.deliveries(again.id))
    assert named and named <= before


def test_a_stat_that_went_out_is_not_replaced_by_a_milder_result_and_the_milder_one_says_so(work, jobs, settings):
    first = queue(jobs, settings)
    work(positive).work_once()
    assert jobs.job(first.id).priority == "STAT"
    again = jobs.redo(first.id)
    work(lambda *_: make_analysis("negative", slices=12, rows=256, columns=256, pixel_mm=(0.9, 0.9))).work_once()
    assert jobs.job(again.id).priority == "ROUTINE"
    assert predecessors(jobs.deliveries(again.id)) == set()
    result = settings.state_dir / "results" / str(again.id) / "result.json"
    assert "was STAT; it is not replaced" in result.read_text()
    assert not any(b"This result replaces" in report.read_bytes() for report in result.parent.glob("*.dcm"))


def test_results_that_must_wait_go_out_when_they_may(work, jobs, settings, clock, monkeypatch):
    job = queue(jobs, settings)
    jobs.hold(job.id, clock.now + 2)
    waited = []

    def sleep(seconds):
        waited.append(seconds)
        clock.now += seconds

    monkeypatch.setattr(worker.time, "sleep", sleep)
    monkeypatch.setattr(worker, "ends_above_the_head", lambda _: True)
    assert work(positive).work_once()
    assert (sum(waited), jobs.job(job.id).state) == (pytest.approx(2, abs=0.1), JobState.DELIVERING)


def test_a_stack_that_ends_in_the_middle_of_the_head_waits_for_the_quiet_period(work, jobs, settings, clock):
    job = queue(jobs, settings)
    jobs.hold(job.id, clock.now + 1)
    assert work(positive).work_once()
    row = jobs.job(job.id)
    assert (row.state, row.attempts) == (JobState.QUEUED, 0)
    assert row.publish_after == row.created_at + settings.receive.quiet_period_s


def test_a_refusal_is_in_no_hurry_either(work, jobs, settings, clock):
    job = queue(jobs, settings)
    jobs.hold(job.id, clock.now + 1)
    assert work(lambda *_: make_analysis("not_analysed")).work_once()
    assert jobs.job(job.id).publish_after == jobs.job(job.id).created_at + settings.receive.quiet_period_s


def test_a_job_whose_series_goes_on_is_left_without_an_attempt(work, jobs, settings, clock):
    job = queue(jobs, settings)

    def longer(*_arguments):
        jobs.hold(job.id, clock.now + 60)
        return bleeding()

    assert work(longer).work_once()
    assert (jobs.job(job.id).state, jobs.job(job.id).attempts) == (JobState.QUEUED, 0)
    assert not work(positive).work_once(), "not before the results may go out"


def test_what_the_images_do_not_show_is_told_instead_of_an_analysis(work, jobs, settings):
    job = queue(jobs, settings)
    row = jobs.enqueue(series_of(job), anew=True, told="refused_for_space")
    assert work(failing(AssertionError("analysed"))).work_once()
    assert jobs.job(row.id).refusal == "images were refused for lack of space"
    assert jobs.job(row.id).priority is None


def test_a_series_that_was_answered_is_not_answered_again_for_images_without_a_head(work, jobs, settings, monkeypatch):
    first = queue(jobs, settings)
    one = work(positive)
    one.work_once()
    series_ = series_of(first)
    more = replace(series_.instances[0], sop_instance_uid="1.2.3.99")
    late = jobs.enqueue(replace(series_, instances=(*series_.instances, more)))
    monkeypatch.setattr(worker, "adds_no_head", lambda analysis, paths, said: said.exists())
    one.work_once()
    row = jobs.job(late.id)
    assert (row.state, row.predecessor) == (JobState.INELIGIBLE, first.id)
    assert "show no head" in row.refusal
    assert not jobs.deliveries(late.id)
    jobs.retry(late.id)  # a person wants it all the same
    one.work_once()
    assert jobs.job(late.id).state is JobState.DELIVERING


def series_of(job):
    """The series of a job again."""
    uids = job.sop_instance_uids
    instances = tuple(Instance(job.study_uid, job.series_uid, "", uid, "", Path(f"{uid}.dcm")) for uid in uids)
    return Series(job.study_uid, job.series_uid, instances)


def test_a_corrected_report_names_the_report_in_the_form_in_which_it_went_out(work, jobs, settings):
    first = queue(jobs, settings)
    one = work(positive)
    one.work_once()
    *_, report, text = jobs.due("pacs")
    form = dcmread(next(report.path.parent.glob("*.enhanced.dcm")), stop_before_pixels=True)
    jobs.sent_all([Sent(report, "0x0000", None, form.SOPClassUID, form.SOPInstanceUID)])
    again = jobs.redo(first.id)
    one.work_once()
    assert predecessors(jobs.deliveries(again.id)) == {form.SOPInstanceUID, text.sop_instance_uid}


def test_a_job_that_is_dropped_while_it_is_computed_leaves_the_worker_alive(work, jobs, settings):
    job = queue(jobs, settings)

    def dropped_meanwhile(*_arguments):
        jobs.drop(job.id)
        return bleeding()

    assert work(dropped_meanwhile).work_once()
    assert jobs.job(job.id).state is JobState.FAILED
    assert jobs.job(job.id).trouble == "dropped by an operator"
    assert not (settings.state_dir / "results" / str(job.id)).exists()


@pytest.mark.parametrize("error", [EngineFailure("out of memory"), SpoolFull("no space"), ZeroDivisionError()])
def test_that_holds_whatever_ends_the_attempt(work, jobs, settings, error):
    job = queue(jobs, settings)

    def dropped_meanwhile(*_arguments):
        jobs.drop(job.id)
        raise error

    assert work(dropped_meanwhile).work_once()
    assert jobs.job(job.id).trouble == "dropped by an operator"


def test_a_worker_that_wakes_after_its_lease_replaces_no_file_of_the_one_that_has_the_job_now(
    work, jobs, settings, clock
):
    job = queue(jobs, settings)
    results = settings.state_dir / "results" / str(job.id)
    published = {}

    def asleep(*_arguments):
        clock.now += LEASE_S + 1
        assert work(positive, name="2").work_once()
        published.update(contents(results))
        return replace(bleeding(), provider="another")

    assert work(asleep).work_once()
    assert contents(results) == published != {}
    assert jobs.job(job.id).claims == 2


def test_results_under_the_uids_of_another_job_fail_visibly_and_only_their_own_job(work, jobs, settings):
    victim = queue(jobs, settings)
    one = work(positive)
    one.work_once()
    same = tuple(Instance("1.9", "1.9.9", "1.1", uid, "", settings.state_dir) for uid in victim.sop_instance_uids)
    intruder = jobs.enqueue(Series("1.9", "1.9.9", same))
    assert one.work_once()
    assert jobs.job(intruder.id).state is JobState.FAILED
    assert jobs.job(intruder.id).trouble == "its results bear UIDs that another job owes already"
    assert jobs.job(victim.id).state is JobState.DELIVERING


def test_what_is_done_with_a_job_follows_from_its_attempts_alone():
    planned = [worker.plan(attempts, 3) for attempts in range(1, 7)]
    assert planned[:3] == [worker.Analyse(1), worker.Analyse(2), worker.Analyse(3)]
    assert planned[3:] == [worker.Tell(3), worker.GiveUp(4), worker.GiveUp(5)]


def test_a_failing_engine_is_tried_again(work, jobs, settings):
    job = queue(jobs, settings)
    work(failing(EngineFailure("out of memory"))).work_once()
    assert jobs.job(job.id).state is JobState.QUEUED
    assert jobs.job(job.id).trouble == "out of memory"


def test_a_defect_of_ours_does_not_stop_the_queue(work, jobs, settings):
    job = queue(jobs, settings)
    assert work(failing(ZeroDivisionError("secret"))).work_once()
    assert jobs.job(job.id).trouble == "internal error (ZeroDivisionError)"


def test_a_job_that_always_fails_ends_as_a_visible_not_analysed(work, jobs, settings, clock):
    job = queue(jobs, settings)
    one = work(failing(ZeroDivisionError()))
    for _ in range(settings.infer.max_attempts + 1):
        one.work_once()
        clock.now += 1
    ended = jobs.job(job.id)
    assert ended.state is JobState.DELIVERING
    assert ended.priority is None
    assert "the analysis failed 3 times" in ended.refusal
    assert jobs.due("pacs")


def test_a_job_that_kills_its_worker_even_then_fails_and_the_next_one_is_done(work, jobs, settings):
    job = queue(jobs, settings)
    for _ in range(settings.infer.max_attempts + 1):
        jobs.claim("1")
        jobs.recover("1")  # the worker died
    assert work(positive).work_once()
    assert jobs.job(job.id).state is JobState.FAILED
    assert jobs.job(job.id).trouble == "the analysis ended abruptly 4 times"


def test_a_full_disk_is_waited_out_and_counts_as_no_attempt(work, jobs, spool, settings, clock):
    job = queue(jobs, settings)
    disk = FullDisk(spool)
    one = work(positive, spool=disk)
    for _ in range(settings.infer.max_attempts + 2):
        assert one.work_once()
        assert not one.work_once(), "the worker waits"
        clock.now += worker.SPACE_WAIT_S
    assert (jobs.job(job.id).state, jobs.job(job.id).attempts) == (JobState.QUEUED, 0)
    disk.full = False
    assert one.work_once()
    assert jobs.job(job.id).state is JobState.DELIVERING
    assert jobs.job(job.id).priority == "STAT"


def test_a_series_of_which_nothing_can_be_read_is_answered_from_its_identity_alone(work, jobs, settings, clock):
    job = queue(jobs, settings)
    folder = settings.state_dir / "incoming" / SERIES
    (known,) = {str(dcmread(path).PatientID) for path in folder.iterdir()}
    assert {header.PatientID for header in identity_alone.headers(job, list(folder.iterdir()))} == {known}
    for path in folder.iterdir():
        path.unlink()
    one = work(failing(UnusableSeries(Reason(Why.NOTHING_READABLE))))
    for _ in range(settings.infer.max_attempts + 1):
        one.work_once()
        clock.now += 1
    answered = jobs.job(job.id)
    assert (answered.state, answered.priority) == (JobState.DELIVERING, None)
    assert "not one file" in answered.refusal
    told = [dcmread(item.path) for item in jobs.due("pacs")]
    assert {(item.StudyInstanceUID, item.PatientID) for item in told} == {(STUDY, "")}


@pytest.mark.parametrize("told", [None, Why.IMAGES_REFUSED])
def test_whatever_of_a_header_the_results_cannot_be_made_with_the_last_attempt_does_without_it(
    work, jobs, settings, clock, monkeypatch, told
):
    job = queue(jobs, settings)
    if told is not None:
        images = tuple(Instance(STUDY, SERIES, "", uid, "", settings.state_dir) for uid in job.sop_instance_uids)
        job = jobs.enqueue(Series(STUDY, SERIES, images), anew=True, told=told)
    made = worker.build.results

    def stumble(analysis, **options):
        if "Rows" in analysis.headers[0]:
            raise AttributeError("'str' object has no attribute 'get'")
        return made(analysis, **options)

    monkeypatch.setattr(worker.build, "results", stumble)
    one = work(positive)
    for _ in range(settings.infer.max_attempts + 1):
        one.work_once()
        clock.now += 1
    assert (jobs.job(job.id).state, jobs.job(job.id).priority) == (JobState.DELIVERING, None)
    source = dcmread(next((settings.state_dir / "incoming" / SERIES).iterdir()))
    (patient,) = {(str(dcmread(item.path).PatientName), dcmread(item.path).PatientID) for item in jobs.due("pacs")}
    assert patient == (str(source.PatientName), source.PatientID)
