"""The RSNA layout: labels, grouping, HU, folds, a whole small training run, and its submission."""

import csv

import numpy as np
import pydicom
import pytest
from rsna_set import write_rsna_set

from ich_node.domain.findings import LABELS
from ich_node.training.data import rsna


@pytest.fixture(scope="module")
def small_set(tmp_path_factory):
    root = tmp_path_factory.mktemp("rsna")
    return root, write_rsna_set(root)


@pytest.mark.train
def test_every_image_has_its_six_labels_and_repeated_rows_count_once(small_set):
    root, ids = small_set
    labels = rsna.read_labels(root / "stage_2_train.csv")
    assert sorted(labels) == sorted(ids)
    assert all(values[0] == values[1:].max() for values in labels.values())


@pytest.mark.train
def test_an_image_that_lacks_a_label_is_an_error(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("ID,Label\nID_000000000001_any,1\n")
    with pytest.raises(ValueError, match="lack a label"):
        rsna.read_labels(path)


@pytest.mark.train
def test_slices_of_a_series_come_from_foot_to_head_whatever_their_file_names(small_set):
    root, _ = small_set
    groups = rsna.grouped(rsna.read_headers(root / "stage_2_train"))
    assert len(groups) == 6
    for group in groups:
        positions = [image.position_mm for image in group]
        assert positions == sorted(positions)
        assert len({image.patient for image in group}) == 1


@pytest.mark.train
def test_stored_values_that_wrapped_around_become_the_same_hu(small_set, tmp_path):
    root, ids = small_set
    path = root / "stage_2_train" / f"{ids[4]}.dcm"
    expected = np.clip(rsna.read_hu(path), -1000, 3000)
    ds = pydicom.dcmread(path)
    ds.BitsStored, ds.HighBit, ds.PixelRepresentation, ds.RescaleIntercept = 12, 11, 0, 0
    ds.PixelData = (expected.astype(np.int32) % 4096).astype(np.uint16).tobytes()
    ds.save_as(tmp_path / "wrapped.dcm")
    assert np.array_equal(rsna.read_hu(tmp_path / "wrapped.dcm"), expected)


@pytest.mark.train
def test_a_truncated_image_is_left_out(small_set, tmp_path):
    root, ids = small_set
    broken = tmp_path / "stage_2_train"
    broken.mkdir()
    for name in ids[:8]:
        content = (root / "stage_2_train" / f"{name}.dcm").read_bytes()
        (broken / f"{name}.dcm").write_bytes(content[:-4000] if name == ids[3] else content)
    data = rsna.prepare(broken, rsna.read_labels(root / "stage_2_train.csv"), tmp_path / "out")
    assert sorted(data.ids) == sorted(set(ids[:8]) - {ids[3]})


@pytest.mark.train
def test_a_small_run_ends_in_a_bundle_a_sequence_head_and_a_submission(small_set, tmp_path):
    challenge = pytest.importorskip(
        "ich_node.training.learn.challenge", reason="needs the [train] extra", exc_type=ImportError
    )
    train = pytest.importorskip("ich_node.training.learn.train", exc_type=ImportError)
    from ich_node.infer.engine.self_test import verify

    root, _ = small_set
    phase = train.Phase("tiny", {"rsna": 4}, steps=3, size=64)
    settings = challenge.Settings(phase=phase, sequence_steps=5, pretrained=False, seed=1)
    manifest = challenge.run(root, tmp_path, settings, version="0.0.0", device="cpu")
    assert any("self-test passed" in line for line in verify(tmp_path / "bundle"))
    assert 0 < manifest["metrics"]["patients kept back from RSNA"]["weighted_log_loss"] < 5
    assert (tmp_path / "sequence.onnx").stat().st_size > 1000
    with (tmp_path / "submission.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 8 * len(LABELS)
    assert all(0 < float(row["Label"]) < 1 for row in rows)
