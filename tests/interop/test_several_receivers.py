"""Two receivers as two machines run them, DCMTK in front: one series, one job, also when one of them is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from ich_node.store.ledger.jobs import JobStore
from tests.crash.scanner import Patients
from tests.crash.supervised import Supervised
from tests.interop.conftest import require
from tests.ports import free_ports
from tests.postgresql import Cluster

QUIET_S = 4.0
WITHIN_S = 90.0


class Site:
    """Receivers on one state directory and one ledger, each under a host name of its own."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url
        self.ports = dict(zip("ab", free_ports(2), strict=True))
        self.receivers = {host: Supervised(host, self.command(host), folder, self.environment(host)) for host in "ab"}
        self.ledger = JobStore.open(folder / "state", url=url)

    def command(self, host: str) -> list[str]:
        config = self.folder / f"{host}.yaml"
        receive = {"port": self.ports[host], "quiet_period_s": QUIET_S, "idle_timeout_s": 10}
        store = {"state_dir": str(self.folder / "state"), "database": self.url, "shared": True, "min_free_gb": 0.01}
        config.write_text(yaml.safe_dump({"receive": receive, "store": store}))
        return [sys.executable, "-m", "ich_node", "receive", "--config", str(config)]

    def environment(self, host: str) -> dict[str, str]:
        return {**os.environ, "ICH_NODE_HOST": host}

    def send(self, host: str, files: list[Path]) -> subprocess.Popen[bytes]:
        to = ["-aec", "ICHNODE", "127.0.0.1", str(self.ports[host])]
        return subprocess.Popen(
            ["storescu", *to, *map(str, files)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def images(self) -> list[int]:
        """Of every job that is to be analysed."""
        return sorted(len(job.sop_instance_uids) for job in self.ledger.jobs() if job.state == "queued")

    def until(self, images: list[int]) -> None:
        end = time.monotonic() + WITHIN_S
        while self.images() != images:
            if time.monotonic() > end:
                pytest.fail(f"{self.images()} and not {images} within {WITHIN_S} s")
            time.sleep(0.1)


@pytest.fixture
def site(tmp_path: Path, postgresql_cluster: Cluster) -> Iterator[Site]:
    require("storescu")
    made = Site(tmp_path, postgresql_cluster.url())
    for receiver in made.receivers.values():
        receiver.start()
    for receiver in made.receivers.values():
        receiver.wait_ready()
    yield made
    for receiver in made.receivers.values():
        receiver.stop()
    made.ledger.close()


def test_what_two_receivers_get_of_a_series_is_one_job(site: Site, tmp_path: Path) -> None:
    files = Patients(tmp_path / "patients").next()
    sending = [site.send("a", files[::2]), site.send("b", files[1::2])]
    assert [sender.wait(60) for sender in sending] == [0, 0]
    site.until([32])
    time.sleep(2 * QUIET_S)
    assert len(site.ledger.jobs()) == 1


def test_a_receiver_that_is_killed_leaves_its_study_to_the_other_one(site: Site, tmp_path: Path) -> None:
    files = Patients(tmp_path / "patients").next()
    assert site.send("a", files[:16]).wait(60) == 0
    site.receivers["a"].stop(signal.SIGKILL)
    assert site.send("b", files[16:]).wait(60) == 0
    site.until([32])
    site.receivers["a"].start()
    site.receivers["a"].wait_ready()
    time.sleep(2 * QUIET_S)
    assert site.images() == [32]
    assert site.ledger.receivers() and {name.partition("/")[0] for name in site.ledger.receivers()} == {"a", "b"}


def test_a_second_receiver_of_one_host_is_refused(site: Site) -> None:
    second = subprocess.run(
        site.command("a"), env=site.environment("b"), check=False, capture_output=True, text=True, timeout=60
    )
    assert second.returncode == 1
    assert "ICH_NODE_HOST" in second.stderr
