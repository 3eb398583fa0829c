"""What every result says about patient, study, equipment and time, so that all of them belong together in a PACS.

In: the header of a source slice, who made the result, and when. Out: attributes set on a dataset. Patient and study are
copied element by element from the source and never edited; series, equipment, window and private attributes of the CT
are never copied. There is no clock here: `made_at` is given.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import lru_cache

from pydicom import Dataset
from pydicom.charset import convert_encodings
from pydicom.sr.coding import Code
from pydicom.tag import Tag
from pydicom.uid import UID

from ich_node import __version__
from ich_node.dicom import reading
from ich_node.domain.findings import ModelCard
from ich_node.report.identifiers import Identity

MANUFACTURER = "ich_node"
PROCESSING_EQUIPMENT = Code("109102", "DCM", "Processing Equipment")


def _keywords(block: str) -> tuple[str, ...]:
    return tuple(block.split())


TYPE_2 = _keywords("""
    PatientName PatientID PatientBirthDate PatientSex StudyDate StudyTime AccessionNumber ReferringPhysicianName
    StudyID
""")
"""Attributes that must be there, empty when the source has none: PS3.3 C.7.1.1 and C.7.2.1."""

PATIENT_AND_STUDY = _keywords("""
    PatientName PatientID IssuerOfPatientID TypeOfPatientID IssuerOfPatientIDQualifiersSequence
    ReferencedPatientSequence SourcePatientGroupIdentificationSequence GroupOfPatientsIdentificationSequence
    PatientBirthDate PatientBirthTime PatientBirthDateInAlternativeCalendar
    PatientDeathDateInAlternativeCalendar PatientAlternativeCalendar PatientSex QualityControlSubject
    OtherPatientIDs OtherPatientIDsSequence OtherPatientNames EthnicGroup EthnicGroupCodeSequence
    PatientComments PatientSpeciesDescription PatientSpeciesCodeSequence PatientBreedDescription
    PatientBreedCodeSequence BreedRegistrationSequence ResponsiblePerson ResponsiblePersonRole
    ResponsibleOrganization PatientIdentityRemoved DeidentificationMethod DeidentificationMethodCodeSequence
    LongitudinalTemporalInformationModified ClinicalTrialSponsorName ClinicalTrialProtocolID
    ClinicalTrialProtocolName IssuerOfClinicalTrialProtocolID OtherClinicalTrialProtocolIDsSequence
    ClinicalTrialSiteID ClinicalTrialSiteName IssuerOfClinicalTrialSiteID ClinicalTrialSubjectID
    IssuerOfClinicalTrialSubjectID ClinicalTrialSubjectReadingID IssuerOfClinicalTrialSubjectReadingID
    ClinicalTrialProtocolEthicsCommitteeName ClinicalTrialProtocolEthicsCommitteeApprovalNumber StudyInstanceUID
    StudyDate StudyTime AccessionNumber IssuerOfAccessionNumberSequence ReferringPhysicianName
    ReferringPhysicianIdentificationSequence ConsultingPhysicianName ConsultingPhysicianIdentificationSequence
    StudyID StudyDescription PhysiciansOfRecord PhysiciansOfRecordIdentificationSequence
    NameOfPhysiciansReadingStudy PhysiciansReadingStudyIdentificationSequence RequestingService
    RequestingServiceCodeSequence ReferencedStudySequence ProcedureCodeSequence
    ReasonForPerformedProcedureCodeSequence AdmittingDiagnosesDescription AdmittingDiagnosesCodeSequence
    PatientAge PatientSize PatientSizeCodeSequence PatientBodyMassIndex MeasuredAPDimension
    MeasuredLateralDimension PatientWeight MedicalAlerts Allergies Occupation SmokingStatus
    AdditionalPatientHistory PregnancyStatus LastMenstrualDate PatientSexNeutered ReasonForVisit
    ReasonForVisitCodeSequence AdmissionID IssuerOfAdmissionIDSequence ServiceEpisodeID
    ServiceEpisodeDescription IssuerOfServiceEpisodeIDSequence PatientState ClinicalTrialTimePointID
    ClinicalTrialTimePointDescription LongitudinalTemporalOffsetFromEvent LongitudinalTemporalEventType
    ClinicalTrialTimePointTypeCodeSequence IssuerOfClinicalTrialTimePointID ConsentForClinicalTrialUseSequence
""")
"""Patient, Clinical Trial Subject, General Study, Patient Study, Clinical Trial Study: PS3.3 C.7.1.1, .3, C.7.2.1-3."""

COMMON = ("SpecificCharacterSet",)
"""SOP Common attribute that says how the copied ones are to be read: kept with them (PS3.3 C.12.1)."""

OFFSETS_MIN = (-12 * 60, 14 * 60)
"""Timezone Offset From UTC lies between -1200 and +1400 (PS3.3 C.12.1.1.8)."""

METHOD_UNKNOWN = "not stated by the source images"
"""De-identification Method where a source says YES to Patient Identity Removed and no more (PS3.3 C.7.1.1, type 1C)."""

REQUEST = _keywords("""
    StudyInstanceUID ReferencedStudySequence AccessionNumber PlacerOrderNumberImagingServiceRequest
    FillerOrderNumberImagingServiceRequest RequestedProcedureID RequestedProcedureDescription
    RequestedProcedureCodeSequence
""")

PLAIN = {
    "ä": "ae", "ö": "oe", "ü": "ue", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue", "ß": "ss",
    "≥": ">=", "≤": "<=", "·": "-", "–": "-", "—": "-", "…": "...", "’": "'", "“": '"', "”": '"', "„": '"', "×": "x",
}  # fmt: skip
"""How our own words are spelled where the source's character set lacks a character."""


@dataclass(frozen=True, slots=True)
class Equipment:
    """The maker of a result, as it stands in equipment modules, contributing equipment and SR observer alike."""

    model_name: str
    software_versions: tuple[str, ...]
    device_uid: UID
    device_name: str
    manufacturer: str = MANUFACTURER

    @classmethod
    def of(cls, card: ModelCard, identity: Identity) -> Equipment:
        """The node with the model that `card` describes."""
        return cls(
            model_name=card.id,
            software_versions=(f"ich_node {__version__}", f"{card.id} {card.version}"),
            device_uid=identity.device_uid,
            device_name=identity.device_name,
        )


def stamp(dataset: Dataset, source: Dataset, equipment: Equipment, made_at: datetime) -> None:
    """Make `dataset` a result on the patient and study of `source`, made by `equipment` at `made_at` (aware).

    Whatever the dataset said before about these modules is replaced. The SOP Instance and series identity, and
    everything about the content, are the caller's.
    """
    copy_elements(dataset, source, (*COMMON, *PATIENT_AND_STUDY), empty=TYPE_2)
    _say_how_identity_was_removed(dataset)
    dataset.ContentQualification = "RESEARCH"
    made = local_time(made_at, source)
    dataset.TimezoneOffsetFromUTC = made.strftime("%z")
    _set_equipment(dataset, equipment, made.strftime("%Y%m%d%H%M%S%z"))
    _set_times(dataset, made)


def copy_elements(dataset: Dataset, source: Dataset, keywords: Iterable[str], empty: Iterable[str] = ()) -> None:
    """Copy elements verbatim, text as its bytes; one that the source lacks is removed, or left empty if in `empty`."""
    type_2, sent = frozenset(empty), reading.sent_text(source)
    for keyword in keywords:
        if keyword in source:
            tag = Tag(keyword)
            dataset[tag] = sent[tag] if tag in sent else copy.deepcopy(source[keyword])
        elif keyword in type_2:
            setattr(dataset, keyword, None)
        elif keyword in dataset:
            delattr(dataset, keyword)


def complete(source: Dataset) -> Dataset:
    """The same header for highdicom's constructors, which stumble over type 2 attributes that are missing or hold
    nonsense, and over code extensions.

    What they copy from it is a stopgap; `stamp` puts the source's own elements in its place.
    """
    header = Dataset()
    for element in source:  # decodes what has not been read yet, in the source's own character set
        if element.keyword != "SpecificCharacterSet":
            header.add(copy.copy(element))
    header.SpecificCharacterSet = "ISO_IR 192"
    for keyword in TYPE_2:
        setattr(header, keyword, None)
    return header


def image_context(dataset: Dataset, source: Dataset) -> None:
    """Add what images say about body part and order in their series (PS3.3 C.7.3.1).

    Only heads come this far, so that is what a source that does not name its body part shows.
    """
    copy_elements(dataset, source, ("BodyPartExamined", "RequestAttributesSequence"))
    if not dataset.get("BodyPartExamined"):
        dataset.BodyPartExamined = "HEAD"


def referenced_requests(source: Dataset) -> list[Dataset]:
    """Items of Referenced Request Sequence (PS3.3 C.17.2) for an SR, one per order in the source's header."""
    return [_request(item, source) for item in source.get("RequestAttributesSequence") or ()]


def local_time(made_at: datetime, source: Dataset) -> datetime:
    """`made_at` on the clock of the study: by the source's Timezone Offset From UTC, else on the clock of this node.

    Where a source names no offset, its times are those of the house, and so are the node's. ValueError if naive.
    """
    if made_at.tzinfo is None:
        raise ValueError("made_at needs a time zone")
    offset = re.fullmatch(r"([+-])(\d\d)([0-5]\d)", reading.text(source, "TimezoneOffsetFromUTC"))
    if offset is None or offset[0] == "-0000":  # which is not allowed: it says that nobody knows
        return made_at.astimezone()
    minutes = int(f"{offset[1]}1") * (int(offset[2]) * 60 + int(offset[3]))
    if not OFFSETS_MIN[0] <= minutes <= OFFSETS_MIN[1]:
        return made_at.astimezone()
    return made_at.astimezone(timezone(timedelta(minutes=minutes)))


def encodable(text: str, source: Dataset) -> str:
    """Our own words in the character set of `source`: what it cannot hold is spelled in plain letters.

    Results keep the source's Specific Character Set, because one study in two character sets breaks name matching.
    """
    encodings = _encodings(source)
    return "".join(c if c.isascii() or _holds(c, encodings) else PLAIN.get(c, "?") for c in text)


def _encodings(source: Dataset) -> list[str]:
    """Python's names of the declared character sets; none or an empty one is ISO IR 6 (PS3.3 C.12.1.1.2)."""
    declared = source.get("SpecificCharacterSet") or ""
    terms = [declared] if isinstance(declared, str) else list(declared)
    wide = [term for term in terms if term not in ("", "ISO_IR 6", "ISO 2022 IR 6")]
    return convert_encodings(wide) if wide else []


def _holds(character: str, encodings: list[str]) -> bool:
    for encoding in encodings:
        try:
            character.encode(encoding)
        except UnicodeEncodeError:
            continue
        return True
    return False


def _say_how_identity_was_removed(dataset: Dataset) -> None:
    """YES needs a method beside it; a value that is neither YES nor NO says nothing and goes."""
    removed = reading.text(dataset, "PatientIdentityRemoved").strip().upper()
    for keyword in ("PatientIdentityRemoved", "DeidentificationMethodCodeSequence", "DeidentificationMethod"):
        if keyword in dataset and not str(dataset.get(keyword) or "").strip():
            delattr(dataset, keyword)
    if removed in ("YES", "NO"):
        dataset.PatientIdentityRemoved = removed
    elif removed:
        del dataset.PatientIdentityRemoved
    if removed == "YES" and not {"DeidentificationMethod", "DeidentificationMethodCodeSequence"} & set(dataset.dir()):
        dataset.DeidentificationMethod = METHOD_UNKNOWN


def _set_equipment(dataset: Dataset, equipment: Equipment, contributed_at: str) -> None:
    dataset.Manufacturer = equipment.manufacturer
    dataset.ManufacturerModelName = equipment.model_name
    dataset.SoftwareVersions = list(equipment.software_versions)
    dataset.DeviceUID = equipment.device_uid
    dataset.DeviceSerialNumber = equipment.device_name
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [code_item(PROCESSING_EQUIPMENT)]
    item.Manufacturer = equipment.manufacturer
    item.StationName = equipment.device_name
    item.ManufacturerModelName = equipment.model_name
    item.DeviceSerialNumber = equipment.device_name
    item.SoftwareVersions = list(equipment.software_versions)
    item.DeviceUID = equipment.device_uid
    item.ContributionDateTime = contributed_at
    item.ContributionDescription = "Triage of intracranial hemorrhage, research, not for diagnosis"
    dataset.ContributingEquipmentSequence = [item]


def _set_times(dataset: Dataset, made: datetime) -> None:
    date, time = made.strftime("%Y%m%d"), made.strftime("%H%M%S")
    for name in ("InstanceCreation", "Series", "Content"):
        setattr(dataset, f"{name}Date", date)
        setattr(dataset, f"{name}Time", time)


def _request(item: Dataset, source: Dataset) -> Dataset:
    """One order: what its own item does not say is taken from the study (PS3.3 table C.17-2, type 2)."""
    request = Dataset()
    copy_elements(request, item, REQUEST, empty=REQUEST)
    request.StudyInstanceUID = item.get("StudyInstanceUID") or source.StudyInstanceUID
    if not request.AccessionNumber:
        copy_elements(request, source, ("AccessionNumber",), empty=("AccessionNumber",))
    return request


@lru_cache(maxsize=1024)
def code_item(code: Code) -> Dataset:
    """A code as the item of a code sequence (PS3.3 8.8): the same one wherever it stands, and never changed."""
    item = Dataset()
    item.CodeValue = code.value
    item.CodingSchemeDesignator = code.scheme_designator
    item.CodeMeaning = code.meaning
    return item
