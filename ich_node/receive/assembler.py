"""From instances on disk to jobs: which series is whole, and how the parts of the decision work together.

In: what has come (`arrivals`, which the SCP tells), what lies on disk (`sweep`). Out: rows in the ledger (`answering`).
`tick` does the work in one thread, a moment at a time, so that a heavy series delays the others by that moment only.
When a series is whole is said in `completeness`, whose the images are in `owners`. Headers are read and judged in a
child process (`judging`): no header, no word and no geometry of a stranger is looked at in this one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from ich_node.domain.dicom import Peer, Series
from ich_node.domain.errors import StoreError, Superseded
from ich_node.domain.ledger import Job
from ich_node.domain.reasons import Reason, Why
from ich_node.receive import completeness
from ich_node.receive.admission import CallerList
from ich_node.receive.answering import Answering
from ich_node.receive.arrivals import REMEMBERED, Arrivals
from ich_node.receive.completeness import Evidence, Patience
from ich_node.receive.inquiry import EVERYBODY, MOST_ATTEMPTS, Found, Inquiry, Outcome, Steps, named, parts
from ich_node.receive.judging import Judging, Work
from ich_node.receive.reception import Hints
from ich_node.receive.series import Flow, Growing, Judged, sender_of
from ich_node.receive.sweep import Sweep
from ich_node.receive.together import Together
from ich_node.runtime import logs
from ich_node.runtime.config import ReceiveConfig
from ich_node.store.ledger.protocols import Assembly, Intake
from ich_node.store.spool import Spool

SLICE_S = 0.2
"""Seconds of judging per tick, and of looking into folders: the heartbeat goes on between two ticks."""
HELD_FACTOR = 2.0
"""Idle time-outs for which results are held back at most, should nobody be there to judge their series again."""
AHEAD_EVERY_S = 0.2
"""Seconds between two readings of a series that still comes in: what came since the last one is read at its end."""
NOBODY: frozenset[Peer | None] = frozenset()


class Assembler:
    """See the module's text. `clock` never goes back. shared: this is the receiver of that name among several."""

    def __init__(
        self,
        config: ReceiveConfig,
        spool: Spool,
        jobs: Intake,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        judging: Judging | None = None,
        shared: tuple[Assembly, str] | None = None,
    ) -> None:
        self.arrivals = Arrivals(spool, config.quiet_period_s, clock)
        self._answering = Answering(spool, jobs, self.arrivals, config.one_series_per_study, clock, wall_clock)
        kept_s = REMEMBERED * config.quiet_period_s
        self._together = Together(self.arrivals, *shared, kept_s, clock) if shared else None
        self.hints: Hints = self._together or self.arrivals
        self._sweep = Sweep(spool, jobs, self.arrivals, self._answering.is_waiting, clock, self._assembles)
        self._spool = spool
        self._jobs = jobs
        self._clock = clock
        self._wall_clock = wall_clock
        self._patience = Patience(config.grace_s, config.quiet_period_s, config.idle_timeout_s)
        self._urgent = config.urgent_rule
        self._callers = CallerList(config.callers)
        self._judging = judging or Judging(spool)
        self._recalls: dict[str, Work] = {}  # series → that of a job which was queued before a restart
        self._ahead: dict[str, tuple[float, Work]] = {}  # series → when it was read last while it came in

    def close(self) -> None:
        """End the processes that judge."""
        self._judging.close()

    def tick(self) -> None:
        """Do what is due. Raises StoreError when the database cannot be used; the same is then due again."""
        try:
            self._do_what_is_due()
        except StoreError:
            self._sweep.start_over()  # the server that answers next may have forgotten what this one has said
            raise

    def _do_what_is_due(self) -> None:
        if self._together is not None:
            self._leave(self._together.exchange())
        try:
            self._go_on()
        except Superseded:  # a study was taken over by another receiver: nothing of it was written
            assert self._together is not None  # noqa: S101
            self._together.doubt()
        self.arrivals.forget(kept=self._answering.waiting)
        if self._together is not None:
            self._together.settle(self._answering.waiting)

    def _go_on(self) -> None:
        for series_uid, sender in self.arrivals.take_in():
            self._answering.drop(series_uid, sender)
        for job_id in list(self.arrivals.to_hold):
            self._jobs.hold(job_id, self._wall_clock() + HELD_FACTOR * self._patience.idle_timeout_s)
            self.arrivals.to_hold.remove(job_id)
        self._sweep.go_on(SLICE_S)
        self._judge_due()
        self._answering.act()

    def _assembles(self, study_uid: str) -> bool:
        """Whether we, among several receivers, judge a study."""
        return self._together is None or self._together.holds(study_uid)

    def _leave(self, study_uids: Collection[str]) -> None:
        """Another receiver has taken studies over: it judges what there is of them."""
        for series_uid, growing in list(self.arrivals.series.items()):
            if growing.studies & set(study_uids):
                self._answering.drop(series_uid)
                growing.work = None
                growing.studies -= set(study_uids)
                if not growing.studies:
                    self.arrivals.leave(series_uid)

    def _judge_due(self) -> None:
        """Have series judged for a moment."""
        for series_uid, growing in list(self.arrivals.series.items()):
            if growing.work is None and (steps := self._due(series_uid, growing)):
                addresses = set(map(_address, growing.flows))
                patient = bool(self._spool.failed_judgings(series_uid))
                growing.work = Work(series_uid, steps, addresses, patient)
                self._ahead.pop(series_uid, None)
        for job in self._answering.unknown.values():
            if job.series_uid not in self._recalls:
                self._recalls[job.series_uid] = Work(job.series_uid, self._recall(job), [])
        at_work = [growing for growing in self.arrivals.series.values() if growing.work is not None]
        try:
            works = [*(g.work for g in at_work if g.work), *self._recalls.values()]
            self._judging.go_on(works or self._read_ahead(), SLICE_S)
        finally:
            for growing in at_work:
                if growing.work is not None and growing.work.done:
                    growing.work = None
            for series_uid in [uid for uid, work in self._recalls.items() if work.done]:
                del self._recalls[series_uid]
                self._answering.unknown.pop(series_uid)

    def _read_ahead(self) -> list[Work]:
        """While there is nothing to judge: read what has come of series that go on, so that at their end that is done.

        A hint for the child, which keeps what it has read; judging relies on nothing of it.
        """
        coming = {uid: each for uid, each in self.arrivals.series.items() if each.flow.open and each.work is None}
        self._ahead = {uid: ahead for uid, ahead in self._ahead.items() if uid in coming}
        for series_uid, growing in coming.items():
            read_s, work = self._ahead.get(series_uid, (0.0, None))
            if (work is None or work.done) and growing.flow.last_s > read_s and self._clock() >= read_s + AHEAD_EVERY_S:
                self._ahead[series_uid] = (
                    self._clock(),
                    Work(series_uid, self._headers(series_uid), set(map(_address, growing.flows))),
                )
        return [work for _, work in self._ahead.values() if not work.done]

    def _headers(self, series_uid: str) -> Steps:
        """Have the headers read of all that lies there, unless one of them has cost a child its life."""
        if not self._spool.failed_judgings(series_uid):
            inquiry = Inquiry(series_uid, str(self._spool.directory(series_uid)), self._urgent)
            yield from inquiry.read((yield from inquiry.look()))

    def _recall(self, job: Job) -> Steps:
        """Find out whether the images of a job that was queued before a restart may be analysed."""
        self._answering.know(job, eligible=False)  # unless the answer comes
        inquiry = Inquiry(job.series_uid, str(self._spool.directory(job.series_uid)), self._urgent)
        yield from inquiry.read((yield from inquiry.look()))
        self._answering.know(job, eligible=(yield from inquiry.verdict(job.sop_instance_uids)))

    def _due(self, series_uid: str, growing: Growing) -> Steps | None:
        """What is to be done for a series now, if anything."""
        if growing.settled:
            return None
        now, evidence = self._clock(), self.arrivals.evidence(series_uid, growing.flow)
        look_s = completeness.look_s(evidence)
        if now >= completeness.quiet_s(evidence, self._patience):
            return self._judge(series_uid, growing, evidence, growing.flows.keys())
        if look_s is not None and now >= look_s and not growing.looked:
            return self._judge(series_uid, growing, evidence, NOBODY)
        if done := {sender for sender, flow in growing.flows.items() if self._waits_for_others(series_uid, flow)}:
            return self._judge(series_uid, growing, evidence, done)
        return None

    def _waits_for_others(self, series_uid: str, flow: Flow) -> bool:
        """Whether the images of a sender are complete since long, and only others still bring images to its series.

        Two who share a series come together; one who drips images into that of another one holds up nothing.
        """
        quiet_s = completeness.quiet_s(self.arrivals.evidence(series_uid, flow), self._patience)
        return not flow.judged and self._clock() >= quiet_s + self._patience.quiet_period_s

    def _judge(self, series_uid: str, growing: Growing, evidence: Evidence, done: Collection[Peer | None]) -> Steps:
        """Judge a series as it lies on disk now; what comes later makes it grow again.

        done: the senders that have brought all of their images. While there is none, only a stack that is whole by
        itself is judged, and its results can still be cancelled.
        """
        names = self._spool.sop_instance_uids(series_uid)
        if not growing.held and not growing.refused and self._seen(series_uid, names):
            growing.settled = True
            return
        failures = self._spool.failed_judgings(series_uid)
        if failures[EVERYBODY] >= MOST_ATTEMPTS:
            self._answering.tell(self._unjudged(growing, series_uid, names), Reason(Why.NOT_JUDGED))
            growing.settled = True
            return
        inquiry = Inquiry(series_uid, str(self._spool.directory(series_uid)), self._urgent)
        addresses = yield from inquiry.look()
        together, given_up = parts(addresses, failures)
        refused = _missing(growing, names)
        going_on = growing.flows.keys() - set(done)
        everything = Outcome()
        for number, part in enumerate(together):
            yield from inquiry.read({address: addresses[address] for address in part})
            found = yield from inquiry.judge(part, refused, lambda: self._spool.sop_instance_uids(series_uid))
            if not done:
                growing.looked = True
                if found.whole and len(together) == 1 and not given_up:
                    self._answering.drop(series_uid)
                    self._note(series_uid, found.sets, completeness.publish_s(evidence, self._patience))
                    self._spool.forget_failed_judgings(series_uid)
                return
            if number == 0:
                self._answering.drop(series_uid)
            sets = [each for each in found.sets if not each.senders <= going_on]
            self._note(series_uid, sets, publish_s=0.0)
            for sender in done:
                growing.flows[sender].judged |= number == len(together) - 1 or _address(sender) in part
            everything += found
        growing.looked = True
        if going_on:
            return
        self._record_rest(series_uid, growing, names, everything, given_up)
        growing.settled, growing.held = True, False
        if not given_up:
            self._spool.forget_failed_judgings(series_uid)

    def _note(self, series_uid: str, found: Sequence[Found], publish_s: float) -> None:
        for each in found:
            if not self._assembles(each.study_uid):
                continue
            rank = 1 if each.is_urgent else 0
            origin = replace(each.origin, site=self._callers.site_of(sender_of(each.origin)))
            series = named(each.study_uid, series_uid, each.names, self._spool)
            self._answering.add(Judged(series, origin, each.verdict, rank, publish_s))

    def _seen(self, series_uid: str, names: Sequence[str]) -> bool:
        """Whether every file of a series belongs to a row already."""
        rows = self._jobs.jobs_of_series(series_uid)
        return set(names) <= {name for row in rows for name in row.sop_instance_uids}

    def _record_rest(
        self, series_uid: str, growing: Growing, names: Sequence[str], judged: Outcome, given_up: Collection[str]
    ) -> None:
        """Record what is in no set: copies, what was replaced, what cannot be read. It is not looked at again."""
        if judged.unreadable:
            logs.get().warning("series_unreadable", series=series_uid, images=len(judged.unreadable))
        rest = set(names).difference(*(each.names for each in judged.sets))
        given_up_names = rest & self._spool.names_from(series_uid, given_up)
        for these, why in ((given_up_names, Why.NOT_JUDGED), (rest & judged.too_costly, Why.HEADERS_TOO_LARGE)):
            if these:
                self._answering.tell(self._unjudged(growing, series_uid, sorted(these)), Reason(why))
                rest -= these
        if rest:
            why = Why.SENT_AGAIN if judged.read.issuperset(rest) else Why.NOT_READABLE
            self._answering.record(self._unjudged(growing, series_uid, sorted(rest)), Reason(why))

    def _unjudged(self, growing: Growing, series_uid: str, names: Sequence[str]) -> Series:
        return named(min(growing.studies), series_uid, names, self._spool)


def _address(sender: Peer | None) -> str:
    return sender.address if sender else ""


def _missing(growing: Growing, names: Collection[str]) -> dict[Peer | None, Why]:
    """Why images of a sender were refused that did not come again."""
    found: dict[Peer | None, Why] = {}
    for uid, (sender, for_space) in growing.refused.items():
        if uid not in names and found.get(sender) is not Why.REFUSED_FOR_SPACE:
            found[sender] = Why.REFUSED_FOR_SPACE if for_space else Why.IMAGES_REFUSED
    return found
