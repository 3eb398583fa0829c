"""Storage Commitment SCU: asks a destination to vouch for what it got (PS3.4 J).

  sent ──N-ACTION (own association)──▶ asked ──N-EVENT-REPORT──▶ committed | lost (sent again) | no report (asked again)

The report comes on the association that asked, while it lingers, or on one that the peer opens to our Storage SCP,
where receive.commitment takes it; both end in store.proof.settle(). Invariant: the Transaction UID is in the ledger
before the request goes out, so that a report always finds its deliveries, whichever process gets it and whenever.
"""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from pydicom import Dataset

from ich_node.deliver.dicom import scu
from ich_node.dicom.commitment import STORAGE_COMMITMENT
from ich_node.dicom.pdu import Proposal
from ich_node.domain.errors import PeerRefused, PeerUnavailable, StoreError
from ich_node.domain.ledger import Delivery, DeliveryState
from ich_node.runtime import logs
from ich_node.runtime.config import Config, DestinationConfig
from ich_node.runtime.patience import Patience
from ich_node.runtime.service import Stop
from ich_node.store.ledger.proof import Report, log_settled, settle
from ich_node.store.ledger.protocols import Ledger

POLL_S = 0.5  # chosen: a request may wait that long unseen beside minutes for its report; a stop waits for it
GATHER_S = 1.0
"""A result waits this long for others, so that one request covers a job."""
REQUEST_LIMIT = 500  # chosen: references of one request: several jobs, and less than 60 kB in one message


class Requester(Protocol):
    """What the committer needs of scu.Association."""

    def request_commitment(self, transaction_uid: str, references: Sequence[tuple[str, str]]) -> None:
        """Ask for (SOP Class UID, SOP Instance UID) pairs; raises PeerUnavailable unless the answer is Success."""

    def listen(self, until: Callable[[], bool], seconds: float) -> None:
        """Take what the peer says until a condition holds, for at most so many seconds."""

    def release(self) -> None:
        """End it in order."""

    def interrupt(self) -> None:
        """End whatever it waits for, from any thread."""


Connect = Callable[[Callable[[Report], None]], Requester]


def connector(config: Config, destination: DestinationConfig) -> Connect:
    """Opens associations for Storage Commitment; reports that come on them go to the given function."""

    def connect(on_report: Callable[[Report], None]) -> Requester:
        def take(information: Dataset) -> int:
            on_report(Report.read(information))  # a ValueError of which is answered with Invalid Argument Value
            return 0x0000

        proposal = Proposal(STORAGE_COMMITMENT, scu.UNCOMPRESSED)
        peer = at_commitment_address(destination)
        association = scu.associate(config.ae_title, peer, config.deliver, [proposal])
        association.on_report(take)
        return association

    return connect


def at_commitment_address(destination: DestinationConfig) -> DestinationConfig:
    """The destination as the one to ask: some archives have another AE title or port for Storage Commitment."""
    return destination.model_copy(
        update={
            "ae_title": destination.commitment_ae_title or destination.ae_title,
            "port": destination.commitment_port or destination.port,
        }
    )


def transaction_uid(destination: str, items: Sequence[Delivery], asked_at: float) -> str:
    """A Transaction UID of its own per request: 2.25 and 128 bits over destination, instances, time (PS3.5 B.2)."""
    fields = [destination, repr(asked_at), *(_sent_as(item)[1] for item in items)]
    digest = hashlib.sha256("\n".join(fields).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def _sent_as(item: Delivery) -> tuple[str, str]:
    return (
        item.sent_sop_class_uid or item.sop_class_uid,
        item.sent_sop_instance_uid or item.sop_instance_uid,
    )


class Committer:
    """Asks one destination for Storage Commitment of what was sent to it."""

    def __init__(
        self,
        config: Config,
        destination: DestinationConfig,
        store: Ledger,
        connect: Connect | None = None,
        *,
        clock: Callable[[], float] = time.time,
        random_source: random.Random | None = None,
    ) -> None:
        self.name = f"commit-{destination.name}"
        self.last_sign_of_life = time.monotonic()
        self._destination = destination
        self._options = config.deliver
        self._store = store
        self._connect = connect or connector(config, destination)
        self._clock = clock
        self._patience = Patience(
            config.deliver.retry_base_s, config.deliver.retry_max_s, random_source or random.Random()
        )
        self._failures = 0
        self._held_until = 0.0
        self._association: Requester | None = None
        self._reported = threading.Event()
        self._log = logs.get().bind(destination=destination.name)

    def run(self, stop: Stop) -> None:
        """Ask until `stop` is set."""
        while not stop.is_set():
            self.last_sign_of_life = time.monotonic()
            self.step()
            stop.wait(POLL_S)

    def interrupt(self) -> None:
        """From another thread: end a wait for the peer."""
        association = self._association
        if association is not None:
            association.interrupt()

    def step(self) -> None:
        """Ask for what was sent and is not proven, unless the destination is to be left alone."""
        if self._clock() < self._held_until:
            return
        try:
            items = self._to_ask()
            if items:
                self._ask(items)
        except StoreError as error:
            self._hold(str(error))

    def _to_ask(self) -> list[Delivery]:
        now = self._clock()
        items = self._store.uncommitted(
            self._destination.name,
            asked_before=now - self._options.commitment_timeout_s,
            created_after=now - self._options.give_up_after_h * 3600,
            limit=REQUEST_LIMIT,
        )
        gathered = any(item.updated_at <= now - GATHER_S for item in items)
        return items if gathered else []

    def _ask(self, items: Sequence[Delivery]) -> None:
        uid = transaction_uid(self._destination.name, items, self._clock())
        self._store.asked_commitment(items, uid)
        try:
            self._request(uid, [_sent_as(item) for item in items])
        except (PeerUnavailable, PeerRefused) as error:
            unproven = [item for item in self._store.of_transaction(uid) if item.state is DeliveryState.SENT]
            self._store.asked_commitment(unproven, None)
            self._hold(str(error), slowest=isinstance(error, PeerRefused))
            return
        self._failures = 0

    def _request(self, uid: str, references: Sequence[tuple[str, str]]) -> None:
        """N-ACTION, then wait for the report while the association lingers."""
        self._reported.clear()
        self._association = self._connect(self._on_report)
        try:
            self._association.request_commitment(uid, references)
            self._log.info("commitment_requested", transaction_uid=uid, instances=len(references))
            self._association.listen(self._reported.is_set, self._options.linger_s)
        finally:
            self._association.release()
            self._association = None

    def _on_report(self, report: Report) -> None:
        settled = settle(self._store, report, self._options, self._clock, only=frozenset({self._destination.name}))
        log_settled(self._log, report, settled)
        self._reported.set()

    def _hold(self, cause: str, *, slowest: bool = False) -> None:
        self._failures += 1
        wait = self._patience.longest() if slowest else self._patience.wait(self._failures)
        self._held_until = self._clock() + wait
        self._log.warning("commitment_finished", outcome="not asked", cause=cause, wait_s=round(wait, 1))
