"""Whose images: what tells patients apart, and what does not."""

from __future__ import annotations

import pytest
from pydicom import Dataset

from ich_node.dicom.owner import Owner, owners


def image(**changes: object) -> Dataset:
    header = Dataset()
    header.StudyInstanceUID, header.PatientID, header.PatientName = "1.2", "4711", "Doe^John"
    for keyword, value in changes.items():
        setattr(header, keyword, value)
    return header


@pytest.mark.parametrize(
    "changes",
    [
        {"PatientID": " 4711 "},
        {"PatientName": "DOE^JOHN^^^"},
        {"PatientName": "Doe^John=山田^太郎"},
        {"AccessionNumber": "A1"},
    ],
)
def test_ways_of_writing_one_patient_are_one_owner(changes: dict[str, object]) -> None:
    assert len(owners([image(), image(**changes)])) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"PatientID": "4712"},
        {"PatientID": ""},
        {"IssuerOfPatientID": "OTHER HOSPITAL"},
        {"PatientName": "Meier^Anna"},
        {"PatientBirthDate": "19010101"},
        {"StudyInstanceUID": "1.3"},
    ],
)
def test_another_patient_or_study_is_another_owner(changes: dict[str, object]) -> None:
    assert len(owners([image(), image(**changes)])) == 2


def test_a_header_without_a_patient_has_an_owner_all_the_same() -> None:
    assert Owner.of(Dataset()) == Owner("", "", "", "", "")
