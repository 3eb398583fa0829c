"""The standard head's making: label maps to regions and sides, and what is stored of a template."""

import numpy as np
import pytest

from ich_node.infer.say import headspace
from ich_node.infer.say.headspace import REGIONS
from ich_node.training.template import build as template


@pytest.fixture(scope="module")
def toy():
    """A ball of white matter, its left half (+x) labelled left; below it a cerebellum; fluid around; a skull."""
    x, y, z = np.mgrid[:90, :90, :90]
    radius = np.sqrt((x - 45) ** 2 + (y - 45) ** 2 + (z - 45) ** 2)
    labels = np.zeros((90, 90, 90), np.int16)
    labels[radius < 34] = 515
    labels[radius < 30] = 24
    labels[(radius < 27) & (x >= 45)] = 2
    labels[(radius < 27) & (x < 45)] = 41
    labels[(labels == 2) & (z < 33)] = 8
    labels[(labels == 41) & (z < 33)] = 47
    return labels, template.head_of(labels)


def cut(values, head, labels):
    """Where the head was cut out of the label map, by its first brain voxel."""
    brain = np.argwhere(np.isin(labels, (2, 41, 8, 47))).min(axis=0)
    start = np.maximum(brain - template.MARGIN_MM, 0)
    return values[tuple(slice(a, a + n) for a, n in zip(start, head.labels.shape, strict=True))]


def test_the_intracranial_space_is_brain_and_fluid_without_the_skull(toy):
    labels, head = toy
    inner = cut(labels, head, labels)
    assert (head.inside & (inner == 515)).sum() < 0.01 * head.inside.sum()
    assert head.inside[np.isin(inner, (2, 41, 8, 47))].all()


def test_the_distance_is_negative_inside_and_grows_by_a_millimetre_per_voxel(toy):
    _, head = toy
    assert np.all(head.distance_mm[head.inside] < 0)
    assert np.all(head.distance_mm[~head.inside] > 0)
    assert head.distance_mm.min() == pytest.approx(-30, abs=2)


def test_fluid_takes_the_nearest_region(toy):
    _, head = toy
    assert set(np.unique(head.region[head.inside])) == {
        1 + REGIONS.index("hemisphere"),
        1 + REGIONS.index("cerebellum"),
    }


def test_left_is_where_x_grows(toy):
    _, head = toy
    middle = head.labels.shape[0] // 2
    assert np.all(head.side[middle + 6 :][head.inside[middle + 6 :]] == 1)
    assert np.all(head.side[: middle - 6][head.inside[: middle - 6]] == -1)


def test_the_surface_has_no_caps(toy):
    _, head = toy
    points = template.surface(head.inside)
    assert np.all(np.diff(points[:, 2]) >= 0)
    heights = np.unique(points[:, 2])
    lowest = head.inside[:, :, int(heights[0])]
    assert (points[:, 2] == heights[0]).sum() < lowest.sum() or lowest.sum() < 10


def test_a_template_survives_being_stored(tmp_path):
    shipped = headspace.shipped()
    template.save(shipped, tmp_path / "copy.npz")
    with np.load(tmp_path / "copy.npz") as stored:
        copy = headspace.unpack(stored["distance"], stored["regions"], stored["origin_mm"], float(stored["spacing_mm"]))
    assert np.array_equal(copy.distance_mm, shipped.distance_mm)
    assert np.allclose(copy.regions, shipped.regions, atol=0.01)


def test_a_folder_without_label_maps_is_refused_by_name(tmp_path):
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        template.read_heads(tmp_path)


def test_the_template_fitted_to_itself_stays_where_it_is():
    """Boundary points of the shipped template, shifted, come back to it."""
    shipped = headspace.shipped()
    inside = shipped.distance_mm < 0
    points = template.surface(inside, step=2) * shipped.spacing_mm + shipped.origin_mm
    shifted = points + np.array([12.0, -7.0, 30.0])
    frame = headspace.fit(shifted, shipped)
    assert frame is not None
    assert frame.residual_mm < 2
    back = frame.to_template(shifted)
    assert np.median(np.linalg.norm(back - points, axis=1)) < 4


def test_too_few_boundary_points_give_no_fit():
    assert headspace.fit(np.zeros((10, 3)), headspace.shipped()) is None
