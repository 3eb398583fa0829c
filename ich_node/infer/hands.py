"""The two hands of a worker: while the engine looks at one study, the other is read, explained, written or waited for.

    hand 1   claim · read · engine · explain · write · publish · claim · read …
    hand 2                  claim · read ·     engine · explain · write · publish …

One engine, and one hand at it. Every hand holds its job by a lease of its own, so that nothing but a claim is between
two studies, and what a crash leaves behind is two jobs instead of one. Two kinds of study have the worker for
themselves: large ones, so that memory holds one of them, and those that were begun before and not finished, so that a
study that costs workers their lives takes no other one with it twice.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ich_node.domain.ledger import Job
from ich_node.infer import lease
from ich_node.infer.engine import Engine, Output
from ich_node.runtime.service import Stop
from ich_node.store.ledger.protocols import Ear, Work

HANDS = 2
"""More would wait for the engine on a CPU, and for Python on a GPU; there more workers do more."""
LARGE_BYTES = 128 << 20
"""Of files: 256 slices of 512² that are not compressed. Two of them take less memory than one of a thousand slices."""
POLL_S = 0.5  # for what no bell told; a stop waits for it
BEAT_S = 0.5  # chosen: well below any watchdog interval, and no work
HANGS_S = 180.0
"""No study takes so long, a larger one than LARGE_BYTES as many times so long; a worker that has one for longer is not
said to be alive, so that the watchdog ends it."""


class Worker(Protocol):
    """What the hands need of infer.worker.Worker, from several threads at once."""

    def claim(self) -> Job | None: ...
    def work_on(self, job: Job) -> None: ...
    def paths(self, job: Job) -> list[Path]: ...


class OneAtATime:
    """An engine for several threads: see `Engine`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._turn = threading.Lock()
        self.name = engine.name

    @property
    def recoverable(self) -> bool:
        """As the engine says."""
        return self._engine.recoverable

    def run(self, hu: npt.NDArray[np.int16]) -> Output:
        """As the engine does, when it is this thread's turn."""
        with self._turn:
            return self._engine.run(hu)

    def self_test(self) -> float:
        """As the engine does."""
        with self._turn:
            return self._engine.self_test()


class Hands:
    """`run` returns when `stop` is set and the jobs in hand are finished; it raises what a job must not survive."""

    def __init__(self, worker: Worker, jobs: Work, stop: Stop) -> None:
        self._worker = worker
        self._jobs = jobs
        self._stop = stop
        self._failed = threading.Event()
        self._turn = threading.Lock()
        """Held by the hand that looks for work."""
        self._free = threading.Semaphore(HANDS)
        self._at_work: dict[int, tuple[float, float]] = {}
        """Job → when it was begun, and how many times as long as others it may take."""

    def run(self, ear: Ear, beat: Callable[[], None]) -> None:
        """Work; ear: rung when a job is queued; beat: called often, as long as no job hangs."""
        with ThreadPoolExecutor(HANDS, "hand") as pool:
            hands = [pool.submit(self._work, ear) for _ in range(HANDS)]
            left = set(hands)
            while left:
                _, left = wait(left, BEAT_S, FIRST_EXCEPTION)
                now, at_work = time.monotonic(), list(self._at_work.values())
                if all(now - began < times * HANGS_S for began, times in at_work):
                    beat()
        for hand in hands:
            hand.result()

    def _work(self, ear: Ear) -> None:
        try:
            while self._next(ear):
                pass
        except BaseException:
            self._failed.set()
            raise

    def _next(self, ear: Ear) -> bool:
        """Find a job and do it; False when it is time to end."""
        with ExitStack() as held:
            with self._turn:
                held.enter_context(self._taken())  # nobody looks for work while a study has the worker for itself
                job = self._find(ear)
                if job is None:
                    return False
                held.enter_context(lease.held(self._jobs, job))
                size = self._size(job)
                for _ in range(1, HANDS if job.attempts > 1 or size > LARGE_BYTES else 1):
                    held.enter_context(self._taken())
            self._at_work[job.id] = time.monotonic(), max(1.0, size / LARGE_BYTES)
            try:
                self._worker.work_on(job)
            finally:
                del self._at_work[job.id]
        return True

    def _find(self, ear: Ear) -> Job | None:
        while not (self._stop.is_set() or self._failed.is_set()):
            job = self._worker.claim()
            if job is not None:
                return job
            ear.wait(POLL_S)
        return None

    def _size(self, job: Job) -> int:
        """Bytes of a job's files, as far as the disk tells."""
        total = 0
        for path in self._worker.paths(job):
            with suppress(OSError):
                total += path.stat().st_size
        return total

    @contextmanager
    def _taken(self) -> Iterator[None]:
        with self._free:
            yield
