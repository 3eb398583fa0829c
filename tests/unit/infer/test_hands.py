"""Two studies at a time in one worker: what overlaps, what never does, and how it ends."""

from __future__ import annotations

import errno
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from ich_node.domain.errors import StoreError
from ich_node.infer import hands
from ich_node.infer.hands import Hands, OneAtATime

WITHIN_S = 30


def make_job(number, attempts=1):
    return SimpleNamespace(id=number, attempts=attempts)


class Ear:
    """Nobody rings."""

    def wait(self, timeout_s):
        time.sleep(0.001)


class Jobs:
    """Every lease is renewed."""

    def renew(self, _job):
        return True


class Queue:
    """Jobs, what is done with each, and how many were ever at work at once."""

    def __init__(self, stop, jobs, do, files=()):
        self._stop, self._left, self._do, self._files = stop, list(jobs), do, list(files)
        self._lock = threading.Lock()
        self._working: set[int] = set()
        self.together: set[frozenset[int]] = set()
        self.claimed: list[int] = []

    def claim(self):
        if not self._left:
            if not self._working:
                self._stop.set()
            return None
        job = self._left.pop(0)
        self.claimed.append(job.id)
        return job

    def paths(self, job):
        return self._files

    def work_on(self, job):
        with self._lock:
            self._working.add(job.id)
            self.together.add(frozenset(self._working))
        try:
            self._do(job)
        finally:
            with self._lock:
                self._working.discard(job.id)


def run(queue, stop, beat=lambda: None):
    Hands(queue, Jobs(), stop).run(Ear(), beat)


def test_a_second_study_is_begun_while_the_first_one_is_at_work():
    stop, both = threading.Event(), threading.Barrier(2)
    queue = Queue(stop, [make_job(1), make_job(2)], lambda _job: both.wait(WITHIN_S))
    run(queue, stop)
    assert frozenset({1, 2}) in queue.together


def test_what_is_large_or_was_begun_before_has_the_worker_for_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(hands, "LARGE_BYTES", 1000)
    large = tmp_path / "1.dcm"
    large.write_bytes(bytes(1001))
    for jobs, files in (
        ([make_job(number, attempts=1) for number in range(1, 9)], [large]),
        ([make_job(number, attempts=2) for number in range(1, 9)], []),
    ):
        stop = threading.Event()
        queue = Queue(stop, jobs, lambda _job: time.sleep(0.01), files)
        run(queue, stop)
        assert queue.claimed == list(range(1, 9))
        assert max(map(len, queue.together)) == 1


class OnAFailingDisk:
    """A file of which nothing can be learnt."""

    def exists(self):
        return True

    def stat(self):
        raise OSError(errno.EIO, "Input/output error")


def test_a_file_on_a_failing_disk_is_the_business_of_who_reads_it():
    stop, done = threading.Event(), []
    queue = Queue(stop, [make_job(1)], lambda job: done.append(job.id), [OnAFailingDisk()])
    run(queue, stop)
    assert done == [1]


def test_nothing_else_is_claimed_while_a_study_that_was_begun_before_is_at_work():
    stop = threading.Event()
    claimed_meanwhile = {}

    def do(job):
        time.sleep(0.05)
        claimed_meanwhile[job.id] = list(queue.claimed)

    queue = Queue(stop, [make_job(1, attempts=3), make_job(2)], do)
    run(queue, stop)
    assert claimed_meanwhile == {1: [1], 2: [1, 2]}


def test_what_one_job_must_not_survive_ends_the_worker_and_the_other_job_is_finished_first():
    stop, both, finished = threading.Event(), threading.Barrier(2), []

    def do(job):
        both.wait(WITHIN_S)
        if job.id == 1:
            raise StoreError("database: disk is full")
        assert both_hands._failed.wait(WITHIN_S)
        finished.append(job.id)

    queue = Queue(stop, [make_job(1), make_job(2), make_job(3)], do)
    both_hands = Hands(queue, Jobs(), stop)
    with pytest.raises(StoreError):
        both_hands.run(Ear(), lambda: None)
    assert finished == [2]
    assert queue.claimed == [1, 2]


def test_the_jobs_in_hand_are_finished_when_it_is_time_to_stop():
    stop, both, finished = threading.Event(), threading.Barrier(2), []

    def do(job):
        both.wait(WITHIN_S)
        stop.set()
        time.sleep(0.02)
        finished.append(job.id)

    run(Queue(stop, [make_job(number) for number in range(1, 5)], do), stop)
    assert sorted(finished) == [1, 2]


def test_a_worker_with_a_job_that_hangs_is_not_said_to_be_alive(monkeypatch):
    monkeypatch.setattr(hands, "BEAT_S", 0.001)
    stop, go, beats = threading.Event(), threading.Event(), []
    queue = Queue(stop, [make_job(1)], lambda _job: go.wait(WITHIN_S))
    running = threading.Thread(target=run, args=(queue, stop, lambda: beats.append(1)))
    running.start()

    def next_beat():
        before, end = len(beats), time.monotonic() + WITHIN_S
        while len(beats) == before and time.monotonic() < end:
            time.sleep(0.001)
        return len(beats) > before

    assert next_beat()

    def silent():
        before = len(beats)
        time.sleep(0.2)
        return len(beats) == before

    monkeypatch.setattr(hands, "HANGS_S", -1.0)  # longer than that is any job at work
    assert any(silent() for _ in range(20))
    monkeypatch.setattr(hands, "HANGS_S", 1000.0)
    assert next_beat()
    go.set()
    running.join(WITHIN_S)
    assert not running.is_alive()


@pytest.mark.parametrize(("large", "beats_come"), [(1e-9, True), (1000, False)])
def test_a_study_of_a_thousand_slices_may_take_longer_before_it_is_said_to_hang(
    monkeypatch, tmp_path, large, beats_come
):
    monkeypatch.setattr(hands, "BEAT_S", 0.001)
    monkeypatch.setattr(hands, "HANGS_S", 1e-6)
    monkeypatch.setattr(hands, "LARGE_BYTES", large)
    (tmp_path / "images").write_bytes(bytes(1000))
    stop, beats, seen = threading.Event(), [], []

    def do(_job):
        time.sleep(0.05)
        beats.clear()
        time.sleep(0.2)
        seen.append(bool(beats))

    run(Queue(stop, [make_job(1)], do, [tmp_path / "images"]), stop, lambda: beats.append(1))
    assert seen == [beats_come]


class Engine:
    """Tells how many threads were in it at once."""

    name, recoverable = "CPUExecutionProvider", True

    def __init__(self):
        self.inside, self.most = 0, 0

    def run(self, hu):
        self.inside += 1
        self.most = max(self.most, self.inside)
        time.sleep(0.005)
        self.inside -= 1
        return hu

    def self_test(self):
        return self.run(0.5)


def test_an_engine_is_used_by_one_hand_at_a_time():
    engine = Engine()
    shared = OneAtATime(engine)
    assert (shared.name, shared.recoverable) == ("CPUExecutionProvider", True)
    box = np.zeros((1, 2, 2), np.int16)
    threads = [threading.Thread(target=shared.run, args=(box,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WITHIN_S)
    assert shared.self_test() == 0.5
    assert engine.most == 1
