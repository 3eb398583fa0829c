"""Our own template assertions hold for every report, and each of them fails when its row is taken away."""

from __future__ import annotations

import copy
import functools
from datetime import UTC, datetime

import pytest
import sr_rules
from analysis_builder import make_analysis
from pydicom import Dataset

from ich_node.report import build
from ich_node.report.sr import codes
from ich_node.runtime.config import ReportConfig

MADE_AT = datetime(2026, 11, 23, 22, 30, tzinfo=UTC)
KINDS = {
    "positive": sr_rules.POSITIVE,
    "negative": sr_rules.ANALYSED,
    "not_analysed": sr_rules.NOT_ANALYSED,
}


@functools.cache
def results(kind: str) -> build.Results:
    """The results of one kind; copied before anything is changed."""
    return build.results(
        make_analysis(kind, rows=128, columns=128, pixel_mm=(1.8, 1.8)),
        options=ReportConfig(),
        device_name="ICHNODE",
        made_at=MADE_AT,
        predecessor=None,
    )


def report(kind: str, sop_class_uid: str) -> Dataset:
    """The report of this SOP Class, alternates included."""
    made = results(kind)
    everything = [*made.objects, *(each for pair in made.alternates.values() for each in pair)]
    (found,) = [each for each in everything if each.SOPClassUID == sop_class_uid]
    return found


@pytest.mark.parametrize("sop_class_uid", codes.MEASUREMENT_REPORT_SRS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_row_that_we_use_is_there(kind, sop_class_uid):
    assert sr_rules.broken(report(kind, sop_class_uid), KINDS[kind]) == set()


@pytest.mark.parametrize("kind", KINDS)
def test_every_row_of_the_text_report_is_there(kind):
    assert sr_rules.broken(report(kind, codes.BASIC_TEXT_SR), sr_rules.TEXT) == set()


def mutations():
    for kind, rules in KINDS.items():
        for rule in rules:
            yield pytest.param(kind, codes.COMPREHENSIVE_3D_SR, rules, rule, id=f"{kind}: {rule.row}")
    for rule in sr_rules.TEXT:
        yield pytest.param("positive", codes.BASIC_TEXT_SR, sr_rules.TEXT, rule, id=f"text: {rule.row}")


@pytest.mark.parametrize(("kind", "sop_class_uid", "rules", "rule"), list(mutations()))
def test_a_missing_row_is_noticed(kind, sop_class_uid, rules, rule):
    changed = copy.deepcopy(report(kind, sop_class_uid))
    parent, matching = next(iter(rule.children(changed)))
    parent.ContentSequence = [item for item in parent.ContentSequence if item not in matching]
    assert sr_rules.broken(changed, rules)


@pytest.mark.parametrize("label", codes.FINDINGS)
def test_a_missing_group_is_noticed(label):
    changed = copy.deepcopy(report("negative", codes.COMPREHENSIVE_3D_SR))
    (container,) = sr_rules.named(codes.IMAGING_MEASUREMENTS)(changed)
    (group,) = sr_rules.group_of(label)(changed)
    container.ContentSequence = [item for item in container.ContentSequence if item is not group]
    assert f"group: {label}" in sr_rules.broken(changed, sr_rules.ANALYSED)


def test_a_negative_never_names_a_finding_or_a_site():
    concepts = {sr_rules.concept(item) for item in sr_rules.walk(report("negative", codes.COMPREHENSIVE_3D_SR))}
    assert not concepts & {sr_rules.key(code) for code in (codes.FINDING, codes.FINDING_SITE, codes.IMAGE_REGION)}


def test_no_coordinates_of_a_negative_lie_on_the_ct():
    negative = report("negative", codes.COMPREHENSIVE_3D_SR)
    selected = [i for i in sr_rules.walk(negative) if i.get("RelationshipType") == "SELECTED FROM"]
    page = results("negative").objects[0]
    assert {item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for item in selected} == {page.SOPInstanceUID}


def test_a_series_that_was_not_analysed_has_no_measurements():
    assert not sr_rules.named(codes.IMAGING_MEASUREMENTS)(report("not_analysed", codes.COMPREHENSIVE_3D_SR))


@pytest.mark.parametrize("kind", KINDS)
def test_every_code_of_a_report_is_registered(kind):
    for sop_class_uid in (codes.COMPREHENSIVE_3D_SR, codes.BASIC_TEXT_SR):
        for item in sr_rules.walk(report(kind, sop_class_uid)):
            for found in (sr_rules.concept(item), sr_rules.coded(item)):
                assert found is None or found in codes.REGISTRY


def test_the_three_forms_of_the_report_say_the_same_under_names_of_their_own():
    forms = [report("positive", uid) for uid in codes.MEASUREMENT_REPORT_SRS]
    assert len({form.SOPInstanceUID for form in forms}) == 3
    assert forms[0].ContentSequence == forms[1].ContentSequence == forms[2].ContentSequence
