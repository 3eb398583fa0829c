"""A whole node: a site that floods, with images hard to read and jobs that fail, beside one that sends a head."""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import yaml
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless

from ich_node.domain.ledger import Job
from ich_node.store.ledger.jobs import JobStore
from ich_node.store.ledger.tables import job
from tests.crash.pacs import CountingPacs
from tests.crash.scanner import Patients, send_once
from tests.crash.supervised import Supervised
from tests.interop.conftest import require
from tests.ports import free_ports

FLOOD, HOSPITAL = "FLOOD", "HOSPITAL"
MOST_WAITING = 6  # the flood's quota
ROLES = ("receive", "infer", "deliver")
WITHIN_S = 120.0
ITEMS = 20_000  # of a sequence in a header: a fifth of what is read at all
SLICES = 24
TURNS = 4
"""Of a job whose turn is next: the one before it and its own, and both again should it have been begun too early."""


class Node:
    """The roles of a node in one folder, each started by the test; two callers, each a site of its own."""

    def __init__(self, folder: Path) -> None:
        self.port, pacs = free_ports(2)
        self.state = folder / "state"
        self.pacs = CountingPacs(pacs)
        callers = [{"ae_title": title, "site": title} for title in (FLOOD, HOSPITAL)]
        quota = {"name": FLOOD, "max_queued": MOST_WAITING}
        settings = {
            "receive": {"port": self.port, "quiet_period_s": 2, "callers": callers, "sites": [quota]},
            "infer": {"provider": "cpu", "threads": 1, "retry_base_s": 0.1, "max_attempts": 2},
            "deliver": {"destinations": [{"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": pacs}]},
            "store": {"state_dir": str(self.state), "min_free_gb": 0.01},
        }
        config = folder / "ich_node.yaml"
        config.write_text(yaml.safe_dump(settings))
        command = [sys.executable, "-m", "ich_node"]
        self.roles = {
            role: Supervised(role, [*command, role, "--config", str(config)], folder, os.environ) for role in ROLES
        }
        self.ledger = JobStore.open(self.state)

    def start(self, *roles: str) -> None:
        """These parts, ready."""
        for role in roles:
            self.roles[role].start()
        for role in roles:
            self.roles[role].wait_ready()

    def takes(self, title: str, files: Sequence[Path], *options: str) -> bool:
        """Whether this caller hears Success of every image; one association."""
        return len(send_once(files, self.port, calling=title, options=options)) == len(files)

    def jobs_of(self, title: str) -> list[Job]:
        """Newest first."""
        return self.ledger.jobs(calling_ae_title=title)

    def turn(self, job_id: int | None = None) -> int:
        """The number of the last turn that this job had; None: that any had."""
        last = sa.select(sa.func.coalesce(sa.func.max(job.c.served), 0))
        with self.ledger._read() as db:
            return int(db.execute(last if job_id is None else last.where(job.c.id == job_id)).scalar_one())


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    require("storescu")
    made = Node(tmp_path)
    made.pacs.start()
    yield made
    for role in made.roles.values():
        if role.process is not None:
            role.stop()
    made.pacs.stop()
    made.ledger.close()


def damaged(files: list[Path]) -> list[Path]:
    """The same images with codestreams that no decoder reads."""
    noise = random.Random(1)
    for path in files:
        image = dcmread(path)
        image.PixelData = encapsulate([b"\xff\x4f\xff\x51" + noise.randbytes(2000)])
        image["PixelData"].is_undefined_length = True
        image.file_meta.TransferSyntaxUID = JPEG2000Lossless
        image.save_as(path)
    return files


def laborious(files: list[Path]) -> list[Path]:
    """The same images with headers that take their time."""
    item = Dataset()
    item.CodeValue = "1"
    for path in files[::8]:
        image = dcmread(path)
        image.RequestAttributesSequence = [item] * ITEMS
        image.save_as(path)
    return files


def until(condition: Any, what: str) -> None:
    end = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < end, f"no {what} within {WITHIN_S} s"
        time.sleep(0.1)


def test_a_site_that_floods_costs_the_other_one_no_image_and_no_turn(node: Node, tmp_path: Path) -> None:
    patients = Patients(tmp_path / "patients", slices=SLICES)
    node.start("receive")

    def flood() -> bool:
        time.sleep(1)  # the quota is looked at every five seconds
        return node.takes(FLOOD, patients.next())

    assert node.takes(FLOOD, laborious(patients.next()))
    for _ in range(2):
        assert node.takes(FLOOD, damaged(patients.next()), "-xv")
    until(lambda: not flood(), "quota")  # nobody works yet: what waits grows until it is reached
    assert node.takes(HOSPITAL, patients.next())
    until(lambda: node.jobs_of(HOSPITAL), "job of the hospital")
    for failing in node.jobs_of(FLOOD)[:3]:  # their files get lost: they fail, and are tried again
        next((node.state / "incoming" / failing.series_uid).glob("*.dcm")).unlink()
    assert len(node.jobs_of(FLOOD)) >= MOST_WAITING

    node.start("infer", "deliver")
    (first,) = node.jobs_of(HOSPITAL)
    until(lambda: node.ledger.job(first.id).state == "done", "answer for the hospital")
    assert node.turn(first.id) <= TURNS
    assert node.pacs.contents

    assert node.takes(HOSPITAL, patients.next())  # while jobs of the flood fail
    until(lambda: len(node.jobs_of(HOSPITAL)) == 2, "second job of the hospital")
    so_far, second = node.turn(), node.jobs_of(HOSPITAL)[0]
    until(lambda: node.ledger.job(second.id).state == "done", "second answer for the hospital")
    assert node.turn(second.id) <= so_far + TURNS
