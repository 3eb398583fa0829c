"""`ich-node demo`: a night shift in a minute, with everything real but the patients.

A PACS (our own Storage SCP on loopback, with a spool of its own) stands on one side. On the other a scanner sends
phantom head CTs over the network to a node, the same `ich-node run` that a hospital would start. The results come back
to the PACS; they are written to DIR as DICOM, PNG and text, with a table of what was found and how long it took.
"""

from __future__ import annotations

import json
import random
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
import yaml
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from ich_node.commands import output
from ich_node.commands.tables import show
from ich_node.deliver.dicom import scu
from ich_node.domain.errors import DeliveryError, IchNodeError
from ich_node.domain.findings import DISCLAIMER
from ich_node.domain.ledger import Job, JobState
from ich_node.phantom import head, series
from ich_node.receive.scp import Scp
from ich_node.report.pictures import previews
from ich_node.runtime import config, service
from ich_node.store.layout import StateDir
from ich_node.store.ledger.jobs import open_ledger
from ich_node.store.spool import Spool

MARKER = "made by ich-node demo; this folder is replaced when the demo runs again"
PATIENTS = (("PHANTOM^NEGATIVE", None, 11), ("PHANTOM^BLEEDING", "intraparenchymal", 3))
READY_WITHIN_S = 60  # chosen: a node imports, opens its ledger and listens within seconds; a busy laptop takes longer
RESULTS_WITHIN_S = 180  # chosen: two phantoms take seconds of a core each; a waiting person gives up later than this
COLUMNS = ("patient", "truth", "priority", "found", "side", "sent", "back")
CAPTION = "sent: seconds for all slices; back: seconds from the last slice until all results lay in the PACS."
SLICES = 32  # 160 mm of head at 5 mm, as it is usually scanned


class Archive:
    """A PACS has no assembler that would like hints."""

    def stored(self, *_: object) -> None:
        """Nothing to do."""

    def refused(self, *_: object) -> None:
        """Nothing to do."""

    def ended(self, association: int, released: bool) -> None:
        """Nothing to do."""


@dataclass(frozen=True, slots=True)
class Patient:
    """A phantom head CT."""

    name: str
    truth: str
    study_uid: str
    files: list[Path]

    @property
    def folder(self) -> str:
        """Its name as a folder."""
        return self.name.partition("^")[2].lower()


@dataclass(frozen=True, slots=True)
class Sent:
    """When the last slice was acknowledged (Unix seconds), and how long sending took."""

    at: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came back for a patient."""

    patient: Patient
    sent: Sent
    job: Job
    result: dict[str, Any]


def run(out: Path) -> int:
    """Run the demo into `out`; returns an exit code."""
    console = Console(highlight=False)
    _prepare(out)
    progress = Progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=console)
    with progress:
        step = progress.add_task("making phantom heads")
        patients = [_phantom(out / "phantoms", *patient) for patient in PATIENTS]
        with _pacs(out / "pacs") as (pacs, spool), _node(out / "node", pacs.port) as settings:
            progress.update(step, description=f"sending {len(patients)} studies over the network")
            sent = [_send(patient, settings) for patient in patients]
            progress.update(step, description="the node reads them")
            jobs = _wait_for_results(patients, settings)
            outcomes = [
                Outcome(patient, moment, job, _write(patient, job, spool, settings.state_dir, out))
                for patient, moment, job in zip(patients, sent, jobs, strict=True)
            ]
    show(COLUMNS, _rows(outcomes))
    console.print(f"\n{CAPTION}\nThe order in which they were sent: {', '.join(p.folder for p in patients)}.")
    console.print(f"The order in which to read them: {', '.join(o.patient.folder for o in _reading_order(outcomes))}.")
    console.print(f"Pictures, reports and DICOM objects are in {out.resolve()}. {DISCLAIMER}.")
    return service.EXIT_OK


def _prepare(out: Path) -> None:
    """An empty folder; one that the demo did not make is left alone."""
    output.refuse_link(out)
    marker = out / "README.txt"
    if out.exists() and any(out.iterdir()):
        if not marker.exists() or MARKER not in marker.read_text():
            raise IchNodeError(f"{out} is not empty and not from an earlier demo: choose another folder with --out")
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    marker.write_text(f"{MARKER}\n{DISCLAIMER}\n")


def _phantom(folder: Path, name: str, label: str | None, seed: int) -> Patient:
    made = head.phantom(label, slices=SLICES, seed=seed)
    files = series.write_series(folder / f"{label}-{seed}", made, seed=seed, patient_name=name)
    study_uid = str(pydicom.dcmread(files[0], specific_tags=["StudyInstanceUID"]).StudyInstanceUID)
    return Patient(name, label or "none", study_uid, files)


@contextmanager
def _pacs(folder: Path) -> Iterator[tuple[Scp, Spool]]:
    """A PACS on a free loopback port."""
    spool = Spool(folder, min_free_bytes=0)
    scp = Scp(config.Config(ae_title="DEMOPACS"), spool, Archive(), port=0)
    scp.start()
    try:
        yield scp, spool
    finally:
        scp.stop()


@contextmanager
def _node(folder: Path, pacs_port: int) -> Iterator[config.Config]:
    """`ich-node run` as a process of its own, ready to receive."""
    folder.mkdir()
    file = folder / "ich_node.yaml"
    pacs = {"name": "pacs", "ae_title": "DEMOPACS", "host": "127.0.0.1", "port": pacs_port}
    written = {
        "receive": {"port": _free_port()},
        "deliver": {"destinations": [pacs]},
        "store": {"state_dir": "state", "min_free_gb": 0.05},
    }
    file.write_text(yaml.safe_dump(written))
    settings = config.load(file)
    with (folder / "log.jsonl").open("wb") as log:
        command = [sys.executable, "-m", "ich_node", "run", "--config", str(file)]
        node = subprocess.Popen(command, stderr=log, start_new_session=True)
        try:
            _wait_until_ready(node, settings, folder)
            yield settings
        finally:
            node.terminate()
            node.wait(60)


def _free_port() -> int:
    """A port that nobody listens on, below the range from which outgoing connections take theirs."""
    while True:
        port = random.randrange(15000, 32000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def _as_destination(settings: config.Config) -> config.DestinationConfig:
    return config.DestinationConfig(
        name="node", ae_title=settings.ae_title, host="127.0.0.1", port=settings.receive.port
    )


def _wait_until_ready(node: subprocess.Popen[bytes], settings: config.Config, folder: Path) -> None:
    end = time.monotonic() + READY_WITHIN_S
    while not scu.echo("DEMOSCANNER", _as_destination(settings), settings.deliver).ok:
        if node.poll() is not None or time.monotonic() > end:
            raise IchNodeError(f"the node did not start; its log is {folder / 'log.jsonl'}")
        time.sleep(0.1)


def _send(patient: Patient, settings: config.Config) -> Sent:
    """C-STORE every slice, as a scanner does: in its own order, on one association."""
    outgoing = [scu.describe(path) for path in patient.files]
    started = time.monotonic()
    destination = _as_destination(settings)
    association = scu.associate("DEMOSCANNER", destination, settings.deliver, scu.contexts_for(outgoing))
    for item in outgoing:
        answer, _ = association.store([item])
        if answer.code != "0x0000":
            raise DeliveryError(f"the node answered {answer.code} ({answer.cause})")
    association.release()
    return Sent(time.time(), time.monotonic() - started)


def _wait_for_results(patients: list[Patient], settings: config.Config) -> list[Job]:
    """The finished job of every patient, in their order."""
    store = open_ledger(settings)
    end = time.monotonic() + RESULTS_WITHIN_S
    try:
        while True:
            jobs = [job for patient in patients for job in store.jobs_of_study(patient.study_uid)[-1:]]
            if failed := [job for job in jobs if job.state is JobState.FAILED]:
                raise IchNodeError(f"job {failed[0].id} failed: {failed[0].trouble}")
            if len(jobs) == len(patients) and all(job.state is JobState.DONE for job in jobs):
                return jobs
            if time.monotonic() > end:
                raise IchNodeError("no results came in time; see the log of the node")
            time.sleep(0.05)
    finally:
        store.close()


def _write(patient: Patient, job: Job, pacs: Spool, state_dir: Path, out: Path) -> dict[str, Any]:
    """What the PACS holds of a patient, for people: DICOM, PNG, text; returns the node's result.json."""
    folder = out / patient.folder
    folder.mkdir()
    source = StateDir(state_dir).results_of(job.id) / "result.json"
    result: dict[str, Any] = json.loads(source.read_bytes())
    shutil.copyfile(source, folder / "result.json")
    uids = [item["sop_instance_uid"] for item in result["objects"]]
    held = pacs.find(uids)
    for number, uid in enumerate(uids, start=1):
        shutil.copyfile(held[uid][0], folder / f"result-{number:02d}.dcm")
    output.write(folder, previews.encode([pydicom.dcmread(held[uid][0]) for uid in uids]))
    return result


def _reading_order(outcomes: list[Outcome]) -> list[Outcome]:
    return sorted(outcomes, key=lambda outcome: ("STAT", "HIGH", None, "ROUTINE").index(outcome.result["priority"]))


def _rows(outcomes: list[Outcome]) -> Iterator[tuple[str, ...]]:
    for outcome in outcomes:
        present = [finding for finding in outcome.result["findings"] if finding["present"]]
        likeliest = sorted(present, key=lambda finding: -finding["probability"])
        found = ", ".join(f"{finding['label']} {finding['probability']:.0%}" for finding in likeliest)
        yield (
            outcome.patient.folder,
            outcome.patient.truth,
            outcome.result["priority"] or "NOT ANALYSED",
            found or outcome.result["reason"] or "nothing",
            {"bilateral": "both"}.get(side := present[0]["laterality"] or "not sure", side) if present else "",
            f"{outcome.sent.seconds:.1f} s",
            f"{outcome.job.updated_at - outcome.sent.at:.1f} s",
        )
