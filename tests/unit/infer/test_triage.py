"""What is called present, and how urgent: the rules of triage.decide."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ich_node.domain.errors import ModelError
from ich_node.domain.findings import LABELS, Laterality, ModelCard, Prediction, Priority
from ich_node.infer.say import triage
from ich_node.infer.say.locate import Location

THRESHOLDS = dict.fromkeys(LABELS, 0.4) | {"any": 0.3}
CARD = ModelCard("id", "1", "00", LABELS, THRESHOLDS, stat_threshold=0.8, cam_threshold=0.5)
HERE = Location(Laterality.LEFT, ("frontal lobe",), 3, 5, None, 21.0)


def prediction(*study):
    p = np.asarray(study, np.float32)
    return Prediction(np.tile(p, (4, 1)), p, np.zeros((4, 6, 2, 2), np.float32))


def decide(*study):
    return triage.decide(prediction(*study), dict.fromkeys(LABELS, HERE), CARD)


@pytest.mark.parametrize(
    ("p_any", "expected"),
    [
        (0.0, Priority.ROUTINE),
        (0.29, Priority.ROUTINE),
        (0.31, Priority.HIGH),
        (0.79, Priority.HIGH),
        (0.81, Priority.STAT),
        (1.0, Priority.STAT),
    ],
)
def test_the_priority_follows_the_operating_points_of_the_card(p_any, expected):
    assert decide(p_any, 0, 0, 0, 0, 0)[0] is expected


def test_a_probability_exactly_at_its_threshold_counts():
    card = ModelCard("id", "1", "00", LABELS, dict.fromkeys(LABELS, 0.5), 0.75, 0.5)
    assert triage.priority(prediction(0.5, 0, 0, 0, 0, 0), card) is Priority.HIGH
    assert triage.priority(prediction(0.75, 0, 0, 0, 0, 0), card) is Priority.STAT


def test_stat_needs_the_finding_to_be_present_even_if_the_card_orders_its_thresholds_wrongly():
    card = ModelCard("id", "1", "00", LABELS, dict.fromkeys(LABELS, 0.5), 0.25, 0.5)
    assert triage.priority(prediction(0.375, 0, 0, 0, 0, 0), card) is Priority.ROUTINE


def test_a_type_alone_never_makes_a_study_positive():
    urgency, findings = decide(0.1, 0.9, 0, 0, 0, 0)
    assert urgency is Priority.ROUTINE
    assert not any(finding.present for finding in findings)


def test_hemorrhage_may_be_present_without_a_type():
    _, findings = decide(0.9, 0.2, 0.2, 0.2, 0.2, 0.2)
    assert [finding.label for finding in findings if finding.present] == ["any"]


def test_a_location_is_given_only_for_what_is_present():
    _, findings = decide(0.9, 0.6, 0.1, 0.1, 0.1, 0.1)
    by_label = {finding.label: finding for finding in findings}
    assert by_label["epidural"].laterality is Laterality.LEFT
    assert by_label["epidural"].extent_mm == 21.0
    assert by_label["subdural"].laterality is None
    assert by_label["subdural"].sites == ()


@given(st.lists(st.floats(0, 1, width=32), min_size=6, max_size=6))
def test_any_is_at_least_as_probable_and_as_present_as_every_type(study):
    _, findings = decide(*study)
    assert [finding.label for finding in findings] == list(LABELS)
    assert all(finding.probability <= findings[0].probability for finding in findings)
    assert findings[0].present or not any(finding.present for finding in findings)


@pytest.mark.parametrize("study", [(np.nan, 0, 0, 0, 0, 0), (1.2, 0, 0, 0, 0, 0), (0.5, 0.5)])
def test_what_is_no_probability_never_becomes_a_routine_study(study):
    with pytest.raises(ModelError):
        triage.called(prediction(*study), CARD)
