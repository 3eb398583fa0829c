"""What every role needs from its surroundings: a stop event, signs of life, exit codes.

SIGTERM and SIGINT set the stop event; a role returns from run() soon after. Under systemd (Type=notify) a role reports
READY, STATUS and WATCHDOG through the socket that NOTIFY_SOCKET names (sd_notify(3)). In a container, whose probes look
at files, it touches the file that ICH_NODE_ALIVE names: it is there once the role is ready, and young while it lives.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType

EXIT_OK = 0  # as every shell expects
EXIT_FAILURE = 1  # as every shell expects
EXIT_NOT_ANALYSED = 3  # chosen: neither a failure nor 2, with which argparse ends
EXIT_CONFIG = 78  # EX_CONFIG of sysexits.h; the units do not restart on it

ALIVE_VARIABLE = "ICH_NODE_ALIVE"  # set by the manifests of packaging/kubernetes
SIGNS_OF_LIFE = frozenset({"READY=1", "WATCHDOG=1"})
TOUCHED_EVERY_S = 5.0  # a sixth of the shortest time after which a probe calls a role dead

Stop = threading.Event
"""A role's stop event: `stop.wait(seconds)` sleeps until it is set, `stop.is_set()` asks."""


def stop_on_signals() -> Stop:
    """A stop event that SIGTERM and SIGINT set."""
    stop = Stop()

    def handler(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, handler)
    signal.signal(signal.SIGINT, handler)
    return stop


def begin() -> None:
    """Before a role is ready: the sign of life of the process before it in the same container is not its own."""
    if file := os.environ.get(ALIVE_VARIABLE):
        Path(file).unlink(missing_ok=True)


def notify(*lines: str) -> None:
    """Tell systemd, e.g. notify("READY=1", "STATUS=listening"), and the probes; nothing happens without them."""
    if (file := os.environ.get(ALIVE_VARIABLE)) and SIGNS_OF_LIFE.intersection(lines):
        Path(file).touch()
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]  # abstract namespace
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel, suppress(OSError):
        channel.connect(address)  # a supervisor that does not listen is no reason to stop working
        channel.sendall("\n".join(lines).encode())


class Heartbeat:
    """Pats the watchdog at most every third of WATCHDOG_USEC, and touches the file every few seconds; call beat() from
    the role's own loop, so that a hung loop is noticed."""

    def __init__(self) -> None:
        watchdog_s = int(os.environ.get("WATCHDOG_USEC", "0")) / 1e6
        self._interval_s = watchdog_s / 3 or (TOUCHED_EVERY_S if os.environ.get(ALIVE_VARIABLE) else 0.0)
        self._last = 0.0

    def beat(self, status: str | None = None) -> None:
        """Say that the role is alive, with an optional line for `systemctl status`."""
        now = time.monotonic()
        if now - self._last < self._interval_s:
            return
        self._last = now
        notify("WATCHDOG=1", *([f"STATUS={status}"] if status else []))
