"""Whose job is next: urgent first over all sites, then the sites in turn; none can starve another."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import sqlalchemy as sa

from ich_node.domain.dicom import Instance, Series
from ich_node.domain.ledger import Job, Origin
from ich_node.store.ledger.jobs import JobStore
from ich_node.store.ledger.tables import job as jobs

LEASE_S = 30.0
OTHERS = 15  # jobs of another site, fewer than those that pass when a job has killed its worker


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, ledger_url: str | None, clock: Clock) -> Iterator[JobStore]:
    made = JobStore.open(tmp_path, clock=clock, lease_s=LEASE_S, url=ledger_url)
    yield made
    made.close()


def put(store: JobStore, site: str, count: int, *, rank: int = 0, first: int = 0) -> None:
    for number in range(first, first + count):
        name = f"1.{sum(map(ord, site))}.{rank}.{number}"
        images = (Instance("1.2", name, "1.1", f"{name}.1", "1.2.840", Path("x")),)
        store.enqueue(Series(f"{name}.9", name, images), rank=rank, origin=Origin("CT", "10.0.0.1", site=site))


def site_of(job: Job) -> int:
    return int(job.series_uid.split(".")[1])


NORTH, SOUTH = sum(map(ord, "north")), sum(map(ord, "south"))


def test_sites_take_turns_whoever_works_and_however_many_one_has(store: JobStore, clock: Clock) -> None:
    put(store, "north", 40)
    clock.now += 1
    put(store, "south", 5)
    claimed = [site_of(store.claim(f"w{number % 3}")) for number in range(10)]
    assert Counter(claimed) == {NORTH: 5, SOUTH: 5}
    assert all(a != b for a, b in pairwise(claimed))


def test_turns_outlive_the_workers_that_gave_them(store: JobStore, tmp_path, ledger_url, clock: Clock) -> None:
    put(store, "north", 5)
    clock.now += 1
    put(store, "south", 5)
    claimed = []
    for _ in range(6):
        worker = JobStore.open(tmp_path, clock=clock, lease_s=LEASE_S, url=ledger_url)
        claimed.append(site_of(worker.claim("w")))
        worker.close()
    assert claimed == [NORTH, SOUTH] * 3


def test_what_is_urgent_goes_first_over_all_sites_and_those_take_turns_as_well(store: JobStore, clock: Clock) -> None:
    put(store, "north", 3)
    put(store, "south", 2)
    clock.now += 1
    put(store, "south", 3, rank=1)
    put(store, "north", 1, rank=1)
    claimed = [store.claim("w") for _ in range(4)]
    assert [job.rank for job in claimed] == [1] * 4
    assert [site_of(job) for job in claimed[:2]] in ([SOUTH, NORTH], [NORTH, SOUTH])
    assert store.claim("w").rank == 0


@pytest.mark.parametrize("death", ["restart", "silence"])
def test_a_site_whose_jobs_kill_workers_lets_the_others_pass(store: JobStore, clock: Clock, death: str) -> None:
    """With every death a fresh worker looks at the same queue, in which the poison is oldest."""
    put(store, "north", 50)  # each kills its worker
    clock.now += 1
    put(store, "south", OTHERS)
    deaths, done = 0, 0
    while done < OTHERS:
        job = store.claim("w")
        if site_of(job) == SOUTH:
            store.publish(job, [], priority="ROUTINE")
            done += 1
            continue
        deaths += 1
        if death == "restart":
            store.recover("w")
        else:
            clock.now += 2 * LEASE_S
    assert deaths <= 2
    assert site_of(store.claim("w")) == NORTH, "nobody else waits: it goes on"


def test_a_job_that_failed_in_order_costs_its_site_no_turn(store: JobStore, clock: Clock) -> None:
    put(store, "north", 3)
    clock.now += 1
    put(store, "south", 3)
    store.retry_later(store.claim("w"), "an engine that failed", clock.now)
    assert [site_of(store.claim("w")) for _ in range(4)] == [SOUTH, NORTH, SOUTH, NORTH]


def test_jobs_of_before_and_of_the_version_before_are_those_of_one_site(store: JobStore, clock: Clock) -> None:
    put(store, "north", 3)
    clock.now += 1
    with store._write() as db:
        db.exec_driver_sql("UPDATE job SET site = NULL")
    put(store, "south", 3)
    assert Counter(site_of(store.claim("w")) for _ in range(4)) == {NORTH: 2, SOUTH: 2}


def random_queue(draw: random.Random, now: float) -> list[dict[str, object]]:
    """Rows in every state that matters to the queue; no series has two running."""
    rows, running = [], set()
    for number in range(1, 41):
        name = f"1.{draw.randrange(25)}"
        state = draw.choice(["queued"] * 8 + ["running", "done"])
        state = "queued" if state == "running" and name in running else state
        running |= {name} if state == "running" else set()
        created = now - draw.randrange(1, 6)
        row = {"study_uid": "1", "series_uid": name, "input_digest": str(number), "sop_instance_uids": "1.1"}
        row |= {"id": number, "revision": 0, "state": state, "claims": 0, "created_at": created}
        row |= {"rank": draw.choice([0, 0, 1]), "attempts": draw.choice([0, 0, 1, 2]), "updated_at": created + 3}
        row |= {"not_before": draw.choice([0.0, 0.0, now, now + 1]), "site": draw.choice([None, "a", "b", "c"])}
        row |= {"publish_after": draw.choice([0.0, now + 4, now + 60, now + 9999]), "lease_until": now + 9}
        row |= {"served": draw.choice([None, number]), "died": draw.choice([None] * 9 + [number + 20])}
        rows.append(row)
    return rows


def due(rows: list[sa.Row], now: float) -> int | None:
    """Whose turn it is, decided over all rows, in the words of protocols.Work.claim."""
    busy = {row.series_uid for row in rows if row.state == "running"}
    ready = [row for row in rows if row.state == "queued" and row.not_before <= now and row.series_uid not in busy]
    ready = [row for row in ready if row.publish_after <= now + 5 or row.publish_after > now + 3600]
    turn: Counter[str] = Counter()
    for row in rows:
        turn[row.site or ""] = max(turn[row.site or ""], row.served or 0, row.died or 0)
    ready = [row for row in ready if row.rank == max(other.rank for other in ready)]
    ready.sort(key=lambda row: (turn[row.site or ""], row.updated_at if row.attempts else row.created_at, row.id))
    return ready[0].id if ready else None


@pytest.mark.parametrize("seed", range(4))
def test_one_look_at_each_site_finds_what_a_look_at_all_jobs_finds(store: JobStore, clock: Clock, seed: int) -> None:
    with store._write() as db:
        db.execute(sa.insert(jobs), random_queue(random.Random(seed), clock.now))
    claimed = []
    while True:
        with store._read() as db:
            wanted = due(db.execute(sa.select(jobs)).all(), clock.now)
        job = store.claim("w")
        assert (job and job.id) == wanted
        if job is None:
            break
        claimed.append(job.id)
        clock.now += 0.25
        if len(claimed) % 2:
            store.give_back(job, "not now") if len(claimed) % 3 else store.fail(job, "no")
        if len(claimed) > 60:
            break
    assert len(claimed) > 10


def test_results_anew_are_those_of_the_same_site(store: JobStore) -> None:
    put(store, "north", 1)
    first = store.claim("w")
    assert first is not None
    store.publish(first, [], priority="ROUTINE")
    store.redo(first.id)
    assert store.queued_by_site() == {"north": 1}
