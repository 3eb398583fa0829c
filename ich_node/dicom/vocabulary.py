"""What senders write into a header, and what it means for a head CT: body parts, kernels, contrast, other purposes.

Words are matched whole, in upper case, with accents and punctuation removed. Pure; a value that can not be read counts
as empty, because whatever it was meant to say, it does not say it.

Kernels. GE names them: BONE, BONEPLUS, EDGE, LUNG and ULTRA are sharp, SOFT, STANDARD and DETAIL are not. Siemens: a
letter for the body region and a number for sharpness, H30s or Hr40 for brain, from 60 on for bone and inner ear
(SOMATOM Sensation operating instructions, "Kernels"). Philips: UA to UC and A to C for brain and soft tissue, D and E,
L and the Y filters for detail. Canon: FC20 to FC29 and FC60 to FC69 for brain, FC30 to FC39 and FC80 to FC89 for bone,
FC50 to FC59 for lung. A name nobody knows is left to the gate that measures sharpness.
"""

from __future__ import annotations

import re
import unicodedata

from pydicom import Dataset

from ich_node.dicom.reading import LONGEST_TEXT, items, text

HEAD = "head"

HEAD_WORDS = re.compile(
    r"\b(HEAD|BRAIN|SKULL|CRANI\w*|CEREBR\w*|NEUROCRAN\w*|NCCT|CCT|SCHADEL\w*|SCHAEDEL\w*|KOPF|HIRN|GEHIRN|CRANE|TETE"
    r"|ENCEPH\w*|CABEZA|CRANEO|TESTA|CRANIO|HOOFD|HERSENEN|HUVUD\w*|HJARNA|HODE|HOVED|GLOWA|INTRACRANIAL|STROKE|CEREBRUM"
    r"|KRANIUM|KAFA|BEYIN|CABECA)\b"
)
OTHER_PARTS = {
    "sinuses or face": r"SINUS\w*|NNH|FACE|FACIAL|MAXILLO\w*|MANDIB\w*|DENTAL|JAW|ORBIT\w*|NASAL|MIDFACE|MASSIF|TMJ",
    "temporal bone": r"TEMPORAL BONE\w*|PETROUS|IAC|IAM|INNER EAR|MASTOID\w*|FELSENBEIN\w*|ROCHER\w*|EAR",
    "neck": r"NECK|HALS|COU|CAROTID\w*|LARYNX|HEADNECK",
    "spine": r"C ?SPINE|T ?SPINE|L ?SPINE|CSP|SPINE|CERVICAL|LUMBAR|THORACIC|HWS|BWS|LWS|WIRBEL\w*|RACHIS|COLUMNA",
    "chest": r"CHEST|THORAX|LUNG|LUNGE|PULMON\w*|HEART|CORONARY|CARDIAC",
    "abdomen or pelvis": r"ABDOMEN|ABD|PELVIS|BECKEN|LIVER|KIDNEY|ABDOMENPELVIS|CAP|TAP",
    "extremity": r"KNEE|HIP|SHOULDER|ANKLE|FOOT|HAND|WRIST|ELBOW|EXTREMITY|FEMUR|LEG|ARM",
    "whole body": r"WHOLE ?BODY|WHOLEBODY|POLYTRAUMA|TRAUMASPIRALE",
}
OTHER = {name: re.compile(rf"\b({words})\b") for name, words in OTHER_PARTS.items()}
# SNOMED CT codes of CID 4031 that stand for the head or what is in it: head, brain, skull, cranial cavity
HEAD_CODES = frozenset({"69536005", "12738006", "89546000", "1101003", "T-D1100", "T-A0100", "T-11100"})

DERIVED_TYPES = frozenset(
    {"LOCALIZER", "MIP", "MINIP", "MAX_IP", "MIN_IP", "VOLUME RENDERED", "VOLREND", "VRT", "SSD", "SUBTRACTION"}
    | {"PROJECTION IMAGE", "PERFUSION", "CBF", "CBV", "MTT", "TTP", "TMAX", "IODINE", "SCREEN SAVE", "BONE_MASK"}
)
OTHER_PURPOSE = re.compile(
    r"\b(SCOUT|TOPOGRAM\w*|SURVIEW|SCANOGRAM|LOCALI[SZ]ER|MIP|MINIP|VRT|PERFUSION|CTP|CBF|CBV|MTT|TMAX|TTP"
    r"|DOSE (REPORT|INFO)|PATIENT PROTOCOL|PRE ?MONITORING|MONITORING|BOLUS TRACK\w*|TEST BOLUS|SMART ?PREP|IODINE"
    r"|SUBTRACT\w*|VNC|VIRTUAL NON ?CONTRAST)\b"
)

NO_AGENT = frozenset(
    {
        "",
        "NONE",
        "NO",
        "NON",
        "N",
        "0",
        "OFF",
        "NA",
        "N A",
        "NIL",
        "NULL",
        "NATIV",
        "NATIVE",
        "OHNE",
        "SANS",
        "SIN",
        "UNKNOWN",
    }
    | {"NO CONTRAST", "NOCONTRAST", "WITHOUT", "WITHOUT CONTRAST", "W O", "WO", "W O CONTRAST", "NOT GIVEN", "ORAL"}
    | {"UNENHANCED", "NON CONTRAST", "NONCONTRAST", "NO IV CONTRAST", "KEIN", "KEINE", "FALSE"}
)
WITHOUT_CONTRAST = re.compile(
    r"\b(WITHOUT|W ?O|NON|NO|OHNE|SANS|SIN|SENZA|ZONDER|PRE|MINUS|UTAN)( (IV|I V|ANY))? ?"
    r"(CONTRAST\w*|KONTRAST\w*|KM|CM|INJECTION|IV|C|CON|CONT)?\b|\b(NATIV\w*|UNENHANCED|NCCT|NONCON\w*)\b"
)
CONTRAST = re.compile(
    r"\b(CTA|CTV|ANGIO\w*|VENOGRA\w*|WILLIS|CAROTID\w*|(WITH|W|POST|MIT|NACH|AVEC|CON|MET|IV|PLUS) ?(IV )?"
    r"(CONTRAST\w*|KONTRAST\w*|KM|INJECTION|C(?! ?SPINE))|CONTRAST\w*|KONTRAST\w*|KM|CECT|ARTERIAL\w*"
    r"|ARTERIELL\w*|VENOUS|PORTAL|C PLUS|POST$)\b"
)

SHARP_GE = frozenset({"BONE", "BONEPLUS", "BONE PLUS", "EDGE", "LUNG", "ULTRA", "HD BONE", "HD BONEPLUS", "BONE2"})
SHARP_PHILIPS = frozenset({"D", "E", "F", "G", "L", "YA", "YB", "YC", "YD", "YE", "YF", "Y SHARP", "ED"})
SIEMENS = re.compile(r"[A-Z]{1,2}(\d\d)[A-Z]?(?: ?\d)?")
SIEMENS_SHARP = 57
CANON = re.compile(r"FC ?(\d\d)\w*")
CANON_SHARP = (*range(30, 40), *range(50, 60), *range(80, 90))
SHARP_WORD = re.compile(r"\b(V?SHARP|BONE\w*|KNOCHEN\w*|OSSEUX|OSSEA?|OSEO|LUNG|EDGE|INNER EAR)\b")


# --- words ---------------------------------------------------------------------------------------------------------


def plain(words: str) -> str:
    """Upper case, without accents; everything but letters, digits and "+" is a blank; "+" says "plus".

    Only the first LONGEST_TEXT characters: normalisation is quadratic, and holds the interpreter.
    """
    bare = unicodedata.normalize("NFKD", words[:LONGEST_TEXT].replace("_", " "))
    bare = bare.encode("ascii", "ignore").decode().upper()
    bare = re.sub(r"\bC ?\+|\+ ?C\b", " C PLUS ", re.sub(r"\bC ?- *(?=$|[ )/,])|\(-C\)", " NATIV ", bare))
    return " ".join(re.sub(r"[^A-Z0-9]+", " ", bare).split())


# --- body part -----------------------------------------------------------------------------------------------------


def body_part(header: Dataset) -> str | None:
    """HEAD, the name of another body part, or None when nothing says.

    What was written for the series goes before what was written for the study: a trauma study has one description for
    head and spine, and scanners copy one Body Part Examined into all of its series.
    """
    for words in (
        text(header, "SeriesDescription"),
        text(header, "BodyPartExamined"),
        text(header, "ProtocolName"),
        text(header, "StudyDescription"),
    ):
        if part := part_named(words):
            return part
    codes = {text(item, "CodeValue") for item in items(header, "AnatomicRegionSequence")}
    if codes & HEAD_CODES:
        return HEAD
    return None


def part_named(words: str) -> str | None:
    """The body part that `words` speak of; the head when they name it beside another one."""
    found = plain(words)
    if HEAD_WORDS.search(found):
        return HEAD
    return next((name for name, pattern in OTHER.items() if pattern.search(found)), None)


# --- contrast, kernel, purpose -------------------------------------------------------------------------------------


def is_agent(agent: str) -> bool:
    """Whether a Contrast/Bolus Agent names one; many senders write NONE, and oral contrast does not reach a brain."""
    return plain(agent) not in NO_AGENT


def contrast_word(description: str) -> str:
    """The word by which a description speaks of intravenous contrast; empty when it does not, or denies it."""
    found = CONTRAST.search(WITHOUT_CONTRAST.sub(" ", plain(description)))
    return found.group(0).strip().lower() if found else ""


def sharp_kernel(kernels: list[str]) -> str:
    """The first value of Convolution Kernel that stands for a sharp kernel; empty when none does."""
    return next((kernel for kernel in kernels if _sharp(plain(kernel))), "")


def _sharp(kernel: str) -> bool:
    if kernel in SHARP_GE or kernel in SHARP_PHILIPS or SHARP_WORD.search(kernel):
        return True
    if canon := CANON.fullmatch(kernel):
        return int(canon.group(1)) in CANON_SHARP
    siemens = SIEMENS.fullmatch(kernel)
    return bool(siemens and int(siemens.group(1)) >= SIEMENS_SHARP)


def sharp_word(description: str) -> str:
    """The word by which a description speaks of a sharp kernel; empty when it does not."""
    found = SHARP_WORD.search(plain(description))
    return found.group(0).lower() if found else ""


def is_hounsfield(rescale_type: str) -> bool:
    """Whether a Rescale Type stands for Hounsfield units, in any spelling; unspecified ones are left to the pixels."""
    return (
        not (words := plain(rescale_type))
        or words in ("US", "UNSPECIFIED", "HU")
        or "HOUNSFIELD" in words.replace(" ", "")
    )


def derived_types(types: tuple[str, ...]) -> str:
    """The values of Image Type that stand for something else than slices of the scanner, as one text."""
    return ", ".join(sorted(DERIVED_TYPES.intersection(types)))


def other_purpose(description: str) -> str:
    """The word by which a description speaks of something else than slices of the head; empty when it does not."""
    found = OTHER_PURPOSE.search(plain(description))
    return found.group(0).lower() if found else ""
