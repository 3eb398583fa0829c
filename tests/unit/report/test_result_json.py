"""result.json: what docs/result-json.md says, and nothing that JSON cannot hold."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ich_node.domain.findings import LABELS
from ich_node.report import result_json
from tests.analysis_builder import make_analysis

DOCS = Path(__file__).resolve().parents[3] / "docs" / "result-json.md"


@pytest.fixture(scope="module")
def positive():
    return result_json.as_dict(
        make_analysis("positive", slices=12, rows=256, columns=256, pixel_mm=(0.9, 0.9)), [("1.1", "9.1")]
    )


def test_a_result_names_all_six_labels_in_order(positive):
    assert [finding["label"] for finding in positive["findings"]] == list(LABELS)
    assert all(list(item["probabilities"]) == list(LABELS) for item in positive["slices"])


def test_the_file_reads_back_as_it_was(positive):
    assert json.loads(result_json.encode(positive)) == positive


def test_a_number_that_is_none_is_refused(positive):
    with pytest.raises(ValueError, match="not JSON compliant"):
        result_json.encode({**positive, "priority": float("nan")})


def test_a_series_that_was_not_analysed_has_a_reason_and_no_findings():
    result = result_json.as_dict(make_analysis("not_analysed", slices=12, rows=256, columns=256, pixel_mm=(0.9, 0.9)))
    assert result["status"] == "not_analysed"
    assert result["reason"]
    assert (result["findings"], result["slices"], result["priority"]) == ([], [], None)


def test_every_key_is_documented(positive):
    named = set(re.findall(r"`([a-z_]+)`", DOCS.read_text()))
    keys = set(positive) | set(positive["findings"][0]) | set(positive["slices"][0])
    assert keys <= named


def test_the_objects_stand_in_the_order_of_delivery(positive):
    assert positive["objects"] == [{"sop_class_uid": "1.1", "sop_instance_uid": "9.1"}]
