"""Going through the folders of all series from time to time, for what no hint told of: the truth is what lies on disk.

Only names are read of series that are settled, never their files.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import islice

from ich_node.dicom.part10 import read_instance
from ich_node.domain.errors import UnidentifiableInstance
from ich_node.receive.arrivals import Arrivals
from ich_node.store.ledger.protocols import Intake
from ich_node.store.spool import Spool

RESCAN_S = 30.0  # chosen: the longest that what no hint told stays unseen; a look reads every folder
SCANNED_TOGETHER = 64
"""Folders whose rows are asked for in one query."""


class Sweep:
    """See the module's text. `is_waiting`: whether a series is judged already, and only its study is waited for.

    assembles: whether this receiver judges a study.
    """

    def __init__(
        self,
        spool: Spool,
        jobs: Intake,
        arrivals: Arrivals,
        is_waiting: Callable[[str], bool],
        clock: Callable[[], float],
        assembles: Callable[[str], bool],
    ) -> None:
        self._spool = spool
        self._jobs = jobs
        self._arrivals = arrivals
        self._is_waiting = is_waiting
        self._clock = clock
        self._assembles = assembles
        self._scanned: dict[str, int] = {}  # series → modification time of its folder
        self._steps: Iterator[None] | None = None
        self._next_s = clock()

    def go_on(self, seconds: float) -> None:
        """Look for about so long, when it is time."""
        if self._steps is None:
            if self._clock() < self._next_s:
                return
            self._steps = self._folders()
        end = time.monotonic() + seconds
        for _ in self._steps:
            if time.monotonic() > end:
                return
        self._steps = None
        self._next_s = self._clock() + RESCAN_S

    def start_over(self) -> None:
        """Ask of every folder anew whether its images have a row."""
        self._scanned.clear()

    def _folders(self) -> Iterator[None]:
        present: set[str] = set()
        series = self._spool.series()
        while batch := list(islice(series, SCANNED_TOGETHER)):
            present.update(batch)
            changed: dict[str, tuple[int, list[str]]] = {}
            for series_uid in batch:
                if series_uid in self._arrivals.series and not self._arrivals.series[series_uid].settled:
                    continue
                with suppress(FileNotFoundError):
                    modified = self._spool.directory(series_uid).stat().st_mtime_ns
                    if self._scanned.get(series_uid) != modified:
                        changed[series_uid] = (modified, self._spool.sop_instance_uids(series_uid))
            if changed:
                known = self._jobs.images_of(list(changed))
                for series_uid, (modified, names) in changed.items():
                    unknown = set(names) - known.get(series_uid, set()) and not self._is_waiting(series_uid)
                    if not unknown or self._take_up(series_uid, names):
                        self._scanned[series_uid] = modified
            yield
        for gone in self._scanned.keys() - present:
            del self._scanned[gone]

    def _take_up(self, series_uid: str, names: Sequence[str]) -> bool:
        """Have a series judged; False when another receiver is at it, which may not live to do so."""
        for path in self._spool.paths(series_uid, names):
            with suppress(UnidentifiableInstance, OSError):
                study_uid = read_instance(path).study_uid
                if not self._assembles(study_uid):
                    return False
                self._arrivals.found(series_uid, study_uid)
                return True
        return True
