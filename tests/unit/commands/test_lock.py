"""The lock files: every package that an installation or an image brings, in one version, with its hashes."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[3]


LOCKS = {
    "config/requirements.lock": [],
    "packaging/container.lock": ["postgresql", "triton"],
    "packaging/container-cuda.lock": ["postgresql", "triton", "cuda"],
}
"""Each with the extras that it brings."""
LINUX = {"sys_platform": "linux", "platform_machine": "x86_64"}  # what an image is for


def locked(path: str) -> list[tuple[Requirement, list[str]]]:
    """Each pinned requirement with its hashes."""
    text = (ROOT / path).read_text().replace("\\\n", " ")
    lines = [line.split("--hash=") for line in text.splitlines() if line and not line.startswith("#")]
    return [(Requirement(first), [each.strip() for each in hashes]) for first, *hashes in lines]


@pytest.mark.parametrize("path", LOCKS)
def test_every_dependency_is_pinned_to_a_version_that_it_allows(path: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [requirement for extra in LOCKS[path] for requirement in project["optional-dependencies"][extra]]
    pinned = [one for one, _ in locked(path)]
    for requirement in map(Requirement, [*project["dependencies"], *extras]):
        if path != "config/requirements.lock" and requirement.marker and not requirement.marker.evaluate(LINUX):
            continue
        versions = [
            next(iter(one.specifier)).version
            for one in pinned
            if canonicalize_name(one.name) == canonicalize_name(requirement.name)
        ]
        assert versions, f"run make lock: {requirement}"
        assert all(requirement.specifier.contains(version) for version in versions), f"run make lock: {requirement}"


@pytest.mark.parametrize("path", LOCKS)
def test_every_pin_has_hashes_and_names_no_other_place_to_get_it_from(path: str) -> None:
    for requirement, hashes in locked(path):
        assert [one.operator for one in requirement.specifier] == ["=="], requirement
        assert requirement.url is None
        assert hashes and all(re.fullmatch(r"sha256:[0-9a-f]{64}", each) for each in hashes), requirement
