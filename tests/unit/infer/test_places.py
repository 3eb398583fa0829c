"""Where the blood of a type can lie at all, on a head of ellipsoids in the standard head."""

import numpy as np
import pytest
from head_shapes import shape_head
from scipy import ndimage

from ich_node.domain.findings import LABELS, Volume
from ich_node.infer.say import evidence, locate, places, skull
from ich_node.infer.see.crop import crop

TYPES = LABELS[1:]


@pytest.fixture(scope="module")
def head():
    """The inside of the skull, its fit, template mm of every block and mm to the bone within the slice."""
    shape = shape_head(slices=24, size=128)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]]) * np.array(shape.spacing_mm)
    positions = np.column_stack([np.zeros(24), np.zeros(24), np.arange(24) * shape.spacing_mm[0]])
    volume = Volume(shape.hu, shape.spacing_mm, affine, positions, tuple(f"2.25.{i}" for i in range(1, 25)), ())
    space = skull.inside(volume, crop(volume))
    frame = locate.fit_head(space)
    assert frame is not None
    at = frame.to_template(space.positions(np.ones(space.mask.shape, np.bool_))).reshape(*space.mask.shape, 3)
    depth = np.stack([ndimage.distance_transform_edt(mask, sampling=space.block_mm) for mask in space.mask])
    return space, frame, at, depth


def ball(at, centre, radius_mm):
    return np.linalg.norm(at - centre, axis=-1) <= radius_mm


def possible(head, blood):
    space, frame, _, _ = head
    return {label for label in TYPES if places.possible(label, blood & space.mask, space, frame)}


INSIDE = {"intraparenchymal", "subarachnoid"}
ON_BONE = INSIDE | {"epidural", "subdural"}


@pytest.mark.parametrize("thickness_mm", [4, 10, 20, 30])
def test_a_layer_on_the_inner_table_can_be_outside_the_brain_up_to_the_thickest(head, thickness_mm):
    _, _, at, depth = head
    layer = (depth <= thickness_mm) & (at[..., 0] > 15) & (abs(at[..., 1]) < 30) & (abs(at[..., 2] - 20) < 15)
    assert possible(head, layer) == ON_BONE


@pytest.mark.parametrize("radius_mm", [6, 10, 15])
def test_a_clot_that_brain_surrounds_is_neither_epidural_nor_subdural(head, radius_mm):
    _, _, at, _ = head
    assert not possible(head, ball(at, (28, -25, 25), radius_mm)) & {"epidural", "subdural"}


def test_blood_on_the_falx_can_be_subdural_and_not_epidural(head):
    _, _, at, _ = head
    falx = (abs(at[..., 0]) < 4) & (abs(at[..., 1] + 20) < 15) & (abs(at[..., 2] - 30) < 8)
    assert "subdural" in possible(head, falx)
    assert "epidural" not in possible(head, falx)


def test_blood_in_the_middle_can_be_intraventricular_and_blood_under_the_bone_cannot(head):
    _, _, at, depth = head
    template = locate.headspace.shipped()
    ventricle = template.region_probability(at.reshape(-1, 3))[:, 2].reshape(depth.shape) > 0.5
    assert "intraventricular" in possible(head, ventricle)
    assert "intraventricular" not in possible(head, (depth < 8) & (at[..., 0] > 30) & (at[..., 2] > 0))


def test_without_a_fit_or_blood_every_type_is_possible(head):
    space, frame, at, _ = head
    clot = ball(at, (28, -25, 25), 10)
    assert all(places.possible(label, clot, space, None) for label in TYPES)
    assert all(places.possible(label, np.zeros_like(clot), space, frame) for label in TYPES)


@pytest.mark.parametrize("rows", [1, 8])
def test_a_type_that_cannot_be_there_has_no_say_however_likely(head, rows):
    """The likeliest type is passed over for one that can explain the blood; alone, it leaves the type unknown."""
    space, frame, at, _ = head
    clot = ball(at, (28, -25, 25), 10 + rows) & space.mask
    heights_mm = np.arange(24) * 5.0
    types = {"epidural": clot, "intraparenchymal": clot, "subdural": clot}
    assert list(evidence.findings_of_their_own(types, clot, space, heights_mm, frame)) == ["intraparenchymal"]
    assert evidence.findings_of_their_own({"epidural": clot}, clot, space, heights_mm, frame) == {}
