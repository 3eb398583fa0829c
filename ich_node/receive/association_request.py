"""The A-ASSOCIATE-RQ PDU (PS3.8 9.3.2), read before anybody else sees it.

    6 bytes: type, length  ->  68 more: protocol version and both AE titles (`read_titles`, enough to decide)
                           ->  the items (`read_proposal`): one linear walk, everything counted
                           ->  `Proposal.encoded`: the same request, plain, for pynetdicom

What is informational is never a reason to refuse, as with DCMTK: titles padded with NUL, version names of any length
and alphabet, items nobody knows, further bits of the protocol version. What the node does not negotiate (asynchronous
operations, extended negotiation, user identity) is left out, which says that the defaults hold (PS3.7 D.3.3).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from ich_node.dicom.identity import clean_uid, is_uid

HEAD = 6
"""PDU type, a reserved byte and the length of the rest."""
FIXED = 68
"""Protocol version, two reserved bytes, both AE titles, 32 reserved bytes (PS3.8 table 9-11)."""
LONGEST_REQUEST = 1 << 16
"""DCMTK's largest proposal, 128 contexts with every transfer syntax that it knows, has 50 KB."""
MOST_CONTEXTS = 128
"""Presentation context IDs are the odd numbers up to 255."""
MOST_ITEMS = 8192
"""Items and sub-items of one request; 128 contexts with 50 transfer syntaxes have 6,656."""
NO_CLASS = "0.0"
"""Stands for an abstract syntax that is no UID: nobody supports it."""
LEAST_PDU, USUAL_PDU = 128, 16384
"""The shortest Maximum Length that we keep to, lest one response become thousands of PDUs; and what silence means."""
APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
LONGEST_VERSION_NAME = 16  # PS3.7 D.3.3.2.3
PRINTABLE = frozenset(map(chr, range(0x20, 0x7F))) - {"\\"}


@dataclass(frozen=True, slots=True)
class Titles:
    """The fixed part of a request. An AE title without padding; "?" for what VR AE does not have; may be empty."""

    calling: str
    called: str
    version: int


@dataclass(frozen=True, slots=True)
class Context:
    """A proposed presentation context."""

    id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]

    def encoded(self) -> bytes:
        """The item."""
        syntaxes = b"".join(_item(0x40, uid.encode()) for uid in self.transfer_syntaxes)
        return _item(0x20, bytes((self.id, 0, 0, 0)) + _item(0x30, self.abstract_syntax.encode()) + syntaxes)


@dataclass(slots=True)
class Proposal:
    """What the items say, as far as the node negotiates it. roles: UID -> (SCU, SCP) as bytes.

    senseless: contexts that the standard does not allow and why, for the log; the others are negotiated all the same.
    """

    titles: Titles
    contexts: dict[int, Context] = field(default_factory=dict)
    max_length: int = USUAL_PDU
    implementation_class: str = ""
    version_name: str = ""
    roles: dict[str, bytes] = field(default_factory=dict)
    senseless: list[str] = field(default_factory=list)

    def encoded(self) -> bytes:
        """A PDU by the book."""
        user = _item(0x51, struct.pack(">I", self.max_length))
        if self.implementation_class:
            user += _item(0x52, self.implementation_class.encode())
        for uid, roles in self.roles.items():
            user += _item(0x54, struct.pack(">H", len(uid)) + uid.encode() + roles)
        if self.version_name:
            user += _item(0x55, self.version_name.encode())
        body = (
            struct.pack(">HH", self.titles.version, 0)
            + self.titles.called.ljust(16).encode()
            + self.titles.calling.ljust(16).encode()
            + bytes(32)
            + _item(0x10, APPLICATION_CONTEXT.encode())
            + b"".join(context.encoded() for context in self.contexts.values())
            + _item(0x50, user)
        )
        return struct.pack(">BxI", 1, len(body)) + body


def request_length(head: bytes | bytearray) -> int:
    """The length of the rest of a request, by its first HEAD bytes; ValueError when it can be none."""
    length = int.from_bytes(head[2:], "big")
    if len(head) < HEAD or head[0] != 1 or not FIXED <= length <= LONGEST_REQUEST:
        raise ValueError("not an association request")
    return length


def read_titles(fixed: bytes | bytearray) -> Titles:
    """The fixed part, FIXED bytes. Of the protocol version one bit counts (PS3.8 9.3.2)."""
    if len(fixed) < FIXED:
        raise ValueError("the association request is cut short")
    version = int.from_bytes(fixed[:2], "big")
    return Titles(clean_title(fixed[20:36]), clean_title(fixed[4:20]), 1 if version & 1 else version)


def clean_title(value: bytes | bytearray) -> str:
    """An AE title up to its first NUL, without blanks round it."""
    text = value.partition(b"\0")[0].decode("latin-1").strip()
    return "".join(character if character in PRINTABLE else "?" for character in text)


def read_proposal(titles: Titles, items: bytes, supports: Callable[[str], bool]) -> Proposal:
    """Walk the items. supports: whether a transfer syntax is worth keeping. Raises ValueError for what is none."""
    proposal = Proposal(titles)
    left = MOST_ITEMS
    for kind, value in _walk(items):
        left -= 1
        if kind == 0x20 and len(value) >= 4:
            left -= _add_context(proposal, value, supports)
        elif kind == 0x50:
            left -= _add_user_information(proposal, value)
        if left < 0:
            raise ValueError("the association request has too many items")
    return proposal


def _add_context(proposal: Proposal, value: bytes, supports: Callable[[str], bool]) -> int:
    """Returns how many sub-items there were."""
    abstract_syntax, syntaxes, count = NO_CLASS, [], 0
    for kind, text in _walk(value[4:]):
        count += 1
        uid = clean_uid(text)
        if kind == 0x30:
            abstract_syntax = uid if is_uid(uid) else NO_CLASS
        elif kind == 0x40 and is_uid(uid):
            syntaxes.append(uid)
    kept = tuple(dict.fromkeys(uid for uid in syntaxes if supports(uid))) or tuple(syntaxes[:1])
    number = value[0]
    problem = ""
    if number % 2 == 0:
        problem = "its ID is even"
    elif number in proposal.contexts:
        problem = "its ID came before"
    elif not kept:
        problem = "it has no transfer syntax that is a UID"
    else:
        proposal.contexts[number] = Context(number, abstract_syntax, kept)
        if abstract_syntax == NO_CLASS:
            problem = "its abstract syntax is no UID"
    if problem and len(proposal.senseless) < MOST_CONTEXTS:
        proposal.senseless.append(f"context {number}: {problem}")
    return count


def _add_user_information(proposal: Proposal, value: bytes) -> int:
    """Returns how many sub-items there were."""
    count = 0
    for kind, data in _walk(value):
        count += 1
        if kind == 0x51 and len(data) == 4:
            length = int.from_bytes(data, "big")
            proposal.max_length = max(length, LEAST_PDU) if length else 0
        elif kind == 0x52 and is_uid(uid := clean_uid(data)):
            proposal.implementation_class = uid
        elif kind == 0x54 and len(data) > 4 and len(proposal.roles) < MOST_CONTEXTS:
            uid = clean_uid(data[2:-2])
            if is_uid(uid):
                proposal.roles[uid] = bytes((data[-2] & 1, data[-1] & 1))
        elif kind == 0x55:
            name = "".join(character for character in data.decode("latin-1") if character in PRINTABLE)
            proposal.version_name = name.strip()[:LONGEST_VERSION_NAME].strip()
    return count


def _walk(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, value) of items one after another; ValueError when the last one is cut short."""
    offset = 0
    while offset < len(data):
        if offset + 4 > len(data):
            raise ValueError("an item is cut short")
        length = int.from_bytes(data[offset + 2 : offset + 4], "big")
        start, offset = offset + 4, offset + 4 + length
        if offset > len(data):
            raise ValueError("an item is cut short")
        yield data[start - 4], data[start:offset]


def _item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(value)) + value
