"""What `pip install` gives: a wheel alone, in an environment of its own, runs the demo."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUNDLE = {"onnx/ich.onnx", "onnx/ich.yaml"}


def run(*command: str | Path, cwd: Path) -> str:
    bare = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, env=bare, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(600)
def test_a_wheel_in_an_environment_of_its_own_runs_the_demo(tmp_path):
    source = tmp_path / "source"  # setuptools writes beside what it builds
    run("git", "clone", "--quiet", "--depth", "1", f"file://{ROOT}", source, cwd=tmp_path)
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, source, cwd=tmp_path)
    wheel = next(tmp_path.glob("*.whl"))
    # the packages that it depends on come from this environment; the package itself from the wheel alone
    home = tmp_path / "environment"
    venv.EnvBuilder(with_pip=True).create(home)
    here = next(path for path in sys.path if path.endswith("site-packages"))
    (next(home.glob("lib/python*/site-packages")) / "borrowed.pth").write_text(f"{here}\n")
    run(home / "bin" / "pip", "install", "--quiet", "--no-deps", "--ignore-installed", wheel, cwd=tmp_path)
    where = run(home / "bin" / "python", "-c", "import ich_node; print(ich_node.__file__)", cwd=tmp_path)
    assert where.startswith(str(home))
    assert all((home / "share" / "ich_node" / name).is_file() for name in BUNDLE)
    run(home / "bin" / "ich-node", "demo", "--out", "out", cwd=tmp_path)
    assert list((tmp_path / "out").rglob("result.json"))
