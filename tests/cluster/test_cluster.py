"""A cluster of hosts under faults; the long form is `make cluster`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest

from ich_node.domain.errors import StoreError
from ich_node.store.ledger.jobs import JobStore
from tests.cluster import faults
from tests.cluster.network import Network, lacks
from tests.cluster.servers import Pair
from tests.crash.faults import scratch
from tests.interop.conftest import require
from tests.postgresql import programs
from tests.triton_server import SERVER

SEED = 7
pytestmark = [pytest.mark.crash, pytest.mark.interop, pytest.mark.timeout(600)]


@pytest.fixture(autouse=True)
def _able() -> None:
    missing = lacks() or ("" if programs() else "initdb (Debian package postgresql)")
    if missing:
        skip = pytest.skip if missing in ("root", "network namespaces") else _missing
        skip(f"needs {missing}")


def _missing(what: str) -> None:
    pytest.fail(what) if os.environ.get("ICH_NODE_REQUIRE_INTEROP") else pytest.skip(what)


@pytest.fixture
def pair() -> Iterator[tuple[Network, Pair]]:
    folder = scratch("pair")
    folder.chmod(0o755)  # PostgreSQL's account goes through it, as it could not through pytest's own
    with Network(["node", "db1", "db2"]) as network:
        databases = Pair(network, ("db1", "db2"), folder)
        databases.start()
        yield network, databases
        databases.stop()
    shutil.rmtree(folder)


def test_a_server_that_vanishes_without_a_word_is_given_up_and_the_other_one_is_used(tmp_path, pair):
    network, databases = pair
    with network.thread_inside("node"):
        store = JobStore.open(tmp_path, url=databases.url)
        assert store.counts() == {}
        network.cut(databases.primary.host)  # no farewell: by TCP's own patience this takes a quarter of an hour
        with pytest.raises(StoreError):
            store.counts()
        databases.fail_over()
        assert store.counts() == {}
        store.close()


def test_a_cluster_under_faults_loses_and_doubles_nothing():
    if not SERVER.exists():
        _missing("needs a tritonserver: tests/interop/tritonserver/install.sh")
    require("storescu", "Orthanc")
    folder = scratch("cluster")
    found = faults.run(folder, 6, SEED, longest_pause_s=1)
    assert found.broken == []
    assert found.series > 0
    assert all(verdict.owed > 0 for verdict in found.verdicts.values())
    assert sum(found.counts.values()) == 6
    shutil.rmtree(folder)
