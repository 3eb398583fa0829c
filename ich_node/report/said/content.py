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

from pydicom import Dataset
from pydicom.sr.coding import Code

from ich_node import __version__
from ich_node.dicom import geometry, reading
from ich_node.domain.findings import COMPARTMENTS, DISCLAIMER, Analysis, Finding, KeySlice, Laterality, Peak, Priority
from ich_node.domain.reasons import Why
from ich_node.report import headers
from ich_node.report.said import reasons
from ich_node.report.said.wording import WORDINGS, Language, Wording
from ich_node.report.sr import codes

Tone = Literal["STAT", "HIGH", "ROUTINE", "NOT ANALYSED"]

CorrectionKind = Literal["more images", "again"]

SERIES_DESCRIPTION = "ICH TRIAGE"
LINE_BREAK = "\r\n"  # PS3.5 6.1.3: what a text value breaks its lines with
MOST_SITES = 2  # chosen: a place is found with two names; more are read as doubt
BESIDE_THE_BRAIN = ("epidural", "subdural", "subarachnoid")


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer on one label.

    percent: the probability as people read it; percent_value: 0..100 with one decimal, for a measurement. Of a type
    that is also possible no number is shown: 98 % beside it would be read as a finding of its own.
    site, laterality: codes, only when present (and, for the side, when sure). where, where_first (with the likeliest
    place alone), slices, slice_range, images, strongest and extent are words, empty when absent or not known; images:
    the numbers that a viewer shows for slice_range. text: all of it, a line per sentence.
    """

    label: str
    name: str
    present: bool
    also_possible: bool
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
    where_first: str
    slices: str
    slice_range: str
    images: str
    strongest: str
    extent: str
    text: str


@dataclass(frozen=True, slots=True)
class Caption:
    """What stands on the picture of one key slice: `title` with the probability, side and site there, the slice.

    site, laterality: codes of this place, as in Answer.
    """

    title: str
    where: str
    position: tuple[str, ...]
    site: Code
    laterality: Code | None


@dataclass(frozen=True, slots=True)
class Correction:
    """That a result replaces an earlier one. earlier: when that one was made, for people; empty when not known."""

    kind: CorrectionKind
    earlier: str = ""


@dataclass(frozen=True, slots=True)
class Content:
    """Everything that is said about one series.

    tone: priority, or NOT ANALYSED, for colours and series descriptions (never translated).
    banner, banner_note: the same for people. headline: the answer. explanation: what goes with it.
    priority_code, status_code: one of them is set: the priority, or why there is none (CID 6047).
    instead: what to send for an answer. looked_at: slices, thickness and height that were read; empty without analysis.
    answers: one per label, "any" first; captions: one per key slice, in the same order; survey: the slice of each
    picture of the survey. warnings: what changes the worth of the answer; remarks: what is technical.
    facts: model, provider, time; bands: how good each priority is; measured: the same in one line.
    disclaimers: the first one is domain.DISCLAIMER.
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
    instead: str
    looked_at: str
    answers: tuple[Answer, ...]
    captions: tuple[Caption, ...]
    survey: tuple[str, ...]
    warnings: tuple[str, ...]
    remarks: tuple[str, ...]
    notes: tuple[str, ...]
    facts: tuple[str, ...]
    bands: tuple[str, ...]
    measured: str
    disclaimers: tuple[str, ...]
    headings: tuple[str, str, str, str]
    activation: str
    series_description: str
    summary: str


def content(
    analysis: Analysis, *, language: Language, made_at: datetime, corrected: Correction | None = None
) -> Content:
    """What is said about `analysis`; `corrected`: what it replaces, and why. `made_at` is aware."""
    words = WORDINGS[language]
    tone: Tone = "NOT ANALYSED" if analysis.priority is None else analysis.priority.value
    answers = tuple(_answer(finding, analysis, words) for finding in analysis.findings)
    reason = None if analysis.reason is None else reasons.said(analysis.reason, language)
    series = _series(analysis, words)
    looked_at = _looked_at(analysis, words)
    bands, measured = _bands(analysis, words)
    headline = _headline(tone, answers, words)
    banner_note = words.priorities[analysis.priority] if analysis.priority else ""
    worth = frozenset(Why) - reasons.TECHNICAL
    if tone == "ROUTINE":
        worth -= reasons.PARTIAL  # which a negative says in its first line
    if analysis.reason is None:
        limits = _warnings(analysis, language, reasons.PARTIAL)
        if limits and headline == words.not_suspected:
            headline = words.not_suspected_in_part
        explanation = _explanation(answers, words, " ".join(_sentences(*limits)))
        answer = (headline, explanation, words.priority.format(priority=f"{tone} ({banner_note})"))
    else:
        remedy = reasons.instead(analysis.reason, language)
        explanation = words.because.format(series=series, reason=reason)
        answer = (words.unanswered.format(series=series, reason=reason), words.no_priority, remedy)
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
        instead="" if analysis.reason is None else reasons.instead(analysis.reason, language),
        looked_at=looked_at,
        answers=answers,
        captions=tuple(_caption(key, analysis, words) for key in analysis.key_slices),
        survey=tuple(_position(index, analysis, words)[0] for index in analysis.survey),
        warnings=(*_correction(corrected, words), *_warnings(analysis, language, worth)),
        remarks=_warnings(analysis, language, reasons.TECHNICAL),
        notes=_notes(answers, words),
        facts=_facts(analysis, words, made_at),
        bands=bands,
        measured=measured,
        disclaimers=(DISCLAIMER, words.unreviewed, *words.disclaimers),
        headings=words.headings,
        activation=words.activation,
        series_description=f"{SERIES_DESCRIPTION} {tone}",
        summary=" ".join(_sentences(*answer)),
    )


def _warnings(analysis: Analysis, language: Language, which: frozenset[Why]) -> tuple[str, ...]:
    return tuple(reasons.said(warning, language) for warning in analysis.warnings if warning.code in which)


def _series(analysis: Analysis, words: Wording) -> str:
    """The series as a viewer lists it: number and description."""
    source = analysis.headers[0]
    number = reading.text(source, "SeriesNumber") or "?"
    description = reading.text(source, "SeriesDescription")
    return words.series.format(number=number) + (f" “{description}”" if description else "")


def _looked_at(analysis: Analysis, words: Wording) -> str:
    volume = analysis.volume
    if volume is None:
        return ""
    heights = volume.heights_mm
    step_mm = volume.spacing_mm[0]
    frame = None if volume.frame_numbers is None else volume.frame_numbers[len(heights) // 2]
    middle = geometry.frame_attributes(volume.headers[len(heights) // 2], frame) if volume.headers else Dataset()
    thickness_mm = reading.number(middle, "SliceThickness") or step_mm
    covered_mm = float(heights[-1] - heights[0]) + thickness_mm
    thick = f"{thickness_mm:.3g}".replace(".", words.decimal_point)
    return words.looked_at.format(count=len(heights), thickness=thick, height=f"{covered_mm:.0f}")


def _bands(analysis: Analysis, words: Wording) -> tuple[tuple[str, ...], str]:
    """How good it is to call a study at least this urgent, as measured, and how many hemorrhages stay below all that.

    As sentences, and as one short line; nothing where the card does not say.
    """
    if not analysis.card.bands:
        return (), ""
    start, each, below = words.measured
    long, short = [], []
    for band in analysis.card.bands:
        values = {
            "priority": band.priority.value,
            "threshold": percentage(band.threshold, words),
            "sensitivity": percentage(band.sensitivity, words),
            "specificity": percentage(band.specificity, words),
        }
        long.append(words.band.format(**values))
        short.append(each.format(**values))
    lowest = analysis.card.bands[-1]
    missed = percentage(1 - lowest.sensitivity, words)
    routine = {"priority": Priority.ROUTINE.value, "threshold": percentage(lowest.threshold, words), "missed": missed}
    long.append(words.below_bands.format(**routine))
    return tuple(long), start + ", ".join([*short, below.format(**routine)])


def _correction(corrected: Correction | None, words: Wording) -> Iterable[str]:
    """What the result replaces and why."""
    if corrected is not None:
        yield words.corrections[corrected.kind].format(earlier=corrected.earlier or "?")


def _headline(tone: Tone, answers: tuple[Answer, ...], words: Wording) -> str:
    if tone == "NOT ANALYSED":
        return words.not_analysed
    return words.suspected if any(answer.present for answer in answers) else words.not_suspected


def _explanation(answers: tuple[Answer, ...], words: Wording, limits: str) -> str:
    """The types found and where, or what a negative is worth; what was not covered stands first of all."""
    present = [answer for answer in answers if answer.present]
    if not present:
        return " ".join(_sentences(limits, words.nothing_excluded))
    likeliest_first = sorted(present, key=lambda answer: -answer.probability)
    types = [_type(answer) for answer in likeliest_first if answer.label != "any"]
    found = "; ".join(types) if types else " ".join(_sentences(words.type_unsure, present[0].where))
    possible = words.either.join(answer.name.lower() for answer in answers if answer.also_possible)
    more = (words.instead if types else words.uncertain).format(types=possible) if possible else ""
    return " ".join(_sentences(found, more)) if more else found


def _type(answer: Answer) -> str:
    return f"{answer.name} {answer.percent}" + (f" ({answer.where})" if answer.where else "")


def _answer(finding: Finding, analysis: Analysis, words: Wording) -> Answer:
    threshold = analysis.card.thresholds[finding.label]
    above = finding.present or finding.also_possible
    percent = percentage(finding.probability, words, threshold=threshold, above=above)
    threshold_percent = percentage(threshold, words)
    where, where_first = (
        _where(finding.label, finding.laterality, finding.sites, words, most) if finding.present else ""
        for most in (MOST_SITES, 1)
    )
    slices, images = _slices(finding, analysis, words), _images(finding, analysis)
    strongest = _at(finding.peak, analysis, words)
    extent = "" if finding.extent_mm is None else words.extent.format(mm=f"{finding.extent_mm:.0f}")
    verdict = words.present if finding.present else words.possible if finding.also_possible else words.absent
    probability = words.probability.format(percent=percent)
    limit = words.threshold.format(percent=threshold_percent)
    believed = "" if finding.also_possible else f", {probability} ({limit})"
    name = words.labels[finding.label]
    peak = words.strongest.format(where=strongest) if strongest else ""
    shown = words.viewer.format(images=images) if images else ""
    place = ", ".join(part for part in (f"{slices} {shown}".strip(), peak) if part)
    return Answer(
        label=finding.label,
        name=name,
        present=finding.present,
        also_possible=finding.also_possible,
        verdict=verdict,
        probability=finding.probability,
        percent="–" if finding.also_possible else percent,
        percent_value=round(100 * finding.probability, 1),
        threshold=threshold,
        threshold_percent=threshold_percent,
        finding=codes.FINDINGS[finding.label],
        site=codes.finding_site(finding.label, finding.sites) if finding.present else None,
        laterality=codes.SIDES[finding.laterality] if finding.present and finding.laterality else None,
        where=where,
        where_first=where_first,
        slices=slices,
        slice_range=_range(finding),
        images=images,
        strongest=strongest,
        extent=extent,
        text=LINE_BREAK.join(_sentences(f"{name}: {verdict}{believed}", where, place, extent)),
    )


def percentage(share: float, words: Wording, *, threshold: float | None = None, above: bool = False) -> str:
    """A probability 0..1 for people: whole percent, never 0 or 100, and never on the wrong side of its threshold."""
    number = f"{100 * share:.0f}"
    if number in ("0", "100"):
        number = "<1" if number == "0" else ">99"
    elif threshold is not None and (round(share, 2) >= round(threshold, 2)) != above:
        number = f"{100 * share:.1f}".replace(".", words.decimal_point)
    return words.percent.format(number=number)


def _where(
    label: str, laterality: Laterality | None, sites: tuple[str, ...], words: Wording, most: int = MOST_SITES
) -> str:
    """Side and the likeliest sites; a compartment only where nothing closer is known."""
    close = [site for site in sites if site not in COMPARTMENTS][:most]
    place = "/".join(words.sites.get(site, site) for site in close or sites[:1])
    if close and label in BESIDE_THE_BRAIN:
        place = words.beside.format(site=place)
    side = words.sides[laterality] if laterality else ""
    return ", ".join(part for part in (side, place) if part)


def _range(finding: Finding) -> str:
    if finding.first_slice is None or finding.last_slice is None:
        return ""
    first, last = finding.first_slice, finding.last_slice
    return str(first) if first == last else f"{first}–{last}"


def _images(finding: Finding, analysis: Analysis) -> str:
    """The numbers of the first and the last slice in a viewer, in this order; empty when a slice has none."""
    if analysis.volume is None or finding.first_slice is None or finding.last_slice is None:
        return ""
    numbers = [_number(index - 1, analysis) for index in (finding.first_slice, finding.last_slice)]
    return "–".join(dict.fromkeys(numbers)) if all(numbers) else ""


def _number(index: int, analysis: Analysis) -> str:
    """What a viewer shows as the number of a slice: Instance Number, or the frame."""
    if analysis.volume is None or not analysis.volume.headers:
        return ""
    if analysis.volume.frame_numbers is not None:
        return str(analysis.volume.frame_numbers[index])
    return reading.text(analysis.volume.headers[index], "InstanceNumber")


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
    number = _number(index, analysis)
    return (name, words.image.format(number=number)) if number else (name,)


def _caption(key: KeySlice, analysis: Analysis, words: Wording) -> Caption:
    """Of this picture: its own place, which may be only a part of the finding's."""
    answer = _answer(analysis.finding(key.label), analysis, words)
    where = _where(key.label, key.laterality, key.sites, words)
    site = codes.finding_site(key.label, key.sites)
    side = codes.SIDES[key.laterality] if key.laterality else None
    return Caption(f"{answer.name} {answer.percent}", where, _position(key.slice_index, analysis, words), site, side)


def _notes(answers: tuple[Answer, ...], words: Wording) -> tuple[str, ...]:
    """How slices and sites are to be read, where there are any."""
    present = [answer for answer in answers if answer.present]
    return (
        *([words.counted] if any(answer.slices for answer in present) else []),
        *([words.more_likely] if any(answer.where for answer in present) else []),
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
