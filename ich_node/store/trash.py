"""The trash: a folder leaves its place as a whole, so that a crash leaves all of it there, or in here to be deleted.

rename into trash/, fsync of both folders ──▶ what nobody has seen goes back ──▶ delete
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from ich_node.dicom.identity import is_uid
from ich_node.domain.dicom import input_digest
from ich_node.domain.ledger import Job
from ich_node.store.durable import make_directory, sync_directory
from ich_node.store.layout import IMAGE, StateDir
from ich_node.store.ledger.protocols import Desk

SERIES = "incoming"
"""Kind of the folders whose images a job must have seen before they may go."""


def empty(state: StateDir, store: Desk) -> int:
    """Delete what lies in trash/, also what an earlier run left there; returns the number of folders.

    An image that came between the plan and the rename was acknowledged and seen by nobody: it goes back to its place.
    The rows of a series whose images are gone keep their digest and need the list of them no longer.
    """
    emptied = 0
    for path, _ in list(folders(_made(state))):
        kind, name, *_ = path.name.split("@")
        is_series = kind == SERIES and is_uid(name)
        if is_series:
            _put_back(unseen(path, store.jobs_of_series(name)), state.incoming / name)
        shutil.rmtree(path, ignore_errors=True)  # another run may be at it too; what stays, the next one deletes
        if is_series and not path.exists() and not (state.incoming / name).exists():
            store.forget_images(name)
        emptied += 1
    return emptied


def put_in(state: StateDir, kind: str, folder: Path) -> None:
    """Take a folder of `kind` out of its place, durably. Raises FileNotFoundError when another run was faster."""
    trash = _made(state)
    folder.rename(trash / f"{kind}@{folder.name}@{time.time_ns()}")
    sync_directory(trash)  # before the first file goes: after a crash the folder is whole in one place, or in the trash
    sync_directory(folder.parent)


def _put_back(files: Sequence[Path], home: Path) -> None:
    if not files:
        return
    home.mkdir(mode=0o750, exist_ok=True)
    for path in files:
        if not (home / path.name).exists():
            with suppress(FileNotFoundError):  # another run was faster
                path.rename(home / path.name)
    sync_directory(home)
    sync_directory(home.parent)


def _made(state: StateDir) -> Path:
    make_directory(state.trash)
    return state.trash


def unseen(folder: Path, jobs: Sequence[Job]) -> list[Path]:
    """Instances that no job knows: they came late and are still to be looked at."""
    paths = list(folder.glob(f"*{IMAGE}"))
    if input_digest(path.stem for path in paths) in {job.input_digest for job in jobs}:
        return []
    known = {uid for job in jobs for uid in job.sop_instance_uids}
    return [path for path in paths if path.stem not in known]


def folders(root: Path) -> Iterator[tuple[Path, float]]:
    """The folders in a folder, and when something was last put into each, Unix seconds."""
    with suppress(FileNotFoundError), os.scandir(root) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                if entry.is_dir(follow_symlinks=False):
                    yield Path(entry.path), entry.stat(follow_symlinks=False).st_mtime
