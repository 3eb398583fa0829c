"""The ledger on a server: several machines at once, a server that goes away, and nothing done twice."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import sqlalchemy as sa

from ich_node.domain.dicom import Instance, Series
from ich_node.domain.errors import StoreError
from ich_node.domain.ledger import JobState, Owed, ResultInstance, Sent
from ich_node.store.ledger import postgresql
from ich_node.store.ledger.jobs import JobStore
from tests.postgresql import Cluster, cluster

ROLES = "ich_node.receive.role", "ich_node.infer.worker", "ich_node.deliver.role", "ich_node.board.role"


def series(name: str, images: int = 2) -> Series:
    return Series(
        "1.2", name, tuple(Instance("1.2", name, "1.1", f"{name}.{i}", "1.2.840", Path("x")) for i in range(images))
    )


@pytest.fixture
def url(postgresql_cluster: Cluster) -> str:
    return postgresql_cluster.url()


@pytest.fixture
def machines(tmp_path: Path, url: str) -> Iterator[list[JobStore]]:
    """The same ledger as four machines have it open."""
    opened = [JobStore.open(tmp_path, url=url) for _ in range(4)]
    yield opened
    for store in opened:
        store.close()


def in_parallel(function, *columns):
    with ThreadPoolExecutor(len(columns[0])) as pool:
        return list(pool.map(function, *columns))


def test_several_machines_that_start_together_make_one_schema(tmp_path, url):
    stores = in_parallel(lambda _: JobStore.open(tmp_path, url=url), range(4))
    assert [store.counts() for store in stores] == [{}] * 4
    for store in stores:
        store.close()


def test_every_job_goes_to_one_worker_and_no_series_to_two(machines):
    for number in range(40):
        machines[0].enqueue(series(f"1.{number % 10}", images=2), anew=True)
    running: set[str] = set()
    lock = threading.Lock()

    def work(store: JobStore) -> list[int]:
        done = []
        while (claimed := store.claim("w")) is not None:
            with lock:
                assert claimed.series_uid not in running
                running.add(claimed.series_uid)
            done.append(claimed.id)
            with lock:
                running.remove(claimed.series_uid)
            store.fail(claimed, "done")
        return done

    claimed = [job_id for found in in_parallel(work, machines) for job_id in found]
    left = machines[0].counts().get("queued", 0)  # a worker that found every series taken went home early
    assert len(claimed) == len(set(claimed))
    assert len(claimed) + left + machines[0].counts().get("ineligible", 0) == 40


def test_the_same_images_at_two_receivers_are_one_job(machines):
    for number in range(20):
        made = in_parallel(lambda store, uid=f"1.{number}": store.enqueue(series(uid)), machines)
        assert sum(job is not None for job in made) == 1
    assert machines[0].counts() == {"queued": 20}


def test_a_part_and_the_whole_at_two_receivers_leave_one_job(machines):
    for number in range(20):
        uid = f"1.{number}"
        in_parallel(lambda store, images, uid=uid: store.enqueue(series(uid, images)), machines[:2], (2, 3))
        states = sorted(job.state for job in machines[0].jobs_of_series(uid) if len(job.sop_instance_uids) == 3)
        assert states == [JobState.QUEUED]
    # the part that came second is analysed after the whole, as a part of it: never instead of it
    assert all(len(job.sop_instance_uids) == 2 for job in machines[0].jobs(JobState.INELIGIBLE))


def test_a_job_is_done_when_its_last_answers_come_at_the_same_moment_from_two_machines(machines, tmp_path):
    for number in range(20):
        machines[0].enqueue(series(f"1.{number}"))
        job = machines[0].claim("w")
        owed = [
            Owed(ResultInstance("1.1", f"9.{number}.{to}", tmp_path / "results" / str(job.id) / f"{to}.dcm"), to)
            for to in ("a", "b", "c", "d")
        ]
        machines[0].publish(job, owed, priority="STAT")

        def answer(store: JobStore, destination: str) -> None:
            store.sent_all([Sent(item, "0x0000", None) for item in store.due(destination)])

        in_parallel(answer, machines, "abcd")
        assert machines[0].job(job.id).state is JobState.DONE


def test_a_bell_wakes_another_machine(machines):
    with machines[1].bells.queue.listen() as ear:
        assert not ear.wait(0)
        machines[0].enqueue(series("1.1"))
        assert ear.wait(60)
        assert not ear.wait(0)


def test_a_server_that_is_restarted_loses_nothing_and_the_same_ledger_goes_on(tmp_path):
    with cluster() as server:
        store = JobStore.open(tmp_path, url=server.url())
        store.enqueue(series("1.1"))
        claimed = store.claim("w")
        with store.bells.queue.listen() as ear:
            server.control("-m", "immediate", "stop")
            with pytest.raises(StoreError):
                store.renew(claimed)
            assert ear.wait(60), "a bell that is gone sends its listener to look for itself"
            server.start()
            assert store.renew(claimed)
            assert store.claim("w") is None
            ear.wait(0)  # listens again
            store.enqueue(series("1.2"))
            assert ear.wait(60)
        store.publish(claimed, [], priority=None, refusal="why")
        assert store.counts() == {"done": 1, "queued": 1}
        store.close()


def test_a_server_that_is_away_is_asked_for_the_time_seldom():
    asked = []

    class Engine:
        """Answers once, then it is away."""

        def connect(self):
            asked.append(1)
            if len(asked) > 1:
                raise sa.exc.OperationalError("connect", None, Exception("timeout expired"))
            return nullcontext(SimpleNamespace(execute=lambda _: SimpleNamespace(scalar_one=lambda: time.time() + 500)))

    clock = postgresql.ServerClock(Engine())
    assert clock() - time.time() == pytest.approx(500, abs=60)
    clock._next_s = 0.0
    times = [clock() - time.time() for _ in range(100)]
    assert times == [pytest.approx(500, abs=60)] * 100
    assert len(asked) == 2


def test_results_come_back_from_their_files_and_their_ids_are_not_given_again(tmp_path, url):
    folder = tmp_path / "results" / "41"
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(
        '{"study_instance_uid": "1.2", "series_instance_uid": "1.3", "sop_instance_uids": ["1.4"], "objects": [],'
        ' "priority": "STAT", "reason": null}'
    )
    store = JobStore.open(tmp_path, url=url)
    assert store.job(41).priority == "STAT"
    assert store.enqueue(series("1.9")).id == 42
    store.close()


def test_a_server_that_is_not_there_is_a_clear_error_without_the_password(tmp_path):
    with pytest.raises(StoreError, match="database: ") as error:
        JobStore.open(tmp_path, url="postgresql://ich:secret@127.0.0.1:1/none")
    assert "secret" not in str(error.value)


def test_with_sqlite_no_role_imports_the_driver():
    imports = "; ".join(f"import {role}" for role in ROLES)
    code = f"import sys; {imports}; sys.exit('psycopg' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
