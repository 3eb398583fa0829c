"""What is done to a study under stress is what its name says, and nothing is done at no strength."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra [train]")
from ich_node.phantom.head import head
from ich_node.phantom.lesions import TYPES
from ich_node.training.data import ct_ich
from ich_node.training.evaluate import changes, stress
from ich_node.training.learn.recipe import Workshop

pytestmark = pytest.mark.train
SPACING = (5.0, 0.5, 0.5)


@pytest.fixture
def hu():
    stack = np.full((6, 64, 64), -1000, np.int16)
    stack[:, 16:48, 16:48] = 40
    return stack


@pytest.mark.parametrize("name", [name for name in changes.CHANGES if not name.startswith("8 bits")])
def test_no_strength_changes_nothing(hu, name):
    change, nothing, _ = changes.CHANGES[name]
    changed, spacing = change(hu, SPACING, nothing)
    assert np.array_equal(changed, hu)
    assert spacing == SPACING


def test_noise_has_the_standard_deviation_that_was_asked_for(hu):
    changed, _ = changes.noise(hu, SPACING, 10)
    assert (changed - hu)[:, 20:44, 20:44].std() == pytest.approx(10, rel=0.1)


def test_a_softer_kernel_takes_noise_away_and_a_sharper_one_adds_it(hu):
    noisy, _ = changes.noise(hu, SPACING, 10)
    spread = [changes.kernel(noisy, SPACING, s)[0][:, 24:40, 24:40].std() for s in (-0.8, 0, 1.2)]
    assert spread[0] < 0.6 * spread[1] < spread[1] < 0.6 * spread[2]


def test_a_window_keeps_what_lies_inside_it_and_loses_the_rest(hu):
    hu[:, 30:34, 30:34] = 300
    changed, _ = changes.window(hu, SPACING, 80)
    assert np.abs(changed[hu == 40] - 40).max() <= 1
    assert (changed[hu == 300] == 80).all()
    assert (changed[hu == -1000] == 0).all()


def test_a_wrong_spacing_leaves_the_pixels_alone(hu):
    changed, spacing = changes.scale(hu, SPACING, 1.2)
    assert changed is hu
    assert spacing == pytest.approx((5.0, 0.6, 0.6))


def test_slices_put_together_are_as_thick_as_their_number_and_none_is_lost(hu):
    changed, spacing = changes.thickness(hu[:5], SPACING, 2)
    assert changed.shape == (3, 64, 64)
    assert spacing == (10.0, 0.5, 0.5)


def test_a_slice_of_several_has_what_any_of_them_has():
    labels = np.zeros((5, 6), np.float32)
    labels[3, 0] = 1
    assert changes.labels_of(labels, 3)[:, 0].tolist() == [0, 1, 0]
    assert changes.labels_of(labels, 5)[:, 0].tolist() == [0, 0, 0, 1, 0]


def test_a_tilt_shifts_every_slice_against_the_last(hu):
    changed, _ = changes.tilt(hu, SPACING, 20)
    tops = [int(np.flatnonzero((image > 0).any(axis=1))[0]) for image in changed]
    assert np.diff(tops).mean() == pytest.approx(np.tan(np.deg2rad(20)) * 10, abs=0.5)


def test_a_tilt_out_of_the_picture_leaves_air(hu):
    changed, _ = changes.tilt(hu, (50.0, 0.5, 0.5), 45)
    assert (changed[0] == -1024).all()


class BrightestPixel:
    """An engine that takes the densest pixel below bone for evidence."""

    def run(self, hu):
        peak = np.where(hu < 100, hu, -1000).max(axis=(1, 2)).astype(np.float32)
        return (np.repeat(peak[:, None] - 60, 6, axis=1),)


SAID = SimpleNamespace(
    calibration=SimpleNamespace(study=SimpleNamespace(probability=lambda logits: 1 / (1 + np.exp(-logits)))),
    aggregation=SimpleNamespace(
        slices=lambda logits, heights_mm: logits, study=lambda logits, heights_mm: logits.max(axis=0)
    ),
)


def made(name, bleeding):
    rows, columns = np.mgrid[-32:32, -32:32] * 3.6
    hu = np.full((6, 64, 64), -1000, np.int16)
    hu[:, np.hypot(rows / 95, columns / 75) < 1] = 40
    labels = np.zeros((6, 6), np.float32)
    if bleeding:
        hu[2, 30:34, 30:34] = 80
        labels[2, 0] = 1
    return stress.Study(name, hu, (26.0, 3.6, 3.6), labels)


def test_every_change_is_scored_on_every_study_and_drawn(tmp_path):
    found = [stress.scored(study, BrightestPixel(), SAID) for study in (made("a", True), made("b", False))]
    assert set(found[0]) == {stress.UNCHANGED, *changes.CHANGES}
    sums = stress.figures(json.loads(json.dumps(found)), high=0.5)
    still = sums[stress.UNCHANGED][""]
    assert (still["studies"], still["slice_auc"][0], still["study_auc"][0]) == (2, 1, 1)
    assert (still["sensitivity"], still["specificity"]) == (1, 1)
    shifted = sums["offset of all HU"]["10"]
    assert shifted["study_auc"][0] == 1
    assert sums["slices put together"]["2"]["slice_auc"][0] == 1
    stress.plot({"one": sums, "other": sums}, tmp_path / "stress.png")
    assert (tmp_path / "stress.png").stat().st_size > 10_000


def test_the_sets_take_turns_between_bleeding_and_well_so_that_a_short_run_has_both(tmp_path, monkeypatch):
    heads = ["one", "other"]
    monkeypatch.setattr(stress.scans, "heads", lambda maps, cache: [])
    monkeypatch.setattr(stress.scans, "kept_back", lambda cache: heads)
    made_for = [study.args[:2] for study in stress.scanned(Workshop(tmp_path, tmp_path))]
    assert [label for _, label in made_for[1::2]] == [None] * (len(made_for) // 2)
    assert {*made_for[::2]} == {(head, label) for head in heads for label in TYPES}


def test_patients_take_turns_too(tmp_path):
    rows = "".join(f"{name},{any_}\n" for name, any_ in (("a", 0), ("b", 0), ("b", 1), ("c", 1), ("d", 1)))
    (tmp_path / "labels.csv").write_text(f"patient,any\n{rows}")
    assert ct_ich.in_turn(tmp_path) == [1, 0, 2, 3]


def test_a_phantom_is_a_whole_head_in_slices_of_5_mm_and_bleeds_as_it_says():
    anatomy = head(np.random.default_rng(3))
    ill, well = stress.phantom(anatomy, "epidural", 4).study, stress.phantom(anatomy, None, 5).study
    for study in (ill, well):
        assert study.spacing_mm[0] == 5
        assert 130 < len(study.hu) * study.spacing_mm[0] < 230
    assert ill.labels[:, :2].max(axis=0).tolist() == [1, 1]
    assert well.labels.max() == 0


def test_a_run_that_was_cut_short_goes_on(tmp_path, monkeypatch):
    asked = []

    def few(shop):
        for name in "abc":
            yield lambda name=name: asked.append(name) or made(name, name == "a")

    monkeypatch.setattr(stress, "phantoms", few)
    monkeypatch.setattr(stress, "OrtEngine", lambda graph, provider, threads: BrightestPixel())
    shop = Workshop(tmp_path, tmp_path)
    model = SimpleNamespace(graph=b"", manifest=SAID)
    assert stress.measure(shop, stress.PHANTOMS, model, minutes=-1) == []
    found = stress.measure(shop, stress.PHANTOMS, model, minutes=5)
    assert stress.measure(shop, stress.PHANTOMS, model, minutes=5) == found
    assert asked == ["a", "b", "c"]
