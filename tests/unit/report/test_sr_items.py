"""An SR that breaks a rule cannot be made: relationships, templates, coordinates, numbers."""

from __future__ import annotations

import pytest

from ich_node.report.sr import codes
from ich_node.report.sr.items import (
    MODIFIES,
    OBSERVED,
    Coded,
    Container,
    Number,
    Picture,
    Point,
    Polyline,
    Text,
    UidReference,
)
from ich_node.report.sr.references import Reference
from ich_node.report.sr.templates import MEASUREMENT_GROUP, MEASUREMENT_REPORT, PLANAR_ROI_GROUP, TEXT_REPORT, Template

IMAGE = Reference("1.1", "1.2", "1.2.840.10008.5.1.4.1.1.2", "1.3")
SQUARE = [(0.5, 0.5), (4.5, 0.5), (4.5, 4.5), (0.5, 0.5)]


def group_items(verdict=codes.PRESENT):
    """Items of a TID 1501 group."""
    return [
        Text(codes.TRACKING_IDENTIFIER, "ICH any", related=OBSERVED),
        UidReference(codes.TRACKING_UID, "1.4"),
        Coded(codes.FINDING, codes.FINDINGS["any"]),
        Coded(codes.FINDING_SITE, codes.INTRACRANIAL, related=MODIFIES),
        Text(codes.ALGORITHM_NAME, "ich", related=MODIFIES),
        Text(codes.ALGORITHM_VERSION, "1", related=MODIFIES),
        Text(codes.ALGORITHM_PARAMETERS, "weights", related=MODIFIES),
        Coded(codes.ALGORITHM_FAMILY, codes.ARTIFICIAL_INTELLIGENCE, related=MODIFIES),
        Number(codes.CERTAINTY_OF_FINDING, "96.0", codes.PERCENT),
        Coded(codes.FINDINGS["any"], verdict),
    ]


def test_a_whole_group_can_be_made():
    made = Container(codes.MEASUREMENT_GROUP, group_items(), template=MEASUREMENT_GROUP).dataset("CONTAINS")
    assert [item.RelationshipType for item in made.ContentSequence[:2]] == ["HAS OBS CONTEXT", "HAS OBS CONTEXT"]
    assert made.ContentTemplateSequence[0].TemplateIdentifier == "1501"


@pytest.mark.parametrize("left_out", range(10))
def test_a_group_without_one_of_its_rows_cannot_be_made(left_out):
    kept = [item for index, item in enumerate(group_items()) if index != left_out]
    with pytest.raises(ValueError, match="TID 1501 lacks"):
        Container(codes.MEASUREMENT_GROUP, kept, template=MEASUREMENT_GROUP)


@pytest.mark.parametrize("template", [MEASUREMENT_REPORT, MEASUREMENT_GROUP, PLANAR_ROI_GROUP, TEXT_REPORT])
def test_an_empty_container_of_a_template_cannot_be_made(template: Template):
    with pytest.raises(ValueError, match=f"TID {template.tid} lacks"):
        Container(codes.MEASUREMENT_GROUP, [], template=template)


def test_an_absent_label_needs_neither_finding_nor_certainty():
    absent = [item for item in group_items(codes.ABSENT) if item.name not in (codes.FINDING, codes.FINDING_SITE)]
    assert Container(codes.MEASUREMENT_GROUP, absent, template=MEASUREMENT_GROUP)


@pytest.mark.parametrize(
    "build",
    [
        lambda: Coded(codes.FINDING_SITE, codes.BRAIN, [Picture(None, IMAGE)]),
        lambda: Coded(codes.FINDING_SITE, codes.BRAIN, [Polyline(None, SQUARE, IMAGE)]),
        lambda: Container(codes.IMPRESSIONS, [Coded(codes.FINDING, codes.BRAIN, related="SELECTED FROM")]),
        lambda: Container(codes.IMPRESSIONS, [Text(codes.FINDING, "words", related="INFERRED FROM")]),
    ],
)
def test_what_may_not_stand_under_an_item_is_refused(build):
    with pytest.raises(ValueError, match=r"PS3\.3 A\.35\.3"):
        build()


@pytest.mark.parametrize("value", ["nan", "inf", "12345678901234567"])
def test_a_number_that_is_no_decimal_string_is_refused(value):
    with pytest.raises(ValueError, match="decimal string"):
        Number(codes.LONG_AXIS, value, codes.MILLIMETER)


def test_an_open_outline_or_two_points_for_one_are_refused():
    with pytest.raises(ValueError, match="POLYLINE"):
        Polyline(None, SQUARE[:3], IMAGE)
    with pytest.raises(ValueError, match="POINT"):
        Point(None, SQUARE[:2], IMAGE)
    with pytest.raises(ValueError, match="POINT"):
        Point(None, (float("nan"), 1.0), IMAGE)
