"""What reading and judging may cost, and who waits when somebody's images cost much."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset

from ich_node.receive import assembler as assembler_module
from ich_node.receive import reading as reading_module
from ich_node.receive.judge import Judge
from tests.unit.receive.reception_node import STRANGER, InProcess, Node, blank, head


def test_headers_without_end_cost_one_series_its_answer_and_no_other_one_time(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading_module, "MOST_ITEMS", 50)
    heavy = head("1.8.1", "1.8")
    for ds in heavy:
        ds.ReferencedImageSequence = [Dataset() for _ in range(20)]
    node.send(heavy, association=9, sender=STRANGER)
    node.send(head())
    node.after(12)
    assert {job.series_uid: job.told for job in node.rows()} == {"1.8.1": "headers_too_large", "1.5.1": None}
    node.restart()
    monkeypatch.setattr(reading_module, "read_header", lambda *_: pytest.fail("read again"))
    node.after(40)


def test_headers_without_end_in_the_series_of_another_one_cost_only_themselves(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading_module, "MOST_ITEMS", 50)
    heavy = [blank(f"9.{number}") for number in range(40)]
    for ds in heavy:
        ds.ReferencedImageSequence = [Dataset() for _ in range(20)]
    node.send(heavy, association=9, sender=STRANGER)
    node.send(head())
    node.after(30)
    assert sorted((len(job.sop_instance_uids), job.told) for job in node.rows()) == [
        (32, None),
        (40, "headers_too_large"),
    ]


def test_who_costs_much_reading_waits_for_those_who_cost_little(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds, real = [0.0], reading_module.read_header

    def slow(path: Path, keywords: Sequence[str], *checked: Any) -> Dataset:
        header = real(path, keywords, *checked)
        seconds[0] += 2.5 if header.StudyInstanceUID == "1.8" else 0.001
        return header

    monkeypatch.setattr(assembler_module.time, "monotonic", lambda: seconds[0])
    monkeypatch.setattr(reading_module.Reading.__init__, "__defaults__", (lambda: seconds[0],))  # CPU seconds
    monkeypatch.setattr(InProcess, "clock", lambda _: seconds[0])
    monkeypatch.setattr(reading_module, "read_header", slow)
    for number in range(20):
        node.send([blank(f"9.{number}", f"1.8.{number}", "1.8")], association=100 + number, sender=STRANGER)
    node.send(head())
    monkeypatch.setattr(assembler_module, "SLICE_S", 0.2)
    while not any(job.series_uid == "1.5.1" for job in node.rows()):
        node.now += 0.1
        node.assembler.tick()
    assert seconds[0] < 5 * 2.5


def test_a_series_of_thousands_of_images_does_not_hold_up_another_one(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = iter(range(10**6))
    monkeypatch.setattr(assembler_module, "SLICE_S", 100.0)
    monkeypatch.setattr(assembler_module.time, "monotonic", lambda: float(next(moments)))  # a look at it takes a second
    node.send(head("1.7.1", "1.7", count=300), association=2, sender=STRANGER)
    node.send(head())
    node.assembler.tick()
    assert [job.series_uid for job in node.rows()] == ["1.5.1"]


def test_headers_are_read_while_a_series_comes_in_and_never_twice(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    check = reading_module.check_header
    monkeypatch.setattr(reading_module, "check_header", lambda path: (read.append(path.stem), check(path))[1])
    images = head()
    node.store(images[:20])
    node.after(1)
    assert len(read) == 20
    node.store(images[20:])
    node.after(1)
    assert sorted(read) == sorted(image.SOPInstanceUID for image in images)
    assert not node.rows()
    node.release()
    node.after(30)
    assert len(node.rows()) == 1
    assert len(read) == len(images)


def test_what_is_judged_goes_before_what_is_read_ahead(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []
    answer = Judge.answer

    def tell(judge: Judge, question: dict[str, Any]) -> dict[str, Any]:
        asked.append((Path(question["folder"]).name, question["do"]))
        return answer(judge, question)

    monkeypatch.setattr(Judge, "answer", tell)
    node.store(head("1.6.1", "1.6"), association=2)
    node.send(head())
    node.assembler.tick()
    assert {series for series, _ in asked} == {"1.5.1"}
    node.after(1)
    assert ("1.6.1", "read") in asked
    assert ("1.6.1", "judge") not in asked
