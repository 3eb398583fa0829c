"""Where the frames of encapsulated pixel data lie (PS3.5 A.4): the items are walked over once for all frames."""

from __future__ import annotations

import struct
from typing import BinaryIO

from ich_node.infer.see.codestream import EOI

ITEM, DELIMITER = (0xFFFE, 0xE000), (0xFFFE, 0xE0DD)  # tags of PS3.5 A.4, as group and element
HEAD = struct.Struct("<HHL")
MOST_FRAGMENTS = 1024, 16
"""So many, and so many more for each frame: a sender may cut an image into pieces; a million empty ones are none."""

Place = tuple[int, int]
"""Offset in the file and length, both in bytes."""


def frame_places(file: BinaryIO, start: int, frames: int) -> list[list[Place]]:
    """The fragments of each of the `frames` whose first item begins at `start`.

    By the basic offset table where there is one, else one fragment per frame, else by end markers.
    Raises ValueError when the items are not what the standard says or do not make up so many frames.
    """
    file.seek(start)
    table, fragments = _items(file, frames)
    if frames == 1:
        return [fragments]
    if len(table) == frames:
        first = fragments[0][0] - HEAD.size if fragments else 0
        return _by_table([first + offset + HEAD.size for offset in table], fragments)
    if len(fragments) == frames:
        return [[fragment] for fragment in fragments]
    return _by_markers(file, fragments, frames)


def _items(file: BinaryIO, frames: int) -> tuple[list[int], list[Place]]:
    places: list[Place] = []
    table: list[int] = []
    first = True
    while head := file.read(HEAD.size):
        group, element, length = HEAD.unpack(head)
        if (group, element) == DELIMITER:
            break
        if (group, element) != ITEM or length == 0xFFFFFFFF:
            raise ValueError("no item where one must be")
        if first:
            table = [offset for (offset,) in struct.iter_unpack("<L", file.read(min(length, 4 * frames) & ~3))]
            file.seek(max(0, length - (min(length, 4 * frames) & ~3)), 1)
            first = False
            continue
        places.append((file.tell(), length))
        if len(places) > MOST_FRAGMENTS[0] + MOST_FRAGMENTS[1] * frames:
            raise ValueError("more fragments than frames may have")
        file.seek(length, 1)
    if not places:
        raise ValueError("there are no fragments")
    return table, places


def _by_table(starts: list[int], fragments: list[Place]) -> list[list[Place]]:
    found: dict[int, list[Place]] = {start: [] for start in starts}
    if len(found) != len(starts) or starts != sorted(starts) or fragments[0][0] != starts[0]:
        raise ValueError("the offset table is not that of these fragments")
    current = starts[0]
    for fragment in fragments:
        current = fragment[0] if fragment[0] in found else current
        found[current].append(fragment)
    if not all(found.values()):
        raise ValueError("the offset table is not that of these fragments")
    return list(found.values())


def _by_markers(file: BinaryIO, fragments: list[Place], frames: int) -> list[list[Place]]:
    found: list[list[Place]] = [[]]
    for offset, length in fragments:
        found[-1].append((offset, length))
        file.seek(offset + max(0, length - 10))
        if EOI in file.read(min(length, 10)):
            found.append([])
    found = [place for place in found if place]
    if len(found) != frames:
        raise ValueError(f"{len(found)} frames where {frames} are promised")
    return found


def joined(file: BinaryIO, places: list[Place]) -> bytes:
    """The bytes of a frame. Raises EOFError when the file ends before it does."""
    parts = []
    for offset, length in places:
        file.seek(offset)
        parts.append(file.read(length))
        if len(parts[-1]) < length:
            raise EOFError("the pixel data is cut off")
    return b"".join(parts)
