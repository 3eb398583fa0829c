"""Opening the database."""

from __future__ import annotations

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from ich_node.domain.errors import StoreError
from ich_node.store.ledger import database
from ich_node.store.ledger.tables import metadata


def test_a_state_directory_that_can_not_be_made_is_a_plain_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="Not a directory"):
        database.open_database(tmp_path / "file" / "state")


def test_a_damaged_database_is_named_and_what_to_do_about_it(tmp_path):
    (tmp_path / "node.db").write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 32)
    with pytest.raises(StoreError):
        database.open_database(tmp_path)


def is_comparable(_item, name, kind, *_):
    """Alembic cannot read an index with an order from SQLite; that it is used is tested by the plans of the queries."""
    return (kind, name) != ("index", "job_ready")


def test_the_migrations_make_what_the_tables_say(tmp_path):
    engine = database.open_database(tmp_path)
    with engine.connect() as db:
        context = MigrationContext.configure(db, opts={"include_object": is_comparable})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_a_migration_has_the_number_of_its_file():
    scripts = ScriptDirectory(str(database.MIGRATIONS))
    names = sorted(path.name[:4] for path in database.MIGRATIONS.glob("versions/[0-9]*.py"))
    assert sorted(script.revision for script in scripts.walk_revisions()) == names
    assert scripts.get_current_head() == names[-1]
