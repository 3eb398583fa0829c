"""The board in headless Chromium over a real study: by keyboard from sign-in to opinion, without a violation or error.

The screenshots are kept in .ci/out/board/ for people to look at.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import urllib.request
from datetime import UTC, datetime
from pathlib import Path

import pytest
from analysis_builder import make_analysis, write_series
from conftest import require

from ich_node.board import people, role
from ich_node.domain.dicom import Instance, Series
from ich_node.domain.ledger import Owed, ResultInstance
from ich_node.report import build, files
from ich_node.runtime.config import Config, ReportConfig, parse
from ich_node.store.ledger.jobs import JobStore
from tests.ports import free_port

pytestmark = [pytest.mark.interop, pytest.mark.timeout(600)]

HERE = Path(__file__).resolve().parent / "ohif"
OUT = Path(__file__).resolve().parents[2] / ".ci" / "out" / "board"
MADE_AT = datetime(2026, 11, 23, 22, 30, tzinfo=UTC)


def configured(folder: Path) -> Config:
    users = folder / "users"
    users.write_text(people.line_for("ada", "operator", "correct horse") + "\n")
    board = {"port": free_port(), "users": str(users)}
    return parse({"store": {"state_dir": str(folder / "state")}, "board": board}, folder)


def publish(config: Config, kind: str, folder: Path) -> None:
    """A study of stand-in results in the store, as the worker would leave it."""
    analysis = make_analysis(kind)
    results = build.results(analysis, options=ReportConfig(), device_name="N", made_at=MADE_AT, predecessor=None)
    folder.mkdir()
    paths = write_series(folder, analysis)
    incoming = config.state_dir / "incoming" / analysis.series_uid
    incoming.mkdir(parents=True)
    instances = []
    for path, uid in zip(paths, (str(header.SOPInstanceUID) for header in analysis.headers), strict=True):
        shutil.copy(path, incoming / f"{uid}.dcm")
        instances.append(Instance(analysis.study_uid, analysis.series_uid, "1.2.840.10008.5.1.4.1.1.2", uid, "", path))
    store = JobStore.open(config.state_dir)
    store.enqueue(Series(analysis.study_uid, analysis.series_uid, tuple(instances)))
    job = store.claim("test")
    target = config.state_dir / "results" / str(job.id)
    target.mkdir(parents=True)
    for name, data in files.encode(analysis, results).items():
        (target / name).write_bytes(data)
    items = [ResultInstance(o.sop_class_uid, o.sop_instance_uid, target / o.file_name) for o in files.objects(results)]
    store.publish(job, [Owed(item, "pacs") for item in items], priority=analysis.priority)
    store.close()


@pytest.fixture
def board(tmp_path):
    """A board over two studies, served as the role serves it; its address."""
    config = configured(tmp_path)
    publish(config, "positive", tmp_path / "positive")
    stop = threading.Event()
    thread = threading.Thread(target=role.run, args=(config, stop))
    thread.start()
    address = f"http://127.0.0.1:{config.board.port}"
    for _ in range(200):
        try:
            urllib.request.urlopen(f"{address}/healthz", timeout=2).close()  # noqa: S310 — loopback
            break
        except OSError:
            stop.wait(0.1)
    yield address
    stop.set()
    thread.join(60)


def test_the_board_is_used_by_keyboard_alone_in_every_look(board):
    require("node", "chromium")
    if not (HERE / "node_modules/axe-core").exists():
        missing = "needs tests/interop/ohif/install.sh"
        pytest.fail(missing) if os.environ.get("ICH_NODE_REQUIRE_INTEROP") else pytest.skip(missing)
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    command = ["node", HERE / "board.mjs", board, OUT, "ada", "correct horse"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    looks = [json.loads(line) for line in done.stdout.splitlines()]
    assert [look["name"] for look in looks] == ["dark", "light", "phone"]
    assert [look["violations"] for look in looks] == [[], [], []]
    assert [look["errors"] for look in looks] == [[], [], []]
