"""The record of answers: each study once, across restarts and torn lines, without a patient in it."""

from __future__ import annotations

import json

import pytest

from ich_node.board import trend
from ich_node.board.record import Entry, NewReference, Record
from ich_node.board.studies import Studies
from ich_node.board.tally import Tally
from ich_node.commands import cli
from ich_node.store.layout import StateDir
from ich_node.store.ledger.jobs import JobStore
from tests.ledger_builder import configuration, destination, publish_job
from tests.scrape import scrape
from tests.unit.board.test_app import result


@pytest.fixture
def store(tmp_path):
    opened = JobStore.open(tmp_path)
    yield opened
    opened.close()


def answered(store, folder, number, priority="STAT", **told):
    job, _ = publish_job(store, folder, ["pacs"], series_uid=f"1.2.3.{number}", priority=priority)
    path = folder / "results" / str(job.id) / "result.json"
    figures = {"scanner": "ACME ONE STD", "brain_hu": 33.1, "noise_hu": 4.0, "reason_code": told.pop("code", None)}
    path.write_text(json.dumps({**result(priority, **told), **figures}))
    return job.id


def cards(store, folder):
    studies = Studies(store, folder / "results")
    studies.refresh()
    return studies.cards


def test_a_study_is_kept_once_however_often_somebody_looks(store, tmp_path):
    answered(store, tmp_path, 1, present=("any", "subdural"))
    record = Record(tmp_path / "board" / "results.jsonl")
    assert len(record.catch_up(cards(store, tmp_path))) == 1
    assert record.catch_up(cards(store, tmp_path)) == []
    again = Record(tmp_path / "board" / "results.jsonl")
    assert again.lines == record.lines
    assert again.catch_up(cards(store, tmp_path)) == []
    (entry,) = again.entries()
    assert (entry.positive, entry.labels, entry.scanner, entry.brain_hu) == (True, ("subdural",), "ACME ONE STD", 33.1)


def test_two_who_write_at_the_same_time_count_once(store, tmp_path):
    answered(store, tmp_path, 1)
    board, retention = Record(tmp_path / "results.jsonl"), Record(tmp_path / "results.jsonl")
    board.catch_up(cards(store, tmp_path))
    retention.catch_up(cards(store, tmp_path))
    assert len(Record(tmp_path / "results.jsonl").lines) == 1


def test_a_torn_line_costs_itself_alone(store, tmp_path):
    path = tmp_path / "results.jsonl"
    answered(store, tmp_path, 1)
    Record(path).catch_up(cards(store, tmp_path))
    path.write_bytes(path.read_bytes() + b'{"job_id": 9, "mom')
    answered(store, tmp_path, 2)
    Record(path).catch_up(cards(store, tmp_path))
    assert [entry.job_id for entry in Record(path).entries()] == [1, 2]


def test_a_corrected_result_and_one_that_was_done_anew_are_no_further_studies(store, tmp_path):
    first = answered(store, tmp_path, 1)
    for item in store.due("pacs"):
        store.refused(item, None, "gone")
    again = store.redo(first)
    store.publish(store.claim("w"), [], priority="ROUTINE")
    folder = tmp_path / "results" / str(again.id)
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps(result("ROUTINE")))
    record = Record(tmp_path / "results.jsonl")
    assert [entry.job_id for entry in record.catch_up(cards(store, tmp_path))] == [first]


def test_a_new_reference_is_kept(tmp_path):
    Record(tmp_path / "r").begin_anew(5.0, "ada")
    assert Record(tmp_path / "r").lines == [NewReference(5.0, "ada")]


def test_retention_keeps_the_record_before_it_removes_results(store, tmp_path):
    answered(store, tmp_path, 1, None, reason="a bone kernel", code="sharp_kernel")
    config = tmp_path / "node.yaml"
    config.write_text(f"store: {{state_dir: {tmp_path}, min_free_gb: 0.001, keep_days: 0.000001}}\n")
    assert cli.main(["retention", "--config", str(config)]) == 0
    (entry,) = Record(StateDir(tmp_path).record).entries()
    assert (entry.reason_code, entry.priority, entry.positive) == ("sharp_kernel", None, False)


def test_a_record_of_a_newer_version_is_read(tmp_path):
    entry = Entry(1, 2.0, 3.0, "m", None, None, False, None, (), None, None, "", "")
    (tmp_path / "r").write_text(json.dumps({**{n: getattr(entry, n) for n in Entry.__slots__}, "more": 1}))
    assert Record(tmp_path / "r").entries() == [entry]


def test_counters_of_studies_outlive_the_board_and_count_each_once(store, tmp_path):
    for number in (1, 2):
        answered(store, tmp_path, number, present=("any", "subdural"))
    answered(store, tmp_path, 3, None, reason="a bone kernel", code="sharp_kernel")
    for _ in range(2):
        told = scrape(configuration(tmp_path, destination("pacs", 1)), store)
        assert told["findings_total", "subdural"] == 2
        assert told["not_analysed_total", "sharp_kernel"] == 1
        assert told["stage_duration_seconds_count", "model"] == 3
        assert told["stage_duration_seconds_sum", "model"] == 1.5
        assert told["stage_duration_seconds_bucket", "0.25", "model"] == 0
        assert told["stage_duration_seconds_bucket", "0.5", "model"] == 3
        assert told["answer_duration_seconds_count", "STAT"] == 2


def test_a_line_without_stages_counts_for_everything_else(tmp_path):
    entry = Entry(1, 2.0, 3.0, "m", "STAT", None, True, 0.9, ("subdural",), None, None, "", "")
    line = {name: getattr(entry, name) for name in Entry.__slots__ if name != "stages"}
    (tmp_path / "r").write_text(json.dumps(line))
    tally = Tally()
    tally.feed(Record(tmp_path / "r").entries())
    assert (tally.labels["subdural"], tally.stages, tally.answers["STAT"].sum_s) == (1, {}, 3.0)


def test_opinions_that_are_unsure_say_nothing():
    class Deaf:
        heard = 0

        def hear(self, *_):
            self.heard += 1

    one = trend.Trend(record=None, drift=Deaf())
    for opinion in ("agree", "unsure", "disagree"):
        one.hear(type("Opinion", (), {"opinion": opinion, "moment": 1.0}))
    assert one.drift.heard == 2
