"""What is said: the same facts in both languages, never a number that says the opposite of the verdict."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime

import pytest
from analysis_builder import make_analysis

from ich_node.domain.findings import DISCLAIMER, LABELS, SITES, Band, Laterality, Priority
from ich_node.domain.reasons import Reason, Why
from ich_node.report.said.content import Correction, content, percentage
from ich_node.report.said.wording import ENGLISH, GERMAN, WORDINGS
from ich_node.report.sr import codes

MADE_AT = datetime(2026, 11, 23, 22, 30, tzinfo=UTC)
SMALL = {"rows": 64, "columns": 64, "pixel_mm": (3.6, 3.6)}


def said(kind="positive", language="en", corrected=None, **changes):
    analysis = dataclasses.replace(make_analysis(kind, **SMALL), **changes)
    return content(analysis, language=language, made_at=MADE_AT, corrected=corrected)


def test_a_positive_names_type_probability_side_and_priority():
    assert said().summary == (
        "Intracranial hemorrhage suspected. Intraparenchymal 96% (right, parietal lobe). Priority: STAT (read at once)."
    )


def test_a_negative_does_not_promise_that_there_is_no_hemorrhage():
    assert said("negative").summary == (
        "No hemorrhage suspected. This does not exclude a hemorrhage. Priority: ROUTINE (usual order)."
    )


def test_a_series_that_was_not_analysed_never_looks_negative():
    page = said("not_analysed")
    assert page.summary.startswith(
        "Series 2 “HEAD 5.0 H31” NOT ANALYSED, because contrast medium was given (so says the image header). This is"
    )
    assert (page.tone, page.answers, page.priority_code) == ("NOT ANALYSED", (), None)
    assert page.status_code == codes.NO_ALGORITHM_SUCCEEDED


@pytest.mark.parametrize("kind", ["positive", "negative", "not_analysed"])
@pytest.mark.parametrize("language", WORDINGS)
def test_every_result_carries_the_disclaimer(kind, language):
    assert said(kind, language).disclaimers[0] == DISCLAIMER


@pytest.mark.parametrize("kind", ["positive", "negative"])
def test_codes_and_numbers_do_not_depend_on_the_language(kind):
    def facts(language):
        lines = said(kind, language).answers
        return [(x.label, x.present, x.percent_value, x.finding, x.site, x.laterality, x.threshold) for x in lines]

    assert facts("en") == facts("de")


def test_there_is_one_line_per_label_in_the_order_of_the_labels():
    assert tuple(line.label for line in said("negative").answers) == LABELS


@pytest.mark.parametrize("kind", ["negative", "not_analysed"])
def test_only_what_is_present_has_a_place(kind):
    for line in said(kind).answers:
        assert (line.site, line.laterality, line.where, line.slices, line.extent) == (None, None, "", "", "")


def test_an_uncertain_side_is_left_out():
    analysis = make_analysis("positive", **SMALL)
    findings = tuple(dataclasses.replace(f, laterality=None) if f.present else f for f in analysis.findings)
    line = said(findings=findings).answers[0]
    assert line.laterality is None
    assert line.where == "parietal lobe"


def test_blood_beside_the_brain_is_near_a_lobe_not_in_it():
    line = next(
        x
        for x in content(make_analysis("positive", label="subdural", **SMALL), language="en", made_at=MADE_AT).answers
        if x.label == "subdural"
    )
    assert line.where == "right, near parietal lobe"
    assert line.site == codes.INTRACRANIAL


def test_the_likeliest_type_is_named_first():
    analysis = make_analysis("positive", **SMALL)
    findings = tuple(
        dataclasses.replace(f, present=True, probability=0.6) if f.label == "epidural" else f for f in analysis.findings
    )
    assert said(findings=findings).explanation.startswith("Intraparenchymal 96%")


def test_any_without_a_type_says_that_the_type_is_uncertain():
    analysis = make_analysis("positive", **SMALL)
    findings = tuple(
        f if f.label == "any" else dataclasses.replace(f, present=False, laterality=None, sites=())
        for f in analysis.findings
    )
    assert said(findings=findings, key_slices=()).explanation.startswith("The type is uncertain.")


def test_a_negative_with_lost_slices_says_so_in_its_first_lines():
    page = said("negative", warnings=(Reason(Why.GAPS, count=3, missing_mm=15.0),))
    assert page.headline == ENGLISH.not_suspected_in_part
    assert page.explanation.startswith("15 mm of the head were not looked at: slices are missing (gaps: 3).")


@pytest.mark.parametrize("priority", Priority)
def test_every_priority_has_a_series_description_to_sort_by(priority):
    assert said(priority=priority).series_description == f"ICH TRIAGE {priority.value}"


@pytest.mark.parametrize("kind", ENGLISH.corrections)
@pytest.mark.parametrize("language", WORDINGS)
def test_a_corrected_result_says_what_it_follows_and_why(kind, language):
    warning = said(language=language, corrected=Correction(kind, "2026-11-26 03:12")).warnings[0]
    assert "2026-11-26 03:12" in warning
    assert set(GERMAN.corrections) == set(ENGLISH.corrections)


def test_a_type_beside_the_one_that_explains_its_blood_is_also_possible_and_no_finding():
    analysis = make_analysis("positive", **SMALL)
    findings = tuple(
        dataclasses.replace(f, probability=0.62, also_possible=True) if f.label == "epidural" else f
        for f in analysis.findings
    )
    page = said(findings=findings)
    assert page.explanation == "Intraparenchymal 96% (right, parietal lobe). The same blood might be epidural instead."
    epidural = next(answer for answer in page.answers if answer.label == "epidural")
    assert (epidural.present, epidural.verdict, epidural.site, epidural.where) == (False, "not told apart", None, "")
    assert (epidural.percent, epidural.text) == ("–", "Epidural: not told apart.")  # no number that reads as a finding


def test_the_image_number_of_the_viewer_stands_beside_our_count():
    answer = said().answers[0]
    first, last = (int(number) for number in answer.slice_range.split("–"))
    assert answer.images == f"{12 - first + 1}–{12 - last + 1}"  # numbered from the head
    assert f"(images {answer.images} in the viewer)" in answer.text


def test_a_caption_has_the_place_of_its_picture_not_of_the_finding():
    analysis = make_analysis("positive", **SMALL)
    (first, *others) = analysis.key_slices
    keys = (dataclasses.replace(first, laterality=Laterality.LEFT, sites=("cerebellum",)), *others)
    page = said(key_slices=keys)
    assert page.captions[0].where == "left, cerebellum"
    assert page.captions[0].laterality == codes.SIDES[Laterality.LEFT]
    assert page.answers[0].where == "right, parietal lobe"


def test_a_negative_says_what_was_looked_at():
    assert said("negative").looked_at == "Read: 12 slices of 5 mm, 60 mm from foot to head end."


def test_a_refusal_names_the_series_and_what_to_send_instead():
    page = said("not_analysed", reason=Reason(Why.SHARP_KERNEL, kernel="FC30"))
    assert page.explanation == (
        "Series 2 “HEAD 5.0 H31”: because it is a reconstruction with a sharp kernel, as for bone: FC30"
    )
    assert page.instead == "send the reconstruction with a soft-tissue kernel"
    assert page.summary.endswith("Send the reconstruction with a soft-tissue kernel.")


def test_technical_warnings_are_remarks():
    page = said(warnings=(Reason(Why.METAL), Reason(Why.TILT, degrees=12.0)))
    assert [page.warnings, page.remarks] == [
        ("metal inside the skull: streaks may hide or imitate a hemorrhage",),
        ("gantry tilt of 12°",),
    ]


def test_every_band_says_how_good_it_is():
    analysis = make_analysis("negative", **SMALL)
    band = Band(Priority.STAT, 0.8, 0.62, 0.98)
    card = dataclasses.replace(analysis.card, bands=(band,))
    page = said("negative", card=card)
    assert page.bands == (
        "STAT and above: from 80%, sensitivity 62%, specificity 98%",
        "ROUTINE: below 80%, as were 38% of the hemorrhages",
    )
    assert page.measured == "Sens./spec. measured: STAT (≥80%) 62%/98%, ROUTINE misses 38%."


@pytest.mark.parametrize(
    ("share", "threshold", "above", "text"),
    [
        (0.964, 0.5, True, "96%"),
        (0.0001, 0.5, False, "<1%"),
        (0.9999, 0.5, True, ">99%"),
        (0.4961, 0.5, False, "49.6%"),
        (0.5, 0.5, True, "50%"),
        (0.5049, 0.507, False, "50%"),
        (0.3, None, False, "30%"),
    ],
)
def test_a_percentage_never_contradicts_its_verdict(share, threshold, above, text):
    assert percentage(share, ENGLISH, threshold=threshold, above=above) == text


def test_german_has_its_decimal_comma():
    assert percentage(0.4961, GERMAN, threshold=0.5, above=False) == "49,6 %"


def test_german_names_every_site_and_side():
    assert set(GERMAN.sites) == set(SITES)
    assert set(GERMAN.sides) == set(ENGLISH.sides) == set(Laterality)


def test_the_time_is_that_of_the_study():
    analysis = make_analysis("negative", header={"TimezoneOffsetFromUTC": "+0100"}, **SMALL)
    facts = content(analysis, language="en", made_at=MADE_AT).facts
    assert "2026-11-23 23:30 UTC+0100" in " ".join(facts)
