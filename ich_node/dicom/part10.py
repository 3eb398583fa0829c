"""DICOM files as the node keeps them (PS3.10): the head that it writes, and who an instance says it is.

In: bytes as received. Out: an `Identity`, or None while more bytes are needed. Only the elements up to Series Instance
UID (0020,000E) are looked at, without recursion, at most SCAN_LIMIT bytes of them, so that no dataset can cost more.
"""

from __future__ import annotations

import os
import re
import struct
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from pydicom import Dataset, dcmread
from pydicom.config import disable_value_validation
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from ich_node import __version__
from ich_node.domain.dicom import AETitle, Instance, Peer
from ich_node.domain.errors import UnidentifiableInstance

Buffer = bytes | bytearray | memoryview

IMPLEMENTATION_CLASS_UID = "2.25.178219366042115396201838316573893214961"
IMPLEMENTATION_VERSION_NAME = f"ICH_NODE_{__version__}"[:16]

SCAN_LIMIT = 1 << 20
FIRST_LOOK = 1 << 13
HEADER_LIMIT = 1 << 23
"""Bytes before Pixel Data: room for the functional groups of 2,000 frames."""
MOST_ITEMS = 100_000
"""Sequence items of a header. pydicom makes a kilobyte and ten microseconds of the eight bytes of an empty one."""
MAX_DEPTH = 64
UNDEFINED = 0xFFFFFFFF

SOP_CLASS, SOP_INSTANCE, STUDY, SERIES = 0x00080016, 0x00080018, 0x0020000D, 0x0020000E
WANTED = frozenset({SOP_CLASS, SOP_INSTANCE, STUDY, SERIES})
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
FIRST_PIXELS = 0x7FE00008
SOURCE_TITLE, SOURCE_ADDRESS = 0x00020016, 0x00020026
LONG_VRS = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
VRS = LONG_VRS | frozenset(
    {b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FL", b"FD", b"IS", b"LO", b"LT", b"PN"}
    | {b"SH", b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US"}
)
_TAG = struct.Struct("<HH").unpack_from
_U16 = struct.Struct("<H").unpack_from
_U32 = struct.Struct("<I").unpack_from
ITEM_BYTES = b"\xfe\xff\x00\xe0"
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who an instance says it is, by its dataset."""

    sop_class_uid: str
    sop_instance_uid: str
    study_uid: str
    series_uid: str


class _Short(Exception):
    """The bytes at hand end before what is looked for."""


def is_uid(text: str) -> bool:
    """Whether `text` can be a UID and is safe as a file name: 1 to 64 digits and dots, digits around every dot.

    Components with leading zeros, which PS3.5 9.1 forbids, are let through: they exist and do no harm.
    """
    return len(text) <= 64 and _UID.fullmatch(text) is not None


# --- writing -------------------------------------------------------------------------------------------------------


def file_head(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str, sender: Peer | None = None) -> bytes:
    """Preamble, DICM and File Meta Information (PS3.10 7.1), with the sender's AE title and address."""
    source: tuple[bytes, ...] = ()
    if sender is not None:
        address = f"dicom://[{sender.address}]" if ":" in sender.address else f"dicom://{sender.address}"
        source = (_meta_element(0x0016, b"AE", sender.ae_title), _long_meta_element(0x0026, b"UR", address))
    meta = b"".join(
        (
            struct.pack("<HH2sHI", 2, 0x0001, b"OB", 0, 2) + b"\0\1",
            _meta_element(0x0002, b"UI", sop_class_uid),
            _meta_element(0x0003, b"UI", sop_instance_uid),
            _meta_element(0x0010, b"UI", transfer_syntax_uid),
            _meta_element(0x0012, b"UI", IMPLEMENTATION_CLASS_UID),
            _meta_element(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME),
            *source,
        )
    )
    return bytes(128) + b"DICM" + struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(meta)) + meta


def _meta_element(element: int, vr: bytes, text: str) -> bytes:
    value = text.encode("ascii")
    if len(value) % 2:
        value += b"\0" if vr == b"UI" else b" "
    return struct.pack("<HH2sH", 2, element, vr, len(value)) + value


def _long_meta_element(element: int, vr: bytes, text: str) -> bytes:
    value = text.encode("ascii")
    value += b" " * (len(value) % 2)
    return struct.pack("<HH2sHI", 2, element, vr, 0, len(value)) + value


def dataset_offset(path: Path) -> int:
    """Where the dataset begins in a file that the node wrote; raises UnidentifiableInstance, or OSError."""
    with path.open("rb") as file:
        return _file_meta(file.read(FIRST_LOOK)).dataset_offset


# --- identification ------------------------------------------------------------------------------------------------


def identify(data: Buffer, transfer_syntax_uid: str, *, complete: bool) -> Identity | None:
    """Who the dataset that starts with `data` says it is; None when more of it is needed.

    complete: `data` is all that there will be. Raises UnidentifiableInstance when the UIDs are missing or not UIDs, or
    when the dataset can not be read up to them.
    """
    view = memoryview(data)[:SCAN_LIMIT]
    if transfer_syntax_uid == DeflatedExplicitVRLittleEndian:
        view = _inflated(view, SCAN_LIMIT)
    try:
        found = _wanted(view, implicit=transfer_syntax_uid == ImplicitVRLittleEndian)
    except _Short as short:
        if complete or len(data) >= SCAN_LIMIT:
            raise UnidentifiableInstance("the dataset ends before its Series Instance UID") from short
        return None
    if missing := WANTED - found.keys():
        names = ", ".join(f"({tag >> 16:04X},{tag & 0xFFFF:04X})" for tag in sorted(missing))
        raise UnidentifiableInstance(f"the dataset has no {names}")
    return Identity(found[SOP_CLASS], found[SOP_INSTANCE], found[STUDY], found[SERIES])


def _inflated(view: memoryview, limit: int) -> memoryview:
    """The first `limit` bytes of a deflated dataset (PS3.5 A.5): a bomb stays as small as that."""
    try:
        return memoryview(zlib.decompressobj(-zlib.MAX_WBITS).decompress(view, limit))
    except zlib.error as error:
        raise UnidentifiableInstance("the dataset is not deflated as its transfer syntax says") from error


def _wanted(view: memoryview, implicit: bool) -> dict[int, str]:
    """The wanted UIDs at the top level of a little endian dataset; raises _Short."""
    found: dict[int, str] = {}
    offset = 0
    while len(found) < len(WANTED):
        tag, vr, length, offset = _header(view, offset, implicit)
        if tag > SERIES:
            break
        if length == UNDEFINED:
            offset = _after_undefined(view, offset, implicit or vr == b"UN")  # PS3.5 6.2.2
            continue
        if tag in WANTED:
            found[tag] = _uid(view, offset, length)
        offset += length
    return found


def _header(view: memoryview, offset: int, implicit: bool, *, strict: bool = True) -> tuple[int, bytes, int, int]:
    """(tag, VR, length, offset of the value) of the element at `offset`.

    strict: a VR that nobody knows is an error; else it is a short one, as pydicom takes it.
    """
    if offset + 8 > len(view):
        raise _Short
    group, element = _TAG(view, offset)
    tag = group << 16 | element
    if implicit or group == 0xFFFE:
        return tag, b"", _U32(view, offset + 4)[0], offset + 8
    vr = bytes(view[offset + 4 : offset + 6])
    if vr not in LONG_VRS:
        if strict and vr not in VRS:
            raise UnidentifiableInstance("the dataset is not encoded as its transfer syntax says")
        return tag, vr, _U16(view, offset + 6)[0], offset + 8
    if offset + 12 > len(view):
        raise _Short
    return tag, vr, _U32(view, offset + 8)[0], offset + 12


def _uid(view: memoryview, offset: int, length: int) -> str:
    if length > 66:  # 64 characters, and senders that pad twice
        raise UnidentifiableInstance("a UID is too long")
    if offset + length > len(view):
        raise _Short
    text = bytes(view[offset : offset + length]).rstrip(b"\0 ").decode("latin-1")
    if not is_uid(text):
        raise UnidentifiableInstance("a UID is not made of digits and dots")
    return text


def _after_undefined(view: memoryview, offset: int, implicit: bool, *, strict: bool = True) -> int:
    """The offset behind a sequence of undefined length, whatever lies in it (PS3.5 7.5); strict as in `_header`."""
    inside: list[tuple[bool, bool]] = [(True, implicit)]  # (in a sequence, else in an item; implicit VR)
    while inside:
        in_sequence, implicit = inside[-1]
        tag, vr, length, offset = _header(view, offset, implicit, strict=strict)
        if tag in (ITEM_END, SEQUENCE_END):
            inside.pop()
        elif in_sequence and tag != ITEM:
            raise UnidentifiableInstance("a sequence holds something that is not an item")
        elif length == UNDEFINED:
            inside.append((tag != ITEM, implicit or vr == b"UN"))
            if len(inside) > MAX_DEPTH:
                raise UnidentifiableInstance("sequences are nested too deeply")
        else:
            offset += length
    return offset


# --- reading back --------------------------------------------------------------------------------------------------


def read_instance(path: Path) -> Instance:
    """The instance in a file that the node wrote; raises UnidentifiableInstance, or OSError."""
    with path.open("rb") as file:
        data = file.read(FIRST_LOOK)
        meta = _file_meta(data)
        start = meta.dataset_offset
        identity = identify(data[start:], meta.transfer_syntax_uid, complete=len(data) < FIRST_LOOK)
        if identity is None:
            data += file.read(start + SCAN_LIMIT - len(data))
            identity = identify(data[start:], meta.transfer_syntax_uid, complete=True)
            assert identity is not None  # noqa: S101  complete data gives an identity or an exception
    return Instance(
        study_uid=identity.study_uid,
        series_uid=identity.series_uid,
        sop_class_uid=meta.sop_class_uid,
        sop_instance_uid=meta.sop_instance_uid,
        transfer_syntax_uid=meta.transfer_syntax_uid,
        path=path,
        sender=meta.sender,
    )


@dataclass(frozen=True, slots=True)
class _FileMeta:
    """File Meta Information, and where the dataset begins behind it."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    sender: Peer | None
    dataset_offset: int


def _file_meta(data: bytes) -> _FileMeta:
    if data[128:132] != b"DICM":
        raise UnidentifiableInstance("not a DICOM file")
    view, offset, found = memoryview(data), 132, {}
    source: dict[int, str] = {}
    try:
        while offset + 2 <= len(view) and _U16(view, offset)[0] == 2:
            tag, vr, length, offset = _header(view, offset, implicit=False)
            if vr == b"UI":
                found[tag] = _uid(view, offset, length)
            elif tag in (SOURCE_TITLE, SOURCE_ADDRESS):
                source[tag] = bytes(view[offset : offset + length]).decode("latin-1").strip(" ")
            offset += length
    except _Short as short:
        raise UnidentifiableInstance("the file ends within its meta information") from short
    if missing := {0x00020002, 0x00020003, 0x00020010} - found.keys():
        raise UnidentifiableInstance(f"the file meta information lacks {len(missing)} UIDs")
    return _FileMeta(found[0x00020002], found[0x00020003], found[0x00020010], _sender(source), offset)


def _sender(source: dict[int, str]) -> Peer | None:
    try:
        title = AETitle(source[SOURCE_TITLE])
        return Peer(title, source[SOURCE_ADDRESS].removeprefix("dicom://").strip("[]"))
    except (KeyError, ValueError):  # written by an earlier version, or not by us
        return None


def check_header(path: Path) -> None:
    """Raise UnidentifiableInstance when a file's header is larger than any that is meant well, or OSError.

    Ask before pydicom reads a file, which takes any number of elements for granted. A file without our head, and one in
    big endian, did not come over the network; they are let through.
    """
    with path.open("rb") as file:
        data = file.read(FIRST_LOOK)
        try:
            meta = _file_meta(data)
        except UnidentifiableInstance:
            return
        transfer_syntax_uid, start = meta.transfer_syntax_uid, meta.dataset_offset
        deflated = transfer_syntax_uid == DeflatedExplicitVRLittleEndian
        small = os.fstat(file.fileno()).st_size <= 8 * MOST_ITEMS  # which has no room for more
        if (small and not deflated) or transfer_syntax_uid == ExplicitVRBigEndian:
            return
        data = data[start:] + file.read(HEADER_LIMIT - len(data))
    view = _inflated(memoryview(data), HEADER_LIMIT) if deflated else memoryview(data)
    end = _end_of_header(view, implicit=transfer_syntax_uid == ImplicitVRLittleEndian)
    if bytes(view[:end]).count(ITEM_BYTES) > MOST_ITEMS:
        raise UnidentifiableInstance("the header has too many sequence items")


def _end_of_header(view: memoryview, implicit: bool) -> int:
    """Where Pixel Data begins; the end of `view` when it ends before. UnidentifiableInstance beyond HEADER_LIMIT."""
    offset = 0
    try:
        while offset < len(view):
            tag, vr, length, value = _header(view, offset, implicit, strict=False)
            if tag >= FIRST_PIXELS:
                return offset
            if length == UNDEFINED:
                offset = _after_undefined(view, value, implicit or vr == b"UN", strict=False)
            else:
                offset = value + length
    except _Short:
        pass
    if len(view) >= HEADER_LIMIT - FIRST_LOOK:
        raise UnidentifiableInstance("the header is too large")
    return len(view)


def read_header(path: Path, keywords: Sequence[str]) -> Dataset:
    """The elements `keywords` of a file, as far as it has them and they come before its pixels.

    Raises UnidentifiableInstance when the file can not be read as DICOM, whatever is wrong with it, or OSError.
    """
    check_header(path)
    with path.open("rb") as file:
        source: BinaryIO = file
        try:
            with warnings.catch_warnings(), disable_value_validation():
                warnings.simplefilter("ignore")  # they quote values
                meta = _file_meta(file.read(FIRST_LOOK))
                if meta.transfer_syntax_uid == DeflatedExplicitVRLittleEndian:
                    file.seek(meta.dataset_offset)
                    plain = _inflated(memoryview(file.read(HEADER_LIMIT)), HEADER_LIMIT)
                    source = BytesIO(
                        file_head(meta.sop_class_uid, meta.sop_instance_uid, ExplicitVRLittleEndian) + plain
                    )
                source.seek(0)
                return dcmread(source, stop_before_pixels=True, specific_tags=list(keywords))
        except UnidentifiableInstance:
            raise
        except Exception as error:  # pydicom lets anything through on hostile bytes, RecursionError included
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the disk's, not pydicom's own
            raise UnidentifiableInstance(f"the header can not be read ({type(error).__name__})") from error
