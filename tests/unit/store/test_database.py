"""Opening the database."""

from __future__ import annotations

import os

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect

from ich_node.domain.errors import StoreError
from ich_node.store.ledger import database, sqlite
from ich_node.store.ledger.tables import metadata


def test_a_state_directory_that_can_not_be_made_is_a_plain_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="Not a directory"):
        database.open_database(tmp_path / "file" / "state")


def test_a_damaged_database_is_named_and_what_to_do_about_it(tmp_path):
    (tmp_path / "node.db").write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 32)
    with pytest.raises(StoreError):
        database.open_database(tmp_path)


BY_EXPRESSION = {"job_ready", "job_in_line", "job_turn", "job_died"}
ignore_expressions = pytest.mark.filterwarnings(
    "ignore:Skipped unsupported reflection:sqlalchemy.exc.SAWarning", "ignore:autogenerate skipping:UserWarning"
)


def is_comparable(_item, name, kind, *_):
    """Alembic cannot read an index over an order or an expression; those are compared by their SQL."""
    return not (kind == "index" and name in BY_EXPRESSION) and (kind, name) != ("table", "alembic_additions")


def migrated(folder):
    engine = sqlite.open_engine(folder / "node.db")
    with engine.begin() as db:
        for line in (database.CHANGES, database.ADDITIONS):
            database._alembic("upgrade", db, line)
    return engine


@ignore_expressions
@pytest.mark.parametrize("by", ["tables", "migrations"])
def test_the_migrations_make_what_the_tables_say(tmp_path, by):
    engine = database.open_database(tmp_path) if by == "tables" else migrated(tmp_path)
    with engine.connect() as db:
        context = MigrationContext.configure(db, opts={"include_object": is_comparable})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_an_index_over_expressions_is_the_same_by_either_way(tmp_path):
    said = []
    for way in ("tables", "migrations"):
        folder = tmp_path / way
        folder.mkdir()
        engine = database.open_database(folder) if way == "tables" else migrated(folder)
        with engine.connect() as db:
            rows = db.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE type = 'index'").all()
        said.append({name: " ".join(sql.split()) for name, sql in rows if name in BY_EXPRESSION})
        engine.dispose()
    assert said[0].keys() == BY_EXPRESSION
    assert said[0] == said[1]


@pytest.mark.parametrize("line", [database.CHANGES, database.ADDITIONS])
def test_a_migration_has_the_number_of_its_file(line):
    scripts = ScriptDirectory(str(database.MIGRATIONS), version_locations=[str(line.folder)])
    assert sorted(script.revision for script in scripts.walk_revisions()) == line.revisions()
    assert scripts.get_current_head() == line.revisions()[-1]


@ignore_expressions
def test_additions_come_to_a_ledger_of_the_version_before(tmp_path, ledger_url):
    database.open_database(tmp_path, ledger_url).dispose()
    engine = database.served().open_engine(ledger_url) if ledger_url else sqlite.open_engine(tmp_path / "node.db")
    with engine.begin() as db:
        database._alembic("downgrade", db, database.ADDITIONS, "base")
        assert "lease" not in inspect(db).get_table_names()
    database.open_database(tmp_path, ledger_url).dispose()
    with engine.connect() as db:
        context = MigrationContext.configure(db, opts={"include_object": is_comparable})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_a_ledger_with_more_additions_than_are_known_is_worked_with_and_one_with_other_changes_is_not(tmp_path):
    engine = database.open_database(tmp_path)
    with engine.begin() as db:
        db.exec_driver_sql("UPDATE alembic_additions SET version_num = 'a9999'")
    database.open_database(tmp_path).dispose()
    with engine.begin() as db:
        db.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreError, match="use the newer one"):
        database.open_database(tmp_path)
    engine.dispose()


@pytest.mark.parametrize(("folder", "ledger"), [(0o750, 0o640), (0o2770, 0o660)], ids=["one account", "a group"])
def test_the_group_writes_the_ledger_where_it_writes_the_folder_whatever_the_umask(tmp_path, folder, ledger):
    tmp_path.chmod(folder)
    before = os.umask(0o027)
    try:
        database.open_database(tmp_path).dispose()
    finally:
        os.umask(before)
    assert (tmp_path / "node.db").stat().st_mode & 0o777 == ledger
