"""Drift: what moves is told soon and named, and what does not move is left alone for a year."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import replace

import pytest

from ich_node.board import drift, words
from ich_node.board.drift import BASELINE, YEAR_S, Drift
from ich_node.board.record import Entry, NewReference
from ich_node.infer.see import gates
from tests.unit.infer.test_gates import HEAD, volume

A_YEAR = 10_000  # studies: a service of 27 head CTs a day
SCANNERS = (["GE A STD"] * 10 + ["SIEMENS B Hr40"] * 7 + ["PHILIPS C UB"] * 3) * 10 + ["CANON D FC26"]
REASONS = [None] * 90 + ["sharp_kernel"] * 5 + ["contrast_named"] * 3 + ["thick_slices"] * 2


def studies(
    seed: int, count: int, *, start: int = 0, positive: float = 0.15, shift_hu: float = 0.0, **changes
) -> Iterator[Entry]:
    """Studies of a service whose heads have 33 HU in the mean, with heavier tails than a normal distribution."""
    chance = random.Random(f"{seed} {start}")
    for number in range(start, start + count):
        reason = chance.choice(REASONS)
        bleeds = chance.random() < positive
        score = chance.betavariate(6, 2) if bleeds else chance.betavariate(1, 8)
        tail = math.sqrt(max(0.1, chance.gammavariate(2.5, 1 / 2.5)))
        entry = Entry(
            job_id=number,
            moment=number * YEAR_S / A_YEAR,
            answered_s=30.0,
            model="m 1",
            priority="ROUTINE",
            reason_code=None,
            positive=bleeds,
            probability=score,
            labels=(),
            brain_hu=33 + 2 * chance.gauss(0, 1) / tail + shift_hu,
            noise_hu=4 * math.exp(0.2 * chance.gauss(0, 1)),
            scanner=chance.choice(SCANNERS),
            caller="CT",
        )
        refused = {"priority": None, "reason_code": reason, "positive": False, "probability": None}
        yield replace(entry, **(refused | {"brain_hu": None, "noise_hu": None} if reason else {}) | changes)


def until_alarm(seed: int, longest: int, **moved) -> tuple[int, drift.Alarm]:
    """How many studies after the move something is said, and what."""
    watch = Drift(error=0.16)
    watch.feed(studies(seed, BASELINE))
    for count, entry in enumerate(studies(seed, longest, start=BASELINE, **moved), 1):
        watch.feed([entry])
        if watch.alarms:
            return count, watch.alarms[0]
    pytest.fail(f"nothing was said within {longest} studies")


def twenty(**moved) -> tuple[list[int], set[str]]:
    """After how many studies each of twenty sites was told, in order, and what."""
    told = [until_alarm(seed, 5000, **moved) for seed in range(20)]
    return sorted(count for count, _ in told), {alarm.kind for _, alarm in told}


# --- what does not move ----------------------------------------------------------------------------------------------


def test_there_is_at_most_one_false_alarm_a_year():
    years, told = 10, 0
    for seed in range(years):
        watch = Drift(error=0.16)
        watch.feed(studies(1000 + seed, BASELINE + A_YEAR))
        told += len(watch.alarms)
    assert told <= years


def test_readers_who_are_as_good_as_the_bundle_says_raise_no_alarm_and_worse_ones_do():
    chance, told = random.Random(3), 0
    for wrong in (0.16, 0.40):
        watch = Drift(error=0.16)
        watch.feed(studies(1, BASELINE))
        for opinion in range(2000):
            watch.hear(float(opinion), chance.random() >= wrong)
        told += len(watch.alarms)
        assert bool(watch.alarms) == (wrong > 0.3)
    assert watch.alarms[0].kind == "readers_disagree"


def test_nothing_is_judged_before_the_reference_is_whole():
    watch = Drift()
    watch.feed(studies(1, BASELINE - 1, positive=0.9))
    assert (watch.watched, list(watch.alarms)) == ((), [])


def test_the_limit_is_lordens_for_all_sums_together_at_the_pace_of_the_site():
    watch = Drift(error=0.16)
    watch.feed(studies(1, BASELINE))
    span = BASELINE - 1
    expected = math.log(len(watch.watched) * A_YEAR * BASELINE / span)
    assert watch.watched[0].limit == pytest.approx(expected)


# --- what moves ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shift_hu", "kind"), [(10, "brain_hu_above"), (-10, "brain_hu_below")])
def test_a_calibration_that_is_10_hu_off_is_named_within_15_studies(shift_hu, kind):
    counts, kinds = twenty(shift_hu=shift_hu)
    assert (counts[-1] <= 15, kinds) == (True, {kind})


def test_twice_as_many_positives_are_noticed_within_500_studies_by_19_of_20_sites():
    counts, kinds = twenty(positive=0.30)
    assert (counts[18] <= 500, counts[10] <= 250) == (True, True)
    assert kinds <= {"positive_more", "score_higher"}


def test_half_as_many_positives_are_noticed_within_1200_studies_by_19_of_20_sites():
    counts, kinds = twenty(positive=0.075)
    assert counts[18] <= 1200
    assert kinds <= {"positive_fewer", "score_lower"}


@pytest.mark.parametrize(
    ("moved", "kind"),
    [
        ({"scanner": "NEW E F"}, "scanner_other"),
        ({"reason_code": "contrast_named", "probability": None}, "reason"),
        ({"reason_code": "modality_lut", "probability": None}, "reason_other"),
        ({"noise_hu": 12.0}, "noise_hu_above"),
        ({"noise_hu": 1.0}, "noise_hu_below"),
    ],
)
def test_another_protocol_is_named(moved, kind):
    count, alarm = until_alarm(1, 60, **moved)
    assert (alarm.kind, count < 40) == (kind, True)


def test_real_measurements_of_a_scanner_that_is_10_hu_off_are_seen():
    """The figure that a study gives, as the gates take it, moves by what the scanner is off."""
    right, off = gates.figures(volume(HEAD.hu)), gates.figures(volume(HEAD.hu + 10))
    assert off.brain_hu - right.brain_hu == pytest.approx(10, abs=0.5)
    gates.judge(off)  # no gate turns it away: nobody else would tell


# --- a new normal --------------------------------------------------------------------------------------------------


def test_another_bundle_and_a_persons_word_begin_a_new_reference():
    watch = Drift()
    watch.feed(studies(1, BASELINE))
    assert watch.watched
    watch.feed(studies(1, 1, start=BASELINE, model="m 2"))
    assert (watch.watched, len(watch.reference)) == ((), 1)
    watch.feed([NewReference(5.0, "ada")])
    assert watch.reference == []


def test_a_result_that_names_no_bundle_begins_nothing():
    watch = Drift()
    watch.feed(studies(1, BASELINE))
    watch.feed(studies(1, 1, start=BASELINE, model=""))
    assert len(watch.reference) == BASELINE


def test_results_of_an_older_version_are_followed_for_what_they_say():
    watch = Drift()
    watch.feed(studies(1, BASELINE, brain_hu=None, noise_hu=None, scanner=""))
    kinds = {share.kind for share in watch.watched}
    assert {"positive_more", "reason_other", "scanner_other"} <= kinds
    assert not {"brain_hu_above", "noise_hu_above", "scanner"} & kinds


def test_an_alarm_stands_for_a_week():
    watch = Drift()
    watch.alarms.append(drift.Alarm(1000.0, "positive_more", "", 0.1, 0.3))
    assert len(watch.standing(1000.0 + drift.SHOWN_S - 1)) == 1
    assert watch.standing(1000.0 + drift.SHOWN_S + 1) == ()


def test_every_sum_has_its_words_in_both_languages():
    watch = Drift(error=0.1)
    watch.feed(studies(1, BASELINE))
    kinds = {share.kind for share in watch.watched}
    assert kinds == set(words.EN.moves) == set(words.DE.moves)
    assert all(share.detail in words.EN.moved(share) for share in watch.watched)
