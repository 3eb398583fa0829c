"""One deliverer per destination, of all the deliver roles that share a ledger: each part works while it holds a lease.

So nothing is sent by two at a time, and the order within a job holds. Whoever cannot renew its lease stops sending
before it is over, in the middle of an instance if need be; what had no answer stays owed, and the next one sends it
again with the same bytes and UIDs.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress

from ich_node.deliver.part import Part
from ich_node.domain.errors import StoreError
from ich_node.runtime import logs
from ich_node.runtime.service import Stop
from ich_node.store.ledger.jobs import LEASE_S
from ich_node.store.ledger.protocols import Leases

RENEW_S = 5.0  # a sixth of a lease, as workers do
MARGIN_S = 5.0  # for an association to be given up within, and for clocks that run at different speeds


class Leased:
    """A part that works only while `holder` holds its lease."""

    def __init__(self, part: Part, leases: Leases, holder: str, *, lease_s: float = LEASE_S, renew_s: float = RENEW_S):
        self.name = part.name
        self._part = part
        self._lease = f"deliver/{part.name}"
        self._leases = leases
        self._holder = holder
        self._lease_s = lease_s
        self._renew_s = renew_s
        self._seen_alive = time.monotonic()
        self._working = False
        self._until = 0.0  # _now(): we stop then, before anybody else begins

    @property
    def last_sign_of_life(self) -> float:
        """That of the part while it works, or of the moment when it began; see Part."""
        return max(self._part.last_sign_of_life, self._seen_alive) if self._working else self._seen_alive

    def interrupt(self) -> None:
        """See Part."""
        self._part.interrupt()

    def run(self, stop: Stop) -> None:
        """Wait for the lease and work with it, in turns, until `stop` is set."""
        while not stop.is_set():
            self._seen_alive = time.monotonic()
            if self._take():
                self._work(stop)
            else:
                stop.wait(self._renew_s)

    def _work(self, stop: Stop) -> None:
        over = Stop()
        keeper = threading.Thread(target=self._keep, args=(stop, over), name=f"lease-{self.name}", daemon=True)
        keeper.start()
        logs.get().info("delivery_taken_over", part=self.name)
        self._working = True
        try:
            self._part.run(over)
        finally:
            self._working = False
            over.set()
            keeper.join()
            with suppress(StoreError):  # then it ends by itself
                self._leases.leave(self._lease, self._holder)

    def _keep(self, stop: Stop, over: Stop) -> None:
        """Renew the lease until it is lost, or we are to stop; then the part stops too."""
        next_s = _now() + self._renew_s
        try:
            while not over.is_set() and _now() < self._until:
                if stop.wait(min(0.1, self._renew_s)):
                    break
                if _now() >= next_s:
                    next_s = _now() + self._renew_s
                    self._take()
        finally:  # whatever it is that ends the renewing, the part does not go on without
            lost = not (over.is_set() or stop.is_set())
            over.set()
            if lost:
                logs.get().warning("delivery_lease_lost", part=self.name)
                self._part.interrupt()

    def _take(self) -> bool:
        began = _now()
        try:
            taken = self._leases.take(self._lease, self._holder, self._lease_s)
        except StoreError as error:
            logs.get().error("database_unavailable", reason=str(error), retry_in_s=self._renew_s)
            return False
        self._until = began + self._lease_s - MARGIN_S if taken else 0.0
        return taken


def _now() -> float:
    """Seconds, those that the machine slept among them: a lease goes on meanwhile."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
