"""One fsync of a folder for all who wait for it."""

from __future__ import annotations

import threading
from pathlib import Path

from ich_node.store import durable


class GroupCommit:
    """fsync of directories, shared: all who ask while one fsync runs are served together by the next one."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._waiting: dict[Path, list[_Ticket]] = {}
        self._busy: set[Path] = set()

    @property
    def waiting(self) -> int:
        """How many callers the next fsyncs will serve."""
        with self._condition:
            return sum(map(len, self._waiting.values()))

    def __call__(self, directory: Path) -> None:
        """Return when every name that is in `directory` now is on stable storage; raises OSError."""
        ticket = _Ticket()
        with self._condition:
            self._waiting.setdefault(directory, []).append(ticket)
            while not ticket.done and directory in self._busy:
                self._condition.wait()
            if ticket.done:
                return ticket.result()
            group = self._waiting.pop(directory)
            self._busy.add(directory)
        error: OSError | None = None
        try:
            durable.sync_directory(directory)
        except OSError as failure:
            error = failure
        with self._condition:
            self._busy.discard(directory)
            for served in group:
                served.done, served.error = True, error
            self._condition.notify_all()
        return ticket.result()


class _Ticket:
    """One caller's place in a group commit."""

    def __init__(self) -> None:
        self.done = False
        self.error: OSError | None = None

    def result(self) -> None:
        if self.error is not None:
            raise OSError(self.error.errno, self.error.strerror)
