"""When a series counts as whole."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from pydicom import Dataset

from ich_node.receive.completeness import Evidence, Patience, is_whole_stack, look_s, publish_s, quiet_s

PATIENCE = Patience(grace_s=1, quiet_period_s=10, idle_timeout_s=120)


def slices(heights: list[float], thickness: float | None = 5.0, **changes: object) -> list[Dataset]:
    found = []
    for number, height in enumerate(heights):
        ds = Dataset()
        ds.SOPInstanceUID = f"1.2.{number}"
        ds.ImagePositionPatient = [-100.0, -100.0, height]
        ds.ImageOrientationPatient = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
        ds.PixelSpacing = [0.5, 0.5]
        ds.Rows = ds.Columns = 512
        ds.InstanceNumber = number + 1
        if thickness is not None:
            ds.SliceThickness = thickness
        for keyword, value in changes.items():
            setattr(ds, keyword, value)
        found.append(ds)
    return found


HEAD = [5.0 * n for n in range(30)]


def test_after_an_orderly_release_the_slices_are_looked_at_and_published_after_the_grace() -> None:
    evidence = Evidence(last_s=100, open=False, released_s=103)
    assert look_s(evidence) == 103
    assert publish_s(evidence, PATIENCE) == 104


def test_the_grace_counts_from_the_last_instance_when_another_association_brought_it() -> None:
    assert publish_s(Evidence(last_s=104, open=False, released_s=103), PATIENCE) == 105


def test_the_grace_never_lasts_longer_than_the_silence() -> None:
    assert publish_s(Evidence(last_s=100, open=False, released_s=109.5), PATIENCE) == 110


@pytest.mark.parametrize(
    "evidence",
    [
        Evidence(100, open=False, released_s=None),
        Evidence(100, open=False, released_s=101, rounds=2),
        Evidence(100, open=False, released_s=101, refused=True),
    ],
    ids=["aborted", "sent piece by piece", "with a hole that we made"],
)
def test_without_good_evidence_only_silence_is_left(evidence: Evidence) -> None:
    assert look_s(evidence) is None
    assert quiet_s(evidence, PATIENCE) == publish_s(evidence, PATIENCE) == 110


def test_a_sender_that_stalls_on_an_open_association_is_waited_for_until_the_node_ends_it() -> None:
    evidence = Evidence(100, open=True)
    assert look_s(evidence) is None
    assert quiet_s(evidence, PATIENCE) == 220


def test_a_sender_that_pauses_is_given_twice_its_longest_pause_within_bounds() -> None:
    assert quiet_s(Evidence(100, open=False, pause_s=4), PATIENCE) == 110
    assert quiet_s(Evidence(100, open=False, pause_s=12), PATIENCE) == 124
    assert quiet_s(Evidence(100, open=False, pause_s=1000), PATIENCE) == 160


def test_an_even_stack_of_a_head_is_whole() -> None:
    assert is_whole_stack(slices(HEAD))


def test_order_and_duplicates_do_not_matter() -> None:
    shuffled = slices(HEAD) + slices(HEAD)[:5]
    random.Random(1).shuffle(shuffled)
    assert is_whole_stack(shuffled)


def test_a_localizer_in_the_series_does_not_matter() -> None:
    localizer = slices([0.0], ImageOrientationPatient=[0.0, 1.0, 0.0, 0.0, 0.0, -1.0])
    assert is_whole_stack(localizer + slices(HEAD))


def test_too_short_a_stack_waits() -> None:
    assert not is_whole_stack(slices(HEAD[:18]))
    assert not is_whole_stack(slices(HEAD[:25])), "125 mm may be a head that still grows"


def test_a_stack_without_its_first_instance_numbers_waits() -> None:
    headers = slices(HEAD)
    for number, header in enumerate(headers):
        header.InstanceNumber = number + 4
    assert not is_whole_stack(headers)


@pytest.mark.parametrize(
    "number",
    [
        lambda index: 30 - index,
        lambda index: 7 if index == 0 else index + 1,
        lambda index: 2 * index + 1,
        lambda index: None,
    ],
    ids=["from the vertex down", "not from 1 on", "every second number", "no numbers"],
)
def test_a_stack_that_may_go_on_below_or_between_waits(number: Callable[[int], int | None]) -> None:
    """Nobody sees where a scan ends below a head."""
    headers = slices(HEAD)
    for index, header in enumerate(headers):
        header.InstanceNumber = number(index)
    assert not is_whole_stack(headers)


def test_a_missing_slice_waits() -> None:
    assert not is_whole_stack(slices(HEAD[:12] + HEAD[13:]))


def test_every_fourth_slice_is_even_but_waits_for_its_neighbours() -> None:
    assert not is_whole_stack(slices(HEAD[::4]))


def test_without_a_thickness_an_even_stack_is_all_that_can_be_known() -> None:
    assert is_whole_stack(slices(HEAD, thickness=None))


def test_slices_with_gaps_by_protocol_are_whole() -> None:
    assert is_whole_stack(slices([7.5 * n for n in range(20)], SpacingBetweenSlices=7.5))


def test_overlapping_slices_are_whole() -> None:
    assert is_whole_stack(slices([0.6 * n for n in range(250)], thickness=1.0))


def test_fewer_slices_than_announced_wait() -> None:
    assert not is_whole_stack(slices(HEAD, ImagesInAcquisition=31))
    assert is_whole_stack(slices(HEAD, ImagesInAcquisition=30))


def test_headers_without_a_place_do_not_count() -> None:
    assert not is_whole_stack([Dataset(), Dataset()])
    assert is_whole_stack([Dataset(), *slices(HEAD)])


def test_senseless_numbers_are_no_evidence() -> None:
    assert is_whole_stack(slices(HEAD, thickness=None, ImagesInAcquisition=None))
