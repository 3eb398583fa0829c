"""The job store: every legal move, and none other."""

from __future__ import annotations

import itertools
import json
import sqlite3
import threading
from pathlib import Path

import pytest

from ich_node.domain.dicom import Instance, Series
from ich_node.domain.errors import StoreError
from ich_node.domain.ledger import JOB_TRANSITIONS, DeliveryState, JobState, ResultFile
from ich_node.store.ledger.jobs import JobStore


class Clock:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock):
    store = JobStore.open(tmp_path, clock=clock)
    yield store
    store.close()


def series(name: str = "1.2.3", slices: int = 3, study: str = "1.2") -> Series:
    return Series(
        study, name, tuple(Instance(study, name, "1.1", f"{name}.{i}", "1.2.840", Path("x")) for i in range(slices))
    )


def files(state_dir: Path, job_id: int, count: int = 2) -> list[ResultFile]:
    return [
        ResultFile("1.1", f"9.{job_id}.{i}", state_dir / "results" / str(job_id) / f"9.{job_id}.{i}.dcm")
        for i in range(count)
    ]


def published(store: JobStore, tmp_path: Path, name: str = "1.2.3", priority: str = "STAT", to=("pacs",)):
    store.enqueue(series(name))
    job = store.claim("w")
    store.publish(job, files(tmp_path, job.id), to, priority=priority)
    return job


def test_the_same_images_are_queued_once(store):
    assert store.enqueue(series()) is not None
    assert store.enqueue(series()) is None
    assert store.known("1.2.3", series().input_digest)
    assert not store.known("1.2.3", series(slices=4).input_digest)


def test_a_late_slice_supersedes_the_job_that_still_waits(store):
    first = store.enqueue(series(slices=3))
    second = store.enqueue(series(slices=4))
    assert store.job(first.id).state is JobState.INELIGIBLE
    assert store.job(first.id).reason == f"superseded by job {second.id}"
    assert store.claim("w").id == second.id


def test_a_late_slice_after_publish_makes_a_job_that_knows_its_predecessor(store, tmp_path):
    first = published(store, tmp_path)
    store.enqueue(series(slices=4))
    assert store.claim("w").predecessor == first.id


def test_a_job_waits_while_another_of_its_series_runs(store):
    store.enqueue(series(slices=3))
    assert store.claim("a") is not None
    store.enqueue(series(slices=4))
    assert store.claim("b") is None


def test_claims_go_by_rank_and_then_by_arrival(store):
    for name, rank in (("1.1", 0), ("1.2", 0), ("1.3", 1)):
        store.enqueue(series(name), rank=rank)
    assert [store.claim("w").series_uid for _ in range(3)] == ["1.3", "1.1", "1.2"]


def test_an_attempt_counts_at_claim_and_a_crash_does_not_give_it_back(store):
    store.enqueue(series())
    store.claim("w")
    assert store.recover("other") == 0
    assert store.recover("w") == 1
    assert store.claim("w").attempts == 2


def test_an_orderly_stop_gives_the_attempt_back(store):
    store.enqueue(series())
    store.give_back(store.claim("w"), "no space")
    assert store.claim("w").attempts == 1


def test_a_retried_job_waits_until_its_time(store, clock):
    store.enqueue(series())
    store.retry_later(store.claim("w"), "engine failed", not_before=clock.now + 30)
    assert store.claim("w") is None
    clock.now += 31
    assert store.claim("w").reason == "engine failed"


def test_publish_owes_every_result_to_every_destination(store, tmp_path):
    job = published(store, tmp_path, to=("a", "b"))
    assert store.job(job.id).state is JobState.DELIVERING
    assert [d.sequence for d in store.due("a")] == [0, 1]
    assert store.due("b")[0].path == tmp_path / "results" / str(job.id) / f"9.{job.id}.0.dcm"


def test_publish_without_destinations_finishes_the_job(store, tmp_path):
    job = published(store, tmp_path, to=())
    assert store.job(job.id).state is JobState.DONE


def test_publish_happens_once(store, tmp_path):
    store.enqueue(series())
    job = store.claim("w")
    store.publish(job, files(tmp_path, job.id), ["pacs"], priority=None)
    with pytest.raises(StoreError, match="no longer running"):
        store.publish(job, files(tmp_path, job.id), ["pacs"], priority=None)


def test_a_job_is_done_when_its_last_delivery_is_sent(store, tmp_path):
    job = published(store, tmp_path)
    first, second = store.due("pacs")
    store.sent(first, 0)
    assert store.job(job.id).state is JobState.DELIVERING
    store.sent(second, 0)
    assert store.job(job.id).state is JobState.DONE


def test_a_refusal_fails_the_job_but_the_rest_is_still_sent(store, tmp_path):
    job = published(store, tmp_path)
    first, second = store.due("pacs")
    store.refused(first, 0xA900, "data set does not match SOP class")
    store.sent(second, 0)
    assert store.job(job.id).state is JobState.FAILED
    assert [d.state for d in store.deliveries(job.id)] == [DeliveryState.FAILED, DeliveryState.SENT]


def test_a_postponed_instance_holds_back_its_job_and_no_other(store, tmp_path, clock):
    published(store, tmp_path, "1.1")
    other = published(store, tmp_path, "1.2")
    first = store.due("pacs")[0]
    store.postpone(first, 0xA700, "out of resources", clock.now + 60)
    assert {d.job_id for d in store.due("pacs")} == {other.id}
    clock.now += 61
    assert [d.sequence for d in store.due("pacs") if d.job_id == first.job_id] == [0, 1]


def test_stat_results_overtake_routine_ones(store, tmp_path):
    published(store, tmp_path, "1.1", "ROUTINE")
    urgent = published(store, tmp_path, "1.2", "STAT")
    assert store.due("pacs")[0].job_id == urgent.id


def test_what_the_peer_lost_is_owed_again(store, tmp_path):
    job = published(store, tmp_path)
    for item in store.due("pacs"):
        store.sent(item, 0)
    store.asked_commitment(store.uncommitted("pacs", asked_before=0.0, created_after=0.0), "2.25.7")
    kept, lost = store.of_transaction("2.25.7")
    store.committed(kept)
    store.lost(lost, "no such object instance")
    assert store.job(job.id).state is JobState.DELIVERING
    assert [d.sop_instance_uid for d in store.due("pacs")] == [lost.sop_instance_uid]


def test_what_one_peer_lost_is_owed_again_although_another_one_refused_it(store, tmp_path):
    job = published(store, tmp_path, to=("strict", "pacs"))
    for item in store.due("strict"):
        store.refused(item, 0xC000, "cannot understand")
    for item in store.due("pacs"):
        store.sent(item, 0)
    assert store.job(job.id).state is JobState.FAILED
    store.lost(store.deliveries(job.id)[0], "no such object instance")
    assert store.job(job.id).state is JobState.DELIVERING
    store.sent(store.due("pacs")[0], 0)
    assert store.job(job.id).state is JobState.FAILED


def test_an_operator_retries_what_was_refused(store, tmp_path):
    job = published(store, tmp_path)
    for item in store.due("pacs"):
        store.refused(item, 0xC000, "cannot understand")
    assert store.retry(job.id).state is JobState.DELIVERING
    assert len(store.due("pacs")) == 2


def test_an_operator_retries_a_failed_computation(store):
    store.enqueue(series())
    store.fail(store.claim("w"), "three attempts")
    assert store.retry(1).state is JobState.QUEUED


def test_an_operator_drops_what_is_still_owed(store, tmp_path):
    job = published(store, tmp_path)
    store.drop(job.id)
    assert store.due("pacs") == []
    assert store.job(job.id).reason == "dropped by an operator"


def test_an_unknown_job_is_an_error_with_its_number(store):
    with pytest.raises(StoreError, match="no job 77"):
        store.retry(77)


@pytest.mark.parametrize(("old", "new"), list(itertools.product(JobState, JobState)))
def test_no_move_outside_the_table_is_possible(store, old, new):
    if new in JOB_TRANSITIONS[old]:
        store._moved(old, new)
    else:
        with pytest.raises(StoreError, match="can not go from"):
            store._moved(old, new)


def test_two_workers_never_claim_the_same_job(tmp_path):
    store = JobStore.open(tmp_path)
    for i in range(20):
        store.enqueue(series(f"1.{i + 1}"))
    claimed: list[int] = []

    def work(name: str) -> None:
        own = JobStore.open(tmp_path)
        while (job := own.claim(name)) is not None:
            claimed.append(job.id)
        own.close()

    threads = [threading.Thread(target=work, args=(f"w{i}",)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store.close()
    assert sorted(claimed) == list(range(1, 21))


def test_a_damaged_database_is_refused_with_advice(tmp_path):
    store = JobStore.open(tmp_path)
    for i in range(200):
        store.enqueue(series(f"1.{i + 1}", slices=10))
    store.close()
    path = tmp_path / "node.db"
    data = bytearray(path.read_bytes())
    data[8192:16384] = b"\xff" * 8192
    path.write_bytes(data)
    with pytest.raises(StoreError, match=r"damaged|malformed"):
        JobStore.open(tmp_path)


def test_a_newer_schema_is_refused(tmp_path):
    JobStore.open(tmp_path).close()
    with sqlite3.connect(tmp_path / "node.db") as db:
        db.execute("UPDATE alembic_version SET version_num = '9999'")
    db.close()
    with pytest.raises(StoreError, match="schema 9999"):
        JobStore.open(tmp_path)


def result_json(folder: Path, item: Series) -> None:
    folder.mkdir(parents=True)
    result = {
        "study_instance_uid": item.study_uid,
        "series_instance_uid": item.series_uid,
        "sop_instance_uids": [i.sop_instance_uid for i in item.instances],
        "priority": "STAT",
        "reason": None,
        "objects": [{"sop_class_uid": "1.1", "sop_instance_uid": f"9.{n}"} for n in range(2)],
    }
    (folder / "result.json").write_text(json.dumps(result))


def test_a_lost_database_comes_back_from_the_result_files(tmp_path):
    result_json(tmp_path / "results" / "41", series())
    store = JobStore.open(tmp_path)
    assert store.known("1.2.3", series().input_digest)
    assert store.owe_restored(["pacs"]) == 1
    assert [item.path.name for item in store.due("pacs")] == ["9.0.dcm", "9.1.dcm"]
    assert store.owe_restored(["pacs"]) == 0
    assert store.enqueue(series("1.9")).id == 42
    store.close()


def test_a_broken_result_file_does_not_stop_the_rebuild(tmp_path):
    result_json(tmp_path / "results" / "1", series())
    (tmp_path / "results" / "2").mkdir()
    (tmp_path / "results" / "2" / "result.json").write_text("{")
    store = JobStore.open(tmp_path)
    assert store.counts() == {"delivering": 1}
    store.close()


def test_an_existing_database_is_not_rebuilt(tmp_path):
    JobStore.open(tmp_path).close()
    result_json(tmp_path / "results" / "1", series())
    store = JobStore.open(tmp_path)
    assert store.counts() == {}
    store.close()
