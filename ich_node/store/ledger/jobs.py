"""The ledger of one node, opened: all views of protocols.py over one database."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from ich_node.runtime.config import Config
from ich_node.store import shared_disk
from ich_node.store.layout import StateDir
from ich_node.store.ledger import database
from ich_node.store.ledger.deliveries import LedgerRows
from ich_node.store.ledger.desk import DeskRows
from ich_node.store.ledger.held import HeldRows
from ich_node.store.ledger.intake import IntakeRows
from ich_node.store.ledger.overview import OverviewRows
from ich_node.store.ledger.protocols import Bells
from ich_node.store.ledger.sites import SiteRows
from ich_node.store.ledger.work import WorkRows

LEASE_S = 30.0
"""A worker that was not heard of for so long has lost its job: SQLite's busy time-out, so that a locked database costs
no job, and short enough that a STAT does not wait for an operator."""


class JobStore(IntakeRows, WorkRows, LedgerRows, DeskRows, HeldRows, OverviewRows, SiteRows):
    """The jobs and deliveries of one node. Safe for several threads and processes."""

    @classmethod
    def open(
        cls,
        state_dir: Path,
        clock: Callable[[], float] | None = None,
        lease_s: float = LEASE_S,
        *,
        url: str | None = None,
        verify: bool = False,
    ) -> JobStore:
        """Open the database of `state_dir`, created or migrated as needed; raises StoreError when it is damaged.

        url: of a PostgreSQL database instead. clock: none: the server's there, this machine's otherwise. verify: read
        all of the file, as a role does when it starts; it takes a second for each GB.
        """
        engine = database.open_database(state_dir, url, verify=verify)
        state = StateDir(state_dir)
        if url is None:
            return cls(engine, state, clock or time.time, lease_s, Bells(state.queue_bell, state.owed_bell))
        postgresql = database.served()
        bells = Bells(postgresql.Bell(engine, url, "queue"), postgresql.Bell(engine, url, "owed"))
        return cls(engine, state, clock or postgresql.ServerClock(engine), lease_s, bells)

    def close(self) -> None:
        """Give back every connection."""
        self._engine.dispose()


def open_ledger(config: Config, *, verify: bool = False) -> JobStore:
    """The ledger that the configuration names; see JobStore.open.

    verify: also that the state directory may be shared, where it is. Raises StoreError, IchNodeError.
    """
    ledger = JobStore.open(config.state_dir, url=config.store.database, verify=verify)
    if verify and config.store.shared:
        shared_disk.require(config.state_dir, ledger)
    return ledger
