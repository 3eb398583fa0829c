"""What a result says, decided once: words, codes and numbers that pictures, reports and messages only have to lay out.

In: an analysis, a language, when the result was made. Out: a frozen `Content`. No number is born here: probabilities
come from the model, thresholds from its card. Nothing of it depends on how long something took, so that a second
attempt says the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydicom.sr.coding import Code

from ich_node import __version__
from ich_node.dicom import reading
from ich_node.domain.findings import DISCLAIMER, Analysis, Finding, KeySlice, Peak
from ich_node.report import headers
from ich_node.report.said import reasons
from ich_node.report.said.wording import WORDINGS, Language, Wording
from ich_node.report.sr import codes

Tone = Literal["STAT", "HIGH", "ROUTINE", "NOT ANALYSED"]

SERIES_DESCRIPTION = "ICH TRIAGE"
LINE_BREAK = "\r\n"  # PS3.5 6.1.3: what a text value breaks its lines with
COMPARTMENTS = ("supratentorial", "infratentorial")
MOST_SITES = 2
BESIDE_THE_BRAIN = ("epidural", "subdural", "subarachnoid")


@dataclass(frozen=True, slots=True)
class Line:
    """The answer on one label.

    percent: the probability as people read it; percent_value: 0..100 with one decimal, for a measurement.
    site, laterality: codes, only when present (and, for the side, when sure). where, slices, slice_range, strongest
    and extent are words, empty when absent or not known. text: all of it, a line per sentence.
    """

    label: str
    name: str
    present: bool
    verdict: str
    probability: float
    percent: str
    percent_value: float
    threshold: float
    threshold_percent: str
    finding: Code
    site: Code | None
    laterality: Code | None
    where: str
    slices: str
    slice_range: str
    strongest: str
    extent: str
    text: str


@dataclass(frozen=True, slots=True)
class Caption:
    """What stands on the picture of one key slice: `title` with the probability, then side and site, then the slice."""

    title: str
    where: str
    position: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Content:
    """Everything that is said about one series.

    tone: priority, or NOT ANALYSED, for colours and series descriptions (never translated).
    banner, banner_note: the same for people. headline: the answer. explanation: what goes with it.
    priority_code, status_code: one of them is set: the priority, or why there is none (CID 6047).
    lines: one per label, "any" first; captions: one per key slice, in the same order.
    facts: model, provider, time. disclaimers: the first one is domain.DISCLAIMER.
    summary: headline, explanation and priority as one paragraph.
    """

    language: Language
    tone: Tone
    title: str
    banner: str
    banner_note: str
    headline: str
    explanation: str
    priority_code: Code | None
    status_code: Code | None
    reason: str | None
    lines: tuple[Line, ...]
    captions: tuple[Caption, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    facts: tuple[str, ...]
    disclaimers: tuple[str, ...]
    headings: tuple[str, str, str, str]
    activation: str
    series_description: str
    summary: str


def content(analysis: Analysis, *, language: Language, made_at: datetime, corrected: bool = False) -> Content:
    """What is said about `analysis`; `corrected` when the result replaces an earlier one. `made_at` is aware."""
    words = WORDINGS[language]
    tone: Tone = "NOT ANALYSED" if analysis.priority is None else analysis.priority.value
    lines = tuple(_line(finding, analysis, words) for finding in analysis.findings)
    reason = None if analysis.reason is None else reasons.said(analysis.reason, language)
    headline = _headline(tone, lines, words)
    explanation = _explanation(tone, lines, reason, words)
    banner_note = words.priorities[analysis.priority] if analysis.priority else ""
    priority = f"{tone} ({banner_note})"
    answer = (headline, explanation, words.priority.format(priority=priority))
    if analysis.priority is None:
        answer = (words.unanswered.format(reason=reason), "", words.no_priority)
    warnings = tuple(reasons.said(warning, language) for warning in analysis.warnings)
    return Content(
        language=language,
        tone=tone,
        title=words.title,
        banner=words.not_analysed if analysis.priority is None else tone,
        banner_note=banner_note,
        headline=headline,
        explanation=explanation,
        priority_code=codes.PRIORITIES[analysis.priority] if analysis.priority else None,
        status_code=None if analysis.priority else codes.NO_ALGORITHM_SUCCEEDED,
        reason=reason,
        lines=lines,
        captions=tuple(_caption(key, analysis, words) for key in analysis.key_slices),
        warnings=(*([words.corrected] if corrected else []), *warnings),
        notes=_notes(lines, words),
        facts=_facts(analysis, words, made_at),
        disclaimers=(DISCLAIMER, words.unreviewed, *words.disclaimers),
        headings=words.headings,
        activation=words.activation,
        series_description=f"{SERIES_DESCRIPTION} {tone}",
        summary=" ".join(_sentences(*answer)),
    )


def _headline(tone: Tone, lines: tuple[Line, ...], words: Wording) -> str:
    if tone == "NOT ANALYSED":
        return words.not_analysed
    return words.suspected if any(line.present for line in lines) else words.not_suspected


def _explanation(tone: Tone, lines: tuple[Line, ...], reason: str | None, words: Wording) -> str:
    """For people: the types found and where, or what a negative is worth, or why there is no answer."""
    if tone == "NOT ANALYSED":
        return words.because.format(reason=reason)
    present = [line for line in lines if line.present]
    if not present:
        return words.nothing_excluded
    likeliest_first = sorted(present, key=lambda line: -line.probability)
    types = [_type(line) for line in likeliest_first if line.label != "any"]
    if types:
        return "; ".join(types)
    return " ".join(_sentences(words.type_unsure, present[0].where))


def _type(line: Line) -> str:
    return f"{line.name} {line.percent}" + (f" ({line.where})" if line.where else "")


def _line(finding: Finding, analysis: Analysis, words: Wording) -> Line:
    threshold = analysis.card.thresholds[finding.label]
    percent = percentage(finding.probability, words, threshold=threshold, above=finding.present)
    threshold_percent = percentage(threshold, words)
    where, slices = _where(finding, words), _slices(finding, analysis, words)
    strongest = _at(finding.peak, analysis, words)
    extent = "" if finding.extent_mm is None else words.extent.format(mm=f"{finding.extent_mm:.0f}")
    verdict = words.present if finding.present else words.absent
    probability = words.probability.format(percent=percent)
    limit = words.threshold.format(percent=threshold_percent)
    name = words.labels[finding.label]
    peak = words.strongest.format(where=strongest) if strongest else ""
    place = ", ".join(part for part in (slices, peak) if part)
    return Line(
        label=finding.label,
        name=name,
        present=finding.present,
        verdict=verdict,
        probability=finding.probability,
        percent=percent,
        percent_value=round(100 * finding.probability, 1),
        threshold=threshold,
        threshold_percent=threshold_percent,
        finding=codes.FINDINGS[finding.label],
        site=codes.finding_site(finding.label, finding.sites) if finding.present else None,
        laterality=codes.SIDES[finding.laterality] if finding.present and finding.laterality else None,
        where=where,
        slices=slices,
        slice_range=_range(finding),
        strongest=strongest,
        extent=extent,
        text=LINE_BREAK.join(_sentences(f"{name}: {verdict}, {probability} ({limit})", where, place, extent)),
    )


def percentage(share: float, words: Wording, *, threshold: float | None = None, above: bool = False) -> str:
    """A probability 0..1 for people: whole percent, never 0 or 100, and never on the wrong side of its threshold."""
    number = f"{100 * share:.0f}"
    if number in ("0", "100"):
        number = "<1" if number == "0" else ">99"
    elif threshold is not None and (round(share, 2) >= round(threshold, 2)) != above:
        number = f"{100 * share:.1f}".replace(".", words.decimal_point)
    return words.percent.format(number=number)


def _where(finding: Finding, words: Wording) -> str:
    """Side and the likeliest sites; a compartment only where nothing closer is known."""
    if not finding.present:
        return ""
    close = [site for site in finding.sites if site not in COMPARTMENTS][:MOST_SITES]
    sites = [words.sites.get(site, site) for site in close or finding.sites[:1]]
    place = "/".join(sites)
    if close and finding.label in BESIDE_THE_BRAIN:
        place = words.beside.format(site=place)
    side = words.sides[finding.laterality] if finding.laterality else ""
    return ", ".join(part for part in (side, place) if part)


def _range(finding: Finding) -> str:
    if finding.first_slice is None or finding.last_slice is None:
        return ""
    first, last = finding.first_slice, finding.last_slice
    return str(first) if first == last else f"{first}–{last}"


def _slices(finding: Finding, analysis: Analysis, words: Wording) -> str:
    if analysis.volume is None or finding.first_slice is None:
        return ""
    form = words.one_slice if finding.first_slice == finding.last_slice else words.slices
    return form.format(first=finding.first_slice, last=finding.last_slice, count=len(analysis.volume.hu))


def _at(peak: Peak | None, analysis: Analysis, words: Wording) -> str:
    if peak is None:
        return ""
    name = words.slice.format(first=peak.slice_index + 1)
    image = _position(peak.slice_index, analysis, words)[1:]
    return f"{name} ({image[0]})" if image else name


def _position(index: int, analysis: Analysis, words: Wording) -> tuple[str, ...]:
    """The slice by our count and, where it has one, by the number that a viewer shows."""
    if analysis.volume is None:
        return ()
    name = words.one_slice.format(first=index + 1, count=len(analysis.volume.hu))
    if analysis.volume.frame_numbers is not None:
        return name, words.frame.format(number=analysis.volume.frame_numbers[index])
    number = reading.text(analysis.volume.headers[index], "InstanceNumber")
    return (name, words.image.format(number=number)) if number else (name,)


def _caption(key: KeySlice, analysis: Analysis, words: Wording) -> Caption:
    line = _line(analysis.finding(key.label), analysis, words)
    return Caption(f"{line.name} {line.percent}", line.where, _position(key.slice_index, analysis, words))


def _notes(lines: tuple[Line, ...], words: Wording) -> tuple[str, ...]:
    """How slices and sites are to be read, where there are any."""
    present = [line for line in lines if line.present]
    return (
        *([words.counted] if any(line.slices for line in present) else []),
        *([words.more_likely] if any(line.where for line in present) else []),
    )


def _facts(analysis: Analysis, words: Wording, made_at: datetime) -> tuple[str, ...]:
    card, source = analysis.card, analysis.headers[0]
    made = headers.local_time(made_at, source).strftime(words.time)
    model = words.model.format(id=card.id, version=card.version, sha256=card.sha256[:12], node=__version__)
    number = reading.text(source, "SeriesNumber") or "?"
    images = words.images.format(count=len(analysis.headers), number=number)
    provider = words.provider.format(provider=analysis.provider.removesuffix("ExecutionProvider"))
    return (f"{model}. {provider}.", f"{images}. {words.made.format(time=made)}.")


def _sentences(*parts: str) -> Iterable[str]:
    """Each part as a sentence: first letter large, a full stop at its end; empty ones are left out."""
    for part in parts:
        if part:
            text = part[0].upper() + part[1:]
            yield text if text[-1] in ".!?" else f"{text}."
