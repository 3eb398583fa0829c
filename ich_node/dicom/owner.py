"""Whose image is this? A study and a patient, as a header names them. Pure.

The node files results by what the images say of their owner, so images that say different things are never judged as
one series: reception parts them, and the pipeline refuses them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pydicom import Dataset

from ich_node.dicom.reading import text

KEYWORDS = ("StudyInstanceUID", "PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate")
"""All that `Owner.of` looks at."""
LONGEST = 64
"""Characters of LO, and of a component group of PN (PS3.5 6.2): what is behind them is not compared."""


@dataclass(frozen=True, slots=True)
class Owner:
    """A study and a patient. Blanks, empty name components and the case of names do not tell patients apart."""

    study_uid: str
    patient_id: str
    issuer: str
    name: str
    birth_date: str

    @classmethod
    def of(cls, header: Dataset) -> Owner:
        """As a header says it; what it leaves out is empty."""
        name = _cut(header, "PatientName").partition("=")[0].rstrip("^ ").casefold()
        patient_id, issuer = _cut(header, "PatientID"), _cut(header, "IssuerOfPatientID")
        return cls(text(header, "StudyInstanceUID"), patient_id, issuer, name, _cut(header, "PatientBirthDate"))


def owners(headers: Iterable[Dataset]) -> set[Owner]:
    """All owners that the headers name."""
    return {Owner.of(header) for header in headers}


def _cut(header: Dataset, keyword: str) -> str:
    return text(header, keyword)[:LONGEST].strip()
