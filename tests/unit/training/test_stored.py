"""What stored predictions tell: types that were named rightly, and a rule that is not chosen on its own test."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra [train]")
from ich_node.training.evaluate import stored

pytestmark = pytest.mark.train
SLICES = 8


@pytest.fixture
def found():
    """Twenty patients in five folds, every other with epidural blood on two slices that the network sees well."""
    rng = np.random.default_rng(3)
    logit = rng.normal(-3, 0.3, (20 * SLICES, 6)).astype(np.float32)
    label = np.zeros_like(logit)
    patient = np.repeat([f"p{number:02d}" for number in range(20)], SLICES)
    for number in range(0, 20, 2):
        rows = number * SLICES + np.array([3, 4])
        label[np.ix_(rows, [0, 1])] = 1
        logit[np.ix_(rows, [0, 1])] = 4
    fold = np.repeat(np.arange(20) // 2 % 5, SLICES)
    return {"patient": patient, "slice": np.tile(np.arange(SLICES), 20), "logit": logit, "label": label, "fold": fold}


def test_a_type_that_is_always_seen_is_named_and_no_other_is(found):
    named = stored.named(found)
    assert named["epidural"] == {"precision": "1.00 (10 of 10)", "recall": "1.00 (10 of 10)"}
    assert named["subdural"] == {"precision": "none", "recall": "none"}
    assert named["all types"] == named["epidural"]


def test_a_type_without_any_hemorrhage_is_not_named(found):
    found["logit"][:SLICES, 0] = -6
    assert stored.named(found)["epidural"]["recall"] == "0.90 (9 of 10)"


def test_every_rule_is_compared_and_one_is_chosen_for_each_fold(found):
    compared = stored.compare(found)
    assert set(compared["on all patients"]) == set(stored.rules())
    assert compared["on all patients"][stored.AS_SHIPPED] == [1, 1, pytest.approx(np.nan, nan_ok=True)]
    assert len(compared["chosen"]) == 5
    assert compared["calibrated by fold"]["chosen by nested cross-validation"][0] == 1


def test_the_mean_over_all_slices_is_thinned_by_slices_without_blood():
    rule = stored.rules()["log-mean-exp of all slices, r = 1"]
    logits = np.full((10, 6), -3.0)
    logits[0] = 3.0
    longer = np.concatenate([logits, np.full((10, 6), -3.0)])
    assert rule(longer, np.arange(20) * 5.0)[0] == pytest.approx(
        rule(logits, np.arange(10) * 5.0)[0] - np.log(2), abs=0.05
    )
