"""The short form of fuzz_files.py; `make fuzz` runs the long one."""

from __future__ import annotations

from pathlib import Path

import pytest
import structlog
from fuzz_decoders import KINDS, FuzzDecoders, Watched
from fuzz_files import FuzzFiles
from fuzz_receive import drop_log_line

from ich_node.infer.see import cage


@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("part", "cases", "common"),
    [("header", 200, "identified"), ("series", 25, ": analysed")],
    ids=["header", "series"],
)
def test_no_file_stops_the_header_scan_or_the_way_to_results(
    tmp_path: Path, part: str, cases: int, common: str
) -> None:
    structlog.configure(processors=[drop_log_line])
    try:
        fuzz = FuzzFiles(tmp_path, seed=20, part=part)
        fuzz.run(0, cases)
    finally:
        structlog.reset_defaults()
    assert fuzz.outcomes.total() == cases
    assert any(common in outcome for outcome in fuzz.outcomes)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(1800)
def test_no_compressed_image_costs_a_decoder_more_than_its_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = cage.Cage(1)
    monkeypatch.setattr(cage, "Child", Watched)
    monkeypatch.setattr(cage, "shared", lambda: one)
    fuzz = FuzzDecoders(tmp_path, seed=20)
    try:
        fuzz.run(0, 150)
    finally:
        one.close()
    assert fuzz.outcomes.total() == 150
    assert {outcome.split(":")[0] for outcome in fuzz.outcomes} == set(KINDS)
    assert any(outcome.endswith(": decoded") for outcome in fuzz.outcomes)
