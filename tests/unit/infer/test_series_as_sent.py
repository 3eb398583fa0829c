"""Series as people really send them: one whole head comes out, whatever else is in the folder, or a reason."""

from __future__ import annotations

import copy
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from density_model import DensityEngine, density_model
from head_shapes import shape_head
from pydicom.uid import generate_uid

from ich_node.dicom import eligibility
from ich_node.domain.errors import UnusableSeries
from ich_node.domain.reasons import Reason, Why
from ich_node.infer import pipeline
from ich_node.infer.see import pixels
from ich_node.infer.see.volume import read_volume
from ich_node.phantom.series import build_series
from ich_node.runtime.config import Config

HEAD = shape_head(24, 96)
PLAIN = build_series(HEAD)


def scan(moved=0, up=0.0, **values):
    """The head once more, shifted by pixels and along the body, with other attributes."""
    images = copy.deepcopy(PLAIN)
    for image in images:
        if moved:
            image.PixelData = np.ascontiguousarray(np.roll(image.pixel_array, moved, axis=1)).tobytes()
        x, y, z = (float(value) for value in image.ImagePositionPatient)
        image.ImagePositionPatient = [x, y, z + up]
        for keyword, value in values.items():
            setattr(image, keyword, value)
    return images


def numbered(images, start=1):
    for number, image in enumerate(images, start):
        image.InstanceNumber = number
    return images


def brighter(images, hu=30):
    for image in images:
        pixels_ = image.pixel_array
        image.PixelData = (pixels_ + np.where((pixels_ > 1030) & (pixels_ < 1100), hu, 0).astype(np.uint16)).tobytes()
    return images


def own_frames_of_reference():
    images = scan()
    for image in images:
        image.FrameOfReferenceUID = generate_uid()
    images[3].FrameOfReferenceUID = ""
    return images


def with_page(place, **values):
    page = copy.deepcopy(PLAIN[0])
    page.ImagePositionPatient = [float(value) for value in place]
    for keyword, value in {"InstanceNumber": 99, **values}.items():
        setattr(page, keyword, value)
    return [*scan(), page]


X, Y, Z = (float(value) for value in PLAIN[0].ImagePositionPatient)
MIXED = {
    "two passes, numbered acquisitions": lambda: scan(9, AcquisitionNumber=1) + scan(AcquisitionNumber=2),
    "two passes half a step apart": lambda: scan(9, up=2.5, AcquisitionNumber=1) + scan(AcquisitionNumber=2),
    "two passes 0.4 mm apart": lambda: scan(9, up=0.4, AcquisitionNumber=1) + scan(AcquisitionNumber=2),
    "two passes by time only": lambda: scan(9, AcquisitionTime="080000") + scan(AcquisitionTime="080130"),
    "two passes by instance number only": lambda: numbered(scan(9)) + numbered(scan(), 25),
    "half a step apart by instance number only": lambda: numbered(scan(9, up=2.5)) + numbered(scan(), 25),
    "two time points": lambda: scan(9, TemporalPositionIdentifier=1) + scan(TemporalPositionIdentifier=2),
    "a sharp kernel": lambda: scan() + scan(ConvolutionKernel="BONEPLUS", AcquisitionNumber=2),
    "a contrast phase": lambda: scan() + brighter(scan(ContrastBolusAgent="OMNIPAQUE 350", AcquisitionNumber=2)),
    "a monoenergetic reconstruction": lambda: scan() + brighter(scan(SeriesDescription="HEAD MonoE 40keV")),
    "the upper half again": lambda: scan(AcquisitionNumber=1) + scan(9, AcquisitionNumber=2)[12:],
    "another field of view with contrast": lambda: scan() + scan(PixelSpacing=[2, 2], ContrastBolusAgent="Imeron"),
    "the same images under other UIDs": lambda: scan() + scan(),
    "frames of reference": own_frames_of_reference,
    "a page far below": lambda: with_page((X, Y, Z - 60)),
    "a page at zero": lambda: with_page((0, 0, 0)),
    "a screen save beside the first slice": lambda: with_page(
        (X, Y, Z - 5), ImageType=["DERIVED", "SECONDARY", "SCREEN SAVE"]
    ),
    "a screen save at a slice's place": lambda: with_page(
        (X, Y, Z + 50), ImageType=["DERIVED", "PRIMARY", "SCREEN SAVE"]
    ),
    "a page between two slices": lambda: with_page((X, Y, Z + 52)),
}


def written(images, folder: Path, seed: int) -> list[Path]:
    """The images under names and UIDs that tell nothing."""
    shuffler = random.Random(seed)
    paths = []
    for image in copy.deepcopy(images):
        uid = f"2.25.{shuffler.getrandbits(100)}"
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = uid
        paths.append(folder / f"{shuffler.getrandbits(60):x}.dcm")
        image.save_as(paths[-1], enforce_file_format=True)
    shuffler.shuffle(paths)
    return paths


def judged(paths):
    with pixels.quiet():
        return eligibility.verdict([pixels.open_image(path).header for path in paths])


@pytest.mark.parametrize("name", MIXED)
def test_one_whole_head_comes_out_whatever_the_names_and_uids(name, tmp_path):
    images = MIXED[name]()
    for seed in (1, 2):
        folder = tmp_path / str(seed)
        folder.mkdir()
        paths = written(images, folder, seed)
        assert judged(paths) == eligibility.Eligible()
        volume = read_volume(paths)
        assert np.array_equal(volume.hu, HEAD.hu)
        assert volume.warnings or name == "the same images under other UIDs"


def in_turn(images, **values):
    """Slices of two rotations in turn: each leaves free what the other one shows."""
    for number, image in enumerate(images):
        for keyword, (one, other) in values.items():
            setattr(image, keyword, (one, other)[number % 2])
    return images


@pytest.mark.parametrize(
    "values",
    [
        {"AcquisitionNumber": (1, 2)},
        {"AcquisitionTime": ("080000", "080130")},
        {"AcquisitionNumber": (1, 2), "AcquisitionTime": ("080000", "080130")},
        {"AcquisitionNumber": (2, 1), "InstanceNumber": (0, 0)},
        {"FrameOfReferenceUID": ("1.2.3", "1.2.4")},
        {"FrameOfReferenceUID": ("", "1.2.4")},
        {"ConvolutionKernel": ("H31s", "H30s")},
        {"ImageType": (["ORIGINAL", "PRIMARY", "AXIAL"], ["ORIGINAL", "PRIMARY", "AXIAL", "HELIX"])},
        {"SliceThickness": ("5", "4.8")},
        {"KVP": ("120", "119.9")},
        {"TemporalPositionIdentifier": (1, 2)},
    ],
)
def test_rotations_that_fill_each_other_are_one_scan(values, tmp_path):
    images = in_turn(scan(), **values)
    if "InstanceNumber" in values:
        images = numbered(images[::2]) + numbered(images[1::2], 13)
    paths = written(images, tmp_path, 1)
    assert judged(paths) == eligibility.Eligible()
    assert np.array_equal(read_volume(paths).hu, HEAD.hu)


@pytest.mark.parametrize(
    "values",
    [
        {"AcquisitionNumber": (1, 2)},
        {"FrameOfReferenceUID": ("1.2.3", "1.2.4")},
        {"ConvolutionKernel": ("H31s", "H30s")},
    ],
)
def test_rotations_in_turn_between_which_the_head_moved_are_never_zipped(values, tmp_path):
    still, moved = scan(), scan(12)
    images = in_turn([(still, moved)[number % 2][number] for number in range(24)], **values)
    paths = written(images, tmp_path, 1)
    volume = read_volume(paths)
    assert len(volume.hu) == 12


@pytest.mark.parametrize("part", [slice(4, 18), slice(0, 12), slice(10, 24)])
def test_a_part_scanned_again_half_a_step_apart_leaves_the_whole_scan_whole(part, tmp_path):
    paths = written(scan() + scan(9, up=2.5)[part], tmp_path, 1)
    assert judged(paths) == eligibility.Eligible()
    assert np.array_equal(read_volume(paths).hu, HEAD.hu)


def test_two_scans_half_a_step_apart_in_their_own_frames_of_reference_are_never_zipped(tmp_path):
    paths = written(scan(9, up=2.5, FrameOfReferenceUID="1.2.3") + scan(), tmp_path, 1)
    hu = read_volume(paths).hu
    assert np.array_equal(hu, HEAD.hu) or np.array_equal(hu, np.roll(HEAD.hu, 9, axis=2))


@pytest.mark.parametrize("name", ["two passes half a step apart", "the same images under other UIDs", "nothing tells"])
def test_eight_shuffles_of_names_and_uids_give_the_same_findings(name, tmp_path):
    """What is found, byte for byte; only the UID of the slice with the peak is another one."""
    images = MIXED[name]() if name in MIXED else scan() + scan(9)
    found = set()
    for seed in range(8):
        analysis = pipeline.analyse(
            written(images, _folder(tmp_path, seed), seed), density_model(0.001, 0.9), DensityEngine(), Config()
        )
        assert analysis.finding("any").present
        findings = [
            replace(finding, peak=finding.peak and replace(finding.peak, sop_instance_uid=""))
            for finding in analysis.findings
        ]
        found.add(repr((analysis.priority, findings, analysis.warnings)))
    assert len(found) == 1


@pytest.mark.parametrize(
    ("images", "detail"),
    [
        (lambda: scan(9, KVP="80") + scan(KVP="140"), "KVP 140"),
        (lambda: scan(9, SliceThickness="2.5", up=2.5) + scan(SliceThickness="5"), "Slice Thickness 5"),
        (lambda: numbered(scan(9)) + numbered(scan(), 25), "Instance Number 25–48"),
    ],
)
def test_what_tells_the_chosen_scan_from_the_other_one_is_said(images, detail, tmp_path):
    volume = read_volume(written(images(), tmp_path, 1))
    (said,) = (warning for warning in volume.warnings if warning.code == Why.ONE_OF_SEVERAL)
    assert dict(said.values)["detail"] == detail


@pytest.mark.parametrize("place", [(X + 200, Y, Z + 30), (X, Y, Z + 31)])
def test_a_single_page_is_no_second_scan(place, tmp_path):
    volume = read_volume(written(with_page(place), tmp_path, 1))
    assert Why.ONE_OF_SEVERAL not in [warning.code for warning in volume.warnings]
    assert [dict(warning.values)["count"] for warning in volume.warnings if warning.code == Why.LEFT_OUT] == [1]


def test_of_two_scans_with_other_fields_of_view_the_later_one_is_analysed(tmp_path):
    images = scan(9, PixelSpacing=[3, 3], AcquisitionNumber=1) + scan(AcquisitionNumber=2)
    assert np.array_equal(read_volume(written(images, tmp_path, 1)).hu, HEAD.hu)


@pytest.mark.parametrize("moved", [9, -14])
def test_two_scans_that_no_header_tells_apart_are_never_mixed(moved, tmp_path):
    images = scan() + scan(moved)
    found = [read_volume(written(images, _folder(tmp_path, seed), seed)) for seed in range(3)]
    whole = [HEAD.hu, np.roll(HEAD.hu, moved, axis=2)]
    assert any(np.array_equal(found[0].hu, one) for one in whole)
    assert all(np.array_equal(one.hu, found[0].hu) for one in found)
    assert Why.SEVERAL_UNNAMED in [warning.code for warning in found[0].warnings]


@pytest.mark.parametrize("values", [{"RescaleIntercept": "0"}, {"PixelData": bytes(2 * 96 * 96)}])
def test_a_slice_whose_values_are_those_of_no_head_is_left_out_and_named(values, tmp_path):
    images = scan()
    for keyword, value in values.items():
        setattr(images[12], keyword, value)
    volume = read_volume(written(images, tmp_path, 1))
    assert np.array_equal(volume.hu, np.delete(HEAD.hu, 12, axis=0))
    assert [warning.code for warning in volume.warnings] == [Why.LEFT_OUT, Why.GAP]
    assert Reason(Why.UNLIKE_NEIGHBOURS) in dict(volume.warnings[0].values).values()


def test_slices_of_air_above_a_head_are_no_blank_slices(tmp_path):
    images = scan()
    for number in (1, 2):
        air = copy.deepcopy(PLAIN[-1])
        air.PixelData = bytes(2 * 96 * 96)
        x, y, z = (float(value) for value in PLAIN[-1].ImagePositionPatient)
        air.ImagePositionPatient = [x, y, z + 5 * number]
        images.append(air)
    assert len(read_volume(written(images, tmp_path, 1)).hu) == 26


def test_unlike_images_at_each_place_in_no_order_are_a_reason(tmp_path):
    rng = np.random.default_rng(0)
    noise = scan()
    for image in [*noise, *(other := scan())]:
        image.PixelData = rng.integers(900, 1200, (96, 96)).astype(np.uint16).tobytes()
    with pytest.raises(UnusableSeries, match=Why.INSEPARABLE):
        read_volume(written(noise + other, tmp_path, 1))


def test_contrast_in_some_slices_of_one_scan_is_refused(tmp_path):
    images = scan()
    for image in images[:6]:
        image.ContrastBolusAgent = "ULTRAVIST 370"
    found = judged(written(images, tmp_path, 1))
    assert found == eligibility.NotAnalysed(found.reason) and found.reason.code == Why.CONTRAST_NAMED


def test_a_flow_over_time_is_set_aside(tmp_path):
    images = [image for time in range(10) for image in scan(TemporalPositionIdentifier=time)[::3]]
    found = judged(written(images, tmp_path, 1))
    assert isinstance(found, eligibility.SetAside) and found.reason.code == Why.OVER_TIME


def _folder(parent: Path, seed: int) -> Path:
    (parent / str(seed)).mkdir()
    return parent / str(seed)
