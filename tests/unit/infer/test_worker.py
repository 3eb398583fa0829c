"""The worker's decisions: what is published, tried again, given up, and that none of it is silent."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
from pydicom import dcmread

from ich_node.domain.dicom import Instance, Series
from ich_node.domain.errors import EngineFailure, SpoolFull, StoreError, UnusableSeries
from ich_node.domain.ledger import JobState
from ich_node.domain.reasons import Reason, Why
from ich_node.infer import pipeline, worker
from ich_node.phantom import series
from ich_node.runtime import config
from ich_node.store.ledger.jobs import JobStore
from ich_node.store.spool import Spool
from tests.analysis_builder import make_analysis

STUDY, SERIES = "1.2", "1.2.3"


class FakeEngine:
    """Takes the place of ONNX Runtime; the pipeline is replaced as well."""

    name = "CPUExecutionProvider"
    recoverable = True

    def self_test(self):
        return 0.0


class FakeModel:
    card = make_analysis("negative", slices=12).card


@pytest.fixture
def settings(tmp_path):
    pacs = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 1}
    store = {"state_dir": str(tmp_path), "min_free_gb": 0.001}
    data = {"deliver": {"destinations": [pacs]}, "store": store, "infer": {"retry_base_s": 0.000001}}
    return config.parse(data, tmp_path)


@pytest.fixture
def jobs(tmp_path):
    store = JobStore.open(tmp_path)
    yield store
    store.close()


@pytest.fixture
def work(settings, monkeypatch):
    """work(story): a worker whose pipeline is `story`; only reading headers, writing and publishing are real."""
    monkeypatch.setattr(worker, "open_engine", lambda _config, _model: FakeEngine())
    monkeypatch.setattr(worker.bundle, "load", lambda _folder: FakeModel())
    made = []

    def make(story):
        monkeypatch.setattr(pipeline, "analyse", story)
        made.append(worker.Worker(settings))
        return made[-1]

    yield make
    for one in made:
        one.close()


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


def test_a_second_attempt_makes_the_same_bytes(work, jobs, settings):
    job = queue(jobs, settings)
    results = settings.state_dir / "results" / str(job.id)
    one = work(positive)
    one.work_once()
    first = {path.name: path.read_bytes() for path in results.glob("*.dcm")}
    claimed = jobs.job(job.id)
    one._publish_files(claimed, positive())
    assert first == {path.name: path.read_bytes() for path in results.glob("*.dcm")}


def test_a_corrected_report_names_the_report_in_the_form_in_which_it_went_out(work, jobs, settings):
    first = queue(jobs, settings)
    one = work(positive)
    one.work_once()
    *_, report, text = jobs.due("pacs")
    form = dcmread(next(report.path.parent.glob("*.enhanced.dcm")), stop_before_pixels=True)
    jobs.sent(report, 0, sop_class_uid=form.SOPClassUID, sop_instance_uid=form.SOPInstanceUID)
    documents = one._predecessor(replace(jobs.job(first.id), predecessor=first.id)).documents
    assert {document.sop_instance_uid for document in documents} == {form.SOPInstanceUID, text.sop_instance_uid}


def test_a_failing_engine_is_tried_again(work, jobs, settings):
    job = queue(jobs, settings)
    work(failing(EngineFailure("out of memory"))).work_once()
    assert jobs.job(job.id).state is JobState.QUEUED
    assert jobs.job(job.id).reason == "out of memory"


def test_a_defect_of_ours_does_not_stop_the_queue(work, jobs, settings):
    job = queue(jobs, settings)
    assert work(failing(ZeroDivisionError("secret"))).work_once()
    assert jobs.job(job.id).reason == "internal error (ZeroDivisionError)"


def test_a_job_that_always_fails_ends_as_a_visible_not_analysed(work, jobs, settings):
    job = queue(jobs, settings)
    one = work(failing(ZeroDivisionError()))
    for _ in range(settings.infer.max_attempts + 1):
        one.work_once()
    ended = jobs.job(job.id)
    assert ended.state is JobState.DELIVERING
    assert ended.priority is None
    assert "the analysis failed 3 times" in ended.reason
    assert jobs.due("pacs")


def test_a_job_that_kills_its_worker_even_then_fails_and_the_next_one_is_done(work, jobs, settings):
    job = queue(jobs, settings)
    for _ in range(settings.infer.max_attempts + 1):
        jobs.claim("1")
        jobs.recover("1")  # the worker died
    assert work(positive).work_once()
    assert jobs.job(job.id).state is JobState.FAILED
    assert jobs.job(job.id).reason == "the analysis ended abruptly 4 times"


def test_a_full_disk_is_waited_out_and_counts_as_no_attempt(work, jobs, settings, monkeypatch):
    job = queue(jobs, settings)
    one = work(positive)
    with monkeypatch.context() as full:

        def no_space(*_arguments):
            raise SpoolFull("No space left on device")

        full.setattr(one._spool, "write_results", no_space)
        for _ in range(settings.infer.max_attempts + 2):
            assert one.work_once()
            assert not one.work_once(), "the worker waits"
            one._waits_until = 0.0
    assert (jobs.job(job.id).state, jobs.job(job.id).attempts) == (JobState.QUEUED, 0)
    assert one.work_once()
    assert jobs.job(job.id).state is JobState.DELIVERING
    assert jobs.job(job.id).priority == "STAT"


def test_a_full_database_at_publish_leaves_the_job_to_the_next_start(work, jobs, settings, monkeypatch):
    job = queue(jobs, settings)
    one = work(positive)

    def no_space(*_arguments, **_named):
        raise StoreError("database: database or disk is full")

    monkeypatch.setattr(one._jobs, "publish", no_space)
    with pytest.raises(StoreError):
        one.work_once()
    before = {path.name: path.read_bytes() for path in (settings.state_dir / "results" / str(job.id)).iterdir()}
    assert jobs.due("pacs") == []
    assert work(positive).work_once()
    assert jobs.job(job.id).state is JobState.DELIVERING
    assert before == {path.name: path.read_bytes() for path in (settings.state_dir / "results" / str(job.id)).iterdir()}


def test_a_series_of_which_nothing_can_be_read_fails_with_the_reason(work, jobs, settings):
    job = queue(jobs, settings)
    for path in (settings.state_dir / "incoming" / SERIES).iterdir():
        path.unlink()
    one = work(failing(UnusableSeries(Reason(Why.NOTHING_READABLE))))
    for _ in range(settings.infer.max_attempts + 1):
        one.work_once()
    assert jobs.job(job.id).state is JobState.FAILED
    assert "not one file" in jobs.job(job.id).reason


def test_a_restarted_worker_takes_its_own_job_up_again(work, jobs, settings):
    job = queue(jobs, settings)
    jobs.claim("1")
    one = work(positive)
    assert jobs.job(job.id).state is JobState.QUEUED
    assert one.work_once()
