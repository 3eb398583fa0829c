"""One deliverer per destination: who holds the lease works, nobody else does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ich_node.deliver import lease as lease_module
from ich_node.deliver.lease import Leased
from ich_node.domain.errors import StoreError
from ich_node.runtime.service import Stop
from ich_node.store.ledger.jobs import JobStore

LEASE_S, RENEW_S, MARGIN_S = 6.0, 0.1, 3.0  # a busy machine may take seconds to do what takes none


class Part:
    """Counts who is at work for one destination at the same time."""

    name = "deliver-pacs"

    def __init__(self, at_work: list[str], who: str) -> None:
        self.at_work, self.who = at_work, who
        self.most = 0
        self.interrupted = threading.Event()
        self.deaf = False
        self.last_sign_of_life = 0.0

    def run(self, stop: Stop) -> None:
        self.at_work.append(self.who)
        while not stop.is_set() and not self.interrupted.is_set():
            self.most = max(self.most, len(self.at_work))
            time.sleep(0.01)
        self.at_work.remove(self.who)

    def interrupt(self) -> None:
        self.interrupted.set()


class Role:
    """One deliver role with its part, in a thread."""

    def __init__(self, store: JobStore, at_work: list[str], who: str) -> None:
        self.part = Part(at_work, who)
        self.leases = Leases(store)
        self.leased = Leased(self.part, self.leases, who, lease_s=LEASE_S, renew_s=RENEW_S)
        self.stop = Stop()
        self.thread = threading.Thread(target=self.leased.run, args=(self.stop,), daemon=True)
        self.thread.start()

    def end(self) -> None:
        self.stop.set()
        self.thread.join(60)


class Leases:
    """A ledger that may be away for one role."""

    def __init__(self, store: JobStore) -> None:
        self.store = store
        self.away = self.defect = False
        self.taken = self.refused = 0

    def take(self, *arguments: object) -> bool:
        if self.defect:
            raise RuntimeError("a defect")
        if self.away:
            self.refused += 1
            raise StoreError("away")
        taken = self.store.take(*arguments)  # type: ignore[arg-type]
        self.taken += taken
        return taken

    def leave(self, *arguments: object) -> None:
        if self.away:
            raise StoreError("away")
        self.store.leave(*arguments)  # type: ignore[arg-type]


@pytest.fixture
def roles(
    tmp_path: Path, ledger_url: str | None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[list[str], Callable[[str], Role]]]:
    monkeypatch.setattr(lease_module, "MARGIN_S", MARGIN_S)
    at_work: list[str] = []
    made: list[Role] = []
    store = JobStore.open(tmp_path, url=ledger_url)

    def make(who: str) -> Role:
        made.append(Role(store, at_work, who))
        return made[-1]

    yield at_work, make
    for role in made:
        role.end()
    store.close()


def test_one_works_and_the_other_takes_over_when_it_stops(roles, wait_for) -> None:
    at_work, make = roles
    first = make("first")
    wait_for(lambda: at_work == ["first"])
    second = make("second")
    time.sleep(5 * RENEW_S)
    assert at_work == ["first"]
    first.end()
    wait_for(lambda: at_work == ["second"])
    assert (first.part.most, second.part.most) == (1, 1)


def test_a_part_that_has_just_taken_over_has_not_been_silent_since_its_last_turn(roles, wait_for) -> None:
    at_work, make = roles
    began = time.monotonic()
    role = make("first")
    wait_for(lambda: at_work == ["first"])
    assert role.part.last_sign_of_life < began <= role.leased.last_sign_of_life


def test_who_cannot_renew_its_lease_stops_before_another_begins(roles, wait_for) -> None:
    at_work, make = roles
    first = make("first")
    wait_for(lambda: at_work == ["first"])
    second = make("second")
    first.leases.away = True
    wait_for(lambda: at_work == ["second"])
    assert first.part.interrupted.is_set()
    assert (first.part.most, second.part.most) == (1, 1)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_who_cannot_renew_its_lease_for_a_defect_stops_as_well(roles, wait_for) -> None:
    at_work, make = roles
    first = make("first")
    wait_for(lambda: at_work == ["first"])
    first.leases.defect = True
    wait_for(lambda: first.part.interrupted.is_set() and not at_work)


def test_a_ledger_that_is_away_for_a_moment_stops_nobody(roles, wait_for) -> None:
    at_work, make = roles
    first = make("first")
    wait_for(lambda: at_work == ["first"])
    first.leases.away = True
    wait_for(lambda: first.leases.refused)
    first.leases.away = False
    renewed = first.leases.taken
    wait_for(lambda: first.leases.taken > renewed + 2)
    assert at_work == ["first"]
    assert not first.part.interrupted.is_set()


def test_a_lease_is_over_by_the_ledgers_clock_and_one_of_the_future_counts_for_nothing(tmp_path, ledger_url) -> None:
    now = 1000.0
    store = JobStore.open(tmp_path, clock=lambda: now, url=ledger_url)
    assert store.take("x", "a", 10)
    assert not store.take("x", "b", 10)
    assert store.holders("x") == {"a"}
    now = 1009.0
    assert store.take("x", "a", 10)
    now = 1015.0
    assert not store.take("x", "b", 10)
    now = 1020.0
    assert store.holders("x") == set()
    assert store.take("x", "a", 10)  # nobody has taken it
    now = 500.0  # the clock was put back
    assert store.take("x", "b", 10)
    store.leave("x", "a")
    assert store.holders("x") == {"b"}
    store.leave("x", "b")
    assert store.holders("x") == set()
    store.close()
