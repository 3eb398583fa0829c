"""The month on one page: first answers counted once, in local time, in both languages, on one sheet."""

from __future__ import annotations

import dataclasses
import random
import re
import shutil
import subprocess
import time

import pytest

from ich_node.board import month
from ich_node.board.drift import Alarm
from ich_node.board.feedback import Feedback
from ich_node.board.record import Record
from ich_node.commands import cli
from ich_node.store.layout import StateDir
from tests.unit.board.test_drift import studies

NOVEMBER = month.begin("2026-11")


def entries(count: int = 900) -> list:
    """Studies of November 2026 and, one in ten, of October."""
    chance = random.Random(1)
    found = []
    for entry in studies(1, count):
        moment = NOVEMBER.timestamp() + chance.uniform(-3 * 86400, 27 * 86400)
        priority = None if entry.reason_code else ("STAT" if entry.positive else "ROUTINE")
        labels = ("subdural",) if entry.positive else ()
        found.append(dataclasses.replace(entry, moment=moment, priority=priority, labels=labels))
    return found


def opinion(job: int, what: str, said: str = "STAT", reader: str = "ada") -> Feedback:
    return Feedback(NOVEMBER.timestamp() + 60, job, "1", "1", said, reader, what)


def test_a_month_is_from_its_first_moment_to_that_of_the_next():
    assert month.end(month.begin("2026-12")) == month.begin("2027-01")
    assert month.before(month.begin("2026-01")) == month.begin("2025-12")
    for text in ("2026", "2026-13", "november"):
        with pytest.raises(ValueError, match=r"match|remain|range"):
            month.begin(text)


def test_what_was_answered_in_the_month_is_counted():
    found = month.month_of(NOVEMBER, entries(), (), ())
    own = [entry for entry in entries() if entry.moment >= NOVEMBER.timestamp()]
    assert found.studies == len(own) == sum(found.kinds.values())
    assert sum(count for _, tally in found.days for count in tally.values()) == len(own)
    assert found.share("STAT") == found.kinds["STAT"] / found.studies
    assert dict(found.labels) == {"subdural": found.kinds["STAT"]}
    assert month.month_of(month.begin("2020-01"), entries(), (), ()).share("STAT") is None


def test_a_readers_last_word_on_a_study_counts():
    told = [opinion(1, "disagree"), opinion(1, "agree"), opinion(1, "disagree", reader="bob"), opinion(2, "unsure")]
    found = month.month_of(NOVEMBER, [], told, ())
    assert found.opinions == {("STAT", "agree"): 1, ("STAT", "disagree"): 1, ("STAT", "unsure"): 1}


@pytest.mark.parametrize(("language", "words"), [("en", "Nothing has moved"), ("de", "Nichts hat sich verschoben")])
def test_the_page_needs_nothing_else(language, words):
    this = month.month_of(NOVEMBER, entries(), (), ())
    html = month.page(this, this, "ICHNODE", language)
    assert words in html
    assert not any(word in html for word in ("<script", "http://", "https://", "src=", "@import"))


def test_what_has_moved_stands_on_the_page():
    alarm = Alarm(NOVEMBER.timestamp() + 5, "brain_hu_above", "38.6", 0.05, 0.8)
    this = month.month_of(NOVEMBER, entries(), (), [alarm])
    assert "brain denser than 38.6 HU, 80 %" in month.page(this, this, "ICHNODE", "en")


def test_the_command_prints_the_page_and_writes_nothing(tmp_path, capsys):
    config = tmp_path / "node.yaml"
    config.write_text(f"store: {{state_dir: {tmp_path}/state}}\n")
    assert cli.main(["report", "2026-11", "--config", str(config)]) == 0
    assert "2026-11" in capsys.readouterr().out
    assert not StateDir(tmp_path / "state").record.exists()
    assert cli.main(["report", "November", "--config", str(config)]) == 78
    assert "write it as 2026-11" in capsys.readouterr().err


def test_a_year_is_read_in_a_moment(tmp_path):
    record = Record(tmp_path / "r")
    record._append(entries(10_000))
    began = time.process_time()
    assert len(Record(tmp_path / "r").lines) == 10_000
    assert time.process_time() - began < 5


@pytest.mark.interop
def test_it_is_one_sheet_of_paper(tmp_path):
    if shutil.which("chromium") is None:
        pytest.skip("needs chromium")
    alarms = [Alarm(NOVEMBER.timestamp() + n, "brain_hu_above", "38.6", 0.05, 0.8) for n in range(3)]
    this = month.month_of(NOVEMBER, entries(), [opinion(1, "agree")], alarms)
    (tmp_path / "m.html").write_text(month.page(this, this, "ICHNODE", "de"))
    sheet = [f"--print-to-pdf={tmp_path}/m.pdf", "--no-pdf-header-footer", f"file://{tmp_path}/m.html"]
    options = ["--headless", "--no-sandbox", "--disable-gpu"]
    subprocess.run(["chromium", *options, *sheet], check=True, capture_output=True, timeout=120)
    assert len(re.findall(rb"/Type\s*/Page\b", (tmp_path / "m.pdf").read_bytes())) == 1
