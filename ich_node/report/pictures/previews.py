"""Results for eyes without a DICOM viewer: every picture as PNG, the text report as text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from io import BytesIO

from PIL import Image
from pydicom import Dataset
from pydicom.uid import BasicTextSRStorage, SecondaryCaptureImageStorage


def encode(objects: Sequence[Dataset]) -> dict[str, bytes]:
    """Files by name: `picture-NN.png` for each secondary capture and `report.txt` for the text report."""
    files = {}
    pictures = [item for item in objects if item.SOPClassUID == SecondaryCaptureImageStorage]
    for number, item in enumerate(pictures, start=1):
        data = BytesIO()
        Image.fromarray(item.pixel_array).save(data, "PNG")
        files[f"picture-{number:02d}.png"] = data.getvalue()
    for item in objects:
        if item.SOPClassUID == BasicTextSRStorage:
            files["report.txt"] = ("\n".join(text_lines(item)) + "\n").encode()
    return files


def text_lines(report: Dataset) -> list[str]:
    """What a Basic Text SR says, one line per heading or paragraph."""
    title = report.ConceptNameCodeSequence[0].CodeMeaning
    return [title, "=" * len(title), *_lines(report.ContentSequence)]


def _lines(items: Iterable[Dataset]) -> Iterable[str]:
    for item in items:
        name = item.ConceptNameCodeSequence[0].CodeMeaning if "ConceptNameCodeSequence" in item else ""
        if item.ValueType == "CONTAINER":
            yield from ("", name, "-" * len(name))
        elif item.ValueType == "TEXT" and item.RelationshipType == "CONTAINS":
            yield item.TextValue
        elif item.ValueType == "CODE" and item.RelationshipType == "CONTAINS":
            yield f"{name}: {item.ConceptCodeSequence[0].CodeMeaning}"
        if item.ValueType == "CONTAINER":
            yield from _lines(item.get("ContentSequence", ()))
