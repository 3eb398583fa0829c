"""docs/monitoring: the rules and the dashboard ask for metrics that exist, and promtool has nothing to say."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from ich_node.board import health, role
from ich_node.runtime.counters import Counters
from ich_node.store.layout import StateDir
from ich_node.store.ledger.jobs import JobStore
from tests.ledger_builder import configuration, destination, publish_job

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "monitoring"
METRIC = re.compile(r"\bich_node_\w+")


def promtool(*words: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    if shutil.which("promtool") is None:
        missing = "needs promtool (Debian package prometheus)"
        pytest.fail(missing) if os.environ.get("ICH_NODE_REQUIRE_INTEROP") else pytest.skip(missing)
    command = ["promtool", *words]
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def scrape(tmp_path) -> str:
    config = configuration(tmp_path, destination("pacs", 1))
    store = JobStore.open(tmp_path)
    publish_job(store, tmp_path, ["pacs"], priority="STAT")
    counted = Counters()
    counted.add("instances_refused", "0xA700")
    counted.observe("series_wait", "silence", 10.0)
    counted.save(StateDir(tmp_path).counters)
    board = role.make(config, store)
    text = health.metrics(config, board.studies, board.trend, 2e6).decode()
    store.close()
    return text


def expressions() -> list[str]:
    rules = yaml.safe_load((FOLDER / "alerts.yaml").read_text())
    board = json.loads((FOLDER / "dashboard.json").read_text())
    asked = [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    return asked + [target["expr"] for panel in board["panels"] for target in panel["targets"]]


def test_every_metric_that_is_asked_for_is_there(scrape):
    told = set(re.findall(r"^# TYPE (\w+)", scrape, re.MULTILINE))
    asked = {name for text in expressions() for name in METRIC.findall(text)} - {"ich_node"}
    assert {name.removesuffix("_bucket") for name in asked} <= told


def test_every_alert_has_a_remedy():
    rules = yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"][0]["rules"]
    assert all(rule["annotations"]["remedy"] for rule in rules)


@pytest.mark.interop
def test_promtool_has_nothing_to_say_about_the_rules():
    answer = promtool("check", "rules", str(FOLDER / "alerts.yaml"))
    assert answer.returncode == 0, answer.stdout + answer.stderr


@pytest.mark.interop
def test_promtool_has_nothing_to_say_about_a_scrape(scrape):
    answer = promtool("check", "metrics", text=scrape)
    assert (answer.returncode, answer.stderr) == (0, ""), answer.stderr
