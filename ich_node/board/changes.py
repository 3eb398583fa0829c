"""Pages that are told at once: one watcher of the ledger, and as many listeners as there are open pages.

The ledger's stamp tells that something was written; only then is it asked for more. A listener that does
not keep up gets the newest news, not a backlog: a page only needs to know that it is behind.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field

from ich_node.board.studies import Studies
from ich_node.board.trend import Trend
from ich_node.domain.errors import StoreError
from ich_node.store.ledger.protocols import Overview

LOOK_EVERY_S = 0.25  # a new STAT is on the page within a second
KEEP_ALIVE_S = 15.0  # proxies close what is silent for longer
LISTENERS = 512  # open pages at the same time; more are turned away


@dataclass(slots=True)
class News:
    """Watches the ledger and tells listeners: `{"revision": n, "stat": [job ids]}`."""

    studies: Studies
    ledger: Overview
    trend: Trend
    _listeners: set[asyncio.Event] = field(default_factory=set)
    _stamp: object = None
    _stats: dict[int, frozenset[int]] = field(default_factory=dict)

    async def watch(self, alive: Callable[[], None]) -> None:
        """Look until cancelled; `alive` is called each time."""
        while True:
            alive()
            with suppress(StoreError):  # busy or being replaced: looked at again in a moment
                if (stamp := self.ledger.stamp()) != self._stamp:
                    before = self.studies.revision
                    new = self.studies.refresh()
                    self._stamp = stamp
                    if self.studies.revision != before:
                        self._stats = {self.studies.revision: new}
                        for event in self._listeners:
                            event.set()
                        self.trend.catch_up(self.studies.cards)
            await asyncio.sleep(LOOK_EVERY_S)

    async def listen(self) -> AsyncIterator[str]:
        """Server-sent events (HTML Living Standard 9.2) for one page, until it goes."""
        if len(self._listeners) >= LISTENERS:
            return
        event = asyncio.Event()
        self._listeners.add(event)
        try:
            yield f"retry: 2000\ndata: {json.dumps({'revision': self.studies.revision, 'stat': []})}\n\n"
            while True:
                try:
                    await asyncio.wait_for(event.wait(), KEEP_ALIVE_S)
                except TimeoutError:
                    yield ": still here\n\n"
                    continue
                event.clear()
                revision = self.studies.revision
                stat = sorted(self._stats.get(revision, frozenset()))
                yield f"data: {json.dumps({'revision': revision, 'stat': stat})}\n\n"
        finally:
            self._listeners.discard(event)
