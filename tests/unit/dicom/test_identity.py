"""Who an instance says it is: one reading, whatever the encoding, the order, the pieces and the intent."""

from __future__ import annotations

import contextlib
import random
import struct
import tracemalloc
import warnings
import zlib
from collections import Counter
from functools import cache
from io import BytesIO

import pytest
from attack_form import form
from datasets import CT, DEFLATED, EXPLICIT, IMPLICIT, encoded, nested, plain
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.config import disable_value_validation

from ich_node.dicom import identity as identities
from ich_node.dicom.identity import MOST_ELEMENTS, Contradiction, Identity, IdentityReader, identify, is_uid
from ich_node.dicom.part10 import UID_KEYWORDS, agree, file_head
from ich_node.domain.errors import UnidentifiableInstance

WHO = Identity(CT, "1.2.3.4", "1.2", "1.2.3")
PIXELS = struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OW", 0, 8) + bytes(8)


def element(tag: int, vr: bytes, value: bytes) -> bytes:
    """Explicit VR with a length of two bytes, whatever the VR."""
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value


def elements(ds: Dataset) -> list[bytes]:
    """The elements of a dataset, each by itself."""
    return [encoded(ds[tag : tag + 1]) for tag in ds.keys()]  # noqa: SIM118  pydicom's keys


@pytest.mark.parametrize("transfer_syntax", [IMPLICIT, EXPLICIT, DEFLATED])
@pytest.mark.parametrize("undefined", [False, True])
def test_uids_are_found_behind_sequences_of_every_shape(transfer_syntax: str, undefined: bool) -> None:
    assert identify(encoded(nested(undefined), transfer_syntax), transfer_syntax) == WHO


def test_uids_inside_sequences_are_not_taken() -> None:
    ds = nested(undefined=True)
    del ds.SOPInstanceUID
    with pytest.raises(UnidentifiableInstance, match=r"0008,0018"):
        identify(encoded(ds), EXPLICIT)


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
    assert identify(encoded(head) + unknown + encoded(tail), EXPLICIT) == WHO


def test_the_end_of_the_dataset_before_its_uids_is_a_reason() -> None:
    with pytest.raises(UnidentifiableInstance, match="ends before"):
        identify(encoded(plain())[:60], EXPLICIT)


@pytest.mark.parametrize("keyword", ["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"])
def test_each_of_the_four_uids_is_needed(keyword: str) -> None:
    ds = plain()
    delattr(ds, keyword)
    with pytest.raises(UnidentifiableInstance, match="has no"):
        identify(encoded(ds), EXPLICIT)


@pytest.mark.parametrize("value", [b"../../etc", b"1..2", b"", b"1.2\n3", b"\xff\xfe", b"1" * 65])
def test_a_uid_that_is_none_is_a_reason(value: bytes) -> None:
    ds = plain()
    del ds.SeriesInstanceUID
    value += b"\0" * (len(value) % 2)
    data = encoded(ds[:0x00200000]) + bytes.fromhex("20000d00") + b"UI\4\x001.2\0"
    data += bytes.fromhex("20000e00") + b"UI" + len(value).to_bytes(2, "little") + value
    with pytest.raises(UnidentifiableInstance):
        identify(data, EXPLICIT)


def test_padding_with_blanks_or_zeros_is_no_part_of_a_uid() -> None:
    assert identify(encoded(plain()).replace(b"1.2.3\0", b"1.2.3 "), EXPLICIT) == WHO


def test_deep_nesting_ends_the_look_without_recursion() -> None:
    item = bytes.fromhex("08004011") + b"SQ\0\0" + b"\xff" * 4 + bytes.fromhex("feff00e0") + b"\xff" * 4
    with pytest.raises(UnidentifiableInstance, match="deep"):
        identify(item * 20000, EXPLICIT)


def test_what_is_not_deflated_is_a_reason() -> None:
    with pytest.raises(UnidentifiableInstance, match="deflated"):
        identify(b"\xff" * 100, DEFLATED)


@settings(max_examples=200)
@given(st.data())
def test_pieces_of_any_size_give_the_same_identity(data: st.DataObject) -> None:
    transfer_syntax = data.draw(st.sampled_from([IMPLICIT, EXPLICIT, DEFLATED]))
    whole = encoded(nested(data.draw(st.booleans())), transfer_syntax)
    reader, rest = IdentityReader(transfer_syntax), whole
    while rest:
        count = data.draw(st.integers(1, 40))
        reader.feed(rest[:count])
        rest = rest[count:]
    assert reader.finish() == WHO


def test_order_does_not_matter() -> None:
    parts = elements(plain())
    for seed in range(20):
        random.Random(seed).shuffle(parts)
        assert identify(b"".join(parts) + PIXELS, EXPLICIT) == WHO


@pytest.mark.parametrize("vr", [b"??", b"  ", b"\0\0", b"--", b"lo", b"1A"])
def test_an_element_of_a_vr_that_nobody_knows_is_skipped(vr: bytes) -> None:
    assert identify(element(0x00091001, vr, b"ABCD") + encoded(plain()), EXPLICIT) == WHO


def test_a_vr_of_the_future_has_a_long_length() -> None:
    future = struct.pack("<HH2sHI", 9, 0x1001, b"ZZ", 0, 70000) + bytes(70000)
    assert identify(future + encoded(plain()), EXPLICIT) == WHO


def test_megabytes_before_the_uids_are_passed_over() -> None:
    ballast = struct.pack("<HH2sHI", 9, 0x1010, b"OB", 0, 5 << 20) + bytes(5 << 20)
    assert identify(ballast + encoded(plain()), EXPLICIT) == WHO


@pytest.mark.parametrize("padded", [b" 1.2.3", b"1.2.3\n", b"1.2.3\t", b"  1.2.3 "])
def test_what_stands_round_a_uid_is_no_part_of_it(padded: bytes) -> None:
    parts = encoded(plain()[:0x0020000E]) + element(0x0020000E, b"UI", padded)
    assert identify(parts, EXPLICIT) == WHO


# --- two things said -----------------------------------------------------------------------------------------------

TWICE = {
    0x00080016: b"1.2.840.10008.5.1.4.1.1.7",
    0x00080018: b"9.9",
    0x0020000D: b"9.9",
    0x0020000E: b"9.9",
    0x00100010: b"VICTIM^A",
    0x00100020: b"VICTIM",
    0x00100021: b"OTHER",
    0x00100030: b"19700101",
    0x00080050: b"A2",
}


def patient() -> Dataset:
    ds = plain()
    ds.AccessionNumber, ds.PatientID, ds.IssuerOfPatientID, ds.PatientBirthDate = "A1", "P1", "HERE", "19500101"
    return ds


@pytest.mark.parametrize("where", ["first", "behind the original", "last", "behind the pixels"])
@pytest.mark.parametrize("tag", TWICE, ids=lambda tag: f"{tag:08X}")
def test_a_dataset_that_says_two_things_about_whose_it_is_is_refused(tag: int, where: str) -> None:
    parts = elements(patient())
    place = {
        "first": 0,
        "behind the original": 1
        + next(i for i, part in enumerate(parts) if part[:4] == struct.pack("<HH", tag >> 16, tag & 0xFFFF)),
        "last": len(parts),
        "behind the pixels": len(parts) + 1,
    }[where]
    parts = [*parts, PIXELS]
    parts.insert(place, element(tag, b"UI" if tag & 0xFFFF0000 != 0x00100000 else b"LO", TWICE[tag]))
    with pytest.raises(Contradiction):
        identify(b"".join(parts), EXPLICIT)


def test_the_same_thing_said_twice_is_no_contradiction() -> None:
    data = encoded(patient())
    assert identify(data + data, EXPLICIT).patient_id == b"P1"


def test_a_patient_who_is_named_behind_the_pixels_only_is_refused() -> None:
    with pytest.raises(Contradiction, match="behind the pixels"):
        identify(encoded(plain()) + PIXELS + element(0x00100020, b"LO", b"VICTIM"), EXPLICIT)


def test_what_a_sequence_says_is_not_said_of_the_instance() -> None:
    ds = patient()
    item = Dataset()
    item.PatientID, item.StudyInstanceUID = "MOTHER", "7.7"
    ds.ReferencedPatientSequence = [item]
    assert identify(encoded(ds), EXPLICIT) == identify(encoded(patient()), EXPLICIT)


# --- cost ----------------------------------------------------------------------------------------------------------


def test_a_length_beyond_everything_is_a_reason() -> None:
    data = bytes.fromhex("08000500") + b"UN\0\0" + (0x7FFFFFFF).to_bytes(4, "little") + bytes(1 << 20)
    with pytest.raises(UnidentifiableInstance, match="ends before"):
        identify(data, EXPLICIT)


def test_a_deflate_bomb_keeps_nothing_and_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identities, "LONGEST_INFLATED", 8 << 20)
    deflater = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    start = bytes.fromhex("08000500") + b"UN\0\0" + (1 << 30).to_bytes(4, "little")
    bomb = deflater.compress(start) + b"".join(deflater.compress(bytes(1 << 20)) for _ in range(64)) + deflater.flush()
    tracemalloc.start()
    with pytest.raises(UnidentifiableInstance, match="inflates"):
        identify(bomb, DEFLATED)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


SHAPES = {
    "empty elements": struct.pack("<HH2sH", 9, 0x1001, b"LO", 0),
    "unknown VRs": struct.pack("<HH2sH", 9, 0x1001, b"??", 0),
    "empty sequences": struct.pack("<HH2sHI", 9, 0x1001, b"SQ", 0, 0xFFFFFFFF) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0),
    "one UID again and again": element(0x0020000E, b"UI", b"1.2.3"),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_twice_the_input_takes_twice_the_steps(shape: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def steps(count: int) -> int:
        reader, done = IdentityReader(EXPLICIT), 0
        data = SHAPES[shape] * count + encoded(plain())
        for start in range(0, len(data), 4096):
            reader.feed(data[start : start + 4096])
        done = reader._elements
        assert reader.finish() == WHO
        return done

    few, many = steps(2000), steps(4000)
    assert 1.9 < (many - 30) / (few - 30) < 2.1


def test_elements_without_end_have_one() -> None:
    with pytest.raises(UnidentifiableInstance, match="more elements"):
        identify(SHAPES["empty elements"] * (MOST_ELEMENTS + 1) + encoded(plain()), EXPLICIT)


# --- agreement with pydicom ----------------------------------------------------------------------------------------


def mutated(r: random.Random, transfer_syntax: str) -> bytes:
    """A dataset with elements doubled, moved, forged and damaged."""
    shape = (r.random() < 0.5, r.randrange(1, 4)) if r.random() < 0.5 else None
    parts = [*_base(transfer_syntax, shape)]
    for _ in range(r.randrange(4)):
        match r.randrange(6):
            case 0:
                parts.insert(r.randrange(len(parts) + 1), r.choice(parts))
            case 1:
                tag = r.choice(list(TWICE))
                parts.insert(r.randrange(len(parts) + 1), _forged(tag, transfer_syntax))
            case 2:
                r.shuffle(parts)
            case 3:
                i = r.randrange(len(parts))
                damaged = bytearray(parts[i])
                damaged[r.randrange(len(damaged))] = r.choice((0, 1, 0x20, 0x7F, 0xFF, r.randrange(256)))
                parts[i] = bytes(damaged)
            case 4:
                inner = b"".join(parts[: r.randrange(len(parts))])
                item = struct.pack("<HHI", 0xFFFE, 0xE000, len(inner) + r.choice((0, 0, -2, 8)) & 0xFFFFFFFF) + inner
                vr = r.choice((b"SQ", b"UN", b"OB"))
                head = struct.pack("<HH2sHI", 9, 0x1010, vr, 0, 0xFFFFFFFF)
                if transfer_syntax == IMPLICIT:
                    head = struct.pack("<HHI", 9, 0x1010, 0xFFFFFFFF)
                end = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
                parts.insert(r.randrange(len(parts) + 1), head + item + end)
            case _:
                i = r.randrange(len(parts))
                cut = r.randrange(len(parts[i]) + 1)
                parts[i] = parts[i][:cut] + r.randbytes(r.randrange(3)) + parts[i][cut:]
    return b"".join(parts)


@cache
def _base(transfer_syntax: str, shape: tuple[bool, int] | None) -> tuple[bytes, ...]:
    """The elements of an honest dataset; shape: of its sequences, see `nested`."""
    ds = patient()
    if shape is not None:
        ds.update(nested(*shape))
    ds.add_new(0x7FE00010, "OW", bytes(16))
    return tuple(encoded(ds[tag : tag + 1], transfer_syntax) for tag in ds.keys())  # noqa: SIM118


@cache
def _forged(tag: int, transfer_syntax: str) -> bytes:
    ds = Dataset()
    ds.add_new(tag, "UI", "1.2.3.4.5")
    return encoded(ds, transfer_syntax)


def as_pydicom_reads(number: int) -> str:
    """What becomes of a forged header, by its number: refused, disputed when it is compared, or read alike."""
    r = random.Random(f"identity-{number}")
    transfer_syntax = r.choice((IMPLICIT, EXPLICIT))
    data = mutated(r, transfer_syntax)
    try:
        who = identify(data, transfer_syntax)
    except UnidentifiableInstance:
        return "refused"
    file = BytesIO(file_head(CT, who.sop_instance_uid, transfer_syntax) + data)
    try:
        with warnings.catch_warnings(), disable_value_validation():
            warnings.simplefilter("ignore")
            header = dcmread(file, stop_before_pixels=True)
            agree(header, who)
            uids = tuple(str(header[keyword].value) for keyword in UID_KEYWORDS)
            patient_id = str(header.get("PatientID") or "").strip(identities.PADDING.decode())
    except Exception:
        return "disputed"
    assert uids == (who.sop_class_uid, who.sop_instance_uid, who.study_uid, who.series_uid)
    if who.patient_id.isalnum():
        assert patient_id == who.patient_id.decode()
    return "read"


def test_pydicom_never_reads_another_identity_than_we_stored() -> None:
    """What is accepted is read alike by pydicom, or refused when it is compared."""
    outcomes = Counter(as_pydicom_reads(number) for number in range(form(short=3000, long=1_000_000)))
    assert outcomes["read"] > outcomes["refused"] / 10
    assert outcomes["refused"] > 0


@settings(max_examples=200)
@given(st.binary(max_size=2000), st.sampled_from([IMPLICIT, EXPLICIT, DEFLATED]))
def test_random_bytes_never_surprise(data: bytes, transfer_syntax: str) -> None:
    with contextlib.suppress(UnidentifiableInstance):
        assert is_uid(identify(data, transfer_syntax).series_uid)
