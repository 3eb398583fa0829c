"""Native decoders in a cage: a frame goes to a child process (decoder.py) and comes back as values, or not at all.

The child cannot open anything, has its memory limited and a deadline in CPU seconds for each frame; whatever it does,
this process only reads numbers from it. One that dies or does not answer is ended and replaced when it is needed. All
frames of a series together have a `Budget`, so that one series never keeps the next ones waiting for long.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import queue
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ich_node.domain.errors import UnusableSeries
from ich_node.domain.reasons import Reason, Why
from ich_node.infer.see.decoder import Question
from ich_node.runtime import cores

START_S = 60.0
"""Wall seconds for a child to load its libraries on a busy machine."""

CPU_TO_WALL = 20.0
"""A busy machine may give a child a twentieth of a core; after that it hangs."""

BASE_S, BYTE_S, PIXEL_S = 0.3, 1e-6, 6e-8
"""CPU seconds that a frame may cost: about six times what JPEG 2000, the slowest, takes for them."""

SPARE_S, HONEST_SHARE = 8.0, 0.5
"""CPU seconds of decoding for a series: half of what the sizes of its frames allow, which is three times what honest
ones take, and a few more for damaged ones."""

CHILD_S = 2.0
"""CPU seconds that a lost child counts: another one has to load its libraries."""


class Budget:
    """CPU seconds of decoding that one series may still take; asked from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left_s = SPARE_S

    def check(self) -> None:
        """Raises UnusableSeries, PIXELS_TOO_COSTLY, when nothing is left."""
        if self._left_s <= 0:
            raise UnusableSeries(Reason(Why.PIXELS_TOO_COSTLY))

    def spend(self, seconds: float, question: Question) -> None:
        """A frame took so many CPU seconds."""
        with self._lock:
            self._left_s += HONEST_SHARE * max(0.0, question["cpu_s"] - BASE_S) - seconds


class Child:
    """One decoder process."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-m", "ich_node.infer.see.decoder"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": _path()}
        with theirs:
            self._process = subprocess.Popen(
                command, stdin=theirs.fileno(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
            )
        self._socket = ours
        self._stream = ours.makefile("rb")
        ours.settimeout(START_S)
        try:
            if self._stream.readline(64) != b"{}\n":
                raise EOFError
        except (OSError, EOFError) as error:
            self.end()
            raise RuntimeError("the decoder process does not start") from error

    def ask(self, question: Question, frame: bytes) -> npt.NDArray[Any] | None:
        """The values of a frame, None when the decoder refuses; EOFError or OSError when the process is lost."""
        self._socket.settimeout(5 + CPU_TO_WALL * question["cpu_s"])
        self._socket.sendall(json.dumps(question).encode() + b"\n" + frame)
        answer = json.loads(self._stream.readline(4096) or b"!")
        if not answer:
            return None
        dtype, (rows, columns) = np.dtype(answer["dtype"]), answer["shape"]
        if dtype.kind not in "iu" or (rows, columns) != (question["rows"], question["columns"]):
            return None
        data = self._stream.read(rows * columns * dtype.itemsize)
        if len(data) < rows * columns * dtype.itemsize:
            raise EOFError("the decoder process ended")
        return np.frombuffer(data, dtype).reshape(rows, columns)

    @property
    def cpu_s(self) -> float:
        """CPU seconds that the process has taken so far, by the kernel's account of it (clock_getcpuclockid(3))."""
        return time.clock_gettime((~self._process.pid << 3) | 2)

    def end(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.wait()
        with contextlib.suppress(OSError):
            self._stream.close()
            self._socket.close()


class Cage:
    """So many children, started when they are first needed; asked from any thread."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._idle: queue.LifoQueue[Child | None] = queue.LifoQueue()
        for _ in range(size):
            self._idle.put(None)

    def decode(self, question: Question, frame: bytes, budget: Budget) -> npt.NDArray[Any]:
        """Values [rows, columns] of a frame.

        Raises UnusableSeries: PIXELS_UNDECODABLE, or PIXELS_TOO_COSTLY when the frame cost the process, or the frames
        of its series have taken all that is in `budget`.
        """
        child = self._idle.get()
        try:
            budget.check()
            child = child or Child()
            before_s = child.cpu_s
            values = child.ask(question, frame)
            budget.spend(child.cpu_s - before_s, question)
        except (OSError, EOFError, ValueError, LookupError, TypeError) as error:
            budget.spend(CHILD_S, question)
            if child is not None:
                child.end()
                child = None
            raise UnusableSeries(Reason(Why.PIXELS_TOO_COSTLY)) from error
        finally:
            self._idle.put(child)
        if values is None:
            raise UnusableSeries(Reason(Why.PIXELS_UNDECODABLE))
        return values

    def close(self) -> None:
        """End the children that are not at work."""
        children = []
        with contextlib.suppress(queue.Empty):
            while True:
                children.append(self._idle.get_nowait())
        for child in children:
            if child is not None:
                child.end()
            self._idle.put(None)


_lock = threading.Lock()
_shared: list[Cage] = []


def shared() -> Cage:
    """The cage of this process, with a child for every core that it may use."""
    with _lock:
        if not _shared:
            _shared.append(Cage(cores.usable()))
            atexit.register(_shared[0].close)
        return _shared[0]


def cpu_s(frame: bytes, pixels: int) -> float:
    """CPU seconds that a frame may cost."""
    return BASE_S + BYTE_S * len(frame) + PIXEL_S * pixels


def _path() -> str:
    """Where this package lies comes first, also when it is not installed."""
    root = Path(__file__).resolve().parents[3]
    return os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH", ""))))
