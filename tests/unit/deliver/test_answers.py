"""The refusal taxonomy: every status falls under one verdict, with a cause in plain words."""

from __future__ import annotations

import pytest

from ich_node.deliver.answer import Verdict
from ich_node.deliver.dicom.answers import STATUSES, meaning


@pytest.mark.parametrize("status", [0x0000, 0xB000, 0xB006, 0xB007, 0xB123, 0x0111, 0x0001, 0x0107, 0x0116])
def test_success_warnings_and_duplicates_are_sent(status):
    assert meaning(status).verdict is Verdict.SENT


@pytest.mark.parametrize("status", [0xA900, 0xA9FF, 0xC000, 0xCFFF, 0x0122, 0x0117, 0x0119, 0x0124, 0x0211, 0x0212])
def test_what_the_same_bytes_would_meet_again_is_refused(status):
    assert meaning(status).verdict is Verdict.REFUSED


@pytest.mark.parametrize("status", [0xA700, 0xA7FF, 0x0110, 0x0210, 0x0213, 0xFE00])
def test_what_may_pass_is_tried_later(status):
    assert meaning(status).verdict is Verdict.LATER


@pytest.mark.parametrize("status", [0xA800, 0xD000, 0xFFFF, 0x0999])
def test_an_unknown_failure_is_tried_later_and_named(status):
    assert meaning(status).verdict is Verdict.LATER
    assert f"0x{status:04X}" in meaning(status).cause


def test_every_16_bit_status_has_a_verdict_and_a_cause():
    assert all(meaning(status).cause for status in range(0x10000))


def test_no_row_of_the_table_is_hidden_by_the_rows_above_it():
    for number, (low, high, _, _) in enumerate(STATUSES):
        above = STATUSES[:number]
        seen = [s for s in range(low, high + 1) if not any(a <= s <= b for a, b, _, _ in above)]
        assert seen, f"row {low:04X} to {high:04X} never matches"


def test_what_the_peer_says_about_it_is_kept_apart_from_our_words():
    answer = meaning(0xA700, '"disk full"')
    assert answer.cause == "the peer is out of resources"
    assert answer.in_full == 'the peer is out of resources; it says "disk full"'
    assert meaning(0xA700).in_full == "the peer is out of resources"
