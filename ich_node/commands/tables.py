"""Tables for people and lines for programs: fitted to the terminal (80 columns are enough), tab-separated in a pipe.

What a stranger wrote is shown without what a terminal would obey.
"""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Collection, Iterable, Sequence
from itertools import zip_longest

GAP = 2  # blanks between columns
TAIL = 12  # characters of a UID that tell it from its neighbours
FEW = 3  # columns that leave the last one room enough
NARROWEST = 40  # columns of a terminal that says that it has fewer


def show(head: Sequence[str], rows: Iterable[Sequence[object]], shorten: Collection[str] = ()) -> None:
    """Print rows under `head`. shorten: columns of UIDs, of which a terminal that is too narrow shows the end.

    Where it is still too narrow the last column, which is for sentences, has lines of its own.
    """
    cells = [[clean("" if value is None else str(value)) for value in row] for row in rows]
    if not sys.stdout.isatty():
        for line in cells:
            print("\t".join(line))
        return
    width = max(NARROWEST, shutil.get_terminal_size((80, 24)).columns)
    if _needed(_widths(head, cells)) > width:
        for column in (column for column, name in enumerate(head) if name in shorten):
            for line in cells:
                line[column] = f"…{line[column][-TAIL:]}" if len(line[column]) > TAIL else line[column]
    widths = _widths(head, cells)
    below = len(head) > FEW and _needed(widths) > width and widths[-1] > width // 3
    widths = _fitted(widths[:-1] if below else widths, [head, *cells], width)
    for line in [*([list(head)] if any(head) else []), *cells]:
        wrapped = [textwrap.wrap(cell, size) for cell, size in zip(line, widths, strict=False)]
        for parts in zip_longest(*wrapped, fillvalue=""):
            row = (part.ljust(size) for part, size in zip(parts, widths, strict=True))
            print((" " * GAP).join(row).rstrip())
        if below and line[-1]:
            indent = " " * (widths[0] + GAP)
            print(textwrap.fill(line[-1], width, initial_indent=indent, subsequent_indent=indent))


def _fitted(widths: list[int], cells: Sequence[Sequence[str]], width: int) -> list[int]:
    """Columns made narrower until they fit, those first that can be broken between words."""
    words = [max((len(word) for line in cells for word in line[i].split()), default=1) for i in range(len(widths))]
    while _needed(widths) > width:
        spare = [size - word for size, word in zip(widths, words, strict=True)]
        widest = spare.index(max(spare)) if max(spare) > 0 else widths.index(max(widths))
        widths[widest] -= 1
    return widths


def _widths(head: Sequence[str], cells: Sequence[Sequence[str]]) -> list[int]:
    return [max(1, len(name), *(len(line[column]) for line in cells)) for column, name in enumerate(head)]


def _needed(widths: Sequence[int]) -> int:
    return sum(widths) + GAP * (len(widths) - 1)


def clean(text: str) -> str:
    """Without what a terminal would obey, and on one line."""
    return "".join(character if character.isprintable() else "?" for character in text)
