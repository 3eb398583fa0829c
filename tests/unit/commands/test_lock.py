"""The lock file: every package that an installation brings, in one version, with its hashes."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[3]


def locked() -> list[tuple[Requirement, list[str]]]:
    """Each pinned requirement with its hashes."""
    text = (ROOT / "config/requirements.lock").read_text().replace("\\\n", " ")
    lines = [line.split("--hash=") for line in text.splitlines() if line and not line.startswith("#")]
    return [(Requirement(first), [each.strip() for each in hashes]) for first, *hashes in lines]


def test_every_dependency_is_pinned_to_a_version_that_it_allows() -> None:
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    pinned = [one for one, _ in locked()]
    for requirement in map(Requirement, wanted):
        versions = [
            next(iter(one.specifier)).version
            for one in pinned
            if canonicalize_name(one.name) == canonicalize_name(requirement.name)
        ]
        assert versions, f"run make lock: {requirement}"
        assert all(requirement.specifier.contains(version) for version in versions), f"run make lock: {requirement}"


def test_every_pin_has_hashes_and_names_no_other_place_to_get_it_from() -> None:
    for requirement, hashes in locked():
        assert [one.operator for one in requirement.specifier] == ["=="], requirement
        assert requirement.url is None
        assert hashes and all(re.fullmatch(r"sha256:[0-9a-f]{64}", each) for each in hashes), requirement
