"""A message under way has the time that it needs, as long as it keeps coming."""

from __future__ import annotations

import time

import pytest

from ich_node.receive.transport import LEAST_RATE, Pace


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    moment = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: moment[0])
    return moment


def test_a_slow_line_that_is_steady_has_all_the_time_it_needs(now: list[float]) -> None:
    pace = Pace(60)
    for _ in range(10):  # 45 MB at 5 Mbit/s take 75 s
        assert pace.deadline == now[0] + 60
        pace.received(60 * 600_000)
        now[0] += 60
        assert pace.goes_on()


def test_silence_ends_a_message(now: list[float]) -> None:
    pace = Pace(60)
    pace.received(60 * LEAST_RATE)
    now[0] += 60
    assert pace.goes_on()
    now[0] += 60
    assert not pace.goes_on()


def test_a_drip_ends_a_message_although_it_is_never_silent(now: list[float]) -> None:
    pace = Pace(60)
    for _ in range(59):
        pace.received(LEAST_RATE)
    assert not pace.goes_on()
