"""A file of a result is, byte for byte, what pydicom alone would write."""

import io

import pytest
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.filewriter import correct_ambiguous_vr
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, SecondaryCaptureImageStorage

from ich_node.report import encoding


def by_pydicom(dataset):
    correct_ambiguous_vr(dataset, is_little_endian=True)
    dataset.set_original_encoding(False, True, dataset._character_set)
    buffer = io.BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def item(**attributes):
    made = Dataset()
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return made


def result(character_set, sequence):
    made = item(SOPClassUID=SecondaryCaptureImageStorage, SOPInstanceUID="1.2.3", PatientName="Doe^Jane")
    if character_set is not None:
        made.SpecificCharacterSet = character_set
    made.ContentSequence = sequence
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return made


ITEMS = {
    "texts": item(TextValue="odd", UID="1.2.840.1", CodeValue="1234", CodeMeaning="A\\B", ContentDate="20260101"),
    "empty": item(TextValue="", CodeValue=None, PersonName="", ReferencedSOPSequence=[]),
    "numbers": item(GraphicData=[0.5, 1.25], NumericValue="12.5", ReferencedFrameNumber=[1, 2], Rows=3),
    "long": item(TextValue="x" * 70_001, CodeValue="y"),
    "private": item(CodeMeaning="a"),
    "nested": item(ContentSequence=[item(ConceptCodeSequence=[item(CodeMeaning="abc", CodeValue="x")]), item()]),
    "foreign letters": item(TextValue="Größe ≥ 3", PersonName="Müller^Jörg", CodeMeaning="naïve"),
    "a character set of its own": item(SpecificCharacterSet="ISO_IR 192", TextValue="Größe"),
    "several values": item(SoftwareVersions=["one", "three"], ReferencedSOPClassUID=["1.2", "1.2.3"]),
}
ITEMS["private"].private_block(0x0099, "SOMEBODY", create=True).add_new(1, "UN", b"\1\2\3\4")


@pytest.mark.parametrize("character_set", [None, "", "ISO_IR 100", "ISO_IR 192", ["", "ISO 2022 IR 87"]])
@pytest.mark.parametrize("name", ITEMS)
@pytest.mark.filterwarnings("ignore")
def test_items_that_were_made_here(name, character_set):
    assert encoding.part10(result(character_set, [ITEMS[name], ITEMS["texts"]])) == by_pydicom(
        result(character_set, [ITEMS[name], ITEMS["texts"]])
    )


@pytest.mark.parametrize("decoded", [False, True])
@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_items_that_were_read_from_a_file(syntax, undefined, decoded):
    inner = item(CodeMeaning="Größe", TextValue="odd", SmallestImagePixelValue=3)
    sent = result("ISO_IR 100", [item(ConceptCodeSequence=[inner], ValueType="TEXT")])
    sent.file_meta.TransferSyntaxUID = syntax
    sent.ContentSequence[0].is_undefined_length_sequence_item = undefined
    sent.ContentSequence[0]["ConceptCodeSequence"].is_undefined_length = undefined
    sent.PixelRepresentation = 0
    buffer = io.BytesIO()
    dcmwrite(buffer, sent, enforce_file_format=True)

    def answer():
        source = dcmread(io.BytesIO(buffer.getvalue()))
        if decoded:
            for _ in source.iterall():
                pass
        made = result("ISO_IR 100", [])
        made.ReferencedStudySequence = [item(ContentSequence=source.ContentSequence, TextValue="é")]
        made["ContentSequence"] = source["ContentSequence"]
        made.PixelRepresentation = 0
        return made

    assert encoding.part10(answer()) == by_pydicom(answer())


def test_what_datasets_share_is_written_once_and_alike():
    known = {}
    one = result("ISO_IR 100", [ITEMS["nested"]])
    other = result("ISO_IR 100", [])
    other["ContentSequence"] = one["ContentSequence"]
    assert encoding.part10(one, known) == encoding.part10(other, known) == by_pydicom(other)
    assert len(known) == 1
