"""The parts that are exchanged in pynetdicom."""

from __future__ import annotations

import queue
import time
from types import SimpleNamespace
from typing import Any

import pytest
from pynetdicom.timer import Timer

from ich_node.receive.upper_layer import CalmStateMachine, SteadyTimer, WakingQueue


def steady(timeout: float | None) -> Timer:
    timer = Timer(timeout)
    timer.__class__ = SteadyTimer
    return timer


def test_a_clock_that_is_set_does_not_expire_a_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    timer = steady(60)
    timer.start()
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert 59 < timer.remaining <= 60
    monkeypatch.setattr(time, "time", lambda: 1e12)
    assert not timer.expired


def test_a_timer_expires_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    timer = steady(10)
    assert not timer.expired
    timer.start()
    now = 111.0
    assert timer.expired
    timer.restart()
    assert not timer.expired
    now = 115.0
    timer.stop()
    now = 200.0
    assert timer.remaining == 6


def test_a_timer_without_a_time_never_expires() -> None:
    timer = steady(None)
    timer.start()
    assert timer.remaining == 1
    assert not timer.expired


def test_whoever_waits_for_a_message_is_woken_by_a_release() -> None:
    messages: queue.Queue[Any] = queue.Queue()
    WakingQueue(messages).put("release")
    assert messages.get_nowait() == (None, None)


def machine(state: str) -> CalmStateMachine:
    dul = SimpleNamespace(
        to_provider_queue=queue.Queue(), event_queue=queue.Queue(), _kill_thread=False, _recv_pdu=queue.Queue()
    )
    dul.kill_dul = lambda: setattr(dul, "_kill_thread", True)
    calm = CalmStateMachine(dul)
    calm.current_state = state
    return calm


def test_a_response_after_the_end_is_dropped_and_the_connection_ends() -> None:
    calm = machine("Sta13")
    calm.dul.to_provider_queue.put("response")
    calm.do_action("Evt9")
    assert calm.dul.to_provider_queue.empty()
    assert calm.dul.event_queue.get_nowait() == "Evt17"


def test_a_message_that_can_not_be_decoded_is_answered_with_an_abort() -> None:
    calm = machine("Sta6")
    calm.do_action("Evt10")  # there is no PDU to be had: its action fails
    assert calm.dul.event_queue.get_nowait() == "Evt19"
    assert not calm.dul._kill_thread


def test_an_end_that_fails_is_not_tried_for_ever() -> None:
    calm = machine("Sta6")
    calm.do_action("Evt17")  # there is no socket to close
    assert calm.dul.event_queue.empty()
    assert calm.dul._kill_thread
