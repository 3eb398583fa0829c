"""From judged series to rows in the ledger: which one of a study is answered, and what becomes of the others.

A study gets one answer per owner and sender (`receive.one_series_per_study`): its first eligible series, the better one
first (`dicom/study`). A head CT that must not be analysed waits until its study is quiet, and becomes a visible "not
analysed" only if no better series has come.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from ich_node.dicom import study
from ich_node.dicom.eligibility import NotAnalysed, SetAside
from ich_node.domain.dicom import Peer, Series
from ich_node.domain.ledger import Job, JobState, Origin
from ich_node.domain.reasons import Reason, Why
from ich_node.receive.arrivals import Arrivals
from ich_node.receive.series import Judged
from ich_node.report.said.reasons import english
from ich_node.runtime import counters, logs
from ich_node.store.ledger.protocols import Intake
from ich_node.store.spool import Spool

MOST_REMEMBERED = 4096
"""Series of which it is known whether they are eligible, without their headers."""
TOLD = frozenset({Why.REFUSED_FOR_SPACE, Why.IMAGES_REFUSED, Why.SEVERAL_OWNERS})
"""Reasons that the images themselves do not show to the worker."""
NOWHERE = Origin()
OPEN_STATES = frozenset({JobState.QUEUED, JobState.RUNNING, JobState.DELIVERING, JobState.DONE})


class Answering:
    """See the module's text. clock: that of `Judged.publish_s`; wall_clock: that of the ledger."""

    def __init__(
        self,
        spool: Spool,
        jobs: Intake,
        arrivals: Arrivals,
        one_series_per_study: bool,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        self._spool = spool
        self._jobs = jobs
        self._arrivals = arrivals
        self._one_series_per_study = one_series_per_study
        self._clock = clock
        self._wall_clock = wall_clock
        self._judged: dict[str, list[Judged]] = {}  # study → to be acted upon
        self._waiting: dict[str, list[Judged]] = {}  # study → head CTs that cannot be analysed
        self._eligible: dict[str, bool] = {}  # series with a job → eligible
        self.unknown: dict[str, Job] = {}
        """Jobs of which it is to be found out whether they are eligible, by series."""

    def add(self, item: Judged) -> None:
        """A set of images was judged."""
        self._judged.setdefault(item.series.study_uid, []).append(item)

    def drop(self, series_uid: str, sender: Peer | None = None) -> None:
        """A series goes on, or is judged anew: what was judged of it no longer holds; all, or of one sender."""
        for table in (self._judged, self._waiting):
            for study_uid in self._arrivals.series[series_uid].studies & table.keys():
                table[study_uid] = [
                    item
                    for item in table[study_uid]
                    if item.series.series_uid != series_uid or sender not in (None, item.sender)
                ]

    def is_waiting(self, series_uid: str) -> bool:
        """Whether a series is judged, and only its study is waited for."""
        return any(item.series.series_uid == series_uid for items in self._waiting.values() for item in items)

    @property
    def waiting(self) -> Collection[str]:
        """The studies that are waited for."""
        return self._waiting.keys()

    def act(self) -> None:
        """Do what is due; what a sender is still being judged for waits: a better series may be among it."""
        for study_uid in list(self._judged):
            self._act(study_uid)
        for study_uid in list(self._waiting):
            self._settle(study_uid)
        while len(self._eligible) > MOST_REMEMBERED:
            del self._eligible[next(iter(self._eligible))]

    def record(self, series: Series, reason: Reason, origin: Origin = NOWHERE) -> None:
        """Set images aside: a row, and nothing is sent."""
        self._jobs.set_ineligible(series, english(reason), origin=origin)
        logs.get().info("series_ineligible", series=series.series_uid, images=len(series.instances), reason=str(reason))

    def tell(self, series: Series, reason: Reason) -> None:
        """Answer a series that cannot be judged: it may be a head CT, and it was acknowledged."""
        if self._jobs.enqueue(series, told=reason.code) is not None:
            self._count(series, "not judged")
        images = len(series.instances)
        logs.get().warning("series_unreadable", series=series.series_uid, images=images, reason=str(reason))

    def _act(self, study_uid: str) -> None:
        """Queue, set aside or keep waiting what was judged of a study, the best series first."""
        items = self._judged[study_uid]
        for item in sorted(items, key=lambda item: study.preference(item.candidate)):
            if self._arrivals.at_work(study_uid, item.sender):
                continue
            if isinstance(item.verdict, SetAside):
                self.record(item.series, item.verdict.reason, item.origin)
            elif isinstance(item.verdict, NotAnalysed):
                self._waiting.setdefault(study_uid, []).append(item)
            elif (standing := self._is_answered(item)) is None:
                continue
            elif standing:
                self.record(item.series, Reason(Why.OTHER_SERIES_ANALYSED), item.origin)
            else:
                self._queue(item, eligible=True)
            items.remove(item)
        if not items:
            del self._judged[study_uid]

    def _settle(self, study_uid: str) -> None:
        """The study is quiet: say visibly what was not analysed, unless it is answered already."""
        for item in list(self._waiting[study_uid]):
            if not self._arrivals.is_quiet(study_uid, item.sender):
                continue
            assert isinstance(item.verdict, NotAnalysed)  # noqa: S101
            if self._one_series_per_study and self._siblings(item):
                self.record(item.series, item.verdict.reason, item.origin)
            else:
                self._queue(item, eligible=False)
            self._waiting[study_uid].remove(item)
        if not self._waiting[study_uid]:
            del self._waiting[study_uid]

    def _queue(self, item: Judged, eligible: bool) -> None:
        """Queue a set, or let go of the job that was queued for it already; what must be told is told by a new one."""
        series = item.series
        growing = self._arrivals.series.get(series.series_uid)
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
        self._count(series, "stack" if item.publish_s else "silence")
        self._eligible[series.series_uid] = eligible
        if growing is not None and item.publish_s:
            growing.early = job.id
        logs.get().info(
            "series_queued", job=job.id, series=series.series_uid, images=len(series.instances), urgent=bool(item.rank)
        )

    def _count(self, series: Series, shown_by: str) -> None:
        """Count what showed that a series is whole, and how long after its last image it became a job."""
        growing = self._arrivals.series.get(series.series_uid)
        if growing is not None:
            counters.get().observe("series_wait", shown_by, max(0.0, self._clock() - growing.flow.last_s))

    def _rows(self, series_uid: str) -> Sequence[Job]:
        return sorted(self._jobs.jobs_of_series(series_uid), key=lambda row: -row.id)

    # --- siblings --------------------------------------------------------------------------------------------------

    def know(self, job: Job, *, eligible: bool) -> None:
        """What was found out about one of `unknown`."""
        self._eligible[job.series_uid] = eligible and job.told is None

    def _is_answered(self, item: Judged) -> bool | None:
        """Whether another series of the study is really analysed; None as long as that is not known."""
        siblings = self._siblings(item) if self._one_series_per_study else []
        analysed = [self._is_analysed(job) for job in siblings]
        return True if True in analysed else None if None in analysed else False

    def _siblings(self, item: Judged) -> list[Job]:
        """The jobs of other series of the study, of the same patient and sender."""
        mine = item.origin
        sender = (mine.calling_ae_title, mine.calling_address)
        return [
            job
            for job in self._jobs.jobs_of_study(item.series.study_uid)
            if job.series_uid != item.series.series_uid
            and job.state in OPEN_STATES
            and job.patient_hash in (None, mine.patient_hash)
            and (job.calling_ae_title, job.calling_address) in ((None, None), sender)
        ]

    def _is_analysed(self, job: Job) -> bool | None:
        """Whether a whole head is analysed by it, or will be: a part of a head stands in nobody's way."""
        if job.state in (JobState.DELIVERING, JobState.DONE) and not job.is_analysed:
            return False
        if job.series_uid not in self._eligible:  # queued before a restart
            self.unknown[job.series_uid] = job
            return None
        return self._eligible[job.series_uid]
