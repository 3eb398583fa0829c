"""A database of the released schema, with data in it, under this version."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from ich_node.domain.ledger import DeliveryState, JobState
from ich_node.store.ledger.jobs import JobStore

RELEASED = Path(__file__).with_name("released_0001.sql")

ROWS = """
INSERT INTO alembic_version VALUES ('0001');
INSERT INTO job (id, study_uid, series_uid, input_digest, sop_instance_uids, state, rank, attempts, not_before, worker,
                 reason, predecessor, priority, created_at, updated_at) VALUES
 (1, '1.2', '1.2.3', 'a', '1.5', 'ineligible', 0, 0, 0, NULL, 'superseded by job 2', NULL, NULL, 10, 11),
 (2, '1.2', '1.2.3', 'b', '1.5' || char(10) || '1.6', 'done', 0, 1, 0, NULL, NULL, NULL, 'STAT', 20, 21),
 (3, '1.2', '1.2.3', 'c', '1.7', 'delivering', 1, 2, 0, NULL, 'bone kernel', 2, NULL, 30, 31),
 (4, '1.3', '1.3.3', 'd', '1.8', 'ineligible', 0, 0, 0, NULL, 'bone kernel', NULL, NULL, 40, 41),
 (5, '1.4', '1.4.3', 'e', '1.9', 'running', 0, 1, 0, '1', 'the worker restarted', NULL, NULL, 50, 51),
 (6, '1.5', '1.5.3', 'f', '1.10', 'failed', 0, 1, 0, NULL, 'a destination refused a result', NULL, 'HIGH', 60, 61),
 (7, '1.6', '1.6.3', 'g', '1.11', 'ineligible', 0, 0, 0, NULL, 'dropped by an operator', NULL, NULL, 70, 71);
INSERT INTO delivery (sop_instance_uid, destination, job_id, sequence, urgency, sop_class_uid, path, state, attempts,
                      not_before, status, cause, sent_sop_class_uid, sent_sop_instance_uid, transaction_uid, created_at,
                      updated_at) VALUES
 ('9.1', 'pacs', 2, 0, 0, '1.1', 'results/2/9.1.dcm', 'committed', 1, 0, 0, NULL, '1.1', '9.1', '2.25.1', 20, 22),
 ('9.2', 'pacs', 3, 0, 2, '1.1', 'results/3/9.2.dcm', 'pending', 3, 35, 42752, 'no room', NULL, NULL, NULL, 30, 33),
 ('9.3', 'pacs', 6, 0, 1, '1.1', 'results/6/9.3.dcm', 'failed', 1, 0, 49152, 'no', NULL, NULL, NULL, 60, 62);
"""


@pytest.fixture
def store(tmp_path):
    """The ledger of a released version, opened by this one at second 100."""
    with sqlite3.connect(tmp_path / "node.db") as db:
        db.executescript(RELEASED.read_text() + ROWS)
    db.close()
    store = JobStore.open(tmp_path, clock=lambda: 100.0)
    yield store
    store.close()


def test_every_row_is_there_and_says_the_same(store):
    jobs = {job.id: job for job in store.jobs()}
    assert sorted(jobs) == [1, 2, 3, 4, 5, 6, 7]
    assert jobs[2].sop_instance_uids == ("1.5", "1.6")
    assert (jobs[3].predecessor, jobs[3].rank, jobs[3].attempts, jobs[3].created_at) == (2, 1, 2, 30.0)
    assert {job.revision for job in jobs.values()} == {0}


def test_a_reason_becomes_what_it_was(store):
    said = {job.id: (job.refusal, job.trouble) for job in store.jobs()}
    assert said == {
        1: (None, "superseded by job 2"),
        2: (None, None),
        3: ("bone kernel", None),
        4: ("bone kernel", None),
        5: (None, "the worker restarted"),
        6: (None, "a destination refused a result"),
        7: (None, "dropped by an operator"),
    }
    assert [job.id for job in store.jobs() if job.is_analysed] == [6, 2]


def test_deliveries_keep_their_place_and_their_status_in_words_of_their_protocol(store):
    (kept,), (waiting,), (refused,) = (store.deliveries(job_id) for job_id in (2, 3, 6))
    assert (kept.state, kept.item, kept.code) == (DeliveryState.COMMITTED, "9.1", "0x0000")
    assert kept.transaction_uid == "2.25.1"
    assert (waiting.code, waiting.cause, waiting.attempts, waiting.not_before) == ("0xA700", "no room", 3, 35.0)
    assert (refused.code, refused.sent_sop_instance_uid) == ("0xC000", None)
    assert [item.item for item in store.due("pacs")] == ["9.2"]


def test_a_job_that_ran_when_the_old_version_was_stopped_is_taken_up_at_once(store):
    claimed = store.claim("another")
    assert (claimed.id, claimed.attempts, claimed.state) == (5, 2, JobState.RUNNING)


def test_an_id_is_never_used_again(store):
    again = store.redo(7)
    assert again.id == 8
