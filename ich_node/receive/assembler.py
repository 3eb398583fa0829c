"""From instances on disk to jobs: which series is whole, which one of a study is analysed, and why not the others.

In: hints from the SCP (`stored`, `ended`), from any thread; the spool. Out: rows in the job store. `tick` does the work
in one thread. Hints live in memory and may be lost; the truth is what lies on disk, and whatever is found there without
a row is assembled again, by silence alone. Only names are read of series that are settled, never their files.

A study gets one answer (`receive.one_series_per_study`): its first eligible series. A head CT that must not be analysed
waits until its study is quiet, and becomes a visible "not analysed" only if no better series has come.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

from pydicom import Dataset

from ich_node.dicom import eligibility
from ich_node.dicom.eligibility import Eligible, NotAnalysed, SetAside, Verdict
from ich_node.dicom.part10 import read_header
from ich_node.dicom.reading import text
from ich_node.domain.dicom import Series, input_digest
from ich_node.domain.errors import UnidentifiableInstance
from ich_node.domain.ledger import Job, JobState
from ich_node.domain.reasons import Reason, Why
from ich_node.receive import completeness
from ich_node.receive.completeness import Evidence, Patience
from ich_node.report.said.reasons import english
from ich_node.runtime import logs
from ich_node.runtime.config import ReceiveConfig
from ich_node.store.ledger.protocols import Intake
from ich_node.store.spool import Spool

MAX_INSTANCES = 4096
RESCAN_S = 30.0
SCAN_SLICE_S = 0.2
OPEN_STATES = frozenset({JobState.QUEUED, JobState.RUNNING, JobState.DELIVERING, JobState.DONE})
IDENTITY = ("StudyInstanceUID", "SeriesInstanceUID", "PatientID")


@dataclass(slots=True)
class _Growing:
    """A series that still comes in, or is not judged yet."""

    study_uid: str
    last_s: float
    open: set[int] = field(default_factory=set)
    released_s: float | None = None
    looked: bool = False  # at its slices, since the last instance came
    whole: bool = False
    headers: dict[str, Dataset] = field(default_factory=dict)  # read so far, by SOP Instance UID

    def evidence(self) -> Evidence:
        return Evidence(self.last_s, bool(self.open), self.released_s)


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A head CT that can not be analysed, until its study is quiet."""

    series: Series
    reason: Reason
    rank: int


class Assembler:
    """See the module's text. `clock` never goes back."""

    def __init__(
        self, config: ReceiveConfig, spool: Spool, jobs: Intake, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._config = config
        self._spool = spool
        self._jobs = jobs
        self._clock = clock
        self._patience = Patience(config.grace_s, config.quiet_period_s)
        self._urgent = {keyword: re.compile(pattern) for keyword, pattern in config.urgent_rule.items()}
        self._keywords = (*eligibility.KEYWORDS, *completeness.KEYWORDS, *IDENTITY, *self._urgent)
        self._news: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._growing: dict[str, _Growing] = {}
        self._brought: dict[int, set[str]] = {}  # association → series
        self._study_last_s: dict[str, float] = {}
        self._waiting: dict[str, list[_Waiting]] = {}  # study → series
        self._judged: dict[str, bool] = {}  # series with a job → eligible
        self._scanned: dict[str, int] = {}  # series → modification time of its folder
        self._scan: Iterator[None] | None = None
        self._next_scan_s = clock()

    # --- hints -----------------------------------------------------------------------------------------------------

    def stored(self, association: int, study_uid: str, series_uid: str) -> None:
        """An image has become durable."""
        now = self._clock()
        self._news.put(lambda: self._grow(association, study_uid, series_uid, now))

    def refused(self, association: int, series_uid: str | None, sop_instance_uid: str, for_space: bool) -> None:
        """An image was not taken."""

    def ended(self, association: int, released: bool) -> None:
        """An association has ended."""
        now = self._clock()
        self._news.put(lambda: self._end(association, released, now))

    def _grow(self, association: int, study_uid: str, series_uid: str, now: float) -> None:
        growing = self._growing.setdefault(series_uid, _Growing(study_uid, now))
        growing.last_s, growing.looked, growing.whole = now, False, False
        growing.open.add(association)
        self._brought.setdefault(association, set()).add(series_uid)
        self._study_last_s[study_uid] = now

    def _end(self, association: int, released: bool, now: float) -> None:
        for series_uid in self._brought.pop(association, ()):
            if growing := self._growing.get(series_uid):
                growing.open.discard(association)
                growing.released_s, growing.looked = now if released else None, False

    # --- the work --------------------------------------------------------------------------------------------------

    @property
    def growing(self) -> int:
        """How many series still come in."""
        return len(self._growing)

    def tick(self) -> None:
        """Do what is due. Raises StoreError when the database can not be used; the same is then due again."""
        with suppress(Empty):
            while True:
                self._news.get_nowait()()
        self._look_around()
        for series_uid in [uid for uid, growing in self._growing.items() if self._is_whole(uid, growing)]:
            self._decide(series_uid)
            del self._growing[series_uid]
        for study_uid in [uid for uid in self._waiting if self._is_quiet(uid)]:
            for waiting in list(self._waiting[study_uid]):
                self._settle(waiting)
                self._waiting[study_uid].remove(waiting)
            del self._waiting[study_uid]
        self._forget()

    def _is_whole(self, series_uid: str, growing: _Growing) -> bool:
        now, evidence = self._clock(), growing.evidence()
        early = completeness.early_s(evidence, self._patience)
        if now >= completeness.quiet_s(evidence, self._patience):
            growing.whole = True
        elif early is not None and now >= early and not growing.looked:
            growing.looked = True
            uids = self._spool.sop_instance_uids(series_uid)
            growing.whole = len(uids) <= MAX_INSTANCES and completeness.is_whole_stack(
                self._headers(series_uid, uids, growing.headers)
            )
        return growing.whole

    def _is_quiet(self, study_uid: str) -> bool:
        if any(growing.study_uid == study_uid for growing in self._growing.values()):
            return False
        return self._clock() >= self._study_last_s.get(study_uid, 0.0) + self._config.quiet_period_s

    def _decide(self, series_uid: str) -> None:
        """Judge a whole series as it lies on disk now; what comes later makes it grow again."""
        uids = self._spool.sop_instance_uids(series_uid)
        if not uids or self._jobs.known(series_uid, input_digest(uids)):
            return
        wanted = set(uids)
        instances = [item for item in self._spool.instances(series_uid) if item.sop_instance_uid in wanted]
        if not instances:
            return  # each is logged by the spool
        series = Series(instances[0].study_uid, series_uid, tuple(instances))
        headers: list[Dataset] = []
        if len(instances) <= MAX_INSTANCES:
            readable = [item.sop_instance_uid for item in instances]
            headers = self._headers(series_uid, readable, self._growing[series_uid].headers)
        self._act(series, self._verdict(headers, series), rank=1 if self._is_urgent(headers) else 0)

    def _act(self, series: Series, verdict: Verdict, rank: int) -> None:
        waiting = self._waiting.get(series.study_uid, [])
        waiting[:] = [item for item in waiting if item.series.series_uid != series.series_uid]  # fewer images
        if isinstance(verdict, SetAside):
            self._refuse(series, verdict.reason)
        elif isinstance(verdict, NotAnalysed):
            self._waiting.setdefault(series.study_uid, []).append(_Waiting(series, verdict.reason, rank))
        elif self._config.one_series_per_study and self._has_sibling(series, eligible=True):
            self._refuse(series, Reason(Why.OTHER_SERIES_ANALYSED))
        else:
            self._queue(series, rank, eligible=True)

    def _settle(self, waiting: _Waiting) -> None:
        """The study is quiet: say visibly that it was not analysed, unless it is answered already."""
        if self._config.one_series_per_study and self._has_sibling(waiting.series, eligible=False):
            self._refuse(waiting.series, waiting.reason)
        else:
            self._queue(waiting.series, waiting.rank, eligible=False)

    def _verdict(self, headers: Sequence[Dataset], series: Series) -> Verdict:
        if len(series.instances) > MAX_INSTANCES:
            return SetAside(Reason(Why.TOO_MANY_IMAGES, limit=MAX_INSTANCES))
        owners = {(text(header, "StudyInstanceUID"), text(header, "PatientID")) for header in headers}
        if len(owners) > 1 or len({instance.study_uid for instance in series.instances}) > 1:
            return SetAside(Reason(Why.SEVERAL_OWNERS))  # whose record would "not analysed" go to?
        return eligibility.verdict(headers)

    def _has_sibling(self, series: Series, eligible: bool) -> bool:
        """Whether another series of the study has a job; eligible: one that is really analysed."""
        jobs = self._jobs.jobs_of_study(series.study_uid)
        others = [job for job in jobs if job.series_uid != series.series_uid and job.state in OPEN_STATES]
        return any(not eligible or self._is_analysed(job) for job in others)

    def _is_analysed(self, job: Job) -> bool:
        if job.state in (JobState.DELIVERING, JobState.DONE):
            return job.is_analysed
        if job.series_uid not in self._judged:  # queued before a restart
            headers = self._headers(job.series_uid, self._spool.sop_instance_uids(job.series_uid), {})
            self._judged[job.series_uid] = isinstance(eligibility.verdict(headers), Eligible)
        return self._judged[job.series_uid]

    def _queue(self, series: Series, rank: int, eligible: bool) -> None:
        job = self._jobs.enqueue(series, rank=rank)
        if job is not None:
            self._judged[series.series_uid] = eligible
            logs.get().info(
                "series_queued", job=job.id, series=series.series_uid, images=len(series.instances), urgent=bool(rank)
            )

    def _refuse(self, series: Series, reason: Reason) -> None:
        self._jobs.set_ineligible(series, english(reason))
        logs.get().info("series_ineligible", series=series.series_uid, images=len(series.instances), reason=str(reason))

    def _is_urgent(self, headers: Sequence[Dataset]) -> bool:
        """Whether any rule of `urgent_rule` matches, by the first header: it is the same for a whole series."""
        return any(pattern.search(text(headers[0], keyword)) for keyword, pattern in self._urgent.items() if headers)

    def _headers(self, series_uid: str, sop_instance_uids: Sequence[str], known: dict[str, Dataset]) -> list[Dataset]:
        """The headers of instances, as far as they can be read; `known` holds those of earlier looks."""
        for path in self._spool.paths(series_uid, [uid for uid in sop_instance_uids if uid not in known]):
            try:
                known[path.stem] = read_header(path, self._keywords)
            except (UnidentifiableInstance, OSError) as error:
                logs.get().warning(
                    "series_unreadable", series=series_uid, instance=path.stem, reason=type(error).__name__
                )
        return [known[uid] for uid in sop_instance_uids if uid in known]

    # --- the truth on disk -----------------------------------------------------------------------------------------

    def _look_around(self) -> None:
        """Go through the folders of all series from time to time, a moment per tick, for what no hint told."""
        if self._scan is None:
            if self._clock() < self._next_scan_s:
                return
            self._scan = self._scan_folders()
        end = time.monotonic() + SCAN_SLICE_S
        for _ in self._scan:
            if time.monotonic() > end:
                return
        self._scan = None
        self._next_scan_s = self._clock() + RESCAN_S

    def _scan_folders(self) -> Iterator[None]:
        present = set()
        for series_uid in list(self._spool.series()):
            present.add(series_uid)
            with suppress(FileNotFoundError):
                self._scan_folder(series_uid)
            yield
        for gone in self._scanned.keys() - present:
            del self._scanned[gone]

    def _scan_folder(self, series_uid: str) -> None:
        modified = os.stat(self._spool.directory(series_uid)).st_mtime_ns  # noqa: PTH116
        if series_uid in self._growing or self._scanned.get(series_uid) == modified:
            return
        uids = self._spool.sop_instance_uids(series_uid)
        waiting = {item.series.series_uid for items in self._waiting.values() for item in items}
        if uids and series_uid not in waiting and not self._jobs.known(series_uid, input_digest(uids)):
            instances = self._spool.instances(series_uid)
            if instances:
                study_uid, now = instances[0].study_uid, self._clock()
                self._growing[series_uid] = _Growing(study_uid, now)
                self._study_last_s[study_uid] = now
        self._scanned[series_uid] = modified

    def _forget(self) -> None:
        """Keep nothing of studies that are quiet and settled."""
        long_ago = self._clock() - self._config.quiet_period_s
        kept = {growing.study_uid for growing in self._growing.values()} | self._waiting.keys()
        for study_uid in [uid for uid, last_s in self._study_last_s.items() if last_s < long_ago and uid not in kept]:
            del self._study_last_s[study_uid]
        while len(self._judged) > MAX_INSTANCES:
            del self._judged[next(iter(self._judged))]
