"""Who may open an association, and how many at a time: the policy behind A-ASSOCIATE-RJ (PS3.8 9.3.4).

In: AE titles, addresses, a count of what is open. Out: None (welcome) or a `Rejection`. No sockets here.
"""

from __future__ import annotations

import ipaddress
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from ich_node.runtime.config import CallerConfig, ReceiveConfig

PENDING_FACTOR = 2
"""Connections that have not yet asked for an association may be this many times as many as associations."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """Result, source and reason of an A-ASSOCIATE-RJ PDU (PS3.8 table 9-21), and our own words for the log."""

    result: int
    source: int
    diagnostic: int
    reason: str

    def pdu(self) -> bytes:
        """The whole PDU."""
        return bytes((3, 0, 0, 0, 0, 4, 0, self.result, self.source, self.diagnostic))


UNKNOWN_CALLER = Rejection(1, 1, 3, "calling AE title or address not allowed")
UNKNOWN_CALLED = Rejection(1, 1, 7, "called AE title not recognised")
TOO_MANY = Rejection(2, 3, 2, "too many associations")
TOO_MANY_OF_PEER = Rejection(2, 3, 2, "too many associations from this address")
STOPPING = Rejection(2, 3, 1, "the node is stopping")


def plain_address(address: str) -> str:
    """An address as written in the configuration: IPv4 also where it comes in IPv6 clothes, no zone."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return str(mapped or parsed)


class CallerList:
    """The allow-list of `receive.callers`."""

    def __init__(self, callers: tuple[CallerConfig, ...]) -> None:
        self._callers = [
            (caller.ae_title, [ipaddress.ip_network(address, strict=False) for address in caller.addresses])
            for caller in callers
        ]

    def allows(self, calling_ae_title: str, address: str) -> bool:
        """Whether one entry names this title (or any, *) together with this address."""
        parsed = ipaddress.ip_address(plain_address(address))
        return any(
            title in ("*", calling_ae_title) and any(parsed in network for network in networks)
            for title, networks in self._callers
        )


class Slot:
    """One place among the associations. It is free again when `alive` says so, or when it is given up."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.alive: Callable[[], bool] = lambda: True  # until the association runs


class Admission:
    """Counts connections and associations, and decides on new ones; safe for several threads."""

    def __init__(self, config: ReceiveConfig, own_ae_title: str) -> None:
        self._config = config
        self._own_ae_title = own_ae_title
        self._callers = CallerList(config.callers)
        self._lock = threading.Lock()
        self._slots: list[Slot] = []
        self._pending: Counter[str] = Counter()
        self.stopping = False

    def arrived(self, address: str) -> bool:
        """Count a connection that has not asked for anything yet; False when there are too many of them already."""
        with self._lock:
            too_many = (
                self._pending.total() >= PENDING_FACTOR * self._config.max_associations
                or self._pending[address] >= PENDING_FACTOR * self._config.max_associations_per_peer
            )
            if not too_many:
                self._pending[address] += 1
            return not too_many

    def decided(self, address: str) -> None:
        """The connection has become an association, or is gone."""
        with self._lock:
            self._pending[address] -= 1
            if self._pending[address] <= 0:
                del self._pending[address]

    def admit(self, calling_ae_title: str, called_ae_title: str, address: str) -> Slot | Rejection:
        """Decide on an A-ASSOCIATE-RQ."""
        if not self._callers.allows(calling_ae_title, address):
            return UNKNOWN_CALLER
        if self._config.check_called_ae_title and called_ae_title != self._own_ae_title:
            return UNKNOWN_CALLED
        with self._lock:
            if self.stopping:
                return STOPPING
            self._forget_ended()
            if len(self._slots) >= self._config.max_associations:
                return TOO_MANY
            if sum(slot.address == address for slot in self._slots) >= self._config.max_associations_per_peer:
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
