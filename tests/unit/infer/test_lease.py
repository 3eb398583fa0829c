"""How a worker holds its job."""

from __future__ import annotations

import threading

from ich_node.domain.errors import StoreError
from ich_node.infer import lease


def test_only_the_first_process_of_a_name_knows_that_the_one_before_it_is_dead(tmp_path):
    with lease.only_one(tmp_path, "1") as first, lease.only_one(tmp_path, "1") as second:
        assert (first, second) == (True, False)
    with lease.only_one(tmp_path, "1") as later:
        assert later


class Jobs:
    """A ledger that answers renewals as told: True, False, or an error to raise."""

    def __init__(self, *answers):
        self._answers = list(answers)
        self.asked = threading.Semaphore(0)

    def renew(self, _job):
        answer = self._answers.pop(0)
        self.asked.release()
        if isinstance(answer, Exception):
            raise answer
        return answer


class SomeJob:
    id = 7


def test_a_job_is_renewed_while_it_is_worked_on_also_past_a_locked_database_and_no_longer_once_lost(monkeypatch):
    monkeypatch.setattr(lease, "RENEW_S", 0.001)
    jobs = Jobs(True, StoreError("locked"), True, False)
    with lease.held(jobs, SomeJob()):
        for _ in range(4):
            assert jobs.asked.acquire(timeout=30)
        (thread,) = [each for each in threading.enumerate() if each.name == "lease-7"] or [None]
        if thread is not None:
            thread.join(60)
    assert not jobs.asked.acquire(blocking=False)


def test_work_that_ends_early_is_not_renewed():
    jobs = Jobs()
    with lease.held(jobs, SomeJob()):
        pass
    assert not jobs.asked.acquire(blocking=False)
