"""SR documents around a tree of content items (PS3.3 A.35): identity, evidence, predecessor."""

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
from ich_node.report.sr.items import Container
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


def documents(
    context: ReportContext,
    root: Container,
    *,
    sop_class_uids: Sequence[str],
    role: str,
    series_role: str,
    series_number: int,
    series_description: str,
) -> tuple[Dataset, ...]:
    """An SR document around the container `root` (PS3.3 A.35) for each SOP Class: complete, unverified, with evidence.

    They share their elements but for their identity, and each corrects the earlier documents of these classes. The
    series is shared with those too, which is why nothing about the series depends on this one result: no date, no
    priority in its description.
    """
    source = context.analysis.headers[0]
    shared = Dataset()
    headers.stamp(shared, source, headers.Equipment.of(context.analysis.card, context.identity), context.made_at)
    del shared.SeriesDate, shared.SeriesTime
    shared.Modality = "SR"
    shared.SeriesInstanceUID = context.identity.lasting_series(series_role)
    shared.SeriesNumber = series_number
    shared.SeriesDescription = series_description
    shared.ReferencedPerformedProcedureStepSequence = []
    shared.PerformedProcedureCodeSequence = []
    shared.CompletionFlag = "COMPLETE"
    shared.VerificationFlag = "UNVERIFIED"
    shared.update(root.dataset())
    shared.CurrentRequestedProcedureEvidenceSequence = evidence(
        [Reference.to(header) for header in (*context.analysis.headers, *context.pictures)]
    )
    if requests := headers.referenced_requests(source):
        shared.ReferencedRequestSequence = requests
    _set_predecessor(shared, context.predecessor, sop_class_uids)
    return tuple(_of_class(shared, uid, context.identity.instance(role, uid)) for uid in sop_class_uids)


def _of_class(shared: Dataset, sop_class_uid: str, sop_instance_uid: str) -> Dataset:
    result = Dataset(dict(shared.items()))
    result.SOPClassUID = sop_class_uid
    result.SOPInstanceUID = sop_instance_uid
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
