"""Storage Commitment messages are read by one linear walk; what is none is refused before it costs anything."""

from __future__ import annotations

import struct

import pytest
from datasets import EXPLICIT, IMPLICIT, encoded
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.sequence import Sequence

from ich_node.dicom import commitment
from ich_node.dicom.commitment import MOST_REFERENCES, event_information, read_message

CT = "1.2.840.10008.5.1.4.1.1.2"
REFERENCES = ((CT, "1.2.3.1"), (CT, "1.2.3.2"))


def undefined(ds: Dataset) -> Dataset:
    for element in ds:
        if element.VR == "SQ":
            element.is_undefined_length = True
            for item in element.value:
                item.is_undefined_length_sequence_item = True
    return ds


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT])
@pytest.mark.parametrize("lengths", ["defined", "undefined"])
def test_what_is_written_is_read(syntax: str, lengths: str) -> None:
    ds = event_information("2.25.7", REFERENCES, {"1.2.3.2": 0x0112})
    ds.RetrieveAETitle = "HERE"
    data = encoded(undefined(ds) if lengths == "undefined" else ds, syntax)
    message = read_message(data, implicit=syntax == IMPLICIT)
    assert message.transaction_uid == "2.25.7"
    assert message.references == REFERENCES[:1]
    assert message.failed == ((*REFERENCES[1], 0x0112),)


def test_more_references_than_any_request_has_are_refused() -> None:
    item = b"\xfe\xff\x00\xe0\0\0\0\0"
    bomb = struct.pack("<HH2sHI", 8, 0x1199, b"SQ", 0, 8 * (MOST_REFERENCES + 1)) + item * (MOST_REFERENCES + 1)
    with pytest.raises(ValueError, match="too many"):
        read_message(bomb, implicit=False)


@pytest.mark.parametrize("shape", ["elements", "items", "elements in an item"])
def test_twice_the_bytes_take_twice_the_steps(shape: str, monkeypatch: pytest.MonkeyPatch) -> None:
    header, steps = commitment.element_header, [0]

    def counted(*arguments: object, **named: object) -> object:
        steps[0] += 1
        return header(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(commitment, "element_header", counted)

    def cost(count: int) -> int:
        steps[0] = 0
        empty, item = struct.pack("<HH2sH", 8, 0x55, b"AE", 0) * count, b"\xfe\xff\x00\xe0\0\0\0\0"
        inner = item * count if shape == "items" else item[:4] + struct.pack("<I", len(empty)) + empty
        sequence = struct.pack("<HH2sHI", 8, 0x1199, b"SQ", 0, len(inner)) + inner
        with pytest.raises(ValueError):
            read_message(empty if shape == "elements" else sequence, implicit=False)
        return steps[0]

    assert 1.9 < cost(4000) / cost(2000) < 2.1


@settings(max_examples=300)
@given(st.data())
def test_damage_is_read_or_refused(data: st.DataObject) -> None:
    base = bytearray(encoded(undefined(event_information("2.25.7", REFERENCES, {"1.2.3.2": 0x0112}))))
    for _ in range(data.draw(st.integers(1, 6))):
        base[data.draw(st.integers(0, len(base) - 1))] = data.draw(st.integers(0, 255))
    try:
        message = read_message(bytes(base[: data.draw(st.integers(0, len(base)))]), implicit=data.draw(st.booleans()))
    except ValueError:
        return
    assert all(commitment.is_uid(uid) for reference in message.references for uid in reference)


def test_a_dataset_of_something_else_is_refused() -> None:
    other = Dataset()
    other.PatientID, other.SourceImageSequence = "P1", Sequence([])
    with pytest.raises(ValueError):
        read_message(encoded(other), implicit=False)
