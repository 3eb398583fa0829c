"""What is said to be stored is stored: files and names on stable storage when these calls return.

A file is durable by fdatasync, its name by fsync of the folder that holds it, the name of that folder by fsync of the
next one up. Every durable write of the node is made of these; all raise OSError.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ich_node.dicom.identity import Buffer

FILE_MODE, DIRECTORY_MODE = 0o640, 0o750  # nobody outside the service's group reads patients' images
SHARED_MODE, LEDGER_MODE = 0o770, 0o660
"""Of a folder that one account of the group makes and another removes, and of the ledger, where the group may do so."""
PART = ".part"


def write_file(path: Path, parts: Sequence[Buffer]) -> None:
    """Write a file that is not there yet, and force it to disk; its name is not durable yet."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)
    try:
        write_all(descriptor, parts)
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, data: Buffer) -> None:
    """Write a small file, or its next version, durably with its name: a crash leaves the old one or the new one."""
    part = path.with_name(f"{path.name}{PART}")
    part.unlink(missing_ok=True)
    try:
        write_file(part, [data])
        part.replace(path)
    except OSError:
        with suppress(OSError):
            part.unlink()
        raise
    sync_directory(path.parent)


def write_all(descriptor: int, parts: Sequence[Buffer]) -> None:
    """writev until everything is written: a disk that fills up takes a part, and tells only the next time."""
    views = [memoryview(part) for part in parts if len(part)]
    while views:
        written = os.writev(descriptor, views)
        while views and written >= len(views[0]):
            written -= len(views.pop(0))
        if written:
            views[0] = views[0][written:]


def make_directory(directory: Path) -> None:
    """Create a folder with the folders above it as needed; its name and theirs are durable when this returns."""
    missing = [folder for folder in (directory, *directory.parents) if not folder.exists()]
    for folder in reversed(missing):
        with suppress(FileExistsError):  # another role makes it at the same time
            folder.mkdir(mode=DIRECTORY_MODE)
    if not directory.is_dir():
        raise NotADirectoryError(f"{directory} is not a folder")
    for folder in (*missing, directory):  # also one that was there: its maker may not have lived to do this
        with suppress(PermissionError):  # a folder of the system above ours: whoever made ours has done it
            sync_directory(folder.parent)


def make_shared(directory: Path) -> None:
    """Create a folder that whoever may write the one above it can remove with all that is in it, whatever the umask."""
    directory.mkdir(mode=DIRECTORY_MODE)
    if directory.parent.stat().st_mode & stat.S_IWGRP:
        directory.chmod(SHARED_MODE)  # without the bit for the group, which the units let nobody set


def sync_directory(directory: Path) -> None:
    """Make every name in a folder durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
