"""A receiver without a network: a spool, a ledger, an assembler and a clock; heads that are small in their planes."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from pydicom import Dataset

from ich_node.domain.dicom import AETitle, Peer
from ich_node.domain.errors import Superseded, TooEarly
from ich_node.domain.ledger import Job
from ich_node.phantom.series import build_series
from ich_node.receive.assembler import Assembler
from ich_node.receive.judge import Judge
from ich_node.receive.judging import Judging
from ich_node.runtime import caged
from ich_node.runtime.config import ReceiveConfig
from ich_node.store.ledger.jobs import JobStore
from ich_node.store.spool import Spool
from tests.datasets import EXPLICIT, encoded

CT1, PACS = Peer(AETitle("CT1"), "10.0.0.1"), Peer(AETitle("PACS"), "10.0.0.2")
STRANGER = Peer(AETitle("RED"), "10.0.0.66")


class InProcess:
    """What a judging child does, here: the tests of the child itself are in test_judging.py."""

    clock = staticmethod(time.thread_time)

    def __init__(self) -> None:
        self.judge = Judge()
        self.said = caged.READY
        self.cpu_s = 0.0
        self.event = os.eventfd(1)

    def send(self, question: Any, data: bytes, cpu_s: float) -> None:
        started = self.clock()
        answer = self.judge.answer(json.loads(json.dumps(question)))
        self.cpu_s += self.clock() - started
        self.said += json.dumps(answer).encode() + b"\n"

    def some(self) -> bytes:
        said, self.said = self.said, b""
        return said

    def fileno(self) -> int:
        return self.event

    def end(self) -> None:
        os.close(self.event)


def write(spool: Spool, ds: Dataset, sender: Peer | None) -> None:
    """Put an image into a spool."""
    spool.put(
        series_uid=ds.SeriesInstanceUID,
        sop_instance_uid=ds.SOPInstanceUID,
        sop_class_uid=ds.SOPClassUID,
        transfer_syntax_uid=EXPLICIT,
        parts=[encoded(ds)],
        sender=sender,
    )


class Node:
    """A spool, a job store, an assembler and a clock."""

    def __init__(self, root: Path, **changes: Any) -> None:
        self.now = 1000.0
        self.root = root
        self.spool = Spool(root, 1)
        self.jobs = JobStore.open(root, clock=lambda: self.now)
        self.config = ReceiveConfig(**changes)
        self.with_worker = False
        self.claimed: list[Job] = []
        self.answers: list[tuple[float, Job]] = []
        self.restart()

    def restart(self) -> None:
        judging = Judging(self.spool, InProcess)
        self.assembler = Assembler(
            self.config, self.spool, self.jobs, lambda: self.now, lambda: self.now, judging=judging
        )
        self.assembler.tick()

    def store(self, datasets: list[Dataset], association: int = 1, sender: Peer | None = CT1) -> None:
        for ds in datasets:
            write(self.spool, ds, sender)
            self.assembler.arrivals.stored(association, sender, ds.StudyInstanceUID, ds.SeriesInstanceUID)

    def release(self, association: int = 1) -> None:
        self.assembler.arrivals.ended(association, released=True)

    def send(self, datasets: list[Dataset], association: int = 1, sender: Peer | None = CT1) -> None:
        self.store(datasets, association, sender)
        self.release(association)

    def refuse(self, ds: Dataset, association: int = 1, sender: Peer = CT1, series: bool = True) -> None:
        series_uid = str(ds.SeriesInstanceUID) if series else None
        self.assembler.arrivals.refused(association, sender, series_uid, str(ds.SOPInstanceUID), for_space=True)

    def work(self) -> None:
        """What a worker does that needs no time: every job is claimed, and published as soon as it may be.

        Only the last slice shows that a head ends there; the others are held back for the quiet period.
        """
        while job := self.jobs.claim("w"):
            self.claimed.append(job)
            if job.publish_after and f"{job.series_uid}.32" not in job.sop_instance_uids:
                self.jobs.hold(job.id, job.created_at + self.config.quiet_period_s)
        for job in list(self.claimed):
            with suppress(TooEarly):
                try:
                    self.jobs.publish(job, [], priority=None if job.told else "ROUTINE", refusal=job.told)
                    self.answers.append((self.now, job))
                except Superseded:
                    pass
                self.claimed.remove(job)

    def after(self, seconds: float) -> list[str]:
        """Let time pass in steps, as the role does; the states of all jobs then, oldest first."""
        end = self.now + seconds
        while self.now < end:
            self.assembler.tick()
            if self.with_worker:
                self.work()
            self.now = min(end, self.now + 0.25)
        self.assembler.tick()
        return [str(job.state) for job in self.rows()]

    def rows(self) -> list[Job]:
        return sorted(self.jobs.jobs(), key=lambda job: job.id)


def head(series: str = "1.5.1", study: str = "1.5", count: int = 32, **changes: Any) -> list[Dataset]:
    """A whole head CT, small in its planes."""
    volume = SimpleNamespace(hu=np.zeros((count, 48, 48), np.int16), spacing_mm=(5.0, 4.8, 4.8))
    datasets = build_series(volume)  # type: ignore[arg-type]
    for number, ds in enumerate(datasets):
        ds.StudyInstanceUID, ds.SeriesInstanceUID = study, series
        ds.SOPInstanceUID = f"{series}.{number + 1}"
        for keyword, value in changes.items():
            setattr(ds, keyword, value)
    return datasets


def bone(series: str = "1.5.2", **changes: Any) -> list[Dataset]:
    return head(series, ConvolutionKernel="H70h", **changes)


def localizer(series: str = "1.5.9") -> list[Dataset]:
    return head(series, count=1, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])


def blank(uid: str, series: str = "1.5.1", study: str = "1.5", **changes: Any) -> Dataset:
    """An image of a few hundred bytes without a place in space."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = "1.2.840.10008.5.1.4.1.1.2", uid, "CT"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = study, series
    ds.PatientID, ds.PatientName = head()[0].PatientID, head()[0].PatientName
    for keyword, value in changes.items():
        setattr(ds, keyword, value)
    return ds
