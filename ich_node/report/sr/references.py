"""References from a report to images, and to what it was made from (PS3.3 C.17.2)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pydicom import Dataset

from ich_node.report.sr.predecessor import hierarchical


@dataclass(frozen=True, slots=True)
class Reference:
    """An image, or one frame of it, that a report points at."""

    study_uid: str
    series_uid: str
    sop_class_uid: str
    sop_instance_uid: str
    frame_number: int | None = None

    @classmethod
    def to(cls, header: Dataset, frame_number: int | None = None) -> Reference:
        """To the instance with this header."""
        return cls(
            str(header.StudyInstanceUID),
            str(header.SeriesInstanceUID),
            str(header.SOPClassUID),
            str(header.SOPInstanceUID),
            frame_number,
        )

    def item(self) -> Dataset:
        """As an item of Referenced SOP Sequence."""
        item = Dataset()
        item.ReferencedSOPClassUID = self.sop_class_uid
        item.ReferencedSOPInstanceUID = self.sop_instance_uid
        if self.frame_number is not None:
            item.ReferencedFrameNumber = self.frame_number
        return item


def evidence(references: Iterable[Reference]) -> list[Dataset]:
    """Current Requested Procedure Evidence Sequence: each instance once (PS3.3 C.17.2.1)."""
    grouped: dict[tuple[str, str], dict[str, Dataset]] = {}
    for reference in references:
        series = grouped.setdefault((reference.study_uid, reference.series_uid), {})
        whole = Reference(
            reference.study_uid, reference.series_uid, reference.sop_class_uid, reference.sop_instance_uid
        )
        series.setdefault(reference.sop_instance_uid, whole.item())
    return hierarchical({key: list(items.values()) for key, items in grouped.items()})
