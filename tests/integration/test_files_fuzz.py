"""The short form of fuzz_files.py; `make fuzz` runs the long one."""

from __future__ import annotations

from pathlib import Path

import pytest
import structlog
from fuzz_files import FuzzFiles
from fuzz_receive import drop_log_line


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
