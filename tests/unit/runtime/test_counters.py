"""Counters of a role: written so that another process reads them whole, and never a reason for trouble."""

from __future__ import annotations

import json
import threading

from ich_node.runtime.counters import BOUNDS_S, Counters, Histogram, read


def test_what_is_saved_is_read(tmp_path):
    counters = Counters()
    counters.add("instances", "image", 3)
    counters.add("instances", "image")
    counters.observe("wait", "stack", 0.2)
    counters.save(tmp_path / "c")
    found = read(tmp_path / "c")
    assert (found.counts, found.spans) == (counters.counts, counters.spans)
    assert abs(found.saved_at - (tmp_path / "c").stat().st_mtime) < 1


def test_between_two_moments_nothing_is_written_unless_it_must_be(tmp_path):
    counters = Counters()
    counters.save(tmp_path / "c")
    counters.add("instances")
    counters.save(tmp_path / "c")
    assert read(tmp_path / "c").counts == {}
    counters.save(tmp_path / "c", now=True)
    assert read(tmp_path / "c").counts == {("instances", ""): 1}


def test_buckets_grow_to_the_number_of_all():
    span = Histogram()
    for seconds in (0.0, BOUNDS_S[0], BOUNDS_S[0] * 1.01, 1e9):
        span.observe(seconds)
    buckets = dict(span.buckets())
    assert (buckets[str(BOUNDS_S[0])], buckets[str(BOUNDS_S[1])], buckets["600.0"], buckets["+Inf"]) == (2, 3, 3, 4)


def test_what_cannot_be_read_or_written_is_nothing(tmp_path):
    assert read(tmp_path / "nowhere") is None
    for text in ("", "[]", "{}", '{"counts": [[1]], "spans": []}', '{"counts": {"a": 1}, "spans": 3}'):
        (tmp_path / "c").write_text(text)
        assert read(tmp_path / "c") is None
    (tmp_path / "c").write_text(json.dumps({"counts": [], "spans": [["wait", "stack", [1, 2], 3.0]]}))
    assert read(tmp_path / "c").spans == {}, "of a version with other bounds"
    Counters().save(tmp_path / "no folder" / "c", now=True)


def test_threads_lose_no_count():
    counters = Counters()
    threads = [threading.Thread(target=lambda: [counters.add("n") for _ in range(5000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counters.counts == {("n", ""): 20000}
