"""The head of a stored file, and the bounded look at who an instance says it is."""

from __future__ import annotations

import contextlib
import struct
import tracemalloc
import zlib
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence

from ich_node.dicom.part10 import (
    HEADER_LIMIT,
    MOST_ITEMS,
    SCAN_LIMIT,
    Identity,
    check_header,
    file_head,
    identify,
    is_uid,
    read_header,
    read_instance,
)
from ich_node.domain.errors import UnidentifiableInstance

CT = "1.2.840.10008.5.1.4.1.1.2"
IMPLICIT, EXPLICIT, DEFLATED = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99"
WHO = Identity(CT, "1.2.3.4", "1.2", "1.2.3")


def plain() -> Dataset:
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID, ds.StudyInstanceUID, ds.SeriesInstanceUID = CT, "1.2.3.4", "1.2", "1.2.3"
    ds.PatientName, ds.Rows = "PHANTOM^HEAD", 512
    return ds


def encoded(ds: Dataset, transfer_syntax: str = EXPLICIT) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, transfer_syntax == IMPLICIT
    write_dataset(buffer, ds)
    data = buffer.getvalue()
    if transfer_syntax != DEFLATED:
        return data
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflater.compress(data) + deflater.flush()


def nested(undefined: bool, depth: int = 3) -> Dataset:
    """A dataset with sequences before its UIDs' end."""
    ds = plain()
    inner = Dataset()
    inner.CodeValue, inner.SOPInstanceUID, inner.SeriesInstanceUID = "1", "9.9.9", "8.8.8"
    for _ in range(depth):
        outer = Dataset()
        outer.ReferencedImageSequence = Sequence([inner, inner])
        inner = outer
    ds.SourceImageSequence = Sequence([inner])
    if undefined:
        _make_undefined(ds)
    return ds


def _make_undefined(ds: Dataset) -> None:
    for element in ds:
        if element.VR == "SQ":
            element.is_undefined_length = True
            for item in element.value:
                item.is_undefined_length_sequence_item = True
                _make_undefined(item)


@pytest.mark.parametrize("transfer_syntax", [IMPLICIT, EXPLICIT, DEFLATED])
@pytest.mark.parametrize("undefined", [False, True])
def test_uids_are_found_behind_sequences_of_every_shape(transfer_syntax: str, undefined: bool) -> None:
    assert identify(encoded(nested(undefined), transfer_syntax), transfer_syntax, complete=True) == WHO


def test_uids_inside_sequences_are_not_taken() -> None:
    ds = nested(undefined=True)
    del ds.SOPInstanceUID
    with pytest.raises(UnidentifiableInstance, match=r"0008,0018"):
        identify(encoded(ds), EXPLICIT, complete=True)


def test_a_sequence_of_unknown_vr_and_undefined_length_is_implicit_inside() -> None:
    ds = plain()
    body = encoded(nested(undefined=True), IMPLICIT)
    unknown = (
        bytes.fromhex("09001010") + b"UN\0\0" + b"\xff" * 4
        + bytes.fromhex("feff00e0") + b"\xff" * 4 + body
        + bytes.fromhex("feff0de0") + bytes(4) + bytes.fromhex("feffdde0") + bytes(4)
    )  # fmt: skip
    head, tail = Dataset(), Dataset()
    for element in ds:
        (head if element.tag.group <= 8 else tail).add(element)
    assert identify(encoded(head) + unknown + encoded(tail), EXPLICIT, complete=True) == WHO


def test_more_bytes_are_asked_for_until_the_last_uid_is_there() -> None:
    data = encoded(nested(undefined=True))
    answers = [identify(data[:n], EXPLICIT, complete=False) for n in range(len(data) + 1)]
    assert answers[0] is None
    first = next(n for n, answer in enumerate(answers) if answer)
    assert all(answer is None for answer in answers[:first])
    assert all(answer == WHO for answer in answers[first:])


def test_the_end_of_the_dataset_before_its_uids_is_a_reason() -> None:
    with pytest.raises(UnidentifiableInstance, match="ends before"):
        identify(encoded(plain())[:60], EXPLICIT, complete=True)


@pytest.mark.parametrize("keyword", ["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"])
def test_each_of_the_four_uids_is_needed(keyword: str) -> None:
    ds = plain()
    delattr(ds, keyword)
    with pytest.raises(UnidentifiableInstance, match="has no"):
        identify(encoded(ds), EXPLICIT, complete=True)


@pytest.mark.parametrize("value", [b"../../etc", b"1..2", b"", b"1.2\n3", b"\xff\xfe", b"1" * 65])
def test_a_uid_that_is_none_is_a_reason(value: bytes) -> None:
    ds = plain()
    del ds.SeriesInstanceUID
    value += b"\0" * (len(value) % 2)
    data = encoded(ds[:0x00200000]) + bytes.fromhex("20000d00") + b"UI\4\x001.2\0"
    data += bytes.fromhex("20000e00") + b"UI" + len(value).to_bytes(2, "little") + value
    with pytest.raises(UnidentifiableInstance):
        identify(data, EXPLICIT, complete=True)


def test_padding_with_blanks_or_zeros_is_no_part_of_a_uid() -> None:
    assert identify(encoded(plain()).replace(b"1.2.3\0", b"1.2.3 "), EXPLICIT, complete=True) == WHO


def test_a_length_beyond_everything_ends_the_look() -> None:
    data = bytes.fromhex("08000500") + b"UN\0\0" + (0x7FFFFFFF).to_bytes(4, "little") + bytes(SCAN_LIMIT)
    with pytest.raises(UnidentifiableInstance):
        identify(data, EXPLICIT, complete=False)


def test_deep_nesting_ends_the_look_without_recursion() -> None:
    item = bytes.fromhex("08004011") + b"SQ\0\0" + b"\xff" * 4 + bytes.fromhex("feff00e0") + b"\xff" * 4
    with pytest.raises(UnidentifiableInstance, match="deep"):
        identify(item * 20000, EXPLICIT, complete=True)


def test_a_deflate_bomb_costs_no_more_than_the_limit() -> None:
    deflater = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    start = bytes.fromhex("08000500") + b"UN\0\0" + (1 << 30).to_bytes(4, "little")
    bomb = deflater.compress(start) + b"".join(deflater.compress(bytes(1 << 20)) for _ in range(64)) + deflater.flush()
    tracemalloc.start()
    with pytest.raises(UnidentifiableInstance):
        identify(bomb, DEFLATED, complete=True)
    assert tracemalloc.get_traced_memory()[1] < 4 * SCAN_LIMIT
    tracemalloc.stop()


def test_what_is_not_deflated_is_a_reason() -> None:
    with pytest.raises(UnidentifiableInstance, match="deflated"):
        identify(b"\xff" * 100, DEFLATED, complete=True)


def test_no_more_than_the_limit_is_looked_at() -> None:
    one = bytes.fromhex("08000500") + b"CS\0\0"
    with pytest.raises(UnidentifiableInstance):
        identify(one * (SCAN_LIMIT // 8) + encoded(plain()), EXPLICIT, complete=False)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_bytes_give_an_identity_a_reason_or_a_wish_for_more(data: st.DataObject) -> None:
    transfer_syntax = data.draw(st.sampled_from([IMPLICIT, EXPLICIT, DEFLATED]))
    base = bytearray(encoded(nested(data.draw(st.booleans())), transfer_syntax))
    for _ in range(data.draw(st.integers(0, 8))):
        position = data.draw(st.integers(0, len(base) - 1))
        match data.draw(st.sampled_from(["set", "insert", "delete"])):
            case "set":
                base[position] = data.draw(st.integers(0, 255))
            case "insert":
                base[position:position] = data.draw(st.binary(max_size=12))
            case _ if len(base) > 20:
                del base[position : position + data.draw(st.integers(1, 8))]
    try:
        found = identify(bytes(base), transfer_syntax, complete=data.draw(st.booleans()))
    except UnidentifiableInstance:
        return
    if found is not None:
        assert all(is_uid(uid) for uid in (found.sop_class_uid, found.sop_instance_uid, found.study_uid))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=2000), st.sampled_from([IMPLICIT, EXPLICIT, DEFLATED]))
def test_random_bytes_never_surprise(data: bytes, transfer_syntax: str) -> None:
    with contextlib.suppress(UnidentifiableInstance):
        identify(data, transfer_syntax, complete=True)


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


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
    with pytest.raises(UnidentifiableInstance, match="too large"):
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
