"""An unsolicited observation message, HL7 v2.5.1 ORU^R01, from result.json and the header of the study. Pure.

    MSH · PID · PV1 · ORC · OBR · OBX (priority) · OBX per finding (present or absent, certainty) · OBX (text)

What a site wants elsewhere stands in its configuration: `fields` maps "OBR-18" to a text with DICOM keywords in braces.
The same result gives the same bytes, message control ID and times included, so that a repeated message changes nothing.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from hl7apy.core import Segment
from hl7apy.exceptions import HL7apyException

from ich_node.domain.errors import PeerRefused
from ich_node.runtime.config import Hl7Config

VERSION = "2.5.1"
DELIMITERS = "^~\\&"
"""MSH-2."""
FIELD = re.compile(r"(MSH|PID|PV1|ORC|OBR)-([0-9]{1,2})")
PLACE = re.compile(r"\{(\w+)\}")
ESCAPES = {"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\", "\r": " ", "\n": " "}
CHARSETS = {"UNICODE UTF-8": "utf-8", "8859/1": "latin-1", "ASCII": "ascii"}
"""MSH-18 (HL7 table 0211) → Python's name."""
TIMES = {"STAT": "S", "HIGH": "A"}
"""OBR-5 (HL7 table 0027): the rest is R, routine."""
ABNORMAL = {"STAT": "AA", "HIGH": "A", "ROUTINE": "N"}
"""OBX-8 (HL7 table 0078); a site may have other codes."""

FIELDS: Mapping[str, str] = {
    "PID-1": "1",
    "PID-3": "{PatientID}^^^{IssuerOfPatientID}",
    "PID-5": "{PatientName}",
    "PID-7": "{PatientBirthDate}",
    "PID-8": "{PatientSex}",
    "PV1-1": "1",
    "PV1-2": "U",
    "ORC-1": "RE",
    "ORC-3": "{AccessionNumber}",
    "OBR-1": "1",
    "OBR-3": "{AccessionNumber}",
    "OBR-4": "24725-4^CT Head^LN",
    "OBR-7": "{StudyDate}{StudyTime}",
    "OBR-18": "{AccessionNumber}",
    "OBR-24": "CT",
}
"""Where the header goes unless the configuration says otherwise."""


def escaped(text: str) -> str:
    """Text whose delimiters are data (HL7 v2.5.1 2.7)."""
    return "".join(ESCAPES.get(character, character) for character in text)


def message(result: Mapping[str, Any], header: Mapping[str, str], config: Hl7Config, made_at: float) -> bytes:
    """The message. header: DICOM keyword → text. made_at: Unix seconds.

    Raises PeerRefused when the configured mapping does not fit HL7.
    """
    fields = {**FIELDS, **config.fields}
    made = datetime.fromtimestamp(made_at, UTC).strftime("%Y%m%d%H%M%S+0000")
    status = "C" if result.get("predecessor") is not None else config.status
    fixed = {
        "OBR-5": TIMES.get(result.get("priority") or "", "R"),
        "OBR-22": made,
        "OBR-25": status,
    }
    try:
        segments = [
            _segment(
                name,
                {number: text for (segment, number), text in _filled({**fixed, **fields}, header) if segment == name},
            )
            for name in ("PID", "PV1", "ORC", "OBR")
        ]
        segments += [
            _segment("OBX", {"1": str(number), **observation, "11": status})
            for number, observation in enumerate(_observations(result, header, config), 1)
        ]
        body = "\r".join(segments) + "\r"
        charset = config.charset if _fits(body, config.charset) else "UNICODE UTF-8"
        control_id = hashlib.sha256(f"{config.name}\n{made}\n{body}".encode()).hexdigest()[:20]
        accept, application = ("AL", "NE") if config.mode == "enhanced" else ("", "")
        head = {
            "3": escaped(config.sending_application),
            "4": escaped(config.sending_facility),
            "5": escaped(config.receiving_application),
            "6": escaped(config.receiving_facility),
            "7": made,
            "9": "ORU^R01^ORU_R01",
            "10": control_id,
            "11": "P",
            "12": VERSION,
            "15": accept,
            "16": application,
            "18": charset,
        }
        head |= _of("MSH", _filled(config.fields, header))
        msh = _segment("MSH", head).replace("MSH|", f"MSH|{DELIMITERS}", 1)
        return (msh + "\r" + body).encode(CHARSETS[charset])
    except HL7apyException as error:
        raise PeerRefused(f"the mapping does not fit HL7: {type(error).__name__}") from error


def control_id(message_bytes: bytes) -> str:
    """MSH-10 of a message."""
    return message_bytes.split(b"\r", 1)[0].split(b"|")[9].decode("ascii", "replace")


def _filled(fields: Mapping[str, str], header: Mapping[str, str]) -> Iterator[tuple[tuple[str, str], str]]:
    for key, template in fields.items():
        found = FIELD.fullmatch(key)
        if found is None:
            raise PeerRefused(f"{key} is no field of MSH, PID, PV1, ORC or OBR")
        text = PLACE.sub(lambda place: _value(place[1], header), template)
        yield (found[1], found[2]), text.rstrip("^")


def _of(name: str, filled: Iterator[tuple[tuple[str, str], str]]) -> dict[str, str]:
    """The fields of one segment, by number."""
    return {number: text for (segment, number), text in filled if segment == name}


def _value(keyword: str, header: Mapping[str, str]) -> str:
    raw = header.get(keyword, "")
    if keyword.endswith("Name") and "^" in raw:  # PN to XPN: family, given, middle, suffix, prefix
        family, given, middle, prefix, suffix, *_ = (*raw.split("=")[0].split("^"), "", "", "", "", "")
        return "^".join(map(escaped, (family, given, middle, suffix, prefix))).rstrip("^")
    if keyword.endswith(("Time", "Date")):
        return re.sub(r"[^0-9]", "", raw.split(".")[0])
    return escaped(raw)


def _segment(name: str, fields: Mapping[str, str]) -> str:
    segment = Segment(name, version=VERSION)
    for number, text in fields.items():
        if text:
            setattr(segment, f"{name.lower()}_{number}", text)
    return str(segment.to_er7())


def _fits(text: str, charset: str) -> bool:
    try:
        text.encode(CHARSETS[charset])
    except UnicodeEncodeError:
        return False
    return True


def _observations(result: Mapping[str, Any], header: Mapping[str, str], config: Hl7Config) -> Iterator[dict[str, str]]:
    """OBX fields 2, 3, 5, 6 and 8 of every observation, by field number."""
    priority = result.get("priority")
    if priority is None:
        reason = escaped(str(result.get("reason") or "no reason given"))
        yield {"2": "TX", "3": "ICH-STATUS^Analysis^99ICHNODE", "5": f"Not analysed: {reason}"}
    else:
        flags = {**ABNORMAL, **{str(key): flag for key, flag in config.abnormal_flags.items()}}
        yield {"2": "ST", "3": "ICH-PRIORITY^Triage priority^99ICHNODE", "5": priority, "8": flags.get(priority, "")}
    for finding in result.get("findings", ()):
        label = finding["label"]
        code = f"ICH-{label.upper()}^Intracranial hemorrhage, {label}^99ICHNODE"
        present = bool(finding["present"])
        if finding.get("also_possible"):  # neither, and no number: 98 % would be read as a finding of its own
            yield {"2": "ST", "3": code, "5": "not told apart from another type"}
            continue
        side = f", {finding['laterality']}" if present and finding.get("laterality") else ""
        words = f"{'present' if present else 'absent'}{side}"
        yield {"2": "ST", "3": code, "5": words, "8": "A" if present else "N"}
        certainty = f"{100 * finding['probability']:.0f}"
        yield {"2": "NM", "3": f"{code.replace('^', '-P^', 1)}", "5": certainty, "6": "%^percent^UCUM"}
    if config.link:
        link = PLACE.sub(lambda place: _value(place[1], header), config.link)
        yield {"2": "ST", "3": "ICH-LINK^Link^99ICHNODE", "5": escaped(link)}
    yield {"2": "TX", "3": "ICH-NOTE^Note^99ICHNODE", "5": escaped(str(result.get("disclaimer", "")))}
