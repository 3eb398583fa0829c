"""The header of an image as pydicom reads it, without its detours, where the header is by the book.

In: the bytes of a little endian header that `part10.check_header` let through. Out: a dataset whose values are decoded
when they are asked for, the same as pydicom's, or None: whatever is not by the book is left to pydicom. What many
images of a series say in the same bytes is decoded once for all of them. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, MutableSequence
from functools import lru_cache
from io import BytesIO
from typing import cast

from pydicom import Dataset
from pydicom.charset import convert_encodings, default_encoding
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement, empty_value_for_VR
from pydicom.filereader import data_element_generator
from pydicom.tag import BaseTag
from pydicom.valuerep import AMBIGUOUS_VR
from pydicom.values import convert_string

from ich_node.dicom.decoding import decoding
from ich_node.dicom.identity import KNOWN_VRS, PIXELS, UNDEFINED, CutShort, element_header, end_of_sequence
from ich_node.domain.errors import UnidentifiableInstance, UnusableSeries
from ich_node.domain.reasons import Reason, Why

CHARACTER_SET = 0x00080005  # Specific Character Set, PS3.6
LONGEST_SHARED = 256
"""Bytes of a value that is looked for among those of other images: four times the longest LO."""
MOST_SHARED = 4096
"""Values that are remembered of a series; a real one repeats a few hundred."""
UNREADABLE = Reason(Why.HEADER_UNREADABLE)
VRS = {
    vr: (vr.decode() or None, cast(bytes | None, empty_value_for_VR(vr.decode() or None, raw=True)))
    for vr in (*KNOWN_VRS, b"")
}
"""VR as written (none: implicit) → its name, and what pydicom takes for no value."""

Element = RawDataElement | DataElement
Encoding = str | MutableSequence[str]


def header_of(
    data: bytes, offset: int, *, implicit: bool, wanted: Collection[int] | None = None
) -> tuple[Dataset, int] | None:
    """The header before the pixels, of elements in `wanted` (all if None), and where Pixel Data begins in the file.

    data: of the file from `offset` on, where its dataset begins. None when the bytes are not by the book.
    """
    try:
        with decoding(UNREADABLE):
            read = _elements(data, offset, implicit, wanted)
    except (UnusableSeries, CutShort, UnidentifiableInstance):  # pydicom says so itself
        return None
    if read is None:
        return None
    found, encoding, pixels = read
    header = Dataset(found)
    header.set_original_encoding(implicit, True, encoding)
    return header, offset + pixels


def _elements(
    data: bytes, offset: int, implicit: bool, wanted: Collection[int] | None
) -> tuple[dict[BaseTag, Element], Encoding, int] | None:
    """Elements by tag, character encoding, and where the pixels begin in `data`."""
    found: dict[BaseTag, Element] = {}
    encoding: Encoding = default_encoding
    view, nested, at = memoryview(data), BytesIO(data), 0
    if implicit and data[4:6].isalpha():  # would be taken for a VR
        return None
    while True:
        start = at
        tag, vr, length, at = element_header(view, start, implicit)
        if tag in PIXELS:
            return found, encoding, start
        if tag >> 16 in (0x0000, 0x0002, 0xFFFE) or vr not in VRS:
            return None
        asked = wanted is None or tag in wanted or tag == CHARACTER_SET
        if length == UNDEFINED and asked:
            nested.seek(start)
            found[tag_of(tag)] = next(data_element_generator(nested, implicit, True, encoding=encoding))
            at = nested.tell()
        elif length == UNDEFINED:  # of 100,000 items pydicom would make as many objects
            at = end_of_sequence(view, at, implicit or vr == b"UN")
        elif at + length > len(data):
            return None
        else:
            if asked:
                name, nothing = VRS[vr]
                value = data[at : at + length] or nothing
                found[tag_of(tag)] = RawDataElement(tag_of(tag), name, length, value, offset + at, implicit, True)
            if tag == CHARACTER_SET:
                encoding = convert_encodings(convert_string(data[at : at + length], True))
            at += length


@lru_cache(maxsize=4096)  # of the tags that anybody sends; a bound, because they are foreign
def tag_of(tag: int) -> BaseTag:
    """One object per tag: comparing two of pydicom's takes as long as everything else here."""
    return BaseTag(tag)


class Shared:
    """What the images of one series say in the same bytes, decoded once."""

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], DataElement | None] = {}

    def share(self, header: Dataset) -> None:
        """Put decoded elements that another header had, too, in the place of raw ones.

        The second header that says the same decodes it; what only one says stays as it is, and so does what cannot be
        read.
        """
        encoding = str(header.original_character_set)
        for raw in list(header.values()):
            if not isinstance(raw, RawDataElement) or not _stands_alone(raw.tag, raw.VR):
                continue
            if raw.value is None or len(raw.value) > LONGEST_SHARED:
                continue
            key = (raw.tag, raw.VR, raw.value, encoding)
            if key in self._known:
                element = self._known[key] or _decoded(header, raw.tag)
                if element is not None:
                    self._known[key] = header[raw.tag] = element
            elif len(self._known) < MOST_SHARED:
                self._known[key] = None


@lru_cache(maxsize=4096)  # as `tag_of`
def _stands_alone(tag: BaseTag, vr: str | None) -> bool:
    """Whether no other element is needed to decode it: a private creator, a Pixel Representation; sequences never."""
    if vr is not None and vr != "UN":
        return vr != "SQ"
    return dictionary_has_tag(tag) and dictionary_VR(tag) not in AMBIGUOUS_VR | {"SQ"} and tag != CHARACTER_SET


def _decoded(header: Dataset, tag: BaseTag) -> DataElement | None:
    try:
        with decoding(UNREADABLE):
            return header[tag]
    except UnusableSeries:
        return None
