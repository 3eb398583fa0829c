"""What every role needs from its surroundings: a stop event, sd_notify, exit codes.

SIGTERM and SIGINT set the stop event; a role returns from run() soon after. Under systemd (Type=notify) a role reports
READY, STATUS and WATCHDOG through the socket that NOTIFY_SOCKET names (sd_notify(3)); elsewhere these calls do nothing.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from contextlib import suppress
from types import FrameType

EXIT_OK = 0  # as every shell expects
EXIT_FAILURE = 1  # as every shell expects
EXIT_NOT_ANALYSED = 3  # chosen: neither a failure nor 2, with which argparse ends
EXIT_CONFIG = 78  # EX_CONFIG of sysexits.h; the units do not restart on it

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


def notify(*lines: str) -> None:
    """Tell systemd, e.g. notify("READY=1", "STATUS=listening"); nothing happens without systemd."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]  # abstract namespace
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel, suppress(OSError):
        channel.connect(address)  # a supervisor that does not listen is no reason to stop working
        channel.sendall("\n".join(lines).encode())


class Heartbeat:
    """Pats the watchdog at most every third of WATCHDOG_USEC; call beat() from the role's own loop, so that a hung
    loop is noticed."""

    def __init__(self) -> None:
        self._interval_s = int(os.environ.get("WATCHDOG_USEC", "0")) / 1e6 / 3
        self._last = 0.0

    def beat(self, status: str | None = None) -> None:
        """Say that the role is alive, with an optional line for `systemctl status`."""
        now = time.monotonic()
        if now - self._last < self._interval_s:
            return
        self._last = now
        notify("WATCHDOG=1", *([f"STATUS={status}"] if status else []))
