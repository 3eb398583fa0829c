"""No patient data in logs or in the database: a marked patient goes through every path, errors included."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ich_node.deliver.dicom import scu
from ich_node.phantom import head, series
from ich_node.runtime import config
from tests.crash.evidence import job_states
from tests.crash.node import Node
from tests.fake_pacs import FakePacs

MARK = "ZQXMARKED"
MARKED = {
    "PatientName": f"{MARK}^NAME",
    "PatientID": f"{MARK}-ID",
    "AccessionNumber": f"{MARK}ACC",
    "PatientBirthDate": "19010203",
    "ReferringPhysicianName": f"{MARK}^DOCTOR",
    "StudyDescription": f"HEAD {MARK}",
    "InstitutionName": MARK,
}
BIRTH_DATE = MARKED["PatientBirthDate"]


def marked_series(folder: Path, seed: int, **attributes: str) -> list[Path]:
    made = head.phantom("intraparenchymal", slices=32, rows=128, columns=128, seed=3)
    return series.write_series(folder, made, seed=seed, attributes={**MARKED, **attributes})


def spoilt_series(folder: Path, seed: int) -> list[Path]:
    """A series with a truncated file, one with garbage for a header, one that lies about its size."""
    paths = marked_series(folder, seed)
    whole = paths[0].read_bytes()
    paths[0].write_bytes(whole[:-9000])
    body = bytearray(paths[1].read_bytes())
    at = body.find(MARK.encode())
    body[at + 60 : at + 200] = random.Random(1).randbytes(140)
    paths[1].write_bytes(body)
    return paths


def send(paths: list[Path], port: int) -> None:
    """As a scanner would; what the node answers does not matter here."""
    node = config.DestinationConfig(name="node", ae_title="ICHNODE", host="127.0.0.1", port=port)
    outgoing = [scu.describe(path) for path in paths]
    association = scu.associate("SCANNER", node, config.DeliverConfig(), scu.contexts_for(outgoing))
    for item in outgoing:
        association.store([item])
    association.release()


@pytest.fixture(scope="module")
def traces(tmp_path_factory) -> dict[str, str]:
    """Everything a node writes for people while marked patients pass: its logs, its database, `ich-node jobs`."""
    folder = tmp_path_factory.mktemp("privacy")
    script = [0xC000, 0xA700, 0x0000, "abort"]
    with FakePacs(script=script) as pacs, Node(folder / "node", pacs.port, changes={"log": {"level": "debug"}}) as node:
        send(marked_series(folder / "good", 1), node.port)
        send(marked_series(folder / "contrast", 2, ContrastBolusAgent=f"{MARK} 300"), node.port)
        send(spoilt_series(folder / "spoilt", 3), node.port)
        send(marked_series(folder / "chest", 4, BodyPartExamined="CHEST", SeriesDescription=f"CHEST {MARK}"), node.port)
        _until(
            lambda: len(states := job_states(node.state_dir)) >= 4 and set(states) <= {"done", "failed", "ineligible"}
        )
        command = [sys.executable, "-m", "ich_node", "jobs", "--config", str(node.config)]
        table = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        found = {path.name: path.read_text(errors="replace") for path in (folder / "node").glob("*.log")}
        with sqlite3.connect(node.state_dir / "node.db") as db:
            found["node.db"] = "\n".join(db.iterdump())
        db.close()
        results = node.state_dir.glob("results/*/result.json")
        found["result.json"] = "\n".join(path.read_text() for path in results)
    return {**found, "jobs": table}


def _until(condition, timeout_s=180):
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "the jobs did not end"
        time.sleep(0.2)


def test_the_marked_patients_left_traces_at_all(traces):
    assert {"receive.log", "infer.log", "deliver.log", "node.db", "result.json", "jobs"} <= set(traces)
    assert "delivery_refused" in traces["deliver.log"]
    assert '"status": "analysed"' in traces["infer.log"]
    assert '"status": "not_analysed"' in traces["infer.log"]
    assert traces["result.json"]


@pytest.mark.parametrize("where", ["receive.log", "infer.log", "deliver.log", "node.db", "result.json", "jobs"])
def test_nothing_of_a_marked_patient_is_written_down(traces, where):
    assert MARK not in traces[where].upper()
    assert BIRTH_DATE not in traces[where]
