"""What the documentation says is what the code does."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from ich_node.commands import cli
from ich_node.runtime import config
from tests import documents

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "config" / "ich_node.yaml"


def keys(section: type[BaseModel], path: str = "") -> list[tuple[str, str, str]]:
    """(key path, name, description) of every key of the configuration, nested ones too."""
    found = []
    for name, field in section.model_fields.items():
        if field.description:
            found.append((f"{path}{name}", name, field.description))
        inner = config._section(field.annotation)
        if inner:
            found += keys(inner, f"{path}{name}.")
    return found


@pytest.mark.parametrize(("path", "name", "description"), keys(config.Config), ids=lambda value: value)
def test_the_sample_configuration_explains_every_key(path, name, description):
    explained = [line for line in SAMPLE.read_text().splitlines() if f"{name}:" in line and "#" in line]
    if path.startswith("deliver.") and ".tls." in path:  # same keys as in receive.tls, said so there
        assert any("keys as in receive.tls" in line for line in SAMPLE.read_text().splitlines())
    else:
        assert any(description in line for line in explained)


def test_the_sample_configuration_shows_the_defaults():
    assert config.load(SAMPLE) == config.Config()


def verbs() -> list[str]:
    parser = cli.parser([])
    action = next(a for a in parser._actions if getattr(a, "choices", None) and "run" in a.choices)
    return sorted(action.choices)


@pytest.mark.parametrize("verb", verbs())
def test_every_verb_is_documented(verb):
    texts = [path.read_text() for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]]
    assert any(f"ich-node {verb}" in text for text in texts)


@pytest.mark.parametrize("path", documents.DOCUMENTS, ids=lambda path: path.name)
def test_the_made_parts_of_a_document_are_as_the_code_says(path):
    text = path.read_text(encoding="utf-8")
    assert text == documents.made_anew(text), "run make docs"


def test_every_table_that_is_made_stands_in_a_document():
    used = {part[2] for path in documents.DOCUMENTS for part in documents.MADE.finditer(path.read_text())}
    assert used == set(documents.TABLES)
