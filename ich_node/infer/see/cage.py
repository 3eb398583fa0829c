"""Native decoders in a cage: a frame goes to a child process (decoder.py) and comes back as values, or not at all.

The child cannot open anything, has its memory limited and a deadline in CPU seconds for each frame; whatever it does,
this process only reads numbers from it. One that dies or does not answer is ended and replaced when it is needed. All
frames of a series together have a `Budget`, so that one series never keeps the next ones waiting for long.
"""

from __future__ import annotations

import atexit
import contextlib
import queue
import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from ich_node.domain.errors import UnusableSeries
from ich_node.domain.reasons import Reason, Why
from ich_node.infer.see.decoder import Question
from ich_node.runtime import caged, cores

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


class Child(caged.Child):
    """One decoder process; RuntimeError when it does not start."""

    def __init__(self) -> None:
        super().__init__("ich_node.infer.see.decoder")
        try:
            self.wait_until_ready()
        except (OSError, EOFError) as error:
            self.end()
            raise RuntimeError("the decoder process does not start") from error

    def ask(self, question: Question, frame: bytes) -> npt.NDArray[Any] | None:
        """The values of a frame, None when the decoder refuses.

        EOFError or OSError when the process is lost, ValueError when it says what it must not: what follows would be
        taken for the answer to the next question.
        """
        self.send(question, frame, question["cpu_s"])
        answer = self.line(4096)
        if not answer:
            return None
        dtype, (rows, columns) = np.dtype(answer["dtype"]), answer["shape"]
        if dtype.kind not in "iu" or (rows, columns) != (question["rows"], question["columns"]):
            raise ValueError("these are not the pixels that were asked for")
        return np.frombuffer(self.data(rows * columns * dtype.itemsize), dtype).reshape(rows, columns)


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
