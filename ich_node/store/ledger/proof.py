"""What a Storage Commitment report means for the ledger (PS3.4 J.3.3).

Reports arrive on the association that asked (deliver) or on one that the peer opens (receive).

Invariant: a report only moves deliveries of its own transaction that are still SENT; a repeated report changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydicom import Dataset

from ich_node.domain.ledger import Delivery, DeliveryState, dimse_code
from ich_node.runtime.config import DeliverConfig
from ich_node.runtime.patience import Patience
from ich_node.store.ledger.protocols import Ledger

REASONS: Mapping[int, str] = {
    0x0110: "processing failure",
    0x0112: "no such object instance",
    0x0213: "resource limitation",
    0x0122: "SOP Class not supported",
    0x0119: "class-instance conflict",
    0x0131: "duplicate transaction UID",
}
"""Failure Reason (0008,1197), PS3.3 C.14.1.1."""

MISSING = frozenset({0x0112, 0x0119})
"""The peer does not hold what we sent. With any other reason it may well hold it: it is asked again later."""


@dataclass(frozen=True, slots=True)
class Report:
    """committed: SOP Instance UIDs that the peer keeps. failed: SOP Instance UID → Failure Reason."""

    transaction_uid: str
    committed: frozenset[str]
    failed: Mapping[str, int]

    @classmethod
    def read(cls, information: Dataset) -> Report:
        """From the Event Information of an N-EVENT-REPORT; raises ValueError when it is not one."""
        try:
            return cls(
                str(information.TransactionUID),
                frozenset(str(i.ReferencedSOPInstanceUID) for i in information.get("ReferencedSOPSequence") or ()),
                {
                    str(i.ReferencedSOPInstanceUID): int(i.get("FailureReason") or 0x0110)
                    for i in information.get("FailedSOPSequence") or ()
                },
            )
        except (AttributeError, TypeError) as error:
            raise ValueError("not a Storage Commitment report") from error


@dataclass(frozen=True, slots=True)
class Settled:
    """How many deliveries a report proved, and how many it showed to be lost."""

    committed: int
    lost: int
    undecided: int


def settle(
    store: Ledger,
    report: Report,
    options: DeliverConfig,
    clock: Callable[[], float] = time.time,
    only: Collection[str] | None = None,
) -> Settled:
    """Move the deliveries of the report's transaction: proven → committed, missing → sent again after a while.

    only: the destinations for which the report counts; None: it came on the association that asked.
    """
    committed = lost = undecided = 0
    for item in store.of_transaction(report.transaction_uid):
        if item.state is not DeliveryState.SENT or (only is not None and item.destination not in only):
            continue
        uid = item.sent_sop_instance_uid or item.sop_instance_uid
        if uid in report.committed:
            store.committed(item)
            committed += 1
        elif report.failed.get(uid) in MISSING:
            _send_again(store, item, report.failed[uid], options, clock())
            lost += 1
        else:
            undecided += 1
    return Settled(committed, lost, undecided)


def _send_again(store: Ledger, item: Delivery, reason: int, options: DeliverConfig, now: float) -> None:
    """Owe a lost delivery again: later each time, and not for ever, lest a peer that keeps nothing be flooded."""
    cause = f"the peer said Success but does not keep it: {REASONS[reason]}"
    store.lost(item, cause)
    owed = replace(item, state=DeliveryState.PENDING)
    if now - item.created_at > options.give_up_after_h * 3600:
        store.refused(owed, dimse_code(reason), f"given up after {options.give_up_after_h:g} h: {cause}")
        return
    wait = Patience(options.retry_base_s, options.retry_max_s).wait(item.attempts + 1)
    store.postpone(owed, dimse_code(reason), cause, now + wait)


def log_settled(log: Any, report: Report, settled: Settled) -> None:
    """One line per report."""
    log.info(
        "commitment_finished",
        outcome="reported",
        transaction_uid=report.transaction_uid,
        committed=settled.committed,
        lost=settled.lost,
        undecided=settled.undecided,
    )
