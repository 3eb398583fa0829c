"""A cluster on one machine: every role, server and PACS on a host of its own, one state directory between them.

    scanner ──▶ r1, r2 (receivers) ──▶ files ◀── w1, w2, w3 (workers; w1 and w2 ask triton) ──▶ d1, d2 ──▶ pacs1, pacs2
                       └───────── ledger: db1, db2 (PostgreSQL, primary and standby) ─────────┘

The shared file system is a folder of this machine: what a network file system adds to it is not tried here.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import yaml

from ich_node.infer.bundle import load
from ich_node.runtime.config import default_bundle
from tests import triton_server
from tests.cluster.network import SUBNET, Network
from tests.cluster.servers import DATABASE, Pair
from tests.crash.pacs import CountingPacs
from tests.crash.peers import fetch
from tests.crash.scanner import Patients, send_once
from tests.crash.supervised import Supervised

RECEIVERS, WORKERS, SENDERS = ("r1", "r2"), ("w1", "w2", "w3"), ("d1", "d2")
ON_TRITON = ("w1", "w2")
ROLES = {
    **dict.fromkeys(RECEIVERS, "receive"),
    **dict.fromkeys(WORKERS, "infer"),
    **dict.fromkeys(SENDERS, "deliver"),
}
HOSTS = (*ROLES, "db1", "db2", "triton", "pacs1", "pacs2", "scanner")
DICOM, GRPC, HTTP = 11112, 8001, 8042
GIVE_UP_S = 300.0
PAUSE_S = 0.3  # between two attempts of a scanner
SPLIT_CHANCE = 0.5
"""Every other series goes to both receivers: part of it here, the rest there, as behind a load balancer."""


class Site:
    """Use it as a context manager; everything runs and is ready inside the block."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.state_dir = folder, folder / "state"
        self.state_dir.mkdir(parents=True)
        folder.chmod(0o755)  # PostgreSQL's account goes through it
        self.network = Network(HOSTS)
        self.databases = Pair(self.network, ("db1", "db2"), folder / "postgresql")
        self.pacs1 = CountingPacs(DICOM, "PACS1", self.network.address("pacs1"))
        self.pacs2 = OrthancPacs(self.network, "pacs2", folder / "pacs2")
        self.triton = self._triton()
        self.roles = {host: self._role(host, role) for host, role in ROLES.items()}

    def __enter__(self) -> Site:
        self.network.__enter__()
        try:
            self.databases.start()
            self.start_pacs1()
            processes = (self.pacs2.process, self.triton, *self.roles.values())
            for process in processes:
                process.start()
            for process in processes:
                process.wait_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        for process in (*self.roles.values(), self.triton, self.pacs2.process):
            with suppress(RuntimeError):
                process.stop()
        self.pacs1.stop()
        self.databases.stop()
        self.network.__exit__()

    def start_pacs1(self) -> None:
        """Listen, on its host."""
        with self.network.thread_inside("pacs1"):
            self.pacs1.start()

    def ask(self, statement: str) -> list[tuple[object, ...]]:
        """Rows of the ledger, by the socket of whichever server takes writes."""
        where = str(self.databases.primary.data.parent)
        with psycopg.connect(host=where, user="ich", dbname=DATABASE, autocommit=True) as connection:
            return connection.execute(statement).fetchall()

    def _settings(self, host: str) -> dict[str, Any]:
        to = {"port": DICOM, "ae_title": "PACS1", "name": "pacs1", "host": self.network.address("pacs1")}
        infer: dict[str, Any] = {"provider": "cpu", "threads": 1, "max_attempts": 1000, "retry_base_s": 0.2}
        if host in ON_TRITON:
            triton = {"address": f"{self.network.address('triton')}:{GRPC}", "timeout_s": 60}
            infer |= {"engine": "triton", "triton": triton}
        return {
            "receive": {
                "address": self.network.address(host),
                "port": DICOM,
                "callers": [{"ae_title": "*", "addresses": [f"{SUBNET}.0/24"]}],
                "grace_s": 0.5,
                "quiet_period_s": 4,
                "acse_timeout_s": 4,
                "dimse_timeout_s": 4,
                "idle_timeout_s": 4,
            },
            "infer": infer,
            "deliver": {
                "destinations": [to, {**to, "name": "pacs2", "ae_title": "PACS2", "host": self.pacs2.address}],
                "retry_base_s": 0.2,
                "retry_max_s": 2,
                "connect_timeout_s": 3,
                "dimse_timeout_s": 6,
                "linger_s": 0.5,
            },
            "store": {
                "state_dir": str(self.state_dir),
                "database": self.databases.url,
                "shared": True,
                "min_free_gb": 0.1,
            },
        }

    def _role(self, host: str, role: str) -> Supervised:
        config = self.folder / f"{host}.yaml"
        config.write_text(yaml.safe_dump(self._settings(host)))
        command = [*self.network.inside(host), sys.executable, "-m", "ich_node", role, "--config", str(config)]
        return Supervised(host, command, self.folder, {**os.environ, "ICH_NODE_HOST": host})

    def _triton(self) -> Supervised:
        models = self.folder / "models"
        models.mkdir()
        triton_server.repository(load(default_bundle()), models)
        address = self.network.address("triton")
        command = [*self.network.inside("triton"), *triton_server.command(models, address, GRPC)]
        answers = lambda: self.network.answers("triton", GRPC)  # noqa: E731 as short as it is
        return Supervised("triton", command, self.folder, triton_server.environment(), probe=answers)


class OrthancPacs:
    """Orthanc as the second PACS; what it has is read at the end."""

    def __init__(self, network: Network, host: str, folder: Path) -> None:
        folder.mkdir()
        self.address, self._network, self._host = network.address(host), network, host
        settings = {
            "StorageDirectory": str(folder / "db"),
            "IndexDirectory": str(folder / "db"),
            "DicomAet": "PACS2",
            "DicomPort": DICOM,
            "HttpPort": HTTP,
            "RemoteAccessAllowed": True,
            "AuthenticationEnabled": False,
            "DicomAlwaysAllowStore": True,
        }
        (folder / "orthanc.json").write_text(json.dumps(settings))
        command = [*network.inside(host), "Orthanc", str(folder / "orthanc.json")]
        self.process = Supervised(host, command, folder, os.environ, probe=lambda: network.answers(host, DICOM))

    sent_again = 0  # it does not tell
    contradictory: tuple[str, ...] = ()

    @property
    def contents(self) -> dict[str, set[str]]:
        """SOP Instance UIDs that it has; one content each, for it keeps one."""
        with self._network.thread_inside(self._host):
            tags = json.loads(fetch(f"http://{self.address}:{HTTP}/instances?expand"))
        return {item["MainDicomTags"]["SOPInstanceUID"]: {item["ID"]} for item in tags}


class Scanner(threading.Thread):
    """Sends series after series to both receivers until told to finish; what one does not take, the other is asked for.

    series: the files of each. acknowledged: what was answered with Success. problem: why it gave up, if it did.
    """

    def __init__(self, site: Site, patients: Patients, seed: int, longest_pause_s: float) -> None:
        super().__init__(daemon=True)
        self.series: list[list[Path]] = []
        self.acknowledged: list[Path] = []
        self.problem: Exception | None = None
        self._site, self._patients = site, patients
        self._random = random.Random(seed)
        self._longest_pause_s = longest_pause_s
        self._finish = threading.Event()

    def run(self) -> None:
        """Send until finish()."""
        while not self._finish.is_set():
            paths = self._patients.next()
            self.series.append(paths)
            try:
                self.acknowledged.extend(self._send_all(paths))
            except (TimeoutError, subprocess.TimeoutExpired) as error:
                self.problem = error
                return
            self._finish.wait(self._random.uniform(0, self._longest_pause_s))

    def finish(self) -> None:
        """Wait for the series in hand, then stop; raises what made the scanner give up."""
        self._finish.set()
        self.join(GIVE_UP_S + 60)
        if self.problem is not None:
            raise self.problem

    def _send_all(self, paths: Sequence[Path]) -> list[Path]:
        end = time.monotonic() + GIVE_UP_S
        done: list[Path] = []
        first, second = self._random.sample(RECEIVERS, 2)
        if self._random.random() < SPLIT_CHANCE:
            done += self._send(paths[: self._random.randrange(1, len(paths))], first)
            first, second = second, first
        while missing := [path for path in paths if path not in done]:
            if time.monotonic() > end:
                raise TimeoutError(f"{len(missing)} of {len(paths)} instances were never acknowledged")
            done += self._send(missing, first)
            first, second = second, first
            if len(done) < len(paths):
                time.sleep(PAUSE_S)
        return done

    def _send(self, paths: Sequence[Path], receiver: str) -> list[Path]:
        """One association; a line that is cut ends it after seconds."""
        network = self._site.network
        patience = ("-to", "3", "-ta", "4", "-td", "6")
        inside = network.inside("scanner")
        return send_once(paths, DICOM, options=patience, host=network.address(receiver), inside=inside)
