"""The server dies and its standby takes its place while everybody works: everything is done, and nothing twice."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ich_node.domain.errors import StoreError, Superseded
from ich_node.domain.ledger import Arrival, JobState, Owed, ResultInstance, Sent
from ich_node.store.ledger.jobs import JobStore
from tests.integration.test_postgresql import series
from tests.postgresql import Cluster, cluster, programs, url_of

JOBS, WORKERS, SENDERS = 120, 3, 2
LEASE_S = 3.0  # a claim whose commit nobody heard of is free again after


@pytest.fixture
def pair() -> Iterator[tuple[Cluster, Cluster]]:
    if programs() is None:
        pytest.skip("needs initdb (Debian package postgresql)")
    with cluster() as primary, primary.standby() as standby:
        yield primary, standby


class Everybody:
    """Receivers, workers and senders that begin again whenever the ledger is away, as a supervisor has them do."""

    def __init__(self, root: Path, url: str) -> None:
        self.root, self.url = root, url
        self.published: Counter[int] = Counter()
        self.sent: Counter[tuple[int, str]] = Counter()
        self.troubles = 0
        self._received = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        roles = [self.receive, *[self.work] * WORKERS, *[self.send] * SENDERS]
        self._threads = [threading.Thread(target=self._keep, args=(role, i)) for i, role in enumerate(roles)]

    def __enter__(self) -> Everybody:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def _keep(self, role: Callable[[JobStore, str], bool], number: int) -> None:
        store = None
        while not self._stop.is_set():
            try:
                store = store or JobStore.open(self.root, url=self.url, lease_s=LEASE_S)
                if not role(store, f"{role.__name__}-{number}"):
                    self._stop.wait(0.05)
            except StoreError:
                self.troubles += 1
                self._stop.wait(0.05)
        if store is not None:
            store.close()

    def receive(self, store: JobStore, _: str) -> bool:
        if self._received == JOBS:
            return False
        if not store.jobs_of_series(f"1.{self._received}"):  # a commit whose answer was lost may have been done
            store.enqueue(series(f"1.{self._received}"))
        self._received += 1
        return True

    def work(self, store: JobStore, name: str) -> bool:
        job = store.claim(name)
        if job is None:
            return False
        owed = [Owed(ResultInstance("1.1", f"{job.series_uid}.9", self.root / "x"), to) for to in ("a", "b")]
        try:
            store.publish(job, owed, priority="ROUTINE")
        except Superseded:
            return True
        with self._lock:
            self.published[job.id] += 1
        return True

    def send(self, store: JobStore, name: str) -> bool:
        to = "a" if name.endswith("4") else "b"
        if not store.take(f"deliver/{to}", name, LEASE_S):
            return False
        due = store.due(to, 5)
        with self._lock:
            self.sent.update((item.job_id, to) for item in due)
        store.sent_all([Sent(item, "0x0000", "") for item in due])
        return bool(due)


def test_a_standby_takes_over_and_nothing_is_lost_or_done_twice(tmp_path, pair, wait_for) -> None:
    primary, standby = pair
    url = url_of(pair, primary.url())
    with Everybody(tmp_path, url) as everybody:
        wait_for(lambda: len(everybody.published) > JOBS // 10, 100)
        primary.kill()
        time.sleep(0.5)
        standby.promote()
        standby.tell("ALTER SYSTEM RESET synchronous_standby_names")
        standby.tell("SELECT pg_reload_conf()")
        ledger = JobStore.open(tmp_path, url=url)
        wait_for(lambda: ledger.counts() == {JobState.DONE: JOBS}, 200, "every job")
    assert everybody.troubles > 0
    assert max(everybody.published.values()) == 1
    assert len(ledger.jobs(limit=10 * JOBS)) == JOBS
    twice = [item for item, times in everybody.sent.items() if times > 1]
    assert len(twice) <= 5 * SENDERS, "of each sender, the batch of whose answers the server took its word along"
    assert all(item.attempts == 1 for job in ledger.jobs(limit=JOBS) for item in ledger.deliveries(job.id))
    ledger.close()


def test_a_receiver_keeps_its_studies_over_a_fail_over(tmp_path, pair, wait_for) -> None:
    primary, standby = pair
    url = url_of(pair, primary.url())
    one, two = (JobStore.open(tmp_path, url=url) for _ in range(2))
    one.join("a/1")
    two.join("b/1")
    row = Arrival("a/1", 1, "1.2", "1.3", "CT", "10.0.0.1", True, 1.0, 2.0, None, False, {}, 1)
    assert one.report([row], {"1.2"}) == {"1.2"}
    primary.kill()
    with pytest.raises(StoreError):
        one.stay()
    standby.promote()
    standby.tell("ALTER SYSTEM RESET synchronous_standby_names")
    standby.tell("SELECT pg_reload_conf()")
    one.stay()
    assert one.assembled() == {"1.2"}
    assert two.acquire({"1.2"}) == set()
    assert one.enqueue(series("1.3")) is not None
    with pytest.raises(Superseded):
        two.enqueue(series("1.4"))
    one.close()
    two.close()
