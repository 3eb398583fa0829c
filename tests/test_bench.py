"""`make bench` has something to run: benchmarks are not run with the tests, and must not be gone unnoticed."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_what_make_bench_runs_is_there():
    recipe = re.search(r"^bench:.*\n\t\$\(BIN\)/python (-m pytest .*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe
    command = [sys.executable, *shlex.split(recipe[1]), "--collect-only", "-q"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for module in (ROOT / "tests" / "benchmarks").glob("test_*.py"):
        assert f"{module.name}::" in found
