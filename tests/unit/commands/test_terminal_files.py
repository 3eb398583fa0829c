"""The man page and the completions say what the parser says; a real bash completes."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests import terminal_files
from tests.terminal_files import FILES, FOLDER


def words() -> list[str]:
    """Every verb, and every option of every verb."""
    found = []
    for name, parser in terminal_files.verbs(terminal_files.parser()).items():
        found.append(name)
        found += [text for action in terminal_files.options(parser) for text in action.option_strings]
    return found


@pytest.mark.parametrize("name", ["ich-node.1", *FILES.values()])
def test_every_verb_and_option_stands_in_the_file(name):
    text = (FOLDER / name).read_text(encoding="utf-8").replace("\\-", "-")
    assert [word for word in words() if word not in text] == [], "run make man"


def test_the_man_page_has_no_flaw():
    if shutil.which("groff") is None:
        pytest.skip("needs groff")
    command = ["groff", "-man", "-Tutf8", "-ww", "-z", str(FOLDER / "ich-node.1")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("typed", "completed"),
    [("re", {"receive", "replay", "report", "retention"}), ("jobs res", {"resend"}), ("board --ro", {"--role"})],
)
def test_bash_completes(typed, completed):
    line = ["ich-node", *typed.split(" ")]
    ask = (
        f"source {FOLDER}/ich-node; COMP_WORDS=({' '.join(line)}); COMP_CWORD={len(line) - 1}; "
        'f=$(complete -p ich-node | sed "s/.*-F \\([^ ]*\\) .*/\\1/"); $f; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=True, timeout=30)
    assert set(done.stdout.split()) == completed
