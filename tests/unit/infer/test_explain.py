"""Which slices are shown, and that the heat stays where the skull is."""

from dataclasses import replace

import numpy as np
import pytest
from head_shapes import shape_head

from ich_node.domain.findings import LABELS, Laterality, ModelCard, Prediction, Volume
from ich_node.infer.say import evidence, explain, key_slices, locate, skull
from ich_node.infer.see.crop import crop

CELLS = 24
CARD = ModelCard("id", "1", "00", LABELS, dict.fromkeys(LABELS, 0.5), 0.9, 0.5)


@pytest.fixture(scope="module")
def study():
    """Volume, head box and inside of an ellipsoid head, 20 slices of 5 mm."""
    head = shape_head(slices=24, size=128)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]]) * np.array(head.spacing_mm)
    positions = np.column_stack([np.zeros(24), np.zeros(24), np.arange(24) * head.spacing_mm[0]])
    uids = tuple(f"2.25.{i}" for i in range(1, 25))
    volume = Volume(head.hu, head.spacing_mm, affine, positions, uids, ())
    box = crop(volume)
    return volume, box, skull.inside(volume, box)


def prediction(best, cells=None):
    """A prediction whose label is most probable on the given slice; lit in the middle, or at `cells`."""
    slices = np.full((24, 6), 0.1, np.float32)
    cam = np.full((24, 6, CELLS, CELLS), 0.01, np.float32)
    row, column = cells or (CELLS // 2, CELLS // 2)
    for label, index in best.items():
        slices[index, LABELS.index(label)] = 0.9
        cam[:, LABELS.index(label), row, column] = 0.3
        cam[index, LABELS.index(label), row, column] = 0.9
    return Prediction(slices, slices.max(axis=0), cam)


def pictures(study, found, *present, which="key"):
    volume, box, space = study
    gathered = evidence.gather(found, present, box.hu.shape[1:], CARD, space, volume.heights_mm, None)
    return key_slices.key_slices(volume, found, gathered, box, which, space, None)


def shown(study, best, *present, which="key"):
    return [(item.slice_index, item.label) for item in pictures(study, prediction(best), *present, which=which)]


def lit(first, last, best):
    """Evidence on slices `first` to `last`, most of it on `best`."""
    heat = np.zeros((24, 10, 10), np.float32)
    heat[first : last + 1, 4:6, 4:6] = 0.9
    heat[best, 2:8, 2:8] = 0.9
    hu, belief = np.full(heat.shape, 65, np.float32), np.full(24, 0.9, np.float32)
    return evidence.Evidence.of(heat, heat > 0.5, hu, belief, heat > 0.5, heat > 0.5)


def spread(spacing_mm, **found):
    return key_slices.spread(found, np.arange(24) * spacing_mm)


def test_every_finding_shows_its_best_slice():
    assert spread(5.0, any=lit(9, 9, 9), epidural=lit(12, 12, 12), subdural=lit(6, 6, 6)) == {
        6: "subdural",
        9: "any",
        12: "epidural",
    }


def test_a_slice_that_is_the_best_of_two_types_shows_any():
    assert spread(5.0, any=lit(9, 9, 9), epidural=lit(9, 9, 9), subdural=lit(9, 9, 9)) == {9: "any"}


def test_pictures_of_a_finding_are_its_best_first_and_last_slice():
    assert sorted(spread(5.0, any=lit(2, 20, 9))) == [2, 9, 20]


@pytest.mark.parametrize("spacing_mm", [0.625, 1.25, 2.5, 5.0, 7.5])
def test_no_two_pictures_of_a_finding_lie_closer_than_a_centimetre(spacing_mm):
    at = np.array(sorted(spread(spacing_mm, any=lit(3, 20, 12)))) * spacing_mm
    assert (np.diff(at) >= 9.5).all() and 12 * spacing_mm in at


def test_any_shows_only_what_lies_apart_from_its_types():
    assert spread(5.0, any=lit(8, 20, 9), subdural=lit(8, 11, 10)) == {8: "subdural", 10: "subdural", 20: "any"}


def test_a_picture_has_the_side_of_its_own_evidence(study):
    volume, box, space = study
    found = prediction({"any": 12})
    both = [
        0,
        LABELS.index("intraparenchymal"),
    ]  # thin blood, or what has no type, would have to be there to have a side
    found.cam[:, both] = 0.01
    found.cam[8, both, CELLS // 2, CELLS // 4], found.cam[14, both, CELLS // 2, 3 * CELLS // 4] = 0.9, 0.9
    found.slice_probability[:, both] = 0.1
    found.slice_probability[np.ix_([8, 14], both)] = 0.9
    labels = ("any", "intraparenchymal")
    gathered = evidence.gather(found, labels, box.hu.shape[1:], CARD, space, volume.heights_mm, None)
    shown = key_slices.key_slices(volume, found, gathered, box, "key", space, locate.fit_head(space))
    assert [item.laterality for item in shown] == [Laterality.RIGHT, Laterality.LEFT]


def test_a_survey_shows_the_lower_middle_and_upper_brain(study):
    volume, _, space = study
    low, middle, high = key_slices.survey(space, volume.heights_mm)
    assert 3 <= low < middle < high <= 20
    assert space.mask[[low, middle, high]].any(axis=(1, 2)).all()


def test_one_clot_has_one_name(study):
    """A type that is lit on the same blood, beside the more probable one, is no finding of its own."""
    volume, _, space = study
    hu = np.where(space.mask, 35, 0).astype(np.float32)
    hu[10:14, 20:36, 22:34] = 70
    bleeding = replace(space, hu=hu)
    one, same, other = (np.zeros(hu.shape, np.bool_) for _ in range(3))
    one[10:14, 20:28, 22:28] = same[10:14, 30:36, 28:34] = True

    def own(types):
        clots = evidence.clots_of(bleeding)
        return list(evidence.findings_of_their_own(types, clots, bleeding, volume.heights_mm, None))

    types = {"intraparenchymal": one, "epidural": same}
    assert own(types) == ["intraparenchymal"]
    hu[10:14, 44:56, 22:34] = other[10:14, 44:56, 22:34] = 70
    types = {"intraparenchymal": one, "epidural": same, "subdural": other > 0}
    assert own(types) == ["intraparenchymal", "subdural"]


def test_nothing_present_shows_nothing(study):
    assert shown(study, {"any": 9}) == []


def test_every_slice_is_shown_when_asked_for(study):
    assert shown(study, {"any": 9}, which="all") == [(index, "any") for index in range(24)]


def test_heat_is_on_the_stored_grid_and_inside_the_skull(study):
    volume, _, _ = study
    (item,) = pictures(study, prediction({"any": 12}), "any")
    assert item.heat.shape == volume.hu.shape[1:]
    assert item.heat.dtype == np.float32
    assert item.heat.max() == pytest.approx(0.8, abs=0.11)
    assert np.all(item.heat[volume.hu[12] < -300] == 0)


def test_evidence_in_the_air_is_not_shown_and_does_not_choose_the_slice(study):
    _, box, space = study
    aside = prediction({"any": 12}, cells=(0, 0))
    heat = explain.block_heat(aside, "any", space, box.hu.shape[1:])
    assert heat.max() < 0.1
    inside = prediction({"any": 9})
    mixed = Prediction(
        np.maximum(aside.slice_probability, inside.slice_probability * 0.8),
        aside.study_probability,
        np.where(np.arange(24)[:, None, None, None] == 12, aside.cam, inside.cam),
    )
    heat = explain.block_heat(mixed, "any", space, box.hu.shape[1:])
    assert explain.likeliest_slice(mixed, "any", heat) == 9


def test_the_block_heat_follows_the_cam(study):
    _, box, space = study
    heat = explain.block_heat(prediction({"any": 12}), "any", space, box.hu.shape[1:])
    index, row, column = np.unravel_index(int(heat.argmax()), heat.shape)
    assert index == 12
    assert row / heat.shape[1] == pytest.approx(0.52, abs=0.06)
    assert column / heat.shape[2] == pytest.approx(0.52, abs=0.06)


def test_the_inside_of_the_skull_is_brain_without_skull_and_air(study):
    _, _, space = study
    middle = space.mask[10:16]
    assert middle.any()
    assert np.all(space.hu[10:16][middle] > -30)
    brain = (space.hu[12] > 20) & (space.hu[12] < 80)
    assert (space.mask[12] & brain).sum() > 0.9 * brain.sum()


def test_without_bone_nothing_is_hidden():
    soft = np.full((6, 60, 60), 35, np.float32)
    mask = skull.intracranial(soft)
    assert not mask.any()
    assert skull.with_rim(mask).all()


def test_an_open_skull_keeps_its_inside():
    """A craniectomy: a quarter of the ring is missing on one side."""
    row, column = np.mgrid[:100, :90]
    radius = np.hypot((row - 50) / 42, (column - 45) / 36)
    image = np.where(radius < 1, 1000.0, -1000.0)
    image[radius < 0.92] = 35
    image[(column > 70) & (row > 35) & (row < 65) & (radius < 1)] = 35
    mask = skull.intracranial(np.repeat(image[None], 8, axis=0).astype(np.float32))
    inside = (radius < 0.88) & (column < 66)
    assert mask[4][inside].mean() > 0.97
    assert not mask[4][radius > 1.02].any()
