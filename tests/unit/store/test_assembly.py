"""Which of several receivers assembles a study, over both engines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

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
