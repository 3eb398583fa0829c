"""The ledger of one node, opened: all five views of protocols.py over one database."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from ich_node.store.layout import StateDir
from ich_node.store.ledger import database
from ich_node.store.ledger.deliveries import LedgerRows
from ich_node.store.ledger.desk import DeskRows
from ich_node.store.ledger.intake import IntakeRows
from ich_node.store.ledger.overview import OverviewRows
from ich_node.store.ledger.work import WorkRows

LEASE_S = 30.0
"""A worker that was not heard of for so long has lost its job: SQLite's busy time-out, so that a locked database costs
no job, and short enough that a STAT does not wait for an operator."""


class JobStore(IntakeRows, WorkRows, LedgerRows, DeskRows, OverviewRows):
    """The jobs and deliveries of one node. Safe for several threads and processes."""

    @classmethod
    def open(
        cls,
        state_dir: Path,
        clock: Callable[[], float] = time.time,
        lease_s: float = LEASE_S,
        *,
        verify: bool = False,
    ) -> JobStore:
        """Open the database of `state_dir`, created or migrated as needed; raises StoreError when it is damaged.

        verify: read all of it for that, as a role does when it starts; it takes a second for each GB.
        """
        return cls(database.open_database(state_dir, verify=verify), StateDir(state_dir), clock, lease_s)

    def close(self) -> None:
        """Give back every connection."""
        self._engine.dispose()
