"""The fuzzer's short form; the long one is run by hand, see fuzz_receive.py."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import structlog
from fuzz_receive import Fuzz, drop_log_line, verify
from receive_bench import Receiver

CASES = int(os.environ.get("ICH_NODE_FUZZ_CASES", "2000"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("direct", "cases"), [(True, CASES), (False, CASES // 4)], ids=["direct", "ordinary"])
def test_no_bytes_stop_reception_or_lose_what_was_acknowledged(tmp_path: Path, direct: bool, cases: int) -> None:
    structlog.configure(processors=[drop_log_line])
    try:
        with Receiver(tmp_path, fast_path=direct, max_associations_per_peer=64) as receiver:
            fuzz = Fuzz(receiver.port, seed=20)
            fuzz.run(0, cases)
            verify(fuzz, receiver)
            assert len(fuzz.acknowledged) > cases // 20
    finally:
        structlog.reset_defaults()
