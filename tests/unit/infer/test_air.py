"""Where there is no head: when a stack has ended, and which images that come late change nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from ich_node.infer import air
from ich_node.phantom import series
from tests.analysis_builder import make_analysis

BALL = np.hypot(*np.mgrid[-32:32, -32:32])


@pytest.mark.parametrize("radius_mm", [86, 87.5, 88.5, 90])
def test_a_head_has_ended_only_where_a_slice_above_the_uppermost_one_would_miss_it(radius_mm):
    """A ball in steps of 5 mm, up to its end, on a holder."""
    heights = np.arange(-60, 91, 5.0)
    row, column = np.mgrid[-100:101, -100:101]
    hu = [np.where(row**2 + column**2 < radius_mm**2 - z**2, 40, -1000).astype(np.int16) for z in heights]
    for image in hu:
        image[195:, 60:140] = 0
    for index, height in enumerate(heights):
        ended = air.ends_above_the_head(SimpleNamespace(hu=hu[: index + 1]))
        assert not (ended and height + 5 < radius_mm)
    assert ended


@pytest.fixture
def scan(tmp_path):
    """scan(head, air): a folder of so many slices with a head, air above on a holder; paths, and the early answer."""

    def make(head, above, *, gap=0):
        radii = [*([24] * head), *([0] * above)]
        hu = np.stack([np.where(radius > BALL, 40, -1000) for radius in radii]).astype(np.int16)
        hu[:, 61:, 20:44] = 0
        heights = [5.0 * (index + gap * (index >= head)) for index in range(len(hu))]
        datasets = series.build_series(SimpleNamespace(hu=hu, spacing_mm=(5.0, 3.0, 3.0)), positions_mm=heights)
        paths = [tmp_path / f"{index}.dcm" for index in range(len(hu))]
        for path, dataset in zip(paths, datasets, strict=True):
            dataset.save_as(path, enforce_file_format=True)
        said = tmp_path / "result.json"
        uids = [str(dataset.SOPInstanceUID) for dataset in datasets[:head]]
        said.write_text(json.dumps({"slices": [{"sop_instance_uid": uid} for uid in uids]}))
        volume = SimpleNamespace(hu=hu, sop_instance_uids=tuple(str(each.SOPInstanceUID) for each in datasets))
        return paths, said, volume

    return make


@pytest.mark.parametrize("analysed", [True, False])
@pytest.mark.parametrize(("head", "late_head", "late_air", "nothing"), [(8, 0, 3, True), (8, 1, 2, False)])
def test_what_comes_late_adds_nothing_when_it_shows_air(scan, analysed, head, late_head, late_air, nothing):
    paths, said, volume = scan(head + late_head, late_air)
    entries = json.loads(said.read_text())["slices"][:head]
    said.write_text(json.dumps({"slices": entries}))
    analysis = replace(make_analysis("not_analysed"), volume=volume if analysed else None)
    assert air.adds_no_head(analysis, paths, said) is nothing


def test_in_doubt_a_series_is_answered_again(scan):
    paths, said, volume = scan(8, 3)
    fewer = SimpleNamespace(hu=volume.hu[1:], sop_instance_uids=volume.sop_instance_uids[1:])
    analysis = make_analysis("not_analysed")
    assert not air.adds_no_head(replace(analysis, volume=fewer), paths, said)  # another choice among the images
    paths[-1].write_bytes(b"no image")
    assert not air.adds_no_head(analysis, paths, said)  # what cannot be read might show a head
    said.write_text("{}")
    assert not air.adds_no_head(replace(analysis, volume=volume), paths, said)
