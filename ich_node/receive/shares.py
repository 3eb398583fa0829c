"""Whose bytes and series fill the spool: quotas of sites, and when room gets short, who waits.

A site is a group of callers (`receive.callers[].site`); a caller without one is a site of its own, by its address. In:
bytes and series by site, here and at other receivers, and how many jobs of a site wait. Out: whether another instance
may come. Above the larger of the two limits for room, quotas alone are asked; below it what is not analysed goes first,
then who has sent most; below the watermark itself (`store.min_free_gb`) nobody is let in, whoever it is.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping

from ich_node.domain.dicom import Peer
from ich_node.receive.admission import CallerList
from ich_node.runtime.config import ReceiveConfig
from ich_node.store.ledger.protocols import Sites

ASIDE_ROOM, GREEDY_ROOM = 2.0, 1.5
"""Times the watermark: below so much room nothing is set aside, below so much the greediest sender waits."""
GREEDY_SHARE = 0.5
"""Of what all peers have sent lately; a peer that is the only one is never greedy."""
LATELY_S = 12 * 3600.0
"""A night shift; counted over this one and the one before."""
MOST_SERIES, SERIES_S = 5000, 600.0
"""New series of one address in ten minutes, each of which costs a folder, a judgement and a row: twice what an archive
brings that forwards without a pause."""
MOST_PEERS = 4096
"""Addresses that are counted; a hospital has a few dozen."""
SLACK = 1.1
"""Of a quota: a series that has begun is let in to its end, so that no quota cuts a head in two; one that has no end is
not."""
LOOK_EVERY_S = 5.0
"""At the ledger: a site that floods gets beyond its quota by what comes in that time."""


class Shares:
    """Bytes by site, this period and the last one; safe for many threads."""

    def __init__(self, config: ReceiveConfig | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        config = config or ReceiveConfig()
        self._callers = CallerList(config.callers)
        self._quotas = {site.name: site for site in config.sites}
        self._clock = clock
        self._lock = threading.Lock()
        self._began = clock()
        self._now: Counter[str] = Counter()
        self._before: Counter[str] = Counter()
        self._series_began = clock()
        self._series: dict[str, set[str]] = {}
        self._queued: Mapping[str, int] = {}
        self._elsewhere: Mapping[str, int] = {}
        self._sites: dict[Peer, str] = {}
        self._next_look_s = clock()

    def site_of(self, peer: Peer | None) -> str:
        """The site that a peer belongs to."""
        if peer is None:
            return ""
        site = self._sites.get(peer)
        if site is None:
            if len(self._sites) >= MOST_PEERS:
                self._sites.clear()
            site = self._sites[peer] = self._callers.site_of(peer)
        return site

    def look(self, ledger: Sites, receiver: str | None) -> None:
        """Take in what the ledger knows of all sites, and tell what has come here. Raises StoreError.

        receiver: our name among several, none: there is nobody to tell.
        """
        if self._clock() < self._next_look_s or not (self._quotas or receiver):
            return
        self._next_look_s = self._clock() + LOOK_EVERY_S
        if any(quota.max_queued for quota in self._quotas.values()):
            self._queued = ledger.queued_by_site()
        if receiver is not None:
            with self._lock:
                lately = self._now + self._before
            self._elsewhere = ledger.exchange_shares(receiver, lately, LATELY_S)

    def took(self, peer: Peer | None, series_uid: str, count: int) -> None:
        """An instance of so many bytes of this peer was stored in a series."""
        site, address = self.site_of(peer), _address(peer)
        with self._lock:
            if self._clock() - self._series_began >= SERIES_S:
                self._series, self._series_began = {}, self._clock()
            if address in self._series or len(self._series) < MOST_PEERS:
                self._series.setdefault(address, set()).add(series_uid)
            elapsed = self._clock() - self._began
            if elapsed >= LATELY_S:
                self._before = self._now if elapsed < 2 * LATELY_S else Counter()
                self._now, self._began = Counter(), self._clock()
            if site in self._now or len(self._now) < MOST_PEERS:
                self._now[site] += count

    def refusal(
        self, peer: Peer | None, series_uid: str, room: float, *, aside: bool, has_begun: Callable[[], bool]
    ) -> str:
        """Why another instance of this peer is refused; empty when it is not.

        room: free bytes by the watermark. has_begun: whether something of its series is there already.
        """
        site = self.site_of(peer)
        if self._is_one_series_too_many(_address(peer), series_uid):
            return "too many series of this sender at a time"
        if over := self._over_quota(site, has_begun):
            return over
        if aside and room < ASIDE_ROOM:
            return "no space for what is not analysed"
        if room < GREEDY_ROOM and self._is_greedy(site):
            return "no space for more of this sender"
        return ""

    def _over_quota(self, site: str, has_begun: Callable[[], bool]) -> str:
        quota = self._quotas.get(site)
        if quota is None:
            return ""
        if quota.max_gb is not None:
            own, most = self._lately(site), quota.max_gb * 1e9
            if own >= SLACK * most or (own >= most and not has_begun()):
                return "this site has sent as much as it may"
        if quota.max_queued is not None and self._queued.get(site, 0) >= quota.max_queued and not has_begun():
            return "as many studies of this site wait as may"
        return ""

    def _is_one_series_too_many(self, address: str, series_uid: str) -> bool:
        with self._lock:
            own = self._series.get(address, set())
            lately = self._clock() - self._series_began < SERIES_S
            return lately and len(own) >= MOST_SERIES and series_uid not in own

    def _lately(self, site: str) -> int:
        with self._lock:
            return self._now[site] + self._before[site] + self._elsewhere.get(site, 0)

    def _is_greedy(self, site: str) -> bool:
        own = self._lately(site)
        with self._lock:
            total = self._now.total() + self._before.total() + sum(self._elsewhere.values())
        return own < total and own > GREEDY_SHARE * total


def _address(peer: Peer | None) -> str:
    return peer.address if peer else ""
