"""The head of a stored file, and the header that is read back, bounded and in one reading."""

from __future__ import annotations

import contextlib
import struct
import zlib
from io import BytesIO
from pathlib import Path

import pytest
from datasets import CT, DEFLATED, EXPLICIT, IMPLICIT, encoded, nested, plain
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import DataElement, Dataset, dcmread
from pydicom.sequence import Sequence

from ich_node.dicom.part10 import HEADER_LIMIT, MOST_ITEMS, agree, check_header, file_head, read_header, read_instance
from ich_node.domain.errors import UnidentifiableInstance


def test_the_head_is_read_by_others_as_written() -> None:
    meta = dcmread(BytesIO(file_head(CT, "1.2.3", IMPLICIT) + encoded(plain(), IMPLICIT))).file_meta
    assert (meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID) == (CT, "1.2.3")
    assert meta.TransferSyntaxUID == IMPLICIT
    assert str(meta.ImplementationVersionName).startswith("ICH_NODE")
    assert int(meta.ImplementationClassUID.removeprefix("2.25.")) < 1 << 128


@pytest.mark.parametrize("transfer_syntax", [IMPLICIT, EXPLICIT, DEFLATED])
def test_a_stored_file_tells_its_instance_and_header(tmp_path: Path, transfer_syntax: str) -> None:
    path = tmp_path / "1.2.3.4.dcm"
    path.write_bytes(file_head(CT, "1.2.3.4", transfer_syntax) + encoded(nested(True), transfer_syntax))
    instance = read_instance(path)
    assert (instance.study_uid, instance.series_uid, instance.sop_class_uid) == ("1.2", "1.2.3", CT)
    assert (instance.sop_instance_uid, instance.transfer_syntax_uid) == ("1.2.3.4", transfer_syntax)
    header = read_header(path, ["Rows", "SOPClassUID"])
    assert (header.Rows, header.SOPClassUID) == (512, CT)
    assert "PatientName" not in header


def test_uids_far_behind_the_first_look_are_found_in_a_file(tmp_path: Path) -> None:
    ds = plain()
    many = []
    for _ in range(400):
        item = Dataset()
        item.ReferencedSOPInstanceUID = "1.2.3.4.5.6.7.8.9"
        many.append(item)
    ds.SourceImageSequence = Sequence(many)
    path = tmp_path / "a.dcm"
    path.write_bytes(file_head(CT, "1.2.3.4", EXPLICIT) + encoded(ds))
    assert read_instance(path).series_uid == "1.2.3"


@pytest.mark.parametrize("content", [b"", b"x" * 200, bytes(128) + b"DICM", file_head(CT, "1.2", EXPLICIT)[:150]])
def test_a_file_that_is_none_of_ours_is_a_reason(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(content)
    with pytest.raises(UnidentifiableInstance):
        read_instance(path)
    with pytest.raises(UnidentifiableInstance):
        read_header(path, ["Rows"])


@settings(max_examples=150)
@given(st.data())
def test_a_damaged_header_is_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    transfer_syntax = data.draw(st.sampled_from([IMPLICIT, EXPLICIT, DEFLATED]))
    base = bytearray(encoded(nested(True), transfer_syntax))
    for _ in range(data.draw(st.integers(1, 6))):
        base[data.draw(st.integers(0, len(base) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "a.dcm"
    path.write_bytes(file_head(CT, "1.2.3.4", transfer_syntax) + base)
    with contextlib.suppress(UnidentifiableInstance):
        read_header(path, ["Rows", "SOPClassUID", "SourceImageSequence", "PatientID"])


# --- headers that cost too much ------------------------------------------------------------------------------------

ITEM, SEQUENCE_END = struct.pack("<HHI", 0xFFFE, 0xE000, 0), struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
PIXELS = struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OW", 0, 4 << 20) + bytes(4 << 20)


def long_element(vr: bytes, value: bytes, undefined: bool = False) -> bytes:
    """A private element with a 32-bit length."""
    length = 0xFFFFFFFF if undefined else len(value)
    return struct.pack("<HH2sHI", 0x29, 0x1010, vr, 0, length) + value + (SEQUENCE_END if undefined else b"")


def stored(tmp_path: Path, dataset: bytes, transfer_syntax: str = EXPLICIT) -> Path:
    path = tmp_path / "1.2.3.4.dcm"
    path.write_bytes(file_head(CT, "1.2.3.4", transfer_syntax) + dataset)
    return path


@pytest.mark.parametrize("undefined", [True, False])
def test_more_sequence_items_than_any_header_has_are_not_read(tmp_path: Path, undefined: bool) -> None:
    flood = long_element(b"SQ", ITEM * (MOST_ITEMS + 1), undefined)
    with pytest.raises(UnidentifiableInstance, match="items"):
        read_header(stored(tmp_path, encoded(plain()) + flood + PIXELS), ["Rows"])


def test_a_small_deflated_file_has_room_for_a_flood_too(tmp_path: Path) -> None:
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    flood = deflater.compress(encoded(plain()) + long_element(b"SQ", ITEM * (MOST_ITEMS + 1))) + deflater.flush()
    assert len(flood) < 10_000
    with pytest.raises(UnidentifiableInstance, match="items"):
        read_header(stored(tmp_path, flood, DEFLATED), ["Rows"])


def test_a_header_larger_than_any_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(UnidentifiableInstance, match="too large"):
        read_header(stored(tmp_path, encoded(plain()) + long_element(b"OB", bytes(HEADER_LIMIT)) + PIXELS), ["Rows"])
    many = struct.pack("<HH2sH", 0x29, 0x1010, b"LO", 0) * (HEADER_LIMIT // 8)
    with pytest.raises(UnidentifiableInstance, match="more elements"):
        read_header(stored(tmp_path, encoded(plain()) + many + PIXELS), ["Rows"])


@pytest.mark.parametrize("transfer_syntax", [IMPLICIT, EXPLICIT])
def test_pixels_of_any_size_behind_an_honest_header_do_not_count(tmp_path: Path, transfer_syntax: str) -> None:
    head = struct.pack("<HHI" if transfer_syntax == IMPLICIT else "<HH2sHI", 0x7FE0, 0x10,
                       *((24 << 20,) if transfer_syntax == IMPLICIT else (b"OW", 0, 24 << 20)))  # fmt: skip
    pixels = ITEM * (3 << 20)
    path = stored(tmp_path, encoded(nested(True), transfer_syntax) + head + pixels, transfer_syntax)
    assert read_header(path, ["Rows"]).Rows == 512


def test_a_large_file_that_did_not_come_over_the_network_is_left_to_others(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(ITEM * (MOST_ITEMS + 1))
    check_header(path)


KEYWORDS = ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")


def test_elements_hidden_in_a_value_of_undefined_length_change_nobody(tmp_path: Path) -> None:
    forged = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0) + encoded(plain()).replace(b"1.2.3.4\0", b"1.2.3.9\0")
    item = struct.pack("<HHI", 0xFFFE, 0xE000, len(forged)) + forged
    hidden = struct.pack("<HH2sHI", 0x0009, 0x1010, b"OB", 0, 0xFFFFFFFF) + item + SEQUENCE_END
    path = stored(tmp_path, encoded(plain()[:0x00090000]) + hidden + encoded(plain()[0x00090000:]) + PIXELS)
    assert read_header(path, ["SOPInstanceUID"]).SOPInstanceUID == plain().SOPInstanceUID


@pytest.mark.parametrize("keyword", KEYWORDS)
def test_a_header_that_pydicom_reads_as_another_instance_is_not_believed(tmp_path: Path, keyword: str) -> None:
    path = stored(tmp_path, encoded(plain()) + PIXELS)
    header = read_header(path, ["SOPClassUID", *KEYWORDS])
    agree(header, check_header(path).identity)
    header[keyword] = DataElement(keyword, "UI", "1.2.9")
    with pytest.raises(UnidentifiableInstance, match="two ways"):
        agree(header, check_header(path).identity)


def test_blanks_round_uids_are_gone_when_a_header_is_read(tmp_path: Path) -> None:
    path = stored(tmp_path, encoded(plain()).replace(b"1.2.3\0", b" 1.2.3"))
    assert read_header(path, ["SeriesInstanceUID"]).SeriesInstanceUID == "1.2.3"
