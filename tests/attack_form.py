"""Attack tests come in two forms: short in every run, long by `make attack`."""

from __future__ import annotations

import os


def form(*, short: int, long: int) -> int:
    """How many cases, seconds or connections a test takes in the form at hand."""
    return long if os.environ.get("ICH_NODE_ATTACK") == "long" else short
