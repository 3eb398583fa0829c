"""Several receivers, one truth: what each has got is known to all, and one of them judges a study.

    hints of our SCP ──▶ rows in the ledger ──▶ the receiver that assembles the study ──▶ its `arrivals`

In: the hints of our SCP, what others report. Out: `arrivals` hears of everything that came of the studies that we
assemble, whoever got it, as if it had come here. The images themselves lie in the one spool that all share. A receiver
that is not heard of any more has ended, and all its associations with it; its studies go to whoever looks first, with
the rows of all. Hints cost no C-STORE a moment: they are told in the assembler's thread.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable
from contextlib import suppress
from dataclasses import replace
from queue import Empty, SimpleQueue

from ich_node.domain.dicom import AETitle, Peer
from ich_node.domain.ledger import Arrival
from ich_node.receive.arrivals import MOST_REFUSED, Arrivals
from ich_node.store.ledger.protocols import Assembly

PUBLISH_S = 1.0  # how late others may know when the last image came: a tenth of the usual quiet period
HEAR_S = 0.2  # two ticks: beside quiet periods of seconds nothing
KEEP_UP_S = 3.0  # a fifth of a receiver's lease: four renewals may fail

Key = tuple[str, int, str, str]
"""Receiver, association, study and series."""


class Together:
    """See the module's text. receiver: this one, as `ledger.join` was told. keep_s: how long a study is remembered."""

    def __init__(
        self, arrivals: Arrivals, ledger: Assembly, receiver: str, keep_s: float, clock: Callable[[], float]
    ) -> None:
        self.held: set[str] = set()
        """The studies that we assemble."""
        self._arrivals = arrivals
        self._ledger = ledger
        self._me = receiver
        self._keep_s = keep_s
        self._clock = clock
        self._news: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._count = itertools.count(1)
        self._associations: dict[int, int] = {}  # the SCP's name of an association → our number, never used again
        self._rows: dict[Key, Arrival] = {}  # ours, of associations that are open
        self._current: dict[int, Key] = {}  # association → the row of its last image
        self._unplaced: dict[int, dict[str, bool]] = {}  # association → what it refused before anything was taken
        self._only_refused: Counter[int] = Counter()  # association → series of which it refused the first image
        self._changed: set[Key] = set()
        self._ended: list[tuple[int, float, bool]] = []
        self._urgent = False
        self._number = 0
        self._told: dict[Key, Arrival] = {}  # what `arrivals` knows of the rows of others, or of ours of before
        self._seen: dict[str, int] = {}  # other receiver → number of its last row that we know
        self._stirred: dict[str, float] = {}  # study → when we last heard of it
        self._alive: set[str] = set()
        self._next_publish_s = self._next_hear_s = self._next_keep_up_s = self._next_settle_s = clock()

    # --- hints, from any thread ------------------------------------------------------------------------------------

    def stored(self, association: int, peer: Peer | None, study_uid: str, series_uid: str) -> None:
        """An image has become durable."""
        now = self._clock()
        self._news.put(lambda: self._store(association, peer, study_uid, series_uid, now))

    def refused(
        self,
        association: int,
        peer: Peer | None,
        series_uid: str | None,
        sop_instance_uid: str,
        for_space: bool,
        study_uid: str | None = None,
    ) -> None:
        """An image was not taken."""
        now = self._clock()
        where = (study_uid, series_uid) if study_uid and series_uid else None
        self._news.put(lambda: self._refuse(association, peer, where, sop_instance_uid, for_space, now))

    def ended(self, association: int, released: bool) -> None:
        """An association has ended."""
        now = self._clock()
        self._news.put(lambda: self._end(association, released, now))

    # --- once a tick -----------------------------------------------------------------------------------------------

    def exchange(self) -> set[str]:
        """Tell and hear; returns the studies that another receiver has taken over. Raises StoreError: do it again."""
        with suppress(Empty):
            while True:
                self._news.get_nowait()()
        lost = self._keep_up() if self._clock() >= self._next_keep_up_s else set()
        if self._ended or (self._changed and (self._urgent or self._clock() >= self._next_publish_s)):
            self._publish()
        if self.held and self._clock() >= self._next_hear_s:
            news = self._ledger.news(self._seen)
            self._tell(news)
            for row in news:
                self._seen[row.receiver] = max(row.number, self._seen.get(row.receiver, 0))
            self._next_hear_s = self._clock() + HEAR_S
        return lost

    def holds(self, study_uid: str) -> bool:
        """Whether we assemble a study; one that nobody assembles is ours then."""
        if study_uid not in self.held:
            self._take(self._ledger.acquire({study_uid}))
        return study_uid in self.held

    def doubt(self) -> None:
        """Something that we took for ours was not: look at once."""
        self._next_keep_up_s = self._clock()

    def settle(self, waiting: Collection[str]) -> None:
        """Have done with studies of which nothing is left to do or to remember. waiting: those that are waited for."""
        if self._clock() < self._next_settle_s:
            return
        self._next_settle_s = self._clock() + KEEP_UP_S
        known = {uid for growing in self._arrivals.series.values() for uid in growing.studies}
        before = self._clock() - self._keep_s
        old = [uid for uid in self.held if uid not in known and self._stirred.get(uid, 0.0) < before]
        if over := [uid for uid in old if uid not in waiting]:
            self._forget(self._ledger.settle(over, self._seen))

    def _keep_up(self) -> set[str]:
        """Be heard of, and look who else is: what the dead have left is taken over."""
        self._ledger.stay()
        self._alive = self._ledger.receivers()
        lost = self.held - self._ledger.assembled()
        self._forget(lost)
        self._end_what_is_over()
        if orphans := self._ledger.orphans():
            self._take(self._ledger.acquire(orphans))
        self._next_keep_up_s = self._clock() + KEEP_UP_S
        return lost

    def _publish(self) -> None:
        self._number += 1
        rows = [replace(self._rows[key], number=self._number) for key in self._changed]
        if rows:
            self._take(self._ledger.report(rows, {row.study_uid for row in rows} - self.held))
            self._changed.clear()
        while self._ended:
            association, at, released = self._ended[0]
            self._number += 1
            self._ledger.ended(association, at, released, self._number)
            del self._ended[0]
            for key in [key for key in self._rows if key[1] == association]:
                del self._rows[key]
        self._urgent = False
        self._next_publish_s = self._clock() + PUBLISH_S

    def _take(self, study_uids: set[str]) -> None:
        """Studies have become ours: hear of all that anybody has got of them."""
        new = study_uids - self.held
        if new:
            rows = self._ledger.arrivals(new)
            self.held |= new
            self._stirred.update(dict.fromkeys(new, self._clock()))
            self._tell(rows)
            self._end_what_is_over()

    def _forget(self, study_uids: Collection[str]) -> None:
        self.held.difference_update(study_uids)
        for key in [key for key in self._told if key[2] in study_uids]:
            del self._told[key]
        for study_uid in study_uids:
            self._stirred.pop(study_uid, None)

    # --- what others have got --------------------------------------------------------------------------------------

    def _tell(self, rows: Iterable[Arrival]) -> None:
        """Let `arrivals` hear what is new in rows, in the order in which it happened."""
        events: list[tuple[float, int, Callable[[], None]]] = []
        for row in rows:
            events += self._events(row)
        for _, _, tell in sorted(events, key=lambda event: event[:2]):
            tell()

    def _events(self, row: Arrival) -> Iterable[tuple[float, int, Callable[[], None]]]:
        key = (row.receiver, row.association, row.study_uid, row.series_uid)
        before, self._told[key] = self._told.get(key), row
        self._stirred[row.study_uid] = self._clock()
        peer = (
            Peer(AETitle(row.ae_title), row.address) if row.ae_title is not None and row.address is not None else None
        )
        association, hear = self._name(row.receiver, row.association), self._arrivals
        for uid, for_space in row.refused.items():
            if before is None or uid not in before.refused:
                at = self._here(row.last_at if row.last_at is not None else self._ledger.now())
                yield at, 0, _call(hear.refused, association, peer, row.series_uid, uid, for_space, None, at)
        for moment in dict.fromkeys([row.first_at, row.last_at] if before is None else [row.last_at]):
            if moment is not None and (before is None or moment != before.last_at):
                at = self._here(moment)
                yield at, 1, _call(hear.stored, association, peer, row.study_uid, row.series_uid, at)
        if not row.current and row.last_at is not None and (before is None or before.current):
            yield self._here(row.last_at), 2, _call(hear.moved_on, association, row.series_uid)
        if row.ended_at is not None and (before is None or before.ended_at is None):
            yield self._here(row.ended_at), 3, _call(hear.ended, association, row.released, self._here(row.ended_at))

    def _end_what_is_over(self) -> None:
        """End associations of the dead, and ours that had ended before their study became ours."""
        open_here = set(self._associations.values())
        for key, row in list(self._told.items()):
            is_open = row.association in open_here if row.receiver == self._me else row.receiver in self._alive
            if row.ended_at is None and not is_open:
                self._told[key] = replace(row, ended_at=self._ledger.now())
                self._arrivals.ended(self._name(row.receiver, row.association), released=False)

    def _name(self, receiver: str, association: int) -> Hashable:
        return association if receiver == self._me else (receiver, association)

    def _here(self, moment: float) -> float:
        """A moment of the ledger's clock on ours."""
        return min(self._clock(), self._clock() - (self._ledger.now() - moment))

    def _there(self, moment: float) -> float:
        return self._ledger.now() - (self._clock() - moment)

    # --- our own news, in order ------------------------------------------------------------------------------------

    def _store(self, scp_name: int, peer: Peer | None, study_uid: str, series_uid: str, now: float) -> None:
        association = self._number_of(scp_name)
        key = (self._me, association, study_uid, series_uid)
        before = self._current.get(association)
        if before is not None and before != key:
            self._change(before, current=False)
            self._arrivals.moved_on(association, before[3])
        row = self._row(key, peer)
        first_at = row.first_at if row.first_at is not None else self._there(now)
        self._urgent |= row.first_at is None or before != key
        refused = {**row.refused, **self._unplaced.pop(association, {})}
        self._change(key, first_at=first_at, last_at=self._there(now), current=True, refused=refused)
        self._current[association] = key
        if study_uid in self.held:
            self._stirred[study_uid] = now
            self._told[key] = self._rows[key]
            for uid in refused.keys() - row.refused.keys():
                self._arrivals.refused(association, peer, series_uid, uid, refused[uid], at=now)
            self._arrivals.stored(association, peer, study_uid, series_uid, now)

    def _refuse(
        self,
        scp_name: int,
        peer: Peer | None,
        where: tuple[str, str] | None,
        sop_instance_uid: str,
        for_space: bool,
        now: float,
    ) -> None:
        """An image that does not say its series is taken for one of the series that its association is bringing."""
        association = self._number_of(scp_name)
        current = self._current.get(association)
        if where is None and current is None:
            unplaced = self._unplaced.setdefault(association, {})
            if len(unplaced) < MOST_REFUSED:
                unplaced[sop_instance_uid] = for_space
            return
        study_uid, series_uid = where or (current[2], current[3]) if current else where or ("", "")
        key = (self._me, association, study_uid, series_uid)
        if key not in self._rows:
            if self._only_refused[association] >= MOST_REFUSED:
                return
            self._only_refused[association] += 1
        row = self._row(key, peer)
        if len(row.refused) >= MOST_REFUSED:
            return
        self._urgent = True
        self._change(key, refused={**row.refused, sop_instance_uid: for_space})
        if study_uid in self.held:
            self._stirred[study_uid] = now
            self._told[key] = self._rows[key]
            self._arrivals.refused(association, peer, series_uid, sop_instance_uid, for_space, at=now)

    def _end(self, scp_name: int, released: bool, now: float) -> None:
        association = self._associations.pop(scp_name, None)
        if association is None:  # it brought nothing
            return
        self._current.pop(association, None)
        self._unplaced.pop(association, None)
        del self._only_refused[association]
        self._ended.append((association, self._there(now), released))
        for key in [key for key in self._changed if key[1] == association]:
            self._change(key, ended_at=self._there(now), released=released)
        self._arrivals.ended(association, released, now)

    def _number_of(self, scp_name: int) -> int:
        return self._associations.setdefault(scp_name, next(self._count))

    def _row(self, key: Key, peer: Peer | None) -> Arrival:
        if key not in self._rows:
            title, address = (str(peer.ae_title), peer.address) if peer else (None, None)
            self._rows[key] = Arrival(*key, title, address, False, None, None, None, False, {}, 0)
        return self._rows[key]

    def _change(self, key: Key, **values: object) -> None:
        self._rows[key] = replace(self._rows[key], **values)  # type: ignore[arg-type]
        self._changed.add(key)


def _call(hint: Callable[..., None], *arguments: object) -> Callable[[], None]:
    return lambda: hint(*arguments)
