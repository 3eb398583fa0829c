"""Every code is what its scheme says: looked up where a dictionary exists, its check digit verified otherwise."""

from __future__ import annotations

import pytest
from pydicom.sr._concepts_dict import concepts

from ich_node.domain.findings import LABELS, SITES, Laterality, Priority
from ich_node.report.sr import codes
from ich_node.report.sr.codes import Origin

ENTRIES = list(codes.REGISTRY.values())
SNOMED = [code.value for code, _ in ENTRIES if code.scheme_designator == "SCT"]
INVENTED = ("83329005", "262052002", "95457006", "274110009", "50490007")


def meanings(code) -> list[str]:
    groups = concepts.get(code.scheme_designator, {}).values()
    return [found[code.value][0] for found in groups if code.value in found]


@pytest.mark.parametrize("value", SNOMED)
def test_a_snomed_identifier_has_its_check_digit(value):
    assert codes.check_digit_is_right(value)


@pytest.mark.parametrize("value", INVENTED)
def test_codes_that_other_projects_made_up_fail(value):
    assert not codes.check_digit_is_right(value)


@pytest.mark.parametrize("value", SNOMED[:3])
def test_one_wrong_digit_is_always_noticed(value):
    wrong = {value[:i] + d + value[i + 1 :] for i in range(len(value)) for d in "0123456789" if d != value[i]}
    assert not any(codes.check_digit_is_right(each) for each in wrong)


@pytest.mark.parametrize("code", [code for code, origin in ENTRIES if origin is Origin.DICTIONARY])
def test_a_dictionary_code_stands_in_the_dictionary_with_its_meaning(code):
    assert any(meaning.split(" (")[0] == code.meaning for meaning in meanings(code))


@pytest.mark.parametrize("code", [code for code, origin in ENTRIES if origin is not Origin.DICTIONARY])
def test_a_code_of_another_origin_does_not_stand_there(code):
    assert meanings(code) == []


def test_every_label_side_and_priority_has_a_code():
    assert set(codes.FINDINGS) == set(codes.WITHIN) == set(LABELS)
    assert set(codes.SIDES) == set(Laterality)
    assert set(codes.PRIORITIES) == set(Priority)


def test_places_are_names_that_the_location_uses():
    assert set(codes.PLACES) <= set(SITES)


@pytest.mark.parametrize(
    ("label", "sites", "code"),
    [
        ("intraparenchymal", ("frontal lobe", "supratentorial"), "83251001"),
        ("intraparenchymal", ("deep grey matter", "temporal lobe"), "78277001"),
        ("intraparenchymal", ("deep grey matter",), "12738006"),
        ("intraventricular", ("lateral ventricle",), "66720007"),
        ("intraventricular", (), "35764002"),
        ("subdural", ("frontal lobe", "supratentorial"), "1101003"),
        ("subarachnoid", ("temporal lobe",), "35951006"),
        ("any", ("frontal lobe",), "1101003"),
    ],
)
def test_a_lobe_is_named_only_for_blood_that_lies_in_it(label, sites, code):
    assert codes.finding_site(label, sites).value == code
