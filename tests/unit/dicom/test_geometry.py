"""Order, spacing, gaps, tilt and intruders of a stack of slices."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset

from ich_node.dicom.geometry import MOST_GROUPS, PlanesOnce, frame_attributes, planes_of, stack_of
from ich_node.domain.errors import UnusableSeries
from ich_node.domain.reasons import Reason, Why
from ich_node.report.said.reasons import english

AXIAL = (1, 0, 0, 0, 1, 0)


def header(position, orientation=AXIAL, **attributes):
    made = Dataset()
    made.ImagePositionPatient = list(position)
    made.ImageOrientationPatient = list(orientation)
    made.PixelSpacing = [0.5, 0.5]
    made.Rows = made.Columns = 512
    made.FrameOfReferenceUID = "1.2.3"
    made.SOPInstanceUID = f"2.25.{abs(hash(tuple(position)))}"
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return made


def stack(headers):
    return stack_of([plane for item in headers for plane in planes_of(item)])


def heights(found):
    return [round(float(z), 3) for z in found.positions_mm[:, 2]]


@given(st.randoms(use_true_random=False), st.integers(2, 40), st.floats(0.5, 7.0))
def test_slices_come_foot_to_head_whatever_their_order(shuffler, count, step):
    headers = [header((-100, -120, -40 + index * step)) for index in range(count)]
    shuffler.shuffle(headers)
    found = stack(headers)
    assert np.all(np.diff(found.positions_mm[:, 2]) > 0)
    assert found.even and len(found.order) == count
    assert found.spacing_mm == pytest.approx((step, 0.5, 0.5), abs=1e-5)


def test_instance_numbers_play_no_part():
    headers = [header((0, 0, 5 * index), InstanceNumber=99 - index) for index in range(12)]
    assert heights(stack(headers)) == [5.0 * index for index in range(12)]


@pytest.mark.parametrize(
    "orientation",
    [AXIAL, (-1, 0, 0, 0, -1, 0), (-1, 0, 0, 0, 1, 0), (1, 0, 0, 0, -1, 0), (0, 1, 0, 1, 0, 0)],
    ids=["supine", "prone", "columns reversed", "rows reversed", "transposed"],
)
def test_head_is_up_in_every_orientation(orientation):
    found = stack([header((0, 0, -5 * index), orientation) for index in range(12)])
    assert heights(found) == [-55.0 + 5 * index for index in range(12)]
    assert found.axial and found.tilt_deg == pytest.approx(0, abs=1e-4)


def test_gantry_tilt_shears_the_affine_and_is_named():
    tilt = math.radians(20)
    orientation = (1, 0, 0, 0, math.cos(tilt), math.sin(tilt))
    found = stack([header((0, 0, 5 * index), orientation) for index in range(12)])
    assert found.tilt_deg == pytest.approx(20, abs=0.01)
    assert found.spacing_mm[0] == pytest.approx(5 * math.cos(tilt))
    assert found.affine[:3, 0] == pytest.approx([0, 0, 5])
    assert [english(warning) for warning in found.warnings] == ["gantry tilt of 20°"]


def test_an_oblique_reformat_is_not_a_tilted_gantry():
    tilt = math.radians(20)
    orientation = (1, 0, 0, 0, math.cos(tilt), math.sin(tilt))
    normal = np.array([0, -math.sin(tilt), math.cos(tilt)])
    found = stack([header(normal * 5 * index, orientation) for index in range(12)])
    assert found.tilt_deg == pytest.approx(0, abs=0.01)
    assert found.warnings == ()


def test_the_affine_maps_indices_to_the_positions():
    headers = [header((-100 + 0.1 * index, -120, 5 * index)) for index in range(12)]
    found = stack(headers)
    for index in range(12):
        assert (found.affine @ [index, 0, 0, 1])[:3] == pytest.approx(found.positions_mm[index], abs=1e-6)
    assert (found.affine @ [0, 2, 4, 1])[:3] == pytest.approx([-98, -119, 0])


def test_a_missing_slice_is_a_gap_with_its_place():
    found = stack([header((0, 0, 5 * index)) for index in range(20) if index != 7])
    assert found.gaps == ((6, 5.0),)
    assert found.missing_mm == 5
    assert [english(warning) for warning in found.warnings] == ["gap of 5 mm between slices 7 and 8"]


@pytest.mark.parametrize(("lost", "gaps"), [((7, 8), 1), ((3, 9, 15), 3)])
def test_two_missing_slices_are_a_part_of_the_head_that_was_not_looked_at(lost, gaps):
    found = stack([header((0, 0, 5 * index)) for index in range(20) if index not in lost])
    expected = f"{5 * len(lost)} mm of the head were not looked at: slices are missing (gaps: {gaps})"
    assert [english(warning) for warning in found.warnings] == [expected]


def test_a_change_of_spacing_is_not_a_gap():
    positions = [2.5 * index for index in range(12)] + [27.5 + 5 * index for index in range(1, 18)]
    found = stack([header((0, 0, z)) for z in positions])
    assert found.gaps == ()
    assert found.warnings == (Reason(Why.UNEVEN, smallest_mm=2.5, largest_mm=5.0),)


@pytest.mark.parametrize(("thin_mm", "thick_mm"), [(0.625, 5), (1.25, 5), (2.5, 5), (3, 6), (2, 10), (5, 2.5)])
def test_one_thick_step_after_thin_ones_is_no_gap(thin_mm, thick_mm):
    positions = [thin_mm * index for index in range(20)]
    positions += [positions[-1] + thick_mm * index for index in range(1, 12)]
    assert stack([header((0, 0, z)) for z in positions]).gaps == ()


def test_a_gap_where_the_step_changes_is_still_a_gap():
    positions = [1.25 * index for index in range(40)] + [48.75 + 15 + 5 * index for index in range(12)]
    assert stack([header((0, 0, z)) for z in positions]).gaps == ((39, 10.0),)


def test_positions_rounded_to_a_tenth_are_even():
    found = stack([header((0, 0, round(0.625 * index, 1))) for index in range(200)])
    assert found.even and found.warnings == ()


def test_a_localizer_among_the_slices_is_left_out():
    headers = [header((0, 0, 5 * index)) for index in range(12)]
    headers.insert(3, header((0, -200, 200), (0, 1, 0, 0, 0, -1)))
    found = stack(headers)
    assert found.left_out == ((3, Reason(Why.OTHER_ORIENTATION)),)
    assert found.left_out_warnings == (Reason(Why.LEFT_OUT, count=1, because=Reason(Why.OTHER_ORIENTATION)),)
    assert len(found.order) == 12


def test_axial_slices_go_before_a_larger_coronal_stack():
    coronal = [header((0, 5 * index, 0), (1, 0, 0, 0, 0, -1)) for index in range(40)]
    axial = [header((0, 0, 5 * index)) for index in range(20)]
    found = stack(coronal + axial)
    assert found.axial and len(found.order) == 20


def test_images_of_another_size_or_pixel_spacing_are_left_out():
    headers = [header((0, 0, 5 * index)) for index in range(12)]
    headers[2].Rows = 256
    headers[8].PixelSpacing = [0.4, 0.4]
    found = stack(headers)
    assert dict(found.left_out) == {
        2: Reason(Why.OTHER_SIZE),
        8: Reason(Why.OTHER_PIXEL_SPACING),
    }


def test_the_same_instance_twice_is_no_news():
    headers = [header((0, 0, 5 * index)) for index in range(12)]
    found = stack(headers + headers)
    assert len(found.order) == 12 and found.left_out_warnings == ()


def test_of_two_complete_acquisitions_the_later_one_is_taken():
    first = [header((0, 0, 5 * index), AcquisitionNumber=1, SOPInstanceUID=f"1.{index}") for index in range(12)]
    again = [header((0, 0, 5 * index), AcquisitionNumber=2, SOPInstanceUID=f"2.{index}") for index in range(12)]
    found = stack(first + again)
    assert found.order == tuple(range(12, 24))
    assert found.left_out_warnings == (Reason(Why.LEFT_OUT, count=12, because=Reason(Why.OTHER_ACQUISITION)),)


def test_a_repeated_scan_that_broke_off_does_not_replace_the_complete_one():
    first = [header((0, 0, 5 * index), AcquisitionNumber=1, SOPInstanceUID=f"1.{index}") for index in range(12)]
    again = [header((0, 0, 5 * index), AcquisitionNumber=2, SOPInstanceUID=f"2.{index}") for index in range(4)]
    assert stack(first + again).order == tuple(range(12))


def test_a_repeated_scan_at_shifted_positions_is_not_mixed_with_the_first():
    first = [header((0, 0, 5 * index), AcquisitionNumber=1) for index in range(24)]
    again = [header((0, 0, 5 * index + 1.7), AcquisitionNumber=2) for index in range(24)]
    found = stack(first + again)
    assert found.order == tuple(range(24, 48))
    assert found.left_out_warnings == (Reason(Why.LEFT_OUT, count=24, because=Reason(Why.OTHER_ACQUISITION)),)


def test_sequential_scans_with_a_number_for_every_slice_stay_together():
    headers = [header((0, 0, 5 * index), AcquisitionNumber=index) for index in range(24)]
    random.Random(1).shuffle(headers)
    assert len(stack(headers).order) == 24


def test_slices_moved_sideways_are_named():
    headers = [header((20 if index > 10 else 0, 0, 5 * index)) for index in range(24)]
    assert Why.SIDEWAYS in [warning.code for warning in stack(headers).warnings]


def test_slices_with_frames_of_reference_of_their_own_are_ordered_by_position_with_a_warning():
    headers = [header((0, 0, 5 * index), FrameOfReferenceUID=f"1.2.{index + 1}") for index in range(12)]
    found = stack(headers)
    assert len(found.order) == 12 and found.warnings == (Reason(Why.SEVERAL_FRAMES_OF_REFERENCE, count=12),)
    headers[3].FrameOfReferenceUID = ""
    assert Reason(Why.NO_FRAME_OF_REFERENCE) in stack(headers).warnings


def test_a_missing_frame_of_reference_is_named():
    headers = [header((0, 0, 5 * index), FrameOfReferenceUID="") for index in range(12)]
    assert stack(headers).warnings == (Reason(Why.NO_FRAME_OF_REFERENCE),)


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"ImagePositionPatient": None}, "Image Position"),
        ({"ImagePositionPatient": [0, 0]}, "Image Position"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "not_perpendicular"),
        ({"ImageOrientationPatient": [2, 0, 0, 0, 2, 0]}, "not_perpendicular"),
        ({"ImagePositionPatient": [0, 0, 1e9]}, "impossible"),
        ({"PixelSpacing": [0, 0]}, "pixel_spacing"),
        ({"PixelSpacing": None}, "Pixel Spacing"),
    ],
)
def test_a_header_without_a_place_says_why(attributes, reason):
    with pytest.raises(UnusableSeries, match=reason):
        planes_of(header((0, 0, 0), **attributes))


def test_no_planes_is_a_reason_too():
    with pytest.raises(UnusableSeries):
        stack_of([])


def test_a_single_slice_is_a_stack():
    found = stack([header((0, 0, 0))])
    assert found.order == (0,) and found.coverage_mm == 0 and not found.even


def test_a_frame_speaks_for_itself_before_the_shared_groups():
    def group(keyword, **values):
        outer, inner = Dataset(), Dataset()
        inner.update({})
        for name, value in values.items():
            setattr(inner, name, value)
        setattr(outer, keyword, [inner])
        return outer

    made = Dataset()
    made.SharedFunctionalGroupsSequence = [group("PixelMeasuresSequence", SliceThickness=5, PixelSpacing=[1, 1])]
    made.PerFrameFunctionalGroupsSequence = [
        group("PlanePositionSequence", ImagePositionPatient=[0, 0, 3]),
        group("PixelMeasuresSequence", SliceThickness=2),
    ]
    assert frame_attributes(made, 1).SliceThickness == 5
    assert frame_attributes(made, 2).SliceThickness == 2
    assert frame_attributes(made, None) is made


def test_slices_that_have_nothing_in_common_are_not_compared_each_with_each():
    (plane,) = planes_of(header((0, 0, 0)))
    different = [replace(plane, shape=(size, size)) for size in range(MOST_GROUPS + 1)]
    assert stack_of(different[:-1]).order
    with pytest.raises(UnusableSeries, match=Why.TOO_MANY_GROUPS):
        stack_of(different)


def test_planes_that_several_ask_for_are_made_once_and_refused_alike():
    once = PlanesOnce()
    one, nowhere = header((0, 0, 0)), header((0, 0, 0))
    del nowhere.ImagePositionPatient
    assert once(one) == planes_of(one)
    assert once(one) is once(one)
    refusals = []
    for _ in range(2):
        with pytest.raises(UnusableSeries) as refusal:
            once(nowhere)
        refusals.append(refusal.value.reason)
    assert refusals[0] == refusals[1]
