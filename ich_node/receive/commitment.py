"""Storage Commitment on our port (PS3.4 J), both ways round, by relationship.

* As SCP: a sender asks whether we hold what it sent.

      N-ACTION ──▶ commitments/<peer>-<Transaction UID>.json (durable) ──▶ 0x0000 … `reporting` ──▶ N-EVENT-REPORT

  A request is keyed by its peer (AE title and address) and Transaction UID, so that nobody replaces another one's. We
  vouch for what that peer sent and what lies in the spool, for nothing else.
* As SCU: a destination reports on what we sent, on an association that it opens; the ledger moves (store.proof). A
  report counts for the deliveries of the destination that it comes from.
"""

from __future__ import annotations

import hashlib
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any
from weakref import WeakValueDictionary

from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom import evt

from ich_node.dicom.commitment import (
    INVALID_ARGUMENT,
    NO_SUCH_ACTION,
    NOT_AUTHORISED,
    PROCESSING_FAILURE,
    RESOURCE_LIMITATION,
    STORAGE_COMMITMENT,
    SUCCESS,
    Message,
    read_message,
)
from ich_node.domain.dicom import AETitle, Peer
from ich_node.domain.errors import StoreError
from ich_node.receive.admission import CallerList
from ich_node.receive.scp import Extension
from ich_node.receive.transport import peer_of
from ich_node.runtime import logs
from ich_node.runtime.config import Config, DestinationConfig
from ich_node.store import durable
from ich_node.store.layout import StateDir
from ich_node.store.ledger.jobs import LEASE_S
from ich_node.store.ledger.proof import Report, log_settled, settle
from ich_node.store.ledger.protocols import CommitmentLedger

ASK_EVERY_S = LEASE_S / 6
"""Whether we still report for a receiver that is gone."""
MOST_PENDING, MOST_PENDING_OF_PEER = 1000, 100
"""Requests that wait for their report; a peer has a tenth of the places."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a sender asked: (SOP Class UID, SOP Instance UID) pairs. received_at: Unix seconds.

    receiver: whom of several it asked.
    """

    transaction_uid: str
    ae_title: str
    address: str
    received_at: float
    references: tuple[tuple[str, str], ...]
    receiver: str | None = None

    @property
    def peer(self) -> Peer:
        """Who asked."""
        return Peer(AETitle(self.ae_title), self.address)

    @property
    def key(self) -> str:
        """Peer and transaction: the name of its file."""
        return f"{peer_key(self.peer)}-{self.transaction_uid}"


def peer_key(peer: Peer) -> str:
    """A peer as part of a file name."""
    return hashlib.sha256(f"{peer.ae_title}\n{peer.address}".encode()).hexdigest()[:16]


class Commitments:
    """The handlers for the SCP, and the requests that wait. `extension` goes to Scp. receiver: as one of several."""

    def __init__(
        self,
        config: Config,
        jobs: CommitmentLedger,
        clock: Callable[[], float] = time.time,
        *,
        receiver: str | None = None,
    ) -> None:
        self._config = config
        self._jobs = jobs
        self._clock = clock
        self._receiver = receiver
        self._leases: dict[str | None, tuple[float, bool]] = {}  # other receiver → (asked at, whether we report for it)
        self._callers = CallerList(config.receive.callers)
        self._folder = StateDir(config.state_dir).commitments
        durable.make_directory(self._folder)
        self._lock = threading.Lock()
        self.associations: WeakValueDictionary[str, Any] = WeakValueDictionary()
        """On which association a request came, as long as there is one."""
        self.wake = threading.Event()

    @property
    def extension(self) -> Extension:
        """Presentation context and event handlers."""
        handlers = ((evt.EVT_N_ACTION, self._on_action), (evt.EVT_N_EVENT_REPORT, self._on_report))
        return Extension((STORAGE_COMMITMENT,), handlers)

    # --- our senders ask -------------------------------------------------------------------------------------------

    def _on_action(self, event: Any) -> tuple[int, None]:
        """Answer an N-ACTION-RQ: Success means that a report will follow (PS3.4 J.3.2.1.4)."""
        if event.action_type != 1:
            return NO_SUCH_ACTION, None
        peer = peer_of(event.assoc)
        try:
            message = _message(event, event.request.ActionInformation)
        except ValueError:
            return INVALID_ARGUMENT, None
        if peer is None or not message.references:
            return INVALID_ARGUMENT, None
        request = Request(
            message.transaction_uid, peer.ae_title, peer.address, self._clock(), message.references, self._receiver
        )
        self.associations[request.key] = event.assoc  # before the reporter can see the request
        status = self._keep(request)
        if status == SUCCESS:
            self.wake.set()
        return status, None

    def _keep(self, request: Request) -> int:
        """Make a request durable, if there is a place for it; returns the status of the answer."""
        with self._lock:
            try:
                waiting = Counter(path.name[:16] for path in self._folder.glob("*.json"))
                if waiting.total() >= MOST_PENDING or waiting[peer_key(request.peer)] >= MOST_PENDING_OF_PEER:
                    return RESOURCE_LIMITATION
                durable.replace_file(self._folder / f"{request.key}.json", json.dumps(asdict(request)).encode())
            except OSError:
                return PROCESSING_FAILURE
        return SUCCESS

    def pending(self) -> Iterator[Request]:
        """The requests that wait for our report, those of all peers in turn."""
        for path in sorted(self._folder.glob("*.json"), key=lambda path: path.name[17:]):
            try:
                fields = json.loads(path.read_text(encoding="utf-8"))
                fields["references"] = tuple((sop_class, sop) for sop_class, sop in fields["references"])
                request = Request(**fields)
                if self._is_ours(request.receiver):
                    yield request
            except FileNotFoundError:
                continue
            except (ValueError, TypeError, KeyError):  # not written by us
                with suppress(FileNotFoundError):  # another receiver was faster
                    path.rename(path.with_suffix(".unreadable"))

    def _is_ours(self, receiver: str | None) -> bool:
        """Whether we report on what that receiver was asked: it is us, or it is gone and no other one does."""
        if self._receiver in (None, receiver):
            return True
        asked_at, ours = self._leases.get(receiver, (0.0, False))
        if not asked_at <= self._clock() < asked_at + ASK_EVERY_S:
            ours = False
            with suppress(StoreError):  # nobody is told twice: asked again in a while
                gone = receiver not in self._jobs.receivers()
                ours = gone and self._jobs.take(f"commitment/{receiver or ''}", str(self._receiver), LEASE_S)
            self._leases[receiver] = (self._clock(), ours)
        return ours

    def done(self, request: Request) -> None:
        """Forget a request: it was reported, or never will be."""
        (self._folder / f"{request.key}.json").unlink(missing_ok=True)

    # --- our destinations report -----------------------------------------------------------------------------------

    def _on_report(self, event: Any) -> tuple[int, None]:
        """Answer an N-EVENT-REPORT-RQ: Success means that the ledger has it."""
        peer = peer_of(event.assoc)
        destinations = self._destinations_of(peer) if peer else frozenset()
        if not destinations:
            return NOT_AUTHORISED, None
        try:
            message = _message(event, event.request.EventInformation)
            committed = frozenset(sop for _, sop in message.references)
            failed = {sop: reason for _, sop, reason in message.failed}
            report = Report(message.transaction_uid, committed - failed.keys(), failed)
            settled = settle(self._jobs, report, self._config.deliver, self._clock, only=destinations)
        except ValueError:
            return INVALID_ARGUMENT, None
        except StoreError as error:  # the peer may report again; if not, it is asked again
            logs.get().error("database_unavailable", reason=str(error))
            return PROCESSING_FAILURE, None
        log_settled(logs.get(), report, settled)
        return SUCCESS, None

    def _destinations_of(self, peer: Peer) -> frozenset[str]:
        """The names of the destinations that this peer is."""
        return frozenset(
            destination.name
            for destination in self._config.deliver.destinations
            if destination.ae_title == peer.ae_title and self._is_at(destination, peer)
        )

    def _is_at(self, destination: DestinationConfig, peer: Peer) -> bool:
        """Whether a peer with a destination's title calls from its host, or from where `receive.callers` puts it."""
        named = any(one.ae_title == peer.ae_title for one in self._callers.matching(peer.ae_title, peer.address))
        return named or peer.address in addresses_of(destination.host)


def addresses_of(host: str) -> frozenset[str]:
    """The addresses of a host; none when its name cannot be resolved."""
    try:
        return frozenset(str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))
    except OSError:
        return frozenset()


def _message(event: Any, information: Any) -> Message:
    """Raises ValueError; the dataset is read by us, not by pydicom, whose cost a peer can choose."""
    if information is None:
        raise ValueError("there is no dataset")
    return read_message(information.getvalue(), implicit=event.context.transfer_syntax == ImplicitVRLittleEndian)
