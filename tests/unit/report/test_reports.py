"""The reports as objects: order, identity, bytes, character sets, predecessors, and coordinates that hit the CT."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime

import numpy as np
import pydicom
import pytest
import sr_rules
from analysis_builder import TURNS, make_analysis

from ich_node.report import build, encoding, files
from ich_node.report.sr import codes
from ich_node.report.sr.predecessor import Predecessor
from ich_node.runtime.config import ReportConfig

MADE_AT = datetime(2026, 11, 23, 22, 30, tzinfo=UTC)
SMALL = {"rows": 128, "columns": 128, "pixel_mm": (1.8, 1.8)}


def made(kind="positive", predecessor=None, options=None, **variation):
    return build.results(
        make_analysis(kind, **{**SMALL, **variation}),
        options=options or ReportConfig(),
        device_name="ICHNODE",
        made_at=MADE_AT,
        predecessor=predecessor,
    )


def classes(results):
    return [str(each.SOPClassUID) for each in results.objects]


def text_of(results):
    (report,) = [each for each in results.objects if each.SOPClassUID == codes.BASIC_TEXT_SR]
    return " ".join(item.TextValue for item in sr_rules.walk(report) if item.ValueType == "TEXT")


@pytest.mark.parametrize("kind", ["positive", "negative", "not_analysed"])
def test_pictures_come_first_then_the_measurements_then_the_text(kind):
    found = classes(made(kind))
    assert found[-2:] == [codes.COMPREHENSIVE_3D_SR, codes.BASIC_TEXT_SR]
    assert set(found[:-2]) == {"1.2.840.10008.5.1.4.1.1.7"}


def test_only_the_page_goes_back_for_a_negative():
    assert len(made("negative").objects) == 3


def test_the_measurement_report_has_two_other_forms():
    results = made("negative")
    assert list(results.alternates) == [str(results.objects[1].SOPInstanceUID)]
    (alternates,) = results.alternates.values()
    assert [each.SOPClassUID for each in alternates] == [codes.COMPREHENSIVE_SR, codes.ENHANCED_SR]


@pytest.mark.parametrize("kind", ["positive", "negative", "not_analysed"])
def test_the_same_input_gives_the_same_bytes(kind):
    options = ReportConfig(multi_frame=True, parametric_map=True, presentation_state=True)
    analysis = make_analysis(kind, **SMALL)
    assert files.encode(analysis, made(kind, options=options)) == files.encode(analysis, made(kind, options=options))


def test_options_add_their_objects_at_the_end():
    options = ReportConfig(multi_frame=True, parametric_map=True, presentation_state=True)
    plain, full = classes(made()), classes(made(options=options))
    assert full[: len(plain)] == plain
    assert full[len(plain) :] == [
        "1.2.840.10008.5.1.4.1.1.7.4",
        "1.2.840.10008.5.1.4.1.1.30",
        "1.2.840.10008.5.1.4.1.1.11.1",
    ]


def test_a_type_that_is_not_told_apart_has_no_number_and_no_group_of_its_own():
    analysis = make_analysis("positive", **SMALL)
    findings = tuple(
        dataclasses.replace(f, probability=0.877, also_possible=True) if f.label == "epidural" else f
        for f in analysis.findings
    )
    results = build.results(
        dataclasses.replace(analysis, findings=findings),
        options=ReportConfig(),
        device_name="ICHNODE",
        made_at=MADE_AT,
        predecessor=None,
    )
    (measured,) = [each for each in results.objects if each.SOPClassUID == codes.COMPREHENSIVE_3D_SR]
    items = list(sr_rules.walk(measured))
    named = [item.TextValue for item in items if item.ValueType == "TEXT"]
    assert "ICH subdural" in named and "ICH epidural" not in named
    numbers = [item.MeasuredValueSequence[0].NumericValue for item in items if item.ValueType == "NUM"]
    assert numbers and 87.7 not in numbers
    assert "88" not in text_of(results) and "might be epidural instead" in text_of(results)


def test_every_object_has_a_name_of_its_own():
    results = made()
    everything = [*results.objects, *(each for pair in results.alternates.values() for each in pair)]
    assert len({each.SOPInstanceUID for each in everything}) == len(everything)


def test_every_object_says_who_wrote_it():
    assert {each.file_meta.ImplementationVersionName for each in made().objects} == {"ICH_NODE_0.1.0"}


@pytest.mark.parametrize("kind", ["positive", "negative"])
def test_a_report_lists_ct_and_pictures_as_evidence(kind):
    results = made(kind)
    report = results.objects[-1]
    (study,) = report.CurrentRequestedProcedureEvidenceSequence
    listed = {
        item.ReferencedSOPInstanceUID
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    analysis = make_analysis(kind, **SMALL)
    expected = {h.SOPInstanceUID for h in analysis.headers} | {p.SOPInstanceUID for p in results.objects[:-2]}
    assert listed == expected


def test_everything_that_a_report_points_at_is_evidence():
    report = made().objects[-2]
    listed = {
        item.ReferencedSOPInstanceUID
        for study in report.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    pointed = {
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for item in sr_rules.walk(report)
        if item.ValueType == "IMAGE"
    }
    assert pointed <= listed


def test_a_report_is_complete_and_not_verified():
    report = made("negative").objects[-1]
    assert (report.CompletionFlag, report.VerificationFlag) == ("COMPLETE", "UNVERIFIED")


# --- corrections ---------------------------------------------------------------------------------------------------


def test_a_corrected_report_names_its_predecessor_and_stays_in_its_series():
    first = made("negative", slices=10)
    second = made("negative", slices=12, predecessor=Predecessor.of(first.objects))
    for before, after in zip(first.objects[-2:], second.objects[-2:], strict=True):
        (study,) = after.PredecessorDocumentsSequence
        (series,) = study.ReferencedSeriesSequence
        (document,) = series.ReferencedSOPSequence
        assert document.ReferencedSOPInstanceUID == before.SOPInstanceUID != after.SOPInstanceUID
        assert series.SeriesInstanceUID == before.SeriesInstanceUID == after.SeriesInstanceUID
        assert (before.InstanceNumber, after.InstanceNumber) == (1, 2)


def test_a_predecessor_that_went_out_in_another_form_is_named_in_that_form():
    first = made("negative")
    (alternates,) = first.alternates.values()
    corrected = made("negative", slices=10, predecessor=Predecessor.of([alternates[1], first.objects[-1]])).objects[-2]
    (document,) = corrected.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert document.ReferencedSOPClassUID == codes.ENHANCED_SR


def test_a_stat_after_a_routine_replaces_it():
    first = made("negative", slices=10)
    second = made("positive", predecessor=Predecessor.of(first.objects))
    assert "PredecessorDocumentsSequence" in second.objects[-1]
    assert "replaces the one of 2026-11-23 22:30: more images have arrived" in text_of(second)


def test_a_first_report_names_none():
    assert "PredecessorDocumentsSequence" not in made("negative").objects[-1]


def test_what_a_series_says_of_itself_does_not_change_with_a_correction():
    first = made("positive")
    second = made("negative", slices=10, predecessor=Predecessor.of(first.objects))
    keywords = ["SeriesDescription", "SeriesNumber", "Manufacturer", "DeviceUID", "SeriesDate", "SeriesTime"]
    for before, after in zip(first.objects[-2:], second.objects[-2:], strict=True):
        assert [before.get(k) for k in keywords] == [after.get(k) for k in keywords]


# --- characters ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("character_set", "name", "words"),
    [
        ("ISO_IR 6", "MUELLER^JOERG", "uebliche Reihenfolge"),
        ("ISO_IR 100", "Müller^Jörg", "übliche Reihenfolge"),
        ("ISO_IR 192", "山田^太郎", "übliche Reihenfolge"),
        ("ISO_IR 144", "Петров^Иван", "uebliche Reihenfolge"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎", "bliche Reihenfolge"),
    ],
)
def test_the_character_set_of_the_source_is_kept_and_words_fit_into_it(tmp_path, character_set, name, words):
    header = {"PatientName": name, "SpecificCharacterSet": character_set}
    results = made("negative", options=ReportConfig(language="de"), header=header)
    path = tmp_path / "report.dcm"
    path.write_bytes(encoding.part10(results.objects[-1]))
    report = pydicom.dcmread(path)
    assert report.SpecificCharacterSet == character_set
    assert str(report.PatientName) == name
    assert words in " ".join(item.TextValue for item in sr_rules.walk(report) if item.ValueType == "TEXT")


def test_the_language_is_declared():
    report = made("negative", options=ReportConfig(language="de")).objects[-1]
    assert sr_rules.coded(report.ContentSequence[0]) == ("RFC5646", "de")


# --- coordinates ---------------------------------------------------------------------------------------------------


def regions(results):
    """(SOP Instance UID, frame, polygon [points, 2]) of every region on the CT."""
    for group in sr_rules.groups("1410")(results.objects[-2]):
        (scoord,) = [item for item in group.ContentSequence if item.ValueType == "SCOORD"]
        (image,) = scoord.ContentSequence
        reference = image.ReferencedSOPSequence[0]
        yield (
            reference.ReferencedSOPInstanceUID,
            reference.get("ReferencedFrameNumber"),
            np.asarray(scoord.GraphicData, float).reshape(-1, 2),
        )


VARIATIONS = [*({"turn": turn} for turn in TURNS), {"tilt_deg": 18.0}, {"enhanced": True}, {"pixel_mm": (1.8, 0.9)}]


@pytest.mark.parametrize("variation", VARIATIONS, ids=str)
def test_a_region_lies_where_the_activation_map_is_lit(variation):
    analysis = make_analysis("positive", **{**SMALL, **variation})
    results = made(**variation)
    found = list(regions(results))
    assert found
    for uid, frame, polygon in found:
        index = frame - 1 if frame else analysis.volume.sop_instance_uids.index(uid)
        (key,) = [key for key in analysis.key_slices if key.slice_index == index]
        lit = np.argwhere(key.heat >= analysis.card.cam_threshold) + 0.5  # (row, column) of pixel centres
        assert polygon[0].tolist() == polygon[-1].tolist()
        assert np.all(np.abs(polygon.min(0) - lit.min(0)[::-1]) <= 1)
        assert np.all(np.abs(polygon.max(0) - lit.max(0)[::-1]) <= 1)


def test_the_middle_of_a_round_region_is_the_peak_of_the_map_within_a_pixel():
    analysis = make_analysis("positive", **SMALL)
    for uid, _, polygon in regions(made()):
        index = analysis.volume.sop_instance_uids.index(uid)
        (key,) = [key for key in analysis.key_slices if key.slice_index == index]
        ties = np.argwhere(key.heat >= key.heat.max() - 1e-3)
        row, column = ties.mean(0) + 0.5
        centre = (polygon.min(0) + polygon.max(0)) / 2
        assert np.hypot(centre[0] - column, centre[1] - row) <= 1
