"""Fixtures that every test may use."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, settings

from tests import postgresql

ROOT = Path(__file__).resolve().parent.parent

PATIENT = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
settings.register_profile("any machine", deadline=None, suppress_health_check=PATIENT)
settings.load_profile("any machine")


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    """A test that runs a command sets up the logs for it; the next test must not write to its closed stderr."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real head CT data beside the checkout; a test that needs it skips where it is not there."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs ../shared/data, which is not beside this checkout")
    return folder


@pytest.fixture(scope="session")
def shared_interop() -> Path:
    """Scripts around real peers beside the checkout; a test that needs them skips where they are not there."""
    folder = ROOT.parent / "shared" / "interop"
    if not folder.is_dir():
        pytest.skip("needs ../shared/interop, which is not beside this checkout")
    return folder


@pytest.fixture
def wait_for() -> Callable[..., None]:
    """wait_for(condition, timeout_s=60): return as soon as condition() is true, fail the test when it never is."""

    def wait(condition: Callable[[], object], timeout_s: float = 60, what: str = "condition") -> None:
        end = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > end:
                pytest.fail(f"{what} did not come true within {timeout_s} s")
            time.sleep(0.01)

    return wait


@pytest.fixture(scope="session")
def postgresql_cluster() -> Iterator[postgresql.Cluster]:
    """A PostgreSQL server of the tests' own."""
    if postgresql.programs() is None:
        missing = "needs initdb (Debian package postgresql)"
        pytest.fail(missing) if os.environ.get("ICH_NODE_REQUIRE_INTEROP") else pytest.skip(missing)
    with postgresql.cluster() as cluster:
        yield cluster


@pytest.fixture(params=["SQLite", "PostgreSQL"])
def ledger_url(request: pytest.FixtureRequest) -> str | None:
    """Where the ledger is, for JobStore.open(…, url=…): a test that asks for it runs over both engines."""
    if request.param == "SQLite":
        return None
    cluster: postgresql.Cluster = request.getfixturevalue("postgresql_cluster")
    return cluster.url()
