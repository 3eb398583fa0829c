"""Who may open an association, and how many at a time: the policy behind A-ASSOCIATE-RJ (PS3.8 9.3.4).

In: AE titles, addresses, what a certificate says. Out: a `Slot` (welcome) or a `Rejection`. No sockets here.

    an address outside every caller's networks  ->  closed at once, no thread
    a connection that has asked for nothing yet  ->  a pending place; when there is none, whoever holds most loses one
    a request                                    ->  title, address and certificate by `receive.callers`; then a slot
"""

from __future__ import annotations

import fnmatch
import ipaddress
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from ich_node.domain.dicom import Peer
from ich_node.runtime.config import CallerConfig, ReceiveConfig

PENDING_FACTOR = 2
"""Connections that have not yet asked for an association may be this many times as many as associations."""
RESERVED = 0.25
"""The last quarter of the slots is for addresses that have none yet, so that no few peers can take all."""
TELL_EVERY_S = 60.0
"""A peer's repeated trouble is one line in a minute, counted."""
MOST_REMEMBERED = 4096
"""Addresses of which is known how they read and whether they may call: who comes again at once costs no second look."""
MOST_TOLD = 1024
"""Peers whose trouble is counted at a time; beyond that it is told for all others together."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """Result, source and reason of an A-ASSOCIATE-RJ PDU (PS3.8 table 9-21); our own words for cause and remedy."""

    result: int
    source: int
    diagnostic: int
    reason: str
    remedy: str = ""

    def pdu(self) -> bytes:
        """The whole PDU."""
        return bytes((3, 0, 0, 0, 0, 4, 0, self.result, self.source, self.diagnostic))


UNKNOWN_CALLER = Rejection(
    1, 1, 3, "calling AE title not allowed from this address", "add title and address to receive.callers"
)
NOT_ITS_CERTIFICATE = Rejection(
    1, 1, 3, "the certificate is not that of this caller", "compare receive.callers[].certificate with the peer's"
)
UNKNOWN_CALLED = Rejection(1, 1, 7, "called AE title not recognised", "call ae_title, or do not check it")
UNKNOWN_VERSION = Rejection(1, 2, 2, "protocol version not supported")
TOO_MANY = Rejection(2, 3, 2, "too many associations", "raise receive.max_associations")
TOO_MANY_OF_PEER = Rejection(
    2, 3, 2, "too many associations from this address", "raise receive.max_associations_per_peer"
)
STOPPING = Rejection(2, 3, 1, "the node is stopping")


@lru_cache(MOST_REMEMBERED)
def plain_address(address: str) -> str:
    """An address as written in the configuration: IPv4 also where it comes in IPv6 clothes, no zone."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return str(mapped or parsed)


class CallerList:
    """The allow-list of `receive.callers`. Titles may be patterns: * any characters, ? one."""

    def __init__(self, callers: tuple[CallerConfig, ...]) -> None:
        self._callers = [
            (caller, [ipaddress.ip_network(address, strict=False) for address in caller.addresses])
            for caller in callers
        ]
        self.knows = lru_cache(MOST_REMEMBERED)(self._knows)
        """Whether anybody at all may call from an address."""

    def _knows(self, address: str) -> bool:
        parsed = ipaddress.ip_address(plain_address(address))
        return any(parsed in network for _, networks in self._callers for network in networks)

    def matching(self, calling_ae_title: str, address: str) -> list[CallerConfig]:
        """The entries that name this title together with this address, in the order of the configuration."""
        parsed = ipaddress.ip_address(plain_address(address))
        return [
            caller
            for caller, networks in self._callers
            if fnmatch.fnmatchcase(calling_ae_title, caller.ae_title) and any(parsed in network for network in networks)
        ]

    def site_of(self, peer: Peer | None) -> str:
        """The site that a peer belongs to: that of the first entry which names one, else its address."""
        if peer is None or not peer.address:
            return ""
        named = (caller.site for caller in self.matching(peer.ae_title, peer.address) if caller.site)
        return next(named, peer.address)


class Slot:
    """One place among the associations. It is free again when `alive` says so, or when it is given up."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.alive: Callable[[], bool] = lambda: True  # until the association runs


class Admission:
    """Counts connections and associations, and decides on new ones; safe for several threads."""

    def __init__(self, config: ReceiveConfig, own_ae_title: str) -> None:
        self._config = config
        self._own_ae_titles = {own_ae_title, *config.also_called}
        self._callers = CallerList(config.callers)
        self._lock = threading.Lock()
        self._slots: list[Slot] = []
        self._pending: dict[str, dict[int, Callable[[], None]]] = {}
        self.trouble = Told()
        self.stopping = False

    def knows(self, address: str) -> bool:
        """Whether a connection from this address may ask for anything."""
        return self._callers.knows(address)

    def arrived(self, address: str, key: int, close: Callable[[], None]) -> None:
        """Count a connection that has not asked for anything yet. `close` ends it when its place is needed.

        Who is in order asks within moments; who holds most places without asking loses the oldest of them.
        """
        with self._lock:
            evicted = None
            most_of_peer = PENDING_FACTOR * self._config.max_associations_per_peer
            if len(self._pending.get(address, ())) >= most_of_peer:
                evicted = self._oldest_of(address)
            elif sum(map(len, self._pending.values())) >= PENDING_FACTOR * self._config.max_associations:
                evicted = self._oldest_of(max(self._pending, key=lambda peer: len(self._pending[peer])))
            self._pending.setdefault(address, {})[key] = close
        if evicted is not None:
            evicted()

    def _oldest_of(self, address: str) -> Callable[[], None]:
        places = self._pending[address]
        close = places.pop(next(iter(places)))
        if not places:
            del self._pending[address]
        return close

    def decided(self, address: str, key: int) -> None:
        """The connection has become an association, or is gone."""
        with self._lock:
            places = self._pending.get(address, {})
            places.pop(key, None)
            if not places:
                self._pending.pop(address, None)

    def pending(self) -> int:
        """How many connections have not asked for anything yet."""
        with self._lock:
            return sum(map(len, self._pending.values()))

    def caller(
        self, calling_ae_title: str, called_ae_title: str, address: str, names: frozenset[str] | None = None
    ) -> CallerConfig | Rejection:
        """The entry by which a request is allowed. names: what the peer's certificate says; None without TLS."""
        matching = self._callers.matching(calling_ae_title, address) if calling_ae_title else []
        if not matching:
            return UNKNOWN_CALLER
        allowed = [one for one in matching if one.certificate is None or (names and one.certificate.lower() in names)]
        if not allowed:
            return NOT_ITS_CERTIFICATE
        if self._config.check_called_ae_title and called_ae_title not in self._own_ae_titles:
            return UNKNOWN_CALLED
        return allowed[0]

    def admit(self, address: str) -> Slot | Rejection:
        """A slot for a request that is allowed."""
        with self._lock:
            if self.stopping:
                return STOPPING
            self._forget_ended()
            own = sum(slot.address == address for slot in self._slots)
            reserved = int(RESERVED * self._config.max_associations)
            if len(self._slots) >= self._config.max_associations - (reserved if own else 0):
                return TOO_MANY
            if own >= self._config.max_associations_per_peer:
                return TOO_MANY_OF_PEER
            slot = Slot(address)
            self._slots.append(slot)
            return slot

    def open_associations(self) -> int:
        """How many associations are open."""
        with self._lock:
            self._forget_ended()
            return len(self._slots)

    def _forget_ended(self) -> None:
        """Give up the slots of associations that have ended, and with them all that `alive` holds on to."""
        self._slots = [slot for slot in self._slots if slot.alive()]


class Told:
    """Keeps what is said about peers short: of what repeats, so many lines a minute are told, and the rest counted."""

    def __init__(self, lines: int = 1, clock: Callable[[], float] = time.monotonic) -> None:
        self._lines = lines
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: dict[object, list[float]] = {}  # (began, told since then, untold)

    def __call__(self, key: object) -> int:
        """How often it has happened since it was last told, this time included; 0 when it is not to be told now."""
        now = self._clock()
        with self._lock:
            if key not in self._seen and len(self._seen) >= MOST_TOLD:
                self._seen = {k: seen for k, seen in self._seen.items() if now - seen[0] < TELL_EVERY_S}
                if len(self._seen) >= MOST_TOLD:
                    key = None  # all others together
            seen = self._seen.setdefault(key, [now, 0, 0])
            if now - seen[0] >= TELL_EVERY_S:
                seen[:2] = [now, 0]
            if seen[1] >= self._lines:
                seen[2] += 1
                return 0
            count, seen[2] = 1 + int(seen[2]), 0
            seen[1] += 1
            return count
