"""The words of the house."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from ich_node.domain.dicom import AETitle, Instance, Series, input_digest
from ich_node.domain.findings import Analysis, Finding
from ich_node.domain.ledger import (
    DELIVERY_TRANSITIONS,
    JOB_TRANSITIONS,
    DeliveryState,
    JobState,
    check_delivery_move,
    check_job_move,
    dimse_code,
    hashed,
)


@pytest.mark.parametrize("title", ["A", "ICH NODE", " PADDED ", "X" * 16])
def test_an_ae_title_has_one_to_sixteen_characters(title):
    assert AETitle(title) == title.strip()


@pytest.mark.parametrize("title", ["", "   ", "X" * 17, "A\\B", "UML\u00c4UT", "TAB\t"])
def test_what_is_no_ae_title_is_refused(title):
    with pytest.raises(ValueError, match="AE title"):
        AETitle(title)


def series(*uids: str) -> Series:
    return Series("1", "2", tuple(Instance("1", "2", "c", uid, "t", Path(uid)) for uid in uids))


def test_the_digest_does_not_depend_on_order_or_duplicates():
    assert series("1.1", "1.2").input_digest == series("1.2", "1.1", "1.2").input_digest


def test_the_digest_tells_sets_of_images_apart():
    assert len({input_digest(uids) for uids in (["1"], ["1", "2"], ["12"], [])}) == 4


def test_a_finding_is_found_by_its_label():
    analysis = Analysis("analysed", None, "1", "2", "d", None, "cpu", (), findings=(Finding("any", 0.5, True),))
    assert analysis.finding("any").probability == 0.5
    with pytest.raises(KeyError):
        analysis.finding("subdural")


MOVES = [
    *((JOB_TRANSITIONS, check_job_move, *pair) for pair in itertools.product(JobState, JobState)),
    *((DELIVERY_TRANSITIONS, check_delivery_move, *pair) for pair in itertools.product(DeliveryState, DeliveryState)),
]


@pytest.mark.parametrize(("table", "check", "old", "new"), MOVES)
def test_no_move_outside_the_tables_is_possible(table, check, old, new):
    if new in table[old]:
        check(old, new)
    else:
        with pytest.raises(ValueError, match="cannot go from"):
            check(old, new)


def test_a_dimse_status_is_kept_as_people_read_it():
    assert (dimse_code(0xA700), dimse_code(0), dimse_code(None)) == ("0xA700", "0x0000", None)


def test_what_is_hashed_is_found_again_whatever_blanks_pad_it():
    assert hashed("PID-1 ") == hashed("PID-1") != hashed("PID-2")
