"""What senders write into a header, and what it means for a head CT: body parts, kernels, contrast, energy, purpose.

The one module of words. They are matched whole, in upper case, with accents and punctuation removed (`plain`); Chinese,
Japanese and Korean ones, which no blank divides, wherever they stand. Languages: English, German, French, Italian,
Spanish, Portuguese, Polish, Russian, Chinese, Japanese, Korean, and a few more for the head. Pure.

Sources. Kernels: GE names them (BONE, BONEPLUS, EDGE, LUNG and ULTRA are sharp; SOFT, STANDARD and DETAIL are not).
Siemens: a letter for the body region and a number for sharpness, H30s or Hr40 for brain, from 60 on for bone and inner
ear (SOMATOM Sensation operating instructions, "Kernels"). Philips: UA to UC and A to C for brain and soft tissue, D and
E, L and the Y filters for detail. Canon: FC20 to FC29 and FC60 to FC69 for brain, FC30 to FC39 and FC80 to FC89 for
bone, FC50 to FC59 for lung. A name nobody knows is left to the gate that measures sharpness. Image Type: PS3.3
C.8.2.1.1.1, C.8.15.2.1.1 and C.8.16.1 (spectral values). Rescale Type: PS3.3 C.11.1.1.2. Agents: the products of CID 12
and of the manufacturers' lists. Anatomic codes: CID 4031.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from difflib import SequenceMatcher
from functools import cache, lru_cache

from pydicom import Dataset

from ich_node.dicom.reading import LONGEST_TEXT, items, text

HEAD = "head"
LONGEST_KERNEL = 16
"""Characters of VR SH, in which a kernel's name is written."""


def _pattern(words: str, anywhere: str = "") -> re.Pattern[str]:
    """Whole words, or characters anywhere."""
    return re.compile(rf"\b(?:{words})\b" + (f"|{anywhere}" if anywhere else ""))


# --- body parts ----------------------------------------------------------------------------------------------------

HEAD_WORDS = _pattern(
    r"(?:CT)?(?<!FEMORAL )(?<!HUMERAL )(?<!RADIAL )HEAD(?! ?FIRST| ?REST| ?HOLDER)\w*|\w*BRAIN|SKULL\w*"
    r"|CRANI(?!OCAUD)\w*|WILLIS|COW"
    r"|CEREBR\w*|NEURO(?! ?SPINE| ?NECK)\w*|NCCT|C?CCT|ENCEPH\w*|ENCEFAL\w*|INTRACRANIAL|STROKE|CAPUT"
    r"|ORBITO ?MEATAL\w*|OM ?LINE"
    r"|SCHA?E?DEL\w*|KOPF\w*|HIRN\w*|GEHIRN|CRANE\w*|TETE|CERVEAU|CABEZA|CEREBRO|TESTA|CAPO|CABECA|HOOFD"
    r"|HERSENEN"
    r"|HUVUD\w*|HJ[AE]RN\w*|HODE|HOVED|GLOW[AY]|MOZG\w*|CZASZK\w*|KRANI\w*|KAFA|BEYIN|HLAV\w*"
    r"|MOZ(?:EK|K)\w*|KOPONYA|AGY|PAAN?|AIVO\w*|SKALLE"
    r"|ГОЛОВ\w*|МОЗГ\w*|ЧЕРЕП\w*|ГМ",
    "头|(?<!側)頭|颅|顱|脑|脳|腦|두부|두개|뇌|머리",
)
OTHER_PARTS = {
    "sinuses or face": (
        r"SINUS\w*|NNH|FACE|FACIAL|MAXILLO\w*|MANDIB\w*|DENTAL|JAW|ORBIT(?!O ?MEATAL)\w*|NASAL|MIDFACE|MASSIF|TMJ"
        r"|SENOS? PARANASAL\w*|SENI PARANASALI|ZATOK\w*|OCZODOL\w*|ПАЗУХ\w*|ОРБИТ\w*|ГЛАЗНИЦ\w*",
        "鼻窦|鼻竇|副鼻腔|眼眶|眼窩|부비동|안와",
    ),
    "temporal bone": (
        r"TEMPORAL BONE\w*|PETROUS|IAC|IAM|INNER ?EAR\w*|MASTOID\w*|FELSENBEIN\w*|ROCHER\w*|EAR|OREILLES?|OIDOS?"
        r"|ORECCHI\w*|OUVIDOS?|ROCCHE PETROSE|PENASCOS?|USZU|UCHA|ВИСОЧН\w*|ПИРАМИД\w*",
        "颞骨|顳骨|内耳|內耳|側頭骨|側頭|측두골|내이",
    ),
    "neck": (
        r"NECK|HALS|COU|CAROTID\w*|LARYNX|CUELLO|COLLO|PESCOCO|SZYI|SZYJ\w*|ШЕ[ИЯ]\w*|ГОРТАН\w*",
        "颈部|頸部|喉|경부",
    ),
    "spine": (
        r"C ?SPINE|T ?SPINE|L ?SPINE|CSP|SPINE|CERVICAL\w*|LUMBAR|THORACIC|HWS|BWS|LWS|WIRBEL\w*|RACHIS|COLUMNA|COLUNA"
        r"|COLONNE|COLONNA|RACHIDE|KREGOS\w*|ПОЗВОН\w*",
        "脊柱|脊椎|颈椎|頸椎|腰椎|胸椎|척추|경추|요추",
    ),
    "chest": (
        r"CHEST|THORAX|LUNG|LUNGE|PULMON\w*|HEART|CORONARY|CARDIAC|TORACE|TORAX|POUMONS?|KLATK\w*|ГРУД\w*|ЛЕГК\w*",
        "胸部|肺|心脏|心臓|冠脉|흉부|폐|심장",
    ),
    "abdomen or pelvis": (
        r"ABDOM\w*|ABD|PELVI\w*|BECKEN|LIVER|KIDNEY|CAP|TAP|ADDOME|BACINO|BASSIN|BRZUCH\w*|MIEDNIC\w*|БРЮШ\w*"
        r"|ЖИВОТ\w*|ТАЗ\w?",
        "腹部|骨盆|骨盤|肝|복부|골반",
    ),
    "extremity": (
        r"KNEE|HIP|SHOULDER|ANKLE|FOOT|HAND|WRIST|ELBOW|EXTREMITY|FEMUR|FEMORAL|HUMER\w*|RADIAL|LEG"
        r"|(?<!O )(?<!C )ARM(?! (?:UP|DOWN))"
        r"|KNIE|SCHULTER|GENOU|RODILLA|GINOCCHIO|JOELHO|KOLAN\w*|КОЛЕН\w*",
        "膝|踝|무릎|어깨",
    ),
    "whole body": (r"WHOLE ?BODY|POLYTRAUMA|TRAUMASPIRALE|GANZKOERPER|CORPS ENTIER|CUERPO ENTERO", "全身|전신"),
}
OTHER = {name: _pattern(*words) for name, words in OTHER_PARTS.items()}
HEAD_CODES = frozenset({"69536005", "12738006", "89546000", "1101003", "T-D1100", "T-A0100", "T-11100"})
"""CID 4031 for the head or what is in it: head, brain, skull, cranial cavity; SNOMED CT and the older SNOMED RT."""

# --- contrast ------------------------------------------------------------------------------------------------------

NOT = (
    r"WITHOUT|WITH OUT|W ?O|W ?OUT|O(?= KM)|NON|NO|NOT|OHNE|KEIN\w*|NICHT|VOR|SANS|PAS D E?|AVANT|SIN|ANTES|S(?! K ?L)"
    r"|SEM|SENZA|PRIMA|ZONDER"
    r"|BEZ"
    r"|FARA|U(?= K)|PRZED|UTAN|UDEN|UTEN|ILMAN|PRE|BEFORE|MINUS|БЕЗ|НЕ|ДО"
)
MEDIUM = (
    r"CONTRAST\w*|KONTR(?:AST\w*)?|КОНТРАСТ\w*|KM|CM|MDC|M D C|MC|PDC|P D C|K ?[KL]|CIV|EV|INJ\w*|IV|C|CON|CONT|К ?У"
    r"|ENHANC\w*|BOLUS|DYE"
)
BETWEEN = r"(?: (?:IV|I V|ANY|DE|DEL|DI|DU|D|LA|L|MEDIO|MEZZO|MEIO|PRODUIT|SRODK\w*|PODANI\w*|ВВЕДЕНИЯ|В В|ADM\w*))*"
BY_VEIN = r"(?:[IE] ?V|ENDOV\w*|INTRAV\w*)"
GIVEN = r"GIVEN|APPLIED|USED|ADMIN\w*|INJECT\w*|GEGEBEN|VERABREICHT|APPLIZIERT|SOMMINISTRATO|ADMINISTRAD\w*|PODAN\w*"
DELAYED = (
    r"(?<!H )(?<!HR )(?<!HRS )(?<!HOUR )(?<!HOURS )DELAY(?:ED)?(?! (?:H\w*RRH\w*|ICH|BLEED\w*|POST|FOLLOW|\d+ ?H))"
    r"|(?:LATE|PV|PORTAL) (?:PHASE|SCAN)|LATE HEAD|SPA?E?T ?PHASE\w*|SPA?E?T NACH|VERZO?E?GERT\w*|TARDI\w*|RETARDAD\w*"
    r"|FAZA POZNA|OPOZNION\w*|ОТСРОЧ\w*|ПОЗДН\w*"
)
"""Minutes after an injection; hours are a follow-up, and a delayed hemorrhage is what is looked for."""
WITHOUT_CONTRAST = _pattern(
    rf"(?:{MEDIUM}) (?:NOT|NON|NICHT|NO|НЕ|NIE)(?: (?:{GIVEN}))?|NON INJECTE\w*"
    rf"|(?:{NOT}){BETWEEN}(?: ?(?:{MEDIUM})(?: {BY_VEIN})?)?"
    r"|KM ?FREI\w*|NATIV\w*|NATYW\w*|НАТИВ\w*|UNENHANCED|PLAIN|NCCT|NECT|NONCON\w*|SMDC|SPC|BASALE|KONTRASTSIZ",
    r"[非未无無不]增?[强強]化?|[非未无無不]造影|造影[なな無前]し?|增[强強]前|平[扫掃]|単純|单纯"
    r"|[비무] ?조영(?: ?증강)?|조영 ?전"
    r"|비 ?증강|단순",
)
CONTRAST = _pattern(
    r"M?CTA\w?|CTV|\w*ANGIO\w*|VENOGRA\w*|WILLIS|CAROTID\w*|TSA|(?:HEAD|BRAIN) W"
    r"|(?:WITH|W|POST|MIT|NACH|AVEC|APRES|CON|MET|IV|PLUS|COM|APOS|POS|DOPO|TRAS|DESPUES|MED|EFTER|PO|Z|[CС]|ПОСЛЕ)"
    rf"{BETWEEN} ?(?:CONTR\w*|KONTR\w*|KM|CM|I ?V|INJ\w*|C(?! ?SPINE)|M ?D ?C|K K|CIV|PDC|К ?У|КОНТР\w*)"
    r"|CONTR?AST\w*|KONTRAST\w*|КОНТРАСТ\w*|КУ|KM|MDC|CIV|PDC|CE ?CT|ARTERI\w*|TETNICZ\w*|ZYLN\w*|АРТЕРИ\w*|ВЕНОЗ\w*"
    r"|КТА"
    r"|(?:ART|VEN) PH\w*|(?:HEAD|BRAIN|KOPF|CCT) (?:ART|VEN)(?= \d|$)|(?:HEAD|BRAIN|KOPF|CRAN\w*)(?: CT)? CE(?! MARK)"
    r"|MULTI ?PHAS\w*|(?:HEAD|BRAIN) ENHANCED|POST(?= \d+(?: \d+)? ?MM)|WITH$|IV CONT?|(?<=CEREBRUM )M K|(?:S|PO) K ?L"
    r"|АНГИО\w*|БОЛЮС\w*|VENOUS|VENOS\w*|VENOES\w*|VEINEU\w*|PORTAL\w*|INJECTE\w*|INJETAD\w*|C PLUS|BOLUS|POST$"
    r"|(?:ENHANCED|CE) (?:HEAD|BRAIN|SCAN|PHASE)|APC|(?:CRAN\w*|CEREBR\w*|TETE|ENCEPHALE) (?:INJ|IV)|(?:АРТ|ВЕН) ФАЗА"
    rf"|{DELAYED}",
    "(?<![A-Z])CT[AV](?![A-Z])|增强|增強|强化|強化|造影|动脉期|動脈[期相]|静脉期|靜脈期|静脈相|血管成像|조영|증강"
    "|동맥기|정맥기|(?<=[部脳頭])CE(?![A-Z])|延[迟遲]|遅延|지연|ダイナミック"
    "|(?<=[部脳脑])血管(?![病意障疾])|뇌 ?혈관(?! ?질)",
)
NO_AGENT = _pattern(
    r"NO(?! (?:ADVERSE |ALLERG\w* )?REACTION)|NON|NONE|NOT|NIL|NULL|N|0+ ?(?:ML|CC|MG)?"
    r"|OFF|NA|N A|FALSE|UNKNOWN|DECLINED|REFUSED|WITHOUT|W ?O|KEIN\w*|OHNE|NICHT|NATIV\w*"
    r"|SANS"
    r"|AUCUN\w*|PAS|SENZA|NESSUN\w*|SIN|NINGUN\w*|SEM|NENHUM\w*|BEZ|BRAK|NIE|БЕЗ|НЕТ|НЕ|НАТИВ\w*|UNENHANCED|PLAIN"
    r"|NC|NCCT|NECT|NONCON\w*|NOCONTRAST|ENTFALLT|CONTRAINDIC\w*|NEIN"
    r"|NAO|NEJ|NEE|EI|ZONDER|GEEN|INGEN|UTAN|UDEN|UTEN|ILMAN|YOK|KONTRASTSIZ",
    "无|無|未|不|なし|非|없음|미사용|안함|비 ?조영|しない",
)
ORAL = _pattern(r"ORAL\w*|PER OS|P O|PO|RECTAL\w*|BARIUM|H2O|WATER|WASSER|EAU|AGUA|AC?QUA", "口服|経口|경구")
NOT_GIVEN = _pattern(rf"(?:NOT|NICHT|NON|PAS|NO|НЕ|NIE) (?:{GIVEN}|ВВОД\w*|ПРИМЕН\w*)", "未使用|未注射|不使用|使用せず")
AGENT = _pattern(
    r"OMNIPA\w*|IOHEXOL\w*|ULTRAVIST\w*|IOPROMID\w*|VISIPA\w*|IODIXANOL\w*|ISOVUE\w*|IOPAM\w*|NIOPAM\w*|SOLUTRAST\w*"
    r"|IMERON\w*|IOMER\w*|XENETIX\w*|IOBITRIDOL\w*|OPTIRAY\w*|IOVERSOL\w*|ACCUPA\w*|OXILAN\w*|HEXABRIX|CONRAY\w*"
    r"|TELEBRIX\w*|SCANLUX\w*|OPTIJECT\w*|GADO\w*|NON ?IONI\w*|ИОГЕКСОЛ\w*|ОМНИПАК\w*|УЛЬТРАВИСТ\w*",
    "碘|ヨード|요오드|离子|離子|イオン",
)
IONIC = re.compile("NON ?IONI|非(?:离子|離子|イオン)")
VEIN = _pattern(r"I ?V|INTRAV\w*")

# --- energy, purpose -----------------------------------------------------------------------------------------------

SPECTRAL = _pattern(
    r"MONO(?! ?PHAS)|MONO ?E ?\d*|MONO ?E?NERG\w*|MONO ?CHROM\w*|MONO ?\d+|ME ?\d{2,3}|\d* ?KEV|VMI|VMS|VNC\w*|VUE"
    r"|[VW]IRTU(?:AL|EL)\w*|IODINE\w*|I MAP|JOD(?:KARTE|MAP|BILD|OW\w*)?|(?<!CONTRASTE )IODE|YODO|IOD(?:IO|O)|JOD\w?"
    r"|PURE ?(?:CALCIUM|LUMEN)"
    r"|Z ?EFF\w*|EFFECTIVE (?:ATOMIC|Z)|E(?:LECTRON)? ?DENSITY|ELEKTRONENDICHTE|DENSITE ELECTRONIQUE|RHO ?Z?"
    r"|CALCIUM SUPP\w*"
    r"|(?:VIRTUAL )?NON ?CALCIUM|VNCA|NON CA|SBI|MATERIAL DENSITY|HAP|URIC ACID|BONE ?(?:SUB\w*|REM\w*|FREE)"
    r"|KNOCHEN ?(?:SUB|FREI|ENTF)\w*"
    r"|SUBTRACT\w*|SUBTRAKT\w*|SOUSTRACT\w*|МОНО|МОНОЭНЕРГ\w*|\d* ?КЭВ|ВИРТУАЛЬН\w*|ИОД(?:А|Н\w*)?"
    r"|(?:CB|C ARM |FLAT PANEL |FP|FD ?)CT|CONE ?BEAM\w*|CONEBEAM|KEGELSTRAHL\w*"
    r"|\w*DYNA(?: ?CT)?|3D ?RA|LOOP ?X|XPER ?CT|VASO ?CT|INNOVA ?CT"
    r"|FLAT ?(?:PANEL|DETECTOR)\w*|O ?ARM|AIRO",
    "单能|單能|単色|仮想|虚拟|虛擬|가상|碘图|碘基|ヨード|有效原子序数|実効原子番号|电子密度|電子密度|锥形束"
    "|コーンビーム|단색|요오드",
)
SPECTRAL_TYPES = frozenset(
    {
        "VMI",
        "MONOENERGETIC",
        "MONOCHROMATIC",
        "MONO_E",
        "MONO_PLUS",
        "MONO",
        "GSI",
        "VNC",
        "VUE",
        "IODINE",
        "ENERGY_PROP_WT",
    }
    | {"MAT_SPECIFIC", "MAT_REMOVED", "MAT_FRACTIONAL", "MAT_VALUE_BASED", "MAT_MODIFIED", "EFF_ATOMIC_NUM", "Z_EFF"}
    | {"ELECTRON_DENSITY", "BONE_SUBTRACTED", "SUBTRACTION", "BONE_MASK", "CBCT"}
)
DERIVED_TYPES = frozenset(
    {"LOCALIZER", "MIP", "MINIP", "MAX_IP", "MIN_IP", "VOLUME RENDERED", "VOLREND", "VRT", "SSD", "PROJECTION IMAGE"}
    | {"PERFUSION", "CBF", "CBV", "MTT", "TTP", "TMAX", "SCREEN SAVE", "SCREENSHOT", "DOSE_INFO", "STRESS"}
)
OTHER_PURPOSE = _pattern(
    r"SCOUT|TOPOGRAM\w*|SURVIEW|SCANOGRAM|LOCALI[SZ]ER|MIP|MINIP|VRT|PERFUSION\w*|CTP|CBF|CBV|MTT|TMAX|TTP|SCREEN ?S\w+"
    r"|DOSE (?:REPORT|INFO)|PATIENT PROTOCOL|PROTOCOL PAGE|PRE ?MONITORING|MONITORING"
    r"|VOLUME REND\w*|VR|SSD|TOPO|RAPID SUMMARY|TIMING BOLUS|BOLUS TRACK\w*|TEST ?BOLUS|SMART ?PREP"
    r"|ПЕРФУЗ\w*|ТЕСТ БОЛЮС"
    r"|PERFUZJ\w*|TOPOGRAMA",
    "灌注|灌流|定位像|位置決め|관류",
)

# --- kernels, units ------------------------------------------------------------------------------------------------

SHARP_GE = frozenset({"BONE", "BONEPLUS", "BONE PLUS", "EDGE", "LUNG", "ULTRA", "HD BONE", "HD BONEPLUS", "BONE2"})
SHARP_PHILIPS = frozenset({"D", "E", "F", "G", "L", "YA", "YB", "YC", "YD", "YE", "YF", "Y SHARP", "ED"})
SIEMENS = re.compile(r"[A-Z]{1,2}(\d\d)[A-Z]?(?: ?\d)?")
SIEMENS_SHARP = 57  # chosen: from Bl57 (lung) on; the number grows with the sharpness, brain has 30 to 45
CANON = re.compile(r"FC ?(\d\d)\w*")
CANON_SHARP = (*range(30, 40), *range(50, 60), *range(80, 90))
"""FC30 to 39 for bone, FC50 to 59 for lungs, FC80 to 89 of high resolution."""
SHARP_WORD = _pattern(
    r"V?SHARP|SCHARF|(?<!\d )[BHQ]R (?:5[7-9]|[6-9]\d)|BONE\w*|KNOCHEN\w*|OSSEU\w*|OSSEA?"
    r"|OSEO|OSEA|HUESO|OSSO|KOS[CT]\w{0,3}|КОСТ\w*|LUNG|EDGE|INNER EAR"
    r"|BNE|KNOCHERN\w*|OS(?= CRANE)|(?<=CRANE )OS|FILTRE OS|FC ?[358]\d"
    r"|(?:HR?|HC|JR?|BR?|BL|UR?|QR)(?:5[7-9]|[6-9]\d)[A-Z]?|骨|골",
    "骨窗|骨算法|骨条件|骨関数|뼈|골 ?윈도우|골창",
)
HOUNSFIELD = frozenset({"", "HU", "H U", "UH", "U H", "HE", "JH", "J H", "HUS", "HU UNITS", "US", "UNSPECIFIED"})
"""Rescale Types that stand for Hounsfield units, in the initials of several languages, or leave it to the pixels."""
SOUNDS_LIKE = 0.8
"""Share of letters that a misspelt Hounsfield has in common with the name: HOUNDSFIELD .95, HOUNSFELD .95."""


# --- words ---------------------------------------------------------------------------------------------------------


VOICED = "\u3099\u309a"
"""The marks that make another letter of a Japanese one, and no accent."""
GIVEN_BY = "(?:[CС]|IV|KM|CM)"
"""What a plus sign stands beside, when it means contrast."""


@lru_cache(maxsize=1024)
def plain(words: str) -> str:
    """Upper case, without accents; everything but letters, digits and "+" is a blank; "+" says "plus".

    Only the first LONGEST_TEXT characters: normalisation is quadratic, and holds the interpreter.
    """
    split = unicodedata.normalize("NFKD", words[:LONGEST_TEXT])
    bare = unicodedata.normalize(
        "NFC", "".join(letter for letter in split if letter in VOICED or not unicodedata.combining(letter))
    ).upper()
    bare = bare.translate({ord("Ł"): "L", ord("Ø"): "O", ord("Æ"): "AE", ord("Đ"): "D", ord("_"): " "})
    bare = re.sub(r"\b(?:C|IV) ?- *(?=$|[ )/,])|\(-C\)|造影 ?\([-−]\)|\(造影 ?[-−]\)", " NATIV ", bare)
    bare = re.sub(r"\bCT-([AV])\b", r"CT\1", bare)
    bare = re.sub(rf"\b{GIVEN_BY} ?\+|\+ ?{GIVEN_BY}\b", " C PLUS ", bare)
    return " ".join(re.sub(r"\W+", " ", bare).split())


def _found(pattern: re.Pattern[str], words: str) -> str:
    """What a pattern finds, in our own words: the parts that the pattern itself spells out, never a sender's ending."""
    found = pattern.search(words)
    if found is None:
        return ""
    ours = _literals(pattern)
    closed = (next((part for part in ours if part in word), "") for word in found.group(0).split())
    return " ".join(part for part in closed if part).lower() or ours[-1].lower()


@cache
def _literals(pattern: re.Pattern[str]) -> tuple[str, ...]:
    """Every literal in a pattern, the longest first."""
    return tuple(sorted(set(re.findall(r"(?<!\\)[^\W_]+", pattern.pattern)), key=lambda part: (-len(part), part)))


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


# --- contrast, kernel, energy, purpose -----------------------------------------------------------------------------


def is_agent(agent: str) -> bool:
    """Whether a Contrast/Bolus Agent names one; many write that there was none, and oral contrast reaches no brain.

    A name of a product counts, unless it is said that it was not given; so does any word that is no denial.
    """
    words = plain(agent)
    if not words or NOT_GIVEN.search(words):
        return False
    if NO_AGENT.match(words) and not IONIC.match(words):
        return False
    if AGENT.search(words):
        return True
    if VEIN.search(words):  # whatever was drunk as well
        return not NO_AGENT.search(words)
    return not (NO_AGENT.search(words) or ORAL.search(words))


def is_by_mouth(route: str) -> bool:
    """Whether a Contrast/Bolus Route speaks of the gut and of no vein: what goes there reaches no brain."""
    words = plain(route)
    return bool(ORAL.search(words)) and not VEIN.search(words)


def contrast_word(description: str) -> str:
    """The word by which a description speaks of intravenous contrast; empty when it does not, or denies it."""
    return _found(CONTRAST, " ".join(WITHOUT_CONTRAST.sub(" ", plain(description)).split()))


def sharp_kernel(kernels: list[str]) -> str:
    """The first value of Convolution Kernel that stands for a sharp kernel; empty when none does.

    As the vendor spells it when it is a vendor's name and nothing else; otherwise the word in it that we know.
    """
    sharp = next((kernel for kernel in kernels if _sharp(plain(kernel))), "")
    name = plain(sharp)
    if canon := CANON.fullmatch(name):
        return f"FC{canon.group(1)}"
    whole = name in SHARP_GE or name in SHARP_PHILIPS or SIEMENS.fullmatch(name)
    if whole and len(sharp) <= LONGEST_KERNEL and sharp.isascii() and sharp.isprintable():
        return sharp
    return _found(SHARP_WORD, name).upper() or name[:LONGEST_KERNEL]


def _sharp(kernel: str) -> bool:
    if kernel in SHARP_GE or kernel in SHARP_PHILIPS or SHARP_WORD.search(kernel):
        return True
    if canon := CANON.fullmatch(kernel):
        return int(canon.group(1)) in CANON_SHARP
    siemens = SIEMENS.fullmatch(kernel)
    return bool(siemens and int(siemens.group(1)) >= SIEMENS_SHARP)


def sharp_word(description: str) -> str:
    """The word by which a description speaks of a sharp kernel; empty when it does not."""
    return _found(SHARP_WORD, plain(description))


def spectral_word(description: str, types: Iterable[str] = ()) -> str:
    """The word for a reconstruction whose values are not those of one tube and a ring of detectors; else empty."""
    return ", ".join(sorted(SPECTRAL_TYPES.intersection(types))) or _found(SPECTRAL, plain(description))


def is_hounsfield(rescale_type: str) -> bool:
    """Whether a Rescale Type stands for Hounsfield units, in any spelling; unspecified ones are left to the pixels."""
    words = plain(rescale_type)
    if words in HOUNSFIELD or "ХАУНСФИЛД" in words or "亨" in words or "ハウンスフィールド" in words:
        return True
    return any(SequenceMatcher(None, "HOUNSFIELD", word[:12]).ratio() >= SOUNDS_LIKE for word in words.split())


def derived_types(types: tuple[str, ...]) -> str:
    """The values of Image Type that stand for something else than slices of the scanner, as one text."""
    return ", ".join(sorted(DERIVED_TYPES.intersection(types)))


def other_purpose(description: str) -> str:
    """The word by which a description speaks of something else than slices of the head; empty when it does not."""
    return _found(OTHER_PURPOSE, plain(description))
