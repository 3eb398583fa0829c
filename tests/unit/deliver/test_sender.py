"""The sender with an injected clock and a connection that does as told: a day passes in a second."""

from __future__ import annotations

import itertools
import random

import pytest
from ledger_builder import BASIC_TEXT_SR, SECONDARY_CAPTURE, Clock, configuration, destination, publish_job

from ich_node.deliver.answer import Answer, Verdict
from ich_node.deliver.dicom.answers import meaning
from ich_node.deliver.sender import POLL_S, PROBE_S, RETRY_ASIDE_S, Sender
from ich_node.dicom.requestor import Rejected
from ich_node.domain.errors import PeerUnavailable, StoreError
from ich_node.domain.ledger import DeliveryState, JobState
from ich_node.runtime.wake import Bell
from ich_node.store.ledger.jobs import JobStore

HOUR = 3600.0


class FakePeer:
    """A peer without a network. answers: SOP Instance UID → list of statuses (or None: no answer), then Success."""

    def __init__(self, clock: Clock) -> None:
        self.node = None
        self.clock = clock
        self.up = True
        self.rejects: Rejected | None = None
        self.answers_to: dict[str, list[int | None]] = {}
        self.always: dict[str, int | None] = {}
        self.order: list[str] = []
        self.attempts: list[tuple[float, str]] = []
        self.connections: list[float] = []
        self.probes: list[float] = []
        self.echoes = True
        self.alive = False
        self.last_progress = 0.0

    def connect(self, _files):
        self.connections.append(self.clock.now)
        if self.rejects is not None:
            raise self.rejects
        if not self.up:
            raise PeerUnavailable("cannot connect: Connection refused")
        self.alive = True
        return self

    def answers(self):
        self.probes.append(self.clock.now)
        return self.echoes and self.up and self.rejects is None

    def covers(self, _files):
        return True

    def load(self, item):
        return item.item

    def send(self, uid):
        self.attempts.append((self.clock.now, uid))
        status = self.always[uid] if uid in self.always else (self.answers_to.get(uid) or [0]).pop(0)
        answer = Answer(Verdict.LATER, None, "no answer: the peer hung up") if status is None else meaning(status)
        if status is None:
            self.alive = False
        if answer.verdict is Verdict.SENT:
            self.order.append(uid)
        return answer

    def release(self):
        self.alive = False

    def interrupt(self):
        self.alive = False


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(tmp_path, clock):
    store = JobStore.open(tmp_path, clock=clock)
    yield store
    store.close()


@pytest.fixture
def peer(clock):
    return FakePeer(clock)


@pytest.fixture
def sender(tmp_path, store, peer, clock):
    options = {"retry_base_s": 5, "retry_max_s": 900, "give_up_after_h": 72, "linger_s": 2}
    config = configuration(tmp_path, destination("pacs", 1), **options)
    target = config.deliver.destinations[0]
    return Sender(
        target.name, config.deliver, store, peer, Bell(tmp_path / "bells"), clock=clock, random_source=random.Random(1)
    )


def run(sender, clock, seconds, tick_s=1.0):
    """Let time pass: whatever is due is done."""
    end = clock.now + seconds
    while clock.now < end:
        while sender.step() == 0.0:
            pass
        clock.now += tick_s


def publish(store, tmp_path, number, **options):
    return publish_job(store, tmp_path, ["pacs"], series_uid=f"1.2.{number}", **options)


def test_after_a_day_of_outage_everything_arrives_once_and_in_order(sender, store, peer, clock, tmp_path):
    peer.up = False
    jobs = []
    for number in range(1, 25):  # one study an hour
        jobs.append(publish(store, tmp_path, number))
        run(sender, clock, HOUR, tick_s=60)
    assert peer.order == []
    attempts_before = [store.job(job.id).attempts for job, _ in jobs]
    peer.up = True
    run(sender, clock, 900, tick_s=5)
    assert peer.order == [file.sop_instance_uid for _, files in jobs for file in files]
    assert {store.job(job.id).state for job, _ in jobs} == {JobState.DONE}
    assert [store.job(job.id).attempts for job, _ in jobs] == attempts_before == [1] * 24, "nothing was computed again"


def test_a_dead_peer_is_tried_seldom(sender, store, peer, clock, tmp_path):
    peer.up = False
    publish(store, tmp_path, 1)
    run(sender, clock, 24 * HOUR, tick_s=90)
    assert 90 < len(peer.connections) < 250, "about every 450 to 900 s"


def test_what_came_back_first_is_what_was_held_first(sender, store, peer, clock, tmp_path):
    (_, first), (_, second) = publish(store, tmp_path, 1), publish(store, tmp_path, 2)
    peer.answers_to[first[1].sop_instance_uid] = [0xA700]
    run(sender, clock, 60)
    assert peer.order == [file.sop_instance_uid for file in (*first, *second)]


@pytest.mark.parametrize("failure", [0xA700, 0x0110, 0xD000])
def test_an_instance_with_a_transient_status_lets_the_others_of_its_job_pass_after_a_few_tries(
    sender, store, peer, clock, tmp_path, failure
):
    _, files = publish(store, tmp_path, 1)
    uids = [file.sop_instance_uid for file in files]
    peer.answers_to[uids[1]] = [failure] * 50
    run(sender, clock, 4)
    assert peer.order == [uids[0]], "the order is kept for a while"
    run(sender, clock, 10)
    assert peer.order == [uids[0], uids[2]]
    assert [uid for _, uid in peer.attempts].count(uids[1]) == 3


def test_of_many_that_stand_aside_each_is_tried_once_before_something_gets_through(
    sender, store, peer, clock, tmp_path
):
    _, files = publish(store, tmp_path, 1, classes=[SECONDARY_CAPTURE] * 30 + [BASIC_TEXT_SR])
    for file in files[:30]:
        peer.always[file.sop_instance_uid] = 0xA700
    run(sender, clock, 25)
    assert peer.order == [files[30].sop_instance_uid]
    assert [uid for _, uid in peer.attempts].count(files[29].sop_instance_uid) == 1


def test_what_stands_aside_goes_within_a_minute_of_the_repair_although_nothing_new_comes(
    sender, store, peer, clock, tmp_path
):
    job, files = publish(store, tmp_path, 1, classes=[SECONDARY_CAPTURE] * 3, priority="STAT")
    for file in files:
        peer.always[file.sop_instance_uid] = 0xA700
    run(sender, clock, HOUR, tick_s=20)
    peer.always.clear()
    run(sender, clock, RETRY_ASIDE_S + 2)
    assert store.job(job.id).state is JobState.DONE


def test_a_peer_that_hangs_up_after_every_success_costs_no_wait(sender, store, peer, clock, tmp_path):
    job, files = publish(store, tmp_path, 1)
    for file in files[1:]:
        peer.answers_to[file.sop_instance_uid] = [None]
    run(sender, clock, 1)
    assert store.job(job.id).state is JobState.DONE
    assert len(peer.connections) == 3


def test_a_destination_that_answers_again_gets_what_waits_at_once(sender, store, peer, clock, tmp_path):
    peer.up = False
    job, _ = publish(store, tmp_path, 1, priority="STAT")
    run(sender, clock, 2 * HOUR, tick_s=20)
    peer.up = True
    run(sender, clock, PROBE_S + 1)
    assert store.job(job.id).state is JobState.DONE


def test_a_destination_that_answers_an_echo_and_nothing_else_is_left_alone_for_longer_and_longer(
    sender, store, peer, clock, tmp_path
):
    _, files = publish(store, tmp_path, 1)
    for file in files:
        peer.always[file.sop_instance_uid] = None
    run(sender, clock, 6 * HOUR, tick_s=30)
    assert 20 < len(peer.connections) < 90


def test_an_idle_destination_is_not_probed(sender, store, peer, clock, tmp_path):
    peer.up = False
    job, _ = publish(store, tmp_path, 1)
    run(sender, clock, 60)
    store.drop(job.id)
    del peer.probes[:]
    run(sender, clock, HOUR, tick_s=10)
    assert peer.probes == []


@pytest.mark.parametrize("failure", [0xA700, 0x0110, None], ids=["resources", "processing", "no answer"])
def test_an_instance_that_always_fails_does_not_block_the_other_jobs(sender, store, peer, clock, tmp_path, failure):
    bad, bad_files = publish(store, tmp_path, 1)
    good = [publish(store, tmp_path, number) for number in range(2, 6)]
    peer.always[bad_files[0].sop_instance_uid] = failure
    run(sender, clock, HOUR, tick_s=5)
    assert {store.job(job.id).state for job, _ in good} == {JobState.DONE}
    assert store.job(bad.id).state is JobState.DELIVERING


def test_an_instance_that_always_fails_is_tried_about_once_a_minute(sender, store, peer, clock, tmp_path):
    _, files = publish(store, tmp_path, 1)
    peer.always[files[0].sop_instance_uid] = 0x0110
    run(sender, clock, HOUR / 2, tick_s=5)
    moments = [moment for moment, uid in peer.attempts if uid == files[0].sop_instance_uid]
    gaps = [later - earlier for earlier, later in itertools.pairwise(moments)]
    assert gaps[0] <= 10
    assert min(gaps[3:]) >= 10
    assert max(gaps) <= RETRY_ASIDE_S + 5


def test_stat_results_go_before_a_routine_backlog(sender, store, peer, clock, tmp_path):
    peer.up = False
    backlog = [publish(store, tmp_path, number) for number in range(1, 4)]
    run(sender, clock, 60)
    _, urgent = publish(store, tmp_path, 9, priority="STAT")
    peer.up = True
    run(sender, clock, 120)
    assert peer.order[:3] == [file.sop_instance_uid for file in urgent]
    assert len(peer.order) == 3 + 3 * len(backlog)


def test_after_the_configured_time_an_unreachable_destination_is_given_up_with_its_cause(
    sender, store, peer, clock, tmp_path
):
    peer.up = False
    job, _ = publish(store, tmp_path, 1)
    run(sender, clock, 74 * HOUR, tick_s=1800)
    assert store.job(job.id).state is JobState.FAILED
    assert {d.cause for d in store.deliveries(job.id)} == {"given up after 72 h: cannot connect: Connection refused"}


def test_after_the_configured_time_an_instance_that_fails_is_given_up_and_the_rest_goes(
    sender, store, peer, clock, tmp_path
):
    job, files = publish(store, tmp_path, 1)
    peer.always[files[0].sop_instance_uid] = 0xA700
    run(sender, clock, 74 * HOUR, tick_s=1800)
    assert [d.state for d in store.deliveries(job.id)] == [
        DeliveryState.FAILED,
        DeliveryState.SENT,
        DeliveryState.SENT,
    ]
    assert store.deliveries(job.id)[0].cause == "given up after 72 h: the peer is out of resources"


def test_an_operators_retry_starts_the_clock_again(sender, store, peer, clock, tmp_path):
    peer.up = False
    job, files = publish(store, tmp_path, 1)
    run(sender, clock, 74 * HOUR, tick_s=1800)
    store.retry(job.id)
    run(sender, clock, HOUR, tick_s=30)
    peer.up = True
    run(sender, clock, HOUR, tick_s=30)
    assert peer.order == [file.sop_instance_uid for file in files]


def test_a_permanent_rejection_is_waited_out_at_the_slowest_pace(sender, store, peer, clock, tmp_path):
    peer.rejects = Rejected("the peer rejects associations: it does not know us", permanent=True)
    job, _ = publish(store, tmp_path, 1)
    run(sender, clock, HOUR)
    assert len(peer.connections) <= 9
    peer.rejects = None
    run(sender, clock, 900)
    assert store.job(job.id).state is JobState.DONE


def test_one_association_serves_jobs_that_follow_each_other_and_ends_after_the_linger_time(
    sender, store, peer, clock, tmp_path
):
    publish(store, tmp_path, 1)
    run(sender, clock, 1)
    publish(store, tmp_path, 2)
    run(sender, clock, 1)
    assert len(peer.connections) == 1
    run(sender, clock, 5)
    assert not peer.alive


def test_a_database_that_can_not_be_written_stops_the_sender_for_a_moment_only(
    sender, store, peer, clock, tmp_path, monkeypatch
):
    job, files = publish(store, tmp_path, 1, classes=[SECONDARY_CAPTURE])
    sent_all = store.sent_all

    def full(*_arguments, **_named):
        monkeypatch.setattr(store, "sent_all", sent_all)
        raise StoreError("database or disk is full")

    monkeypatch.setattr(store, "sent_all", full)
    run(sender, clock, 60)
    assert store.job(job.id).state is JobState.DONE
    assert peer.order == [files[0].sop_instance_uid] * 2, "sent again, unchanged, because it was not written down"


def test_an_idle_sender_asks_seldom(sender):
    assert sender.step() == POLL_S


def test_an_operators_hurry_ends_the_back_off(sender, store, peer, clock, tmp_path):
    peer.always[publish(store, tmp_path, 1)[1][0].sop_instance_uid] = None  # the association ends at every attempt
    run(sender, clock, 2 * HOUR, tick_s=30)
    peer.always.clear()
    store.hurry(["pacs"])
    run(sender, clock, 1)
    assert len(peer.order) == 3


def test_an_answer_is_a_value():
    assert Answer(Verdict.SENT, "0x0000", "stored") == meaning(0)
