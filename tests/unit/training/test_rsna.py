"""The RSNA layout: labels, grouping, HU, folds, a whole small training run, and its submission."""

import csv

import numpy as np
import pydicom
import pytest
from rsna_set import write_rsna_set

from ich_node.domain.findings import LABELS
from ich_node.training.data import ct_ich, rsna, rsna_index
from ich_node.training.data.anatomy import NotHumanError


@pytest.fixture(scope="module")
def small_set(tmp_path_factory):
    root = tmp_path_factory.mktemp("rsna")
    return root, write_rsna_set(root)


@pytest.mark.train
def test_every_image_has_its_six_labels_and_repeated_rows_count_once(small_set):
    root, ids = small_set
    labels = rsna.read_labels(root / "stage_2_train.csv")
    assert sorted(labels) == sorted(ids)
    assert all(values[0] == values[1:].max() for values in rsna.unpacked(labels.values()))
    assert rsna.unpacked(labels.values()).any()


@pytest.mark.train
def test_an_image_that_lacks_a_label_is_an_error(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("ID,Label\nID_000000000001_any,1\n")
    with pytest.raises(ValueError, match="lack a label"):
        rsna.read_labels(path)


def header_of(folder):
    return lambda name: rsna_index.read_header(folder / f"{name}.dcm")


@pytest.mark.train
def test_slices_of_a_series_come_from_foot_to_head_whatever_their_file_names(small_set, tmp_path):
    root, ids = small_set
    rsna_index.write(sorted(ids), header_of(root / "stage_2_train"), tmp_path / "headers.csv")
    index = rsna_index.read(tmp_path / "headers.csv")
    groups = list(index.groups())
    assert len(groups) == len(index) == 6
    assert sorted(name for group in groups for name in group.ids) == sorted(ids)
    for group in groups:
        assert group.positions_mm.tolist() == sorted(group.positions_mm.tolist())
        own = [header_of(root / "stage_2_train")(name) for name in group.ids]
        assert len({image.patient for image in own}) == len({image.series for image in own}) == 1
        assert [image.position_mm for image in own] == pytest.approx(group.positions_mm.tolist())
        assert group.pixel_mm == pytest.approx(own[0].pixel_mm)


class StoppedError(Exception):
    pass


@pytest.mark.train
@pytest.mark.parametrize("torn", [0, 1, 7, 60])
def test_headers_of_a_stopped_run_are_read_once_and_a_torn_line_again(small_set, tmp_path, torn):
    root, ids = small_set
    read = header_of(root / "stage_2_train")
    rsna_index.write(sorted(ids), read, tmp_path / "whole.csv")
    whole = (tmp_path / "whole.csv").read_bytes()
    lines = whole.splitlines(keepends=True)
    (tmp_path / "part.csv").write_bytes(b"".join(lines[:20]) + lines[20][:torn])
    asked = []
    rsna_index.write(sorted(ids), lambda name: asked.append(name) or read(name), tmp_path / "part.csv")
    assert (tmp_path / "part.csv").read_bytes() == whole
    assert asked == sorted(ids)[20:]


@pytest.mark.train
@pytest.mark.parametrize("after", [1, 19, 47])
def test_boxes_of_a_stopped_run_go_on_behind_the_last_whole_series(small_set, tmp_path, monkeypatch, after):
    root, _ = small_set
    labels = rsna.read_labels(root / "stage_2_train.csv")
    expected = rsna.prepare(root / "stage_2_train", labels, tmp_path / "whole")
    calls = []

    def stopping(path):
        calls.append(path)
        if len(calls) == after:
            raise StoppedError
        return read_hu(path)

    read_hu = rsna.read_hu
    monkeypatch.setattr(rsna, "read_hu", stopping)
    with pytest.raises(StoppedError):
        rsna.prepare(root / "stage_2_train", labels, tmp_path / "part")
    with (tmp_path / "part" / "stage_2_train.hu").open("ab") as boxes:
        boxes.write(b"torn")
    with (tmp_path / "part" / "stage_2_train.journal").open("a") as journal:
        journal.write('{"ids": ["ID_')
    data = rsna.prepare(root / "stage_2_train", labels, tmp_path / "part")
    assert len(calls) <= len(labels) + 8  # at most one series again
    assert np.array_equal(data.pool.hu, expected.pool.hu)
    for name in ("ids", "series", "spacing_mm"):
        assert np.array_equal(getattr(data, name), getattr(expected, name))
    assert np.array_equal(data.pool.labels, expected.pool.labels)


@pytest.mark.train
def test_no_patient_is_in_two_folds_and_every_slice_has_its_own_patient(small_set, tmp_path):
    root, ids = small_set
    data = rsna.prepare(root / "stage_2_train", rsna.read_labels(root / "stage_2_train.csv"), tmp_path)
    fold = ct_ich.folds(data.pool.patient, data.pool.labels, 3, seed=1)
    said = {name: header_of(root / "stage_2_train")(name).patient for name in ids}
    folds_of = {
        who: {int(f) for f, name in zip(fold, data.ids, strict=True) if said[name] == who} for who in said.values()
    }
    assert {len(found) for found in folds_of.values()} == {1}
    assert set(fold) == {0, 1, 2}


@pytest.mark.train
def test_heads_at_a_wrong_scale_are_refused_before_the_rest_is_written(small_set, tmp_path, monkeypatch):
    root, ids = small_set
    wrong = tmp_path / "stage_2_train"
    wrong.mkdir()
    for name in ids:
        ds = pydicom.dcmread(root / "stage_2_train" / f"{name}.dcm")
        ds.PixelSpacing = [4.6, 4.6]
        ds.save_as(wrong / f"{name}.dcm")
    monkeypatch.setattr(rsna, "GUARDED", 2)
    labels = rsna.read_labels(root / "stage_2_train.csv")
    for _ in range(2):  # a second start does not slip through
        with pytest.raises(NotHumanError, match="length_mm"):
            rsna.prepare(wrong, labels, tmp_path / "out")
        assert len((tmp_path / "out" / "stage_2_train.journal").read_text().splitlines()) == 2


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
    assert manifest["data"][0]["anatomy"]["heads"] == 6
    assert 0 < manifest["metrics"]["patients kept back from RSNA"]["weighted_log_loss"] < 5
    assert (tmp_path / "bundle" / "sequence.onnx").exists() == ("sequence" in manifest)
    with (tmp_path / "submission.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 8 * len(LABELS)
    assert all(0 < float(row["Label"]) < 1 for row in rows)
