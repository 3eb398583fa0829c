"""`ich-node analyse`: the pipeline on a folder, with the shipped model."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest

from ich_node.commands import cli
from ich_node.phantom import head, series
from tests import ct_ich_series


@pytest.fixture(scope="module")
def bleeding(tmp_path_factory) -> Path:
    """A phantom with an intraparenchymal hemorrhage, as a CT series."""
    folder = tmp_path_factory.mktemp("bleeding")
    series.write_series(folder, head.phantom("intraparenchymal", seed=4, rows=256, columns=256), seed=4)
    return folder


def result(out: Path) -> dict:
    return json.loads((out / "result.json").read_bytes())


def analyse(folder: Path, out: Path) -> int:
    return cli.main(["analyse", str(folder), "--out", str(out)])


def test_a_bleeding_phantom_is_found_and_explained(bleeding, tmp_path):
    assert analyse(bleeding, tmp_path) == 0
    found = result(tmp_path)
    assert found["status"] == "analysed"
    assert found["priority"] in ("STAT", "HIGH")
    assert found["findings"][0]["present"]
    assert found["findings"][0]["laterality"] == "left"
    uids = [item["sop_instance_uid"] for item in found["objects"]]
    assert all((tmp_path / f"{uid}.dcm").exists() for uid in uids)
    assert (tmp_path / "picture-02.png").exists()
    assert "not for diagnosis" in (tmp_path / "report.txt").read_text()


def test_one_clot_has_one_name_whatever_the_thickness_of_the_slices(tmp_path):
    thin = head.phantom("intraparenchymal", slices=128, seed=4, rows=256, columns=256)
    for together in (1, 2, 4):
        hu = np.rint(thin.hu.reshape(-1, together, *thin.hu.shape[1:]).mean(axis=1)).astype(np.int16)
        spacing_mm = (thin.spacing_mm[0] * together, *thin.spacing_mm[1:])
        folder = tmp_path / str(together)
        series.write_series(folder / "in", dataclasses.replace(thin, hu=hu, spacing_mm=spacing_mm), seed=4)
        assert analyse(folder / "in", folder / "out") == 0
        findings = result(folder / "out")["findings"]
        assert [found["label"] for found in findings if found["present"]] == ["any", "intraparenchymal"]
        possible = {found["label"] for found in findings if found["also_possible"]}
        assert "intraventricular" in possible  # the model believes in it as firmly, and nothing that it says is lost


def test_the_peak_lies_where_its_position_says(bleeding, tmp_path):
    analyse(bleeding, tmp_path)
    peak = result(tmp_path)["findings"][0]["peak"]
    headers = (pydicom.dcmread(path, stop_before_pixels=True) for path in bleeding.glob("*.dcm"))
    source = next(header for header in headers if header.SOPInstanceUID == peak["sop_instance_uid"])
    along_row, along_column = np.array(source.ImageOrientationPatient, float).reshape(2, 3)
    row_mm, column_mm = map(float, source.PixelSpacing)
    expected = np.array(source.ImagePositionPatient, float)
    expected += peak["column"] * column_mm * along_row + peak["row"] * row_mm * along_column  # PS3.3 C.7.6.2.1.1
    assert np.allclose(expected, peak["position_mm"], atol=0.02)


def test_a_negative_phantom_is_routine(tmp_path):
    series.write_series(tmp_path / "in", head.phantom(None, seed=11, rows=256, columns=256), seed=11)
    assert analyse(tmp_path / "in", tmp_path / "out") == 0
    found = result(tmp_path / "out")
    assert found["priority"] == "ROUTINE"
    assert not any(finding["present"] for finding in found["findings"])


def test_the_order_of_files_and_nested_folders_change_nothing(bleeding, tmp_path):
    for number, path in enumerate(sorted(bleeding.glob("*.dcm"))):
        folder = tmp_path / "in" / "deep" / str(number % 3)
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / f"{97 - number}.ima")
    (tmp_path / "in" / "notes.txt").write_text("not DICOM")
    (tmp_path / "in" / "broken.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 64)
    assert analyse(tmp_path / "in", tmp_path / "a") == 0
    assert analyse(bleeding, tmp_path / "b") == 0
    assert result(tmp_path / "a")["findings"] == result(tmp_path / "b")["findings"]


def test_files_that_cannot_be_read_are_named_with_count_and_cause(bleeding, tmp_path, capsys):
    shutil.copytree(bleeding, tmp_path / "in")
    (tmp_path / "in" / "notes.txt").write_text("not DICOM")
    (tmp_path / "in" / "cut.dcm").write_bytes(next(bleeding.glob("*.dcm")).read_bytes()[:200])
    assert analyse(tmp_path / "in", tmp_path / "out") == 0
    told = capsys.readouterr().err
    assert "1 of the files left out: not a readable DICOM file (notes.txt)" in told
    assert "(cut.dcm)" in told
    (warning,) = (text for text in result(tmp_path / "out")["warnings"] if "left out" in text)
    assert warning.startswith("1 ")  # notes are no image of the series


def test_a_folder_without_a_readable_image_says_what_is_in_it(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for number in range(5):
        (tmp_path / "in" / f"{number}.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 64)
    assert analyse(tmp_path / "in", tmp_path / "out") == 1
    told = capsys.readouterr().err
    assert "5 of the files left out" in told and "0.dcm, 1.dcm, 2.dcm, …" in told


def test_of_several_series_the_eligible_one_is_analysed(bleeding, tmp_path):
    shutil.copytree(bleeding, tmp_path / "in" / "brain")
    bone = {"ConvolutionKernel": "BONE", "SeriesDescription": "HEAD BONE"}
    made = head.phantom(None, seed=4, slices=12, rows=128, columns=128)
    series.write_series(tmp_path / "in" / "bone", made, seed=4, series_number=7, attributes=bone)
    assert analyse(tmp_path / "in", tmp_path / "out") == 0
    brain = pydicom.dcmread(next(bleeding.glob("*.dcm")), stop_before_pixels=True)
    assert result(tmp_path / "out")["series_instance_uid"] == brain.SeriesInstanceUID


def test_a_contrast_study_is_not_analysed_and_says_why(tmp_path, capsys):
    made = head.phantom(None, seed=4, rows=128, columns=128)
    series.write_series(tmp_path / "in", made, seed=4, attributes={"ContrastBolusAgent": "IOMEPROL"})
    assert analyse(tmp_path / "in", tmp_path / "out") == 3
    found = result(tmp_path / "out")
    assert (found["status"], found["priority"], found["findings"]) == ("not_analysed", None, [])
    assert "contrast" in found["reason"]
    assert "contrast" in capsys.readouterr().err


def test_images_of_two_patients_in_one_series_get_no_result_in_either_name(bleeding, tmp_path, capsys):
    for number, path in enumerate(sorted(bleeding.glob("*.dcm"))):
        image = pydicom.dcmread(path)
        image.PatientID = f"PATIENT{number % 2}"
        (tmp_path / "in").mkdir(exist_ok=True)
        image.save_as(tmp_path / "in" / path.name)
    assert analyse(tmp_path / "in", tmp_path / "out") == 3
    assert not (tmp_path / "out").exists()
    assert "more than one patient" in capsys.readouterr().err


def test_a_folder_without_dicom_is_unusable_input(tmp_path, capsys):
    (tmp_path / "a.txt").write_text("nothing")
    assert analyse(tmp_path, tmp_path / "out") == 1
    assert "no readable DICOM image" in capsys.readouterr().err


@pytest.mark.parametrize("positive", [True, False], ids=["positive", "negative"])
def test_a_real_patient_goes_the_same_way(shared_data, tmp_path, positive):
    patients = ct_ich_series.rows_of(shared_data)
    affected = {patient: sum(row["any"] == "1" for row in rows) for patient, rows in patients.items()}
    patient = max(affected, key=affected.__getitem__) if positive else min(p for p, n in affected.items() if n == 0)
    ct_ich_series.write_patient(shared_data, patient, tmp_path / "in")
    assert analyse(tmp_path / "in", tmp_path / "out") == 0
    found = result(tmp_path / "out")
    assert len(found["slices"]) >= 20
    assert found["findings"][0]["present"] is positive
