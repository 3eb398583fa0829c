"""Side, site, slices, peak and extent of a finding, on a head of ellipsoids with a known block of blood in it."""

from dataclasses import replace

import numpy as np
import pytest
from head_shapes import shape_head

from ich_node.domain.findings import LABELS, SITES, Laterality, ModelCard, Prediction, Volume
from ich_node.infer.say import evidence, headspace, locate, skull
from ich_node.infer.see.crop import crop

CARD = ModelCard("id", "1", "00", LABELS, dict.fromkeys(LABELS, 0.5), 0.9, 0.5)
CELLS = 28
BLOOD_MM = np.array([25.0, -27.5, 17.5])
"""Middle of the block of blood in shape_head, LPS mm from the middle of the head."""


def volume_of(hu, spacing, *, orientation=("L", "P"), slices=slice(None)):
    """The head in LPS, its middle at (10, −20, 300) mm, stored with rows and columns along `orientation`."""
    axes = {"L": (0, 1), "R": (0, -1), "P": (1, 1), "A": (1, -1)}
    slice_mm, row_mm, column_mm = spacing
    (row_axis, row_sign), (column_axis, column_sign) = (axes[letter] for letter in orientation)
    stored = hu[slices]
    if column_axis == 0:
        stored = stored.swapaxes(1, 2)
    signs = (column_sign, row_sign)
    stored = stored[:, :: signs[0], :: signs[1]]
    counts = np.array(hu.shape)
    affine = np.eye(4)
    affine[:3, :3] = 0
    affine[2, 0] = slice_mm
    affine[column_axis, 1], affine[row_axis, 2] = signs[0] * row_mm, signs[1] * column_mm
    start = np.array([10.0, -20.0, 300.0])
    start[column_axis] -= signs[0] * row_mm * (stored.shape[1] - 1) / 2
    start[row_axis] -= signs[1] * column_mm * (stored.shape[2] - 1) / 2
    heights = (np.arange(counts[0])[slices] - (counts[0] - 1) / 2) * slice_mm + start[2]
    positions = np.column_stack([np.full(len(heights), start[0]), np.full(len(heights), start[1]), heights])
    affine[:3, 3] = positions[0]
    uids = tuple(f"2.25.{i + 1}" for i in range(len(heights)))
    return Volume(np.ascontiguousarray(stored), spacing, affine, positions, uids, ())


def prediction_at(volume, box, centre_mm, radius_mm=16.0):
    """A CAM that is lit around `centre_mm` (LPS from the middle of the head)."""
    space = skull.inside(volume, box)
    cam = np.full((len(volume.hu), len(LABELS), CELLS, CELLS), 0.02, np.float32)
    corner, down, right = skull.box_geometry(volume, box)
    rows, columns = box.hu.shape[1:]
    row = (np.arange(CELLS) + 0.5) * rows / CELLS - 0.5
    column = (np.arange(CELLS) + 0.5) * columns / CELLS - 0.5
    middle = np.array([10.0, -20.0, 300.0]) + centre_mm
    for index in range(len(cam)):
        at = corner[index] + row[:, None, None] * down + column[None, :, None] * right
        away = np.linalg.norm(at - middle, axis=2)
        cam[index] = np.maximum(cam[index], 0.95 * np.exp(-((away / radius_mm) ** 2)))
    slices = cam.max(axis=(2, 3))
    return Prediction(slices, slices.max(axis=0), cam), space


def located(head, centre_mm=BLOOD_MM, label="intraparenchymal", **storage):
    volume = volume_of(head.hu, head.spacing_mm, **storage)
    box = crop(volume)
    prediction, space = prediction_at(volume, box, centre_mm)
    return locations(volume, box, prediction, space, label)[label], volume


def locations(volume, box, prediction, space, *labels):
    """Where the evidence of these labels is, each a finding of its own."""
    found = evidence.gather(prediction, ("any", *labels), box.hu.shape[1:], CARD, space, volume.heights_mm, None)
    return locate.locate_all(volume, box, found, space, locate.fit_head(space))


def evidence_of(heat, hu, belief):
    return evidence.Evidence.of(heat, heat >= 0.5, hu, belief, heat >= 0.5, heat >= 0.5)


@pytest.fixture(scope="module")
def head():
    return shape_head()


def test_a_bleeding_left_of_the_midline_in_the_front_is_named_so(head):
    answer, _ = located(head)
    assert answer.laterality is Laterality.LEFT
    assert answer.sites[0] == "frontal lobe"
    assert answer.sites[-1] == "supratentorial"
    assert set(answer.sites) <= set(SITES)


def test_its_mirror_image_is_on_the_right(head):
    answer, _ = located(replace(head, hu=head.hu[:, :, ::-1]), BLOOD_MM * (-1, 1, 1))
    assert answer.laterality is Laterality.RIGHT


def test_a_map_that_is_lit_on_one_side_names_none_when_the_blood_is_on_the_other(head):
    answer, _ = located(head, BLOOD_MM * (-1, 1, 1))
    assert answer.laterality is None


@pytest.mark.parametrize(
    ("across", "slices", "side"),
    [(False, (16, 21), Laterality.LEFT), (True, (16, 21), None), (True, (21, 24), None)],
)
def test_thin_blood_of_which_one_side_is_lit_has_that_side_only_where_the_other_has_none(head, across, slices, side):
    """Strips of 3 mm, too thin for a clot: one under the map, one on the other side, there or on other slices."""
    hu = np.where(head.hu > 200, head.hu, np.minimum(head.hu, 34))
    middle = hu.shape[2] // 2
    hu[16:21, 40:70, middle + 24 : middle + 27] = 66
    if across:
        hu[slices[0] : slices[1], 40:70, middle - 27 : middle - 24] = 66
    volume = volume_of(hu, head.spacing_mm)
    box = crop(volume)
    prediction, space = prediction_at(volume, box, BLOOD_MM, 12.0)
    found = locations(volume, box, prediction, space, "subarachnoid")
    assert (found["any"].laterality, found["subarachnoid"].laterality) == (side, side)


@pytest.mark.parametrize("one_sided", [False, True])
def test_a_map_that_lights_a_part_of_a_clot_has_the_side_of_the_clot(head, one_sided):
    """What is lit lies beyond the mid-plane; the clot goes across it, or mostly lies on the other side."""
    hu = head.hu.copy()
    middle = hu.shape[2] // 2
    clot = np.s_[16:21, 44:60, middle - (3 if one_sided else 10) : middle + (18 if one_sided else 12)]
    hu[:, 30:64, middle - 24 : middle + 24][hu[:, 30:64, middle - 24 : middle + 24] > 50] = 34
    hu[clot] = np.where(np.abs(hu[clot]) < 100, 66, hu[clot])
    volume = volume_of(hu, head.spacing_mm)
    box = crop(volume)
    prediction, space = prediction_at(volume, box, np.array([-6.0, -22.0, 17.5]), radius_mm=6)
    found = evidence.gather(prediction, ("any",), box.hu.shape[1:], CARD, space, volume.heights_mm, None)
    frame = locate.fit_head(space)
    assert space.positions(found["any"].lit)[:, 0].mean() < 10.0  # right of the middle of the head
    expected = Laterality.LEFT if one_sided else None
    side = locate.on_slice(found["any"], found["any"].best, "any", space, frame)[0]
    assert side is expected or (not one_sided and side is Laterality.BILATERAL)
    whole = locate.locate_all(volume, box, found, space, frame)["any"].laterality
    assert whole is not Laterality.RIGHT


def test_the_fourth_ventricle_has_no_side(head, monkeypatch):
    monkeypatch.setattr(locate, "name_sites", lambda *_: ("fourth ventricle",))
    answer, _ = located(head)
    assert answer.laterality is Laterality.MIDLINE


def test_what_is_lit_where_the_model_does_not_believe_is_no_part_of_a_finding():
    heat = np.zeros((12, 10, 10), np.float32)
    heat[1, 2:8, 2:8] = heat[6:9, 2:8, 2:8] = 0.9
    belief = np.array([0.2, 0.4, 0.2, 0.1, 0.1, 0.5, 0.99, 0.99, 0.99, 0.5, 0.1, 0.1], np.float32)
    assert set(np.nonzero(evidence.lit_blocks(heat, 7, 0.5, belief))[0]) == {6, 7, 8}
    belief[1] = 0.6
    assert set(np.nonzero(evidence.lit_blocks(heat, 7, 0.5, belief))[0]) == {1, 6, 7, 8}


def test_evidence_around_the_mid_plane_is_midline(head):
    volume = volume_of(head.hu, head.spacing_mm)
    box = crop(volume)
    prediction, space = prediction_at(volume, box, np.array([0.0, 0.0, 10.0]), radius_mm=5)
    assert locations(volume, box, prediction, space)["any"].laterality is Laterality.MIDLINE


@pytest.mark.parametrize("orientation", [("L", "P"), ("R", "P"), ("L", "A"), ("R", "A"), ("P", "L"), ("A", "R")])
def test_the_answer_does_not_depend_on_how_the_image_is_stored(head, orientation):
    straight, _ = located(head)
    turned, volume = located(head, orientation=orientation)
    assert turned.laterality is straight.laterality
    assert turned.sites == straight.sites
    assert (turned.first_slice, turned.last_slice) == (straight.first_slice, straight.last_slice)
    assert turned.peak is not None
    assert np.linalg.norm(np.subtract(turned.peak.position_mm, straight.peak.position_mm)) < 6
    in_place = volume.positions_mm[turned.peak.slice_index] + volume.affine[:3, 1:3] @ (
        turned.peak.row,
        turned.peak.column,
    )
    assert np.allclose(in_place, turned.peak.position_mm, atol=0.01)


def test_the_peak_lies_in_the_evidence(head):
    answer, _ = located(head)
    assert answer.peak is not None
    away = np.subtract(answer.peak.position_mm, (10.0, -20.0, 300.0)) - BLOOD_MM
    assert np.linalg.norm(away) < 8


def test_the_slices_are_those_of_the_lit_cells_counted_from_one(head):
    answer, volume = located(head)
    middle = volume.positions_mm[:, 2] - 300 - BLOOD_MM[2]
    lit = np.flatnonzero(np.abs(middle) < 13)
    assert answer.first_slice == pytest.approx(lit[0] + 1, abs=1)
    assert answer.last_slice == pytest.approx(lit[-1] + 1, abs=1)


def test_the_extent_is_a_diameter_in_millimetres(head):
    answer, _ = located(head)
    assert answer.extent_mm == pytest.approx(26, abs=8)


@pytest.mark.parametrize("slices", [slice(8, None), slice(0, -7), slice(6, -5)])
def test_a_scan_that_stops_short_keeps_the_side(head, slices):
    answer, _ = located(head, slices=slices)
    assert answer.laterality is Laterality.LEFT


def test_thin_slices_give_the_same_side_and_site():
    answer, _ = located(shape_head(slices=90, slice_mm=1.6, size=112))
    assert answer.laterality is Laterality.LEFT
    assert "supratentorial" in answer.sites


def test_without_a_skull_neither_side_nor_site_is_claimed(head):
    bare = np.where(head.hu > 300, 40, head.hu).astype(np.int16)
    answer, _ = located(type(head)(bare, head.spacing_mm))
    assert answer.laterality is None
    assert answer.sites == ()
    assert answer.peak is not None


def test_an_intraventricular_bleeding_is_in_a_ventricle(head):
    answer, _ = located(head, np.array([5.0, 5.0, 10.0]), label="intraventricular")
    assert answer.sites
    assert all("ventricle" in site for site in answer.sites)


def test_a_speck_far_away_does_not_stretch_the_slice_range():
    heat = np.zeros((20, 40, 40), np.float32)
    heat[8:12, 10:20, 10:20] = 0.9
    heat[18, 30, 30] = 0.6
    lit = evidence.lit_blocks(heat, 9, 0.5, np.ones(len(heat)))
    assert np.flatnonzero(lit.any(axis=(1, 2))).tolist() == [8, 9, 10, 11]


def test_a_finding_below_the_cam_threshold_still_has_a_place():
    heat = np.zeros((5, 10, 10), np.float32)
    heat[2, 4, 4] = 0.2
    assert np.argwhere(evidence.lit_blocks(heat, 2, 0.5, np.ones(len(heat)))).tolist() == [[2, 4, 4]]


@pytest.mark.parametrize(
    ("left", "right", "middle", "answer"),
    [
        (10, 0, 0, Laterality.LEFT),
        (0, 10, 0, Laterality.RIGHT),
        (9, 1, 0, Laterality.LEFT),
        (5, 5, 0, Laterality.BILATERAL),
        (1, 1, 8, Laterality.MIDLINE),
        (15, 5, 0, None),
    ],
)
def test_the_side_needs_a_clear_majority(left, right, middle, answer):
    x = np.array([20.0] * left + [-20.0] * right + [1.0] * middle)
    assert locate.side(x, np.ones(len(x), np.float32)) is answer


def test_evidence_on_both_sides_of_the_tentorium_names_no_compartment():
    share = dict.fromkeys(headspace.REGIONS, 0.0) | {"hemisphere": 0.5, "cerebellum": 0.5}
    assert locate.compartment(share) is None
    assert locate.compartment(share | {"hemisphere": 0.9, "cerebellum": 0.1}) == "supratentorial"
    assert locate.compartment(share | {"hemisphere": 0.1, "cerebellum": 0.9}) == "infratentorial"


def test_the_shipped_template_is_symmetric_and_its_regions_are_probabilities():
    template = headspace.shipped()
    assert np.allclose(template.distance_mm, template.distance_mm[::-1], atol=0.6)
    assert np.allclose(template.regions.sum(axis=0), 1, atol=1e-3)
    assert template.origin_mm[0] == -template.spacing_mm * (template.distance_mm.shape[0] - 1) / 2


@pytest.mark.parametrize(
    ("own", "parts", "whole"),
    [
        (Laterality.RIGHT, [Laterality.RIGHT], Laterality.RIGHT),
        (Laterality.RIGHT, [Laterality.BILATERAL], Laterality.BILATERAL),
        (Laterality.RIGHT, [Laterality.RIGHT, Laterality.LEFT], Laterality.BILATERAL),
        (Laterality.BILATERAL, [Laterality.LEFT], Laterality.LEFT),
        (Laterality.RIGHT, [Laterality.MIDLINE], Laterality.MIDLINE),
        (Laterality.RIGHT, [Laterality.MIDLINE, Laterality.RIGHT], None),
        (None, [Laterality.RIGHT], Laterality.RIGHT),
        (None, [Laterality.RIGHT, Laterality.BILATERAL], Laterality.BILATERAL),
        (Laterality.BILATERAL, [Laterality.LEFT, None], Laterality.BILATERAL),
        (Laterality.LEFT, [None], Laterality.LEFT),
        (Laterality.LEFT, [], Laterality.LEFT),
    ],
)
def test_the_side_of_any_never_contradicts_that_of_a_type(own, parts, whole):
    assert locate.covering(own, parts) is whole


@pytest.mark.parametrize(
    ("own", "parts", "whole"),
    [
        (Laterality.BILATERAL, [Laterality.LEFT], Laterality.BILATERAL),
        (Laterality.RIGHT, [Laterality.LEFT], Laterality.BILATERAL),
        (Laterality.RIGHT, [Laterality.MIDLINE], None),
        (None, [Laterality.RIGHT], None),
        (None, [Laterality.BILATERAL], Laterality.BILATERAL),
    ],
)
def test_blood_of_no_type_has_a_say_in_the_side_of_any(own, parts, whole):
    assert locate.covering(own, parts, beyond=True) is whole


@pytest.mark.parametrize(
    ("parts", "whole"),
    [
        ([("lateral ventricle",)], ("lateral ventricle",)),
        (
            [("frontal lobe", "supratentorial"), ("temporal lobe", "frontal lobe", "supratentorial")],
            ("frontal lobe", "temporal lobe", "supratentorial"),
        ),
        ([("frontal lobe", "supratentorial"), ("cerebellum", "infratentorial")], ("frontal lobe", "cerebellum")),
        ([(), ("cerebellum", "infratentorial")], ("cerebellum",)),
    ],
)
def test_any_is_where_its_types_are(parts, whole):
    assert locate.merged(parts) == whole


def test_any_covers_the_slices_and_the_extent_of_its_types(head):
    volume = volume_of(head.hu, head.spacing_mm)
    box = crop(volume)
    small, space = prediction_at(volume, box, BLOOD_MM, radius_mm=8)
    large, _ = prediction_at(volume, box, BLOOD_MM, radius_mm=22)
    small.cam[:, LABELS.index("subdural")] = large.cam[:, LABELS.index("subdural")]
    found = locations(volume, box, small, space, "subdural")
    whole, part = found["any"], found["subdural"]
    assert whole.first_slice <= part.first_slice and whole.last_slice >= part.last_slice
    assert whole.extent_mm >= part.extent_mm > 20


def test_the_extent_is_that_of_one_connected_region():
    lit = np.zeros((60, 60), np.bool_)
    lit[10:20, 10:16] = lit[40:44, 50:54] = True
    diameter = np.hypot(9, 5) * 2 + 2
    assert locate.extent_mm(lit, lit.astype(np.float32), (2.0, 2.0)) == pytest.approx(diameter, abs=1)


def test_the_strongest_slice_is_that_with_most_blood_not_that_with_the_hottest_cell():
    heat = np.zeros((12, 40, 40), np.float32)
    heat[3, 20, 20] = 0.99
    heat[7:9, 10:25, 10:25] = 0.7
    heat[8, 10:30, 10:30] = 0.7
    hu = np.full(heat.shape, 65, np.float32)
    found = evidence_of(heat, hu, np.full(12, 0.9, np.float32))
    assert found.best == 8


def test_a_lit_skull_base_in_which_the_model_does_not_believe_is_not_the_strongest_slice():
    heat = np.zeros((12, 40, 40), np.float32)
    heat[1] = 0.6
    heat[8, 10:30, 10:30] = 0.7
    belief = np.where(np.arange(12) == 1, 0.2, 0.9).astype(np.float32)
    assert evidence_of(heat, np.full(heat.shape, 65, np.float32), belief).best == 8


def test_the_mid_plane_of_a_slice_tells_the_side_of_a_pixel(head):
    volume = volume_of(head.hu, head.spacing_mm)
    space = skull.inside(volume, crop(volume))
    down, right, start = locate.midplane(volume, 14, locate.fit_head(space))
    columns = volume.hu.shape[2]
    assert start + right * 2 < -40 < 40 < start + right * (columns - 3)  # rows to posterior, columns to the left
    assert abs(down) < 0.1 * abs(right)
