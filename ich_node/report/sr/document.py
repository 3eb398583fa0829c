"""Content items and the SR document around them: the encoding of PS3.3 C.17, without an opinion on what is said.

In: codes, words, references. Out: datasets. An item is made with its relationship to its parent, and with its children.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian

from ich_node.domain.findings import Analysis
from ich_node.report import headers
from ich_node.report.identifiers import Identity
from ich_node.report.sr.predecessor import Predecessor, hierarchical

CONTAINS, OBSERVED, MODIFIES = "CONTAINS", "HAS OBS CONTEXT", "HAS CONCEPT MOD"
INFERRED, SELECTED = "INFERRED FROM", "SELECTED FROM"


# --- content items -------------------------------------------------------------------------------------------------


def container(name: Code, children: Sequence[Dataset], *, template: str = "", related: str = CONTAINS) -> Dataset:
    """CONTAINER of separate items (PS3.3 C.18.8); `template` is its TID."""
    item = _item("CONTAINER", name, related, children)
    item.ContinuityOfContent = "SEPARATE"
    if template:
        identification = Dataset()
        identification.MappingResource = "DCMR"
        identification.TemplateIdentifier = template
        item.ContentTemplateSequence = [identification]
    return item


def text(name: Code, value: str, *, related: str = CONTAINS) -> Dataset:
    """TEXT; the value must fit the character set of the document."""
    item = _item("TEXT", name, related)
    item.TextValue = value
    return item


def code(name: Code, value: Code, children: Sequence[Dataset] = (), *, related: str = CONTAINS) -> Dataset:
    """CODE."""
    item = _item("CODE", name, related, children)
    item.ConceptCodeSequence = [headers.code_item(value)]
    return item


def number(name: Code, value: str, unit: Code, children: Sequence[Dataset] = ()) -> Dataset:
    """NUM; `value` as a decimal string (PS3.3 C.18.1)."""
    item = _item("NUM", name, CONTAINS, children)
    measured = Dataset()
    measured.NumericValue = value
    measured.MeasurementUnitsCodeSequence = [headers.code_item(unit)]
    item.MeasuredValueSequence = [measured]
    return item


def uid_reference(name: Code, value: str, *, related: str = OBSERVED) -> Dataset:
    """UIDREF."""
    item = _item("UIDREF", name, related)
    item.UID = value
    return item


def image(name: Code | None, reference: Reference, *, related: str = CONTAINS) -> Dataset:
    """IMAGE (PS3.3 C.18.4)."""
    item = _item("IMAGE", name, related)
    item.ReferencedSOPSequence = [reference.item()]
    return item


def outline(name: Code | None, polygon: npt.NDArray[np.float64], on: Reference, *, related: str = CONTAINS) -> Dataset:
    """SCOORD: a closed POLYLINE [points, 2] (column, row; centre of the first pixel 0.5, 0.5) on an image."""
    item = _item("SCOORD", name, related, [image(None, on, related=SELECTED)])
    item.GraphicType = "POLYLINE"
    item.GraphicData = [float(value) for value in np.asarray(polygon, np.float32).ravel()]
    return item


def _item(value_type: str, name: Code | None, related: str, children: Sequence[Dataset] = ()) -> Dataset:
    item = Dataset()
    if related:
        item.RelationshipType = related
    item.ValueType = value_type
    if name is not None:
        item.ConceptNameCodeSequence = [headers.code_item(name)]
    if children:
        item.ContentSequence = list(children)
    return item


# --- references ----------------------------------------------------------------------------------------------------


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


# --- document ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """What the reports of one analysis have in common. `pictures` are its secondary captures."""

    analysis: Analysis
    identity: Identity
    made_at: datetime
    series_number_base: int
    pictures: tuple[Dataset, ...]
    predecessor: Predecessor | None


def document(
    frame: Frame,
    root: Dataset,
    *,
    sop_class_uid: str,
    replaces: Sequence[str],
    role: str,
    series_role: str,
    series_number: int,
    series_description: str,
) -> Dataset:
    """An SR document around the container `root` (PS3.3 A.35): complete, unverified, with its evidence.

    `replaces` are the SOP Classes of earlier documents that this one corrects. The series is shared with them, which is
    why nothing about the series depends on this one result: no date, no priority in its description.
    """
    source = frame.analysis.headers[0]
    result = Dataset()
    headers.stamp(result, source, headers.Equipment.of(frame.analysis.card, frame.identity), frame.made_at)
    del result.SeriesDate, result.SeriesTime
    result.SOPClassUID = sop_class_uid
    result.SOPInstanceUID = frame.identity.instance(role, sop_class_uid)
    result.Modality = "SR"
    result.SeriesInstanceUID = frame.identity.lasting_series(series_role)
    result.SeriesNumber = series_number
    result.SeriesDescription = series_description
    result.ReferencedPerformedProcedureStepSequence = []
    result.PerformedProcedureCodeSequence = []
    result.CompletionFlag = "COMPLETE"
    result.VerificationFlag = "UNVERIFIED"
    result.update(root)
    result.CurrentRequestedProcedureEvidenceSequence = evidence(
        [Reference.to(header) for header in (*frame.analysis.headers, *frame.pictures)]
    )
    if requests := headers.referenced_requests(source):
        result.ReferencedRequestSequence = requests
    _set_predecessor(result, frame.predecessor, replaces)
    result.file_meta = FileMetaDataset()
    result.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    result.file_meta.MediaStorageSOPClassUID = result.SOPClassUID
    result.file_meta.MediaStorageSOPInstanceUID = result.SOPInstanceUID
    return result


def _set_predecessor(result: Dataset, predecessor: Predecessor | None, replaces: Sequence[str]) -> None:
    """Name the corrected document, and count on in its series."""
    result.InstanceNumber = 1 if predecessor is None else predecessor.last_number(replaces) + 1
    if predecessor is not None and (items := predecessor.items(replaces)):
        result.PredecessorDocumentsSequence = items
