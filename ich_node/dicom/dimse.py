"""DIMSE command sets (PS3.7 6.3, E.1): Implicit VR Little Endian, group 0000. Pure bytes.

A command set is a mapping from element number to its bytes as sent, without padding.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import UID

from ich_node.dicom.pdu import MalformedPdu

AFFECTED_SOP_CLASS, REQUESTED_SOP_CLASS = 0x0002, 0x0003
"""Elements of group 0000, PS3.7 E.1."""
COMMAND_FIELD, MESSAGE_ID, RESPONDED_TO, PRIORITY, DATASET_TYPE, STATUS = 0x0100, 0x0110, 0x0120, 0x0700, 0x0800, 0x0900
"""Command Set elements, PS3.7 E.1."""
OFFENDING_ELEMENT, ERROR_COMMENT = 0x0901, 0x0902  # PS3.7 E.1
AFFECTED_SOP_INSTANCE, REQUESTED_SOP_INSTANCE, EVENT_TYPE, ACTION_TYPE = 0x1000, 0x1001, 0x1002, 0x1008  # PS3.7 E.1

C_STORE_RQ, C_ECHO_RQ, N_EVENT_REPORT_RQ, N_ACTION_RQ = 0x0001, 0x0030, 0x0100, 0x0130
"""Command Field of each request, PS3.7 E.1."""
RESPONSE = 0x8000
"""Set in the Command Field of a response (PS3.7 E.1)."""
NO_DATASET, WITH_DATASET = 0x0101, 0x0001  # Command Data Set Type, PS3.7 E.1: 0101H is none, anything else is one
LONGEST_COMMENT = 64
"""Error Comment is an LO (PS3.7 C.4)."""

Command = Mapping[int, bytes]
Elements = Mapping[int, bytes | str | int]
"""Elements to send: text is a UID, a number an unsigned short."""


def us(value: int) -> bytes:
    """An unsigned short."""
    return struct.pack("<H", value)


def command_set(elements: Elements) -> bytes:
    """A command set with its group length."""
    body = b""
    for element, value in sorted(elements.items()):
        raw = us(value) if isinstance(value, int) else value.encode() if isinstance(value, str) else value
        padded = raw + b"\0" * (len(raw) % 2)
        body += struct.pack("<HHI", 0, element, len(padded)) + padded
    return struct.pack("<HHII", 0, 0, 4, len(body)) + body


def read_command_set(data: bytes) -> dict[int, bytes]:
    """The elements of a command set in any order; raises MalformedPdu when it ends too early."""
    found: dict[int, bytes] = {}
    offset = 0
    while offset < len(data):
        if offset + 8 > len(data):
            raise MalformedPdu("a command set ends within the head of an element")
        group, element, length = struct.unpack_from("<HHI", data, offset)
        if offset + 8 + length > len(data):
            raise MalformedPdu(f"({group:04X},{element:04X}) is longer than its command set")
        if group == 0:
            found[element] = data[offset + 8 : offset + 8 + length]
        offset += 8 + length
    return found


def number(command: Command, element: int, name: str) -> int:
    """An unsigned short of a command set; raises MalformedPdu when it is not there."""
    value = command.get(element, b"")
    if len(value) != 2:
        raise MalformedPdu(f"{name} (0000,{element:04X}) is missing")
    return int.from_bytes(value, "little")


def text(command: Command, element: int) -> str:
    """A UID of a command set; empty when it is not there."""
    return command.get(element, b"").decode("ascii", "replace").strip(" \0")


def comment(command: Command) -> str:
    """What the peer says about a status: Error Comment, then the tags of Offending Element (PS3.7 C); often empty.

    A stranger's words: printable ASCII only, cut to the length of their VR.
    """
    said = command.get(ERROR_COMMENT, b"")[:LONGEST_COMMENT].decode("ascii", "replace")
    words = "".join(character if " " <= character <= "~" else "?" for character in said.strip(" \0"))
    raw = command.get(OFFENDING_ELEMENT, b"")
    tags = [struct.unpack_from("<HH", raw, offset) for offset in range(0, len(raw) - 3, 4)][:8]
    offending = "offending element " + ", ".join(f"({group:04X},{element:04X})" for group, element in tags)
    return "; ".join(part for part in (f'"{words}"' if words else "", offending if tags else "") if part)


def encoded(dataset: Dataset, transfer_syntax_uid: str) -> bytes:
    """The dataset's bytes in an uncompressed little endian transfer syntax."""
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, UID(transfer_syntax_uid).is_implicit_VR
    write_dataset(buffer, dataset)
    return buffer.getvalue()
