"""Where an instance lies is known from an index: folders are listed when they have changed, not when somebody asks."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ich_node.receive.catalogue import Catalogue
from ich_node.store.ledger.jobs import JobStore
from ich_node.store.spool import Spool
from tests.datasets import CT, EXPLICIT

FOREVER = 1e12


@pytest.fixture
def index(tmp_path: Path) -> Iterator[JobStore]:
    made = JobStore.open(tmp_path)
    yield made
    made.close()


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path, 1)


def put(spool: Spool, series: str, uid: str, data: bytes = b"1", aside: bool = False, age_s: float = 60.0) -> Path:
    path = spool.put(
        series_uid=series,
        sop_instance_uid=uid,
        sop_class_uid=CT,
        transfer_syntax_uid=EXPLICIT,
        parts=[data],
        aside=aside,
    )
    os.utime(path.parent, (time.time() - age_s, time.time() - age_s))
    return path


class Listed(Catalogue):
    """Which folders were listed."""

    def __init__(self, spool: Spool, index: JobStore) -> None:
        super().__init__(spool, index)
        self.folders: list[str] = []
        real = spool.uids_at
        spool.uids_at = lambda place: (self.folders.append(place[1]), real(place))[1]  # type: ignore[method-assign]
        self._pause_over()

    def _pause_over(self) -> None:
        self._next_s = 0.0

    def look(self, since: float = FOREVER) -> bool:
        self._pause_over()
        return super().look(since)


def test_what_lay_there_before_a_restart_is_found_all_copies_of_it(spool: Spool, index: JobStore) -> None:
    first, second = put(spool, "1.1", "1.1.1"), put(spool, "1.1", "1.1.1", b"2")
    aside = put(spool, "1.2", "1.1.1", aside=True)
    catalogue = Catalogue(Spool(spool.incoming.parent, 1), index)
    assert catalogue.find(["1.1.1", "9.9"]) == {}
    assert catalogue.look(since=time.time() - 1)
    assert {uid: sorted(paths) for uid, paths in catalogue.find(["1.1.1", "9.9"]).items()} == {
        "1.1.1": sorted([first, second, aside])
    }


def test_a_folder_is_listed_once_and_again_only_when_it_has_changed(spool: Spool, index: JobStore) -> None:
    put(spool, "1.1", "1.1.1")
    put(spool, "1.2", "1.2.1")
    catalogue = Listed(spool, index)
    for _ in range(3):
        catalogue.look()
    assert sorted(catalogue.folders) == ["1.1", "1.2"]
    later = put(spool, "1.2", "1.2.2", age_s=30.0)
    catalogue.look()
    assert sorted(catalogue.folders) == ["1.1", "1.2", "1.2"]
    assert catalogue.find(["1.2.2"]) == {"1.2.2": [later]}


def test_a_folder_that_may_still_be_written_is_listed_again(spool: Spool, index: JobStore) -> None:
    put(spool, "1.1", "1.1.1", age_s=0.0)
    catalogue = Listed(spool, index)
    catalogue.look()
    catalogue.look()
    assert catalogue.folders == ["1.1", "1.1"]


def test_what_retention_has_removed_is_not_found_and_leaves_the_index(spool: Spool, index: JobStore) -> None:
    path = put(spool, "1.1", "1.1.1")
    catalogue = Listed(spool, index)
    catalogue.look()
    shutil.rmtree(path.parent)
    assert catalogue.find(["1.1.1"]) == {}
    catalogue.look()
    assert (index.listed(), index.places_of(["1.1.1"])) == ({}, {})


def test_who_asks_again_and_again_for_what_is_not_there_waits(spool: Spool, index: JobStore) -> None:
    for number in range(200):
        put(spool, f"1.{number}", f"1.{number}.1")
    catalogue = Catalogue(spool, index)
    asked = time.time() - 1
    assert catalogue.look(since=asked)
    assert catalogue.look(since=asked), "what it has seen since then it need not see again"
    assert not catalogue.look(since=time.time() + 1), "and what came later has to wait"


def test_more_instances_than_are_asked_for_in_one_statement(spool: Spool, index: JobStore) -> None:
    uids = [f"1.1.{number}" for number in range(1201)]
    index.list_folders({("incoming", "1.1"): (1, uids)})
    assert index.places_of([*uids, "9.9"]) == {uid: [("incoming", "1.1")] for uid in uids}
