"""The house keeps its walls: who may import whom, and which package belongs to which room.

A room is a folder of ich_node/. It imports rooms of lower floors only, so that nothing runs in a circle.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "ich_node"
FLOORS = (
    {"domain"},
    {"dicom"},
    {"runtime"},
    {"store", "report", "phantom"},
    {"receive", "infer", "deliver"},
    {"training", "board"},
    {"commands"},
)
WALLS = {
    "pynetdicom": {"receive", "dicom/pynetdicom_3_0.py"},
    "onnxruntime": {"infer/engine/ort.py"},
    "highdicom": {"report"},
    "sqlalchemy": {"store/ledger"},
    "alembic": {"store/ledger"},
    "starlette": {"board"},
    "uvicorn": {"board"},
    "prometheus_client": {"board"},
    "torch": {"training"},
    "simpy": {"training"},
    "matplotlib": {"training"},
    "sklearn": {"training"},
}


def modules() -> list[Path]:
    """Every module that lies in a room; __init__.py and __main__.py of the package itself do not."""
    return sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE)


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
    return path.relative_to(PACKAGE).parts[0]


def rooms_imported(path: Path) -> set[str]:
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir()}
    names = (name.split(".") for name in imports(path))
    return {parts[1] for parts in names if parts[0] == "ich_node" and len(parts) > 1} & rooms


def floor(name: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if name in rooms)


def test_every_module_lies_in_a_room_that_has_a_floor():
    assert {room(path) for path in modules()} <= set().union(*FLOORS)
    assert {path.name for path in PACKAGE.glob("*.py")} == {"__init__.py", "__main__.py"}


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down(path):
    home = room(path)
    assert {name for name in rooms_imported(path) - {home} if floor(name) >= floor(home)} == set()


@pytest.mark.parametrize("package", WALLS)
def test_a_third_party_package_stays_in_its_room(package):
    users = {str(p.relative_to(PACKAGE)) for p in modules() if any(n.split(".")[0] == package for n in imports(p))}
    outside = {user for user in users if not any(user == r or user.startswith(f"{r}/") for r in WALLS[package])}
    assert not outside


def test_receiving_does_not_load_the_inference_runtime():
    heavy = ("onnxruntime", "torch", "highdicom")
    code = f"import sys, ich_node.receive.role, ich_node.commands.cli; print(*[m for m in {heavy} if m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == []
