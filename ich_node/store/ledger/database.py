"""Opening the database: SQLite in the state directory or PostgreSQL on a server, schema version, rebuilding."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType

import sqlalchemy as sa

from ich_node.domain.errors import StoreError
from ich_node.runtime import logs
from ich_node.store.layout import StateDir
from ich_node.store.ledger import rebuild, sqlite
from ich_node.store.ledger.tables import metadata

MIGRATIONS = Path(__file__).parent / "migrations"


def open_database(state_dir: Path, url: str | None = None, *, verify: bool = False) -> sa.Engine:
    """The engine of the ledger, brought to the schema of this version, rebuilt when it was gone.

    url: of a PostgreSQL database; none: node.db in `state_dir`. verify: read the whole of that file for damage. Raises
    StoreError when it is damaged, cannot be reached, or was written by a newer version.
    """
    state = StateDir(state_dir)
    try:
        state.make()
    except OSError as error:
        raise StoreError(f"{state_dir}: {error.strerror or error}") from error
    engine = sqlite.open_engine(state.database) if url is None else served().open_engine(url)
    with as_store_errors():
        if verify and url is None:
            sqlite.check_integrity(engine, state.database)
        _migrate(engine, state)
    return engine


def served() -> ModuleType:
    """What is needed for a server alone. Raises StoreError when psycopg is not installed."""
    try:
        return import_module("ich_node.store.ledger.postgresql")
    except ModuleNotFoundError as error:
        raise StoreError("store.database needs psycopg: pip install 'ich-node[postgresql]'") from error


@contextmanager
def as_store_errors() -> Iterator[None]:
    """Database errors as StoreError, so that SQLAlchemy stays behind this wall."""
    try:
        yield
    except sa.exc.SQLAlchemyError as error:
        raise StoreError(f"database: {error.__cause__ or error}") from error


def _migrate(engine: sa.Engine, state: StateDir) -> None:
    known = sorted(path.name[:4] for path in MIGRATIONS.glob("versions/[0-9]*.py"))  # a file has its revision's number
    newest = known[-1]
    with engine.begin() as db:  # one writer at a time: roles that start together do not race
        if engine.dialect.name == "postgresql":
            served().lock_schema(db)
        current = _revision(db)
        if current == newest:
            return
        if current is not None and current not in known:
            raise StoreError(f"the database has schema {current}, this version knows up to {newest}: use the newer one")
        from alembic import command  # noqa: PLC0415 — a third of a role's start, for what is hardly ever to do
        from alembic.config import Config  # noqa: PLC0415

        settings = Config()
        settings.set_main_option("script_location", str(MIGRATIONS))
        settings.attributes["connection"] = db
        if current is not None:
            command.upgrade(settings, "head")
            logs.get().info("database_migrated", before=current, now=newest)
            return
        # a new database, in a new state directory or in one that lost its own
        metadata.create_all(db)
        command.stamp(settings, "head")
        if rebuild.restore_jobs(db, state, time.time()) and engine.dialect.name == "postgresql":
            served().after_restore(db)


def _revision(db: sa.Connection) -> str | None:
    """The schema that a database has; None of a new one."""
    if not sa.inspect(db).has_table("alembic_version"):
        return None
    return db.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
