"""From instances on disk to jobs: which series is whole, and how the parts of the decision work together.

In: what has come (`arrivals`, which the SCP tells), what lies on disk (`sweep`). Out: rows in the ledger (`answering`).
`tick` does the work in one thread, a moment at a time, so that a heavy series delays the others by that moment only.
When a series is whole is said in `completeness`, whose the images are in `owners`; here the images are read and judged.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterator, Sequence

from pydicom import Dataset

from ich_node.dicom import eligibility, owner
from ich_node.dicom.eligibility import Eligible, Verdict
from ich_node.dicom.reading import text
from ich_node.domain.dicom import Instance, Peer, Series
from ich_node.domain.reasons import Reason, Why
from ich_node.receive import completeness
from ich_node.receive.answering import Answering
from ich_node.receive.arrivals import Arrivals
from ich_node.receive.completeness import Evidence, Patience
from ich_node.receive.owners import ImageSet, judged, parted
from ich_node.receive.reading import Reading, same_picture
from ich_node.receive.series import Flow, Growing, Judged, by_name, origin_of
from ich_node.receive.sweep import Sweep
from ich_node.runtime.config import ReceiveConfig
from ich_node.store.ledger.protocols import Intake
from ich_node.store.spool import Spool

SLICE_S = 0.2
"""Seconds of reading per tick, of headers and of folders each: the heartbeat goes on between two ticks."""
MOST_ATTEMPTS = 3
"""At judging one series, in which the process died or hung: after that it is told without being read."""
HELD_FACTOR = 2.0
"""Idle time-outs for which results are held back at most, should nobody be there to judge their series again."""
FADING = 0.998
"""Of what reading has cost a sender, each tick: half of it is forgotten after half a minute."""
AHEAD_S = 1.0
"""CPU seconds by which a sender's reading may be ahead of that of others who wait: that of a few hundred images."""
NOBODY: frozenset[Peer | None] = frozenset()


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
        self.arrivals = Arrivals(spool, config.quiet_period_s, clock)
        self._answering = Answering(spool, jobs, self.arrivals, config.one_series_per_study, clock, wall_clock)
        self._sweep = Sweep(spool, jobs, self.arrivals, self._answering.is_waiting, clock)
        self._spool = spool
        self._jobs = jobs
        self._clock = clock
        self._wall_clock = wall_clock
        self._spent_s: dict[str, float] = {}  # address → CPU seconds of reading lately
        self._patience = Patience(config.grace_s, config.quiet_period_s, config.idle_timeout_s)
        self._urgent = {keyword: re.compile(pattern) for keyword, pattern in config.urgent_rule.items()}
        self._keywords = (
            *eligibility.KEYWORDS,
            *completeness.KEYWORDS,
            *owner.KEYWORDS,
            "AccessionNumber",
            *self._urgent,
        )

    def tick(self) -> None:
        """Do what is due. Raises StoreError when the database cannot be used; the same is then due again."""
        for series_uid, sender in self.arrivals.take_in():
            self._answering.drop(series_uid, sender)
        for job_id in list(self.arrivals.to_hold):
            self._jobs.hold(job_id, self._wall_clock() + HELD_FACTOR * self._patience.idle_timeout_s)
            self.arrivals.to_hold.remove(job_id)
        self._sweep.go_on(SLICE_S)
        self._judge_due()
        self._answering.act()
        self.arrivals.forget(kept=self._answering.waiting)

    def _judge_due(self) -> None:
        """Read and judge for a moment, every series in turn, but those whose senders cost much more than others."""
        end = time.monotonic() + SLICE_S
        for series_uid, growing in list(self.arrivals.series.items()):
            if growing.work is None:
                growing.work = self._due(series_uid, growing)
        self._spent_s = {address: kept for address, s in self._spent_s.items() if (kept := FADING * s) > SLICE_S / 100}
        at_work = [growing for growing in self.arrivals.series.values() if growing.work is not None]
        while at_work and time.monotonic() < end:
            most_s = min(map(self._cost_s, at_work)) + AHEAD_S
            for growing in at_work:
                if self._cost_s(growing) <= most_s:
                    self._step(growing)
            at_work = [growing for growing in at_work if growing.work is not None]

    def _step(self, growing: Growing) -> None:
        assert growing.work is not None  # noqa: S101
        spent = next(growing.work, None)
        if spent is None:
            growing.work = None
        else:
            address, seconds = spent
            self._spent_s[address] = self._spent_s.get(address, 0.0) + seconds

    def _cost_s(self, growing: Growing) -> float:
        """What the reading of images of its senders has cost lately; of several, what that of the cheapest one has."""
        return min(self._spent_s.get(sender.address if sender else "", 0.0) for sender in growing.flows)

    def _due(self, series_uid: str, growing: Growing) -> Iterator[tuple[str, float]] | None:
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

    def _judge(
        self, series_uid: str, growing: Growing, evidence: Evidence, done: Collection[Peer | None]
    ) -> Iterator[tuple[str, float]]:
        """Judge a series as it lies on disk now, one header a step; what comes later makes it grow again.

        Yields what a step has cost: (address of who sent the image, CPU seconds). done: the senders that have brought
        all of their images. While there is none, only a stack that is whole by itself is judged, and its results can
        still be cancelled.
        """
        names = self._spool.sop_instance_uids(series_uid)
        if not growing.held and not growing.refused and self._seen(series_uid, names):
            growing.settled = True
            return
        growing.reading = growing.reading or Reading(self._spool, series_uid, self._keywords)
        failures = self._spool.begin_judging(series_uid)
        if failures >= MOST_ATTEMPTS:
            self._answering.tell(self._unjudged(series_uid, growing, names), Reason(Why.NOT_JUDGED))
            growing.settled = True
            return
        try:
            yield from growing.reading.steps()
        finally:
            self._spool.end_judging(series_uid)
        sets = parted(growing.reading.images, same_picture)
        found = list(zip(sets, judged(sets, lambda sender: _missing(growing, names, sender)), strict=True))
        growing.looked = True
        if not done:
            if len(found) == 1 and _is_whole(*found[0]):
                self._note(series_uid, found, completeness.publish_s(evidence, self._patience))
            return
        going_on = growing.flows.keys() - set(done)
        for sender in done:
            growing.flows[sender].judged = True
        self._note(series_uid, [each for each in found if not each[0].senders <= going_on], publish_s=0.0)
        if not going_on:
            self._record_rest(series_uid, growing, names, found)
            growing.settled, growing.held, growing.reading = True, False, None

    def _note(self, series_uid: str, found: Sequence[tuple[ImageSet, Verdict]], publish_s: float) -> None:
        self._answering.drop(series_uid)
        for images, verdict in found:
            instances = tuple(by_name(image.instance) for image in images.images)
            series = Series(images.owner.study_uid, series_uid, instances)
            rank = 1 if self._is_urgent(images.headers) else 0
            self._answering.add(Judged(series, origin_of(images), verdict, rank, publish_s))

    def _seen(self, series_uid: str, names: Sequence[str]) -> bool:
        """Whether every file of a series belongs to a row already."""
        rows = self._jobs.jobs_of_series(series_uid)
        return set(names) <= {name for row in rows for name in row.sop_instance_uids}

    def _record_rest(
        self, series_uid: str, growing: Growing, names: Sequence[str], found: Sequence[tuple[ImageSet, Verdict]]
    ) -> None:
        """Record what is in no set: copies, what was replaced, what cannot be read. It is not looked at again."""
        judged_names = {image.instance.name for images, _ in found for image in images.images}
        too_costly = growing.reading.left_out if growing.reading else frozenset()
        if too_costly:
            told = self._unjudged(series_uid, growing, sorted(too_costly))
            self._answering.tell(told, Reason(Why.HEADERS_TOO_LARGE))
        if rest := [name for name in names if name not in judged_names and name not in too_costly]:
            read = {image.instance.name for image in growing.reading.images} if growing.reading else set()
            why = Why.SENT_AGAIN if read.issuperset(rest) else Why.NOT_READABLE
            self._answering.record(self._unjudged(series_uid, growing, rest), Reason(why))

    def _unjudged(self, series_uid: str, growing: Growing, names: Sequence[str]) -> Series:
        study_uid = next(iter(growing.studies))
        paths = self._spool.paths(series_uid, names)
        instances = tuple(Instance(study_uid, series_uid, "", path.stem, "", path) for path in paths)
        return Series(study_uid, series_uid, instances)

    def _is_urgent(self, headers: Sequence[Dataset]) -> bool:
        """Whether any rule of `urgent_rule` matches, by the first header: it is the same for a whole series."""
        return any(pattern.search(text(headers[0], keyword)) for keyword, pattern in self._urgent.items() if headers)


def _missing(growing: Growing, names: Sequence[str], sender: Peer | None) -> Reason | None:
    """Why images of this sender were refused that did not come again."""
    open_ones = [why for uid, why in growing.refused.items() if uid not in names and why[0] == sender]
    if not open_ones:
        return None
    return Reason(Why.REFUSED_FOR_SPACE if any(for_space for _, for_space in open_ones) else Why.IMAGES_REFUSED)


def _is_whole(images: ImageSet, verdict: Verdict) -> bool:
    return isinstance(verdict, Eligible) and completeness.is_whole_stack(images.headers)
