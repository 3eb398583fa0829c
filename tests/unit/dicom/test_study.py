"""Which series of a study is the answer."""

from __future__ import annotations

import random

import pytest

from ich_node.dicom.eligibility import Eligible, NotAnalysed, SetAside, Verdict
from ich_node.dicom.study import Candidate, choose
from ich_node.domain.reasons import Reason, Why

BONE = NotAnalysed(Reason(Why.SHARP_KERNEL, kernel="H70h"))
SCOUT = SetAside(Reason(Why.LOCALIZER))


@pytest.mark.parametrize(
    ("series", "best"),
    [
        ([("1.1", Eligible(), 32)], "1.1"),
        ([("1.1", BONE, 300), ("1.2", Eligible(), 32)], "1.2"),
        ([("1.1", SCOUT, 2), ("1.2", BONE, 32)], "1.2"),
        ([("1.1", Eligible(), 32), ("1.2", Eligible(), 300)], "1.2"),
        ([("1.2", Eligible(), 32), ("1.1", Eligible(), 32)], "1.1"),
        ([("1.1", SCOUT, 1), ("1.2", SCOUT, 2)], "1.2"),
    ],
)
def test_of_several_series_one_is_the_answer_whatever_their_order(
    series: list[tuple[str, Verdict, int]], best: str
) -> None:
    candidates = [Candidate(*each) for each in series]
    random.Random(1).shuffle(candidates)
    assert choose(candidates)[0].series_uid == choose(candidates[::-1])[0].series_uid == best
