"""Opening the database: durability settings, integrity check, schema version.

SQLite runs with journal_mode=DELETE and synchronous=EXTRA: a committed move survives a power cut, and several
processes may write. Not WAL: SQLite before 3.51.3 can lose writes of several connections around a WAL reset
(sqlite.org/wal.html).
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from ich_node.domain.errors import StoreError
from ich_node.runtime import logs
from ich_node.store.layout import StateDir
from ich_node.store.ledger import rebuild

BUSY_TIMEOUT_S = 30  # chosen: a transaction takes milliseconds; only a hanging disk takes this long


def open_database(state_dir: Path, *, verify: bool = False) -> sa.Engine:
    """The engine for node.db in `state_dir`, brought to the schema of this version, rebuilt when it was gone.

    verify: read the whole file for damage. Raises StoreError when it is damaged, or written by a newer version.
    """
    state = StateDir(state_dir)
    try:
        state.make()
    except OSError as error:
        raise StoreError(f"{state_dir}: {error.strerror or error}") from error
    path = state.database
    engine = sa.create_engine(f"sqlite:///{path}", connect_args={"timeout": BUSY_TIMEOUT_S})
    sa.event.listen(engine, "connect", _settle_connection)
    sa.event.listen(engine, "begin", _begin_immediate)
    with as_store_errors():
        if verify:
            _check_integrity(engine, path)
        _migrate(engine, state)
    return engine


@contextmanager
def as_store_errors() -> Iterator[None]:
    """Database errors as StoreError, so that SQLAlchemy stays behind this wall."""
    try:
        yield
    except sa.exc.SQLAlchemyError as error:
        raise StoreError(f"database: {error.__cause__ or error}") from error


def _settle_connection(connection: sqlite3.Connection, _record: Any) -> None:
    connection.isolation_level = None  # transactions are begun by us: BEGIN IMMEDIATE, see below
    for pragma in ("journal_mode=DELETE", "synchronous=EXTRA", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_immediate(db: sa.Connection) -> None:
    """A writer takes its lock at once: no upgrade from reader to writer that could dead-lock two processes."""
    if db.get_isolation_level() != "AUTOCOMMIT":
        db.exec_driver_sql("BEGIN IMMEDIATE")


def _check_integrity(engine: sa.Engine, path: Path) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
        verdict = db.exec_driver_sql("PRAGMA quick_check(1)").scalar()
    if verdict != "ok":
        raise StoreError(f"{path} is damaged ({verdict}); move it away and start again: it is rebuilt from the files")


def _migrate(engine: sa.Engine, state: StateDir) -> None:
    settings = AlembicConfig()
    settings.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    newest = ScriptDirectory.from_config(settings).get_current_head()
    with engine.begin() as db:  # one writer at a time: roles that start together do not race
        current = MigrationContext.configure(db).get_current_revision()
        if current == newest:
            return
        known = {script.revision for script in ScriptDirectory.from_config(settings).walk_revisions()}
        if current is not None and current not in known:
            raise StoreError(f"the database has schema {current}, this version knows up to {newest}: use the newer one")
        settings.attributes["connection"] = db
        command.upgrade(settings, "head")
        if current is not None:
            logs.get().info("database_migrated", before=current, now=newest)
        if current is None:  # a new database, in a new state directory or in one that lost its own
            rebuild.restore_jobs(db, state, time.time())
