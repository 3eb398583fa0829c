"""Storage Commitment in words and bytes (PS3.4 J): what both sides of it share.

A message is read by one linear walk that knows its two sequences and nothing else, so that no message costs more than
its bytes. In: the dataset of an N-ACTION-RQ or N-EVENT-REPORT-RQ. Out: a `Message`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pydicom import Dataset

from ich_node.dicom.identity import (
    ITEM,
    ITEM_END,
    SEQUENCE_END,
    UNDEFINED,
    Buffer,
    CutShort,
    clean_uid,
    element_header,
    is_uid,
)

STORAGE_COMMITMENT = "1.2.840.10008.1.20.1"
WELL_KNOWN_INSTANCE = "1.2.840.10008.1.20.1.1"
SUCCESS, PROCESSING_FAILURE, INVALID_ARGUMENT, NO_SUCH_ACTION = 0x0000, 0x0110, 0x0115, 0x0123
"""Statuses of N-ACTION and N-EVENT-REPORT, PS3.7 C."""
NOT_AUTHORISED, RESOURCE_LIMITATION = 0x0124, 0x0213  # PS3.7 C; a Failure Reason as well, PS3.3 C.14.1.1
NO_SUCH_INSTANCE, CLASS_CONFLICT = 0x0112, 0x0119  # Failure Reason (0008,1197), PS3.3 C.14.1.1
MOST_REFERENCES = 20_000
"""Instances of one request: a whole-body study of thin slices has 5,000."""
_SOP_CLASS, _SOP_INSTANCE, _TRANSACTION, _REASON = 0x00081150, 0x00081155, 0x00081195, 0x00081197
"""Tags of the Action and Event Information, PS3.4 J.3."""
_FAILED, _REFERENCED = 0x00081198, 0x00081199  # and of their sequences


@dataclass(frozen=True, slots=True)
class Message:
    """references and failed: (SOP Class UID, SOP Instance UID[, Failure Reason]) in the order of the message."""

    transaction_uid: str
    references: tuple[tuple[str, str], ...]
    failed: tuple[tuple[str, str, int], ...] = ()


def read_message(data: Buffer, *, implicit: bool) -> Message:
    """Read a request or report; raises ValueError when it is none, or has more than MOST_REFERENCES."""
    view, uid = memoryview(data), ""
    items: dict[int, list[dict[int, bytes]]] = {_REFERENCED: [], _FAILED: []}
    offset = 0
    try:
        while offset < len(view):
            tag, _, length, offset = element_header(view, offset, implicit)
            if tag in items:
                found = items[tag]
                offset = _read_sequence(view, offset, length, implicit, found)
                continue
            if length == UNDEFINED:
                raise ValueError("a sequence that does not belong here")
            if tag == _TRANSACTION:
                uid = clean_uid(bytes(view[offset : offset + min(length, 80)]))
            offset += length
    except CutShort as error:
        raise ValueError("the message is cut short") from error
    if offset != len(view) or not is_uid(uid):
        raise ValueError("no Transaction UID, or the message is cut short")
    return Message(
        uid,
        tuple(_reference(item) for item in items[_REFERENCED]),
        tuple((*_reference(item), int.from_bytes(item.get(_REASON, b""), "little")) for item in items[_FAILED]),
    )


def _reference(item: dict[int, bytes]) -> tuple[str, str]:
    sop_class, sop_instance = (clean_uid(item.get(tag, b"")) for tag in (_SOP_CLASS, _SOP_INSTANCE))
    if not (is_uid(sop_class) and is_uid(sop_instance)):
        raise ValueError("a reference without its UIDs")
    return sop_class, sop_instance


def _read_sequence(view: memoryview, offset: int, length: int, implicit: bool, found: list[dict[int, bytes]]) -> int:
    """Append the items of a sequence to `found`; returns the offset behind it."""
    end = len(view) if length == UNDEFINED else offset + length
    while offset < end:
        tag, _, item_length, offset = element_header(view, offset, implicit=True)
        if tag == SEQUENCE_END and length == UNDEFINED:
            return offset
        if tag != ITEM or len(found) >= MOST_REFERENCES:
            raise ValueError("something that is no item, or too many of them")
        item: dict[int, bytes] = {}
        for kind, value, after in _elements(view, offset, item_length, implicit):
            item[kind], offset = value, after
        if item_length != UNDEFINED:
            offset = offset if item else offset + item_length
        found.append(item)
    if length == UNDEFINED or offset != end:
        raise ValueError("a sequence has another length than it says")
    return offset


def _elements(view: memoryview, offset: int, length: int, implicit: bool) -> Iterator[tuple[int, bytes, int]]:
    """(tag, value, offset behind it) of the elements of an item; its end, where it has one, comes as (0, b"", …)."""
    end = len(view) if length == UNDEFINED else offset + length
    while offset < end:
        tag, _, count, offset = element_header(view, offset, implicit)
        if tag == ITEM_END and length == UNDEFINED:
            yield 0, b"", offset
            return
        if count == UNDEFINED or offset + count > end:
            raise ValueError("a reference is cut short")
        yield tag, bytes(view[offset : offset + min(count, 80)]), offset + count
        offset += count
    if length == UNDEFINED:
        raise ValueError("an item without its end")


def event_information(transaction_uid: str, references: tuple[tuple[str, str], ...], failed: dict[str, int]) -> Dataset:
    """The dataset of an N-EVENT-REPORT (PS3.4 Table J.3-2). failed: SOP Instance UID -> Failure Reason."""
    information = Dataset()
    information.TransactionUID = transaction_uid
    sequences: tuple[list[Dataset], list[Dataset]] = [], []
    for sop_class, sop in references:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, sop
        if sop in failed:
            item.FailureReason = failed[sop]
        sequences[sop in failed].append(item)
    if sequences[0]:
        information.ReferencedSOPSequence = sequences[0]
    if sequences[1]:
        information.FailedSOPSequence = sequences[1]
    return information
