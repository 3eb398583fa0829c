"""Whose bytes and series fill the spool: when room gets short, what is not analysed goes first, then who has sent most.

In: bytes and series by address. Out: whether another instance may come, given how much room there is. Above the larger
of the two limits for room nobody is asked; below the watermark itself (`store.min_free_gb`) nobody is let in, whoever
it is.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable

ASIDE_ROOM, GREEDY_ROOM = 2.0, 1.5
"""Times the watermark: below so much room nothing is set aside, below so much the greediest sender waits."""
GREEDY_SHARE = 0.5
"""Of what all peers have sent lately; a peer that is the only one is never greedy."""
LATELY_S = 12 * 3600.0
"""A night shift; counted over this one and the one before."""
MOST_SERIES, SERIES_S = 5000, 600.0
"""New series of one address in ten minutes, each of which costs a folder, a judgement and a row: twice what an archive
brings that forwards without a pause."""
MOST_PEERS = 4096
"""Addresses that are counted; a hospital has a few dozen."""


class Shares:
    """Bytes by address, this period and the last one; safe for many threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._began = clock()
        self._now: Counter[str] = Counter()
        self._before: Counter[str] = Counter()
        self._series_began = clock()
        self._series: dict[str, set[str]] = {}

    def took(self, address: str, series_uid: str, count: int) -> None:
        """An instance of so many bytes of this peer was stored in a series."""
        with self._lock:
            if self._clock() - self._series_began >= SERIES_S:
                self._series, self._series_began = {}, self._clock()
            if address in self._series or len(self._series) < MOST_PEERS:
                self._series.setdefault(address, set()).add(series_uid)
            elapsed = self._clock() - self._began
            if elapsed >= LATELY_S:
                self._before = self._now if elapsed < 2 * LATELY_S else Counter()
                self._now, self._began = Counter(), self._clock()
            if address in self._now or len(self._now) < MOST_PEERS:
                self._now[address] += count

    def refusal(self, address: str, series_uid: str, room: float, *, aside: bool) -> str:
        """Why another instance of this peer is refused; empty when it is not. room: free bytes by the watermark."""
        if self._is_one_series_too_many(address, series_uid):
            return "too many series of this sender at a time"
        if aside and room < ASIDE_ROOM:
            return "no space for what is not analysed"
        if room < GREEDY_ROOM and self._is_greedy(address):
            return "no space for more of this sender"
        return ""

    def _is_one_series_too_many(self, address: str, series_uid: str) -> bool:
        with self._lock:
            own = self._series.get(address, set())
            lately = self._clock() - self._series_began < SERIES_S
            return lately and len(own) >= MOST_SERIES and series_uid not in own

    def _is_greedy(self, address: str) -> bool:
        with self._lock:
            own = self._now[address] + self._before[address]
            total = self._now.total() + self._before.total()
        return own < total and own > GREEDY_SHARE * total
