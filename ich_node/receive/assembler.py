"""From instances on disk to jobs: which series is whole, which one of a study is analysed, and why not the others.

In: hints from the SCP (`stored`, `refused`, `ended`), from any thread; the spool. Out: rows in the ledger. `tick`
does the work in one thread, a moment at a time, so that a heavy series delays the others by that moment only. Hints
live in memory and may be lost; the truth is what lies on disk, and whatever is found there without a row is assembled
again, by silence alone. Only names are read of series that are settled, never their files.

When a series is whole is said in `completeness`, whose the images are in `owners`, which series of a study is the
better one in `dicom/study`; here is the time. A study gets one answer per owner and sender
(`receive.one_series_per_study`): its first eligible series. A head CT that must not be analysed waits until its study
is quiet, and becomes a visible "not analysed" only if no better series has come.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from queue import Empty, SimpleQueue

from pydicom import Dataset

from ich_node.dicom import eligibility, owner, study
from ich_node.dicom.eligibility import Eligible, NotAnalysed, SetAside, Verdict
from ich_node.dicom.part10 import read_instance
from ich_node.dicom.reading import text
from ich_node.domain.dicom import Instance, Peer, Series
from ich_node.domain.errors import UnidentifiableInstance
from ich_node.domain.ledger import Job, JobState, Origin
from ich_node.domain.reasons import Reason, Why
from ich_node.receive import completeness
from ich_node.receive.completeness import Evidence, Patience
from ich_node.receive.owners import ImageSet, judged, parted
from ich_node.receive.reading import Reading, TooCostly, same_picture
from ich_node.receive.series import Growing, Judged, by_name, origin_of
from ich_node.report.said.reasons import english
from ich_node.runtime import logs
from ich_node.runtime.config import ReceiveConfig
from ich_node.store.ledger.protocols import Intake
from ich_node.store.spool import Spool

RESCAN_S = 30.0  # chosen: the longest that what no hint told stays unseen; a look reads every folder
SLICE_S = 0.2
"""Seconds of reading per tick, of headers and of folders each: the heartbeat goes on between two ticks."""
MOST_ATTEMPTS = 3
"""At judging one series, in which the process died or hung: after that it is told without being read."""
MOST_REMEMBERED = 4096
"""Series and answers that are kept in memory after they are settled."""
HELD_FACTOR = 2.0
"""Idle time-outs for which results are held back at most, should nobody be there to judge their series again."""
MOST_REFUSED = 1000
"""Refused images that are remembered of a series; one is enough to wait for it."""
REMEMBERED = 60.0
"""Quiet periods for which the pauses of a sender are remembered."""
SCANNED_TOGETHER = 64
"""Folders whose rows are asked for in one query."""
TOLD = frozenset({Why.REFUSED_FOR_SPACE, Why.IMAGES_REFUSED, Why.SEVERAL_OWNERS})
"""Reasons that the images themselves do not show to the worker."""
NOWHERE = Origin()
DONE = object()
OPEN_STATES = frozenset({JobState.QUEUED, JobState.RUNNING, JobState.DELIVERING, JobState.DONE})


class Assembler:
    """See the module's text. `clock` never goes back."""

    def __init__(
        self,
        config: ReceiveConfig,
        spool: Spool,
        jobs: Intake,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._config = config
        self._spool = spool
        self._jobs = jobs
        self._clock = clock
        self._wall_clock = wall_clock
        self._patience = Patience(config.grace_s, config.quiet_period_s, config.idle_timeout_s)
        self._urgent = {keyword: re.compile(pattern) for keyword, pattern in config.urgent_rule.items()}
        self._keywords = (
            *eligibility.KEYWORDS,
            *completeness.KEYWORDS,
            *owner.KEYWORDS,
            "AccessionNumber",
            *self._urgent,
        )
        self._news: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._growing: dict[str, Growing] = {}
        self._brought: dict[int, set[str]] = {}  # association → series
        self._latest: dict[int, str] = {}  # association → the series of its last image
        self._study_last_s: dict[str, float] = {}
        self._judged: dict[str, list[Judged]] = {}  # study → to be acted upon
        self._waiting: dict[str, list[Judged]] = {}  # study → head CTs that cannot be analysed
        self._eligible: dict[str, bool] = {}  # series with a job → eligible
        self._to_hold: set[int] = set()  # jobs whose series goes on
        self._missed: dict[str | int, dict[str, tuple[Peer | None, bool]]] = {}  # series or association → refused
        self._scanned: dict[str, int] = {}  # series → modification time of its folder
        self._scan: Iterator[None] | None = None
        self._next_scan_s = clock()

    # --- hints -----------------------------------------------------------------------------------------------------

    def stored(self, association: int, study_uid: str, series_uid: str) -> None:
        """An image has become durable."""
        now = self._clock()
        self._news.put(lambda: self._grow(association, study_uid, series_uid, now))

    def refused(
        self, association: int, peer: Peer | None, series_uid: str | None, sop_instance_uid: str, for_space: bool
    ) -> None:
        """An image was not taken."""
        now = self._clock()
        self._news.put(lambda: self._miss(association, peer, series_uid, sop_instance_uid, for_space, now))

    def ended(self, association: int, released: bool) -> None:
        """An association has ended."""
        now = self._clock()
        self._news.put(lambda: self._end(association, released, now))

    def _grow(self, association: int, study_uid: str, series_uid: str, now: float) -> None:
        growing = self._growing.get(series_uid)
        if growing is None:
            growing = self._growing[series_uid] = Growing({study_uid}, now)
        for missed in (self._missed.pop(series_uid, {}), self._missed.pop(association, {})):
            for uid, why in missed.items():
                self._mark_refused(growing, series_uid, uid, *why)
        growing.studies.add(study_uid)
        longest, second, _ = sorted((*growing.pauses_s, now - growing.last_s), reverse=True)
        growing.pauses_s = (longest, second)
        if association not in growing.open:
            growing.rounds += not growing.open
            growing.open.add(association)
        self._brought.setdefault(association, set()).add(series_uid)
        self._latest[association] = series_uid
        self._stir(series_uid, growing, now)

    def _miss(
        self,
        association: int,
        peer: Peer | None,
        series_uid: str | None,
        sop_instance_uid: str,
        for_space: bool,
        now: float,
    ) -> None:
        """An image that does not say its series is taken for one of the series that its association is bringing."""
        series_uid = series_uid or self._latest.get(association)
        growing = self._growing.get(series_uid or "")
        if series_uid is None or growing is None:  # nothing of it has been taken yet
            missed = self._missed.setdefault(series_uid or association, {})
            missed[sop_instance_uid] = (peer, for_space)
            if len(missed) > MOST_REFUSED or len(self._missed) > MOST_REFUSED:
                del self._missed[next(iter(self._missed))]
            return
        self._mark_refused(growing, series_uid, sop_instance_uid, peer, for_space)
        self._stir(series_uid, growing, now)

    def _mark_refused(
        self, growing: Growing, series_uid: str, sop_instance_uid: str, peer: Peer | None, for_space: bool
    ) -> None:
        if len(growing.refused) < MOST_REFUSED:
            growing.refused[sop_instance_uid] = (peer, for_space)
            self._spool.mark_refused(series_uid, sop_instance_uid, peer, for_space)

    def _stir(self, series_uid: str, growing: Growing, now: float) -> None:
        """Something of a series has happened: what was found out about it no longer holds."""
        growing.last_s, growing.looked, growing.settled, growing.work = now, False, False, None
        for study_uid in growing.studies:
            self._study_last_s[study_uid] = now
            self._drop_judged(study_uid, series_uid)
        if growing.early is not None:
            self._to_hold.add(growing.early)
            growing.early, growing.held = None, True

    def _drop_judged(self, study_uid: str, series_uid: str) -> None:
        for table in (self._judged, self._waiting):
            if study_uid in table:
                table[study_uid] = [item for item in table[study_uid] if item.series.series_uid != series_uid]

    def _end(self, association: int, released: bool, now: float) -> None:
        self._latest.pop(association, None)
        for series_uid in self._brought.pop(association, ()):
            if growing := self._growing.get(series_uid):
                growing.open.discard(association)
                growing.released_s, growing.looked = now if released else None, False

    # --- the work --------------------------------------------------------------------------------------------------

    @property
    def growing(self) -> int:
        """How many series still come in."""
        return sum(not growing.settled for growing in self._growing.values())

    def tick(self) -> None:
        """Do what is due. Raises StoreError when the database cannot be used; the same is then due again."""
        with suppress(Empty):
            while True:
                self._news.get_nowait()()
        for job_id in list(self._to_hold):
            self._jobs.hold(job_id, self._wall_clock() + HELD_FACTOR * self._config.idle_timeout_s)
            self._to_hold.remove(job_id)
        self._look_around()
        busy = self._judge_due()
        for study_uid in [uid for uid in self._judged if uid not in busy]:
            self._act(study_uid)
        for study_uid in [uid for uid in self._waiting if self._is_quiet(uid)]:
            self._settle(study_uid)
        self._forget()

    def _judge_due(self) -> set[str]:
        """Read and judge for a moment, every series in turn; the studies of which one is still to be judged."""
        end = time.monotonic() + SLICE_S
        for series_uid, growing in list(self._growing.items()):
            if growing.work is None:
                growing.work = self._due(series_uid, growing)
        at_work = [growing for growing in self._growing.values() if growing.work is not None]
        while at_work and time.monotonic() < end:
            for growing in at_work:
                assert growing.work is not None  # noqa: S101
                if next(growing.work, DONE) is DONE:
                    growing.work = None
            at_work = [growing for growing in at_work if growing.work is not None]
        return {study_uid for growing in at_work for study_uid in growing.studies}

    def _due(self, series_uid: str, growing: Growing) -> Iterator[None] | None:
        """What is to be done for a series now, if anything."""
        if growing.settled:
            return None
        now, evidence = self._clock(), self._evidence(series_uid, growing)
        look_s = completeness.look_s(evidence)
        if now >= completeness.quiet_s(evidence, self._patience):
            return self._judge(series_uid, growing, evidence, early=False)
        if look_s is not None and now >= look_s and not growing.looked:
            return self._judge(series_uid, growing, evidence, early=True)
        return None

    def _evidence(self, series_uid: str, growing: Growing) -> Evidence:
        return Evidence(
            last_s=growing.last_s,
            open=any(self._latest.get(association) == series_uid for association in growing.open),
            released_s=None if growing.open else growing.released_s,
            rounds=growing.rounds,
            pause_s=growing.pauses_s[1],
            refused=bool(growing.refused),
        )

    def _is_quiet(self, study_uid: str) -> bool:
        if any(study_uid in growing.studies and not growing.settled for growing in self._growing.values()):
            return False
        return self._clock() >= self._study_last_s.get(study_uid, 0.0) + self._config.quiet_period_s

    # --- judging ---------------------------------------------------------------------------------------------------

    def _judge(self, series_uid: str, growing: Growing, evidence: Evidence, early: bool) -> Iterator[None]:
        """Judge a series as it lies on disk now, one header a step; what comes later makes it grow again.

        early: only a stack that is whole by itself is judged, and its results can still be cancelled.
        """
        names = self._spool.sop_instance_uids(series_uid)
        if not growing.held and not growing.refused and self._seen(series_uid, names):
            growing.settled = True
            return
        growing.reading = growing.reading or Reading(self._spool, series_uid, self._keywords)
        failures = self._spool.begin_judging(series_uid)
        if failures >= MOST_ATTEMPTS:
            self._tell(series_uid, growing, names, Reason(Why.NOT_JUDGED))
            growing.settled = True
            return
        try:
            yield from growing.reading.steps()
        except TooCostly:
            self._tell(series_uid, growing, names, Reason(Why.HEADERS_TOO_LARGE))
            growing.settled = True
            return
        finally:
            self._spool.end_judging(series_uid)
        sets = parted(growing.reading.images, same_picture)
        found = list(zip(sets, judged(sets, lambda sender: self._missing(growing, names, sender)), strict=True))
        growing.looked = True
        if early and len(found) == 1 and _is_whole(*found[0]):
            self._note(series_uid, found, completeness.publish_s(evidence, self._patience))
        elif not early:
            self._record_rest(series_uid, growing, names, found)
            growing.settled, growing.held, growing.reading = True, False, None
            self._note(series_uid, found, publish_s=0.0)

    def _note(self, series_uid: str, found: Sequence[tuple[ImageSet, Verdict]], publish_s: float) -> None:
        for images, verdict in found:
            study_uid = images.owner.study_uid
            series = Series(study_uid, series_uid, tuple(by_name(image.instance) for image in images.images))
            rank = 1 if self._is_urgent(images.headers) else 0
            item = Judged(series, origin_of(images), verdict, rank, publish_s)
            self._judged.setdefault(study_uid, []).append(item)

    def _missing(self, growing: Growing, names: Sequence[str], sender: Peer | None) -> Reason | None:
        """Why images of this sender were refused that did not come again."""
        open_ones = [why for uid, why in growing.refused.items() if uid not in names and why[0] == sender]
        if not open_ones:
            return None
        return Reason(Why.REFUSED_FOR_SPACE if any(for_space for _, for_space in open_ones) else Why.IMAGES_REFUSED)

    def _seen(self, series_uid: str, names: Sequence[str]) -> bool:
        """Whether every file of a series belongs to a row already."""
        rows = self._jobs.jobs_of_series(series_uid)
        return set(names) <= {name for row in rows for name in row.sop_instance_uids}

    def _record_rest(
        self, series_uid: str, growing: Growing, names: Sequence[str], found: Sequence[tuple[ImageSet, Verdict]]
    ) -> None:
        """Record what is in no set: copies, what was replaced, what cannot be read. It is not looked at again."""
        judged_names = {image.instance.name for images, _ in found for image in images.images}
        if rest := [name for name in names if name not in judged_names]:
            read = {image.instance.name for image in growing.reading.images} if growing.reading else set()
            why = Why.SENT_AGAIN if read.issuperset(rest) else Why.NOT_READABLE
            self._end_without(series_uid, growing, rest, Reason(why))

    def _end_without(self, series_uid: str, growing: Growing, names: Sequence[str], reason: Reason) -> None:
        self._record(self._unjudged(series_uid, growing, names), reason)

    def _tell(self, series_uid: str, growing: Growing, names: Sequence[str], reason: Reason) -> None:
        """End a series that cannot be judged, with an answer: it may be a head CT, and it was acknowledged."""
        self._jobs.enqueue(self._unjudged(series_uid, growing, names), told=reason.code)
        logs.get().warning("series_unreadable", series=series_uid, images=len(names), reason=str(reason))

    def _unjudged(self, series_uid: str, growing: Growing, names: Sequence[str]) -> Series:
        study_uid = next(iter(growing.studies))
        paths = self._spool.paths(series_uid, names)
        instances = tuple(Instance(study_uid, series_uid, "", path.stem, "", path) for path in paths)
        return Series(study_uid, series_uid, instances)

    # --- acting ----------------------------------------------------------------------------------------------------

    def _act(self, study_uid: str) -> None:
        """Queue, refuse or keep waiting what was judged of a study, the best series first."""
        items = self._judged[study_uid]
        for item in sorted(items, key=lambda item: study.preference(item.candidate)):
            if isinstance(item.verdict, SetAside):
                self._refuse(item, item.verdict.reason)
            elif isinstance(item.verdict, NotAnalysed):
                self._waiting.setdefault(study_uid, []).append(item)
            elif self._config.one_series_per_study and self._has_sibling(item, eligible=True):
                self._refuse(item, Reason(Why.OTHER_SERIES_ANALYSED))
            else:
                self._queue(item, eligible=True)
            items.remove(item)
        del self._judged[study_uid]

    def _settle(self, study_uid: str) -> None:
        """The study is quiet: say visibly what was not analysed, unless it is answered already."""
        for item in list(self._waiting[study_uid]):
            assert isinstance(item.verdict, NotAnalysed)  # noqa: S101
            if self._config.one_series_per_study and self._has_sibling(item, eligible=False):
                self._refuse(item, item.verdict.reason)
            else:
                self._queue(item, eligible=False)
            self._waiting[study_uid].remove(item)
        del self._waiting[study_uid]

    def _has_sibling(self, item: Judged, eligible: bool) -> bool:
        """Whether another series of the study, of the same patient and sender, has a job.

        eligible: one that is really analysed.
        """
        mine = item.origin
        sender = (mine.calling_ae_title, mine.calling_address)
        for job in self._jobs.jobs_of_study(item.series.study_uid):
            if job.series_uid == item.series.series_uid or job.state not in OPEN_STATES:
                continue
            theirs = (job.calling_ae_title, job.calling_address)
            same = job.patient_hash in (None, mine.patient_hash) and theirs in ((None, None), sender)
            if same and (not eligible or self._is_analysed(job)):
                return True
        return False

    def _is_analysed(self, job: Job) -> bool:
        """Whether a whole head is analysed by it, or will be: a part of a head stands in nobody's way."""
        if job.state in (JobState.DELIVERING, JobState.DONE) and not job.is_analysed:
            return False
        if job.series_uid not in self._eligible:  # queued before a restart
            headers = self._headers(job)
            self._eligible[job.series_uid] = job.told is None and isinstance(eligibility.verdict(headers), Eligible)
        return self._eligible[job.series_uid]

    def _headers(self, job: Job) -> list[Dataset]:
        reading = Reading(self._spool, job.series_uid, self._keywords)
        with suppress(TooCostly):
            for _ in reading.steps():
                pass
        return [image.header for image in reading.images if image.instance.name in job.sop_instance_uids]

    def _queue(self, item: Judged, eligible: bool) -> None:
        """Queue a set, or let go of the job that was queued for it already; what must be told is told by a new one."""
        series = item.series
        growing = self._growing.get(series.series_uid)
        told = item.verdict.reason.code if isinstance(item.verdict, NotAnalysed) else None
        told = told if told in TOLD else None
        publish_after = self._wall_clock() + max(0.0, item.publish_s - self._clock()) if item.publish_s else 0.0
        row = next((r for r in self._rows(series.series_uid) if r.input_digest == series.input_digest), None)
        if row is not None and row.told == told:
            self._jobs.let_go(row.id, publish_after)
            return
        job = self._jobs.enqueue(
            series,
            rank=item.rank,
            origin=item.origin,
            anew=row is not None,
            told=told,
            publish_after=publish_after,
        )
        if job is None:
            return
        self._eligible[series.series_uid] = eligible
        if growing is not None and item.publish_s:
            growing.early = job.id
        logs.get().info(
            "series_queued", job=job.id, series=series.series_uid, images=len(series.instances), urgent=bool(item.rank)
        )

    def _rows(self, series_uid: str) -> list[Job]:
        return sorted(self._jobs.jobs_of_series(series_uid), key=lambda row: -row.id)

    def _refuse(self, item: Judged, reason: Reason) -> None:
        self._record(item.series, reason, item.origin)

    def _record(self, series: Series, reason: Reason, origin: Origin = NOWHERE) -> None:
        self._jobs.set_ineligible(series, english(reason), origin=origin)
        logs.get().info("series_ineligible", series=series.series_uid, images=len(series.instances), reason=str(reason))

    def _is_urgent(self, headers: Sequence[Dataset]) -> bool:
        """Whether any rule of `urgent_rule` matches, by the first header: it is the same for a whole series."""
        return any(pattern.search(text(headers[0], keyword)) for keyword, pattern in self._urgent.items() if headers)

    # --- the truth on disk -----------------------------------------------------------------------------------------

    def _look_around(self) -> None:
        """Go through the folders of all series from time to time, a moment per tick, for what no hint told."""
        if self._scan is None:
            if self._clock() < self._next_scan_s:
                return
            self._scan = self._scan_folders()
        end = time.monotonic() + SLICE_S
        for _ in self._scan:
            if time.monotonic() > end:
                return
        self._scan = None
        self._next_scan_s = self._clock() + RESCAN_S

    def _scan_folders(self) -> Iterator[None]:
        present: set[str] = set()
        series = self._spool.series()
        while batch := list(islice(series, SCANNED_TOGETHER)):
            present.update(batch)
            changed: dict[str, tuple[int, list[str]]] = {}
            for series_uid in batch:
                if series_uid in self._growing and not self._growing[series_uid].settled:
                    continue
                with suppress(FileNotFoundError):
                    modified = self._spool.directory(series_uid).stat().st_mtime_ns
                    if self._scanned.get(series_uid) != modified:
                        changed[series_uid] = (modified, self._spool.sop_instance_uids(series_uid))
            if changed:
                known = self._jobs.images_of(list(changed))
                for series_uid, (modified, names) in changed.items():
                    if set(names) - known.get(series_uid, set()):
                        self._take_up(series_uid, names)
                    self._scanned[series_uid] = modified
            yield
        for gone in self._scanned.keys() - present:
            del self._scanned[gone]

    def _take_up(self, series_uid: str, names: Sequence[str]) -> None:
        """A series that no hint told of, or that was not decided on before a restart."""
        if any(item.series.series_uid == series_uid for items in self._waiting.values() for item in items):
            return
        for path in self._spool.paths(series_uid, names):
            with suppress(UnidentifiableInstance, OSError):
                study_uid, now = read_instance(path).study_uid, self._clock()
                refused = self._spool.refused(series_uid)
                self._growing[series_uid] = Growing({study_uid}, now, refused=refused)
                self._study_last_s[study_uid] = now
                return

    def _forget(self) -> None:
        """Keep nothing of studies that are quiet and settled, but for a while how their senders paused."""
        long_ago = self._clock() - REMEMBERED * self._config.quiet_period_s
        settled = [uid for uid, each in self._growing.items() if each.settled]
        for uid in settled:
            if self._growing[uid].last_s < long_ago or len(settled) > MOST_REMEMBERED:
                del self._growing[uid]
        quiet = self._clock() - self._config.quiet_period_s
        growing = [each for each in self._growing.values() if not each.settled]
        kept = {uid for each in growing for uid in each.studies} | self._waiting.keys()
        for study_uid in [uid for uid, last_s in self._study_last_s.items() if last_s < quiet and uid not in kept]:
            del self._study_last_s[study_uid]
        while len(self._eligible) > MOST_REMEMBERED:
            del self._eligible[next(iter(self._eligible))]


def _is_whole(images: ImageSet, verdict: Verdict) -> bool:
    return isinstance(verdict, Eligible) and completeness.is_whole_stack(images.headers)
