"""Lobes by planes: places that every atlas agrees on, and no name near a border."""

import numpy as np
import pytest

from ich_node.infer.say import lobes

PLACES = {
    "frontal lobe": [(30, -75, 10), (-40, -50, 30), (0, -80, 0)],
    "parietal lobe": [(40, 40, 45), (-35, 45, 40), (10, 50, 55)],
    "temporal lobe": [(50, -10, -25), (-55, 10, -20), (35, -25, -35)],
    "occipital lobe": [(15, 72, 0), (-20, 70, 5), (5, 74, 10)],
}
CASES = [(lobe, place) for lobe, places in PLACES.items() for place in places]


@pytest.mark.parametrize(("lobe", "place"), CASES)
def test_a_place_in_the_middle_of_a_lobe_is_named_by_it(lobe, place):
    assert lobes.name(np.array([place], float), np.ones(1)) == [lobe]


@pytest.mark.parametrize("place", [place for _, place in CASES])
def test_both_sides_have_the_same_lobes(place):
    both = np.array([place, (-place[0], *place[1:])], float)
    assert len(set(lobes.lobe_index(both))) == 1


def test_evidence_in_two_lobes_names_both_the_larger_first():
    points = np.array([PLACES["frontal lobe"][0]] * 11 + [PLACES["temporal lobe"][0]] * 9, float)
    assert lobes.name(points, np.ones(20)) == ["frontal lobe", "temporal lobe"]


def test_evidence_all_over_is_only_a_hemisphere():
    points = np.array([places[0] for places in PLACES.values()], float)
    assert lobes.name(points, np.ones(4)) == ["cerebral hemisphere"]


def test_no_evidence_names_no_lobe():
    assert lobes.name(np.zeros((2, 3)), np.zeros(2)) == ["cerebral hemisphere"]
