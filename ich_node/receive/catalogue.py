"""What lies where in the spool: keeps the index in the ledger true to its folders when somebody asks for what it lacks.

A look costs one question to the disk for each folder, and a listing of those that have changed since the last look. The
C-STORE path touches no database, so the index is behind until then, and the folders of the last minutes are asked
themselves (`Spool.find`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

from ich_node.store.ledger.held import Place
from ich_node.store.ledger.protocols import Index
from ich_node.store.spool import Spool

LISTED_TOGETHER = 64
"""Folders that are put into the index in one transaction: it takes a few hundredths of a second."""
SETTLED_NS = 2_000_000_000
"""A folder that was changed later than that before the look may be changed again within the grain of its clock."""
LOOK_SHARE = 10
"""A look is followed by a pause of so many times as long."""


class Catalogue:
    """See the module's text; safe for many threads. clock: Unix seconds."""

    def __init__(self, spool: Spool, index: Index, clock: Callable[[], float] = time.time) -> None:
        self._spool = spool
        self._index = index
        self._clock = clock
        self._lock = threading.Lock()
        self._looked_at = 0.0
        self._next_s = 0.0

    def find(self, sop_instance_uids: Collection[str]) -> dict[str, list[Path]]:
        """Where instances lie by the index, all copies, by SOP Instance UID; raises StoreError."""
        found: dict[str, list[Path]] = {}
        for uid, places in self._index.places_of(sop_instance_uids).items():
            if paths := [path for place in places for path in self._spool.copies_at(place, uid)]:
                found[uid] = paths
        return found

    def look(self, since: float) -> bool:
        """Whether the index knows all that lay there at `since` (Unix seconds); looks, unless it has just done so.

        Raises StoreError.
        """
        with self._lock:
            if self._looked_at > since:
                return True
            if time.monotonic() < self._next_s:
                return False
            began, started = self._clock(), time.monotonic()
            self._bring_up_to_date()
            self._looked_at = began
            self._next_s = time.monotonic() + LOOK_SHARE * (time.monotonic() - started)
            return self._looked_at > since

    def _bring_up_to_date(self) -> None:
        listed = self._index.listed()
        changed: dict[Place, tuple[int, list[str]]] = {}
        present = set()
        for place, modified_ns in self._spool.folders():
            present.add(place)
            if listed.get(place) == modified_ns:
                continue
            settled = time.time_ns() - modified_ns > SETTLED_NS
            with suppress(FileNotFoundError):  # retention was here
                changed[place] = modified_ns if settled else 0, self._spool.uids_at(place)
            if len(changed) >= LISTED_TOGETHER:
                self._index.list_folders(changed)
                changed = {}
        self._index.list_folders(changed)
        self._index.unlist(listed.keys() - present)
