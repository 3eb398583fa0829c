"""Readers' opinions: kept, whatever happens, and fit for a table."""

from __future__ import annotations

import csv
import io

import pytest

from ich_node.board.feedback import COMMENT_LENGTH, Book, Feedback


def opinion(**values) -> Feedback:
    told = {"moment": 1.0, "job_id": 7, "study_uid": "1.2", "series_uid": "1.2.3", "said": "STAT", "reader": "ada"}
    return Feedback(**{**told, "opinion": "agree", **values})


def test_an_opinion_outlives_the_process(tmp_path):
    Book(tmp_path / "board/feedback.jsonl").add(opinion(comment="small, left – übersehen"))
    (kept,) = Book(tmp_path / "board/feedback.jsonl").of_job(7)
    assert kept.comment == "small, left – übersehen"


@pytest.mark.parametrize("torn", [b'{"moment": 2.0, "job', b"\xff\xfe", b'{"unknown": 1}\n', b"[]\n", b"\n"])
def test_a_torn_line_costs_itself_only(tmp_path, torn):
    path = tmp_path / "feedback.jsonl"
    Book(path).add(opinion())
    with path.open("ab") as file:
        file.write(torn)
    Book(path).add(opinion(moment=3.0))
    assert [entry.moment for entry in Book(path).of_job(7)] == [1.0, 3.0]


@pytest.mark.parametrize(
    "values",
    [{"opinion": "maybe"}, {"label": "tumour"}, {"side": "up"}, {"comment": "x" * (COMMENT_LENGTH + 1)}],
)
def test_an_opinion_that_is_none_is_refused(values):
    with pytest.raises(ValueError):
        opinion(**values)


@pytest.mark.parametrize("comment", ["=1+1", "+1", "-1", "@x", "\tx"])
def test_no_cell_of_the_table_begins_like_a_formula(tmp_path, comment):
    book = Book(tmp_path / "feedback.jsonl")
    book.add(opinion(comment=comment))
    (row,) = csv.DictReader(io.StringIO(book.as_csv()))
    assert row["comment"] == f"'{comment}"


def test_the_last_opinion_of_a_job_counts(tmp_path):
    book = Book(tmp_path / "feedback.jsonl")
    book.add(opinion(opinion="unsure"))
    book.add(opinion(opinion="disagree", label="none"))
    assert book.reviewed() == {7: "disagree"}
