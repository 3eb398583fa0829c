"""Every reason is said in every language with all its values, and is raised with exactly those."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from string import Formatter

import pytest

import ich_node
from ich_node.domain.reasons import Reason, Why
from ich_node.report.said.reason_words import words_of
from ich_node.report.said.reasons import english, instead, said

SOURCE = Path(ich_node.__file__).parent


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name}


@pytest.mark.parametrize("code", Why)
def test_every_language_says_every_value(code):
    words = words_of(code)
    assert placeholders(words.en) == placeholders(words.de) == code.fields
    assert words.en and words.de and words.en[-1] not in ".!" and words.de[-1] not in ".!"
    if words.instead:
        assert placeholders(words.instead.en) | placeholders(words.instead.de) <= code.fields


def test_no_two_codes_say_the_same():
    clauses = [words_of(code).de for code in Why if code is not Why.CONTRAST_RECORDED]
    assert len(set(clauses)) == len(clauses)


def raised() -> Iterator[tuple[str, str, frozenset[str]]]:
    """Where the package makes a reason of a code that it names: file and line, code, names of the values."""
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            named = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Reason"
            if named and isinstance(node.args[0], ast.Attribute) and all(word.arg for word in node.keywords):
                values = frozenset(word.arg for word in node.keywords if word.arg)
                yield f"{path.name}:{node.lineno}", node.args[0].attr, values


def test_every_reason_that_the_node_can_give_comes_with_its_values():
    found = list(raised())
    assert [place for place, code, values in found if Why[code].fields != values] == []
    assert len({code for _, code, _ in found}) > 60


def test_every_code_is_one_that_the_node_can_give():
    told = ("reasons.py", "reason_words.py")
    sources = "\n".join(path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py") if path.name not in told)
    assert [code for code in Why if f"Why.{code.name}" not in sources] == []


def test_wrong_values_are_refused_where_they_are_given():
    with pytest.raises(ValueError, match="too_few_slices comes with"):
        Reason(Why.TOO_FEW_SLICES, count=3)


def test_a_quoted_reason_is_in_the_readers_language_too():
    left_out = Reason(Why.LEFT_OUT, count=2, because=Reason(Why.OTHER_SIZE))
    assert said(left_out, "de") == "2 Bilder weggelassen: andere Bildgröße"
    assert english(left_out) == "2 images left out: another image size"


def test_one_image_is_not_images():
    assert english(Reason(Why.LEFT_OUT, count=1, because=Reason(Why.OTHER_SIZE))).startswith("1 image left out")


def test_german_has_its_decimal_comma_and_leaves_uids_alone():
    assert "8,5 mm" in said(Reason(Why.FAR_APART, spacing_mm=8.5, limit_mm=7.5), "de")
    assert "1.2.840.10008.9" in said(Reason(Why.TRANSFER_SYNTAX, uid="1.2.840.10008.9"), "de")


def test_a_refusal_says_what_to_send_instead():
    kernel = Reason(Why.SHARP_KERNEL, kernel="FC30")
    assert english(kernel).endswith("FC30")
    assert instead(kernel, "en") == "send the reconstruction with a soft-tissue kernel"
    assert instead(Reason(Why.ANALYSIS_FAILED, times=3, message="out of memory"), "en") == ""


@pytest.mark.parametrize("text", ["{count}", "50 % {0}", "\\1"])
def test_a_value_is_shown_as_it_is(text):
    assert text in said(Reason(Why.SHARP_KERNEL, kernel=text), "de")


def test_logs_show_code_and_values():
    assert str(Reason(Why.TOO_FEW_SLICES, count=3, needed=10)) == "too_few_slices (count 3, needed 10)"
