"""The job store: every legal move, and none other."""

from __future__ import annotations

import json
import sqlite3
import threading
from pathlib import Path

import pytest
from ledger_builder import say_sent

from ich_node.domain.dicom import Instance, Series
from ich_node.domain.errors import NoSuchJob, ResultConflict, StoreError, Superseded, TooEarly, WrongState
from ich_node.domain.ledger import DeliveryState, JobState, Origin, Owed, ResultInstance, ResultMessage, Sent, hashed
from ich_node.store.ledger.jobs import LEASE_S, JobStore


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
def store(tmp_path: Path, clock: Clock, ledger_url: str | None):
    store = JobStore.open(tmp_path, clock=clock, url=ledger_url)
    yield store
    store.close()


def series(name: str = "1.2.3", slices: int = 3, study: str = "1.2") -> Series:
    return Series(
        study, name, tuple(Instance(study, name, "1.1", f"{name}.{i}", "1.2.840", Path("x")) for i in range(slices))
    )


def files(state_dir: Path, job_id: int, count: int = 2) -> list[ResultInstance]:
    return [
        ResultInstance("1.1", f"9.{job_id}.{i}", state_dir / "results" / str(job_id) / f"9.{job_id}.{i}.dcm")
        for i in range(count)
    ]


def owed(state_dir: Path, job_id: int, *destinations: str) -> list[Owed]:
    return [Owed(file, name) for name in destinations for file in files(state_dir, job_id)]


def published(store: JobStore, tmp_path: Path, name: str = "1.2.3", priority: str = "STAT", to=("pacs",)):
    store.enqueue(series(name))
    job = store.claim("w")
    store.publish(job, owed(tmp_path, job.id, *to), priority=priority)
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
    assert store.job(first.id).trouble == f"superseded by job {second.id}"
    assert store.claim("w").id == second.id


def test_a_late_slice_after_publish_makes_a_job_that_knows_its_predecessor(store, tmp_path):
    first = published(store, tmp_path)
    store.enqueue(series(slices=4))
    assert store.claim("w").predecessor == first.id


def test_a_late_slice_takes_a_running_job_back_before_it_is_published(store):
    store.enqueue(series(slices=3))
    running = store.claim("a")
    store.enqueue(series(slices=4))
    assert store.claim("b").input_digest != running.input_digest
    with pytest.raises(Superseded):
        store.publish(running, [], priority="ROUTINE")
    assert store.job(running.id).state is JobState.INELIGIBLE


def test_a_job_waits_while_another_of_its_series_runs(store):
    store.enqueue(series(slices=3), origin=Origin("CT1", "10.0.0.1", "one"))
    assert store.claim("a") is not None
    store.enqueue(series(slices=4), origin=Origin("CT1", "10.0.0.1", "another"))
    assert store.claim("b") is None


def test_results_that_must_wait_are_not_published_and_their_job_is_begun_a_little_earlier(store, clock):
    job = store.enqueue(series(), publish_after=clock.now + 60)
    assert store.claim("w") is None
    clock.now += 57
    claimed = store.claim("w")
    with pytest.raises(TooEarly) as early:
        store.publish(claimed, [], priority="ROUTINE")
    assert early.value.until == job.publish_after
    assert store.job(job.id).state is JobState.RUNNING
    store.hold(job.id, clock.now + 100)
    store.hold(job.id, clock.now + 10)
    assert store.job(job.id).publish_after == clock.now + 100, "never earlier"
    store.let_go(job.id)
    store.publish(claimed, [], priority="ROUTINE")
    assert store.job(job.id).state is JobState.DONE


def test_a_moment_that_a_clock_put_back_has_made_far_away_does_not_hold_a_job(store, clock):
    store.enqueue(series(), publish_after=clock.now + 86400)
    store.publish(store.claim("w"), [], priority="ROUTINE")


def test_neither_another_patient_nor_another_sender_supersedes_or_precedes_a_job(store, tmp_path):
    mine, other = Origin("CT1", "10.0.0.1", "one"), Origin("RED", "10.0.0.66", "one")
    store.enqueue(series(slices=3), origin=mine)
    store.enqueue(series(slices=4), origin=other)
    assert [job.state for job in store.jobs()] == [JobState.QUEUED, JobState.QUEUED]
    store.publish(store.claim("w"), [], priority="ROUTINE")
    assert store.claim("w").predecessor is None


def test_claims_go_by_rank_and_then_by_arrival(store):
    for name, rank in (("1.1", 0), ("1.2", 0), ("1.3", 1)):
        store.enqueue(series(name), rank=rank)
    assert [store.claim("w").series_uid for _ in range(3)] == ["1.3", "1.1", "1.2"]


def test_the_senders_of_one_rank_take_turns(store):
    for number in range(6):
        store.enqueue(series(f"1.{number}"), origin=Origin(calling_address="10.0.0.7"))
    for number in range(2):
        store.enqueue(series(f"2.{number}"), origin=Origin(calling_address="10.0.0.2"))
    store.enqueue(series("3.0"), rank=1, origin=Origin(calling_address="10.0.0.7"))
    claimed = [store.claim("w").series_uid for _ in range(9)]
    assert claimed == ["3.0", "2.0", "1.0", "2.1", "1.1", "1.2", "1.3", "1.4", "1.5"]


def test_a_sender_that_brings_one_job_at_a_time_is_not_always_first(store):
    for number in range(4):
        store.enqueue(series(f"1.{number}"), origin=Origin(calling_address="10.0.0.2"))
    claimed = []
    for number in range(3):
        store.enqueue(series(f"2.{number}"), origin=Origin(calling_address="10.0.0.7"))
        claimed += [store.claim("w").series_uid for _ in range(2)]
    assert claimed == ["1.0", "2.0", "1.1", "2.1", "1.2", "2.2"]


@pytest.mark.parametrize("loss", ["restart", "silence", "retry"])
def test_a_job_that_cost_its_worker_its_life_goes_behind_the_others(store, clock, loss):
    for name in ("1.666", "1.2"):
        store.enqueue(series(name))
        clock.now += 1
    poison = store.claim("w")
    assert poison.series_uid == "1.666"
    clock.now += 2 * LEASE_S
    if loss == "restart":
        store.recover("w")
    elif loss == "retry":
        store.retry_later(poison, "failed", not_before=clock.now - 1)
    store.enqueue(series("1.3"))
    assert store.claim("w").series_uid == "1.2"
    assert {store.claim("w").series_uid for _ in range(2)} == {"1.666", "1.3"}


def test_a_job_that_was_given_back_keeps_its_place(store, clock):
    for name in ("1.1", "1.2"):
        store.enqueue(series(name))
        clock.now += 1
    store.give_back(store.claim("w"), "no space")
    assert store.claim("w").series_uid == "1.1"


def test_an_attempt_counts_at_claim_and_a_crash_does_not_give_it_back(store):
    store.enqueue(series())
    store.claim("w")
    assert store.recover("other") == 0
    assert store.recover("w") == 1
    assert store.claim("w").attempts == 2


# --- leases --------------------------------------------------------------------------------------------------------


def test_a_worker_that_is_not_heard_of_loses_its_job_after_its_lease_and_never_before(store, clock):
    store.enqueue(series())
    held = store.claim("a")
    clock.now += LEASE_S
    assert store.claim("b") is None
    clock.now += 0.001
    taken = store.claim("b")
    assert (taken.id, taken.attempts, taken.worker) == (held.id, 2, "b")


def test_a_worker_that_is_heard_of_keeps_its_job(store, clock):
    store.enqueue(series())
    held = store.claim("a")
    for _ in range(10):
        clock.now += LEASE_S - 1
        assert store.renew(held)
        assert store.claim("b") is None


def test_a_worker_that_wakes_after_its_lease_changes_nothing(store, clock, tmp_path):
    store.enqueue(series())
    held = store.claim("a")
    clock.now += LEASE_S + 1
    taken = store.claim("a")  # of the same name: the claim counts, not the name
    placed: list[str] = []
    assert not store.renew(held)
    with pytest.raises(Superseded):
        store.publish(held, owed(tmp_path, held.id, "pacs"), priority="STAT", place=lambda: placed.append("files"))
    for late in (store.give_back, store.fail):
        with pytest.raises(Superseded):
            late(held, "too late")
    assert placed == []
    assert store.job(held.id) == taken
    store.publish(taken, owed(tmp_path, taken.id, "pacs"), priority="STAT")
    with pytest.raises(Superseded):
        store.publish(held, owed(tmp_path, held.id, "pacs"), priority="STAT")


def test_that_holds_when_an_operator_has_set_the_attempts_back(store, clock, tmp_path):
    store.enqueue(series())
    held = store.claim("a")
    store.drop(held.id)
    store.retry(held.id)
    again = store.claim("a")
    assert again.attempts == held.attempts == 1
    with pytest.raises(Superseded):
        store.publish(held, owed(tmp_path, held.id, "pacs"), priority="STAT")


def test_a_lease_of_a_clock_that_was_put_back_holds_no_job_for_ever(store, clock):
    clock.now = 1e9
    store.enqueue(series())
    store.claim("a")
    clock.now -= 7 * 86400
    assert store.claim("b") is not None


def test_files_that_cannot_be_put_in_their_place_leave_the_job_unpublished(store, tmp_path):
    store.enqueue(series())
    held = store.claim("a")

    def full() -> None:
        raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space"):
        store.publish(held, owed(tmp_path, held.id, "pacs"), priority="STAT", place=full)
    assert store.job(held.id) == held
    assert store.due("pacs") == []


def test_an_orderly_stop_gives_the_attempt_back(store):
    store.enqueue(series())
    store.give_back(store.claim("w"), "no space")
    assert store.claim("w").attempts == 1


def test_a_retried_job_waits_until_its_time(store, clock):
    store.enqueue(series())
    store.retry_later(store.claim("w"), "engine failed", not_before=clock.now + 30)
    assert store.claim("w") is None
    clock.now += 31
    assert store.claim("w").trouble == "engine failed"


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
    store.publish(job, owed(tmp_path, job.id, "pacs"), priority=None)
    with pytest.raises(Superseded):
        store.publish(job, owed(tmp_path, job.id, "pacs"), priority=None)


def test_a_message_is_owed_beside_the_instances_and_in_their_order(store, tmp_path):
    store.enqueue(series())
    job = store.claim("w")
    message = ResultMessage("oru-r01", tmp_path / "results" / "1" / "oru.hl7")
    store.publish(job, [Owed(message, "ris"), *owed(tmp_path, job.id, "pacs")], priority="STAT")
    (told,) = store.due("ris")
    assert (told.item, told.is_instance, told.path) == ("oru-r01", False, message.path)
    store.sent_all([Sent(told, "AA")])
    assert store.job(job.id).state is JobState.DELIVERING
    say_sent(store, *store.due("pacs"))
    assert store.job(job.id).state is JobState.DONE
    assert {d.destination: d.code for d in store.deliveries(job.id)} == {"ris": "AA", "pacs": "0x0000"}


def test_results_under_the_uids_of_another_job_are_the_fault_of_the_one_that_comes_second(store, tmp_path):
    victim = published(store, tmp_path)
    store.enqueue(series("1.2.4"))
    job = store.claim("w")
    with pytest.raises(ResultConflict, match="another job"):
        store.publish(job, owed(tmp_path, victim.id, "pacs"), priority="STAT")
    assert store.job(job.id).state is JobState.RUNNING
    assert {item.job_id for item in store.due("pacs")} == {victim.id}


def test_a_job_is_done_when_its_last_delivery_is_sent(store, tmp_path):
    job = published(store, tmp_path)
    first, second = store.due("pacs")
    say_sent(store, first)
    assert store.job(job.id).state is JobState.DELIVERING
    say_sent(store, second)
    assert store.job(job.id).state is JobState.DONE


def test_a_refusal_fails_the_job_but_the_rest_is_still_sent(store, tmp_path):
    job = published(store, tmp_path)
    first, second = store.due("pacs")
    store.refused(first, "0xA900", "data set does not match SOP class")
    say_sent(store, second)
    assert store.job(job.id).state is JobState.FAILED
    assert [d.state for d in store.deliveries(job.id)] == [DeliveryState.FAILED, DeliveryState.SENT]


def test_a_postponed_instance_stands_aside_and_holds_back_nothing(store, tmp_path, clock):
    published(store, tmp_path, "1.1")
    first, *others = store.due("pacs")
    store.postpone(first, "0xA700", "out of resources", clock.now + 60)
    assert [d.sop_instance_uid for d in store.due("pacs")] == [d.sop_instance_uid for d in others]
    assert [d.sop_instance_uid for d in store.waiting("pacs")] == [first.sop_instance_uid]
    store.release("pacs", first.sop_class_uid)
    assert store.due("pacs")[0].sop_instance_uid == first.sop_instance_uid
    assert store.waiting("pacs") == []


def test_stat_results_overtake_routine_ones(store, tmp_path):
    published(store, tmp_path, "1.1", "ROUTINE")
    urgent = published(store, tmp_path, "1.2", "STAT")
    assert store.due("pacs")[0].job_id == urgent.id


def test_what_the_peer_lost_is_owed_again(store, tmp_path):
    job = published(store, tmp_path)
    for item in store.due("pacs"):
        say_sent(store, item)
    store.asked_commitment(store.uncommitted("pacs", asked_before=0.0, created_after=0.0), "2.25.7")
    kept, lost = store.of_transaction("2.25.7")
    store.committed(kept)
    store.lost(lost, "no such object instance")
    assert store.job(job.id).state is JobState.DELIVERING
    assert [d.sop_instance_uid for d in store.due("pacs")] == [lost.sop_instance_uid]


def test_what_one_peer_lost_is_owed_again_although_another_one_refused_it(store, tmp_path):
    job = published(store, tmp_path, to=("strict", "pacs"))
    for item in store.due("strict"):
        store.refused(item, "0xC000", "cannot understand")
    for item in store.due("pacs"):
        say_sent(store, item)
    assert store.job(job.id).state is JobState.FAILED
    store.lost(store.deliveries(job.id)[0], "no such object instance")
    assert store.job(job.id).state is JobState.DELIVERING
    say_sent(store, store.due("pacs")[0])
    assert store.job(job.id).state is JobState.FAILED


def test_an_operator_retries_what_was_refused(store, tmp_path):
    job = published(store, tmp_path)
    for item in store.due("pacs"):
        store.refused(item, "0xC000", "cannot understand")
    assert store.retry(job.id).state is JobState.DELIVERING
    assert len(store.due("pacs")) == 2


def test_an_operator_retries_a_failed_computation(store):
    store.enqueue(series())
    store.fail(store.claim("w"), "three attempts")
    assert store.retry(1).state is JobState.QUEUED


def test_an_operator_has_a_series_analysed_although_there_was_a_reason_not_to(store):
    job = store.enqueue(series(), told="some reason", publish_after=1e9)
    store.drop(job.id)
    again = store.retry(job.id)
    assert (again.state, again.told, again.publish_after) == (JobState.QUEUED, None, 0.0)


def test_an_operator_drops_what_is_still_owed(store, tmp_path):
    job = published(store, tmp_path)
    store.drop(job.id)
    assert store.due("pacs") == []
    assert store.job(job.id).trouble == "dropped by an operator"


def test_what_was_dropped_while_it_was_sent_costs_no_other_answer(store, tmp_path):
    dropped, others = published(store, tmp_path, "1.1"), [published(store, tmp_path, f"1.{n}") for n in range(2, 10)]
    batch = store.due("pacs")
    store.drop(dropped.id)
    say_sent(store, *batch)
    store.refused(batch[0], "0xC000", "too late")
    store.postpone(batch[1], "0xA700", "too late", 1e12)
    assert {d.cause for d in store.deliveries(dropped.id)} == {"dropped by an operator"}
    assert store.job(dropped.id).state is JobState.FAILED
    assert {store.job(job.id).state for job in others} == {JobState.DONE}


def test_a_running_job_can_be_dropped_but_not_tried_again(store, tmp_path):
    store.enqueue(series())
    job = store.claim("w")
    with pytest.raises(WrongState, match="job 1 is running: what can be tried again is failed, ineligible"):
        store.retry(job.id)
    assert store.renew(job)
    store.drop(job.id)
    assert not store.renew(job)
    with pytest.raises(Superseded):
        store.publish(job, owed(tmp_path, job.id, "pacs"), priority="STAT")


def test_a_refusal_is_written_once_and_troubles_beside_it(store, tmp_path):
    store.enqueue(series())
    store.retry_later(store.claim("w"), "engine failed", 0.0)
    job = store.claim("w")
    store.publish(job, owed(tmp_path, job.id, "pacs"), priority=None, refusal="bone kernel")
    store.refused(store.due("pacs")[0], "0xC000", "cannot understand")
    say_sent(store, *store.due("pacs"))
    failed = store.job(job.id)
    assert (failed.refusal, failed.trouble) == ("bone kernel", "a destination refused a result")
    retried = store.retry(job.id)
    assert (retried.refusal, retried.trouble, retried.is_analysed) == ("bone kernel", None, False)


def test_results_anew_are_another_job_that_corrects_the_first(store, tmp_path):
    first = published(store, tmp_path)
    with pytest.raises(WrongState, match="queued"):
        store.redo(store.enqueue(series("1.9")).id)
    again = store.redo(first.id)
    assert (again.state, again.revision, again.input_digest) == (JobState.QUEUED, 1, first.input_digest)
    assert store.enqueue(series()) is None, "the images themselves are known"
    assert store.redo(first.id).revision == 2
    claimed = {job.id: job for job in (store.claim("w"), store.claim("w"))}
    assert claimed[again.id].predecessor == first.id


def test_images_that_come_again_with_another_identity_are_queued_anew(store, tmp_path):
    first = published(store, tmp_path)
    origin = Origin("SCANNER", "10.0.0.7", hashed("new name"), None)
    again = store.enqueue(series(), anew=True, origin=origin)
    assert (again.revision, again.patient_hash) == (1, hashed(" new name"))
    assert store.claim("w").predecessor == first.id


def test_the_same_bytes_go_out_again_to_one_destination_or_all(store, tmp_path):
    job = published(store, tmp_path, to=("a", "b"))
    say_sent(store, *store.due("a"), *store.due("b"))
    assert store.resend(job.id, "b") == 2
    assert (len(store.due("a")), len(store.due("b"))) == (0, 2)
    assert store.job(job.id).state is JobState.DELIVERING
    assert store.resend(job.id) == 2
    say_sent(store, *store.due("a"), *store.due("b"))
    assert store.job(job.id).state is JobState.DONE


def test_a_destination_that_is_new_can_have_the_results_of_an_old_job(store, tmp_path):
    job = published(store, tmp_path, to=("a",))
    say_sent(store, *store.due("a"))
    with pytest.raises(WrongState, match="no results"):
        store.resend(job.id, "new")
    assert store.resend(job.id, "new", owed(tmp_path, job.id, "new")) == 2
    assert len(store.due("new")) == 2


def test_what_waits_for_a_destination_goes_now_when_an_operator_says_so(store, tmp_path, clock):
    published(store, tmp_path, to=("a", "b"))
    for name in ("a", "b"):
        store.postpone(store.due(name)[0], None, "no answer", clock.now + 900)
    assert store.hurried_at("a") == 0.0
    assert store.hurry(["a"]) == 2
    assert (len(store.due("a")), len(store.due("b"))) == (2, 1)
    assert (store.hurried_at("a"), store.hurried_at("b")) == (clock.now, 0.0)


def test_jobs_are_found_by_what_an_operator_knows(store, clock):
    def ids(**wanted: object) -> list[int]:
        return [job.id for job in store.jobs(**wanted)]

    store.enqueue(series("1.1", study="1.8"), origin=Origin("CT1", "10.0.0.1", hashed("A"), hashed("77")))
    clock.now += 100
    store.set_ineligible(series("1.2", study="1.9"), "bone kernel", origin=Origin("CT2", "10.0.0.2", hashed("B")))
    assert ids() == [2, 1]
    assert ids(study_uid="1.8") == ids(patient_hash=hashed("A")) == ids(accession_hash=hashed("77")) == [1]
    assert ids(calling_ae_title="CT2") == ids(since=clock.now) == ids(state=JobState.INELIGIBLE) == [2]
    assert ids(until=clock.now, calling_ae_title="CT2") == []


def test_many_inputs_are_looked_up_in_one_question(store):
    store.enqueue(series("1.1"))
    digests = [(name, series(name).input_digest) for name in ("1.1", "1.2")]
    assert store.known_of(digests) == {digests[0]}
    assert store.known_of([]) == set()


def test_an_unknown_job_is_an_error_with_its_number(store):
    with pytest.raises(NoSuchJob, match="no job 77"):
        store.retry(77)


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
        JobStore.open(tmp_path, verify=True)


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


def to_pacs(results, _job):
    return [Owed(result, "pacs") for result in results]


def test_a_lost_database_comes_back_from_the_result_files(tmp_path):
    result_json(tmp_path / "results" / "41", series())
    store = JobStore.open(tmp_path)
    assert store.known("1.2.3", series().input_digest)
    assert store.owe_restored(to_pacs) == 1
    assert [item.path.name for item in store.due("pacs")] == ["9.0.dcm", "9.1.dcm"]
    assert store.owe_restored(to_pacs) == 0
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
