"""Headers by the book: what is read without pydicom's detours is what pydicom reads, or it is left to pydicom."""

from __future__ import annotations

import warnings
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from datasets import CT, DEFLATED, EXPLICIT, IMPLICIT, encoded, nested, plain
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.dataelem import DataElement, RawDataElement

from ich_node.dicom.elements import Shared
from ich_node.dicom.part10 import check_header, file_head
from ich_node.domain.errors import UnidentifiableInstance

PIXELS = {EXPLICIT: b"\xe0\x7f\x10\x00OW\0\0\x08\0\0\0" + bytes(8), IMPLICIT: b"\xe0\x7f\x10\x00\x08\0\0\0" + bytes(8)}


def a_file(dataset: Dataset, syntax: str = EXPLICIT) -> bytes:
    return file_head(CT, "1.2.3.4", syntax) + encoded(dataset, syntax) + PIXELS[syntax]


def rich() -> Dataset:
    made = nested(True)
    made.SpecificCharacterSet = "ISO_IR 100"
    made.PatientName = "Müller^Jörg"
    made.ImagePositionPatient = [1, 2.5, -3]
    made.PixelPaddingValue = None
    block = made.private_block(0x0019, "ACME", create=True)
    block.add_new(1, "LO", "private")
    return made


def shown(header: Dataset) -> list[Any]:
    """Every element as it lies there, read or not."""
    header.get("SpecificCharacterSet")
    return [
        each._replace(value_tell=0) if isinstance(each, RawDataElement) else of_read(each) for each in header.elements()
    ]


def of_read(element: DataElement) -> tuple[Any, ...]:
    items = [shown(item) for item in element.value] if element.VR == "SQ" else str(element.value)
    return element.tag, element.VR, items, element.is_undefined_length


def read(path: Path, content: bytes) -> tuple[Dataset, int] | None:
    path.write_bytes(content)
    return check_header(path).dataset()


def same_as_pydicom(path: Path, content: bytes) -> bool:
    """False when it is left to pydicom."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mine = read(path, content)
        if mine is None:
            return False
        file = BytesIO(content)
        theirs = dcmread(file, stop_before_pixels=True, force=True)
        assert mine[1] == file.tell()
        assert shown(mine[0]) == shown(theirs)
        assert mine[0].original_encoding == theirs.original_encoding
        assert mine[0].original_character_set == theirs.original_character_set
    return True


@pytest.mark.parametrize("dataset", [plain(), nested(True), nested(False), rich()])
@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
def test_headers_by_the_book_are_read_as_pydicom_reads_them(tmp_path: Path, dataset: Dataset, syntax: str) -> None:
    assert same_as_pydicom(tmp_path / "a.dcm", a_file(dataset, syntax))


def test_names_in_other_characters_are_decoded_alike(tmp_path: Path) -> None:
    mine = read(tmp_path / "a.dcm", a_file(rich()))
    assert mine is not None
    assert mine[0].PatientName == "Müller^Jörg"


def test_only_what_is_asked_for_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(a_file(rich()))
    mine = check_header(path).dataset(["Rows", "PatientName"])
    assert mine is not None
    assert [each.keyword for each in mine[0]] == ["SpecificCharacterSet", "PatientName", "Rows"]


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
def test_sequences_that_nobody_asks_for_are_stepped_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, syntax: str
) -> None:
    """However many items they have: pydicom takes 40 µs for each."""
    unknown = Dataset()
    unknown.add_new(
        0x00091010, "UN", b"\xfe\xff\x00\xe0\xff\xff\xff\xff\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"
    )
    made = encoded(unknown, syntax).replace(b"\x18\0\0\0", b"\xff\xff\xff\xff", 1)  # a sequence of undefined length
    content = a_file(nested(True), syntax)
    at = content.index(b"\x20\0\x0d\0")
    path = tmp_path / "a.dcm"
    path.write_bytes(content[:at] + made + content[at:])
    with path.open("rb") as file:
        theirs = dcmread(file, stop_before_pixels=True, specific_tags=["SeriesInstanceUID"])
        pixels = file.tell()

    def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr("ich_node.dicom.elements.data_element_generator", never)
    mine = check_header(path).dataset(["SeriesInstanceUID"])
    assert mine is not None
    assert mine[1] == pixels
    assert shown(mine[0]) == shown(theirs)


def test_what_is_deflated_or_cut_off_is_left_to_pydicom(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(file_head(CT, "1.2.3.4", DEFLATED) + encoded(plain(), DEFLATED))
    assert check_header(path).dataset() is None
    assert read(path, a_file(plain())[:-20]) is None


@settings(max_examples=150)
@given(st.sampled_from([EXPLICIT, IMPLICIT]), st.integers(0, 1 << 16), st.binary(max_size=6), st.integers(0, 6))
def test_damaged_headers_are_read_as_pydicom_reads_them_or_left_to_it(
    tmp_path: Path, syntax: str, at: int, put: bytes, cut: int
) -> None:
    content = a_file(rich(), syntax)
    at = 132 + at % (len(content) - 132)
    with suppress(UnidentifiableInstance):
        same_as_pydicom(tmp_path / "a.dcm", content[:at] + put + content[at + cut :])


def test_what_two_images_say_in_the_same_bytes_is_decoded_once(tmp_path: Path) -> None:
    shared, headers = Shared(), []
    for number in (1, 2, 3):
        made = rich()
        made.InstanceNumber = number
        found = read(tmp_path / "a.dcm", a_file(made))
        assert found is not None
        shared.share(found[0])
        headers.append(found[0])
    second, third = headers[1:]
    assert isinstance(second.get_item("PatientName"), DataElement)
    assert second.get_item("PatientName") is third.get_item("PatientName")
    assert isinstance(third.get_item("InstanceNumber"), RawDataElement)
    assert [header.InstanceNumber for header in headers] == [1, 2, 3]
    assert all(header.PatientName == "Müller^Jörg" for header in headers)


def test_the_same_bytes_in_another_character_set_are_another_text(tmp_path: Path) -> None:
    shared, headers = Shared(), []
    for term in ("ISO_IR 100", "ISO_IR 144", "ISO_IR 144"):
        made = rich()
        content = a_file(made).replace(b"ISO_IR 100", term.encode())
        found = read(tmp_path / "a.dcm", content)
        assert found is not None
        shared.share(found[0])
        headers.append(found[0])
    assert headers[0].PatientName != headers[1].PatientName
    assert headers[1].PatientName == headers[2].PatientName


def test_a_value_that_cannot_be_read_is_shared_with_nobody(tmp_path: Path) -> None:
    shared = Shared()
    for _ in range(3):
        found = read(tmp_path / "a.dcm", a_file(rich()).replace(b"US\x02\0\0\x02", b"US\x03\0\0\x02\0"))
        assert found is not None
        shared.share(found[0])
        assert isinstance(found[0].get_item("Rows"), RawDataElement)
