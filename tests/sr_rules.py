"""Rows of the SR templates that our reports use, as rules that can be broken: no validator notices when one is missing.

A rule says: every item that `parents` finds in the tree has at least one child of this value type, relationship and
concept. `broken(report)` names the rules that do not hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pydicom import Dataset
from pydicom.sr.coding import Code

from ich_node.report.sr import codes

Parents = Callable[[Dataset], list[Dataset]]


@dataclass(frozen=True)
class Rule:
    """One row. concept None: any; values: allowed coded values of a CODE, None for any."""

    row: str
    parents: Parents
    value_type: str
    relationship: str
    concept: Code | None = None
    values: tuple[Code, ...] | None = None

    def matches(self, item: Dataset) -> bool:
        return (
            item.ValueType == self.value_type
            and item.get("RelationshipType", "") == self.relationship
            and (self.concept is None or concept(item) == key(self.concept))
            and (self.values is None or coded(item) in {key(value) for value in self.values})
        )

    def children(self, report: Dataset) -> Iterator[tuple[Dataset, list[Dataset]]]:
        for parent in self.parents(report):
            yield parent, [item for item in parent.get("ContentSequence", ()) if self.matches(item)]

    def holds(self, report: Dataset) -> bool:
        return all(found for _, found in self.children(report))


def key(code: Code) -> tuple[str, str]:
    return code.scheme_designator, code.value


def concept(item: Dataset) -> tuple[str, str] | None:
    if "ConceptNameCodeSequence" not in item:
        return None
    name = item.ConceptNameCodeSequence[0]
    return name.CodingSchemeDesignator, name.CodeValue


def coded(item: Dataset) -> tuple[str, str] | None:
    if "ConceptCodeSequence" not in item:
        return None
    value = item.ConceptCodeSequence[0]
    return value.CodingSchemeDesignator, value.CodeValue


def walk(item: Dataset) -> Iterator[Dataset]:
    for child in item.get("ContentSequence", ()):
        yield child
        yield from walk(child)


def root(report: Dataset) -> list[Dataset]:
    return [report]


def named(name: Code) -> Parents:
    return lambda report: [item for item in walk(report) if concept(item) == key(name)]


def groups(template: str) -> Parents:
    def find(report: Dataset) -> list[Dataset]:
        found = named(codes.MEASUREMENT_GROUP)(report)
        return [group for group in found if group.ContentTemplateSequence[0].TemplateIdentifier == template]

    return find


def every_group(report: Dataset) -> list[Dataset]:
    return [*groups("1501")(report), *groups("1410")(report)]


def group_of(label: str) -> Parents:
    answer = key(codes.FINDINGS[label])
    return lambda report: [g for g in groups("1501")(report) if any(concept(i) == answer for i in g.ContentSequence)]


def present(report: Dataset) -> list[Dataset]:
    yes = key(codes.PRESENT)
    return [group for group in every_group(report) if any(coded(item) == yes for item in group.ContentSequence)]


def present_labels(report: Dataset) -> list[Dataset]:
    """The groups of labels, without those of regions."""
    labels = groups("1501")(report)
    return [group for group in present(report) if group in labels]


def items(value_type: str, parents: Parents) -> Parents:
    return lambda report: [i for parent in parents(report) for i in walk(parent) if i.ValueType == value_type]


ANSWERS = (codes.PRESENT, codes.ABSENT)
CONTAINS, OBSERVED, MODIFIES = "CONTAINS", "HAS OBS CONTEXT", "HAS CONCEPT MOD"

CONTEXT = (
    Rule("TID 1204 row 1", root, "CODE", MODIFIES, codes.LANGUAGE, tuple(codes.LANGUAGES.values())),
    Rule("TID 1002 row 1", root, "CODE", OBSERVED, codes.OBSERVER_TYPE, (codes.DEVICE,)),
    Rule("TID 1004 row 1", root, "UIDREF", OBSERVED, codes.DEVICE_OBSERVER_UID),
    Rule("TID 1004 row 3", root, "TEXT", OBSERVED, codes.DEVICE_OBSERVER_MANUFACTURER),
    Rule("TID 1004 row 4", root, "TEXT", OBSERVED, codes.DEVICE_OBSERVER_MODEL_NAME),
)

ALWAYS = (
    *CONTEXT,
    Rule("TID 1500 row 4", root, "CODE", MODIFIES, codes.PROCEDURE_REPORTED, (codes.CT_PROCEDURE,)),
    Rule("TID 1500 row 12", root, "CONTAINER", CONTAINS, codes.QUALITATIVE_EVALUATIONS),
    Rule("TID 1500 row 14", named(codes.QUALITATIVE_EVALUATIONS), "TEXT", CONTAINS, codes.SUMMARY),
)

ANALYSED = (
    *ALWAYS,
    Rule("TID 1500 row 6", root, "CONTAINER", CONTAINS, codes.IMAGING_MEASUREMENTS),
    Rule("TID 1500 row 9", named(codes.IMAGING_MEASUREMENTS), "CONTAINER", CONTAINS, codes.MEASUREMENT_GROUP),
    Rule(
        "TID 1500 row 13",
        named(codes.QUALITATIVE_EVALUATIONS),
        "CODE",
        CONTAINS,
        codes.FINDINGS["any"],
        ANSWERS,
    ),
    Rule("TID 1501/1410 row 3, tracking identifier", every_group, "TEXT", OBSERVED, codes.TRACKING_IDENTIFIER),
    Rule("TID 1501/1410 row 4, tracking UID", every_group, "UIDREF", OBSERVED, codes.TRACKING_UID),
    Rule("TID 4019 row 1, name", every_group, "TEXT", MODIFIES, codes.ALGORITHM_NAME),
    Rule("TID 4019 row 2, version", every_group, "TEXT", MODIFIES, codes.ALGORITHM_VERSION),
    Rule("TID 4019 row 3, parameters", every_group, "TEXT", MODIFIES, codes.ALGORITHM_PARAMETERS),
    Rule(
        "TID 4019 row 4, family",
        every_group,
        "CODE",
        MODIFIES,
        codes.ALGORITHM_FAMILY,
        (codes.ARTIFICIAL_INTELLIGENCE,),
    ),
    Rule("TID 300 row 1, measurement", every_group, "NUM", CONTAINS),
    Rule("TID 320 row 3, coordinates", items("NUM", groups("1501")), "SCOORD", "INFERRED FROM"),
    Rule("PS3.3 C.17.3, image of coordinates", items("SCOORD", every_group), "IMAGE", "SELECTED FROM"),
    Rule("priority", group_of("any"), "CODE", CONTAINS, codes.PRIORITY, tuple(codes.PRIORITIES.values())),
    Rule("visual explanation", group_of("any"), "IMAGE", CONTAINS, codes.VISUAL_EXPLANATION),
    *(
        Rule(f"answer: {label}", groups_of_label, "CODE", CONTAINS, codes.FINDINGS[label], ANSWERS)
        for label, groups_of_label in ((label, group_of(label)) for label in codes.FINDINGS)
    ),
)

POSITIVE = (
    *ANALYSED,
    Rule("TID 1500 row 7", named(codes.IMAGING_MEASUREMENTS), "CONTAINER", CONTAINS, codes.MEASUREMENT_GROUP),
    Rule("TID 1501/1410 row 6, finding", present, "CODE", CONTAINS, codes.FINDING, tuple(codes.FINDINGS.values())),
    Rule("TID 1501/1410 row 9, finding site", present, "CODE", MODIFIES, codes.FINDING_SITE),
    Rule("certainty of what is present", present, "NUM", CONTAINS, codes.CERTAINTY_OF_FINDING),
    Rule("extent", present_labels, "NUM", CONTAINS, codes.LONG_AXIS),
    Rule("first slice", present_labels, "NUM", CONTAINS, codes.FIRST_SLICE),
    Rule("last slice", present_labels, "NUM", CONTAINS, codes.LAST_SLICE),
    Rule("peak", present_labels, "NUM", CONTAINS, codes.PEAK_VALUE),
    Rule("laterality", named(codes.FINDING_SITE), "CODE", MODIFIES, codes.LATERALITY, tuple(codes.SIDES.values())),
    Rule("TID 1410 row 12, region", groups("1410"), "SCOORD", CONTAINS, codes.IMAGE_REGION),
    Rule("visual explanation of a region", groups("1410"), "IMAGE", CONTAINS, codes.VISUAL_EXPLANATION),
)

NOT_ANALYSED = (
    *ALWAYS,
    Rule(
        "processing summary",
        named(codes.QUALITATIVE_EVALUATIONS),
        "CODE",
        CONTAINS,
        codes.PROCESSING_SUMMARY,
        (codes.NO_ALGORITHM_SUCCEEDED,),
    ),
)

SECTIONS = (codes.IMPRESSIONS, codes.FINDINGS_SECTION, codes.PROCEDURE_DESCRIPTIONS)
TEXT = (
    *CONTEXT,
    Rule("TID 2000 row 5, impressions", root, "CONTAINER", CONTAINS, codes.IMPRESSIONS),
    Rule("TID 2000 row 5, background", root, "CONTAINER", CONTAINS, codes.PROCEDURE_DESCRIPTIONS),
    Rule("TID 2002 row 1, impression", named(codes.IMPRESSIONS), "TEXT", CONTAINS, codes.IMPRESSION),
    Rule("TID 2002 row 1, finding", named(codes.FINDINGS_SECTION), "TEXT", CONTAINS, codes.FINDING),
    Rule(
        "TID 2002 row 1, background",
        named(codes.PROCEDURE_DESCRIPTIONS),
        "TEXT",
        CONTAINS,
        codes.PROCEDURE_DESCRIPTION,
    ),
)


def broken(report: Dataset, rules: tuple[Rule, ...]) -> set[str]:
    """The rows that do not hold; groups by the label they answer on must all be there."""
    found = {rule.row for rule in rules if not rule.holds(report)}
    if rules in (ANALYSED, POSITIVE):
        found |= {f"group: {label}" for label in codes.FINDINGS if len(group_of(label)(report)) != 1}
    if rules == POSITIVE and not groups("1410")(report):
        found.add("TID 1500 row 7")
    return found
