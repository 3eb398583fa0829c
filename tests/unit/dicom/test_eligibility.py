"""Which series the model may look at, and the reason in plain words for every other one."""

from __future__ import annotations

import pytest
from head_shapes import shape_head
from pydicom import Dataset
from pydicom.uid import BasicTextSRStorage, SecondaryCaptureImageStorage

from ich_node.dicom import eligibility
from ich_node.dicom.eligibility import Eligible, NotAnalysed, Partial, SetAside, verdict
from ich_node.dicom.geometry import planes_of, stack_of
from ich_node.domain.reasons import Reason, Why
from ich_node.phantom.enhanced import build_enhanced
from ich_node.phantom.series import build_series
from ich_node.report import headers
from ich_node.report.said.reasons import english

HEAD = shape_head(30, 64)


def series(**attributes):
    positions = attributes.pop("positions_mm", None)
    tilt = attributes.pop("tilt_deg", 0.0)
    phantom = attributes.pop("phantom", HEAD)
    made = build_series(phantom, seed=1, positions_mm=positions, tilt_deg=tilt, attributes=attributes)
    for header in made:
        del header.PixelData
    return made


def test_a_plain_head_ct_is_eligible():
    assert verdict(series()) == Eligible()


def test_the_order_of_the_headers_does_not_matter():
    assert verdict(series()[::-1]) == Eligible()


def test_an_enhanced_ct_is_eligible():
    assert verdict([build_enhanced(HEAD)]) == Eligible()


def test_a_tilted_gantry_is_no_obstacle():
    assert verdict(series(tilt_deg=25.0)) == Eligible()


@pytest.mark.parametrize(
    "attributes",
    [
        {"BodyPartExamined": None},
        {"BodyPartExamined": "", "SeriesDescription": "", "ProtocolName": "", "StudyDescription": ""},
        {"BodyPartExamined": "CHEST", "SeriesDescription": "CCT 5.0 H30s"},
        {"ContrastBolusAgent": "NONE"},
        {"ContrastBolusAgent": ""},
        {"ContrastBolusVolume": "0"},
        {"ContrastFlowRate": "0", "ContrastBolusTotalDose": ""},
        {"ContrastBolusAgent": "OMNIPAQUE 300", "ContrastBolusRoute": "ORAL", "ContrastBolusVolume": "900"},
        {"SeriesDescription": "HEAD WITHOUT CONTRAST"},
        {"SeriesDescription": "Head C- 5mm"},
        {"SeriesDescription": "Schädel nativ"},
        {"SeriesDescription": "HEAD POST FOSSA"},
        {"ConvolutionKernel": None},
        {"ConvolutionKernel": "H31s"},
        {"ConvolutionKernel": ["J40s", "3"]},
        {"ConvolutionKernel": "FC21"},
        {"ConvolutionKernel": "UB"},
        {"RescaleType": None},
        {"SliceThickness": None},
        {"ImageType": ["DERIVED", "SECONDARY", "AXIAL", "AVERAGE"]},
    ],
    ids=str,
)
def test_what_real_senders_write_is_eligible(attributes):
    assert verdict(series(**attributes)) == Eligible()


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"ContrastBolusAgent": "IOHEXOL 350"}, Reason(Why.CONTRAST_NAMED)),
        ({"ContrastBolusAgent": "ORAL & IV"}, Reason(Why.CONTRAST_NAMED)),
        ({"ContrastBolusVolume": "80"}, Reason(Why.CONTRAST_RECORDED)),
        ({"ContrastFlowRate": "4"}, Reason(Why.CONTRAST_RECORDED)),
        ({"ContrastBolusTotalDose": "70", "ContrastBolusRoute": "IV"}, Reason(Why.CONTRAST_RECORDED)),
        ({"ContrastBolusAgent": "IOHEXOL", "ContrastBolusRoute": "ORAL AND IV"}, Reason(Why.CONTRAST_NAMED)),
        ({"SeriesDescription": "CTA HEAD"}, Reason(Why.CONTRAST_DESCRIBED, word="cta")),
        ({"SeriesDescription": "Schädel mit KM"}, Reason(Why.CONTRAST_DESCRIBED, word="mit km")),
        ({"ConvolutionKernel": "BONEPLUS"}, Reason(Why.SHARP_KERNEL, kernel="BONEPLUS")),
        ({"ConvolutionKernel": "H60s"}, Reason(Why.SHARP_KERNEL, kernel="H60s")),
        ({"ConvolutionKernel": ["Hr64h", "2"]}, Reason(Why.SHARP_KERNEL, kernel="Hr64h")),
        ({"ConvolutionKernel": "FC81"}, Reason(Why.SHARP_KERNEL, kernel="FC81")),
        ({"ConvolutionKernel": "YC"}, Reason(Why.SHARP_KERNEL, kernel="YC")),
        (
            {"ConvolutionKernel": None, "SeriesDescription": "HEAD BONE"},
            Reason(Why.SHARP_DESCRIBED, word="bone"),
        ),
        ({"SliceThickness": "10"}, Reason(Why.THICK_SLICES, thickness_mm=10.0, limit_mm=6.0)),
        ({"RescaleSlope": None}, Reason(Why.NO_RESCALE)),
        ({"RescaleType": "Z_EFF"}, Reason(Why.NOT_HOUNSFIELD)),
        ({"ModalityLUTSequence": [Dataset()]}, Reason(Why.MODALITY_LUT)),
        ({"ImagePositionPatient": None}, Reason(Why.ATTRIBUTE_MISSING, attribute="Image Position (Patient)")),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_head_ct_that_must_not_be_judged_says_why(attributes, reason):
    assert verdict(series(**attributes)) == NotAnalysed(reason)


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, Reason(Why.LOCALIZER)),
        ({"SeriesDescription": "C-SPINE 2.0"}, Reason(Why.OTHER_BODY_PART, part="spine")),
        ({"SeriesDescription": "SINUS CORONAL"}, Reason(Why.OTHER_BODY_PART, part="sinuses or face")),
        ({"SeriesDescription": "", "BodyPartExamined": "CHEST"}, Reason(Why.OTHER_BODY_PART, part="chest")),
        ({"SeriesDescription": "TOPOGRAM"}, Reason(Why.NOT_THE_SLICES, word="topogram")),
        ({"SeriesDescription": "HEAD MIP"}, Reason(Why.NOT_THE_SLICES, word="mip")),
        ({"ImageType": ["DERIVED", "SECONDARY", "MIP"]}, Reason(Why.NOT_THE_SLICES, word="MIP")),
        ({"Manufacturer": eligibility.OWN_MANUFACTURER}, Reason(Why.OWN_RESULT)),
    ],
    ids=str,
)
def test_what_nobody_waits_for_is_set_aside(attributes, reason):
    assert verdict(series(**attributes)) == SetAside(reason)


def test_a_wide_field_of_view_without_a_word_is_not_taken_for_a_head():
    silent = dict.fromkeys(("BodyPartExamined", "SeriesDescription", "ProtocolName", "StudyDescription"), "")
    found = verdict(series(**silent, PixelSpacing=[4, 4], phantom=shape_head(30, 96)))
    assert isinstance(found, SetAside)


def test_a_contribution_of_this_node_is_recognised():
    maker = Dataset()
    maker.Manufacturer = eligibility.OWN_MANUFACTURER
    assert verdict(series(ContributingEquipmentSequence=[maker])) == SetAside(Reason(Why.OWN_RESULT))


def test_the_reports_use_the_manufacturer_that_is_recognised():
    assert headers.MANUFACTURER == eligibility.OWN_MANUFACTURER


@pytest.mark.parametrize("sop_class", [SecondaryCaptureImageStorage, BasicTextSRStorage])
def test_other_storage_classes_are_set_aside_by_name(sop_class):
    found = verdict(series(SOPClassUID=sop_class))
    assert isinstance(found, SetAside) and dict(found.reason.values)["classes"] == sop_class.name


def test_nothing_is_set_aside():
    assert isinstance(verdict([]), SetAside)


def test_a_reformat_in_another_plane_is_set_aside():
    coronal = series(ImageOrientationPatient=[1, 0, 0, 0, 0, -1])
    for index, header in enumerate(coronal):
        header.ImagePositionPatient = [0, 5 * index, 0]
    assert verdict(coronal) == SetAside(Reason(Why.NOT_AXIAL))


def test_a_localizer_among_the_slices_does_not_matter():
    headers = series()
    headers[0].ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    headers[0].ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    assert verdict(headers) == Eligible()


@pytest.mark.parametrize(
    ("keep", "reason"),
    [
        (range(5), "there are only 5 slices, at least 6 are needed"),
        ([*range(10), *range(16, 30)], "slices are missing: a gap of 30 mm"),
        (range(0, 30, 2), "the slices are 10.0 mm apart, more than 7.5 mm"),
    ],
    ids=["few", "gap", "apart"],
)
def test_a_stack_that_is_not_a_whole_head_says_why(keep, reason):
    headers = series()
    found = verdict([headers[index] for index in keep])
    assert isinstance(found, NotAnalysed) and english(found.reason) == reason


@pytest.mark.parametrize("slices", [9, 12, 19])
def test_a_part_of_a_head_waits_for_something_better_and_is_looked_at(slices):
    found = verdict(series()[:slices])
    assert isinstance(found, Partial) and found.reason.code == Why.COVERS_TOO_LITTLE


def test_twenty_slices_of_five_millimetres_are_a_head():
    assert verdict(series()[:20]) == Eligible()


@pytest.mark.parametrize(("thin", "thick", "analysed"), [(2, 10, True), (3, 6, True), (2, 12, False), (8, 10, False)])
def test_a_thin_base_may_have_thick_slices_above(thin, thick, analysed):
    lower = [thin * (number + 0.5) for number in range(round(80 / thin))]
    upper = [80 + thick * (number + 0.5) for number in range(80 // thick)]
    count = len(lower) + len(upper)
    head = type(HEAD)(HEAD.hu[[number * len(HEAD.hu) // count for number in range(count)]], HEAD.spacing_mm)
    images = series(phantom=head, positions_mm=[*lower, *upper])
    for number, image in enumerate(images):
        image.SliceThickness = str(thin if number < len(lower) else thick)
    found = verdict(images)
    assert (found == Eligible()) is analysed
    assert analysed or found.reason.code in (Why.THICK_SLICES, Why.FAR_APART)
    codes = [warning.code for warning in stack_of([plane for image in images for plane in planes_of(image)]).warnings]
    assert (Why.THICK_PART in codes) is (thick > 6)


def test_a_stack_longer_than_a_head_says_why():
    found = verdict(series(positions_mm=[index * 12.0 / 2 for index in range(60)], phantom=shape_head(60, 64)))
    assert isinstance(found, NotAnalysed)
    assert english(found.reason) == "the slices cover 360 mm, more than a head (320 mm)"


def test_a_head_of_which_every_slice_lies_at_the_origin_is_answered_with_that_reason():
    headers = series()
    for header in headers:
        header.ImagePositionPatient = [0, 0, 0]
    assert verdict(headers) == NotAnalysed(Reason(Why.NO_POSITION))


def test_images_of_one_position_over_time_are_set_aside():
    headers = series()
    for number, header in enumerate(headers):
        header.ImagePositionPatient = [0, 0, 10]
        header.AcquisitionNumber = number
    assert verdict(headers) == SetAside(Reason(Why.BOLUS_TRACKING))


def test_keywords_are_all_that_is_looked_at():
    headers = series()
    for header in headers:
        for element in list(header):
            if element.keyword not in eligibility.KEYWORDS:
                del header[element.tag]
    assert verdict(headers) == Eligible()
    for attributes in ({"ContrastBolusAgent": "X"}, {"ConvolutionKernel": "BONE"}, {"SliceThickness": "9"}):
        assert next(iter(attributes)) in eligibility.KEYWORDS
