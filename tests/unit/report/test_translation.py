"""Reasons and warnings reach German readers in German, and nobody loses one that has no translation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ich_node.dicom import eligibility, geometry
from ich_node.infer import worker
from ich_node.infer.see import gates, pixels
from ich_node.report.said.translation import GERMAN, translated

SOURCES = [Path(str(module.__file__)) for module in (eligibility, geometry, gates, pixels, worker)]


def test_the_groups_of_a_sentence_are_kept():
    assert translated("gap of 12 mm between slices 3 and 4", "de") == "Lücke von 12 mm zwischen den Schichten 3 und 4"


def test_english_stays_as_it_is():
    assert translated("slices are missing: a gap of 9 mm", "en") == "slices are missing: a gap of 9 mm"


def test_an_unknown_reason_is_shown_in_english():
    assert translated("something new", "de") == "something new"


def literal_parts(pattern: str) -> list[str]:
    """The plain words of a pattern, long enough to be found again in a source file."""
    parts = re.split(r"\([^()?]*\)|\(\?.*?\)", pattern)
    return [re.sub(r"\\(.)", r"\1", part).replace("?", "") for part in parts if len(part.strip()) > 7]


@pytest.mark.parametrize("pattern", [pattern for pattern, _ in GERMAN])
def test_a_translated_sentence_is_one_that_the_node_can_say(pattern):
    said = " ".join(path.read_text(encoding="utf-8") for path in SOURCES).replace("?", "")
    assert all(part.strip(" ()") in said for part in literal_parts(pattern))
