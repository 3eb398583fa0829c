"""What may go, and how it goes: finished series and results, by age and by space, through trash/.

    plan (reads only) ──▶ rename a whole folder into trash/, fsync ──▶ delete it

Invariants: nothing of a job that is not finished goes, and no image that no job has seen; a folder leaves its place as
a whole, so that a crash in the middle leaves either all of it or a folder in trash/, which the next run deletes. Rows
stay: images that come again later are known, so that nothing is analysed or sent twice.
"""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ich_node.dicom.identity import is_uid
from ich_node.domain.ledger import FINISHED, DeliveryState, Job
from ich_node.runtime import logs
from ich_node.runtime.config import Config
from ich_node.store.durable import PART, make_directory, sync_directory
from ich_node.store.layout import IMAGE, StateDir
from ich_node.store.ledger.jobs import JobStore
from ich_node.store.ledger.protocols import Desk
from ich_node.store.spool import Spool

STALE_S = 24 * 3600.0
SERIES, ASIDE, RESULTS = "incoming", "set_aside", "results"


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder of the spool that may go. last_used: Unix seconds of the last thing that happened to it."""

    kind: str
    path: Path
    size_bytes: int
    last_used: float


@dataclass(frozen=True, slots=True)
class Removal:
    """One folder of the plan, and why it goes."""

    folder: Folder
    reason: str


def run(config: Config, *, dry_run: bool = False) -> Iterator[str]:
    """The verb `ich-node retention`: one line per folder, and a sum; with dry_run nothing is touched."""
    store = JobStore.open(config.state_dir)
    try:
        removals = plan(config, store, time.time())
        for removal in removals:
            verb = "would remove" if dry_run else "removes"
            folder = removal.folder
            where = folder.path.relative_to(config.state_dir)
            yield f"{verb} {where} ({folder.size_bytes / 1e6:.1f} MB): {removal.reason}"
        freed = sum(removal.folder.size_bytes for removal in removals)
        if not dry_run:
            carry_out(config, store, removals)
        yield f"{len(removals)} folders, {freed / 1e9:.3f} GB" + (" (dry run: nothing was touched)" if dry_run else "")
    finally:
        store.close()


def plan(config: Config, store: Desk, now: float) -> list[Removal]:
    """What is to go, oldest first: all that is older than keep_days, then more until max_used_gb is kept."""
    oldest_kept = now - config.store.keep_days * 86400
    quota_gb = config.store.max_used_gb
    used = 0 if quota_gb is None else sum(size(config.state_dir / kind) for kind in (SERIES, ASIDE, RESULTS))
    excess = 0.0 if quota_gb is None else used - quota_gb * 1e9
    removals = []
    for folder in sorted(
        finished(config, store, now, untouched_since=now if excess > 0 else oldest_kept),
        key=lambda candidate: candidate.last_used,
    ):
        if folder.last_used < oldest_kept:
            days = (now - folder.last_used) / 86400
            reason = f"finished {days:.1f} days ago, kept for {config.store.keep_days:g} days"
        elif excess > 0:
            reason = f"more than {quota_gb:g} GB are in use"
        else:
            break
        removals.append(Removal(folder, reason))
        excess -= folder.size_bytes
    return removals


def carry_out(config: Config, store: Desk, removals: Sequence[Removal]) -> None:
    """Remove what was planned, unless something has happened to it since; empty the trash; clear what crashes left."""
    trash = _trash(config)
    for removal in removals:
        folder = removal.folder
        if _is_unchanged(store, folder):
            _move_to_trash(folder, trash)
    emptied = empty_trash(config, store)
    parts = _remove_stale_parts(config)
    freed = sum(removal.folder.size_bytes for removal in removals)
    logs.get().info("retention_finished", folders=emptied, freed_bytes=freed, stale_parts=parts)


# --- what is finished ----------------------------------------------------------------------------------------------


def finished(config: Config, store: Desk, now: float, *, untouched_since: float) -> Iterator[Folder]:
    """Every folder that no unfinished work needs and that nothing was put into since `untouched_since`.

    Images come before their results: should the database be lost in between, nothing is there to be analysed anew.
    """
    for path in _folders(config.state_dir / SERIES, untouched_since):
        jobs = store.jobs_of_series(path.name)
        if jobs and all(_is_over(config, store, job, now) for job in jobs) and not _unseen(path, jobs):
            yield Folder(SERIES, path, size(path), max(_last_used(path), *(job.updated_at for job in jobs)))
    for path in _folders(config.state_dir / RESULTS, untouched_since):
        job = store.job(int(path.name)) if path.name.isdecimal() else None
        if job is not None and _is_over(config, store, job, now):
            yield Folder(RESULTS, path, size(path), max(job.updated_at, _last_used(path)))
    for path in _folders(config.state_dir / ASIDE, untouched_since):
        yield Folder(ASIDE, path, size(path), _last_used(path))


def _is_unchanged(store: Desk, folder: Folder) -> bool:
    """Nothing has happened to the folder or to its job since the plan."""
    if not folder.path.is_dir() or _last_used(folder.path) > folder.last_used:
        return False
    if folder.kind == ASIDE:
        return True
    jobs = store.jobs_of_series(folder.path.name) if folder.kind == SERIES else [store.job(int(folder.path.name))]
    return all(job is not None and job.updated_at <= folder.last_used for job in jobs)


def _is_over(config: Config, store: Desk, job: Job, now: float) -> bool:
    """Finished, and nothing owed: not even a proof of storage that a destination is still being asked for."""
    if job.state not in FINISHED:
        return False
    proving = {destination.name for destination in config.deliver.destinations if destination.commitment}
    asking_since = now - config.deliver.give_up_after_h * 3600
    return not any(
        delivery.state is DeliveryState.PENDING
        or (
            delivery.state is DeliveryState.SENT
            and delivery.destination in proving
            and delivery.created_at > asking_since
        )
        for delivery in store.deliveries(job.id)
    )


def _unseen(folder: Path, jobs: Sequence[Job]) -> list[Path]:
    """Instances that no job knows: they came late and are still to be looked at."""
    known = {uid for job in jobs for uid in job.sop_instance_uids}
    return [path for path in folder.glob(f"*{IMAGE}") if path.stem not in known]


# --- trash ---------------------------------------------------------------------------------------------------------


def empty_trash(config: Config, store: Desk) -> int:
    """Delete what lies in trash/, also what an earlier run left there; returns the number of folders.

    An image that came between the plan and the rename was acknowledged and seen by nobody: it goes back to its place.
    """
    emptied = 0
    for path in list(_folders(_trash(config))):
        kind, name, *_ = path.name.split("@")
        if kind == SERIES and is_uid(name):
            _put_back(_unseen(path, store.jobs_of_series(name)), config.state_dir / SERIES / name)
        shutil.rmtree(path)
        emptied += 1
    return emptied


def _move_to_trash(folder: Folder, trash: Path) -> None:
    folder.path.rename(trash / f"{folder.kind}@{folder.path.name}@{time.time_ns()}")
    sync_directory(trash)  # before the first file goes: after a crash the folder is whole in one place, or in the trash
    sync_directory(folder.path.parent)


def _put_back(files: Sequence[Path], home: Path) -> None:
    if not files:
        return
    home.mkdir(mode=0o750, exist_ok=True)
    for path in files:
        if not (home / path.name).exists():
            path.rename(home / path.name)
    sync_directory(home)
    sync_directory(home.parent)


def _trash(config: Config) -> Path:
    trash = StateDir(config.state_dir).trash
    make_directory(trash)
    return trash


def _remove_stale_parts(config: Config) -> int:
    """Half-written files and result folders of crashes, once they are a day old."""
    removed = Spool(config.state_dir, 0).remove_stale_parts(STALE_S)
    for path in (config.state_dir / RESULTS).glob(f"*{PART}"):
        if _last_used(path) < time.time() - STALE_S:
            shutil.rmtree(path)
            removed += 1
    return removed


# --- files ---------------------------------------------------------------------------------------------------------


def size(folder: Path) -> int:
    """Bytes of all files below a folder, as far as they stay there meanwhile; 0 when it is not there."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                total += Path(parent, name).lstat().st_size
    return total


def _folders(root: Path, untouched_since: float = math.inf) -> Iterator[Path]:
    if not root.is_dir():
        return
    for path in root.iterdir():
        with suppress(FileNotFoundError):
            if path.is_dir() and _last_used(path) <= untouched_since:
                yield path


def _last_used(folder: Path) -> float:
    """When something was last put into a folder, Unix seconds."""
    return folder.stat().st_mtime
