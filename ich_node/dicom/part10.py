"""DICOM files as the node keeps them (PS3.10): the head that it writes, and the header that it reads back.

Who an instance says it is comes from `identity` alone; what pydicom reads of the same file is compared with it.
"""

from __future__ import annotations

import os
import struct
import warnings
import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from pydicom import Dataset, dcmread
from pydicom.config import disable_value_validation
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from ich_node import __version__
from ich_node.dicom import elements
from ich_node.dicom.identity import (
    KNOWN_VRS,
    LONGEST_KEPT,
    PADDING,
    Buffer,
    Contradiction,
    CutShort,
    Identity,
    IdentityReader,
    clean_uid,
    element_header,
    is_uid,
)
from ich_node.domain.dicom import AETitle, Instance, Peer
from ich_node.domain.errors import UnidentifiableInstance

IMPLEMENTATION_CLASS_UID = "2.25.178219366042115396201838316573893214961"
IMPLEMENTATION_VERSION_NAME = f"ICH_NODE_{__version__}"[:16]

FIRST_LOOK = 1 << 13
"""Bytes that hold the head and the UIDs of nearly every file."""
PIECE = 1 << 16  # chosen: 64 KiB read at a time
HEADER_LIMIT = 1 << 23
"""Bytes before Pixel Data: room for the functional groups of 2,000 frames."""
MOST_ITEMS = 100_000
"""Sequence items of a header. pydicom makes a kilobyte and ten microseconds of the eight bytes of an empty one."""
SOURCE_TITLE, SOURCE_ADDRESS = 0x00020016, 0x00020026  # file meta tags (PS3.10 7.1): who sent the instance
ITEM_BYTES = b"\xfe\xff\x00\xe0"
UID_KEYWORDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")


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


def read_sender(path: Path) -> Peer | None:
    """Who sent a file that the node wrote; raises UnidentifiableInstance, or OSError."""
    with path.open("rb") as file:
        return _file_meta(file.read(FIRST_LOOK)).sender


def sender_address(path: Path) -> str:
    """Where a file that the node wrote came from; empty when it does not say, or cannot be read."""
    try:
        sender = read_sender(path)
    except (UnidentifiableInstance, OSError):
        return ""
    return sender.address if sender else ""


# --- reading back --------------------------------------------------------------------------------------------------


def read_instance(path: Path) -> Instance:
    """The instance in a file that the node wrote; raises UnidentifiableInstance, or OSError."""
    with path.open("rb") as file:
        data = file.read(FIRST_LOOK)
        meta = _file_meta(data)
        reader = IdentityReader(meta.transfer_syntax_uid)
        reader.feed(data[meta.dataset_offset :])
        while not reader.known and (data := file.read(PIECE)):
            reader.feed(data)
    return _instance(path, meta, reader.finish())


def _instance(path: Path, meta: FileMeta, identity: Identity) -> Instance:
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
class FileMeta:
    """File Meta Information, and where the dataset begins behind it. by_the_book: without a VR that nobody knows."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    sender: Peer | None
    dataset_offset: int
    by_the_book: bool


def _file_meta(data: bytes) -> FileMeta:
    if data[128:132] != b"DICM":
        raise UnidentifiableInstance("not a DICOM file")
    offset, found, by_the_book = 132, {}, True
    try:
        while data[offset : offset + 2] == b"\2\0":
            tag, vr, length, offset = element_header(memoryview(data), offset, implicit=False)
            by_the_book = by_the_book and vr in KNOWN_VRS
            if offset + length > len(data):
                raise CutShort
            found[tag] = clean_uid(data[offset : offset + length])
            offset += length
    except CutShort as short:
        raise UnidentifiableInstance("the file ends within its meta information") from short
    uids = [found.get(tag, "") for tag in (0x00020002, 0x00020003, 0x00020010)]
    if not all(map(is_uid, uids)):
        raise UnidentifiableInstance("the file meta information lacks UIDs")
    return FileMeta(uids[0], uids[1], uids[2], _sender(found), offset, by_the_book)


def _sender(source: dict[int, str]) -> Peer | None:
    try:
        title = AETitle(source[SOURCE_TITLE])
        return Peer(title, source[SOURCE_ADDRESS].removeprefix("dicom://").strip("[]"))
    except (KeyError, ValueError):  # written by an earlier version, or not by us
        return None


@dataclass(frozen=True, slots=True)
class Header:
    """The bytes of a header that costs no more than an honest one, read once.

    identity: who the file says it is; None for one that cannot have come over the network: no head, big endian, no
    identity. data: of the file from where its dataset begins; inflated, of a deflated one.
    """

    identity: Identity | None
    meta: FileMeta | None = None
    data: bytes = b""

    @property
    def items(self) -> int:
        """At most so many sequence items does it hold."""
        return self.data.count(ITEM_BYTES)

    def instance(self, path: Path) -> Instance:
        """The instance in this file, which the node wrote; raises UnidentifiableInstance."""
        if self.meta is None or self.identity is None:
            raise UnidentifiableInstance("the file does not say which image it is")
        return _instance(path, self.meta, self.identity)

    def dataset(self, wanted: Collection[str] | None = None) -> tuple[Dataset, int] | None:
        """Its elements (the keywords in `wanted`, or all) and where Pixel Data begins; None: pydicom must read it."""
        meta = self.meta
        if self.identity is None or meta is None or not meta.by_the_book:
            return None
        if meta.transfer_syntax_uid == DeflatedExplicitVRLittleEndian:
            return None
        tags = None if wanted is None else frozenset(Tag(keyword) for keyword in wanted)
        implicit = meta.transfer_syntax_uid == ImplicitVRLittleEndian
        return elements.header_of(self.data, meta.dataset_offset, implicit=implicit, wanted=tags)


def check_header(path: Path) -> Header:
    """The header of a file; ask before pydicom reads it, which takes any number of elements for granted.

    Raises UnidentifiableInstance when the header is larger than HEADER_LIMIT or has more items than MOST_ITEMS,
    Contradiction when it says two things about whose it is, or OSError.
    """
    with path.open("rb") as file:
        first = file.read(FIRST_LOOK)
        try:
            meta = _file_meta(first)
        except UnidentifiableInstance:
            return Header(None)
        if meta.transfer_syntax_uid == ExplicitVRBigEndian:
            return Header(None)
        header, reader, lost = bytearray(), IdentityReader(meta.transfer_syntax_uid), False
        data = first[meta.dataset_offset :]
        while data:
            header += data
            try:
                reader.feed(data)
            except Contradiction:
                raise
            except UnidentifiableInstance:
                lost = True
                break
            data = b"" if reader.at_pixels else file.read(min(PIECE, HEADER_LIMIT - len(header)))
        size = os.fstat(file.fileno()).st_size
    if meta.transfer_syntax_uid == DeflatedExplicitVRLittleEndian:
        header = bytearray(_inflated(header, HEADER_LIMIT))
        size = len(header)
    if not reader.at_pixels and len(header) >= HEADER_LIMIT:
        raise UnidentifiableInstance("the header is too large")
    if size > len(ITEM_BYTES) * 2 * MOST_ITEMS and header.count(ITEM_BYTES) > MOST_ITEMS:
        raise UnidentifiableInstance("the header has too many sequence items")
    identity = reader.finish() if reader.known and not lost else None
    return Header(identity, meta, bytes(header))


def _inflated(data: Buffer, limit: int) -> bytes:
    """The first `limit` bytes of a deflated dataset (PS3.5 A.5): a bomb stays as small as that."""
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, limit)
    except zlib.error as error:
        raise UnidentifiableInstance("the dataset is not deflated as its transfer syntax says") from error


def agree(header: Dataset, identity: Identity | None) -> None:
    """Give `header`, as pydicom read it, the UIDs of `identity`; raises Contradiction when it names others.

    Only what stands round a UID may differ.
    """
    if identity is None:
        return
    patient = header.get_item("PatientID") if "PatientID" in header else None
    said = patient.value if isinstance(patient, RawDataElement) else None
    if (said or b"").strip(PADDING)[:LONGEST_KEPT] != identity.patient_id:
        raise Contradiction("the header can be read in two ways")
    with disable_value_validation():
        uids = (identity.sop_class_uid, identity.sop_instance_uid, identity.study_uid, identity.series_uid)
        for keyword, uid in zip(UID_KEYWORDS, uids, strict=True):
            value = str(header.get(keyword) or "")
            if value.strip(PADDING.decode()) != uid:
                raise Contradiction("the header can be read in two ways")
            if value != uid:
                setattr(header, keyword, uid)


def read_header(path: Path, keywords: Sequence[str], checked: Header | None = None) -> Dataset:
    """The elements `keywords` of a file, as far as it has them and they come before its pixels.

    checked: what `check_header` said of it, where somebody asked already. Raises UnidentifiableInstance when the file
    cannot be read as DICOM, whatever is wrong with it, or OSError.
    """
    checked = checked or check_header(path)
    wanted = (*keywords, *UID_KEYWORDS, "PatientID")
    try:
        with warnings.catch_warnings(), disable_value_validation():
            warnings.simplefilter("ignore")  # they quote values
            plain = checked.dataset(wanted)
            header = _by_pydicom(path, wanted) if plain is None else plain[0]
            agree(header, checked.identity)
            return header
    except UnidentifiableInstance:
        raise
    except Exception as error:  # pydicom lets anything through on hostile bytes, RecursionError included
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's, not pydicom's own
        raise UnidentifiableInstance(f"the header cannot be read ({type(error).__name__})") from error


def _by_pydicom(path: Path, keywords: Sequence[str]) -> Dataset:
    with path.open("rb") as file:
        source: BinaryIO = file
        meta = _file_meta(file.read(FIRST_LOOK))
        if meta.transfer_syntax_uid == DeflatedExplicitVRLittleEndian:
            file.seek(meta.dataset_offset)
            inflated = _inflated(file.read(HEADER_LIMIT), HEADER_LIMIT)
            source = BytesIO(file_head(meta.sop_class_uid, meta.sop_instance_uid, ExplicitVRLittleEndian) + inflated)
        source.seek(0)
        return dcmread(source, stop_before_pixels=True, specific_tags=list(keywords))
