"""The SR document around a tree of content items (PS3.3 A.35): identity, evidence, predecessor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from ich_node.domain.findings import Analysis
from ich_node.report import headers
from ich_node.report.identifiers import Identity
from ich_node.report.sr.predecessor import Predecessor
from ich_node.report.sr.references import Reference, evidence


@dataclass(frozen=True, slots=True, eq=False)
class ReportContext:
    """What the reports of one analysis have in common. `pictures` are its secondary captures."""

    analysis: Analysis
    identity: Identity
    made_at: datetime
    series_number_base: int
    pictures: tuple[Dataset, ...]
    predecessor: Predecessor | None


def document(
    context: ReportContext,
    root: Dataset,
    *,
    sop_class_uid: str,
    replaces: Sequence[str],
    role: str,
    series_role: str,
    series_number: int,
    series_description: str,
) -> Dataset:
    """An SR document around the encoded container `root` (PS3.3 A.35): complete, unverified, with its evidence.

    `replaces` are the SOP Classes of earlier documents that this one corrects. The series is shared with them, which is
    why nothing about the series depends on this one result: no date, no priority in its description.
    """
    source = context.analysis.headers[0]
    result = Dataset()
    headers.stamp(result, source, headers.Equipment.of(context.analysis.card, context.identity), context.made_at)
    del result.SeriesDate, result.SeriesTime
    result.SOPClassUID = sop_class_uid
    result.SOPInstanceUID = context.identity.instance(role, sop_class_uid)
    result.Modality = "SR"
    result.SeriesInstanceUID = context.identity.lasting_series(series_role)
    result.SeriesNumber = series_number
    result.SeriesDescription = series_description
    result.ReferencedPerformedProcedureStepSequence = []
    result.PerformedProcedureCodeSequence = []
    result.CompletionFlag = "COMPLETE"
    result.VerificationFlag = "UNVERIFIED"
    result.update(root)
    result.CurrentRequestedProcedureEvidenceSequence = evidence(
        [Reference.to(header) for header in (*context.analysis.headers, *context.pictures)]
    )
    if requests := headers.referenced_requests(source):
        result.ReferencedRequestSequence = requests
    _set_predecessor(result, context.predecessor, replaces)
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
