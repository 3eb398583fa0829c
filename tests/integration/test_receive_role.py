"""The receive role as systemd sees it: ready, watched, stopped in order; and the way from a sender to a queued job."""

from __future__ import annotations

import os
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from raw_scu import ASSOCIATE_AC, ASSOCIATE_RJ, ENHANCED_SR, EXPLICIT, RawScu, associate_rq, dataset
from receive_bench import eventually

from ich_node.domain.errors import IchNodeError
from ich_node.phantom.series import build_series
from ich_node.receive import role
from ich_node.runtime import counters
from ich_node.runtime.config import Config, ReceiveConfig, StoreConfig
from ich_node.runtime.service import Stop
from ich_node.store.ledger.jobs import JobStore
from tests.datasets import encoded
from tests.ports import free_port
from tests.scrape import Scrape, scrape


class Role:
    """The role in a thread of this process."""

    def __init__(self, root: Path) -> None:
        self.port = free_port()
        receive = ReceiveConfig(port=self.port, grace_s=0.3, quiet_period_s=2)
        self.config = Config(receive=receive, store=StoreConfig(state_dir=root, min_free_gb=1e-9))
        self.stop = Stop()
        self.failure: BaseException | None = None
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            role.run(self.config, self.stop)
        except IchNodeError as error:
            self.failure = error

    def start(self) -> None:
        self.thread.start()
        assert eventually(self.listens)

    def listens(self) -> bool:
        try:
            RawScu(self.port).socket.close()
        except OSError:
            return False
        return True

    def states(self) -> list[str]:
        store = JobStore.open(self.config.state_dir)
        try:
            return sorted(str(job.state) for job in store.jobs())
        finally:
            store.close()


@pytest.fixture
def make_role(tmp_path: Path) -> Iterator[Callable[[], Role]]:
    made: list[Role] = []

    def make() -> Role:
        made.append(Role(tmp_path))
        return made[-1]

    yield make
    for one in made:
        one.stop.set()
        if one.thread.ident:
            one.thread.join(60)


def send_head(port: int) -> None:
    volume = SimpleNamespace(hu=np.zeros((32, 48, 48), np.int16), spacing_mm=(5.0, 4.8, 4.8))
    with RawScu(port) as scu:
        assert scu.associate(associate_rq())[0] == ASSOCIATE_AC
        for ds in build_series(volume):  # type: ignore[arg-type]
            assert scu.store(str(ds.SOPInstanceUID).encode(), encoded(ds)) == 0
        scu.release()


def test_a_head_ct_becomes_a_job_soon_after_its_release(make_role: Callable[[], Role]) -> None:
    running = make_role()
    running.start()
    send_head(running.port)
    assert eventually(lambda: running.states() == ["queued"])


def test_what_was_received_before_a_restart_becomes_a_job_after_it(make_role: Callable[[], Role]) -> None:
    first = make_role()
    first.start()
    send_head(first.port)
    first.stop.set()
    first.thread.join(60)
    (first.config.state_dir / "node.db").unlink()
    second = make_role()
    second.start()
    assert eventually(lambda: second.states() == ["queued"])


def scraped(config: Config) -> Scrape:
    store = JobStore.open(config.state_dir)
    try:
        return scrape(config, store)
    finally:
        store.close()


def test_a_scrape_of_the_board_tells_what_the_receiver_has_done(
    make_role: Callable[[], Role], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counters, "_current", counters.Counters())
    monkeypatch.setattr(counters, "SAVE_EVERY_S", 0.1)
    running = make_role()
    running.start()
    send_head(running.port)
    report = dataset(b"1.2.3.4", sop_class=ENHANCED_SR)
    with RawScu(running.port) as scu:
        scu.associate(associate_rq([(ENHANCED_SR, (EXPLICIT,))]))
        assert scu.store(b"1.2.3.4", report, sop_class=ENHANCED_SR) == 0
        assert scu.store(b"1.2.3.5", report, sop_class=ENHANCED_SR) == 0xA900
    with RawScu(running.port) as scu:
        assert scu.associate(associate_rq(called=b"NOBODY"))[0] == ASSOCIATE_RJ
    assert eventually(lambda: running.states() == ["queued"])
    assert eventually(lambda: scraped(running.config).get(("associations_aborted_total",)) == 1)
    assert eventually(lambda: scraped(running.config).get(("series_wait_seconds_count", "stack")) == 1)
    told = scraped(running.config)
    assert told["associations_accepted_total",] == 2
    assert told["associations_released_total",] == 1
    assert told["associations_rejected_total", "called AE title not recognised"] == 1
    assert told["connections_refused_total",] == 1
    assert told["instances_received_total", "image"] == 32
    assert told["instances_received_total", "set aside"] == 1
    assert told["received_bytes_total", "set aside"] == len(report)
    assert told["received_bytes_total", "image"] > 32 * 2 * 48 * 48
    assert told["instances_refused_total", "0xA900"] == 1
    assert (running.config.state_dir / "receive.json").stat().st_mode & 0o777 == 0o640


def test_systemd_learns_of_readiness_life_and_the_end(
    make_role: Callable[[], Role], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(60)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "600000")
        running = make_role()
        running.start()
        assert b"READY=1" in systemd.recv(4096)
        assert b"WATCHDOG=1" in systemd.recv(4096)
        running.stop.set()
        said = b""
        while b"STOPPING=1" not in said:
            said = systemd.recv(4096)
    running.thread.join(60)
    assert running.failure is None


def test_a_port_that_is_taken_is_a_plain_failure(make_role: Callable[[], Role]) -> None:
    running = make_role()
    with socket.create_server(("127.0.0.1", running.port)):
        running.thread.start()
        running.thread.join(60)
    assert "cannot listen" in str(running.failure)


def test_a_locked_database_refuses_no_image(make_role: Callable[[], Role]) -> None:
    running = make_role()
    running.start()
    with sqlite3.connect(running.config.state_dir / "node.db", isolation_level=None) as db:
        db.execute("BEGIN EXCLUSIVE")
        send_head(running.port)
        assert running.thread.is_alive()
        db.execute("ROLLBACK")
    db.close()
    assert eventually(lambda: running.states() == ["queued"])


def test_the_role_leaves_no_file_open_to_others(make_role: Callable[[], Role]) -> None:
    running = make_role()
    running.start()
    send_head(running.port)
    modes = {
        path.stat().st_mode & 0o777
        for path in (running.config.state_dir / "incoming").rglob("*")
        if path.is_file() and not path.is_symlink()
    }
    assert modes == {0o640}
    assert os.stat(running.config.state_dir / "incoming").st_mode & 0o777 == 0o750  # noqa: PTH116
