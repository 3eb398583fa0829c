"""Bells between the processes of a node, so that nobody waits out a poll when there is something to do.

    ring ──datagram──▶ every listener's socket in the bell's folder ──▶ wait() returns at once

A hint, never state: a ring may be lost (no listener yet, another machine, a folder that cannot be written), so whoever
listens looks for work when its wait is over as well. A listener exists before it looks for work for the first time;
what is rung from then on is kept for its next wait.
"""

from __future__ import annotations

import errno
import os
import secrets
import select
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SUFFIX = ".bell"
RINGS_AT_ONCE = 64  # datagrams taken in one go; more are taken by the next wait
GROUP_RINGS = 0o770
"""Mode of a socket in a folder that the group writes: connect(2) asks for write permission, and the umask takes it."""
GONE = frozenset({errno.ECONNREFUSED, errno.ENOENT})  # nobody holds the socket any more


class Bell:
    """One kind of news. `folder` holds a socket for every listener."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def ring(self) -> None:
        """Wake everybody who listens; never fails and never blocks."""
        with suppress(OSError), _reachable(self._folder) as folder:
            for name in os.listdir(folder):  # noqa: PTH208 — names, not paths: they are joined to the short folder
                if name.endswith(SUFFIX):
                    self._tell(folder, name)

    @contextmanager
    def listen(self) -> Iterator[Listener]:
        """Be woken from now on, until the block ends."""
        channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        name = f"{os.getpid()}-{secrets.token_hex(4)}{SUFFIX}"
        with channel:
            with suppress(OSError):  # without a socket there are only polls
                self._folder.mkdir(mode=0o750, parents=True, exist_ok=True)
                with _reachable(self._folder) as folder:
                    channel.bind(f"{folder}/{name}")
                    if Path(folder).stat().st_mode & stat.S_IWGRP:  # parts with accounts of their own
                        Path(folder, name).chmod(GROUP_RINGS)
            try:
                yield Listener(channel)
            finally:
                with suppress(OSError):
                    (self._folder / name).unlink()

    def _tell(self, folder: str, name: str) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as channel:
            try:
                channel.sendto(b"\n", f"{folder}/{name}")
            except OSError as error:  # full: it was rung often enough · not ours to write to
                if error.errno in GONE:  # its listener was killed
                    with suppress(OSError):
                        (self._folder / name).unlink()


class Listener:
    """One waiting thread's ear; made by Bell.listen."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel

    def wait(self, timeout_s: float) -> bool:
        """Wait until the bell rings, at most `timeout_s` seconds; True when it rang, now or since the last wait."""
        try:
            rang, _, _ = select.select([self._channel], [], [], max(0.0, timeout_s))
            if not rang:
                return False
            for _ in range(RINGS_AT_ONCE):
                self._channel.recv(16)
        except BlockingIOError:
            return True
        except OSError:
            time.sleep(min(0.2, max(0.0, timeout_s)))  # no ear: a poll every 0.2 s, as without bells
            return False
        return True


@contextmanager
def _reachable(folder: Path) -> Iterator[str]:
    """A short name of a folder: the address of a socket has 107 characters at most (unix(7))."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
