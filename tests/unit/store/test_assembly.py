"""Which of several receivers assembles a study, over both engines."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

from ich_node.domain.ledger import Arrival
from ich_node.store.ledger.assembly import RECEIVING_S
from ich_node.store.ledger.jobs import JobStore


@pytest.fixture
def now() -> list[float]:
    return [1000.0]


@pytest.fixture
def receiver(tmp_path: Path, ledger_url: str | None, now: list[float]) -> Iterator[Callable[[str], JobStore]]:
    """receiver(name): the same ledger as one more receiver has it open."""
    opened: list[JobStore] = []

    def join(name: str) -> JobStore:
        store = JobStore.open(tmp_path, url=ledger_url, clock=lambda: now[0])
        opened.append(store)
        store.join(name)
        return store

    yield join
    for store in opened:
        store.close()


def test_a_study_of_a_dead_receiver_is_taken_over_while_living_ones_assemble_others(receiver, now):
    dead, living, third = receiver("r1"), receiver("r2"), receiver("r3")
    assert dead.acquire({"1.1", "1.2"}) == {"1.1", "1.2"}
    assert living.acquire({"2.1"}) == {"2.1"}
    now[0] += RECEIVING_S + 1
    living.stay()
    third.stay()
    assert living.orphans() == {"1.1", "1.2"}
    assert living.acquire({"1.1", "1.2"}) == {"1.1", "1.2"}
    assert living.orphans() == set()
    assert third.acquire({"1.1", "2.1"}) == set()


def test_a_study_of_a_living_receiver_stays_with_it(receiver):
    first, second = receiver("r1"), receiver("r2")
    assert first.acquire({"1.1"}) == {"1.1"}
    assert second.acquire({"1.1", "1.2"}) == {"1.2"}
    assert first.assembled() == {"1.1"}


# --- a receiver has done with a study while another one gets more of it


class Pause:
    """Stops a store after the first statement that begins so, its transaction open, until `go` is set."""

    def __init__(self, store: JobStore, statement: str) -> None:
        self.reached, self.go = threading.Event(), threading.Event()
        self._statement = statement
        sa.event.listen(store._engine, "after_cursor_execute", self._look)

    def _look(self, _db, _cursor, statement, *_) -> None:
        if statement.startswith(self._statement) and not self.reached.is_set():
            self.reached.set()
            assert self.go.wait(60)


def waits(store: JobStore) -> bool:
    """Whether a transaction of this database waits for the lock of another one."""
    with store._read() as db:
        waiting = "SELECT datname FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        return db.exec_driver_sql(waiting).first() is not None


@pytest.fixture
def two(tmp_path: Path, postgresql_cluster, now: list[float]) -> Iterator[tuple[JobStore, JobStore]]:
    """Two receivers; the first assembles study 1.1 and has got all of it."""
    url = postgresql_cluster.url()
    first, second = (JobStore.open(tmp_path, url=url, clock=lambda: now[0]) for _ in range(2))
    for name, store in (("r1", first), ("r2", second)):
        store.join(name)
    first.report([image("r1")], {"1.1"})
    yield first, second
    first.close()
    second.close()


def image(receiver: str) -> Arrival:
    return Arrival(receiver, 1, "1.1", "1.1.1", "CT", "10.0.0.1", True, 1000.0, 1000.0, None, False, {}, 1)


def test_what_comes_while_a_receiver_has_done_with_its_study_is_assembled_by_who_got_it(two, wait_for):
    first, second = two
    pause = Pause(first, "SELECT assembly")
    with ThreadPoolExecutor() as pool:
        settling = pool.submit(first.settle, {"1.1"}, {})
        assert pause.reached.wait(60)
        reporting = pool.submit(second.report, [image("r2")], {"1.1"})
        wait_for(lambda: waits(first), 60, "the second receiver waits")
        pause.go.set()
        assert settling.result() == {"1.1"}
        assert reporting.result() == {"1.1"}
    assert second.assembled() == {"1.1"}
    assert [row.receiver for row in second.arrivals({"1.1"})] == ["r2"]


def test_a_receiver_has_not_done_with_a_study_of_which_more_is_just_coming(two, wait_for):
    first, second = two
    pause = Pause(second, "INSERT INTO assembly")
    with ThreadPoolExecutor() as pool:
        reporting = pool.submit(second.report, [image("r2")], {"1.1"})
        assert pause.reached.wait(60)
        settling = pool.submit(first.settle, {"1.1"}, {})
        wait_for(lambda: waits(first), 60, "the first receiver waits")
        pause.go.set()
        assert reporting.result() == set()
        assert settling.result() == set()
    assert first.assembled() == {"1.1"}
    assert [row.receiver for row in first.news({})] == ["r2"]
