"""The house keeps its walls: who may import whom, and which package belongs to which room."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "ich_node"
LEAVES = {
    "domain",
    "errors",
    "config",
    "logs",
    "service",
    "geometry",
    "eligibility",
    "vocabulary",
    "tls",
    "audit",
    "part10",
}
ROLES = {"receive", "infer", "deliver"}
COMMANDS = {"cli", "__main__", "demo", "check", "analyse", "supervise", "job_table", "training"}
WALLS = {
    "pynetdicom": {"receive", "deliver"},
    "onnxruntime": {"infer/engine.py"},
    "highdicom": {"report"},
    "sqlalchemy": {"store"},
    "alembic": {"store"},
    "torch": {"training"},
    "simpy": {"training"},
    "matplotlib": {"training"},
    "sklearn": {"training"},
}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Every dotted name that a module imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def rooms_imported(path: Path) -> set[str]:
    names = (name.split(".") for name in imports(path))
    return {parts[1] for parts in names if parts[0] == "ich_node" and len(parts) > 1 and parts[1] != "__version__"}


def allowed(home: str) -> set[str]:
    if home in COMMANDS:
        return {room(path) for path in modules()}
    common = LEAVES | {home}
    return {
        "receive": common | {"store"},
        "infer": common | {"store", "report"},
        "deliver": common | {"store"},
        "store": common,
        "report": common - {"logs"},
        "phantom": common,
    }.get(home, LEAVES)


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_one_way(path):
    assert rooms_imported(path) - {"__init__"} <= allowed(room(path))


@pytest.mark.parametrize("package", WALLS)
def test_a_third_party_package_stays_in_its_room(package):
    users = {str(p.relative_to(PACKAGE)) for p in modules() if any(n.split(".")[0] == package for n in imports(p))}
    outside = {user for user in users if not any(user == r or user.startswith(f"{r}/") for r in WALLS[package])}
    assert not outside


def test_receiving_does_not_load_the_inference_runtime():
    heavy = ("onnxruntime", "torch", "highdicom")
    code = f"import sys, ich_node.receive.role, ich_node.cli; print(*[m for m in {heavy} if m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == []
