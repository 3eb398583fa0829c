"""The judge of the faults must be able to say "lost" and "doubled", or its zeros mean nothing."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from pydicom import dcmread

from ich_node.phantom import series
from tests.crash.evidence import judge
from tests.crash.pacs import CountingPacs


@pytest.fixture
def sent(tmp_path: Path) -> list[Path]:
    tiny = SimpleNamespace(hu=np.zeros((3, 16, 16), np.int16), spacing_mm=(5.0, 1.0, 1.0))
    return series.write_series(tmp_path / "sent", tiny)


@pytest.fixture
def state(tmp_path: Path, sent: list[Path]) -> Path:
    """A node that holds everything and owes one result, "1.2.3", of one finished job."""
    state = tmp_path / "state"
    for path in sent:
        held(state, path).parent.mkdir(parents=True, exist_ok=True)
        held(state, path).write_bytes(path.read_bytes())
    (state / "results" / "1").mkdir(parents=True)
    (state / "results" / "1" / "result.json").write_text(json.dumps({"objects": [{"sop_instance_uid": "1.2.3"}]}))
    with sqlite3.connect(state / "node.db") as db:
        db.execute("CREATE TABLE job (id INTEGER, series_uid TEXT, state TEXT)")
        db.execute("INSERT INTO job VALUES (1, ?, 'done')", (held(state, sent[0]).parent.name,))
    db.close()
    return state


def held(state: Path, path: Path) -> Path:
    header = dcmread(path, stop_before_pixels=True)
    return state / "incoming" / header.SeriesInstanceUID / f"{header.SOPInstanceUID}.dcm"


def pacs_with(**contents: set[str]) -> CountingPacs:
    pacs = CountingPacs()
    pacs.contents = {uid.replace("_", "."): found for uid, found in contents.items()}
    pacs.received = dict.fromkeys(pacs.contents, 1)
    return pacs


def test_a_node_that_kept_its_promises_is_acquitted(state, sent):
    verdict = judge(state, sent, pacs_with(**{"1_2_3": {"a"}}))
    assert (verdict.acknowledged, verdict.lost, verdict.missing, verdict.doubled) == (3, (), (), ())


@pytest.mark.parametrize("harm", ["gone", "cut off", "one bit"])
def test_an_acknowledged_instance_that_is_not_there_whole_is_lost(state, sent, harm):
    victim = held(state, sent[1])
    data = victim.read_bytes()
    if harm == "gone":
        victim.unlink()
    else:
        victim.write_bytes(data[:-2] if harm == "cut off" else data[:-1] + bytes([data[-1] ^ 1]))
    assert judge(state, sent, pacs_with(**{"1_2_3": {"a"}})).lost == (str(sent[1]),)


def test_a_series_that_made_room_after_it_was_answered_is_not_lost(state, sent):
    shutil.rmtree(held(state, sent[0]).parent)
    assert judge(state, sent, pacs_with(**{"1_2_3": {"a"}})).lost == ()
    with sqlite3.connect(state / "node.db") as db:
        db.execute("UPDATE job SET state = 'failed'")
    db.close()
    assert len(judge(state, sent, pacs_with(**{"1_2_3": {"a"}})).lost) == 3


def test_a_result_that_the_pacs_does_not_have_is_missing(state, sent):
    assert judge(state, sent, pacs_with()).missing == ("1.2.3",)


def test_an_instance_that_nobody_owes_and_one_with_two_contents_are_doubled(state, sent):
    assert judge(state, sent, pacs_with(**{"1_2_3": {"a"}, "1_2_4": {"b"}})).doubled == ("1.2.4",)
    assert judge(state, sent, pacs_with(**{"1_2_3": {"a", "b"}})).doubled == ("1.2.3",)
