"""What commands write: never through a link, and nothing that others can read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ich_node.commands import demo, output
from ich_node.domain.errors import IchNodeError


def test_a_file_that_is_a_link_is_replaced_and_what_it_leads_to_stays(tmp_path: Path) -> None:
    victim, folder = tmp_path / "victim", tmp_path / "out"
    victim.write_text("kept")
    folder.mkdir()
    for name in ("result.json", "result.json.part"):
        (folder / name).symlink_to(victim)
    output.write(folder, {"result.json": b"{}"})
    assert victim.read_text() == "kept"
    assert not (folder / "result.json").is_symlink()
    assert (folder / "result.json").read_bytes() == b"{}"


@pytest.mark.parametrize("exists", [True, False])
def test_a_folder_that_is_a_link_is_refused(tmp_path: Path, exists: bool) -> None:
    if exists:
        (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(IchNodeError, match="is a link"):
        output.write(tmp_path / "out", {"report.txt": b""})
    with pytest.raises(IchNodeError, match="is a link"):
        demo.run(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir() if path.is_dir() and any(path.iterdir())] == []


def test_nothing_that_the_node_writes_is_readable_by_others_whoever_starts_it(tmp_path: Path) -> None:
    config = tmp_path / "node.yaml"
    config.write_text("store: {state_dir: state, min_free_gb: 0.001}\n")
    code = "import os, sys; os.umask(0); from ich_node.commands.cli import main; sys.exit(main(sys.argv[1:]))"
    words = ["retention", "--config", str(config)]
    subprocess.run([sys.executable, "-c", code, *words], check=True, cwd=tmp_path, stdout=subprocess.DEVNULL)
    written = [path for path in tmp_path.rglob("*") if path != config]
    assert tmp_path / "state" / "node.db" in written
    assert [path for path in written if path.stat().st_mode & 0o007] == []
