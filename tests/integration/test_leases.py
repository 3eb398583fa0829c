"""Two real processes and one job: who is killed or stopped loses it after its lease, and never before."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from ich_node.domain.dicom import Instance, Series
from ich_node.domain.ledger import Job, JobState, Owed, ResultInstance
from ich_node.store.ledger.jobs import JobStore

LEASE_S = 5.0
HOLDER = """
import sys, threading
from pathlib import Path
from ich_node.domain.errors import Superseded
from ich_node.domain.ledger import Owed, ResultInstance
from ich_node.store.ledger.jobs import JobStore

state = Path(sys.argv[1])
jobs = JobStore.open(state, lease_s=float(sys.argv[2]), url=sys.argv[3] or None)
job = jobs.claim("holder")
print("claimed", flush=True)
finish = threading.Event()

def renew():
    while not finish.wait(float(sys.argv[2]) / 6) and jobs.renew(job):
        pass

threading.Thread(target=renew, daemon=True).start()
sys.stdin.readline()
finish.set()
result = ResultInstance("1.1", "9.holder", state / "results" / "1" / "a.dcm")
try:
    jobs.publish(job, [Owed(result, "pacs")], priority="STAT", place=lambda: print("placed", flush=True))
    print("published", flush=True)
except Superseded:
    print("superseded", flush=True)
"""


@pytest.fixture
def jobs(tmp_path: Path, ledger_url: str | None) -> Iterator[JobStore]:
    store = JobStore.open(tmp_path, lease_s=LEASE_S, url=ledger_url)
    instance = Instance("1.2", "1.2.3", "1.1", "1.2.3.4", "1.2.840", tmp_path)
    store.enqueue(Series("1.2", "1.2.3", (instance,)))
    yield store
    store.close()


@pytest.fixture
def holder(tmp_path: Path, ledger_url: str | None) -> Callable[[], AbstractContextManager[subprocess.Popen[str]]]:
    """holder(): a process that holds the job, renews its lease, and publishes when a line comes in."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path), str(LEASE_S), ledger_url or ""]

    @contextmanager
    def started() -> Iterator[subprocess.Popen[str]]:
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert said(process) == "claimed"
                yield process
            finally:
                process.kill()

    return started


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def tell_to_publish(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def taken_over(jobs: JobStore) -> tuple[Job, Job]:
    """Claim as soon as that is possible: the job as its holder left it, and as it is ours."""
    held = jobs.job(1)
    while (job := jobs.claim("other")) is None:
        held = jobs.job(1)
        time.sleep(0.02)
    assert held is not None
    return held, job


def test_a_worker_that_works_for_longer_than_its_lease_keeps_its_job(jobs, holder):
    with holder() as process:
        first = jobs.job(1).lease_until
        while jobs.job(1).lease_until <= first + LEASE_S:  # renewed until after the first lease is over
            assert jobs.claim("other") is None
            time.sleep(0.05)
        tell_to_publish(process)
        assert [said(process), said(process)] == ["placed", "published"]
    assert jobs.job(1).state is JobState.DELIVERING


def test_a_killed_worker_loses_its_job_after_its_lease(jobs, holder):
    with holder() as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    held, job = taken_over(jobs)
    assert job.updated_at > held.lease_until
    assert (job.worker, job.attempts) == ("other", 2)


def test_a_stopped_worker_that_wakes_after_its_lease_publishes_nothing(jobs, holder, tmp_path):
    with holder() as process:
        process.send_signal(signal.SIGSTOP)
        held, job = taken_over(jobs)
        assert job.updated_at > held.lease_until
        jobs.publish(job, [Owed(ResultInstance("1.1", "9.other", tmp_path / "a.dcm"), "pacs")], priority="STAT")
        process.send_signal(signal.SIGCONT)
        tell_to_publish(process)
        assert said(process) == "superseded"
    assert [item.item for item in jobs.deliveries(1)] == ["9.other"]
