"""What is sent on request only: multi-frame pictures, the map as numbers, outlines as a presentation state."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pydicom
import pytest
from analysis_builder import make_analysis
from pydicom import Dataset
from pydicom.uid import (
    GrayscaleSoftcopyPresentationStateStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    ParametricMapStorage,
)

from ich_node.domain.findings import DISCLAIMER, Analysis
from ich_node.report.identifiers import Identity
from ich_node.report.pictures.multiframe import multi_frame, pixels
from ich_node.report.pictures.parametric_map import parametric_maps
from ich_node.report.pictures.presentation_state import presentation_state
from ich_node.report.pictures.secondary_capture import secondary_captures
from ich_node.report.said.content import content
from ich_node.runtime.config import ReportConfig

MADE_AT = datetime(2026, 11, 20, 3, 2, 10, tzinfo=UTC)
SMALL: dict[str, Any] = {"rows": 96, "columns": 128, "pixel_mm": (2.0, 1.6), "slices": 8}
JAPANESE = {"SpecificCharacterSet": ["", "ISO 2022 IR 87"], "PatientName": "Yamada^Tarou=山田^太郎=やまだ^たろう"}
SOURCES: list[dict[str, Any]] = [{}, {"tilt_deg": 15.0}, {"enhanced": True}, {"header": JAPANESE}]


def identity(analysis: Analysis) -> Identity:
    return Identity.of(analysis, ReportConfig(), "ICHNODE")


def overlays(analysis: Analysis) -> list[Dataset]:
    said = content(analysis, language="en", made_at=MADE_AT)
    return secondary_captures(analysis, said, ReportConfig(), identity(analysis), MADE_AT)[1:]


def state_of(analysis: Analysis) -> Dataset:
    captions = [f"Blutung {number}" for number in range(len(analysis.key_slices))]
    state = presentation_state(analysis, captions, identity(analysis), 9004, MADE_AT)
    assert state is not None
    return state


def everything(analysis: Analysis) -> list[Dataset]:
    return [
        multi_frame(overlays(analysis), identity(analysis), 9002),
        *parametric_maps(analysis, identity(analysis), 9003, MADE_AT),
        state_of(analysis),
    ]


def encoded(dataset: Dataset) -> bytes:
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


@pytest.mark.parametrize("source", SOURCES)
def test_every_option_is_rebuilt_byte_by_byte(source: dict[str, Any]) -> None:
    first, second = (everything(make_analysis(**SMALL, **source)) for _ in range(2))
    assert [encoded(dataset) for dataset in first] == [encoded(dataset) for dataset in second]


@pytest.mark.parametrize("source", SOURCES)
def test_every_option_carries_the_sources_patient_and_our_equipment(source: dict[str, Any]) -> None:
    analysis = make_analysis(**SMALL, **source)
    for dataset in everything(analysis):
        again = pydicom.dcmread(io.BytesIO(encoded(dataset)))
        assert again.PatientName == analysis.headers[0].PatientName
        assert again.SpecificCharacterSet == analysis.headers[0].SpecificCharacterSet
        (item,) = again.ContributingEquipmentSequence
        assert item.DeviceUID == identity(analysis).device_uid == again.DeviceUID
        assert (
            again.ContentDate == "20261120" if "ContentDate" in again else again.PresentationCreationDate == "20261120"
        )


def test_the_options_are_series_of_their_own() -> None:
    analysis = make_analysis(**SMALL)
    made = [*everything(analysis), overlays(analysis)[0]]
    assert len({dataset.SeriesInstanceUID for dataset in made}) == len(made)


@pytest.mark.parametrize("kind", ["negative", "not_analysed"])
def test_without_key_slices_there_is_no_map_and_no_state(kind: str) -> None:
    analysis = make_analysis(kind, **SMALL)
    assert parametric_maps(analysis, identity(analysis), 9003, MADE_AT) == []
    assert presentation_state(analysis, [], identity(analysis), 9004, MADE_AT) is None


# --- multi-frame ----------------------------------------------------------------------------------------------------


def test_a_frame_is_an_overlay_pixel_by_pixel() -> None:
    single = overlays(make_analysis(**SMALL))
    image = multi_frame(single, identity(make_analysis(**SMALL)), 9002)
    assert image.SOPClassUID == MultiFrameTrueColorSecondaryCaptureImageStorage
    frames = pydicom.dcmread(io.BytesIO(encoded(image))).pixel_array
    assert frames.shape == (3, 96, 128, 3)
    for frame, overlay in zip(frames, single, strict=True):
        assert (frame == pixels(overlay)).all()


def test_a_frame_lies_where_its_overlay_lies() -> None:
    single = overlays(make_analysis(tilt_deg=15, **SMALL))
    image = multi_frame(single, identity(make_analysis(**SMALL)), 9002)
    for group, overlay in zip(image.PerFrameFunctionalGroupsSequence, single, strict=True):
        assert group.PlanePositionSequence[0].ImagePositionPatient == overlay.ImagePositionPatient
    shared = image.SharedFunctionalGroupsSequence[0]
    assert shared.PlaneOrientationSequence[0].ImageOrientationPatient == single[0].ImageOrientationPatient
    assert shared.PixelMeasuresSequence[0].PixelSpacing == [2.0, 1.6]
    steps = np.diff([float(value) for value in image.SliceLocationVector])
    assert np.abs(steps) == pytest.approx(5.0 * np.cos(np.deg2rad(15)), abs=0.01)


def test_frames_name_their_source_images() -> None:
    single = overlays(make_analysis(**SMALL))
    image = multi_frame(single, identity(make_analysis(**SMALL)), 9002)
    named = [item.ReferencedSOPInstanceUID for item in image.SourceImageSequence]
    assert named == [overlay.SourceImageSequence[0].ReferencedSOPInstanceUID for overlay in single]


def test_a_multi_frame_image_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        multi_frame([], identity(make_analysis(**SMALL)), 9002)


def test_making_a_multi_frame_image_leaves_the_overlays_alone() -> None:
    single = overlays(make_analysis(**SMALL))
    before = [encoded(overlay) for overlay in single]
    multi_frame(single, identity(make_analysis(**SMALL)), 9002)
    assert [encoded(overlay) for overlay in single] == before


# --- parametric map -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", SOURCES)
def test_the_map_holds_the_activation_on_the_cts_grid(source: dict[str, Any]) -> None:
    analysis = make_analysis(**SMALL, **source)
    assert analysis.volume is not None
    (made,) = parametric_maps(analysis, identity(analysis), 9003, MADE_AT)
    assert made.SOPClassUID == ParametricMapStorage
    frames = pydicom.dcmread(io.BytesIO(encoded(made))).pixel_array
    for group, frame in zip(made.PerFrameFunctionalGroupsSequence, frames, strict=True):
        position = [float(value) for value in group.PlanePositionSequence[0].ImagePositionPatient]
        index = int(np.argmin(np.linalg.norm(analysis.volume.positions_mm - position, axis=1)))
        assert position == pytest.approx(analysis.volume.positions_mm[index], abs=1e-4)
        (key,) = [key for key in analysis.key_slices if key.slice_index == index]
        assert (frame == key.heat).all()


def test_the_quantity_of_the_map_is_class_activation() -> None:
    analysis = make_analysis(**SMALL)
    (made,) = parametric_maps(analysis, identity(analysis), 9003, MADE_AT)
    mapping = made.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
    concept = mapping.QuantityDefinitionSequence[0].ConceptCodeSequence[0]
    assert (concept.CodeValue, concept.CodingSchemeDesignator) == ("130402", "DCM")
    assert (mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept) == (1.0, 0.0)
    assert made.ContentQualification == "RESEARCH"
    assert made.ImageComments == DISCLAIMER


# --- presentation state ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", SOURCES)
def test_the_state_outlines_the_map_at_its_threshold_on_every_key_slice(source: dict[str, Any]) -> None:
    analysis = make_analysis(**SMALL, **source)
    assert analysis.volume is not None
    state = state_of(analysis)
    assert state.SOPClassUID == GrayscaleSoftcopyPresentationStateStorage
    for item, key in zip(state.GraphicAnnotationSequence, analysis.key_slices, strict=True):
        (reference,) = item.ReferencedImageSequence
        assert reference.ReferencedSOPInstanceUID == analysis.volume.sop_instance_uids[key.slice_index]
        if analysis.volume.frame_numbers:
            assert reference.ReferencedFrameNumber == key.slice_index + 1
        (graphic,) = item.GraphicObjectSequence
        points = np.array(graphic.GraphicData, float).reshape(-1, 2)
        assert graphic.GraphicType == "POLYLINE"
        assert (points[0] == points[-1]).all()
        rows, columns = points[:, 1] - 0.5, points[:, 0] - 0.5
        values = key.heat[np.rint(rows).astype(int), np.rint(columns).astype(int)]
        assert values == pytest.approx(analysis.card.cam_threshold, abs=0.12)


def test_the_state_sets_the_brain_window_and_says_what_it_is() -> None:
    state = state_of(make_analysis(**SMALL))
    window = state.SoftcopyVOILUTSequence[0]
    assert (window.WindowCenter, window.WindowWidth) == (40, 80)
    for number, item in enumerate(state.GraphicAnnotationSequence):
        assert item.TextObjectSequence[0].UnformattedTextValue == f"Blutung {number}\r\n{DISCLAIMER}"
