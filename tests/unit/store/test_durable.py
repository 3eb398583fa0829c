"""What the durable writes leave behind, and the order in which they force it to disk."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ich_node.store import durable
from ich_node.store.layout import StateDir


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that were forced to disk, in order."""
    folders: list[Path] = []
    monkeypatch.setattr(durable, "sync_directory", folders.append)
    return folders


def test_every_folder_above_a_new_one_is_forced_to_disk(tmp_path: Path, synced: list[Path]) -> None:
    durable.make_directory(tmp_path / "a" / "b" / "c")
    assert {tmp_path, tmp_path / "a", tmp_path / "a" / "b"} <= set(synced)


def test_the_name_of_a_folder_that_is_there_already_is_forced_to_disk_all_the_same(
    tmp_path: Path, synced: list[Path]
) -> None:
    (tmp_path / "a").mkdir()  # by a process that was killed before it could do that
    durable.make_directory(tmp_path / "a")
    assert synced == [tmp_path]


def test_the_state_directory_is_durable_with_all_that_stands_above_it(tmp_path: Path, synced: list[Path]) -> None:
    state = StateDir(tmp_path / "srv" / "node")
    state.make()
    assert {tmp_path, tmp_path / "srv", state.root} <= set(synced)
    assert state.incoming.is_dir()
    assert (state.root.stat().st_mode & 0o777) == 0o750


def test_a_file_in_the_way_of_a_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    with pytest.raises(OSError, match="a"):
        durable.make_directory(tmp_path / "a" / "b")


def test_a_small_file_is_replaced_as_a_whole(tmp_path: Path, synced: list[Path]) -> None:
    path = tmp_path / "note.json"
    path.write_bytes(b"old")
    durable.replace_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["note.json"]
    assert synced == [tmp_path]


def test_a_full_disk_leaves_the_old_version_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "note.json"
    path.write_bytes(b"old")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "writev", full)
    with pytest.raises(OSError, match="full"):
        durable.replace_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(("above", "expected"), [(0o750, 0o750), (0o770, 0o770)], ids=["one account", "a group"])
def test_the_group_may_remove_what_lies_in_a_folder_that_it_writes(tmp_path: Path, above: int, expected: int) -> None:
    tmp_path.chmod(above)
    before = os.umask(0o027)
    try:
        durable.make_shared(tmp_path / "made")
    finally:
        os.umask(before)
    assert (tmp_path / "made").stat().st_mode & 0o777 == expected
