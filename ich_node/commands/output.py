"""Files that a person asked for with `--out`: never through a link, so that no file elsewhere is written over.

Whoever may write into a folder like /tmp may have laid a link there under a name that is known before.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ich_node.domain.errors import IchNodeError
from ich_node.store import durable


def refuse_link(folder: Path) -> None:
    """Raises IchNodeError when the folder is a link."""
    if folder.is_symlink():
        raise IchNodeError(f"{folder} is a link: name the folder itself")


def write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files by name into a folder, which is made as needed; what bears their names there is replaced.

    Raises IchNodeError when the folder is a link, and OSError.
    """
    refuse_link(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        durable.replace_file(folder / name, content)
