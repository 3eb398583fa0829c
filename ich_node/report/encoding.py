"""A dataset as the bytes of a DICOM file, Explicit VR Little Endian (PS3.10 7.1, PS3.5 7.5).

An SR holds hundreds of small items, for each of which pydicom opens a file of its own. Items that were made here
are written by `_item`, byte for byte as pydicom would; pydicom writes the rest.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from struct import pack

from pydicom import Dataset, dcmwrite
from pydicom.charset import convert_encodings, default_encoding
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import correct_ambiguous_vr, write_data_element, write_sequence_item
from pydicom.tag import BaseTag

ITEM = pack("<HH", 0xFFFE, 0xE000)
PAD = dict.fromkeys(("AE", "AS", "CS", "DA", "DT", "LO", "LT", "SH", "ST", "TM", "UT"), b" ") | {"UI": b"\0"}
"""What makes a text of odd length even (PS3.5 6.2)."""
LONGEST = 0xFFFF
"""Bytes that a length field of 16 bits can say; longer values are left to pydicom."""


def part10(dataset: Dataset, known: dict[int, bytes] | None = None) -> bytes:
    """A dataset with its file meta information.

    known: bytes of sequences by the identity of their elements, for datasets that share some; it is filled. Text that
    was copied as bytes is written as these bytes: pydicom would decode it by the character set that the source claims,
    unless it takes the dataset for one that was read in this encoding.
    """
    known = {} if known is None else known
    correct_ambiguous_vr(dataset, is_little_endian=True)
    encodings = convert_encodings(dataset.get("SpecificCharacterSet") or default_encoding)
    elements: dict[BaseTag, DataElement | RawDataElement] = {}
    for element in dataset.elements():
        elements[element.tag] = element
        if element.VR == "SQ" and isinstance(element, DataElement) and not element.is_undefined_length:
            if id(element) not in known:
                known[id(element)] = _sequence(element.value or (), encodings)
            value = known[id(element)]
            elements[element.tag] = RawDataElement(element.tag, "SQ", len(value), value, 0, False, True)
    written = Dataset(elements)
    written.file_meta = dataset.file_meta
    written.set_original_encoding(
        is_implicit_vr=False, is_little_endian=True, character_encoding=dataset._character_set
    )
    buffer = io.BytesIO()
    dcmwrite(buffer, written, enforce_file_format=True)
    return buffer.getvalue()


def _sequence(items: Iterable[Dataset], encodings: list[str]) -> bytes:
    return b"".join(_foreign(item, encodings) if _is_foreign(item) else _item(item, encodings) for item in items)


def _is_foreign(item: Dataset) -> bool:
    """Whether an item was read from a file: it may hold what was not decoded, and lengths that are not defined."""
    return item.original_encoding != (None, None) or "SpecificCharacterSet" in item


def _foreign(item: Dataset, encodings: list[str]) -> bytes:
    buffer = _buffer()
    write_sequence_item(buffer, item, encodings)
    return bytes(buffer.getvalue())


def _item(item: Dataset, encodings: list[str]) -> bytes:
    body = b"".join(_element(item[tag], encodings) for tag in sorted(item.keys()))
    return ITEM + pack("<L", len(body)) + body


def _element(element: DataElement, encodings: list[str]) -> bytes:
    vr, value = element.VR, element.value
    if vr == "SQ" and not element.is_undefined_length:
        body = _sequence(value or (), encodings)
    elif vr in PAD and isinstance(value, str) and value.isascii() and len(value) < LONGEST:
        body = value.encode("ascii") + (PAD[vr] if len(value) % 2 else b"")
    else:
        buffer = _buffer()
        write_data_element(buffer, element, encodings)
        return bytes(buffer.getvalue())
    start = pack("<HH2s", element.tag.group, element.tag.element, vr.encode("ascii"))
    return start + (pack("<xxL", len(body)) if vr in ("SQ", "UT") else pack("<H", len(body))) + body


def _buffer() -> DicomBytesIO:
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    return buffer
