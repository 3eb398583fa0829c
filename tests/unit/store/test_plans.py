"""Nothing that a role asks of the ledger again and again reads what is merely kept: every statement goes by an index.

The plans are asked of SQLite itself, for the statements that the views really send, on a ledger without statistics.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from ich_node.domain.dicom import Instance, Series
from ich_node.domain.ledger import Owed, ResultInstance, Sent
from ich_node.store.layout import StateDir
from ich_node.store.ledger import database, turns
from ich_node.store.ledger.jobs import JobStore
from ich_node.store.ledger.protocols import Bells


class Plans:
    """The plan of every statement that goes through an engine, by its SQL."""

    def __init__(self, engine: sa.Engine) -> None:
        self.seen: dict[str, list[str]] = {}
        self._engine = engine
        sa.event.listen(engine, "before_cursor_execute", self._explain)

    def _explain(self, _db, cursor, statement, parameters, _context, many) -> None:
        if statement.split()[0] in ("SELECT", "UPDATE", "DELETE", "INSERT", "WITH") and statement not in self.seen:
            cursor.execute(f"EXPLAIN QUERY PLAN {statement}", parameters[0] if many else parameters)
            self.seen[statement] = [row[3] for row in cursor.fetchall()]

    def scans(self) -> dict[str, list[str]]:
        """Statements that read a whole table, or sort what an index could have given in order."""
        bad = {sql: [step for step in plan if _is_bad(step)] for sql, plan in self.seen.items()}
        return {sql: steps for sql, steps in bad.items() if steps}


def _is_bad(step: str) -> bool:
    if step.startswith("SCAN"):
        return step not in ("SCAN CONSTANT ROW", "SCAN top", "SCAN line")  # one row for each site that waits
    return step.startswith("USE TEMP B-TREE") or "AUTOMATIC" in step


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    engine = database.open_database(tmp_path)
    yield engine
    engine.dispose()


@pytest.fixture
def plans(engine: sa.Engine) -> Plans:
    return Plans(engine)


@pytest.fixture
def store(engine: sa.Engine, tmp_path: Path) -> JobStore:
    state = StateDir(tmp_path)
    return JobStore(engine, state, lambda: 1000.0, 30.0, Bells(state.queue_bell, state.owed_bell))


def series(name: str, slices: int = 3) -> Series:
    return Series(
        "1.2", name, tuple(Instance("1.2", name, "1.1", f"{name}.{n}", "1.2.840", Path("x")) for n in range(slices))
    )


def results(state_dir: Path, job_id: int) -> list[Owed]:
    return [Owed(ResultInstance("1.1", f"9.{job_id}.{n}", state_dir / f"{n}.dcm"), "pacs") for n in range(3)]


def test_receiving_goes_by_indexes(store, plans):
    store.enqueue(series("1.1"))
    store.enqueue(series("1.1", slices=4))
    store.enqueue(series("1.1", slices=4), anew=True)
    store.set_ineligible(series("1.2"), "bone kernel")
    store.known_of([("1.1", "a"), ("1.2", "b")])
    store.jobs_of_study("1.2")
    store.images_of(["1.1", "1.2"])
    store.hold(1, 2000.0)
    store.let_go(1)
    assert plans.seen
    assert plans.scans() == {}


def test_asking_for_instances_goes_by_indexes(store, plans):
    store.list_folders({("incoming", "1.1"): (1, ["1.1.1", "1.1.2"])})
    store.list_folders({("incoming", "1.1"): (2, ["1.1.1", "1.1.2", "1.1.3"])})
    assert store.places_of(["1.1.3"]) == {"1.1.3": [("incoming", "1.1")]}
    store.unlist([("incoming", "1.1")])
    assert store.places_of(["1.1.3"]) == {}
    assert plans.scans() == {}


def test_working_goes_by_indexes(store, plans, tmp_path):
    for name in ("1.1", "1.2", "1.3", "1.4"):
        store.enqueue(series(name))
    store.give_back(store.claim("w"), "no space")
    store.retry_later(store.claim("w"), "engine failed", 0.0)
    store.fail(store.claim("w"), "three attempts")
    job = store.claim("w")
    store.renew(job)
    store.publish(job, results(tmp_path, job.id), priority="STAT")
    store.recover("w")
    assert plans.scans() == {}


def test_delivering_goes_by_indexes(store, plans, tmp_path):
    store.enqueue(series("1.1"))
    job = store.claim("w")
    store.publish(job, results(tmp_path, job.id), priority="STAT")
    first, second, third = store.due("pacs")
    store.postpone(first, "0xA700", "no room", 0.0)
    store.sent_all([Sent(first, "0x0000"), Sent(second, "0x0000")])
    store.refused(third, "0xC000", "cannot understand")
    store.hurried_at("pacs")
    store.asked_commitment(store.uncommitted("pacs", asked_before=0.0, created_after=0.0), "2.25.1")
    kept, lost = store.of_transaction("2.25.1")
    store.committed(kept)
    store.lost(lost, "no such object instance")
    assert plans.scans() == {}


@pytest.mark.parametrize("analysed", [False, True])
def test_whose_turn_it_is_reads_no_more_of_a_long_queue_on_a_server_either(tmp_path, postgresql_cluster, analysed):
    """Also before the server has counted anything, as right after a night's backlog."""
    store = JobStore.open(tmp_path, url=postgresql_cluster.url())
    waiting = """INSERT INTO job (study_uid, series_uid, input_digest, sop_instance_uids, revision, state, rank,
            attempts, claims, not_before, publish_after, site, created_at, updated_at)
        SELECT '1', '1.' || n, n, '1', 0, 'queued', 0, 0, 0, 0, 0, 'site' || n % 5, n, n
        FROM generate_series(1, 5000) n"""
    known = {"now": 9999.0, "lease_s": 30.0, "below": 9, "rank": 0, "site": "site1", "tried": [0]}
    with store._write() as db:
        db.execute(sa.text(waiting))
    if analysed:
        with store._read() as db:
            db.exec_driver_sql("ANALYZE job")
    for statement in (turns.HEADS, turns.FREE_OF_SITE):
        values = {name: value for name, value in known.items() if f":{name}" in statement.text}
        explain = sa.text(f"EXPLAIN {statement.text}").bindparams(
            *([sa.bindparam("tried", expanding=True)] if "tried" in values else [])
        )
        with store._read() as db:
            plan = "\n".join(db.execute(explain, values).scalars())
        assert "job_in_line" in plan
        assert "Seq Scan" not in plan
        assert "Sort" not in plan
        assert "JIT" not in plan
    store.close()
