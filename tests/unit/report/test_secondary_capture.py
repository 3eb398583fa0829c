"""The series of pictures."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pydicom
import pytest
from analysis_builder import TURNS, make_analysis
from pydicom import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from ich_node.domain.findings import DISCLAIMER, Analysis, KeySlice, Priority
from ich_node.report.identifiers import Identity
from ich_node.report.pictures.secondary_capture import best_keys, secondary_captures
from ich_node.report.said.content import content
from ich_node.runtime.config import ReportConfig

MADE_AT = datetime(2026, 11, 20, 3, 2, 10, tzinfo=UTC)
SMALL: dict[str, Any] = {"rows": 128, "columns": 128, "pixel_mm": (1.8, 1.8), "slices": 8}


def series(analysis: Analysis, **options: Any) -> list[Dataset]:
    chosen = ReportConfig(**options)
    identity = Identity.of(analysis, chosen, "ICHNODE")
    said = content(analysis, language=chosen.language, made_at=MADE_AT)
    return secondary_captures(analysis, said, chosen, identity, MADE_AT)


def encoded(images: Sequence[Dataset]) -> list[bytes]:
    files = []
    for image in images:
        buffer = io.BytesIO()
        pydicom.dcmwrite(buffer, image, enforce_file_format=True)
        files.append(buffer.getvalue())
    return files


def header_of(analysis: Analysis, image: Dataset) -> Dataset:
    uid = image.SourceImageSequence[0].ReferencedSOPInstanceUID
    return next(header for header in analysis.headers if header.SOPInstanceUID == uid)


# --- what is in the series ------------------------------------------------------------------------------------------


def test_a_positive_gives_the_page_and_one_overlay_per_key_slice() -> None:
    assert len(series(make_analysis(**SMALL))) == 1 + 3


@pytest.mark.parametrize("kind", ["negative", "not_analysed"])
def test_without_a_finding_there_is_the_page_alone(kind: str) -> None:
    (page,) = series(make_analysis(kind, **SMALL))
    assert page.InstanceNumber == 1


def test_a_negative_is_the_page_alone_even_when_every_slice_was_asked_for() -> None:
    negative, positive = make_analysis("negative", **SMALL), make_analysis(**SMALL)
    assert len(series(replace(negative, key_slices=positive.key_slices), pictures="all")) == 1


def test_all_images_share_one_series_and_are_numbered_from_the_page_on() -> None:
    images = series(make_analysis(**SMALL))
    assert {image.SeriesInstanceUID for image in images} == {images[0].SeriesInstanceUID}
    assert [image.InstanceNumber for image in images] == [1, 2, 3, 4]
    assert len({image.SOPInstanceUID for image in images}) == 4


@pytest.mark.parametrize("from_the_head", [True, False])
def test_overlays_are_numbered_in_the_direction_of_the_source(from_the_head: bool) -> None:
    analysis = make_analysis(**SMALL)
    for number, header in enumerate(analysis.headers, start=1):
        header.InstanceNumber = len(analysis.headers) - number if from_the_head else number
    heights = [float(image.ImagePositionPatient[2]) for image in series(analysis)[1:]]
    assert heights == sorted(heights, reverse=from_the_head)


def test_two_labels_on_one_slice_are_two_images() -> None:
    analysis = make_analysis(**SMALL)
    first = analysis.key_slices[0]
    both = replace(analysis, key_slices=(first, KeySlice(first.slice_index, "subdural", first.heat)))
    assert len({image.SOPInstanceUID for image in series(both)}) == 3


@pytest.mark.parametrize(
    ("analysis", "description"),
    [
        (make_analysis(**SMALL), "ICH TRIAGE STAT"),
        (replace(make_analysis(**SMALL), priority=Priority.HIGH), "ICH TRIAGE HIGH"),
        (make_analysis("negative", **SMALL), "ICH TRIAGE ROUTINE"),
        (make_analysis("not_analysed", **SMALL), "ICH TRIAGE NOT ANALYSED"),
    ],
)
@pytest.mark.parametrize("language", ["en", "de"])
def test_the_series_description_can_be_sorted_on_in_every_language(
    analysis: Analysis, description: str, language: str
) -> None:
    assert {image.SeriesDescription for image in series(analysis, language=language)} == {description}


# --- where it lies --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("tilt_deg", [0.0, 18.0])
def test_an_overlay_lies_where_its_slice_lies(turn: str, tilt_deg: float) -> None:
    analysis = make_analysis(turn=turn, tilt_deg=tilt_deg, **SMALL)
    for image in series(analysis)[1:]:
        header = header_of(analysis, image)
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "FrameOfReferenceUID"):
            assert image[keyword].value == header[keyword].value
        assert (image.Rows, image.Columns) == (header.Rows, header.Columns)


def test_an_overlay_of_an_enhanced_ct_lies_where_its_frame_lies() -> None:
    analysis = make_analysis(enhanced=True, tilt_deg=10, **SMALL)
    assert analysis.volume is not None
    for image, key in zip(series(analysis)[1:], analysis.key_slices, strict=True):
        assert image.ImagePositionPatient == pytest.approx(analysis.volume.positions_mm[key.slice_index], abs=1e-5)
        (item,) = image.SourceImageSequence
        assert item.ReferencedFrameNumber == key.slice_index + 1
        assert image.PixelSpacing == [1.8, 1.8]


def test_an_overlay_names_its_source_image() -> None:
    for image in series(make_analysis(**SMALL))[1:]:
        (item,) = image.SourceImageSequence
        (purpose,) = item.PurposeOfReferenceCodeSequence
        assert (purpose.CodeValue, purpose.CodingSchemeDesignator) == ("121322", "DCM")
        assert item.SpatialLocationsPreserved == "YES"


def test_the_page_lies_a_stack_height_below_the_stack() -> None:
    analysis = make_analysis(tilt_deg=12, **SMALL)
    below = _centre(series(analysis)[0]) - _centre(analysis.headers[0])
    assert below == pytest.approx([0, 0, -7 * 5.0], abs=1e-3)


def test_with_the_page_even_a_series_of_all_slices_is_no_even_stack() -> None:
    """A viewer that took it for a volume would sort the page to its far end."""
    analysis = make_analysis(**SMALL)
    heat = analysis.key_slices[0].heat
    every = replace(analysis, key_slices=tuple(KeySlice(index, "any", heat) for index in range(8)))
    heights = sorted(_centre(image)[2] for image in series(every, pictures="all"))
    steps = np.diff(heights)
    assert len(steps) == 8
    assert steps.max() > 2 * np.mean(steps)


def test_the_page_of_a_small_matrix_is_enlarged_within_the_same_edges() -> None:
    page = series(make_analysis(**SMALL))[0]
    assert (page.Rows, page.Columns) == (512, 512)
    assert float(page.PixelSpacing[0]) * 512 == pytest.approx(1.8 * 128)


def test_the_page_names_every_image_of_the_source() -> None:
    analysis = make_analysis(**SMALL)
    page = series(analysis)[0]
    named = {item.ReferencedSOPInstanceUID for item in page.SourceImageSequence}
    assert named == {header.SOPInstanceUID for header in analysis.headers}
    assert {item.SpatialLocationsPreserved for item in page.SourceImageSequence} == {"NO"}


def test_a_series_that_does_not_say_where_it_lies_still_gets_its_page() -> None:
    without = {"ImagePositionPatient": None, "ImageOrientationPatient": None, "PixelSpacing": None, "Rows": None}
    analysis = make_analysis("not_analysed", **SMALL)
    for header in analysis.headers:
        for keyword in without:
            delattr(header, keyword)
    (page,) = series(analysis)
    assert "ImagePositionPatient" not in page
    assert page["PatientOrientation"].is_empty
    assert page.Rows == 512


def test_a_series_of_one_slice_gets_its_page() -> None:
    analysis = make_analysis("negative", rows=128, columns=128, pixel_mm=(1.8, 1.8), slices=8)
    assert analysis.volume is not None
    one = replace(analysis.volume, positions_mm=analysis.volume.positions_mm[:1], headers=analysis.headers[:1])
    assert len(series(replace(analysis, volume=one, headers=one.headers, survey=(0,)))) == 1


# --- what kind of image ---------------------------------------------------------------------------------------------


def test_every_image_is_a_derived_rgb_secondary_capture_with_burnt_in_words() -> None:
    for image in series(make_analysis(**SMALL)):
        assert image.SOPClassUID == SecondaryCaptureImageStorage
        assert (image.Modality, image.ConversionType) == ("CT", "WSD")
        assert list(image.ImageType) == ["DERIVED", "SECONDARY"]
        assert (image.PhotometricInterpretation, image.PlanarConfiguration, image.BitsStored) == ("RGB", 0, 8)
        assert image.BurnedInAnnotation == "YES"
        assert image.ContentQualification == "RESEARCH"
        assert DISCLAIMER in image.ImageComments
        assert image.file_meta.TransferSyntaxUID.name == "Explicit VR Little Endian"


def test_lossy_compression_of_the_source_is_carried_over() -> None:
    lossy = {
        "LossyImageCompression": "01",
        "LossyImageCompressionRatio": 8,
        "LossyImageCompressionMethod": "ISO_15444_1",
    }
    for image in series(make_analysis(header=lossy, **SMALL)):
        assert image.LossyImageCompression == "01"
        assert image.LossyImageCompressionRatio == 8
        assert image.LossyImageCompressionMethod == "ISO_15444_1"


def test_pixels_survive_the_round_trip_through_a_file() -> None:
    for image, data in zip(images := series(make_analysis(**SMALL)), encoded(images), strict=True):
        again = pydicom.dcmread(io.BytesIO(data))
        assert again.pixel_array.shape == (image.Rows, image.Columns, 3)
        assert again.pixel_array.tobytes() == image.PixelData[: image.Rows * image.Columns * 3]


def test_an_odd_number_of_bytes_is_padded() -> None:
    analysis = make_analysis(rows=129, columns=131, pixel_mm=(1.8, 1.8), slices=8)
    for image in series(analysis)[1:]:
        assert len(image.PixelData) == 129 * 131 * 3 + 1


@pytest.mark.parametrize("kind", ["positive", "negative", "not_analysed"])
def test_the_same_input_gives_the_same_bytes(kind: str) -> None:
    assert encoded(series(make_analysis(kind, **SMALL))) == encoded(series(make_analysis(kind, **SMALL)))


def test_another_configuration_gives_another_series_and_other_instances() -> None:
    english, german = (series(make_analysis(**SMALL), language=language) for language in ("en", "de"))
    assert not {i.SOPInstanceUID for i in english} & {i.SOPInstanceUID for i in german}
    assert english[0].SeriesInstanceUID != german[0].SeriesInstanceUID


def test_changing_one_image_changes_no_other() -> None:
    images = series(make_analysis(**SMALL))
    images[1].ContributingEquipmentSequence[0].Manufacturer = "changed"
    assert images[2].ContributingEquipmentSequence[0].Manufacturer == "ich_node"


def test_a_name_in_another_script_stays_as_it_is() -> None:
    header = {"SpecificCharacterSet": ["", "ISO 2022 IR 87"], "PatientName": "Yamada^Tarou=山田^太郎=やまだ^たろう"}
    for data in encoded(series(make_analysis(header=header, **SMALL), language="de")):
        again = pydicom.dcmread(io.BytesIO(data))
        assert again.PatientName == header["PatientName"]
        assert "?" not in again.ImageComments


# --- thumbnails -----------------------------------------------------------------------------------------------------


def key(index: int, label: str, brightest: float) -> KeySlice:
    return KeySlice(index, label, np.full((2, 2), brightest, np.float32))


def test_the_brightest_slice_of_every_label_is_shown_before_a_second_one_of_any() -> None:
    keys = [key(3, "subdural", 0.9), key(4, "subdural", 0.95), key(9, "epidural", 0.4), key(10, "subdural", 0.8)]
    assert best_keys(keys, 2, 0.5) == [1, 2]
    assert best_keys(keys, 3, 0.5) == [0, 1, 2]


def test_no_slice_is_shown_twice() -> None:
    assert best_keys([key(3, "subdural", 0.9), key(3, "epidural", 0.8)], 3, 0.5) == [0]


def test_no_key_slices_no_thumbnails() -> None:
    assert best_keys([], 3, 0.5) == []


def _centre(image: Dataset) -> np.ndarray:
    cosines = np.array([float(v) for v in image.ImageOrientationPatient])
    spacing = [float(v) for v in image.PixelSpacing]
    middle = (image.Columns - 1) / 2 * spacing[1] * cosines[:3] + (image.Rows - 1) / 2 * spacing[0] * cosines[3:]
    return np.asarray([float(v) for v in image.ImagePositionPatient] + middle)


@pytest.mark.parametrize(
    "header",
    [{"Rows": 65535, "Columns": 65535}, {"Rows": 1}, {"PixelSpacing": [5, 0.05]}],
    ids=["65535²", "one row", "needles"],
)
def test_a_page_is_never_as_large_as_a_header_claims(header: dict[str, Any]) -> None:
    analysis = make_analysis("not_analysed", **SMALL)
    for source in analysis.headers:
        for keyword, value in header.items():
            setattr(source, keyword, value)
    (page,) = series(analysis)
    assert (page.Rows, page.Columns) == (512, 512)
