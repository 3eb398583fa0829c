"""The earlier result that a corrected one replaces, as the corrected reports name it.

In: headers of the SR documents that went out before. Out: items of Predecessor Documents Sequence (PS3.3 C.17.2).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pydicom import Dataset

from ich_node.report.sr.codes import BASIC_TEXT_SR, MEASUREMENT_REPORT_SRS


@dataclass(frozen=True, slots=True)
class Document:
    """One SR document that was sent."""

    study_uid: str
    series_uid: str
    sop_class_uid: str
    sop_instance_uid: str
    instance_number: int = 1
    made_at: str = ""


@dataclass(frozen=True, slots=True)
class Predecessor:
    """The SR documents of the earlier result, in the form in which they went out."""

    documents: tuple[Document, ...]

    @classmethod
    def of(cls, headers: Iterable[Dataset]) -> Predecessor:
        """From the earlier result's objects or their headers; what is no report of ours is passed over."""
        reports = {BASIC_TEXT_SR, *MEASUREMENT_REPORT_SRS}
        return cls(tuple(_document(header) for header in headers if header.SOPClassUID in reports))

    @property
    def made_at(self) -> str:
        """When the earlier result was made, YYYY-MM-DD HH:MM on the clock of the study; empty when not known."""
        return max((document.made_at for document in self.documents), default="")

    def last_number(self, sop_class_uids: Iterable[str]) -> int:
        """The highest Instance Number among the documents of these SOP Classes; 0 without any."""
        wanted = set(sop_class_uids)
        return max((d.instance_number for d in self.documents if d.sop_class_uid in wanted), default=0)

    def items(self, sop_class_uids: Iterable[str]) -> list[Dataset]:
        """Predecessor Documents Sequence: the documents of these SOP Classes, by study and series; [] without any."""
        wanted = set(sop_class_uids)
        grouped: dict[tuple[str, str], list[Dataset]] = {}
        for document in self.documents:
            if document.sop_class_uid in wanted:
                key = (document.study_uid, document.series_uid)
                grouped.setdefault(key, []).append(_reference(document.sop_class_uid, document.sop_instance_uid))
        return hierarchical(grouped)


def hierarchical(grouped: dict[tuple[str, str], list[Dataset]]) -> list[Dataset]:
    """(study, series) → references as the items of a Hierarchical SOP Instance Reference (PS3.3 C.17.2.1)."""
    studies: dict[str, Dataset] = {}
    for (study_uid, series_uid), references in grouped.items():
        if study_uid not in studies:
            studies[study_uid] = Dataset()
            studies[study_uid].StudyInstanceUID = study_uid
            studies[study_uid].ReferencedSeriesSequence = []
        series = Dataset()
        series.SeriesInstanceUID = series_uid
        series.ReferencedSOPSequence = references
        studies[study_uid].ReferencedSeriesSequence.append(series)
    return list(studies.values())


def _document(header: Dataset) -> Document:
    return Document(
        str(header.StudyInstanceUID),
        str(header.SeriesInstanceUID),
        str(header.SOPClassUID),
        str(header.SOPInstanceUID),
        int(header.get("InstanceNumber") or 1),
        _moment(header),
    )


def _moment(header: Dataset) -> str:
    date, time = (str(header.get(keyword) or "") for keyword in ("ContentDate", "ContentTime"))
    whole = len(date) == 8 and len(time) >= 4  # DA and TM as we write them
    return f"{date[:4]}-{date[4:6]}-{date[6:]} {time[:2]}:{time[2:4]}" if whole else ""


def _reference(sop_class_uid: str, sop_instance_uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = sop_class_uid
    item.ReferencedSOPInstanceUID = sop_instance_uid
    return item
