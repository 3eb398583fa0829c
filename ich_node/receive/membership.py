"""The only receiver of a state directory, or one of several by name: what is made sure of before a port is opened."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ich_node.domain.errors import IchNodeError, StoreError
from ich_node.runtime import host
from ich_node.runtime.config import Config
from ich_node.store import durable
from ich_node.store.layout import StateDir
from ich_node.store.ledger.protocols import Assembly

ALONE = "alone"
"""Name of the lock of a receiver that shares its state with nobody."""


@contextmanager
def member(config: Config, ledger: Assembly) -> Iterator[str | None]:
    """Be a receiver: the name under which we are one of several, None when we are the only one.

    Raises IchNodeError when another process is the receiver already: of this state directory, or of this host.
    """
    shared = config.store.shared
    path = StateDir(config.state_dir).receiver_lock(host.name() if shared else ALONE)
    durable.make_directory(path.parent)
    with path.open("a") as lock:  # open for writing: NFS takes no lock otherwise
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise IchNodeError(_taken(config)) from None
        if not shared:
            yield None
            return
        for earlier in ledger.receivers():
            if earlier.startswith(f"{host.name()}/"):  # dead: we have its lock
                ledger.part(earlier)
        name = host.process()
        ledger.join(name)
        try:
            yield name
        finally:
            with suppress(StoreError):  # then its lease ends by itself
                ledger.part(name)


def _taken(config: Config) -> str:
    if config.store.shared:
        return f"another receiver runs on this host, or on one of the same name: {host.HOST_VARIABLE} names them apart"
    return (
        f"another receiver works on {config.state_dir}: several need store.shared and a ledger that they share "
        "(store.database), SQLite serves one"
    )
