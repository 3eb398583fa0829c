"""Fixtures of the receiver's tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ich_node.receive import assembler as assembler_module
from tests.unit.receive.reception_node import Node


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine one tick might not get to the end."""
    monkeypatch.setattr(assembler_module, "SLICE_S", 60.0)


@pytest.fixture
def make_node(tmp_path: Path) -> Callable[..., Node]:
    return lambda **changes: Node(tmp_path, **changes)


@pytest.fixture
def node(make_node: Callable[..., Node]) -> Node:
    return make_node()
