"""Who an instance says it is: the one reading of identity that reception, the spool and the pipeline share.

In: the bytes of a dataset, in pieces as they come. Out: an `Identity` as soon as its UIDs have passed; what is between
them is skipped, not kept. Every top-level element is looked at, behind the UIDs and behind the pixels too, because
another reader may take the first of two elements, or the last.

Invariants: the cost is linear in the bytes, without recursion, and bounded by MOST_ELEMENTS. A dataset that names two
patients, studies, series or instances is a `Contradiction`, whichever comes first. Order does not matter, and an
element with a VR that nobody knows is skipped as DCMTK skips it.
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass

from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian

from ich_node.domain.errors import UnidentifiableInstance

Buffer = bytes | bytearray | memoryview

SOP_CLASS, SOP_INSTANCE, STUDY, SERIES = 0x00080016, 0x00080018, 0x0020000D, 0x0020000E  # tags, PS3.6
PATIENT_NAME, PATIENT_ID, ISSUER, BIRTH_DATE, ACCESSION = 0x00100010, 0x00100020, 0x00100021, 0x00100030, 0x00080050
"""Tags, PS3.6."""
UIDS = frozenset({SOP_CLASS, SOP_INSTANCE, STUDY, SERIES})
WATCHED = UIDS | {PATIENT_NAME, PATIENT_ID, ISSUER, BIRTH_DATE, ACCESSION}
"""What says whose image this is; each may be said once."""
PIXELS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
"""Where pydicom stops reading a header."""
LOOKED_AT = WATCHED | PIXELS
LONGEST_UID = 80
"""64 characters (PS3.5 9), and senders that put blanks round them."""
LONGEST_KEPT = 1024
"""Bytes of a watched value that are compared: 64 characters of LO in any character set."""
MOST_ELEMENTS = 1_000_000
"""Headers of elements and items in one dataset: half a second of looking; a real one has a few thousand."""
MAX_DEPTH = 64
"""Sequences within sequences; real ones have three or four."""
LONGEST_INFLATED = 1 << 29
"""Bytes that a deflated dataset may become: as much as a whole series may hold."""
INFLATE_PIECE = 1 << 16  # chosen: 64 KiB at a time, so that a bomb costs no more memory than that
UNDEFINED = 0xFFFFFFFF  # undefined length, PS3.5 7.1.1
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD  # tags of PS3.5 7.5

LONG_VRS = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
SHORT_VRS = frozenset(
    {b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FL", b"FD", b"IS", b"LO", b"LT", b"PN"}
    | {b"SH", b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US"}
)
KNOWN_VRS = LONG_VRS | SHORT_VRS
PADDING = b"\0 \t\r\n"
"""What stands round UIDs in the wild."""
_EXPLICIT = struct.Struct("<HH2sH").unpack_from
_U32 = struct.Struct("<I").unpack_from
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")


class Contradiction(UnidentifiableInstance):
    """A dataset that says two things about whose it is."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who an instance says it is, by its dataset. Patient ID and issuer are the sender's own bytes, without padding."""

    sop_class_uid: str
    sop_instance_uid: str
    study_uid: str
    series_uid: str
    patient_id: bytes = b""
    patient_id_issuer: bytes = b""


class CutShort(Exception):
    """The bytes at hand end within the header of an element."""


def is_uid(text: str) -> bool:
    """Whether `text` can be a UID and is safe as a file name: 1 to 64 digits and dots, digits around every dot.

    Components with leading zeros, which PS3.5 9.1 forbids, are let through: they exist and do no harm.
    """
    return len(text) <= 64 and _UID.fullmatch(text) is not None


def clean_uid(value: bytes) -> str:
    """The text of a UID without what stands round it."""
    return value.strip(PADDING).decode("latin-1")


def identify(data: Buffer, transfer_syntax_uid: str) -> Identity:
    """Who a whole dataset says it is. Raises UnidentifiableInstance, or Contradiction."""
    reader = IdentityReader(transfer_syntax_uid)
    reader.feed(data)
    return reader.finish()


class IdentityReader:
    """Reads the identity of one dataset, in any little endian transfer syntax, while its bytes pass by."""

    def __init__(self, transfer_syntax_uid: str) -> None:
        self.at_pixels = False
        """Whether Pixel Data has begun: the header is over."""
        self._implicit = transfer_syntax_uid == ImplicitVRLittleEndian
        deflated = transfer_syntax_uid == DeflatedExplicitVRLittleEndian
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS) if deflated else None
        self._inflated = 0
        self._found: dict[int, tuple[int, bytes]] = {}
        self._inside: list[tuple[bool, bool]] = []  # (in a sequence, else in an item; implicit VR), innermost last
        self._carry = b""
        self._skip = 0
        self._elements = 0
        self._lost = False  # what follows the UIDs cannot be followed: left to those who compare

    @property
    def known(self) -> bool:
        """Whether all four UIDs have passed."""
        return self._found.keys() >= UIDS

    @property
    def identity(self) -> Identity:
        """What has passed. Raises UnidentifiableInstance when a UID is missing or none."""
        if missing := UIDS - self._found.keys():
            names = ", ".join(f"({tag >> 16:04X},{tag & 0xFFFF:04X})" for tag in sorted(missing))
            raise UnidentifiableInstance(f"the dataset has no {names}")
        patient, issuer = (self._found.get(tag, (0, b""))[1] for tag in (PATIENT_ID, ISSUER))
        return Identity(
            sop_class_uid=self._uid(SOP_CLASS),
            sop_instance_uid=self._uid(SOP_INSTANCE),
            study_uid=self._uid(STUDY),
            series_uid=self._uid(SERIES),
            patient_id=patient,
            patient_id_issuer=issuer,
        )

    def feed(self, data: Buffer) -> None:
        """The next bytes. Raises Contradiction, or UnidentifiableInstance when the UIDs cannot be reached."""
        if self._inflater is None:
            self._follow(data)
            return
        rest: Buffer = data
        while len(rest) and not self._inflater.eof:
            try:
                piece = self._inflater.decompress(rest, INFLATE_PIECE)
            except zlib.error as error:
                raise UnidentifiableInstance("the dataset is not deflated as its transfer syntax says") from error
            rest = self._inflater.unconsumed_tail
            self._inflated += len(piece)
            if self._inflated > LONGEST_INFLATED:
                raise UnidentifiableInstance("the dataset inflates to more than any series")
            self._follow(piece)

    def finish(self) -> Identity:
        """The dataset has ended. Raises UnidentifiableInstance when it ended before its UIDs."""
        if not self.known and (self._skip or self._carry or self._inside):
            raise UnidentifiableInstance("the dataset ends before its UIDs")
        return self.identity

    def _uid(self, tag: int) -> str:
        length, value = self._found[tag]
        if length > LONGEST_UID:
            raise UnidentifiableInstance("a UID is too long")
        text = clean_uid(value)
        if not is_uid(text):
            raise UnidentifiableInstance("a UID is not made of digits and dots")
        return text

    def _follow(self, data: Buffer) -> None:
        if self._skip >= len(data):
            self._skip -= len(data)
            return
        if self._lost:
            return
        try:
            self._walk(memoryview(self._carry + bytes(data) if self._carry else data))
        except Contradiction:
            raise
        except UnidentifiableInstance:
            if not self.known:
                raise
            self._lost = True

    def _walk(self, view: memoryview) -> None:
        """Follow elements to the end of `view`; an element whose header it cuts is carried over."""
        offset, end = self._skip, len(view)
        start, looks = offset, MOST_ELEMENTS - self._elements
        self._skip, self._carry = 0, b""
        try:
            while offset < end:
                start, looks = offset, looks - 1
                if looks < 0:
                    raise Contradiction("the dataset has more elements than can be read")
                if self._inside:
                    offset = _nested(view, start, self._inside)
                    continue
                if self._implicit:
                    tag, vr, length, offset = element_header(view, start, implicit=True)
                else:
                    if start + 8 > end:
                        raise CutShort
                    group, element, vr, length = _EXPLICIT(view, start)
                    tag, offset = group << 16 | element, start + 8
                    if vr not in SHORT_VRS:
                        tag, vr, length, offset = element_header(view, start, implicit=False)
                if tag in LOOKED_AT:
                    self._look(tag, length, view[offset : offset + min(length, LONGEST_KEPT)])
                if length == UNDEFINED:
                    self._inside.append((True, self._implicit or vr == b"UN"))  # PS3.5 6.2.2
                else:
                    offset += length
        except CutShort:
            self._carry, looks = bytes(view[start:]), looks + 1
            return
        finally:
            self._elements = MOST_ELEMENTS - looks
        self._skip = offset - end

    def _look(self, tag: int, length: int, value: memoryview) -> None:
        """An element that says whose image this is, once; or the first one of the pixels."""
        if tag in PIXELS:
            self.at_pixels = True
            return
        if len(value) < min(length, LONGEST_KEPT):
            raise CutShort
        name = f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
        said, before = bytes(value).strip(PADDING), self._found.get(tag)
        if before is None and self.at_pixels:  # readers of headers do not come so far
            raise Contradiction(f"{name} comes behind the pixels")
        if before is not None and (before[1] != said or max(before[0], length) > LONGEST_KEPT):
            raise Contradiction(f"{name} comes twice, with two values")
        self._found[tag] = (length, said)


def end_of_sequence(view: memoryview, offset: int, implicit: bool) -> int:
    """Where a sequence of undefined length ends whose first item begins at `offset`.

    Raises CutShort, or UnidentifiableInstance when it is none.
    """
    inside = [(True, implicit)]
    while inside:
        offset = _nested(view, offset, inside)
    return offset


def _nested(view: memoryview, start: int, inside: list[tuple[bool, bool]]) -> int:
    """Past one header within a sequence of undefined length (PS3.5 7.5), or within its items; `inside` says where."""
    in_sequence, implicit = inside[-1]
    tag, vr, length, offset = element_header(view, start, implicit)
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


def element_header(view: memoryview, offset: int, implicit: bool) -> tuple[int, bytes, int, int]:
    """(tag, VR, length, offset of the value) of the element at `offset`.

    A VR that nobody knows: capitals with two zero bytes behind them are one of the future, with a length of four bytes;
    anything else has one of two.
    """
    if offset + 8 > len(view):
        raise CutShort
    group, element, vr, length = _EXPLICIT(view, offset)
    tag = group << 16 | element
    if implicit or group == 0xFFFE:
        return tag, b"", _U32(view, offset + 4)[0], offset + 8
    if vr in SHORT_VRS or (vr not in LONG_VRS and not (vr.isalpha() and vr.isupper() and length == 0)):
        return tag, vr, length, offset + 8
    if offset + 12 > len(view):
        raise CutShort
    return tag, vr, _U32(view, offset + 8)[0], offset + 12
