"""What the largest honest series take of the budgets that bound hostile ones: headers, questions, frames.

Printed, not judged: CPU seconds of this machine, and what is left of each budget on one that is three times as slow.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset

from ich_node.domain.dicom import AETitle, Peer
from ich_node.infer.see import cage
from ich_node.infer.see.decoder import Question
from ich_node.phantom import series
from ich_node.phantom.enhanced import build_enhanced
from ich_node.receive.judge import Judge
from ich_node.receive.judging import PATIENT_S, QUICK_S
from ich_node.receive.reading import IMAGE_S, SPARE_S
from ich_node.store.spool import Spool
from tests.datasets import encoded

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "integration"))

from fuzz_decoders import FuzzDecoders

ADDRESS, SLOWER, FRAMES = "10.0.0.1", 3, 10


def _put(spool: Spool, made: list[Dataset]) -> str:
    for ds in made:
        spool.put(
            series_uid=ds.SeriesInstanceUID,
            sop_instance_uid=ds.SOPInstanceUID,
            sop_class_uid=ds.SOPClassUID,
            transfer_syntax_uid="1.2.840.10008.1.2.1",
            parts=[encoded(ds)],
            sender=Peer(AETitle("CT1"), ADDRESS),
        )
    return str(made[0].SeriesInstanceUID)


@pytest.mark.parametrize(("kind", "count"), [("slices", 2000), ("frames", 1000), ("frames", 2000)])
def test_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, count: int) -> None:
    for sync in ("os.fsync", "os.fdatasync"):  # nothing here outlives the test, and 2,000 files take minutes
        monkeypatch.setattr(sync, lambda _: None)
    volume: Any = SimpleNamespace(hu=np.zeros((count, 48, 48), np.int16), spacing_mm=(150 / count, 4.8, 4.8))
    spool = Spool(tmp_path, 1)
    uid = _put(spool, series.build_series(volume) if kind == "slices" else [build_enhanced(volume)])
    judge, asked, longest = Judge(), {"folder": str(spool.directory(uid)), "urgent": {}}, 0.0

    def ask(**question: Any) -> dict[str, Any]:
        nonlocal longest
        began = time.process_time()
        answer = judge.answer({**asked, **question})
        longest = max(longest, time.process_time() - began)
        return answer

    ask(do="look")
    while (read := ask(do="read", addresses=[ADDRESS]))["more"]:
        pass
    (found,) = ask(do="judge", addresses=[ADDRESS], refused=[])["sets"]
    budget = SPARE_S + IMAGE_S * (count if kind == "slices" else 1)
    print(
        f"\n{count} {kind}: reading {read['cost']:.2f} of {budget:.0f} CPU s, longest question {longest:.2f} of "
        f"{QUICK_S:.0f} and {PATIENT_S:.0f}; {SLOWER} times as slow: {SLOWER * read['cost']:.1f} and "
        f"{SLOWER * longest:.1f}"
    )
    assert found["verdict"] == "Eligible"


def test_frames(tmp_path: Path) -> None:
    fuzz = FuzzDecoders(tmp_path, seed=1, edge=512, noise=8.0)
    one = cage.Cage(1)
    for syntax, frame in fuzz.frames.items():
        bits = fuzz.bits(syntax)
        asked = Question(
            syntax=str(syntax),
            rows=512,
            columns=512,
            allocated=8 if bits == 8 else 16,
            stored=bits,
            signed=False,
            length=len(frame),
            cpu_s=cage.cpu_s(frame, 512 * 512),
        )
        one.decode(asked, frame, cage.Budget())
        child = one._idle.get()
        one._idle.put(child)
        before = child.cpu_s
        for _ in range(FRAMES):
            one.decode(asked, frame, cage.Budget())
        cost = (child.cpu_s - before) / FRAMES
        gained = cage.HONEST_SHARE * (asked["cpu_s"] - cage.BASE_S)
        print(
            f"\n{syntax}: {1e3 * cost:.1f} ms of {1e3 * asked['cpu_s']:.0f} a frame, which the budget grows by "
            f"{1e3 * gained:.0f}; {SLOWER} times as slow, 1,500 frames: {1500 * (gained - SLOWER * cost):+.0f} s"
        )
    one.close()
