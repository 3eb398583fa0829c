"""The bundle: what is refused, and what the manifest's numbers make of logits."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import yaml

from ich_node.domain.errors import ModelError
from ich_node.domain.findings import LABELS
from ich_node.infer.bundle import Aggregation, Manifest, Model, load, smoothed, top_mean

SHIPPED = Path(__file__).resolve().parents[3] / "onnx"


def manifest(**changes):
    whole = {
        "id": "m",
        "version": "1",
        "sha256": hashlib.sha256(b"graph").hexdigest(),
        "labels": list(LABELS),
        "calibration": {part: {"scale": [1.0] * 6, "bias": [0.0] * 6} for part in ("slice", "study")},
        "aggregation": {"slice_half_width_mm": 10.0, "study_half_width_mm": 10.0, "study_span_mm": 15.0},
        "operating_points": {
            "balanced": {"thresholds": dict.fromkeys(LABELS, 0.4)},
            "rule_in": {"thresholds": dict.fromkeys(LABELS, 0.8)},
        },
        "present_at": "balanced",
        "stat_at": "rule_in",
        "cam": {"threshold": 0.5},
    }
    return whole | changes


def bundle(folder, graph=b"graph", **changes):
    (folder / "ich.onnx").write_bytes(graph)
    (folder / "ich.yaml").write_text(yaml.safe_dump(manifest(**changes)))
    return folder


def model_of(**changes):
    return Model(Manifest.model_validate(manifest(**changes)), b"")


def test_a_whole_bundle_gives_a_card_with_the_manifests_numbers(tmp_path):
    card = load(bundle(tmp_path)).card
    assert card.thresholds == dict.fromkeys(LABELS, 0.4)
    assert card.stat_threshold == 0.8


def test_a_graph_that_is_not_the_manifests_is_refused(tmp_path):
    with pytest.raises(ModelError, match="SHA-256"):
        load(bundle(tmp_path, graph=b"another"))


def test_a_missing_bundle_is_refused(tmp_path):
    with pytest.raises(ModelError, match="cannot be read"):
        load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": ["any"]},
        {"present_at": "nowhere"},
        {"cam": {"threshold": 1.5}},
        {"calibration": {"slice": {"scale": [1.0], "bias": [0.0]}, "study": {"scale": [], "bias": []}}},
        {"aggregation": {"slice_half_width_mm": 0, "study_half_width_mm": 5, "study_span_mm": 15}},
        {"operating_points": None},
    ],
)
def test_a_manifest_with_a_hole_is_refused(tmp_path, changes):
    with pytest.raises(ModelError, match="not a complete manifest"):
        load(bundle(tmp_path, **changes))


def test_a_manifest_that_is_no_mapping_is_refused(tmp_path):
    bundle(tmp_path)
    (tmp_path / "ich.yaml").write_text("- 1\n")
    with pytest.raises(ModelError, match="not a mapping"):
        load(tmp_path)


def every(mm, count=5):
    """Heights of evenly spaced slices."""
    return np.arange(count, dtype=np.float64) * mm


@pytest.mark.parametrize(("thin_mm", "thick_mm"), [(1.25, 5), (2.5, 5), (3, 6), (2, 10)])
def test_thin_slices_at_the_base_change_nothing_about_a_lesion_above(thin_mm, thick_mm):
    heights = np.concatenate([np.arange(0, 60, thin_mm), np.arange(60, 140, thick_mm)])
    rule = Aggregation(slice_half_width_mm=10.0, study_half_width_mm=5.0, study_span_mm=15.0)

    def logits_at(z):
        return np.maximum(-4, 5 - np.abs(z - 95) / 3).astype(np.float32)[:, None]

    even = every(5, 28)
    assert rule.study(logits_at(heights), heights)[0] == pytest.approx(rule.study(logits_at(even), even)[0], abs=0.8)
    assert rule.slices(logits_at(heights), heights).argmax() == np.abs(heights - 95).argmin()


def test_smoothing_of_five_millimetre_slices_is_one_two_one():
    logits = np.zeros((5, 1), np.float32)
    logits[2] = 4
    assert smoothed(logits, 10.0, every(5))[:, 0].tolist() == [0, 1, 2, 1, 0]


def test_thin_slices_of_the_same_head_say_the_same_as_thick_ones():
    thick = np.array([0, 0, 1, 4, 6, 3, 0, 0], np.float32)[:, None]
    thin = np.interp(np.arange(0, 8, 0.2) - 0.4, np.arange(8), thick[:, 0]).astype(np.float32)[:, None]
    of_thick = top_mean(smoothed(thick, 10, every(5, 8)), 15, every(5, 8))
    of_thin = top_mean(smoothed(thin, 10, every(1, 40)), 15, every(1, 40))
    assert of_thin[0] == pytest.approx(of_thick[0], abs=0.4)


def test_the_highest_slices_are_averaged_over_the_span_and_no_more():
    logits = np.array([0, 4, 6, 5, 0, 0], np.float32)[:, None]
    assert top_mean(logits, 15, every(5, 6)) == pytest.approx((6 + 5 + 4) / 3)
    assert top_mean(logits, 15, every(6, 6)) == pytest.approx((6 * 6 + 6 * 5 + 3 * 4) / 15)
    assert top_mean(logits, 15, every(30, 6)) == pytest.approx((6 + 5) / 2)  # beyond 7.5 mm nobody looked


def test_a_lesion_on_one_thick_slice_is_not_diluted_in_the_study():
    rule = Aggregation(slice_half_width_mm=10.0, study_half_width_mm=5.0, study_span_mm=15.0)
    logits = np.array([0, 0, 6, 0, 0], np.float32)[:, None]
    assert rule.slices(logits, every(5))[:, 0].tolist() == [0, 1.5, 3, 1.5, 0]
    assert rule.study(logits, every(5))[0] == pytest.approx(2)


def test_a_series_of_one_slice_is_neither_smoothed_nor_refused():
    prediction = model_of().predict(np.ones((1, 6), np.float32), np.zeros((1, 6, 2, 2), np.float32), every(5, 1))
    assert prediction.study_probability == pytest.approx(1 / (1 + np.exp(-1)))


def test_probabilities_are_the_calibrated_sigmoid():
    calibration = {part: {"scale": [2.0] * 6, "bias": [-1.0] * 6} for part in ("slice", "study")}
    model = model_of(calibration=calibration)
    prediction = model.predict(np.full((4, 6), 0.5, np.float32), np.full((4, 6, 3, 3), 0.5, np.float32), every(5, 4))
    for values in (prediction.slice_probability, prediction.study_probability, prediction.cam):
        assert np.allclose(values, 0.5)


def test_every_cam_channel_gets_the_calibration_of_its_own_label():
    scales = {"scale": [1.0] * 6, "bias": [float(i) for i in range(6)]}
    model = model_of(calibration={"slice": scales, "study": scales})
    cam = model.predict(np.zeros((2, 6), np.float32), np.zeros((2, 6, 3, 4), np.float32), every(5, 2)).cam
    assert cam.shape == (2, 6, 3, 4)
    assert np.allclose(cam[:, :, 1, 2], 1 / (1 + np.exp(-np.arange(6.0))))


def test_values_that_are_not_finite_are_refused():
    with pytest.raises(ModelError, match="not finite"):
        model_of().predict(np.full((2, 6), np.nan, np.float32), np.zeros((2, 6, 2, 2), np.float32), every(5, 2))


def test_the_shipped_bundle_says_everything_that_a_card_must_say():
    manifest = load(SHIPPED).manifest
    wanted = (
        "notice",
        "opset",
        "input",
        "outputs",
        "self_test",
        "data",
        "training",
        "metrics",
        "intended_use",
        "exclusions",
    )
    assert not [name for name in wanted if not getattr(manifest, name)]
    assert "Not for clinical use" in manifest.notice
    assert (SHIPPED / "ich.onnx").stat().st_size < 30e6


def with_head(**changes):
    answer = {"logits": [[0.0] * 6], "cam_peak": [[0.0] * 6], "tolerance": {"cpu": 1e-3, "cuda": 1e-2}}
    test = answer | {"sequence": [[0.0] * 6]} | changes
    return {"sequence": {"sha256": hashlib.sha256(b"head").hexdigest()}, "self_test": test}


def test_a_sequence_head_is_read_with_the_bundle_and_is_part_of_what_the_model_is(tmp_path):
    alone = load(bundle(tmp_path)).card.sha256
    (tmp_path / "sequence.onnx").write_bytes(b"head")
    found = load(bundle(tmp_path, **with_head()))
    assert found.sequence == b"head"
    assert found.card.sha256 not in (alone, hashlib.sha256(b"head").hexdigest())


def test_a_file_that_the_manifest_does_not_name_is_no_head(tmp_path):
    (tmp_path / "sequence.onnx").write_bytes(b"head")
    assert load(bundle(tmp_path)).sequence is None


@pytest.mark.parametrize("content", [b"another head", None])
def test_a_sequence_head_that_is_not_the_manifests_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "sequence.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=r"SHA-256|cannot be read"):
        load(bundle(tmp_path, **with_head()))


def test_a_sequence_head_that_nothing_tests_is_refused(tmp_path):
    (tmp_path / "sequence.onnx").write_bytes(b"head")
    with pytest.raises(ModelError, match="self-test"):
        load(bundle(tmp_path, **with_head(sequence=None)))


def test_the_logits_of_a_sequence_head_count_for_the_study_and_for_nothing_else():
    logits, cam = np.full((4, 6), -1, np.float32), np.full((4, 6, 2, 2), -1, np.float32)
    model = Model(Manifest.model_validate(manifest(**with_head())), b"", b"head")
    said = model.predict(logits, cam, every(5, 4), np.full((4, 6), 2, np.float32))
    plain = model_of().predict(logits, cam, every(5, 4))
    assert said.study_probability == pytest.approx(1 / (1 + np.exp(-2.0)))
    assert np.array_equal(said.slice_probability, plain.slice_probability)
    assert np.array_equal(said.cam, plain.cam)


@pytest.mark.parametrize("head", [b"head", None])
def test_an_engine_that_runs_a_head_where_there_is_none_or_none_where_there_is_one_is_refused(head):
    logits, cam = np.zeros((2, 6), np.float32), np.zeros((2, 6, 2, 2), np.float32)
    changes = {} if head is None else with_head()
    model = Model(Manifest.model_validate(manifest(**changes)), b"", head)
    with pytest.raises(ModelError, match="do not agree"):
        model.predict(logits, cam, every(5, 2), None if head else logits)
