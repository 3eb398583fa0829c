"""Retention: what may go, what must stay, and crashes in the middle."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ledger_builder import (
    CT_IMAGE,
    SECONDARY_CAPTURE,
    Clock,
    configuration,
    destination,
    publish_job,
    say_sent,
    write_instance,
)

from ich_node.domain.dicom import Instance, Series
from ich_node.domain.errors import WrongState
from ich_node.store import retention, trash
from ich_node.store.layout import StateDir
from ich_node.store.ledger.jobs import JobStore

DAY = 86400.0
NOW = 2_000_000_000.0


@pytest.fixture
def clock():
    return Clock(NOW - 30 * DAY)


@pytest.fixture
def store(tmp_path, clock):
    store = JobStore.open(tmp_path, clock=clock)
    yield store
    store.close()


@pytest.fixture
def config(tmp_path):
    return settings(configuration(tmp_path, destination("pacs", 1)), min_free_gb=1e-6)  # whatever disk the tests run on


def settings(config, **changes):
    return config.model_copy(update={"store": config.store.model_copy(update=changes)})


def aged(folder: Path, moment: float) -> Path:
    os.utime(folder, (moment, moment))
    return folder


def finished_job(store, tmp_path, clock, series_uid="1.2.3", *, sent=True):
    """A job with its series and results on disk, as old as the clock says."""
    folder = tmp_path / "incoming" / series_uid
    write_instance(folder / f"{series_uid}.1.dcm", CT_IMAGE, f"{series_uid}.1")
    job, _ = publish_job(store, tmp_path, ["pacs"], series_uid=series_uid, classes=[SECONDARY_CAPTURE])
    if sent:
        for item in store.due("pacs"):
            say_sent(store, item)
    aged(folder, clock.now)
    return job, folder, aged(tmp_path / "results" / str(job.id), clock.now)


def carry_out(config, store, removals):
    retention.carry_out(config, store, removals, retention.Turn(store))


def names(removals):
    return {(removal.folder.kind, removal.folder.path.name) for removal in removals}


def test_what_finished_long_ago_goes_series_and_results(config, store, tmp_path, clock):
    job, series, results = finished_job(store, tmp_path, clock)
    removals = retention.plan(config, store, NOW)
    assert names(removals) == {("incoming", "1.2.3"), ("results", str(job.id))}
    carry_out(config, store, removals)
    assert not series.exists()
    assert not results.exists()
    assert not list((tmp_path / "trash").iterdir())


def test_its_row_stays_so_that_the_same_images_are_not_analysed_again(config, store, tmp_path, clock):
    job, _, _ = finished_job(store, tmp_path, clock)
    carry_out(config, store, retention.plan(config, store, NOW))
    assert store.known("1.2.3", job.input_digest)


def test_what_finished_lately_stays(config, store, tmp_path, clock):
    clock.now = NOW - DAY
    finished_job(store, tmp_path, clock)
    assert retention.plan(config, store, NOW) == []


@pytest.mark.parametrize("quota_gb", [None, 1e-9])
def test_a_job_that_still_owes_results_stays_whatever_its_age_and_the_space(config, store, tmp_path, clock, quota_gb):
    finished_job(store, tmp_path, clock, sent=False)
    assert retention.plan(settings(config, max_used_gb=quota_gb), store, NOW) == []


def test_a_queued_job_and_a_series_without_a_job_stay(config, store, tmp_path, clock):
    for series_uid in ("1.2.3", "1.2.4"):
        aged(write_instance(tmp_path / f"incoming/{series_uid}/{series_uid}.1.dcm", CT_IMAGE, "1").parent, clock.now)
    instance = Instance("1.2", "1.2.3", CT_IMAGE, "1.2.3.1", "1.2.840.10008.1.2", Path())
    store.enqueue(Series("1.2", "1.2.3", (instance,)))
    assert retention.plan(settings(config, max_used_gb=1e-9), store, NOW) == []


def test_a_series_with_an_instance_that_no_job_has_seen_stays(config, store, tmp_path, clock):
    _, series, _ = finished_job(store, tmp_path, clock)
    write_instance(series / "1.2.3.2.dcm", CT_IMAGE, "1.2.3.2")
    aged(series, clock.now)
    assert ("incoming", "1.2.3") not in names(retention.plan(config, store, NOW))


def test_above_the_quota_the_oldest_finished_go_first_and_only_as_many_as_needed(config, store, tmp_path, clock):
    clock.now = NOW - 3 * DAY
    jobs = []
    for number in (1, 2, 3):
        clock.now += DAY / 2
        jobs.append(finished_job(store, tmp_path, clock, f"1.2.{number}"))
    everything = sum(retention.size(tmp_path / kind) for kind in ("incoming", "results"))
    quota = settings(config, max_used_gb=(everything - 1) / 1e9)
    removals = retention.plan(quota, store, NOW)
    assert len(removals) == 1
    assert removals[0].folder.path in {jobs[0][1], jobs[0][2]}
    assert retention.plan(settings(config, max_used_gb=everything / 1e9), store, NOW) == []


def test_a_disk_that_runs_full_of_finished_work_makes_room_before_it_must_refuse(config, store, tmp_path, clock):
    clock.now = NOW - 3 * DAY
    finished_job(store, tmp_path, clock, "1.2.1")
    clock.now = NOW - DAY
    finished_job(store, tmp_path, clock, "1.2.2")
    small = settings(config, min_free_gb=1.0)
    need = 1.0 * retention.FREE_FACTOR * 1e9
    assert retention.plan(small, store, NOW, free_bytes=need) == []
    first, *others = retention.plan(small, store, NOW, free_bytes=need - 1)
    assert (first.folder.path.name, first.reason, others) == ("1.2.1", "less than 1.2 GB are free", [])
    assert len(retention.plan(small, store, NOW, free_bytes=0)) == 4, "all that is finished, if it must be"


def test_the_keeper_of_space_removes_what_is_finished_and_nothing_else(config, store, tmp_path, clock):
    clock.now = NOW - DAY
    _, series, _ = finished_job(store, tmp_path, clock, "1.2.1")
    _, unfinished, _ = finished_job(store, tmp_path, clock, "1.2.2", sent=False)
    keeper = retention.SpaceKeeper(config, store, clock=lambda: NOW)
    assert keeper.step(free_bytes=0)
    assert not series.exists()
    assert unfinished.exists()
    assert not keeper.step(free_bytes=0)


class Hours:
    """A stop event that says after how many waits it is set, and how long each was asked to be."""

    def __init__(self, waits):
        self._left, self.asked = waits, []

    def wait(self, seconds):
        self.asked.append(seconds)
        self._left -= 1
        return self._left < 0


def test_a_full_disk_with_nothing_finished_is_not_searched_all_the_time(config, store, tmp_path, clock):
    finished_job(store, tmp_path, clock, sent=False)
    hours = Hours(4)
    retention.SpaceKeeper(settings(config, min_free_gb=1e9), store, clock=lambda: NOW).run(hours)
    assert hours.asked == [retention.LOOK_EVERY_S, retention.PAUSE_S] * 2 + [retention.LOOK_EVERY_S]


def test_only_the_folders_that_are_next_to_go_are_judged(config, store, tmp_path, clock, monkeypatch):
    for number in range(1, 6):
        clock.now = NOW - DAY + number
        finished_job(store, tmp_path, clock, f"1.2.{number}")
    judged = []
    asked = store.jobs_of_series
    monkeypatch.setattr(store, "jobs_of_series", lambda uid: judged.append(uid) or asked(uid))
    assert retention.plan(config, store, NOW, free_bytes=1e15) == []
    assert judged == []
    need = config.store.min_free_gb * retention.FREE_FACTOR * 1e9
    assert len(retention.plan(config, store, NOW, free_bytes=need - 1)) == 1
    assert judged == ["1.2.1"]


def test_the_list_of_images_goes_with_them_and_what_comes_again_is_known(config, store, tmp_path, clock):
    job, series, _ = finished_job(store, tmp_path, clock)
    carry_out(config, store, retention.plan(config, store, NOW))
    assert store.job(job.id).sop_instance_uids == ()
    assert store.known("1.2.3", job.input_digest)
    with pytest.raises(WrongState, match="no longer here"):
        store.redo(job.id)
    write_instance(series / "1.2.3.1.dcm", CT_IMAGE, "1.2.3.1")
    aged(series, clock.now)
    assert names(retention.plan(config, store, NOW)) == {("incoming", "1.2.3")}, "the same images, not unseen ones"


def test_objects_that_were_set_aside_go_by_age(config, store, tmp_path):
    old = write_instance(tmp_path / "set_aside/1.2.8/1.dcm", SECONDARY_CAPTURE, "1").parent
    new = write_instance(tmp_path / "set_aside/1.2.9/1.dcm", SECONDARY_CAPTURE, "1").parent
    aged(old, NOW - 20 * DAY)
    aged(new, NOW - 1 * DAY)
    assert names(retention.plan(config, store, NOW)) == {("set_aside", "1.2.8")}


def test_a_result_that_a_destination_is_still_asked_to_commit_to_stays(store, tmp_path, clock):
    clock.now = NOW - DAY
    config = configuration(tmp_path, destination("pacs", 1, commitment=True), give_up_after_h=72)
    job, _, _ = finished_job(store, tmp_path, clock)
    quota = settings(config, max_used_gb=1e-9)
    assert retention.plan(quota, store, NOW) == []
    for item in store.deliveries(job.id):
        store.committed(item)
    assert len(retention.plan(quota, store, NOW)) == 2


def test_what_happens_between_plan_and_removal_keeps_the_folder(config, store, tmp_path, clock):
    job, series, results = finished_job(store, tmp_path, clock)
    removals = retention.plan(config, store, NOW)
    write_instance(series / "1.2.3.2.dcm", CT_IMAGE, "1.2.3.2")
    clock.now = NOW
    store.lost(store.deliveries(job.id)[0], "no such object instance")
    carry_out(config, store, removals)
    assert series.exists()
    assert results.exists()


def test_an_image_that_slipped_into_the_trash_goes_back_to_its_place(config, store, tmp_path, clock):
    finished_job(store, tmp_path, clock)
    slipped = tmp_path / "trash" / "incoming@1.2.3@7"
    slipped.parent.mkdir()
    (tmp_path / "incoming" / "1.2.3").rename(slipped)
    write_instance(slipped / "1.2.3.2.dcm", CT_IMAGE, "1.2.3.2")
    trash.empty(StateDir(tmp_path), store)
    assert [path.name for path in (tmp_path / "incoming" / "1.2.3").iterdir()] == ["1.2.3.2.dcm"]
    assert not slipped.exists()


def test_what_a_crash_left_in_the_trash_is_deleted_by_the_next_run(config, store, tmp_path):
    half = tmp_path / "trash" / "results@7@1"
    half.mkdir(parents=True)
    (half / "1.dcm").write_bytes(b"x")
    assert trash.empty(StateDir(tmp_path), store) == 1
    assert not half.exists()


class PowerCut(Exception):
    """The lights go out."""


@pytest.mark.parametrize("step", range(1, 9))
def test_a_crash_at_any_moment_harms_nothing(config, store, tmp_path, clock, monkeypatch, step):
    job, series, results = finished_job(store, tmp_path, clock)
    kept, kept_series, kept_results = finished_job(store, tmp_path, clock, "1.2.4", sent=False)
    before = {path: path.read_bytes() for path in [*kept_series.iterdir(), *kept_results.iterdir()]}
    calls = {"left": step}

    def fragile(original):
        def call(*arguments, **named):
            calls["left"] -= 1
            if calls["left"] == 0:
                raise PowerCut
            return original(*arguments, **named)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(trash, "sync_directory", fragile(trash.sync_directory))
        patch.setattr(Path, "rename", fragile(Path.rename))
        patch.setattr(os, "unlink", fragile(os.unlink))
        try:
            carry_out(config, store, retention.plan(config, store, NOW))
        except PowerCut:
            for folder in (series, results):  # all of it in its place, or none
                assert not folder.exists() or list(folder.glob("*.dcm"))
    clock.now += retention.LEASE_S + 1  # until then the others take it for being at it
    carry_out(config, store, retention.plan(config, store, NOW))
    assert not series.exists()
    assert not results.exists()
    assert {path: path.read_bytes() for path in before} == before
    assert kept.id != job.id


def test_stale_parts_go_and_fresh_ones_stay(config, store, tmp_path):
    fresh, stale = (tmp_path / "incoming" / "1.2.3" / f"{n}.1-1.part" for n in (1, 2))
    fresh.parent.mkdir(parents=True)
    for path in (fresh, stale):
        path.write_bytes(b"x")
    os.utime(stale, (1, 1))
    draft = tmp_path / "results" / "9.part"
    draft.mkdir(parents=True)
    aged(draft, 1)
    carry_out(config, store, [])
    assert (fresh.exists(), stale.exists(), draft.exists()) == (True, False, False)


def test_a_dry_run_says_what_would_go_and_touches_nothing(config, store, tmp_path, clock):
    _, series, results = finished_job(store, tmp_path, clock)
    for folder in (series, results):
        aged(folder, 1e9)
    lines = list(retention.run(settings(config, max_used_gb=1e-9), dry_run=True))
    assert any(line.startswith("would remove incoming/1.2.3") for line in lines)
    assert "dry run" in lines[-1]
    assert series.exists()
    assert results.exists()
    assert not (tmp_path / "trash").exists()


def test_of_all_processes_that_could_make_room_one_does(tmp_path, store, config, clock, monkeypatch):
    finished_job(store, tmp_path, clock)
    clock.now = NOW
    config = settings(config, min_free_gb=1e9)
    first, second = (retention.SpaceKeeper(config, store, clock=clock) for _ in range(2))
    looked = []
    plan = retention.plan

    def look(*arguments):
        looked.append(arguments)
        assert second.step(), "another one is at it: no reason to wait for a minute"
        return plan(*arguments)

    monkeypatch.setattr(retention, "plan", look)
    assert first.step()
    assert len(looked) == 1
    monkeypatch.setattr(retention, "plan", plan)
    assert not second.step(), "the first one is done: it looks, and nothing is left"


def test_who_was_taken_for_dead_while_it_made_room_stops(tmp_path, store, config, clock, monkeypatch):
    finished_job(store, tmp_path, clock)
    clock.now = NOW
    turn = retention.Turn(store)
    assert turn.take()
    removals = retention.plan(settings(config, min_free_gb=1e9), store, NOW)
    monkeypatch.setattr(retention, "RENEW_S", 0.0)
    clock.now += retention.LEASE_S + 1
    other = retention.Turn(store)
    assert other.take()
    turn._renew_at = 0.0  # it has slept
    assert retention.make_room(config, store, removals, turn) == 0
    assert all(removal.folder.path.exists() for removal in removals)
    other.leave()
    assert retention.make_room(config, store, removals, turn) > 0
