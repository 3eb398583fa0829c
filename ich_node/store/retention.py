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
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ich_node.domain.errors import StoreError
from ich_node.domain.ledger import FINISHED, DeliveryState, Job
from ich_node.runtime import host, logs
from ich_node.runtime.config import Config
from ich_node.runtime.service import Stop
from ich_node.store import trash
from ich_node.store.durable import PART
from ich_node.store.layout import StateDir
from ich_node.store.ledger.jobs import open_ledger
from ich_node.store.ledger.protocols import Desk, Leases
from ich_node.store.spool import Spool
from ich_node.store.trash import SERIES

STALE_S = 24 * 3600.0  # chosen: a day; nothing is written for so long
FREE_FACTOR = 1.2  # of min_free_gb: finished work goes before reception has to refuse, which ends at 1.05
LOOK_EVERY_S = 2.0  # a disk that takes 500 MB/s gets a gigabyte in that time: what FREE_FACTOR leaves by default
PAUSE_S = 60.0  # when nothing is finished that could go: looking at all of it costs seconds
ASIDE, RESULTS = "set_aside", "results"
LEASE = "retention"
LEASE_S, RENEW_S = 60.0, 10.0  # chosen: who dies in the middle keeps the others waiting for a minute at most


class HouseKeeping(Desk, Leases, Protocol):
    """What retention needs of the ledger."""


class Turn:
    """The one process of all machines that makes room.

    Only to spare the others the work: two at it would do no harm, for a folder goes into the trash by one rename.
    """

    def __init__(self, leases: Leases) -> None:
        self._leases = leases
        self._me = host.process()
        self._renew_at = 0.0

    def take(self) -> bool:
        """Begin, or go on; False: another one is at it."""
        if time.monotonic() < self._renew_at:
            return True
        taken = self._leases.take(LEASE, self._me, LEASE_S)
        self._renew_at = time.monotonic() + RENEW_S if taken else 0.0
        return taken

    def leave(self) -> None:
        """Done."""
        self._renew_at = 0.0
        self._leases.leave(LEASE, self._me)


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
    store = open_ledger(config)
    turn = Turn(store)
    try:
        if not (dry_run or turn.take()):
            yield "another process is at it: nothing to do"
            return
        removals = plan(config, store, time.time())
        for removal in removals:
            verb = "would remove" if dry_run else "removes"
            folder = removal.folder
            where = folder.path.relative_to(config.state_dir)
            yield f"{verb} {where} ({folder.size_bytes / 1e6:.1f} MB): {removal.reason}"
        freed = sum(removal.folder.size_bytes for removal in removals)
        if not dry_run:
            carry_out(config, store, removals, turn)
            turn.leave()
        yield f"{len(removals)} folders, {freed / 1e9:.3f} GB" + (" (dry run: nothing was touched)" if dry_run else "")
    finally:
        store.close()


def plan(config: Config, store: Desk, now: float, free_bytes: float | None = None) -> list[Removal]:
    """What is to go, oldest first: all that is older than keep_days, then more until the disk and the quota have room.

    free_bytes: of the disk; None: what it says. Only the folders that are next to go are judged, and measured.
    """
    oldest_kept = now - config.store.keep_days * 86400
    lacking = _lacking(config, free_bytes)
    removals = []
    for folder in finished(config, store, now, until=lambda: math.inf if lacking.total > 0 else oldest_kept):
        if folder.last_used < oldest_kept:
            days = (now - folder.last_used) / 86400
            reason = f"finished {days:.1f} days ago, kept for {config.store.keep_days:g} days"
        elif lacking.total > 0:
            reason = lacking.reason
        else:
            continue
        removals.append(Removal(folder, reason))
        lacking.total -= folder.size_bytes
    return removals


@dataclass(slots=True)
class _Lacking:
    """How many bytes must go whatever their age, and why."""

    total: float
    reason: str


def _lacking(config: Config, free_bytes: float | None) -> _Lacking:
    wanted_gb, quota_gb = config.store.min_free_gb * FREE_FACTOR, config.store.max_used_gb
    free = free_space(config.state_dir) if free_bytes is None else free_bytes
    space = _Lacking(wanted_gb * 1e9 - free, f"less than {wanted_gb:g} GB are free")
    if quota_gb is None:
        return space
    state = StateDir(config.state_dir)
    used = sum(size(folder) for folder in (state.incoming, state.aside, state.results))
    quota = _Lacking(used - quota_gb * 1e9, f"more than {quota_gb:g} GB are in use")
    return max(space, quota, key=lambda lacking: lacking.total)


def carry_out(config: Config, store: HouseKeeping, removals: Sequence[Removal], turn: Turn) -> None:
    """Remove what was planned, unless something has happened to it since; empty the trash; clear what crashes left."""
    freed = make_room(config, store, removals, turn)
    parts = _remove_stale_parts(config)
    logs.get().info("retention_finished", folders=len(removals), freed_bytes=freed, stale_parts=parts)


def make_room(config: Config, store: HouseKeeping, removals: Sequence[Removal], turn: Turn) -> int:
    """Remove what was planned, unless something has happened to it since, and empty the trash; returns bytes freed."""
    state = StateDir(config.state_dir)
    freed = 0
    for removal in removals:
        if not turn.take():  # another one took this for dead
            return freed
        if _is_unchanged(store, removal.folder):
            with suppress(FileNotFoundError):  # another one was faster
                trash.put_in(state, removal.folder.kind, removal.folder.path)
                freed += removal.folder.size_bytes
    trash.empty(state, store)
    return freed


class SpaceKeeper:
    """Keeps a disk that is full of finished work from refusing: a thread of the role that would have to refuse."""

    def __init__(self, config: Config, store: HouseKeeping, clock: Callable[[], float] = time.time) -> None:
        self._config = config
        self._store = store
        self._clock = clock
        self._turn = Turn(store)

    def run(self, stop: Stop) -> None:
        """Look at the disk every LOOK_EVERY_S until `stop` is set."""
        while not stop.wait(LOOK_EVERY_S):
            try:
                low = free_space(self._config.state_dir) < self._config.store.min_free_gb * FREE_FACTOR * 1e9
                if low and not self.step():
                    stop.wait(PAUSE_S)
            except (StoreError, OSError) as error:
                logs.get().error("retention_failed", reason=str(error), retry_in_s=PAUSE_S)
                stop.wait(PAUSE_S)

    def step(self, free_bytes: float | None = None) -> bool:
        """Make room now, unless another process is at it; False when nothing is finished that could go."""
        if not self._turn.take():
            return True
        removals = plan(self._config, self._store, self._clock(), free_bytes)
        freed = make_room(self._config, self._store, removals, self._turn)
        self._turn.leave()
        if removals:
            logs.get().info("retention_finished", folders=len(removals), freed_bytes=freed, stale_parts=0)
        return bool(removals)


# --- what is finished ----------------------------------------------------------------------------------------------


def finished(config: Config, store: Desk, now: float, *, until: Callable[[], float]) -> Iterator[Folder]:
    """The folders that no unfinished work needs, in the order in which something was last put into them.

    until: asked before each of them; the first one that is younger ends it, and none behind it is judged. Images come
    before their results: should the database be lost in between, nothing is there to be analysed anew.
    """
    state = StateDir(config.state_dir)
    kinds = {SERIES: state.incoming, RESULTS: state.results, ASIDE: state.aside}
    waiting = [(moment, kind, path) for kind, root in kinds.items() for path, moment in trash.folders(root)]
    order = list(kinds)
    for moment, kind, path in sorted(waiting, key=lambda one: (one[0], order.index(one[1]), one[2])):
        if moment > min(now, until()):
            return
        with suppress(FileNotFoundError):
            if found := _judge(config, store, now, kind, path, moment):
                yield found


def _judge(config: Config, store: Desk, now: float, kind: str, path: Path, moment: float) -> Folder | None:
    """The folder when it may go, else None."""
    if kind == ASIDE:
        return Folder(kind, path, size(path), moment)
    if kind == RESULTS:
        found = store.job(int(path.name)) if path.name.isdecimal() else None
        jobs = [] if found is None else [found]
    else:
        jobs = store.jobs_of_series(path.name)
    if not jobs or not all(_is_over(config, store, job, now) for job in jobs):
        return None
    if kind == SERIES and trash.unseen(path, jobs):
        return None
    return Folder(kind, path, size(path), max(moment, *(job.updated_at for job in jobs)))


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


def _remove_stale_parts(config: Config) -> int:
    """Half-written files and result folders of crashes, once they are a day old."""
    removed = Spool(config.state_dir, 0).remove_stale_parts(STALE_S)
    for path in StateDir(config.state_dir).results.glob(f"*{PART}"):
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


def free_space(folder: Path) -> int:
    """Bytes that the service may still write to the disk of a folder."""
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def _last_used(folder: Path) -> float:
    """When something was last put into a folder, Unix seconds."""
    return folder.stat().st_mtime
