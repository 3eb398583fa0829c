"""Reports on Storage Commitment requests (PS3.4 J.3.3): one thread that plans, a few that speak to peers.

The report goes to the sender's own port at its address where that is known (`receive.callers`, or a destination that
listens there), else on the association that asked. A peer is spoken to by one thread at a time and for REPORT_S at
most, so that one that does not answer holds up its own reports only. A restart in between loses nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from ich_node.dicom import dimse
from ich_node.dicom.commitment import (
    CLASS_CONFLICT,
    NO_SUCH_INSTANCE,
    STORAGE_COMMITMENT,
    SUCCESS,
    WELL_KNOWN_INSTANCE,
    event_information,
)
from ich_node.dicom.part10 import read_instance
from ich_node.dicom.pdu import Proposal
from ich_node.dicom.requestor import request_association
from ich_node.domain.dicom import Peer
from ich_node.domain.errors import ConfigError, PeerUnavailable, StoreError, UnidentifiableInstance
from ich_node.receive.admission import CallerList
from ich_node.receive.catalogue import Catalogue
from ich_node.receive.commitment import Commitments, Request, addresses_of
from ich_node.runtime import logs
from ich_node.runtime.config import Config, TlsConfig
from ich_node.runtime.secure import secure
from ich_node.runtime.service import Stop
from ich_node.store.ledger.proof import Report
from ich_node.store.spool import Spool

REPORTED, UNREACHABLE = "reported", "the sender has hung up and its port is not configured"
UNANSWERED = "the sender did not answer the report"
UNCOMPRESSED = (str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian))
MOST_AT_A_TIME = 8
"""Peers that are spoken to at the same time."""
REPORT_S = 10.0
"""A peer takes the association, and answers the report, within."""
RETRY_S, GIVE_UP_S = 10.0, 24 * 3600.0  # chosen: a sender is soon back; it asks again itself within a day
TICK_S = 0.2  # chosen: a stop waits for it; news ring before
HOLD_OPEN_S = 0.5
"""On the association that asked: time for the sender to have our response before our report."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a sender listens."""

    host: str
    port: int
    tls: TlsConfig | None


class Reporter:
    """Reports what is due."""

    def __init__(
        self,
        config: Config,
        spool: Spool,
        commitments: Commitments,
        catalogue: Catalogue,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._config = config
        self._spool = spool
        self._commitments = commitments
        self._catalogue = catalogue
        self._clock = clock
        self._callers = CallerList(config.receive.callers)
        self._pool = ThreadPoolExecutor(MOST_AT_A_TIME, thread_name_prefix="commitment")
        self._speaking: dict[Peer, Future[None]] = {}
        self._not_before: dict[str, float] = {}

    def run(self, stop: Stop) -> None:
        """Report until `stop` is set."""
        while not stop.is_set():
            self._commitments.wake.wait(TICK_S)
            self._commitments.wake.clear()
            try:
                self.step()
            except OSError as error:  # a disk that fails for a moment
                logs.get().error("commitment_failed", reason=str(error), retry_in_s=RETRY_S)
                stop.wait(RETRY_S)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def step(self) -> None:
        """Begin what is due, at most one report to a peer at a time; see `settle` for the end."""
        self._speaking = {peer: future for peer, future in self._speaking.items() if not future.done()}
        for request in self._commitments.pending():
            if len(self._speaking) >= MOST_AT_A_TIME:
                return
            if request.peer not in self._speaking and self._clock() >= self._not_before.get(request.key, 0.0):
                self._speaking[request.peer] = self._pool.submit(self._serve, request)

    def settle(self) -> None:
        """Wait for the reports that have begun."""
        for future in list(self._speaking.values()):
            future.result()

    def _serve(self, request: Request) -> None:
        """Judge and report; whatever goes wrong is tried again until it is too late, and other peers go on."""
        try:
            self._answer(request)
        except Exception as error:  # of the thread's loop: a defect of ours, or a disk that fails for a moment
            self._not_before[request.key] = self._clock() + RETRY_S
            if self._is_too_late(request):
                with suppress(OSError):
                    self._commitments.done(request)
            logs.get().error("commitment_failed", reason=type(error).__name__, retry_in_s=RETRY_S)

    def _answer(self, request: Request) -> None:
        report = self._judge(request)
        if report is None:
            self._not_before[request.key] = self._clock() + RETRY_S
            return
        outcome = self._report(request, report)
        given_up = self._is_too_late(request)
        if outcome in (REPORTED, UNREACHABLE) or given_up:
            self._commitments.done(request)
            self._not_before.pop(request.key, None)
        else:
            self._not_before[request.key] = self._clock() + RETRY_S
        logs.get().info(
            "commitment_finished",
            outcome="given up" if given_up and outcome != REPORTED else outcome,
            calling_ae_title=request.ae_title,
            transaction_uid=request.transaction_uid,
            committed=len(report.committed),
            failed=len(report.failed),
        )

    def _is_too_late(self, request: Request) -> bool:
        return self._clock() - request.received_at > GIVE_UP_S

    def _judge(self, request: Request) -> Report | None:
        """What of a request that peer sent and we hold; None when that is to be looked for later."""
        uids = {sop for _, sop in request.references}
        classes = self._classes(self._spool.find(uids), request.peer)
        try:
            if uids - classes.keys():
                classes |= self._classes(self._catalogue.find(uids - classes.keys()), request.peer)
            if missing := uids - classes.keys():
                if not self._catalogue.look(since=request.received_at):
                    return None
                classes |= self._classes(self._catalogue.find(missing), request.peer)
        except StoreError as error:
            logs.get().error("database_unavailable", reason=str(error), retry_in_s=RETRY_S)
            return None
        failed = {
            sop: CLASS_CONFLICT if sop in classes else NO_SUCH_INSTANCE
            for sop_class, sop in request.references
            if sop_class not in classes.get(sop, ())
        }
        return Report(request.transaction_uid, frozenset(uids - failed.keys()), failed)

    @staticmethod
    def _classes(held: Mapping[str, Sequence[Path]], sender: Peer) -> dict[str, set[str]]:
        """The SOP classes under which a sender's instances lie in their files, by SOP Instance UID."""
        classes: dict[str, set[str]] = {}
        for sop, paths in held.items():
            for path in paths:
                with suppress(OSError, UnidentifiableInstance):
                    instance = read_instance(path)
                    if instance.sender == sender:
                        classes.setdefault(sop, set()).add(instance.sop_class_uid)
        return classes

    def _report(self, request: Request, report: Report) -> str:
        """Send the N-EVENT-REPORT; returns what came of it."""
        address = self._address(request)
        try:
            if address is not None:
                return self._report_on_new_association(address, request, report)
            association = self._commitments.associations.get(request.key)
            if association is None:
                return UNREACHABLE
            time.sleep(HOLD_OPEN_S)
            if not association.is_established or association.acse.is_release_requested():
                return UNREACHABLE
            association.dimse_timeout = REPORT_S
            try:
                return _send(association, request, report)
            finally:
                association.dimse_timeout = self._config.receive.dimse_timeout_s
        except (OSError, RuntimeError, ConfigError) as error:  # name resolution · it has just hung up · TLS files
            return f"not reported: {type(error).__name__}"

    def _address(self, request: Request) -> Address | None:
        """Where this peer listens: never anywhere but at its own address."""
        for caller in self._callers.matching(request.ae_title, request.address):
            if caller.commitment_port is not None:
                return Address(request.address, caller.commitment_port, self._config.receive.tls)
        for destination in self._config.deliver.destinations:
            if destination.ae_title == request.ae_title and request.address in addresses_of(destination.host):
                return Address(destination.host, destination.port, destination.tls)
        return None

    def _report_on_new_association(self, address: Address, request: Request, report: Report) -> str:
        proposal = Proposal(STORAGE_COMMITMENT, UNCOMPRESSED, acts_as_scp=True)  # we report: PS3.4 J.3.3
        try:
            association = request_association(
                (address.host, address.port),
                calling=self._config.ae_title,
                called=request.ae_title,
                proposals=[proposal],
                connect_timeout_s=REPORT_S,
                timeout_s=REPORT_S,
                secure=secure(address.tls, address.host),
            )
        except PeerUnavailable as error:
            return f"the sender cannot be reached: {error}"
        try:
            if not association.negotiated.accepted:
                return "the sender does not take reports"
            context_id, syntax = next(iter(association.negotiated.accepted.items()))
            elements: dimse.Elements = {
                dimse.COMMAND_FIELD: dimse.N_EVENT_REPORT_RQ,
                dimse.AFFECTED_SOP_CLASS: STORAGE_COMMITMENT,
                dimse.AFFECTED_SOP_INSTANCE: WELL_KNOWN_INSTANCE,
                dimse.EVENT_TYPE: _event_type(report),
            }
            response = association.request(context_id, elements, [dimse.encoded(_information(request, report), syntax)])
        except PeerUnavailable:
            return UNANSWERED
        finally:
            association.release()
        return _outcome(dimse.number(response.command, dimse.STATUS, "Status"))


def _send(association: Any, request: Request, report: Report) -> str:
    """On the association that asked, which is pynetdicom's."""
    information = _information(request, report)
    response, _ = association.send_n_event_report(
        information, _event_type(report), STORAGE_COMMITMENT, WELL_KNOWN_INSTANCE
    )
    return _outcome(response.Status) if "Status" in response else UNANSWERED


def _information(request: Request, report: Report) -> Dataset:
    return event_information(request.transaction_uid, request.references, dict(report.failed))


def _event_type(report: Report) -> int:
    return 2 if report.failed else 1  # failures exist · all committed


def _outcome(status: int) -> str:
    return REPORTED if status == SUCCESS else f"the sender answered 0x{status:04X}"
