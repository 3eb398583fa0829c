"""The PDUs of an association as its requestor writes and reads them (PS3.8 9.3). Pure bytes, no sockets.

Read as tolerantly as DCMTK reads them: AE titles, reserved bytes, application context, implementation identifiers and
items that we do not know are informational and are not looked at. What decides is checked, and a `MalformedPdu` names
the field that is wrong.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ich_node.dicom.part10 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA, RELEASE_RQ, RELEASE_RP, ABORT = range(1, 8)  # PDU types, PS3.8 9.3
APPLICATION_CONTEXT, CONTEXT_RQ, CONTEXT_AC, ABSTRACT_SYNTAX, TRANSFER_SYNTAX, USER_INFORMATION = (
    0x10,
    0x20,
    0x21,
    0x30,
    0x40,
    0x50,
)
"""Item types of an association request, PS3.8 9.3.2."""
MAXIMUM_LENGTH, IMPLEMENTATION_CLASS, ROLE_SELECTION, IMPLEMENTATION_VERSION = 0x51, 0x52, 0x54, 0x55
"""User items, PS3.8 D.1, PS3.7 D.3.3."""

DICOM_APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
OWN_MAXIMUM_LENGTH = 1 << 16
"""What we take in one PDU: a requestor reads responses, which are small."""
LARGEST_PDU = 1 << 17
"""What we send in one PDU to a peer without a limit: DCMTK's largest."""
UNSTATED_LENGTH = 1 << 14
"""What we send to a peer that does not say its Maximum Length: what nearly every implementation takes (DCMTK's own)."""
PDV_HEAD = 6  # length, context ID and message control header, PS3.8 9.3.5.1 and E.2
MOST_CONTEXTS = 128  # the odd numbers of one byte, PS3.8 9.3.2.2

DATA, COMMAND, LAST = 0, 1, 2
"""Bits of the message control header (PS3.8 E.2)."""


class MalformedPdu(ValueError):
    """A peer's bytes are not what PS3.8 or PS3.7 asks for; the message names the field."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A presentation context to propose; `acts_as_scp` asks for the SCP's role in it (PS3.7 D.3.3.4)."""

    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]
    acts_as_scp: bool = False


@dataclass(frozen=True, slots=True)
class Negotiated:
    """What an A-ASSOCIATE-AC says, by presentation context ID.

    accepted: its transfer syntax. refused: why not, in plain words. odd: of those, the ones whose answer contradicts
    itself, which a peer may mend. longest: bytes of a PDU that the peer takes.
    """

    accepted: Mapping[int, str]
    refused: Mapping[int, str]
    odd: frozenset[int]
    longest: int


REFUSALS = {
    1: "rejected by the application",
    2: "rejected without a reason",
    3: "the abstract syntax is not supported",
    4: "the transfer syntaxes are not supported",
}
"""PS3.8 Table 9-18."""

# PS3.8 9.3.4, Table 9-21: (source, reason) → plain words
REJECTIONS: Mapping[tuple[int, int], str] = {
    (1, 1): "no reason given",
    (1, 2): "it does not support the DICOM application context",
    (1, 3): "it does not know our calling AE title {calling}",
    (1, 7): "it does not know the called AE title {called} that we use for it",
    (2, 1): "no reason given by its association layer",
    (2, 2): "it does not support our protocol version",
    (3, 1): "it is congested for the moment",
    (3, 2): "its limit of associations is reached",
}

# PS3.8 9.3.8, Table 9-26: reason of an A-ABORT whose source is the provider → plain words
ABORTS: Mapping[int, str] = {
    0: "no reason given",
    1: "a PDU that it does not know",
    2: "a PDU that it did not expect",
    4: "a PDU parameter that it does not know",
    5: "a PDU parameter that it did not expect",
    6: "an invalid value of a PDU parameter",
}


# --- writing -------------------------------------------------------------------------------------------------------


def pdu(kind: int, body: bytes) -> bytes:
    """One PDU."""
    return struct.pack(">BxI", kind, len(body)) + body


def _item(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(body)) + body


def context_ids(proposals: Sequence[Proposal]) -> dict[int, Proposal]:
    """The proposals by presentation context ID: 1, 3, 5 … (PS3.8 9.3.2.2); raises ValueError beyond 128 of them."""
    if len(proposals) > MOST_CONTEXTS:
        raise ValueError("an association has 128 presentation contexts at most")
    return {2 * position + 1: proposal for position, proposal in enumerate(proposals)}


def associate_rq(calling: str, called: str, contexts: Mapping[int, Proposal]) -> bytes:
    """An A-ASSOCIATE-RQ (PS3.8 9.3.2)."""
    body = bytearray(struct.pack(">H2x16s16s32x", 1, called.encode().ljust(16), calling.encode().ljust(16)))
    body += _item(APPLICATION_CONTEXT, DICOM_APPLICATION_CONTEXT.encode())
    for context_id, proposal in contexts.items():
        syntaxes = b"".join(_item(TRANSFER_SYNTAX, syntax.encode()) for syntax in proposal.transfer_syntaxes)
        abstract = _item(ABSTRACT_SYNTAX, proposal.abstract_syntax.encode())
        body += _item(CONTEXT_RQ, bytes((context_id, 0, 0, 0)) + abstract + syntaxes)
    user = _item(MAXIMUM_LENGTH, struct.pack(">I", OWN_MAXIMUM_LENGTH))
    user += _item(IMPLEMENTATION_CLASS, IMPLEMENTATION_CLASS_UID.encode())
    for uid in sorted({proposal.abstract_syntax for proposal in contexts.values() if proposal.acts_as_scp}):
        user += _item(ROLE_SELECTION, struct.pack(">H", len(uid)) + uid.encode() + b"\0\1")
    user += _item(IMPLEMENTATION_VERSION, IMPLEMENTATION_VERSION_NAME.encode())
    return pdu(ASSOCIATE_RQ, bytes(body + _item(USER_INFORMATION, user)))


def abort() -> bytes:
    """An A-ABORT by the service user (PS3.8 9.3.8)."""
    return pdu(ABORT, bytes(4))


def fragment_length(longest_pdu: int) -> int:
    """How many bytes of a message fit into a PDU of the peer's Maximum Length: an even number (PS3.8 E.1)."""
    return (longest_pdu - PDV_HEAD) & ~1


def p_data(context_id: int, control: int, fragment: bytes) -> bytes:
    """A P-DATA-TF with one presentation data value (PS3.8 9.3.5)."""
    return struct.pack(">BxIIBB", P_DATA, len(fragment) + PDV_HEAD, len(fragment) + 2, context_id, control) + fragment


# --- reading -------------------------------------------------------------------------------------------------------


def _items(body: bytes, where: str) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset < len(body):
        if offset + 4 > len(body):
            raise MalformedPdu(f"{where} ends within the head of an item")
        kind, length = struct.unpack_from(">BxH", body, offset)
        if offset + 4 + length > len(body):
            raise MalformedPdu(f"item 0x{kind:02X} is longer than {where}")
        yield kind, body[offset + 4 : offset + 4 + length]
        offset += 4 + length


def read_associate_ac(body: bytes, proposed: Mapping[int, Proposal]) -> Negotiated:
    """An A-ASSOCIATE-AC (PS3.8 9.3.3) as the answer to `proposed`; raises MalformedPdu.

    A context is accepted when its result is acceptance and its transfer syntax one that we proposed for it.
    """
    if len(body) < 68:
        raise MalformedPdu("the A-ASSOCIATE-AC ends before its first item")
    if not int.from_bytes(body[:2], "big") & 1:  # only bit 0 is to be tested (PS3.8 9.3.3)
        raise MalformedPdu(f"Protocol-version is 0x{int.from_bytes(body[:2], 'big'):04X}")
    accepted: dict[int, str] = {}
    refused = dict.fromkeys(proposed, "no answer to its presentation context")
    odd = set(proposed)
    longest = UNSTATED_LENGTH
    for kind, item in _items(body[68:], "the A-ASSOCIATE-AC"):
        if kind == USER_INFORMATION:
            longest = _longest(item)
        elif kind == CONTEXT_AC and len(item) >= 4 and item[0] in proposed:
            context_id, result = item[0], item[2]
            odd.discard(context_id)
            if result != 0:
                refused[context_id] = REFUSALS.get(result, f"rejected with the unknown result {result}")
                continue
            try:
                accepted[context_id] = _chosen(item[4:], proposed[context_id])
            except MalformedPdu as error:
                refused[context_id] = f"accepted, but {error}"
                odd.add(context_id)
            else:
                del refused[context_id]
    return Negotiated(accepted, refused, frozenset(odd), longest)


def _chosen(sub_items: bytes, proposal: Proposal) -> str:
    """The transfer syntax of an accepted context; its value may be padded."""
    found = [value for kind, value in _items(sub_items, "a presentation context") if kind == TRANSFER_SYNTAX]
    if not found:
        raise MalformedPdu("its Transfer Syntax Sub-Item is missing")
    syntax = found[0].decode("ascii", "replace").strip(" \0")
    if syntax not in proposal.transfer_syntaxes:
        raise MalformedPdu("its Transfer Syntax Sub-Item is none that we proposed")
    return syntax


def _longest(user_information: bytes) -> int:
    """The longest PDU to send; 0 in the Maximum Length Sub-Item means without limit (PS3.8 D.1)."""
    for kind, value in _items(user_information, "the User Information Item"):
        if kind == MAXIMUM_LENGTH and len(value) == 4:
            stated = int.from_bytes(value, "big")
            if stated and fragment_length(stated) < 2:
                raise MalformedPdu(f"Maximum Length is {stated}")
            return min(stated or LARGEST_PDU, LARGEST_PDU)
    return UNSTATED_LENGTH


def read_associate_rj(body: bytes, calling: str, called: str) -> tuple[bool, str]:
    """(permanent, cause in plain words) of an A-ASSOCIATE-RJ.

    Permanent is about the association, not about any instance: nothing is wrong with the results, and one setting at
    the peer puts it right.
    """
    if len(body) < 4:
        raise MalformedPdu("the A-ASSOCIATE-RJ has no reason")
    _, result, source, reason = body[:4]
    words = REJECTIONS.get((source, reason), f"source {source}, reason {reason}").format(calling=calling, called=called)
    return result == 1, f"the peer rejects associations: {words}"


def read_abort(body: bytes) -> str:
    """The plain words for an A-ABORT."""
    source, reason = (*body, 0, 0, 0, 0)[2:4]
    if source == 2:
        return f"the peer aborted: {ABORTS.get(reason, f'reason {reason}')}"
    return "the peer aborted"


def read_p_data(body: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(context ID, message control header, fragment) of every presentation data value; raises MalformedPdu."""
    offset = 0
    while offset < len(body):
        if offset + PDV_HEAD > len(body):
            raise MalformedPdu("a P-DATA-TF ends within the head of a presentation data value")
        length, context_id, control = struct.unpack_from(">IBB", body, offset)
        if length < 2 or offset + 4 + length > len(body):
            raise MalformedPdu("a presentation data value is longer than its P-DATA-TF, or shorter than its head")
        yield context_id, control, body[offset + PDV_HEAD : offset + 4 + length]
        offset += 4 + length


def fragments(pieces: Iterable[bytes], length: int) -> Iterator[tuple[bytes, bool]]:
    """(fragment, is the last) of at most `length` bytes each, from the bytes of `pieces` one after the other.

    Every fragment but the last has `length` bytes; no bytes at all give one empty fragment.
    """
    held = bytearray()
    for piece in pieces:
        held += piece
        while len(held) > length:
            yield bytes(held[:length]), False
            del held[:length]
    yield bytes(held), True
