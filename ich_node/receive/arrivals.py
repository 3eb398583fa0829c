"""What has come of every series, and how: the hints of the SCP, put in order.

In: `stored`, `refused`, `ended`, from any thread. Out: `series`, in the one thread that calls `take_in`. Hints live in
memory and may be lost; what lies on disk is found by `sweep` all the same. Times are seconds on `clock`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable
from contextlib import suppress
from queue import Empty, SimpleQueue

from ich_node.domain.dicom import Peer
from ich_node.receive.completeness import Evidence
from ich_node.receive.series import Flow, Growing
from ich_node.store.spool import Spool

MOST_REMEMBERED = 4096
"""Series that are kept in memory after they are settled."""
MOST_REFUSED = 1000
"""Refused images that are remembered of a series; one is enough to wait for it."""
REMEMBERED = 60.0
"""Quiet periods for which the pauses of a sender are remembered."""


class Arrivals:
    """See the module's text. `clock` never goes back."""

    def __init__(self, spool: Spool, quiet_period_s: float, clock: Callable[[], float]) -> None:
        self.series: dict[str, Growing] = {}
        self.to_hold: set[int] = set()
        """Jobs whose series goes on: their results are to be held back."""
        self._spool = spool
        self._quiet_period_s = quiet_period_s
        self._clock = clock
        self._news: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self._stirred: set[tuple[str, Peer | None]] = set()
        self._brought: dict[Hashable, set[str]] = {}  # association → series
        self._latest: dict[Hashable, str] = {}  # association → the series of its last image
        self._study_last_s: dict[tuple[str, Peer | None], float] = {}
        self._missed: dict[Hashable, dict[str, tuple[Peer | None, bool]]] = {}  # series or association → refused

    # --- hints -----------------------------------------------------------------------------------------------------

    def stored(
        self, association: Hashable, peer: Peer | None, study_uid: str, series_uid: str, at: float | None = None
    ) -> None:
        """An image has become durable; at: when, now if None."""
        moment = self._clock() if at is None else at
        self._news.put(lambda: self._grow(association, peer, study_uid, series_uid, moment))

    def refused(
        self,
        association: Hashable,
        peer: Peer | None,
        series_uid: str | None,
        sop_instance_uid: str,
        for_space: bool,
        study_uid: str | None = None,  # noqa: ARG002 — for several receivers
        at: float | None = None,
    ) -> None:
        """An image was not taken."""
        moment = self._clock() if at is None else at
        self._news.put(lambda: self._miss(association, peer, series_uid, sop_instance_uid, for_space, moment))

    def moved_on(self, association: Hashable, series_uid: str) -> None:
        """The last image of an association is no longer of this series."""
        self._news.put(lambda: self._latest.get(association) == series_uid and self._latest.pop(association))

    def ended(self, association: Hashable, released: bool, at: float | None = None) -> None:
        """An association has ended."""
        moment = self._clock() if at is None else at
        self._news.put(lambda: self._end(association, released, moment))

    def take_in(self) -> set[tuple[str, Peer | None]]:
        """Put the news in order; the series of which something has come, or was refused, since the last time, and from
        whom."""
        self._stirred = set()
        with suppress(Empty):
            while True:
                self._news.get_nowait()()
        return self._stirred

    def found(self, series_uid: str, study_uid: str) -> None:
        """A series lies on disk that no hint told of, or that was not decided on before a restart."""
        now = self._clock()
        refused = self._spool.refused(series_uid)
        self.series[series_uid] = Growing({study_uid}, Flow(now), {None: Flow(now)}, refused)
        self._study_last_s[study_uid, None] = now

    def leave(self, series_uid: str) -> None:
        """Another receiver assembles a series."""
        self.series.pop(series_uid, None)

    # --- what is known ---------------------------------------------------------------------------------------------

    @property
    def growing(self) -> int:
        """How many series still come in."""
        return sum(not growing.settled for growing in self.series.values())

    def evidence(self, series_uid: str, flow: Flow) -> Evidence:
        """How a series has come so far, or the images of one sender among it."""
        return Evidence(
            last_s=flow.last_s,
            open=any(self._latest.get(association) == series_uid for association in flow.open),
            released_s=None if flow.open else flow.released_s,
            rounds=flow.rounds,
            pause_s=flow.pauses_s[1],
            refused=bool(self.series[series_uid].refused),
        )

    def is_quiet(self, study_uid: str, sender: Peer | None) -> bool:
        """Whether all that a sender brings of a study is judged, and nothing of it has come for the quiet period.

        What others bring holds up no answer: it is none of this sender's.
        """
        if self._of(study_uid, sender, lambda growing, flow: not (growing.settled or flow.judged)):
            return False
        last_s = max(self._study_last_s.get((study_uid, peer), 0.0) for peer in (sender, None))
        return self._clock() >= last_s + self._quiet_period_s

    def at_work(self, study_uid: str, sender: Peer | None) -> bool:
        """Whether a series of a study is being judged, in which images of this sender are that were not judged yet."""
        return self._of(study_uid, sender, lambda growing, flow: growing.work is not None and not flow.judged)

    def _of(self, study_uid: str, sender: Peer | None, holds: Callable[[Growing, Flow], bool]) -> bool:
        """Whether something holds for any series of a study with images of a sender, or of one that is not known."""
        return any(
            holds(growing, flow)
            for growing in self.series.values()
            if study_uid in growing.studies
            for peer, flow in growing.flows.items()
            if sender is None or peer in (sender, None)
        )

    def forget(self, kept: Collection[str]) -> None:
        """Keep nothing of studies that are quiet and settled, but for a while how their senders paused.

        kept: studies that somebody still waits for.
        """
        long_ago = self._clock() - REMEMBERED * self._quiet_period_s
        settled = [uid for uid, each in self.series.items() if each.settled]
        for uid in settled:
            if self.series[uid].flow.last_s < long_ago or len(settled) > MOST_REMEMBERED:
                del self.series[uid]
        quiet = self._clock() - self._quiet_period_s
        growing = {uid for each in self.series.values() if not each.settled for uid in each.studies}
        for (study_uid, peer), last_s in list(self._study_last_s.items()):
            if last_s < quiet and study_uid not in growing and study_uid not in kept:
                del self._study_last_s[study_uid, peer]

    # --- in order --------------------------------------------------------------------------------------------------

    def _grow(self, association: Hashable, peer: Peer | None, study_uid: str, series_uid: str, now: float) -> None:
        growing = self.series.get(series_uid)
        if growing is None:
            growing = self.series[series_uid] = Growing({study_uid}, Flow(now))
        for missed in (self._missed.pop(series_uid, {}), self._missed.pop(association, {})):
            for uid, why in missed.items():
                self._mark_refused(growing, series_uid, uid, *why)
        growing.studies.add(study_uid)
        for flow in (growing.flow, growing.flows.setdefault(peer, Flow(now))):
            flow.came(association, now)
        self._brought.setdefault(association, set()).add(series_uid)
        self._latest[association] = series_uid
        self._stir(series_uid, growing, peer, now)

    def _miss(
        self,
        association: Hashable,
        peer: Peer | None,
        series_uid: str | None,
        sop_instance_uid: str,
        for_space: bool,
        now: float,
    ) -> None:
        """An image that does not say its series is taken for one of the series that its association is bringing."""
        series_uid = series_uid or self._latest.get(association)
        growing = self.series.get(series_uid or "")
        if series_uid is None or growing is None:  # nothing of it has been taken yet
            missed = self._missed.setdefault(series_uid or association, {})
            if len(missed) < MOST_REFUSED:
                missed[sop_instance_uid] = (peer, for_space)
            if len(self._missed) > MOST_REFUSED:
                del self._missed[next(iter(self._missed))]
            return
        self._mark_refused(growing, series_uid, sop_instance_uid, peer, for_space)
        self._stir(series_uid, growing, peer, now)

    def _mark_refused(
        self, growing: Growing, series_uid: str, sop_instance_uid: str, peer: Peer | None, for_space: bool
    ) -> None:
        if len(growing.refused) < MOST_REFUSED:
            growing.refused[sop_instance_uid] = (peer, for_space)
            self._spool.mark_refused(series_uid, sop_instance_uid, peer, for_space)

    def _stir(self, series_uid: str, growing: Growing, peer: Peer | None, now: float) -> None:
        """Something of a series has happened: what was found out about it no longer holds."""
        growing.flow.stirred(now)
        growing.flows.setdefault(peer, Flow(now)).stirred(now)
        growing.looked, growing.settled, growing.work = False, False, None
        for study_uid in growing.studies:
            self._study_last_s[study_uid, peer] = max(now, self._study_last_s.get((study_uid, peer), 0.0))
        self._stirred.add((series_uid, peer))
        if growing.early is not None:
            self.to_hold.add(growing.early)
            growing.early, growing.held = None, True

    def _end(self, association: Hashable, released: bool, now: float) -> None:
        self._latest.pop(association, None)
        self._missed.pop(association, None)  # the next one may bear its number
        for series_uid in self._brought.pop(association, ()):
            if growing := self.series.get(series_uid):
                growing.looked = False
                for flow in (growing.flow, *growing.flows.values()):
                    flow.ended(association, released, now)
