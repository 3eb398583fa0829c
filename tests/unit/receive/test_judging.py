"""Judging in a child process: what it may do, what becomes of a series that costs it its life, and of all others."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ich_node.receive import judge as judge_module
from ich_node.receive import judging as judging_module
from ich_node.receive.assembler import Assembler
from ich_node.receive.inquiry import EVERYBODY, Garbled, Inquiry, parts
from ich_node.receive.judge import Judge
from ich_node.receive.judging import Judging
from ich_node.runtime import caged
from tests.confined import possible
from tests.deadly_judge import CRASH, EAT, LATER, SPIN
from tests.unit.receive.reception_node import CT1, PACS, STRANGER, Node, head

UID = "1.5.1"


class Caged(Node):
    """A node that judges in a real child process, which has flaws."""

    module = "tests.deadly_judge"

    def restart(self) -> None:
        if hasattr(self, "assembler"):
            self.assembler.close()
        judging = Judging(self.spool, lambda: caged.Child(self.module))
        self.assembler = Assembler(
            self.config, self.spool, self.jobs, lambda: self.now, lambda: self.now, judging=judging
        )
        self.assembler.tick()

    def told(self) -> dict[str, list[str | None]]:
        found: dict[str, list[str | None]] = {}
        for job in self.rows():
            found.setdefault(job.series_uid, []).append(job.told)
        return found


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Caged]:
    made = Caged(tmp_path)
    yield made
    made.assembler.close()


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine gets to the end of a tick, and a flaw need not burn for long."""
    monkeypatch.setattr("ich_node.receive.assembler.SLICE_S", 60.0)
    monkeypatch.setattr(judging_module, "QUICK_S", 0.5)
    monkeypatch.setattr(judging_module, "PATIENT_S", 0.5)


def test_a_head_is_judged_by_a_child_as_by_ourselves(tmp_path: Path) -> None:
    alike = []
    for kind, folder in ((Node, tmp_path / "here"), (Caged, tmp_path / "there")):
        node = kind(folder)
        node.send(head())
        node.send(head("1.6.1", "1.6", ConvolutionKernel="H70h", StationName="ED"), association=2, sender=PACS)
        node.send(head("1.7.1", "1.7", PatientID="A")[:16], association=3)
        node.send(head("1.7.1", "1.7", PatientID="B")[16:], association=4, sender=PACS)
        node.after(30)
        node.assembler.close()
        alike.append([(j.series_uid, j.input_digest, j.told, j.patient_hash, j.refusal, j.state) for j in node.rows()])
    assert alike[0] == alike[1]
    assert len(alike[0]) == 4


@pytest.mark.parametrize("flaw", [SPIN, EAT, CRASH])
@pytest.mark.parametrize("when", ["", LATER])
def test_a_series_that_costs_the_child_its_life_is_told_after_three_attempts_and_holds_up_nobody(
    node: Caged, flaw: str, when: str
) -> None:
    node.send(head("1.8.1", "1.8", PatientID=flaw + when), association=9, sender=STRANGER)
    node.send(head())
    node.after(12)
    assert node.told() == {"1.8.1": ["not_judged"], UID: [None]}
    assert node.spool.failed_judgings("1.8.1") == Counter({STRANGER.address: 3})
    node.module = "tests.no_such_module"  # whoever reads it again dies
    node.restart()
    node.after(60)
    assert len(node.rows()) == 2


@pytest.mark.parametrize("when", ["", LATER])
def test_such_an_image_in_the_series_of_another_one_costs_only_itself(node: Caged, when: str) -> None:
    (poison, *_) = head(PatientID=CRASH + when)
    poison.SOPInstanceUID = "9.1"
    node.send([poison], association=9, sender=STRANGER)
    node.send(head())
    node.after(40)
    assert sorted((len(job.sop_instance_uids), job.told) for job in node.rows()) == [(1, "not_judged"), (32, None)]


def test_attempts_are_counted_across_restarts(node: Caged) -> None:
    node.send(head(PatientID=CRASH))
    node.assembler.tick()  # whole at once: the first attempt
    node.restart()
    assert node.spool.failed_judgings(UID) == Counter({CT1.address: 1})
    node.after(12)
    assert node.spool.failed_judgings(UID) == Counter({CT1.address: 3})
    assert node.told() == {UID: ["not_judged"]}


def test_a_child_that_is_killed_by_chance_costs_no_series_its_answer(node: Caged) -> None:
    node.send(head("1.6.1", "1.6"))
    node.after(12)
    os.kill(node.assembler._judging._lanes[0].child._process.pid, signal.SIGKILL)  # type: ignore[union-attr]
    node.send(head(), association=2)
    node.after(12)
    assert node.told() == {"1.6.1": [None], UID: [None]}
    assert not node.spool.failed_judgings(UID)


@pytest.mark.parametrize("failing", ["module", "process"])
def test_a_child_that_does_not_start_is_nobodys_fault_and_is_tried_again(
    node: Caged, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    monkeypatch.setattr(judging_module, "AGAIN_S", 0.0)
    tries: list[int] = []

    def child() -> caged.Child:
        tries.append(1)
        if len(tries) > 5:
            return caged.Child("ich_node.receive.judge")
        if failing == "process":
            raise BlockingIOError("no more processes")
        return caged.Child("tests.no_such_module")

    node.assembler.close()
    node.assembler._judging._children = child
    node.send(head())
    node.after(12)
    assert node.told() == {UID: [None]}
    assert not node.spool.failed_judgings(UID)


def test_a_child_that_never_answers_is_replaced(node: Caged, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caged, "ANSWERING_S", 8.0)
    monkeypatch.setattr(caged, "CPU_TO_WALL", 0.0)
    monkeypatch.setattr("ich_node.receive.assembler.SLICE_S", 0.5)

    node.send(head("1.6.1", "1.6"))
    while not node.rows():
        node.after(0.25)
    node.assembler._judging._lanes[0].child.send = lambda *_: None  # type: ignore[union-attr,method-assign]
    node.send(head(), association=2)
    while len(node.rows()) < 2:
        node.after(0.25)
    assert node.told() == {"1.6.1": [None], UID: [None]}


def test_a_folder_that_is_gone_by_then_costs_no_child(tmp_path: Path) -> None:
    judge, asked = Judge(), {"folder": str(tmp_path / "gone"), "urgent": {}}
    assert judge.answer({"do": "look", **asked}) == {"addresses": {}}
    assert judge.answer({"do": "judge", "addresses": [], "refused": [], **asked})["sets"] == []


# --- what it may do ------------------------------------------------------------------------------------------------


def test_a_judging_process_reads_and_does_nothing_else(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_text("kept")
    attempts = {
        "read": f"open({str(kept)!r}).read()",
        "list": f"os.listdir({str(tmp_path)!r})",
        "create": f"open({str(tmp_path / 'new')!r}, 'w')",
        "append": f"open({str(kept)!r}, 'a')",
        "change": f"open({str(kept)!r}, 'r+')",
        "cut": f"os.open({str(kept)!r}, os.O_RDONLY | os.O_TRUNC)",
        "remove": f"os.unlink({str(kept)!r})",
        "rename": f"os.rename({str(kept)!r}, {str(tmp_path / 'other')!r})",
        "folder": f"os.mkdir({str(tmp_path / 'folder')!r})",
        "connect": "socket.socket()",
        "fork": "os.fork()",
        "run": "os.execv('/bin/true', ['true'])",
        "signal": "os.kill(os.getppid(), 0)",
        "memory": "bytearray(1 << 30)",
    }
    assert possible(1 << 28, reads=True, **attempts) == ["read", "list"]
    assert kept.read_text() == "kept"


LIES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a file that is not there": lambda told: told["sets"][0]["names"].append("1.2.3"),
    "a path": lambda told: told["sets"][0].update(names=["../../etc/passwd"]),
    "a study that is none": lambda told: told["sets"][0].update(study="../x"),
    "a patient in the clear": lambda told: told["sets"][0].update(patient="Meier^Anna"),
    "a verdict that is none": lambda told: told["sets"][0].update(verdict="Reason"),
    "a reason that is none": lambda told: told["sets"][0].update(verdict="SetAside", reason=["stolen", {}]),
    "values too many": lambda told: told["sets"][0].update(verdict="SetAside", reason=["localizer", {"a": 1}]),
    "a title that is none": lambda told: told["sets"][0].update(sender=["x" * 99, ""]),
    "a number for a list": lambda told: told.update(sets=7),
    "nothing": lambda told: told.clear(),
}


@pytest.mark.parametrize("lie", LIES)
def test_what_a_child_says_is_not_taken_for_granted(tmp_path: Path, lie: str) -> None:
    told: dict[str, Any] = {
        "sets": [
            {
                **{"study": "1.5", "names": ["1.1"], "sender": ["CT1", "10.0.0.1"], "senders": [["CT1", "10.0.0.1"]]},
                **{"patient": "0" * 64, "accession": None, "verdict": "Eligible", "reason": None, "urgent": False},
            }
        ],
        **{"whole": True, "read": ["1.1"], "too_costly": [], "unreadable": []},
    }
    inquiry = Inquiry(UID, str(tmp_path), {})
    honest = inquiry.judge(["10.0.0.1"], {}, lambda: ["1.1"])
    next(honest)
    with pytest.raises(StopIteration) as found:
        honest.send(json.loads(json.dumps(told)))
    assert found.value.value.sets[0].names == ("1.1",)
    LIES[lie](told)
    asked = inquiry.judge(["10.0.0.1"], {}, lambda: ["1.1"])
    next(asked)
    with pytest.raises(Garbled):
        asked.send(told)


def test_images_that_came_under_the_names_of_those_that_retention_took_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, judge = Node(tmp_path), Judge()

    def patients() -> set[str]:
        question = {"folder": str(node.spool.directory(UID)), "urgent": {}, "addresses": [CT1.address], "refused": []}
        judge.answer({"do": "look", **question})
        while judge.answer({"do": "read", **question})["more"]:
            pass
        return {each["patient"] for each in judge.answer({"do": "judge", **question})["sets"]}

    node.store(head(PatientID="A"))
    before = patients()
    shutil.rmtree(node.spool.directory(UID))
    node.store(head(PatientID="B"))
    monkeypatch.setattr(judge_module, "KEPT_S", -1.0)
    assert len(before) == 1 and not before & patients()


def test_parts_put_those_first_who_cost_nothing_and_leave_out_who_cost_too_much() -> None:
    assert parts("abc", Counter()) == ([["a", "b", "c"]], [])
    assert parts("abc", Counter(b=1)) == ([["a", "c"], ["b"]], [])
    assert parts("abc", Counter(b=3)) == ([["a", "c"]], ["b"])
    assert parts("abc", Counter({EVERYBODY: 1})) == ([["a"], ["b"], ["c"]], [])
    assert parts("abc", Counter({EVERYBODY: 1, "b": 2})) == ([["a"], ["c"]], ["b"])
