"""Phantom series are valid DICOM, deterministic, and keep the anatomy in its place."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from head_shapes import shape_head

from ich_node.phantom.enhanced import build_enhanced
from ich_node.phantom.series import build_series, write_series

DCIODVFY = Path(sys.executable).with_name("dciodvfy")


def errors_of(path: Path) -> list[str]:
    """Lines in which dciodvfy speaks of an error; its exit status says nothing."""
    done = subprocess.run([DCIODVFY, "-new", path], capture_output=True, text=True, check=False, timeout=60)
    return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tilt_deg": 15.0},
        {"patient_position": "FFP", "orientation": ("R", "A")},
        {"signed": True, "intercept": 0, "padding_value": -2000},
        {"photometric_interpretation": "MONOCHROME1"},
        {"column_step": 2},
        {"patient_name": "Müller^Jörg"},
        {"character_set": "ISO_IR 192", "patient_name": "Θεοδώρου^Νίκη"},
        {"character_set": ["", "ISO 2022 IR 87"], "patient_name": "Yamada^Tarou=山田^太郎=やまだ^たろう"},
        {"attributes": {"ContrastBolusAgent": "IOHEXOL", "ConvolutionKernel": "BONE"}},
    ],
    ids=lambda changes: ", ".join(changes) or "plain",
)
def test_every_variation_is_a_valid_ct_image(tmp_path, changes):
    path = write_series(tmp_path, shape_head(3), seed=4, **changes)[1]
    assert errors_of(path) == []


def test_an_enhanced_ct_is_valid(tmp_path):
    build_enhanced(shape_head(3), seed=4).save_as(tmp_path / "enhanced.dcm", enforce_file_format=True)
    assert errors_of(tmp_path / "enhanced.dcm") == []


def test_a_character_set_survives_the_file(tmp_path):
    name = "Yamada^Tarou=山田^太郎=やまだ^たろう"
    changes = {"character_set": ["", "ISO 2022 IR 87"], "patient_name": name}
    path = write_series(tmp_path, shape_head(1), **changes)[0]
    assert str(pydicom.dcmread(path).PatientName) == name


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    one = write_series(tmp_path / "one", shape_head(2), seed=7)
    two = write_series(tmp_path / "two", shape_head(2), seed=7)
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]


def test_another_seed_is_another_patient_study_and_series():
    one, two = (build_series(shape_head(1), seed=seed)[0] for seed in (1, 2))
    for keyword in ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"):
        assert one[keyword].value != two[keyword].value


def test_pixels_come_back_as_hu():
    phantom = shape_head(3)
    for dataset, hu in zip(build_series(phantom), phantom.hu, strict=True):
        stored = np.frombuffer(dataset.PixelData, "<u2").reshape(hu.shape)
        assert np.array_equal(stored.astype(int) + int(dataset.RescaleIntercept), hu)


def test_an_attribute_can_be_replaced_or_removed():
    dataset = build_series(shape_head(1), attributes={"BodyPartExamined": None, "KVP": "100"})[0]
    assert "BodyPartExamined" not in dataset and dataset.KVP == 100


def test_instance_numbers_can_lie_about_the_order():
    numbers = [dataset.InstanceNumber for dataset in build_series(shape_head(9), instance_numbers="shuffled")]
    assert sorted(numbers) == list(range(1, 10)) and numbers != sorted(numbers)
