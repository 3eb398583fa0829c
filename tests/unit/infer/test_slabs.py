"""Thin slices as slabs: what is averaged, what stays as it is, and that everything finds its way back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ich_node.domain.findings import Finding, KeySlice, Laterality, Peak, Prediction, Volume
from ich_node.infer import pipeline
from ich_node.infer.bundle import load
from ich_node.infer.engine import open_engine
from ich_node.infer.see.slabs import slabs_of
from ich_node.phantom import head, series
from ich_node.runtime import config

SHIPPED = Path(__file__).resolve().parents[3] / "onnx"


def volume_at(heights_mm, hu=None):
    """A volume of 16 × 16 pixels whose slices lie at these heights; by default, slice i has i HU everywhere."""
    count = len(heights_mm)
    if hu is None:
        hu = np.broadcast_to(np.arange(count)[:, None, None], (count, 16, 16))
    positions = np.zeros((count, 3))
    positions[:, 2] = heights_mm
    affine = np.eye(4)[[2, 1, 0, 3]] @ np.diag([float(np.median(np.diff(heights_mm))), 1, 1, 1])
    uids = tuple(f"1.2.{index}" for index in range(count))
    spacing = (float(np.median(np.diff(heights_mm))), 1.0, 1.0)
    return Volume(np.ascontiguousarray(hu, np.int16), spacing, affine, positions, uids, ())


@pytest.mark.parametrize("step_mm", [3.75, 5.0, 6.0])
def test_slices_as_thick_as_slabs_are_not_touched(step_mm):
    volume = volume_at(np.arange(12) * step_mm)
    assert slabs_of(volume).thick is volume


@pytest.mark.parametrize(("step_mm", "depth"), [(0.625, 8), (1.0, 5), (1.25, 4), (2.5, 2)])
def test_a_slab_is_the_mean_of_its_slices_at_their_mean_height(step_mm, depth):
    thick = slabs_of(volume_at(np.arange(40) * step_mm)).thick
    assert thick.hu[:, 0, 0].tolist() == np.rint(np.arange(40).reshape(-1, depth).mean(axis=1)).tolist()
    assert thick.heights_mm == pytest.approx(np.arange(40).reshape(-1, depth).mean(axis=1) * step_mm)
    assert thick.spacing_mm[0] == pytest.approx(5.0)


def test_a_series_that_is_thin_below_and_thick_above_has_slabs_below_and_its_own_slices_above():
    heights = np.concatenate([np.arange(0, 60, 1.25), np.arange(60, 140, 5)])
    slabs = slabs_of(volume_at(heights))
    alone = [len(slabs.slices(index)) for index in range(len(slabs.starts))]
    assert set(alone[:11]) == {4}
    assert alone[-14:] == [1] * 14
    assert np.all(np.abs(np.diff(slabs.thick.heights_mm) - 5) < 2)
    assert sum(alone) == len(heights)


def test_a_slab_reaches_across_no_gap():
    heights = np.concatenate([np.arange(0, 33, 1.0), np.arange(40, 80, 1.0)])
    slabs = slabs_of(volume_at(heights))
    assert all(np.ptp(heights[list(slabs.slices(index))]) < 6 for index in range(len(slabs.starts)))


def test_ranges_come_back_to_the_first_and_last_slice_and_the_peak_to_the_slice_with_the_blood():
    hu = np.full((40, 16, 16), 34)
    hu[22, 4:9, 6:11] = 70
    slabs = slabs_of(volume_at(np.arange(40) * 1.0, hu))
    peak = Peak(slabs.thick.sop_instance_uids[4], None, 4, 6, 8, (0.0, 0.0, 0.0))
    on_slabs = Finding("any", 0.9, True, Laterality.LEFT, (), 4, 6, peak, 20.0)
    (finding,) = slabs.findings_back([on_slabs])
    assert (finding.first_slice, finding.last_slice) == (16, 30)
    assert (finding.peak.slice_index, finding.peak.sop_instance_uid) == (22, "1.2.22")
    assert finding.peak.position_mm == (8.0, 6.0, 22.0)
    heat = np.zeros((16, 16), np.float32)
    keys = slabs.key_slices_back([KeySlice(4, "any", heat), KeySlice(1, "any", heat)], [finding])
    assert [key.slice_index for key in keys] == [22, 7]


def test_without_blood_the_peak_is_on_the_middle_of_its_slab():
    slabs = slabs_of(volume_at(np.arange(40) * 1.0, np.full((40, 16, 16), 30)))
    peak = Peak("", None, 2, 6, 8, (0.0, 0.0, 0.0))
    assert slabs.findings_back([Finding("any", 0.9, True, peak=peak)])[0].peak.slice_index == 12


def test_probabilities_run_straight_between_the_centres_of_slabs():
    slabs = slabs_of(volume_at(np.arange(20) * 1.0))
    of_slabs = np.array([0.0, 0.5, 1.0, 0.0], np.float32)
    cam = np.broadcast_to(of_slabs[:, None, None, None], (4, 6, 2, 2))
    said = Prediction(np.repeat(of_slabs[:, None], 6, axis=1), np.full(6, 0.7, np.float32), cam)
    back = slabs.prediction_back(said)
    assert back.slice_probability[:, 0].tolist() == pytest.approx(np.interp(np.arange(20), [2, 7, 12, 17], of_slabs))
    assert back.cam.shape == (20, 6, 2, 2)
    assert np.array_equal(back.cam[:, 3, 1, 1], back.slice_probability[:, 3])
    assert back.study_probability is said.study_probability


def test_thin_and_thick_slices_of_one_head_say_the_same(tmp_path):
    model = load(SHIPPED)
    engine = open_engine(config.InferConfig(provider="cpu"), model)
    made = head.phantom("subdural", slices=128, rows=192, columns=192, seed=5)
    shifted = made.hu[2:126].reshape(31, 4, 192, 192).mean(axis=1)  # 5 mm, but not where the slabs will be
    pixel_mm = made.spacing_mm[1:]
    of_5_mm = head.Phantom(np.rint(shifted).astype(np.int16), made.mask, (5.0, *pixel_mm), made.truth)
    said = {}
    for name, phantom in (("thin", made), ("thick", of_5_mm)):
        paths = series.write_series(tmp_path / name, phantom, seed=5)
        said[name] = pipeline.analyse(paths, model, engine, config.Config())
    thick, thin = said["thick"].finding("any"), said["thin"].finding("any")
    assert thin.probability == pytest.approx(thick.probability, abs=0.05)
    assert (thin.laterality, thin.sites) == (thick.laterality, thick.sites)
    assert (thin.first_slice / 4, thin.last_slice / 4) == pytest.approx((thick.first_slice, thick.last_slice), abs=1.5)
    assert np.abs(np.subtract(thin.peak.position_mm, thick.peak.position_mm)).max() < 20
    assert len(said["thin"].prediction.slice_probability) == 128
    uid = said["thin"].volume.sop_instance_uids[thin.peak.slice_index]
    assert thin.peak.sop_instance_uid == uid
