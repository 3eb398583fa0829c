"""Reading a header as senders write it: a value that cannot be read counts as absent, because it says nothing.

Pure. Elements are decoded when they are asked for, so every question to a foreign header goes through here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from itertools import islice

from pydicom import Dataset
from pydicom.datadict import dictionary_has_tag, dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag, Tag
from pydicom.valuerep import CUSTOMIZABLE_CHARSET_VR

from ich_node.dicom.decoding import decoding
from ich_node.domain.errors import UnusableSeries
from ich_node.domain.reasons import Reason, Why

UNREADABLE = Reason(Why.HEADER_UNREADABLE)
BLANKS = " \0\t\r\n"
LONGEST_TEXT = 1024
"""Characters of one value, the length of VR ST (PS3.5 6.2): the rest is cut off before anybody looks at it. Some
senders write more than the 64 of LO and the 16 of DS, and mean it."""
MOST_VALUES = 64
"""Values of one attribute that are looked at; no attribute that is asked for has more than a few."""
TEXT = frozenset(("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT"))
BYTES = frozenset(("OB", "OD", "OF", "OL", "OV", "OW", "UN"))
"""VRs (PS3.5 6.2) of text and of plain bytes, which senders take for each other without harm."""
MOST_NAMED = 8  # chosen: enough to find the culprit by
LONGEST_NUMBERS = 4096
"""Bytes of an unreadable numeric element that are looked at once more; six numbers have 101 at most (PS3.5 6.2)."""


def texts(header: Dataset, keyword: str) -> list[str]:
    """The values of an attribute as text, without empty ones; [] when it is absent or cannot be read."""
    tag = _tag(keyword)
    if tag not in header.keys():  # noqa: SIM118 - most are not there, and pydicom's own `in` takes its time
        return []
    try:
        with decoding(UNREADABLE):
            value = header[tag].value
            values: Iterable[object] = value if isinstance(value, MultiValue | list | tuple) else [value]
            shown = (str(item)[:LONGEST_TEXT].strip(BLANKS) for item in islice(values, MOST_VALUES) if item is not None)
            return [words for words in shown if words]
    except UnusableSeries:
        return []


@cache
def _tag(keyword: str) -> BaseTag:
    return Tag(keyword)


def text(header: Dataset, keyword: str) -> str:
    """The values of an attribute as one text; empty when it is absent or cannot be read."""
    return " ".join(texts(header, keyword))


def numbers(header: Dataset, keyword: str) -> list[float]:
    """The values of an attribute as finite numbers, a decimal comma understood; [] when one of them is none."""
    found = []
    values = texts(header, keyword) or _raw_texts(header, keyword)
    for value in "\\".join(values).split("\\") if values else ():  # under a VR of one text they are one value
        try:
            number = float(value.replace(",", ".") if "." not in value else value)
        except ValueError:
            return []
        if not math.isfinite(number):
            return []
        found.append(number)
    return found


def number(header: Dataset, keyword: str) -> float | None:
    """The first value of an attribute as a finite number; None when it is absent or cannot be read."""
    return next(iter(numbers(header, keyword)), None)


def whole(header: Dataset, keyword: str) -> int | None:
    """The first value of an attribute as a whole number; None when it is absent or is none."""
    found = number(header, keyword)
    return int(found) if found is not None and found == round(found) else None


def items(header: Dataset, keyword: str) -> list[Dataset]:
    """The items of a sequence; [] when it is absent or cannot be read."""
    try:
        with decoding(UNREADABLE):
            return [item for item in header.get(keyword) or () if isinstance(item, Dataset)]
    except UnusableSeries:
        return []


def keep_sent_text(header: Dataset) -> None:
    """Remember the bytes of text that nobody has decoded yet, for `sent_text`: decoding loses what it cannot read.

    Which character set a sender really wrote in is known to its archive, not to us. Text that came under another VR
    of text, or as plain bytes, gets its own.
    """
    kept: dict[BaseTag, RawDataElement] = {}
    for raw in list(header.values()):
        if not isinstance(raw, RawDataElement) or not raw.value:
            continue
        vr = _text_vr(raw.tag)
        if not vr or len(raw.value) % 2 or not (raw.VR is None or vr == raw.VR or raw.VR in TEXT | BYTES):
            continue
        kept[raw.tag] = raw._replace(VR=vr)
        if raw.VR not in (None, vr):
            header[raw.tag] = kept[raw.tag]
    header.sent_text = kept


@lru_cache(maxsize=4096)  # of the tags that anybody sends; a bound, because they are foreign
def _text_vr(tag: BaseTag) -> str:
    """The VR of an attribute whose values follow the character set; empty for others."""
    vr = dictionary_VR(tag) if dictionary_has_tag(tag) else ""
    return vr if vr in CUSTOMIZABLE_CHARSET_VR else ""


def sent_text(header: Dataset) -> Mapping[BaseTag, RawDataElement]:
    """Text elements as they were sent, as far as they were kept."""
    kept: Mapping[BaseTag, RawDataElement] = getattr(header, "sent_text", {})
    return kept


def cleaned(headers: Iterable[Dataset]) -> tuple[Reason, ...]:
    """Remove from `headers` what cannot be read and what is of the wrong kind; a warning that names the latter."""
    keywords = {keyword for header in headers for keyword in drop_unreadable(header)}
    if not keywords:
        return ()
    named = sorted(keywords, key=lambda keyword: tag_for_keyword(keyword) or 0)[:MOST_NAMED]
    return (Reason(Why.CONTRADICTORY_ELEMENTS, keywords=", ".join(named)),)


def drop_unreadable(header: Dataset) -> list[str]:
    """Remove every value that cannot be read, so that nobody stumbles over it later.

    Removed as well is what is of another kind than the dictionary (PS3.6) says, as a sequence written as text, because
    whoever gets a copy would stumble; their keywords are returned.
    """
    contradictory: list[str] = []
    for found in list(header.values()):
        vr = None if found.VR is None else _own_vr(found.tag, str(found.VR))
        if vr == "":
            contradictory.append(keyword_for_tag(found.tag))
            del header[found.tag]
            continue
        if isinstance(found, DataElement) and found.VR != "SQ" and vr == found.VR:
            continue  # was read before
        try:
            with decoding(UNREADABLE):
                if vr is not None and vr != found.VR:
                    if isinstance(found, RawDataElement):
                        header[found.tag] = found._replace(VR=vr)
                    else:
                        header[found.tag] = DataElement(found.tag, vr, found.value)
                element = header[found.tag]
        except UnusableSeries:
            del header[found.tag]
            continue
        if element.VR == "SQ":
            for item in element.value or ():
                contradictory += drop_unreadable(item)
    return contradictory


@lru_cache(maxsize=4096)  # as `_text_vr`
def _own_vr(tag: BaseTag, vr: str) -> str:
    """The VR for an element that came under `vr`: that of the dictionary for text; empty where they contradict."""
    if vr == "UN" or not dictionary_has_tag(tag):
        return vr
    known = dictionary_VR(tag).split(" or ")
    if vr in known:
        return vr
    return known[0] if known[0] in TEXT and vr in TEXT | BYTES else ""


def _raw_texts(header: Dataset, keyword: str) -> list[str]:
    """The values of an element that pydicom cannot convert, as they were written."""
    try:
        with decoding(UNREADABLE):
            element = header.get_item(keyword)
    except UnusableSeries:
        return []
    if not isinstance(element, RawDataElement) or not element.value or len(element.value) > LONGEST_NUMBERS:
        return []
    values = element.value.decode("ascii", "replace").split("\\")
    return [stripped for value in values if (stripped := value.strip(BLANKS))]
