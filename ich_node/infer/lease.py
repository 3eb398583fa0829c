"""How a worker holds its job: by being heard of, and by a lock that tells the next of its name that it is dead."""

from __future__ import annotations

import fcntl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ich_node.domain.errors import StoreError
from ich_node.domain.ledger import Job
from ich_node.runtime import logs
from ich_node.store import durable
from ich_node.store.layout import StateDir
from ich_node.store.ledger.protocols import Work

RENEW_S = 5.0  # a sixth of a lease: five renewals may fail
MOST_RENEWALS = 360  # half an hour: a worker that is at one job for longer hangs, and another may have it


@contextmanager
def only_one(state_dir: Path, name: str) -> Iterator[bool]:
    """True when no other process on this machine is the worker of that name: then what it held is free at once.

    The kernel lets go of the lock when its holder dies, however it dies; a stopped holder keeps it: its lease decides.
    """
    path = StateDir(state_dir).worker_lock(name)
    durable.make_directory(path.parent)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


@contextmanager
def held(jobs: Work, job: Job) -> Iterator[None]:
    """Renew the lease of a claimed job for as long as the block runs."""
    left = threading.Event()

    def renew() -> None:
        for _ in range(MOST_RENEWALS):
            if left.wait(RENEW_S):
                return
            try:
                if not jobs.renew(job):
                    return
            except StoreError as error:  # locked or full: the lease outlives several of these
                logs.get().warning("database_unavailable", reason=str(error), retry_in_s=RENEW_S)

    threading.Thread(target=renew, name=f"lease-{job.id}", daemon=True).start()
    try:
        yield
    finally:
        left.set()
