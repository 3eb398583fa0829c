"""sd_notify and the stop event."""

from __future__ import annotations

import os
import signal
import socket

import pytest

from ich_node.runtime import service


@pytest.fixture
def systemd(tmp_path, monkeypatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(2)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield listener


def test_a_role_tells_systemd_that_it_is_ready(systemd):
    service.notify("READY=1", "STATUS=listening")
    assert systemd.recv(100) == b"READY=1\nSTATUS=listening"


def test_without_systemd_nothing_happens(monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    service.notify("READY=1")


def test_the_heartbeat_pats_the_watchdog_no_more_often_than_needed(systemd, monkeypatch):
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    heart = service.Heartbeat()
    heart.beat("working")
    heart.beat("working")
    assert systemd.recv(100) == b"WATCHDOG=1\nSTATUS=working"
    systemd.settimeout(0.05)
    with pytest.raises(TimeoutError):
        systemd.recv(100)


def test_probes_see_a_file_that_is_there_once_the_role_is_ready_and_young_while_it_lives(tmp_path, monkeypatch):
    alive = tmp_path / "alive"
    alive.touch()
    monkeypatch.setenv("ICH_NODE_ALIVE", str(alive))
    service.begin()
    service.notify("STATUS=on the way")
    assert not alive.exists()
    service.notify("READY=1", "STATUS=listening")
    os.utime(alive, (0, 0))
    service.Heartbeat().beat()
    assert alive.stat().st_mtime > 0


def test_the_file_is_not_touched_at_every_turn_of_a_loop(tmp_path, monkeypatch):
    monkeypatch.setenv("ICH_NODE_ALIVE", str(tmp_path / "alive"))
    heart = service.Heartbeat()
    heart.beat()
    os.utime(tmp_path / "alive", (0, 0))
    heart.beat()
    assert (tmp_path / "alive").stat().st_mtime == 0


def test_sigterm_sets_the_stop_event():
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    try:
        stop = service.stop_on_signals()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.wait(2)
    finally:
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGINT, before[1])
