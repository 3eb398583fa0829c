"""Two receivers, one spool, one ledger: what came to either is one series, one job, one answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydicom import Dataset

from ich_node.domain.errors import StoreError
from ich_node.domain.ledger import JobState
from ich_node.domain.reasons import Why
from ich_node.receive import assembler as assembler_module
from ich_node.receive import together as together_module
from ich_node.receive.assembler import Assembler
from ich_node.receive.judging import Judging
from ich_node.runtime.config import ReceiveConfig
from ich_node.store.ledger.jobs import JobStore
from ich_node.store.spool import Spool
from tests.unit.receive.reception_node import CT1, PACS, InProcess, head, write

QUIET_S = 10.0  # receive.quiet_period_s


class Receiver:
    """One of several; `associations` of its SCP have numbers that those of others may have too."""

    def __init__(self, hospital: Hospital, name: str) -> None:
        self.name = name
        self.hospital = hospital
        self.spool = Spool(hospital.root, 1)
        self.jobs = JobStore.open(hospital.root, clock=hospital.clock, url=hospital.url)
        self.jobs.join(name)
        self.assembler = Assembler(
            hospital.config,
            self.spool,
            self.jobs,
            hospital.clock,
            hospital.clock,
            judging=Judging(self.spool, InProcess),
            shared=(self.jobs, name),
        )
        self.frozen = False

    def store(self, datasets: list[Dataset], association: int = 1, sender=CT1) -> None:
        for ds in datasets:
            write(self.spool, ds, sender)
            self.assembler.hints.stored(association, sender, ds.StudyInstanceUID, ds.SeriesInstanceUID)

    def refuse(self, ds: Dataset, association: int = 1) -> None:
        names = str(ds.SeriesInstanceUID), str(ds.SOPInstanceUID)
        self.assembler.hints.refused(association, CT1, names[0], names[1], True, str(ds.StudyInstanceUID))

    def release(self, association: int = 1) -> None:
        self.assembler.hints.ended(association, released=True)

    def send(self, datasets: list[Dataset], association: int = 1) -> None:
        self.store(datasets, association)
        self.release(association)


class Hospital:
    """A load balancer's receivers, and a clock."""

    def __init__(self, root: Path, url: str | None) -> None:
        self.root, self.url, self.now = root, url, 1000.0
        self.config = ReceiveConfig(quiet_period_s=QUIET_S)
        self.receivers: list[Receiver] = []
        self.everybody: list[Receiver] = []
        self.one, self.two = self.add("one"), self.add("two")

    def clock(self) -> float:
        return self.now

    def add(self, name: str) -> Receiver:
        self.receivers.append(Receiver(self, name))
        self.everybody.append(self.receivers[-1])
        return self.receivers[-1]

    def after(self, seconds: float) -> list[JobState]:
        """Let time pass; the states of all jobs then, oldest first."""
        end = self.now + seconds
        while True:
            for receiver in self.receivers:
                if not receiver.frozen:
                    receiver.assembler.tick()
            if self.now >= end:
                return [job.state for job in self.jobs()]
            self.now = min(end, self.now + 0.25)

    def jobs(self):
        return sorted(self.one.jobs.jobs(), key=lambda job: job.id)

    def kill(self, receiver: Receiver) -> None:
        """It says nothing any more, and nobody tells."""
        self.receivers.remove(receiver)

    def close(self) -> None:
        for receiver in self.everybody:
            receiver.jobs.close()


@pytest.fixture
def hospital(tmp_path: Path, ledger_url: str | None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hospital]:
    monkeypatch.setattr(assembler_module, "SLICE_S", 60.0)
    made = Hospital(tmp_path, ledger_url)
    yield made
    made.close()


def images_of(hospital: Hospital) -> list[int]:
    return [len(job.sop_instance_uids) for job in hospital.jobs()]


def test_a_series_that_is_split_is_one_job_as_soon_as_both_halves_are_there(hospital: Hospital) -> None:
    images = head()
    hospital.one.send(images[::2])
    hospital.two.send(images[1::2])
    assert hospital.after(1.5) == [JobState.QUEUED]
    assert images_of(hospital) == [32]
    hospital.after(3 * QUIET_S)
    assert images_of(hospital) == [32]


def test_an_open_association_of_the_other_receiver_is_waited_for(hospital: Hospital) -> None:
    images = head()
    hospital.two.store(images[31:])
    hospital.after(0.5)
    hospital.one.send(images[:31])
    assert hospital.after(5 * QUIET_S) == []  # as one receiver waits for its own
    hospital.two.release()
    assert hospital.after(QUIET_S) == [JobState.QUEUED]
    assert images_of(hospital) == [32]


def test_an_association_that_has_gone_on_to_another_study_is_not_waited_for(hospital: Hospital) -> None:
    hospital.one.store(head("2.1.1", "2.1")[:1])  # receiver one assembles the second study
    hospital.after(1)
    hospital.two.store(head("1.1.1", "1.1"))
    hospital.two.store(head("2.1.1", "2.1")[1:])
    hospital.after(QUIET_S + 2)
    assert [job.series_uid for job in hospital.jobs()] == ["1.1.1"]


def test_images_that_keep_coming_to_the_other_receiver_keep_the_series_growing(hospital: Hospital) -> None:
    images = head()
    for image in images:
        hospital.two.send([image], association=int(image.InstanceNumber))
        if image is images[0]:
            hospital.after(1)
            hospital.one.send([images[-1]], association=99)
        assert hospital.after(QUIET_S / 2) == []
    assert hospital.after(QUIET_S + 1) == [JobState.QUEUED]
    assert images_of(hospital) == [32]


@pytest.mark.parametrize("taken_first", ["one", "two"])
def test_an_image_that_the_other_receiver_refused_is_missing(hospital: Hospital, taken_first: str) -> None:
    images = head()
    order = {"one": [hospital.one.send, lambda _: None], "two": [lambda _: None, hospital.one.send]}[taken_first]
    order[0](images[:31])
    hospital.two.refuse(images[31])
    hospital.two.release()
    hospital.after(0.5)
    order[1](images[:31])
    hospital.after(3 * QUIET_S)
    assert [job.told for job in hospital.jobs() if job.state is JobState.QUEUED] == [Why.REFUSED_FOR_SPACE]


def test_an_image_that_one_receiver_refused_and_the_other_took_is_not_missing(hospital: Hospital) -> None:
    images = head()
    hospital.two.refuse(images[31])
    hospital.two.release()
    hospital.one.send(images)
    hospital.after(3 * QUIET_S)
    assert [job.told for job in hospital.jobs()] == [None]


def test_two_series_of_a_study_at_two_receivers_get_one_answer(hospital: Hospital) -> None:
    hospital.one.send(head("1.5.1"))
    hospital.two.send(head("1.5.2"))
    hospital.after(3 * QUIET_S)
    assert sorted(str(job.state) for job in hospital.jobs()) == ["ineligible", "queued"]


@pytest.mark.parametrize("when", ["before it told", "when it had told", "when half was there"])
def test_the_other_receiver_takes_over_from_one_that_dies(hospital: Hospital, when: str) -> None:
    images = head()
    hospital.one.store(images[:16])
    if when != "before it told":
        hospital.after(1)
    if when == "when half was there":
        hospital.two.store(images[16:])
        hospital.after(1)
    hospital.kill(hospital.one)
    if when != "when half was there":
        hospital.two.store(images[16:])
    hospital.two.release()
    hospital.after(60)
    assert [len(job.sop_instance_uids) for job in hospital.jobs() if job.state is JobState.QUEUED] == [32]


def test_an_association_that_ended_in_the_moment_of_a_takeover_is_not_waited_for(hospital: Hospital) -> None:
    hospital.one.store(head()[:16])
    hospital.after(2)
    hospital.two.store(head()[16:])
    hospital.after(2)
    hospital.kill(hospital.one)
    hospital.now += 60
    hospital.two.release()
    hospital.after(2 * QUIET_S + 1)
    assert images_of(hospital) == [32]


def test_who_is_refused_without_end_fills_neither_memory_nor_ledger(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(together_module, "MOST_REFUSED", 5)
    for image in head():
        hospital.one.refuse(image)
        hospital.one.assembler.hints.refused(2, CT1, None, str(image.SOPInstanceUID), True, None)
    studies = [f"1.9.{number}" for number in range(20)]
    for study in studies:
        hospital.one.refuse(head(f"{study}.1", study)[0], association=3)
    hospital.after(2)
    (row,) = hospital.one.jobs.arrivals({"1.5"})
    assert len(row.refused) == 5
    assert len(hospital.one.jobs.arrivals(studies)) == 5
    (unplaced,) = hospital.one.assembler.hints._unplaced.values()  # type: ignore[attr-defined]
    assert len(unplaced) == 5


def test_what_only_the_dead_receiver_had_is_answered(hospital: Hospital) -> None:
    hospital.one.send(head())
    hospital.kill(hospital.one)
    assert hospital.after(90) == [JobState.QUEUED]


def test_a_receiver_that_wakes_up_after_another_took_over_makes_no_second_answer(hospital: Hospital) -> None:
    images = head()
    hospital.one.store(images[:20])
    hospital.after(1)
    hospital.one.frozen = True
    hospital.two.send(images[20:])
    assert hospital.after(60) == [JobState.QUEUED]
    hospital.one.frozen = False
    hospital.after(60)
    assert [job.state for job in hospital.jobs() if len(job.sop_instance_uids) == 32] == [JobState.QUEUED]
    assert len(hospital.jobs()) == 1


def test_a_frozen_receiver_writes_nothing_for_a_study_that_it_has_lost(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It wakes in the middle of a tick, behind its look at who assembles what."""
    hospital.one.send(head()[:20])  # no whole head: silence decides
    hospital.after(1)
    hospital.one.frozen = True
    hospital.two.store(head()[20:])  # which goes on
    assert hospital.after(20) == []
    monkeypatch.setattr(hospital.one.assembler._together, "exchange", set)
    hospital.one.assembler.tick()
    assert hospital.jobs() == []
    monkeypatch.undo()
    hospital.one.frozen = False
    hospital.two.release()
    assert hospital.after(20) == [JobState.QUEUED]


def test_while_the_ledger_is_away_nothing_is_forgotten(hospital: Hospital, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise StoreError("the server is away")

    images = head()
    hospital.one.send(images[::2])
    hospital.after(1)
    with monkeypatch.context() as gone:
        for name in ("report", "news", "take", "holders", "assembled", "ended"):
            gone.setattr(JobStore, name, away)
        hospital.two.send(images[1::2])
        for _ in range(3):
            with pytest.raises(StoreError):
                hospital.two.assembler.tick()
            hospital.now += 5
    assert hospital.after(3 * QUIET_S)[-1] is JobState.QUEUED
    assert images_of(hospital)[-1] == 32


def test_a_late_slice_at_the_other_receiver_holds_the_results_back(hospital: Hospital) -> None:
    images = head()
    hospital.one.send(images[:31])
    hospital.after(0.5)
    (early,) = hospital.jobs()
    hospital.two.store(images[31:])
    hospital.after(0.5)
    (held,) = hospital.jobs()
    assert held.publish_after > early.publish_after + QUIET_S
    hospital.two.release()
    assert hospital.after(3 * QUIET_S) == [JobState.INELIGIBLE, JobState.QUEUED]  # superseded by the whole one


def test_a_mixture_of_two_studies_at_two_receivers_is_answered_for_both(hospital: Hospital) -> None:
    mine = head("1.5.1", "1.5")
    theirs = head("1.5.1", "1.6", PatientID="OTHER")
    for number, ds in enumerate(theirs):
        ds.SOPInstanceUID = f"1.5.1.{100 + number}"
    hospital.one.store(mine)
    hospital.two.store(theirs, sender=PACS)
    hospital.after(1)
    hospital.one.release()
    hospital.two.release()
    hospital.after(5 * QUIET_S)
    assert sorted((job.study_uid, len(job.sop_instance_uids)) for job in hospital.jobs()) == [("1.5", 32), ("1.6", 32)]


def test_what_is_done_with_leaves_no_rows(hospital: Hospital) -> None:
    hospital.one.send(head()[::2])
    hospital.two.send(head()[1::2])
    hospital.after(80 * QUIET_S)
    assert hospital.one.jobs.arrivals({"1.5"}) == []
    assert hospital.one.jobs.assembled() | hospital.two.jobs.assembled() == set()
    hospital.two.send(head(count=33)[32:], association=7)  # and what comes then is a correction
    hospital.after(3 * QUIET_S)
    assert images_of(hospital) == [32, 33]


@pytest.mark.parametrize("seed", range(4))
def test_any_split_over_receivers_that_die_and_come_gives_one_whole_answer(
    hospital: Hospital, seed: int, shuffled: Callable[[int], list[tuple[str, list[Dataset]]]]
) -> None:
    alive = [hospital.one, hospital.two]
    dead = 0
    for step, images in shuffled(seed):
        if step == "kill" and len(alive) > 1:
            victim = alive.pop(0)
            hospital.kill(victim)
            dead += 1
            alive.append(hospital.add(f"new-{dead}"))
        alive[len(images) % len(alive)].send(images, association=len(images))
        hospital.after(0.25 * len(images) % 7)
    hospital.after(120)
    last = hospital.jobs()[-1]
    assert len(last.sop_instance_uids) == 32
    assert last.state is JobState.QUEUED
    assert [job.state for job in hospital.jobs()[:-1]] == [JobState.INELIGIBLE] * (len(hospital.jobs()) - 1)


@pytest.fixture
def shuffled() -> Callable[[int], list[tuple[str, list[Dataset]]]]:
    import random

    def cut(seed: int) -> list[tuple[str, list[Dataset]]]:
        dice = random.Random(seed)
        images = head()
        dice.shuffle(images)
        pieces = []
        while images:
            size = dice.randint(1, 12)
            pieces.append((dice.choice(["send", "send", "kill"]), images[:size]))
            images = images[size:]
        return pieces

    return cut
