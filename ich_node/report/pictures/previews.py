"""Results for eyes without a DICOM viewer: every picture as PNG, the text report as text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image
from pydicom import Dataset
from pydicom.uid import BasicTextSRStorage, SecondaryCaptureImageStorage


def write(objects: Sequence[Dataset], out: Path) -> list[Path]:
    """Write `picture-NN.png` for each secondary capture and `report.txt` for the text report; returns the paths."""
    paths = []
    pictures = [item for item in objects if item.SOPClassUID == SecondaryCaptureImageStorage]
    for number, item in enumerate(pictures, start=1):
        paths.append(out / f"picture-{number:02d}.png")
        Image.fromarray(item.pixel_array).save(paths[-1])
    for item in objects:
        if item.SOPClassUID == BasicTextSRStorage:
            paths.append(out / "report.txt")
            paths[-1].write_text("\n".join(text_lines(item)) + "\n", encoding="utf-8")
    return paths


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
