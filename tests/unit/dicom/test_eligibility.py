"""Which series the model may look at, and the reason in plain words for every other one."""

from __future__ import annotations

import pytest
from head_shapes import shape_head
from pydicom import Dataset
from pydicom.uid import BasicTextSRStorage, SecondaryCaptureImageStorage

from ich_node.dicom import eligibility
from ich_node.dicom.eligibility import Eligible, NotAnalysed, SetAside, verdict
from ich_node.phantom.enhanced import build_enhanced
from ich_node.phantom.series import build_series
from ich_node.report import headers

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
        ({"ContrastBolusAgent": "IOHEXOL 350"}, "the header names a contrast agent"),
        ({"ContrastBolusAgent": "ORAL & IV"}, "the header names a contrast agent"),
        ({"ContrastBolusVolume": "80"}, "the header records a contrast agent"),
        ({"SeriesDescription": "CTA HEAD"}, "the series description speaks of contrast or angiography (cta)"),
        ({"SeriesDescription": "Schädel mit KM"}, "the series description speaks of contrast or angiography (mit km)"),
        ({"ConvolutionKernel": "BONEPLUS"}, "a sharp kernel (BONEPLUS) was used"),
        ({"ConvolutionKernel": "H60s"}, "a sharp kernel (H60s) was used"),
        ({"ConvolutionKernel": ["Hr64h", "2"]}, "a sharp kernel (Hr64h) was used"),
        ({"ConvolutionKernel": "FC81"}, "a sharp kernel (FC81) was used"),
        ({"ConvolutionKernel": "YC"}, "a sharp kernel (YC) was used"),
        (
            {"ConvolutionKernel": None, "SeriesDescription": "HEAD BONE"},
            "the series description speaks of a sharp kernel (bone)",
        ),
        ({"SliceThickness": "10"}, "the slices are 10 mm thick, more than 6 mm"),
        ({"RescaleSlope": None}, "no rescale to Hounsfield units"),
        ({"RescaleType": "Z_EFF"}, "the header says that the values are not Hounsfield units"),
        ({"ModalityLUTSequence": [Dataset()]}, "the values are mapped by a Modality LUT, not by a rescale to"),
        ({"ImagePositionPatient": None}, "Image Position (Patient) is missing"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_head_ct_that_must_not_be_judged_says_why(attributes, reason):
    found = verdict(series(**attributes))
    assert isinstance(found, NotAnalysed) and found.reason.startswith(reason)


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localizer"),
        ({"SeriesDescription": "C-SPINE 2.0"}, "not a head: spine"),
        ({"SeriesDescription": "SINUS CORONAL"}, "not a head: sinuses or face"),
        ({"SeriesDescription": "", "BodyPartExamined": "CHEST"}, "not a head: chest"),
        ({"SeriesDescription": "TOPOGRAM"}, "not the CT slices themselves: topogram"),
        ({"SeriesDescription": "HEAD MIP"}, "not the CT slices themselves: mip"),
        ({"ImageType": ["DERIVED", "SECONDARY", "MIP"]}, "not the CT slices themselves: MIP"),
        ({"Manufacturer": eligibility.OWN_MANUFACTURER}, "a result of this node"),
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
    assert verdict(series(ContributingEquipmentSequence=[maker])) == SetAside("a result of this node")


def test_the_reports_use_the_manufacturer_that_is_recognised():
    assert headers.MANUFACTURER == eligibility.OWN_MANUFACTURER


@pytest.mark.parametrize("sop_class", [SecondaryCaptureImageStorage, BasicTextSRStorage])
def test_other_storage_classes_are_set_aside_by_name(sop_class):
    found = verdict(series(SOPClassUID=sop_class))
    assert isinstance(found, SetAside) and sop_class.name in found.reason


def test_nothing_is_set_aside():
    assert isinstance(verdict([]), SetAside)


def test_a_reformat_in_another_plane_is_set_aside():
    coronal = series(ImageOrientationPatient=[1, 0, 0, 0, 0, -1])
    for index, header in enumerate(coronal):
        header.ImagePositionPatient = [0, 5 * index, 0]
    assert verdict(coronal) == SetAside("not axial: a reformat in another plane")


def test_a_localizer_among_the_slices_does_not_matter():
    headers = series()
    headers[0].ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    headers[0].ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    assert verdict(headers) == Eligible()


@pytest.mark.parametrize(
    ("keep", "reason"),
    [
        (range(9), "only 9 slices, at least 10 are needed"),
        (range(12), "the slices cover 60 mm, less than a head (100 mm)"),
        ([*range(10), *range(16, 30)], "slices are missing: a gap of 30 mm"),
        (range(0, 30, 2), "the slices are 10.0 mm apart, more than 7.5 mm"),
    ],
    ids=["few", "short", "gap", "apart"],
)
def test_a_stack_that_is_not_a_whole_head_says_why(keep, reason):
    headers = series()
    assert verdict([headers[index] for index in keep]) == NotAnalysed(reason)


def test_a_stack_longer_than_a_head_says_why():
    found = verdict(series(positions_mm=[index * 12.0 / 2 for index in range(60)], phantom=shape_head(60, 64)))
    assert found == NotAnalysed("the slices cover 360 mm, more than a head (320 mm)")


def test_images_of_one_position_over_time_are_set_aside():
    headers = series()
    for number, header in enumerate(headers):
        header.ImagePositionPatient = [0, 0, 10]
        header.AcquisitionNumber = number
    assert verdict(headers) == SetAside("one position over time: bolus tracking")


def test_keywords_are_all_that_is_looked_at():
    headers = series()
    for header in headers:
        for element in list(header):
            if element.keyword not in eligibility.KEYWORDS:
                del header[element.tag]
    assert verdict(headers) == Eligible()
    for attributes in ({"ContrastBolusAgent": "X"}, {"ConvolutionKernel": "BONE"}, {"SliceThickness": "9"}):
        assert next(iter(attributes)) in eligibility.KEYWORDS
