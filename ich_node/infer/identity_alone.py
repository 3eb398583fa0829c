"""The last resort: headers that say who it is and nothing else. What a header says besides may be what an analysis
failed at, and a head CT that was acknowledged gets an answer, if only "not analysed, because …".

Where no header can be read, study, series and images are those of the job; the patient's ID is what reception's own
reader finds in the files, and empty when they are gone or disagree.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from pydicom import Dataset
from pydicom.uid import CTImageStorage

from ich_node.dicom.part10 import check_header
from ich_node.dicom.reading import drop_unreadable, sent_text
from ich_node.domain.errors import UnidentifiableInstance
from ich_node.domain.ledger import Job

KEPT = (
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "SpecificCharacterSet", "Modality"),
    *("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "StudyID", "StudyDescription", "AccessionNumber", "TimezoneOffsetFromUTC"),
    *("SeriesNumber", "SeriesDescription", "InstanceNumber"),
)
"""Text only, by which a reader, an archive and a worklist know the study; all of it is relayed as it came."""


def of(headers: Iterable[Dataset]) -> tuple[Dataset, ...]:
    """The same headers with nothing but KEPT, as far as it can be read."""
    reduced = []
    for header in headers:
        drop_unreadable(header)
        made = Dataset()
        for keyword in KEPT:
            if keyword in header:
                made[keyword] = header[keyword]
        made.sent_text = sent_text(header)
        reduced.append(made)
    return tuple(reduced)


def headers(job: Job, paths: Sequence[Path]) -> tuple[Dataset, ...]:
    """One header for each image of the job: identity and nothing else."""
    patient_ids = {patient_id for path in paths if (patient_id := _patient_id(path)) is not None}
    patient_id = patient_ids.pop() if len(patient_ids) == 1 else ""
    made = []
    for sop_instance_uid in job.sop_instance_uids:
        header = Dataset()
        header.SOPClassUID, header.SOPInstanceUID = CTImageStorage, sop_instance_uid.partition("~")[0]
        header.StudyInstanceUID, header.SeriesInstanceUID = job.study_uid, job.series_uid
        header.Modality, header.PatientID, header.PatientName = "CT", patient_id, ""
        made.append(header)
    return tuple(made)


def _patient_id(path: Path) -> str | None:
    """None when the file does not say, or in characters that mean something in its own character set only."""
    with suppress(OSError, UnidentifiableInstance, UnicodeDecodeError):
        if (identity := check_header(path).identity) is not None:
            return identity.patient_id.decode("ascii")
    return None
