"""Bells: heard by all who listen, never in the way of who rings."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ich_node.runtime.wake import Bell

LONG_S = 30.0  # a wait that is over at once when the bell works


@pytest.fixture
def bell(tmp_path: Path) -> Bell:
    return Bell(tmp_path / "bells" / "queue")


def test_a_ring_before_the_wait_is_heard_once(bell: Bell) -> None:
    with bell.listen() as ear:
        bell.ring()
        bell.ring()
        assert ear.wait(LONG_S)
        assert not ear.wait(0)


def test_everybody_who_listens_is_woken(bell: Bell) -> None:
    with bell.listen() as one, bell.listen() as other:
        bell.ring()
        assert one.wait(LONG_S)
        assert other.wait(LONG_S)


def test_a_wait_under_way_ends_at_the_ring(bell: Bell) -> None:
    with bell.listen() as ear:
        threading.Timer(0.05, bell.ring).start()
        assert ear.wait(LONG_S)


def test_another_process_is_heard(bell: Bell, tmp_path: Path) -> None:
    code = "import sys, pathlib; from ich_node.runtime.wake import Bell; Bell(pathlib.Path(sys.argv[1])).ring()"
    with bell.listen() as ear:
        subprocess.run([sys.executable, "-c", code, str(tmp_path / "bells" / "queue")], check=True)
        assert ear.wait(LONG_S)


def test_who_rings_needs_nobody_who_listens(bell: Bell, tmp_path: Path) -> None:
    bell.ring()
    (tmp_path / "bells").write_text("in the way")
    bell.ring()


def test_a_listener_that_was_killed_is_forgotten_at_the_next_ring(bell: Bell, tmp_path: Path) -> None:
    code = (
        "import os, sys, pathlib; from ich_node.runtime.wake import Bell\n"
        "with Bell(pathlib.Path(sys.argv[1])).listen(): os._exit(9)"
    )
    folder = tmp_path / "bells" / "queue"
    subprocess.run([sys.executable, "-c", code, str(folder)], check=False)
    assert len(list(folder.iterdir())) == 1
    with bell.listen() as ear:
        bell.ring()
        assert ear.wait(LONG_S)
        assert len(list(folder.iterdir())) == 1
    assert list(folder.iterdir()) == []


def test_a_bell_that_is_rung_all_day_and_never_heard_blocks_nobody(bell: Bell) -> None:
    with bell.listen() as ear:
        for _ in range(2000):
            bell.ring()
        assert ear.wait(LONG_S)


def test_a_folder_with_a_long_name_is_no_trouble(tmp_path: Path) -> None:
    bell = Bell(tmp_path / ("long" * 30) / ("longer" * 20))
    with bell.listen() as ear:
        bell.ring()
        assert ear.wait(LONG_S)


def test_without_a_place_for_the_socket_there_are_polls(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with Bell(tmp_path / "file" / "bell").listen() as ear:
        assert not ear.wait(0.01)


@pytest.mark.parametrize(("folder", "expected"), [(0o750, 0o750), (0o770, 0o770)], ids=["one account", "a group"])
def test_the_group_may_ring_where_it_writes_the_folder_whatever_the_umask(
    tmp_path: Path, folder: int, expected: int
) -> None:
    tmp_path.chmod(folder)
    before = os.umask(0o027)
    try:
        with Bell(tmp_path).listen():
            (ear,) = tmp_path.iterdir()
            assert ear.stat().st_mode & 0o777 == expected
    finally:
        os.umask(before)
