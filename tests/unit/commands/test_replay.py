"""Replay: what would be answered today, beside what was; nothing is published."""

from __future__ import annotations

import json

import pytest

from ich_node.commands import cli, replay
from ich_node.domain.reasons import Reason, Why
from ich_node.infer import pipeline
from ich_node.store.ledger.jobs import JobStore
from tests.analysis_builder import make_analysis
from tests.ledger_builder import publish_job, say_sent, write_instance
from tests.unit.board.test_app import result

CT = "1.2.840.10008.5.1.4.1.1.2"
SMALL = {"slices": 12, "rows": 256, "columns": 256, "pixel_mm": (0.9, 0.9)}


@pytest.fixture
def store(tmp_path):
    opened = JobStore.open(tmp_path / "state")
    yield opened
    opened.close()


@pytest.fixture
def answered(tmp_path, store):
    """answered(number, priority): a delivered job whose images are still here."""

    def make(number, priority, images=True, **told):
        uid = f"1.2.3.{number}"
        job, _ = publish_job(store, tmp_path / "state", ["pacs"], series_uid=uid, priority=priority)
        say_sent(store, *store.due("pacs"))
        path = tmp_path / "state" / "results" / str(job.id) / "result.json"
        path.write_text(json.dumps(result(priority, **told)))
        folder = tmp_path / "state" / "incoming" / uid
        folder.mkdir(parents=True)
        for sop in job.sop_instance_uids if images else ():
            write_instance(folder / f"{sop}.dcm", CT, sop)
        return job

    return make


@pytest.fixture
def says(monkeypatch):
    """says(analysis): what the pipeline of today answers."""
    monkeypatch.setattr(replay.bundle, "load", lambda _: None)
    monkeypatch.setattr(replay, "open_engine", lambda *_: None)

    def answer(analysis):
        monkeypatch.setattr(pipeline, "analyse", lambda *_: analysis)

    return answer


def played(tmp_path, capsys, *words):
    config = tmp_path / "node.yaml"
    config.write_text("store: {state_dir: state, min_free_gb: 0.001}\n")
    code = cli.main(["replay", *words, "--config", str(config)])
    return code, [line.split("\t") for line in capsys.readouterr().out.splitlines()]


def test_the_same_answer_is_said_to_be_the_same(tmp_path, capsys, answered, says):
    analysis = make_analysis("positive", **SMALL)
    answered(1, str(analysis.priority), present=("any",))
    says(analysis)
    code, ((job, then, now, verdict),) = played(tmp_path, capsys)
    assert (code, job, verdict) == (0, "1", "same")
    assert then.startswith(str(analysis.priority))
    assert now.startswith(str(analysis.priority))


def test_another_answer_is_named_and_nothing_is_published(tmp_path, capsys, store, answered, says):
    job = answered(1, "STAT", present=("any",))
    says(make_analysis("not_analysed", reason=Reason(Why.CONTRAST_NAMED), **SMALL))
    before = (store.jobs(), store.deliveries(job.id))
    code, ((_, then, now, verdict),) = played(tmp_path, capsys, str(job.id))
    assert (code, then, now) == (1, "STAT 90.0%", "NOT ANALYSED")
    assert verdict.startswith("differs")
    assert "contrast" in verdict
    assert (store.jobs(), store.deliveries(job.id)) == before


def test_the_newest_are_taken_and_what_is_gone_is_said(tmp_path, capsys, answered, says):
    answered(1, "ROUTINE")
    answered(2, "ROUTINE", images=False)
    answered(3, "ROUTINE")
    says(make_analysis("negative", **SMALL))
    code, rows = played(tmp_path, capsys, "--last", "2")
    assert [row[0] for row in rows] == ["2", "3"]
    assert "no longer here" in rows[0][3]
    assert code == (0 if rows[1][3] == "same" else 1)
