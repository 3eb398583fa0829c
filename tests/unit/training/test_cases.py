"""Label files in all their forms, studies on disk, and what does not fit together."""

import math

import numpy as np
import pytest
from head_shapes import shape_head
from pydicom import dcmread

from ich_node.domain.findings import LABELS
from ich_node.phantom.series import write_series
from ich_node.training.data import cases
from ich_node.training.data.cases import LabelError


def csv_file(folder, text, name="labels.csv"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    """Two studies of one small head each; the folder of the first is called night/first."""
    folder = tmp_path_factory.mktemp("studies")
    small = shape_head(slices=6, size=16)
    write_series(folder / "night" / "first", small, seed=1, patient_id="P1")
    write_series(folder / "second", small, seed=2, patient_id="P2", attributes={"AccessionNumber": "ACC2"})
    (folder / "notes.txt").write_text("not DICOM")
    return folder


def test_a_wide_file_by_study(tmp_path):
    labels = cases.read_labels(csv_file(tmp_path, "StudyInstanceUID,any,epidural,subdural\n1.2,1,1,0\n1.3,0,,\n"))
    assert labels.studies["1.2"][0] == 1
    assert labels.studies["1.2"][LABELS.index("epidural")] == 1
    assert math.isnan(labels.studies["1.2"][LABELS.index("subarachnoid")])
    assert labels.studies["1.3"].tolist() == [0] * 6


def test_a_wide_file_by_slice(tmp_path):
    labels = cases.read_labels(csv_file(tmp_path, "SOPInstanceUID,any\n1.2.3,1\n"))
    assert labels.slices["1.2.3"][0] == 1
    assert not labels.studies


def test_the_layout_of_the_rsna_challenge(tmp_path):
    rows = "".join(f"ID_abc_{label},{int(label in ('any', 'subdural'))}\n" for label in LABELS)
    labels = cases.read_labels(csv_file(tmp_path, "ID,Label\n" + rows))
    assert labels.slices["ID_abc"].tolist() == [1, 0, 0, 0, 0, 1]


def test_slices_by_study_and_number(tmp_path):
    labels = cases.read_labels(csv_file(tmp_path, "patient,slice,any\nP1,001,0\nP1,2,1\n"))
    assert labels.slices[cases.numbered("P1", "2")][0] == 1


def test_semicolons_a_byte_order_mark_and_other_spellings_of_columns(tmp_path):
    labels = cases.read_labels(csv_file(tmp_path, "\ufeffStudy_Instance_UID;Any\n1.2;yes\n"))
    assert labels.studies["1.2"][0] == 1


def test_any_follows_from_the_types():
    assert cases.with_any(np.array([math.nan, 1, 0, 0, 0, 0]))[0] == 1
    assert cases.with_any(np.array([math.nan, 0, 0, 0, 0, 0]))[0] == 0
    assert math.isnan(cases.with_any(np.array([math.nan, 0, math.nan, 0, 0, 0]))[0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no rows"),
        ("StudyInstanceUID,any\n", "no rows"),
        ("who,any\n1,1\n", "no column names the study"),
        ("study,verdict\n1,1\n", "no label column"),
        ("study,any\n1.2,maybe\n", "line 2"),
        ("study,any\n,1\n", "line 2"),
        ("study,any\n1.2,1\n1.2,0\n", "line 3"),
        ("study,any,subdural\n1.2,0,1\n", "any is 0"),
        ("ID,Label\nID_abc_tumour,1\n", "line 2"),
    ],
)
def test_a_file_that_can_not_be_meant_so_is_refused_with_the_reason(tmp_path, text, message):
    with pytest.raises(LabelError, match=message):
        cases.read_labels(csv_file(tmp_path, text))


def test_a_missing_file_is_refused_by_name(tmp_path):
    with pytest.raises(LabelError, match="nowhere"):
        cases.read_labels(tmp_path / "nowhere.csv")


def test_studies_are_found_below_a_folder_and_other_files_passed_over(studies):
    found = cases.find_studies(studies)
    assert len(found) == 2
    assert sorted(study.patient for study in found) == ["P1", "P2"]
    assert all(len(study.series[0].files) == 6 for study in found)


def test_a_folder_without_dicom_is_refused(tmp_path):
    with pytest.raises(LabelError, match="no DICOM"):
        cases.find_studies(tmp_path)


@pytest.mark.parametrize("key", ["P2", "ACC2", "second"])
def test_a_study_answers_to_its_names(studies, key):
    (study,) = (item for item in cases.find_studies(studies) if item.patient == "P2")
    truth = cases.truth_of_study(study, cases.Labels(studies={key: np.ones(6)}), {})
    assert truth is not None
    assert truth[0] == 1


def test_a_study_without_a_row_takes_the_truth_of_its_slices(studies):
    study = cases.find_studies(studies)[0]
    slices = {"a": np.array([0, 0, 0, 0, 0, 0.0]), "b": np.array([1, 0, 0, 0, math.nan, 1.0])}
    truth = cases.truth_of_study(study, cases.Labels(), slices)
    assert truth is not None
    assert np.array_equal(truth, [1, 0, 0, 0, math.nan, 1], equal_nan=True)
    assert cases.truth_of_study(study, cases.Labels(), {}) is None


def test_rows_that_contradict_each_other_are_refused(studies):
    study = cases.find_studies(studies)[0]
    labels = cases.Labels(studies={study.study_uid: np.ones(6), study.patient: np.zeros(6)})
    with pytest.raises(LabelError, match="differ"):
        cases.truth_of_study(study, labels, {})


def test_slices_answer_to_uid_file_name_and_number(studies):
    (study,) = (item for item in cases.find_studies(studies) if item.patient == "P1")
    series = study.series[0]
    uid, path = next(iter(series.files.items()))
    number = str(dcmread(path, stop_before_pixels=True).InstanceNumber)
    for key in (uid, path.name, path.stem, cases.numbered("P1", number)):
        found = cases.truth_of_slices(study, series, cases.Labels(slices={key: np.ones(6)}))
        assert list(found) == [uid]
