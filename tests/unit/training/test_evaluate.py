"""An evaluation from DICOM files and a label file to its report, with a model that knows density only."""

import argparse
import csv
import json

import numpy as np
import pytest
from density_model import DensityEngine, density_model
from head_shapes import ShapeHead, shape_head
from PIL import Image

pytest.importorskip("matplotlib", reason="needs the extra [train]")

from ich_node.domain.errors import IchNodeError
from ich_node.phantom.series import write_series
from ich_node.training.data import sources
from ich_node.training.data.cases import LabelError, SeriesFiles, StudyFiles
from ich_node.training.evaluate import command as evaluate
from ich_node.training.evaluate.measure import in_order

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    """A bleeding head, a healthy one, and one that is no eligible series; labels per slice, a mask of one slice."""
    folder = tmp_path_factory.mktemp("night")
    ill = shape_head(slices=28, size=192)
    blood = (ill.hu > 55) & (ill.hu < 90)
    healthy = ShapeHead(np.where(blood, 34, ill.hu).astype(np.int16), ill.spacing_mm)
    paths = write_series(folder / "studies" / "ill", ill, seed=1, patient_id="ILL")
    write_series(folder / "studies" / "healthy", healthy, seed=2, patient_id="WELL")
    few = ShapeHead(ill.hu[:4], ill.spacing_mm)
    write_series(folder / "studies" / "few", few, seed=3, patient_id="FEW")
    solid = [int(image.sum()) for image in _opened(blood)]
    with (folder / "labels.csv").open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["file", "SOPInstanceUID", "any"])
        for study, truth in (("ill", solid), ("healthy", [0] * 28), ("few", [0] * 4)):
            for path, size in zip(_in_order(folder / "studies" / study), truth, strict=True):
                rows.writerow([study, path.stem if study != "ill" else _uid(path), int(size > 30)])
    best = int(np.argmax(solid))
    (folder / "masks").mkdir()
    Image.fromarray((_opened(blood)[best] * 255).astype(np.uint8)).save(folder / "masks" / f"{_uid(paths[best])}.png")
    return folder


def _opened(blood):
    from scipy import ndimage

    return ndimage.binary_opening(blood, np.ones((1, 5, 5)))


def _uid(path):
    from pydicom import dcmread

    return str(dcmread(path, stop_before_pixels=True).SOPInstanceUID)


def _in_order(folder):
    from pydicom import dcmread

    heights = {path: float(dcmread(path, stop_before_pixels=True).ImagePositionPatient[2]) for path in folder.iterdir()}
    return sorted(heights, key=heights.__getitem__)


def parsed(*words):
    parser = argparse.ArgumentParser()
    evaluate.add_arguments(parser)
    return parser.parse_args([str(word) for word in words])


@pytest.fixture(scope="module")
def report(night, tmp_path_factory):
    """The folder of a finished evaluation."""
    out = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate, "load", lambda bundle: density_model())
        patch.setattr(evaluate, "open_engine", lambda config, model: DensityEngine())
        options = ("--studies", night / "studies", "--labels", night / "labels.csv", "--masks", night / "masks")
        assert evaluate.run(parsed(*options, "--out", out)) == 0
    return out


def figures(report):
    return json.loads((report / "figures.json").read_text())


def test_every_study_is_accounted_for(report):
    found = figures(report)
    assert found["studies"]["count"] == 2
    assert found["not_analysed"]["count"] == 1
    assert sum(found["not_analysed"]["reasons"].values()) == 1


def test_the_bleeding_head_is_flagged_and_the_healthy_one_is_not(report):
    found = figures(report)["studies"]["labels"]["any"]
    assert found["auc"][0] == 1
    assert found["sensitivity"][0] == 1
    assert found["specificity"][0] == 1


def test_slices_are_scored_against_the_labels_of_the_file(report):
    found = figures(report)["slices"]["labels"]["any"]
    assert found["known"] == 56
    assert found["positives"] >= 4
    assert found["auc"][0] > 0.9


def test_the_hottest_pixel_is_held_against_the_mask(report):
    found = figures(report)["cam"]
    assert found["masked_slices"] == 1
    assert found["pointing_game"][0] == 1


def test_the_map_takes_the_evidence_away_faster_than_chance(report):
    areas = figures(report)["cam"]["curves"]
    assert areas["deletion"] < areas["random_deletion"]
    assert areas["insertion"] > areas["random_insertion"]


def test_the_tables_hold_one_row_per_study_and_per_slice(report):
    studies = list(csv.DictReader((report / "studies.csv").read_text().splitlines()))
    assert {row["patient"]: row["priority"] for row in studies} == {"ILL": "STAT", "WELL": "ROUTINE", "FEW": ""}
    assert next(row["not_analysed_because"] for row in studies if row["patient"] == "FEW")
    assert len(list(csv.DictReader((report / "slices.csv").read_text().splitlines()))) == 56


def test_the_report_is_one_page_with_pictures_and_the_disclaimer(report):
    page = (report / "report.html").read_text()
    assert "not for diagnosis" in page
    assert page.count("data:image/png;base64,") >= 3
    assert "http" not in page.replace("https://", "http").split("<body>")[0]
    assert 'src="/' not in page


def test_labels_that_name_no_study_are_an_error_that_says_so(night, tmp_path):
    (tmp_path / "labels.csv").write_text("StudyInstanceUID,any\n9.9.9,1\n")
    with pytest.raises(LabelError, match=r"9\.9\.9"):
        sources.labelled(night / "studies", tmp_path / "labels.csv")


@pytest.mark.parametrize("words", [(), ("--studies", "x"), ("--data", "ct_ich")])
def test_options_that_do_not_belong_together_are_refused(words, tmp_path):
    with pytest.raises(LabelError), sources.opened(parsed(*words, "--out", tmp_path)):
        pass


def test_a_missing_extra_is_said_with_what_to_do():
    with pytest.raises(IchNodeError, match=r"ich-node\[train\]"):
        evaluate.require("no_such_module_at_all")


def test_of_several_series_the_one_that_the_node_would_take_is_measured_first(tmp_path):
    whole = shape_head(slices=28, size=64)
    part = ShapeHead(whole.hu[:4], whole.spacing_mm)
    series = []
    for number, head in enumerate((part, whole)):
        paths = write_series(tmp_path / str(number), head, seed=number)
        files = {_uid(path): path for path in paths}
        series.append(SeriesFiles(str(number), number, "CT", files, {}))
    order = in_order(StudyFiles("1.2", "P", frozenset(), tuple(series)))
    assert [found.series_uid for found in order] == ["1", "0"]
