"""Storage Commitment on our port (PS3.4 J), both ways round.

* As SCP: a sender asks whether we hold what it sent; the answer is taken from the files that lie in the spool.

      N-ACTION ──▶ commitments/<Transaction UID>.json (durable) ──▶ 0x0000 … N-EVENT-REPORT ──▶ file removed

  The report goes on a new association where the sender's port is known (receive.callers, or a destination with its AE
  title), else on the association that asked. A restart in between loses nothing.
* As SCU: a destination reports on what we sent, on an association that it opens; the ledger moves (store.proof).
"""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from pydicom import Dataset
from pynetdicom import AE, evt
from pynetdicom.presentation import build_context, build_role

from ich_node.dicom.identity import is_uid
from ich_node.dicom.part10 import read_instance
from ich_node.domain.errors import ConfigError, StoreError, UnidentifiableInstance
from ich_node.receive.scp import Extension
from ich_node.receive.transport import peer_of
from ich_node.runtime import logs, tls
from ich_node.runtime.config import Config, TlsConfig
from ich_node.runtime.service import Stop
from ich_node.store import durable
from ich_node.store.layout import StateDir
from ich_node.store.ledger.proof import Report, settle
from ich_node.store.ledger.protocols import Ledger
from ich_node.store.spool import Spool

STORAGE_COMMITMENT = "1.2.840.10008.1.20.1"
WELL_KNOWN_INSTANCE = "1.2.840.10008.1.20.1.1"
SUCCESS, PROCESSING_FAILURE, INVALID_ARGUMENT, NO_SUCH_ACTION = 0x0000, 0x0110, 0x0115, 0x0123
RESOURCE_LIMITATION = 0x0213
NO_SUCH_INSTANCE, CLASS_CONFLICT = 0x0112, 0x0119  # Failure Reason (0008,1197), PS3.3 C.14.1.1
REPORTED, UNREACHABLE = "reported", "the sender has hung up and its port is not configured"
MOST_REFERENCES, MOST_PENDING = 20_000, 1000
RETRY_S, GIVE_UP_S = 10.0, 24 * 3600.0
TICK_S = 0.2
HOLD_OPEN_S = 0.5
"""On the association that asked: time for the sender to have our response before our report."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a sender asked: (SOP Class UID, SOP Instance UID) pairs. received_at: Unix seconds."""

    transaction_uid: str
    ae_title: str
    address: str
    received_at: float
    references: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Address:
    """Where a sender listens."""

    host: str
    port: int
    tls: TlsConfig | None


class Commitments:
    """The service: handlers for the SCP, and a thread that reports. `extension` goes to Scp."""

    def __init__(self, config: Config, spool: Spool, jobs: Ledger, clock: Callable[[], float] = time.time) -> None:
        self._config = config
        self._spool = spool
        self._jobs = jobs
        self._clock = clock
        self._folder = StateDir(config.state_dir).commitments
        durable.make_directory(self._folder)
        self._associations: WeakValueDictionary[str, Any] = WeakValueDictionary()
        self._not_before: dict[str, float] = {}
        self._wake = threading.Event()

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
        if peer is None:
            return PROCESSING_FAILURE, None
        try:
            request = read_request(event.action_information, peer.ae_title, peer.address, self._clock())
        except ValueError:
            return INVALID_ARGUMENT, None
        if sum(1 for _ in self._folder.iterdir()) >= MOST_PENDING:
            return RESOURCE_LIMITATION, None
        try:
            durable.replace_file(self._folder / f"{request.transaction_uid}.json", json.dumps(asdict(request)).encode())
        except OSError:
            return PROCESSING_FAILURE, None
        self._associations[request.transaction_uid] = event.assoc
        self._wake.set()
        return SUCCESS, None

    def run(self, stop: Stop) -> None:
        """Report until `stop` is set."""
        while not stop.is_set():
            self._wake.wait(TICK_S)
            self._wake.clear()
            self.step()

    def step(self) -> None:
        """Report what is due."""
        for path, request in self._pending():
            if self._clock() < self._not_before.get(request.transaction_uid, 0.0):
                continue
            report = judge(request, self._spool)
            outcome = self._report(request, report)
            given_up = self._clock() - request.received_at > GIVE_UP_S
            if outcome in (REPORTED, UNREACHABLE) or given_up:
                path.unlink(missing_ok=True)
                self._not_before.pop(request.transaction_uid, None)
            else:
                self._not_before[request.transaction_uid] = self._clock() + RETRY_S
            logs.get().info(
                "commitment_finished",
                outcome="given up" if given_up and outcome != REPORTED else outcome,
                calling_ae_title=request.ae_title,
                transaction_uid=request.transaction_uid,
                committed=len(report.committed),
                failed=len(report.failed),
            )

    def _pending(self) -> Iterator[tuple[Path, Request]]:
        for path in sorted(self._folder.glob("*.json")):
            try:
                fields = json.loads(path.read_text(encoding="utf-8"))
                fields["references"] = tuple((sop_class, sop) for sop_class, sop in fields["references"])
                yield path, Request(**fields)
            except FileNotFoundError:
                continue
            except (ValueError, TypeError, KeyError):  # not written by us
                path.rename(path.with_suffix(".unreadable"))

    def _report(self, request: Request, report: Report) -> str:
        """Send the N-EVENT-REPORT; returns what came of it."""
        address = self._address(request)
        try:
            if address is not None:
                return self._report_on_new_association(address, request, report)
            association = self._associations.get(request.transaction_uid)
            if association is None:
                return UNREACHABLE
            time.sleep(HOLD_OPEN_S)
            if not association.is_established or association.acse.is_release_requested():
                return UNREACHABLE
            return _send(association, request, report)
        except (OSError, RuntimeError, ConfigError) as error:  # name resolution · it has just hung up · TLS files
            return f"not reported: {error}"

    def _address(self, request: Request) -> Address | None:
        for caller in self._config.receive.callers:
            if caller.commitment_port is not None and caller.ae_title == request.ae_title:
                return Address(request.address, caller.commitment_port, self._config.receive.tls)
        for destination in self._config.deliver.destinations:
            if destination.ae_title == request.ae_title:
                return Address(destination.host, destination.port, destination.tls)
        return None

    def _report_on_new_association(self, address: Address, request: Request, report: Report) -> str:
        ae = AE(self._config.ae_title)
        ae.connection_timeout = self._config.deliver.connect_timeout_s
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = self._config.deliver.dimse_timeout_s
        context: ssl.SSLContext | None = tls.client_context(address.tls) if address.tls else None
        association = ae.associate(
            address.host,
            address.port,
            contexts=[build_context(STORAGE_COMMITMENT)],
            ext_neg=[build_role(STORAGE_COMMITMENT, scp_role=True)],  # we report: PS3.4 J.3.3, PS3.7 D.3.3.4
            ae_title=request.ae_title,
            tls_args=(context, address.host) if context else None,
        )
        if not association.is_established:
            return "the sender can not be reached"
        try:
            return _send(association, request, report)
        finally:
            association.release()

    # --- our destinations report -----------------------------------------------------------------------------------

    def _on_report(self, event: Any) -> tuple[int, None]:
        """Answer an N-EVENT-REPORT-RQ: Success means that the ledger has it."""
        try:
            report = Report.read(event.event_information)
            settled = settle(self._jobs, report, self._config.deliver, self._clock)
        except ValueError:
            return INVALID_ARGUMENT, None
        except StoreError as error:  # the peer may report again; if not, it is asked again
            logs.get().error("database_unavailable", reason=str(error))
            return PROCESSING_FAILURE, None
        logs.get().info(
            "commitment_finished",
            outcome="reported",
            transaction_uid=report.transaction_uid,
            committed=settled.committed,
            lost=settled.lost,
            undecided=settled.undecided,
        )
        return SUCCESS, None


def read_request(information: Dataset, ae_title: str, address: str, now: float) -> Request:
    """From the Action Information of an N-ACTION; raises ValueError when it is not a Storage Commitment request."""
    try:
        uid = str(information.TransactionUID)
        references = tuple(
            (str(item.ReferencedSOPClassUID), str(item.ReferencedSOPInstanceUID))
            for item in information.ReferencedSOPSequence
        )
    except (AttributeError, TypeError) as error:
        raise ValueError("not a Storage Commitment request") from error
    if not is_uid(uid) or not references or len(references) > MOST_REFERENCES:
        raise ValueError("no Transaction UID, no references, or too many")
    return Request(uid, ae_title, address, now, references)


def judge(request: Request, spool: Spool) -> Report:
    """What of a request is held: the file is there under its name, so it is durable, and of that SOP Class."""
    held = spool.find([sop for _, sop in request.references])
    committed, failed = set(), {}
    for sop_class, sop in request.references:
        try:
            instance = read_instance(held[sop])
        except (KeyError, OSError, UnidentifiableInstance):
            failed[sop] = NO_SUCH_INSTANCE
            continue
        if instance.sop_class_uid == sop_class:
            committed.add(sop)
        else:
            failed[sop] = CLASS_CONFLICT
    return Report(request.transaction_uid, frozenset(committed), failed)


def event_information(request: Request, report: Report) -> Dataset:
    """The dataset of an N-EVENT-REPORT (PS3.4 Table J.3-2)."""
    information = Dataset()
    information.TransactionUID = request.transaction_uid
    committed, failed = [], []
    for sop_class, sop in request.references:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, sop
        if sop in report.failed:
            item.FailureReason = report.failed[sop]
            failed.append(item)
        else:
            committed.append(item)
    if committed:
        information.ReferencedSOPSequence = committed
    if failed:
        information.FailedSOPSequence = failed
    return information


def _send(association: Any, request: Request, report: Report) -> str:
    event_type = 2 if report.failed else 1  # failures exist · all committed
    response, _ = association.send_n_event_report(
        event_information(request, report), event_type, STORAGE_COMMITMENT, WELL_KNOWN_INSTANCE
    )
    if "Status" not in response:
        return "the sender did not answer the report"
    return REPORTED if response.Status == SUCCESS else f"the sender answered 0x{response.Status:04X}"
