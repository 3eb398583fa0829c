"""Every code that a result carries, each with its origin; nothing else in report/ spells a code of an SR.

Origins. DICTIONARY: PS3.16 as pydicom carries it; a test looks each one up. TERMINOLOGY: not in that dictionary; the
value comes from a SNOMED CT derived list, its check digit is tested, and a release should hold it against the SNOMED CT
browser. SCHEME: a value of a scheme that PS3.16 names as a whole (RFC 5646 languages) or that is printed in a
template only. OWN: a private code (PS3.16 8.2: designator 99…), where no scheme has one.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from pydicom.sr.coding import Code
from pydicom.uid import BasicTextSRStorage, Comprehensive3DSRStorage, ComprehensiveSRStorage, EnhancedSRStorage

from ich_node.domain.findings import Laterality, Priority

COMPREHENSIVE_3D_SR, COMPREHENSIVE_SR, ENHANCED_SR, BASIC_TEXT_SR = map(
    str, (Comprehensive3DSRStorage, ComprehensiveSRStorage, EnhancedSRStorage, BasicTextSRStorage)
)
MEASUREMENT_REPORT_SRS = (COMPREHENSIVE_3D_SR, COMPREHENSIVE_SR, ENHANCED_SR)
"""SOP Classes of the TID 1500 report, in the order in which they are offered to a peer."""


class Origin(StrEnum):
    """Where a code was taken from."""

    DICTIONARY = "PS3.16 dictionary"
    TERMINOLOGY = "SNOMED CT derived list"
    SCHEME = "coding scheme"
    OWN = "private, for what no scheme has"


REGISTRY: dict[tuple[str, str], tuple[Code, Origin]] = {}
"""(scheme, value) → the code and its origin, for every code of this module."""


def _code(value: str, scheme: str, meaning: str, origin: Origin = Origin.DICTIONARY) -> Code:
    code = Code(value, scheme, meaning)
    REGISTRY[scheme, value] = (code, origin)
    return code


# --- document, observer, procedure ---------------------------------------------------------------------------------

IMAGING_MEASUREMENT_REPORT = _code("126000", "DCM", "Imaging Measurement Report")  # CID 7021
DIAGNOSTIC_IMAGING_REPORT = _code("18748-4", "LN", "Diagnostic Imaging Report")  # CID 7000
LANGUAGE = _code("121049", "DCM", "Language of Content Item and Descendants")
LANGUAGES = {
    "en": _code("en", "RFC5646", "English", Origin.SCHEME),
    "de": _code("de", "RFC5646", "German", Origin.SCHEME),
}
OBSERVER_TYPE = _code("121005", "DCM", "Observer Type")
DEVICE = _code("121007", "DCM", "Device")
DEVICE_OBSERVER_UID = _code("121012", "DCM", "Device Observer UID")
DEVICE_OBSERVER_MANUFACTURER = _code("121014", "DCM", "Device Observer Manufacturer")
DEVICE_OBSERVER_MODEL_NAME = _code("121015", "DCM", "Device Observer Model Name")
PROCEDURE_REPORTED = _code("121058", "DCM", "Procedure reported")
CT_PROCEDURE = _code("25045-6", "LN", "CT unspecified body region")  # CID 100; "CT Head" is not in it

# --- measurements --------------------------------------------------------------------------------------------------

IMAGING_MEASUREMENTS = _code("126010", "DCM", "Imaging Measurements")
MEASUREMENT_GROUP = _code("125007", "DCM", "Measurement Group")
TRACKING_IDENTIFIER = _code("112039", "DCM", "Tracking Identifier")
TRACKING_UID = _code("112040", "DCM", "Tracking Unique Identifier")
FINDING = _code("121071", "DCM", "Finding")
FINDING_SITE = _code("363698007", "SCT", "Finding Site")
LATERALITY = _code("272741003", "SCT", "Laterality")
ALGORITHM_NAME = _code("111001", "DCM", "Algorithm Name")
ALGORITHM_VERSION = _code("111003", "DCM", "Algorithm Version")
ALGORITHM_PARAMETERS = _code("111002", "DCM", "Algorithm Parameters")
ALGORITHM_FAMILY = _code("111000", "DCM", "Algorithm Family")
ARTIFICIAL_INTELLIGENCE = _code("123110", "DCM", "Artificial Intelligence")
CERTAINTY_OF_FINDING = _code("111012", "DCM", "Certainty of Finding")
PERCENT = _code("%", "UCUM", "Percent")
VISUAL_EXPLANATION = _code("130401", "DCM", "Visual explanation")
IMAGE_REGION = _code("111030", "DCM", "Image Region")
PROBABILITY = _code("122157", "DCM", "Probability")
LONG_AXIS = _code("103339001", "SCT", "Long axis")  # CID 218
MILLIMETER = _code("mm", "UCUM", "mm")
PEAK_VALUE = _code("126031", "DCM", "Peak Value Within ROI")  # CID 7464
FIRST_SLICE = _code("FIRST_SLICE", "99ICH_NODE", "First slice, counted from the feet", Origin.OWN)
LAST_SLICE = _code("LAST_SLICE", "99ICH_NODE", "Last slice, counted from the feet", Origin.OWN)
SLICE_NUMBER = _code("{slice}", "UCUM", "slice", Origin.SCHEME)
PRIORITY = _code("260870009", "SCT", "Priority")

# --- answers -------------------------------------------------------------------------------------------------------

PRESENT = _code("52101004", "SCT", "Present")  # CID 240
ABSENT = _code("272519000", "SCT", "Absent")
QUALITATIVE_EVALUATIONS = _code("C0034375", "UMLS", "Qualitative Evaluations", Origin.SCHEME)  # TID 1500 row 12
SUMMARY = _code("121111", "DCM", "Summary")
PROCESSING_SUMMARY = _code("111017", "DCM", "CAD Processing and Findings Summary")
NO_ALGORITHM_SUCCEEDED = _code("111245", "DCM", "No algorithms succeeded; without findings")  # CID 6047

ACR_CATEGORY_1 = _code("RID49480", "RADLEX", "ACR Category 1 Actionable Finding")  # CID 7035
ACR_CATEGORY_2 = _code("RID49481", "RADLEX", "ACR Category 2 Actionable Finding")
NON_ACTIONABLE = _code("RID50261", "RADLEX", "Non-actionable", Origin.SCHEME)
PRIORITIES: Mapping[Priority, Code] = {
    Priority.STAT: ACR_CATEGORY_1,
    Priority.HIGH: ACR_CATEGORY_2,
    Priority.ROUTINE: NON_ACTIONABLE,
}

FINDINGS: Mapping[str, Code] = {
    "any": _code("1386000", "SCT", "Intracranial hemorrhage"),
    "epidural": _code("82999001", "SCT", "Epidural intracranial hemorrhage", Origin.TERMINOLOGY),
    "intraparenchymal": _code("274100004", "SCT", "Cerebral hemorrhage", Origin.TERMINOLOGY),
    "intraventricular": _code("195168007", "SCT", "Intracerebral hemorrhage, intraventricular", Origin.TERMINOLOGY),
    "subarachnoid": _code("21454007", "SCT", "Subarachnoid intracranial hemorrhage", Origin.TERMINOLOGY),
    "subdural": _code("35486000", "SCT", "Subdural intracranial hemorrhage", Origin.TERMINOLOGY),
}

# --- text report (CID 7001, 7002) ----------------------------------------------------------------------------------

IMPRESSIONS = _code("19005-8", "LN", "Impressions")
IMPRESSION = _code("121073", "DCM", "Impression")
FINDINGS_SECTION = _code("59776-5", "LN", "Findings")
PROCEDURE_DESCRIPTIONS = _code("55111-9", "LN", "Current Procedure Descriptions")
PROCEDURE_DESCRIPTION = _code("121065", "DCM", "Procedure Description")

# --- where ---------------------------------------------------------------------------------------------------------

SIDES: Mapping[Laterality, Code] = {
    Laterality.RIGHT: _code("24028007", "SCT", "Right"),  # CID 244
    Laterality.LEFT: _code("7771000", "SCT", "Left"),
    Laterality.BILATERAL: _code("51440002", "SCT", "Bilateral"),
    Laterality.MIDLINE: _code("261129000", "SCT", "Midline"),
}

INTRACRANIAL = _code("1101003", "SCT", "Intracranial")
BRAIN = _code("12738006", "SCT", "Brain")
BRAIN_VENTRICLE = _code("35764002", "SCT", "Brain ventricle")
SUBARACHNOID_SPACE = _code("35951006", "SCT", "Subarachnoid space")
PLACES: Mapping[str, Code] = {
    "frontal lobe": _code("83251001", "SCT", "Frontal lobe"),
    "parietal lobe": _code("16630005", "SCT", "Parietal lobe"),
    "temporal lobe": _code("78277001", "SCT", "Temporal lobe"),
    "occipital lobe": _code("31065004", "SCT", "Occipital lobe"),
    "cerebral hemisphere": _code("372073000", "SCT", "Cerebral hemisphere"),
    "lateral ventricle": _code("66720007", "SCT", "Lateral Ventricle"),
    "third ventricle": _code("49841001", "SCT", "Third ventricle"),
    "fourth ventricle": _code("35918002", "SCT", "Fourth Ventricle"),
    "cerebellum": _code("113305005", "SCT", "Cerebellum"),
    "brain stem": _code("119238007", "SCT", "Brain Stem"),
}
"""Names out of domain.SITES that have a code; the others (deep grey matter, supra- and infratentorial) have none."""

WITHIN: Mapping[str, tuple[frozenset[str], Code]] = {
    "any": (frozenset(), INTRACRANIAL),
    "epidural": (frozenset(), INTRACRANIAL),
    "subdural": (frozenset(), INTRACRANIAL),
    "subarachnoid": (frozenset(), SUBARACHNOID_SPACE),
    "intraparenchymal": (
        frozenset(
            {"frontal lobe", "parietal lobe", "temporal lobe", "occipital lobe", "cerebral hemisphere"}
            | {"cerebellum", "brain stem"}
        ),
        BRAIN,
    ),
    "intraventricular": (frozenset({"lateral ventricle", "third ventricle", "fourth ventricle"}), BRAIN_VENTRICLE),
}
"""Label → the sites that such a bleeding can lie *in*, and the code when none of them is known.

Blood beside the brain does not lie in a lobe; no dictionary code exists for the epidural and the subdural space."""


def finding_site(label: str, sites: tuple[str, ...]) -> Code:
    """The most likely site of a present finding that its type allows and that has a code."""
    allowed, otherwise = WITHIN[label]
    return next((PLACES[site] for site in sites if site in allowed), otherwise)


def check_digit_is_right(sctid: str) -> bool:
    """Whether a SNOMED CT identifier ends in its Verhoeff check digit (SNOMED CT Release File Specification, 5.5)."""
    permutation = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)
    check = 0
    for position, digit in enumerate(reversed(sctid)):
        number = int(digit)
        for _ in range(position % 8):
            number = permutation[number]
        check = _dihedral(check, number)
    return check == 0


def _dihedral(a: int, b: int) -> int:
    """The product of two elements of the dihedral group of order ten."""
    if a < 5:
        return (a + b) % 5 if b < 5 else 5 + (a + b) % 5
    return 5 + (a - b) % 5 if b < 5 else (a - b) % 5
