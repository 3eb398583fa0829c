"""Which slices are shown, and that the heat stays where the skull is."""

import numpy as np
import pytest
from head_shapes import shape_head

from ich_node.domain.findings import LABELS, Finding, Prediction, Volume
from ich_node.infer.say import explain, skull
from ich_node.infer.see.crop import crop

CELLS = 24


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


def findings(*present):
    return [Finding(label, 0.9 if label in present else 0.1, label in present) for label in LABELS]


def shown(study, best, *present, which="key"):
    _, box, space = study
    return [
        (item.slice_index, item.label)
        for item in explain.key_slices(prediction(best), findings(*present), box, which, space)
    ]


def test_every_present_finding_shows_its_best_slice_foot_to_head(study):
    assert shown(study, {"any": 9, "epidural": 12, "subdural": 6}, "any", "epidural", "subdural") == [
        (6, "subdural"),
        (9, "any"),
        (12, "epidural"),
    ]


def test_a_slice_that_is_the_best_of_any_and_of_one_type_shows_the_type(study):
    assert shown(study, {"any": 9, "epidural": 9}, "any", "epidural") == [(9, "epidural")]


def test_a_slice_that_is_the_best_of_two_types_shows_any(study):
    assert shown(study, {"any": 9, "epidural": 9, "subdural": 9}, "any", "epidural", "subdural") == [(9, "any")]


def test_nothing_present_shows_nothing(study):
    assert shown(study, {"any": 9}) == []


def test_every_slice_is_shown_when_asked_for(study):
    assert shown(study, {"any": 9}, which="all") == [(index, "any") for index in range(24)]


def test_heat_is_on_the_stored_grid_and_inside_the_skull(study):
    volume, box, space = study
    (item,) = explain.key_slices(prediction({"any": 12}), findings("any"), box, "key", space)
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
    assert explain.best_slice(mixed, "any", heat) == 9


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
