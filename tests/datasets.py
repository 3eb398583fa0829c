"""Small datasets and their bytes, for tests that look at encodings."""

from __future__ import annotations

import zlib

from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence

CT = "1.2.840.10008.5.1.4.1.1.2"
IMPLICIT, EXPLICIT, DEFLATED = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99"


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
