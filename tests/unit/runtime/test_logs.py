"""Logs: JSON lines, a closed list of events."""

from __future__ import annotations

import ast
import json
import re
import threading
from pathlib import Path

import pytest
import structlog

from ich_node.runtime import logs
from ich_node.runtime.config import LogConfig


@pytest.fixture(autouse=True)
def _restore():
    yield
    structlog.reset_defaults()


def test_a_line_is_json_with_role_level_and_time(capsys):
    logs.configure(LogConfig(), role="infer")
    logs.get().info("job_finished", job=7)
    line = json.loads(capsys.readouterr().err)
    assert (line["event"], line["role"], line["level"], line["job"]) == ("job_finished", "infer", "info", 7)
    assert line["timestamp"].endswith("Z")


def test_an_unknown_event_is_a_defect():
    logs.configure(LogConfig(), role="infer")
    with pytest.raises(ValueError, match="unknown log event"):
        logs.get().info("something else")


def test_the_level_is_the_least_that_is_written(capsys):
    logs.configure(LogConfig(level="warning"), role="infer")
    logs.get().info("job_finished")
    assert capsys.readouterr().err == ""


def test_a_line_of_another_thread_carries_the_role(capsys):
    logs.configure(LogConfig(), role="deliver")
    thread = threading.Thread(target=lambda: logs.get().info("job_finished"))
    thread.start()
    thread.join()
    assert json.loads(capsys.readouterr().err)["role"] == "deliver"


def test_every_event_that_the_code_logs_is_known():
    package = Path(logs.__file__).resolve().parents[1]
    calls = (node for path in package.rglob("*.py") for node in ast.walk(ast.parse(path.read_text())))
    found = {
        node.args[0].value
        for node in calls
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("debug", "info", "warning", "error", "exception")
        and node.args
        and isinstance(node.args[0], ast.Constant)
        and re.search(r"\blog\b|_log\b|logs\.get\(\)", ast.unparse(node.func.value))
    }
    assert len(found) > 30
    assert found <= logs.EVENTS
