"""The ledger in a file of its own, the default: nothing to set up.

SQLite runs with journal_mode=DELETE and synchronous=EXTRA: a committed move survives a power cut, and several
processes may write. Not WAL: SQLite before 3.51.3 can lose writes of several connections around a WAL reset
(sqlite.org/wal.html).
"""

from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ich_node.domain.errors import StoreError
from ich_node.store.durable import FILE_MODE, LEDGER_MODE

BUSY_TIMEOUT_S = 30  # chosen: a transaction takes milliseconds; only a hanging disk takes this long


def open_engine(path: Path) -> sa.Engine:
    """Connections to the file, which is made when it is not there."""
    _share(path)
    engine = sa.create_engine(f"sqlite:///{path}", connect_args={"timeout": BUSY_TIMEOUT_S})
    sa.event.listen(engine, "connect", _settle_connection)
    sa.event.listen(engine, "begin", _begin_immediate)
    return engine


def _share(path: Path) -> None:
    """Let the group write the file where it writes the folder: SQLite itself would keep it out."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        try:
            if path.parent.stat().st_mode & stat.S_IWGRP:
                os.fchmod(descriptor, LEDGER_MODE)
        finally:
            os.close(descriptor)


def check_integrity(engine: sa.Engine, path: Path) -> None:
    """Read the whole file. Raises StoreError when it is damaged."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
        verdict = db.exec_driver_sql("PRAGMA quick_check(1)").scalar()
    if verdict != "ok":
        raise StoreError(f"{path} is damaged ({verdict}); move it away and start again: it is rebuilt from the files")


def _settle_connection(connection: sqlite3.Connection, _record: Any) -> None:
    connection.isolation_level = None  # transactions are begun by us: BEGIN IMMEDIATE, see below
    for pragma in ("journal_mode=DELETE", "synchronous=EXTRA", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_immediate(db: sa.Connection) -> None:
    """A writer takes its lock at once: no upgrade from reader to writer that could dead-lock two processes."""
    if db.get_isolation_level() != "AUTOCOMMIT":
        db.exec_driver_sql("BEGIN IMMEDIATE")
