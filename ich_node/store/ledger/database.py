"""Opening the database: SQLite in the state directory or PostgreSQL on a server, schema version, rebuilding."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Line:
    """A line of revisions: the folder of their files, the table that keeps where a database stands."""

    folder: Path
    table: str

    def revisions(self) -> list[str]:
        """The revisions that this version knows, oldest first; a file begins with the number of its revision."""
        return sorted(path.name.partition("_")[0] for path in self.folder.glob("*[0-9]_*.py"))


CHANGES = Line(MIGRATIONS / "versions", "alembic_version")
"""What a version that does not know it cannot work with."""
ADDITIONS = Line(MIGRATIONS / "additions", "alembic_additions")
"""Tables, indices and columns with a default: the version before runs beside this one on the same ledger."""


def _migrate(engine: sa.Engine, state: StateDir) -> None:
    newest = CHANGES.revisions()[-1]
    with engine.begin() as db:  # one writer at a time: roles that start together do not race
        if engine.dialect.name == "postgresql":
            served().lock_schema(db)
        current = _revision(db, CHANGES)
        if current is not None and current not in CHANGES.revisions():
            raise StoreError(f"the database has schema {current}, this version knows up to {newest}: use the newer one")
        if current is not None:
            for line in (CHANGES, ADDITIONS):
                _bring_up(db, line)
            return
        # a new database, in a new state directory or in one that lost its own
        metadata.create_all(db)
        for line in (CHANGES, ADDITIONS):
            _stamp(db, line)
        if rebuild.restore_jobs(db, state, time.time()) and engine.dialect.name == "postgresql":
            served().after_restore(db)


def _bring_up(db: sa.Connection, line: Line) -> None:
    """To the newest revision that this version knows; a line that is ahead of it stays."""
    current, known = _revision(db, line), line.revisions()
    if current == known[-1] or (current is not None and current not in known):
        return
    _alembic("upgrade", db, line)
    logs.get().info("database_migrated", before=current, now=known[-1])


def _stamp(db: sa.Connection, line: Line) -> None:
    """Say of a new database that it has the newest revision, in Alembic's words but without loading it."""
    number = sa.Column("version_num", sa.String(32), nullable=False)
    table = sa.Table(line.table, sa.MetaData(), number, sa.PrimaryKeyConstraint(number, name=f"{line.table}_pkc"))
    table.create(db)
    db.execute(table.insert().values(version_num=line.revisions()[-1]))


def _alembic(command_name: str, db: sa.Connection, line: Line, revision: str = "head") -> None:
    from alembic import command  # noqa: PLC0415 — a third of a role's start, for what is hardly ever to do
    from alembic.config import Config  # noqa: PLC0415

    settings = Config()
    settings.set_main_option("script_location", str(MIGRATIONS))
    settings.set_main_option("version_locations", str(line.folder))
    settings.set_main_option("path_separator", "newline")
    settings.attributes.update(connection=db, version_table=line.table)
    getattr(command, command_name)(settings, revision)


def _revision(db: sa.Connection, line: Line) -> str | None:
    """Where a database stands; None of a new one."""
    if not sa.inspect(db).has_table(line.table):
        return None
    return db.execute(sa.text(f"SELECT version_num FROM {line.table}")).scalar()  # noqa: S608 — one of two names
