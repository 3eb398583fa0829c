"""Tables: 80 columns are enough on a terminal, a pipe gets plain lines, and no terminal obeys a stranger."""

from __future__ import annotations

import os
import shutil
from types import SimpleNamespace

import pytest

from ich_node.commands import demo, tables

UID = "1.2.826.0.1.3680043.8.498." + "7" * 36
LONG = "the receiver is out of resources; it says " + "x" * 60


@pytest.fixture
def terminal(monkeypatch):
    """A terminal of so many columns."""

    def of(columns: int) -> None:
        monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
        monkeypatch.setattr(shutil, "get_terminal_size", lambda _: os.terminal_size((columns, 24)))

    return of


JOBS = ("id", "created (UTC)", "state", "priority", "tries", "from", "series", "why")
ROW = (12345, "2026-11-26 08:00:12", "delivering", "ROUTINE", 3, "EMERGENCY_CT_01", UID, LONG)


@pytest.mark.parametrize("columns", [80, 100, 250])
def test_a_table_fits_the_terminal(terminal, capsys, columns):
    terminal(columns)
    tables.show(JOBS, [ROW], shorten=("series",))
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= columns
    for word in ("12345", "delivering", "ROUTINE", "EMERGENCY_CT_01"):
        assert word in said, "a short word is never broken"
    assert LONG.split()[1] in said
    assert UID[-tables.TAIL :] in said


def test_a_pipe_gets_a_line_a_row_with_everything(capsys):
    tables.show(JOBS, [ROW, ROW], shorten=("series",))
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["\t".join(map(str, ROW))] * 2


def test_no_terminal_obeys_what_a_stranger_wrote(capsys):
    tables.show(("", ""), [("a", "\x1b[2Jso\tthey\nsay [red]x[/red]"), ("b", None)])
    assert capsys.readouterr().out == "a\t?[2Jso?they?say [red]x[/red]\nb\t\n"


def test_the_table_of_the_demo_fits_80_columns(terminal, capsys):
    terminal(80)
    labels = ("any", "intraparenchymal", "subarachnoid", "intraventricular")
    findings = [{"label": name, "probability": 0.987, "present": True, "laterality": "bilateral"} for name in labels]
    outcome = SimpleNamespace(
        patient=SimpleNamespace(folder="bleeding", truth="intraparenchymal"),
        result={"findings": findings, "priority": "STAT", "reason": None},
        sent=SimpleNamespace(seconds=0.4, at=0.0),
        job=SimpleNamespace(updated_at=12.3),
    )
    tables.show(demo.COLUMNS, demo._rows([outcome]))
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= 80
    assert all(name in said for name in labels)
