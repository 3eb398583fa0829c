"""The role watches its parts: one that fails is run again, one that hangs ends the role, which is started afresh."""

from __future__ import annotations

import threading
import time
from contextlib import closing

import pytest
from ledger_builder import Clock, configuration, destination, publish_job

from ich_node.deliver import role
from ich_node.domain.errors import DeliveryError
from ich_node.store.ledger.jobs import JobStore
from tests.ports import free_port


class Part:
    """A part that does as told."""

    name = "deliver-pacs"

    def __init__(self, *, silent=False):
        self.last_sign_of_life = time.monotonic() - (1e6 if silent else 0)
        self.interrupted = False

    def run(self, stop):
        while not stop.wait(0.01) and not self.interrupted:
            pass

    def interrupt(self):
        self.interrupted = True


def run_with(monkeypatch, tmp_path, part, stop):
    monkeypatch.setattr(role, "BEAT_S", 0.01)
    monkeypatch.setattr(role, "parts_of", lambda _config, _store: [part])
    role.run(configuration(tmp_path), stop)


class Failing(Part):
    """Fails at its first run, as no part should; then does as told."""

    runs = 0

    def run(self, stop):
        self.runs += 1
        if self.runs == 1:
            raise RuntimeError("a defect")
        self.last_sign_of_life = time.monotonic()
        stop.set()


def test_a_part_that_fails_is_run_again_and_the_role_goes_on(monkeypatch, tmp_path):
    part = Failing()
    monkeypatch.setattr(role, "RUN_AGAIN_S", 0.01)
    run_with(monkeypatch, tmp_path, part, threading.Event())
    assert part.runs == 2


def test_a_part_that_hangs_ends_the_role(monkeypatch, tmp_path):
    with pytest.raises(DeliveryError, match="deliver-pacs hangs"):
        run_with(monkeypatch, tmp_path, Part(silent=True), threading.Event())


def test_a_stop_is_no_failure(monkeypatch, tmp_path):
    stop = threading.Event()
    threading.Timer(0.1, stop.set).start()
    run_with(monkeypatch, tmp_path, Part(), stop)
    assert stop.is_set()


def test_without_destinations_the_role_waits_for_its_stop(tmp_path):
    stop = threading.Event()
    threading.Timer(0.1, stop.set).start()
    role.run(configuration(tmp_path), stop)
    assert stop.is_set()


def test_a_destination_that_is_to_commit_gets_a_committer(tmp_path):
    target = {"ae_title": "PACS", "host": "127.0.0.1", "port": 1}
    config = configuration(tmp_path, {"name": "a", **target}, {"name": "b", "commitment": True, **target})
    with closing(JobStore.open(tmp_path)) as store:
        assert [part.name for part in role.parts_of(config, store)] == ["deliver-a", "deliver-b", "commit-b"]


def test_who_says_that_what_waits_goes_now_is_heard_whatever_the_clock_of_this_machine_says(tmp_path):
    config = configuration(tmp_path, destination("pacs", free_port()), retry_base_s=600)
    with closing(JobStore.open(tmp_path, clock=Clock())) as store:
        job, _ = publish_job(store, tmp_path, ["pacs"])
        (sender,) = role.parts_of(config, store)
        attempts = []
        for act in (lambda: None, lambda: None, lambda: store.hurry(["pacs"])):
            act()
            sender.step()
            attempts.append(store.deliveries(job.id)[0].attempts)
    assert attempts == [1, 1, 2]
