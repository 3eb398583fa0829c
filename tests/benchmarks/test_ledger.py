"""What the ledger costs when much is kept: few and 50,000 series, 200,000 deliveries (`make bench`).

Prints CPU milliseconds of one call of each, the median of many, and asserts nothing about time.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from ich_node.domain.dicom import Instance, Series
from ich_node.domain.ledger import DeliveryState, JobState, Owed, ResultInstance
from ich_node.store.ledger.jobs import JobStore
from ich_node.store.ledger.tables import delivery, job

PER_JOB = 4  # deliveries
QUEUED_SHARE = 5  # every fifth job waits for a worker


def fill(state_dir: Path, count: int) -> None:
    """Series that are done and sent, and some that wait; committed to by nobody, as with a PACS that is not asked."""
    store = JobStore.open(state_dir)
    jobs, owed = [], []
    for number in range(1, count + 1):
        state = JobState.QUEUED if number % QUEUED_SHARE == 0 else JobState.DONE
        name = f"1.2.{number}"
        fixed = {"revision": 0, "rank": 0, "attempts": 1, "claims": 1, "not_before": 0.0, "publish_after": 0.0}
        fixed = {key: value for key, value in fixed.items() if key in job.c}
        uids = "\n".join(f"{name}.{slice_}" for slice_ in range(30))
        row = {"id": number, "study_uid": f"1.{number}", "series_uid": name, "input_digest": name, "state": state}
        jobs.append({**fixed, **row, "sop_instance_uids": uids, "created_at": 1.0, "updated_at": 1.0})
        for sequence in range(PER_JOB if state is JobState.DONE else 0):
            item = {"job_id": number, "item": f"9.{number}.{sequence}", "destination": "pacs", "sequence": sequence}
            rest = {"urgency": 2, "sop_class_uid": "1.1", "path": "x", "state": DeliveryState.SENT, "attempts": 1}
            owed.append({**item, **rest, "not_before": 0.0, "created_at": 1.0, "updated_at": 1.0})
    with store._engine.begin() as db:
        db.execute(sa.insert(job), jobs)
        db.execute(sa.insert(delivery), owed)
    store.close()


def cost_ms(call: Callable[[], object], times: int = 30) -> float:
    """CPU milliseconds of one call."""
    taken = []
    for _ in range(times):
        before = time.process_time()
        call()
        taken.append((time.process_time() - before) * 1000)
    return statistics.median(taken)


@pytest.mark.parametrize("count", [10, 50_000])
def test_what_grows_with_what_is_kept(tmp_path, count):
    fill(tmp_path, count)
    before = time.process_time()
    store = JobStore.open(tmp_path)
    opened = (time.process_time() - before) * 1000
    fresh = iter(range(10**9))

    def enqueue() -> None:
        name = f"7.{next(fresh)}"
        store.enqueue(Series("7", name, (Instance("7", name, "1.1", f"{name}.1", "1.2", tmp_path),)), rank=1)

    def through() -> None:
        enqueue()
        claimed = store.claim("w")
        assert claimed is not None
        item = ResultInstance("1.1", f"8.{claimed.id}", tmp_path / "x")
        store.publish(claimed, [Owed(item, "other")], priority="STAT")

    costs = {
        "open": opened,
        "enqueue": cost_ms(enqueue),
        "enqueue, claim, publish": cost_ms(through),
        "due, nothing": cost_ms(lambda: store.due("pacs", 64)),
        "commitment poll": cost_ms(lambda: store.uncommitted("pacs", asked_before=0.0, created_after=2.0)),
        "of_transaction": cost_ms(lambda: store.of_transaction("2.25.1")),
    }
    store.close()
    print(f"\n{count} series: " + ", ".join(f"{name} {cost:.2f} ms" for name, cost in costs.items()))
