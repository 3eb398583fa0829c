"""What is said: the same facts in both languages, never a number that says the opposite of the verdict."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime

import pytest
from analysis_builder import make_analysis

from ich_node.domain.findings import DISCLAIMER, LABELS, SITES, Laterality, Priority
from ich_node.report.said.content import content, percentage
from ich_node.report.said.wording import ENGLISH, GERMAN, WORDINGS
from ich_node.report.sr import codes

MADE_AT = datetime(2026, 11, 23, 22, 30, tzinfo=UTC)
SMALL = {"rows": 64, "columns": 64, "pixel_mm": (3.6, 3.6)}


def said(kind="positive", language="en", corrected=False, **changes):
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
        "NOT ANALYSED, because contrast medium was given (so says the image header). This is not a negative"
    )
    assert (page.tone, page.lines, page.priority_code) == ("NOT ANALYSED", (), None)
    assert page.status_code == codes.NO_ALGORITHM_SUCCEEDED


@pytest.mark.parametrize("kind", ["positive", "negative", "not_analysed"])
@pytest.mark.parametrize("language", WORDINGS)
def test_every_result_carries_the_disclaimer(kind, language):
    assert said(kind, language).disclaimers[0] == DISCLAIMER


@pytest.mark.parametrize("kind", ["positive", "negative"])
def test_codes_and_numbers_do_not_depend_on_the_language(kind):
    def facts(language):
        lines = said(kind, language).lines
        return [(x.label, x.present, x.percent_value, x.finding, x.site, x.laterality, x.threshold) for x in lines]

    assert facts("en") == facts("de")


def test_there_is_one_line_per_label_in_the_order_of_the_labels():
    assert tuple(line.label for line in said("negative").lines) == LABELS


@pytest.mark.parametrize("kind", ["negative", "not_analysed"])
def test_only_what_is_present_has_a_place(kind):
    for line in said(kind).lines:
        assert (line.site, line.laterality, line.where, line.slices, line.extent) == (None, None, "", "", "")


def test_an_uncertain_side_is_left_out():
    analysis = make_analysis("positive", **SMALL)
    findings = tuple(dataclasses.replace(f, laterality=None) if f.present else f for f in analysis.findings)
    line = said(findings=findings).lines[0]
    assert line.laterality is None
    assert line.where == "parietal lobe"


def test_blood_beside_the_brain_is_near_a_lobe_not_in_it():
    line = next(
        x
        for x in content(make_analysis("positive", label="subdural", **SMALL), language="en", made_at=MADE_AT).lines
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


@pytest.mark.parametrize("priority", Priority)
def test_every_priority_has_a_series_description_to_sort_by(priority):
    assert said(priority=priority).series_description == f"ICH TRIAGE {priority.value}"


def test_a_corrected_result_says_so():
    assert said(corrected=True).warnings[0] == ENGLISH.corrected


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
