"""The man page and the completions of the shells, made from the parser: python -m tests.terminal_files.

tests/unit/commands/test_terminal_files.py looks whether every verb and option stands in them.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import shtab
from build_manpages.manpage import Manpage

from ich_node.commands import cli

FOLDER = Path(__file__).resolve().parent.parent / "terminal"
FILES = {"bash": "ich-node", "zsh": "_ich-node"}
"""Shell → the name under which its completion is looked for."""
SEE = """.SH FILES
.TP
/etc/ich_node/ich_node.yaml
the configuration; the sample explains every key
.TP
/var/lib/ich_node
images, results and ledger (store.state_dir)
.SH EXIT STATUS
0 success, 1 failure or something to look at, 3 not analysed (analyse), 78 a configuration error
"""


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    return cli.parser(cli.LEARNING)


def verbs(of: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Verb → its parser."""
    return next(dict(action.choices) for action in of._actions if isinstance(action, argparse._SubParsersAction))


def options(of: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """What a verb takes, but for --help."""
    return (action for action in of._actions if not isinstance(action, argparse._HelpAction))


def completion(shell: str) -> str:
    """The script of a shell; a path completes to files."""
    whole = parser()
    for one in verbs(whole).values():
        for action in options(one):
            if action.type is Path:
                action.complete = shtab.FILE
    return shtab.complete(whole, shell)


def man() -> str:
    """The page, section 1: what `ich-node VERB --help` says of every verb."""
    whole = parser()
    whole.man_short_description = "triage of intracranial hemorrhage on head CT, as a DICOM node"
    text = str(Manpage(whole, format="single-commands-section"))
    title, *rest = text.splitlines()
    assert title.startswith(".TH")
    return "\n".join(['.TH ICH\\-NODE 1 "" "ich_node" "ich_node"', *rest]) + "\n" + SEE


def main() -> None:
    """Write all of them."""
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "ich-node.1").write_text(man(), encoding="utf-8")
    for shell, name in FILES.items():
        (FOLDER / name).write_text(completion(shell), encoding="utf-8")
    print(FOLDER)


if __name__ == "__main__":
    main()
