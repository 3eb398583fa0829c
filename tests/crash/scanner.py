"""A scanner: phantom series on disk, and DCMTK storescu that sends them until every instance is acknowledged."""

from __future__ import annotations

import functools
import os
import random
import re
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from ich_node.phantom import head, series

SENDING = re.compile(r"^I: Sending file: (?P<path>.+)$")
SUCCESS = re.compile(r"^I: Received Store Response \(Success\)")
PAUSE_S = 0.1


class Patients:
    """Head CT series, each a study of its own, made from one small bleeding head as they are asked for."""

    def __init__(self, folder: Path, *, slices: int = 32, pixels: int = 128, seed: int = 0) -> None:
        self._phantom = small_head(slices, pixels)
        self._folder, self._seed, self._count = folder, seed, 0
        self._lock = threading.Lock()

    def next(self) -> list[Path]:
        """The files of one more series, in the order of sending."""
        with self._lock:
            self._count += 1
            number = self._seed * 100_000 + self._count
        return series.write_series(self._folder / f"{number:06}", self._phantom, seed=number)


@functools.cache
def small_head(slices: int, pixels: int) -> head.Phantom:
    """One bleeding head on a coarse grid."""
    return head.phantom("intraparenchymal", slices=slices, rows=pixels, columns=pixels, seed=1)


class Scanner(threading.Thread):
    """Sends series after series until told to finish; the one in hand is still sent until it is acknowledged.

    acknowledged: what the peer answered with Success. problem: why it gave up, if it did.
    """

    def __init__(
        self,
        patients: Patients,
        port: int,
        seed: int,
        *,
        called: str = "ICHNODE",
        longest_pause_s: float = 2.0,
        give_up_s: float = 300,
    ) -> None:
        super().__init__(daemon=True)
        self.series: list[list[Path]] = []
        self.acknowledged: list[Path] = []
        self.problem: Exception | None = None
        self._patients, self._port, self._called = patients, port, called
        self._random = random.Random(seed)
        self._longest_pause_s, self._give_up_s = longest_pause_s, give_up_s
        self._finish = threading.Event()

    def run(self) -> None:
        """Send until finish()."""
        while not self._finish.is_set():
            paths = self._patients.next()
            self.series.append(paths)
            try:
                done = send_all(paths, self._port, called=self._called, deadline=time.monotonic() + self._give_up_s)
            except (TimeoutError, subprocess.TimeoutExpired) as error:
                self.problem = error
                return
            self.acknowledged.extend(done)
            self._finish.wait(self._random.uniform(0, self._longest_pause_s))

    def finish(self) -> None:
        """Wait for the series in hand, then stop; raises what made the scanner give up."""
        self._finish.set()
        self.join(self._give_up_s + 60)
        if self.problem is not None:
            raise self.problem


def send_once(
    paths: Sequence[Path],
    port: int,
    *,
    called: str = "ICHNODE",
    calling: str = "SCANNER",
    options: Sequence[str] = (),
    timeout_s: float = 120,
    host: str = "127.0.0.1",
    inside: Sequence[str] = (),
) -> list[Path]:
    """One association of storescu; returns the files whose C-STORE the peer answered with Success, in order.

    inside: what to put before the command, so that it runs on another host.
    """
    command = [*inside, "storescu", "-v", "-R", "-aet", calling, "-aec", called, *options, host, str(port)]
    done = subprocess.run(
        [*command, *map(str, paths)],
        env={**os.environ, "TCP_NODELAY": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    acknowledged, current = [], None
    for line in done.stdout.splitlines():
        if begun := SENDING.match(line):
            current = Path(begun["path"])
        elif SUCCESS.match(line) and current is not None:
            acknowledged.append(current)
            current = None
    return acknowledged


def send_all(paths: Sequence[Path], port: int, *, deadline: float, called: str = "ICHNODE") -> list[Path]:
    """Send until all are acknowledged, as a scanner's queue does: again and again what is not yet acknowledged.

    deadline: time.monotonic() after which TimeoutError is raised.
    """
    acknowledged: list[Path] = []
    while missing := [path for path in paths if path not in acknowledged]:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(missing)} of {len(paths)} instances were never acknowledged")
        acknowledged += send_once(missing, port, called=called)
        if len(acknowledged) < len(paths):
            time.sleep(PAUSE_S)
    return acknowledged
