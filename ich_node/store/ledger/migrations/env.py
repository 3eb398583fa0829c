"""Alembic's entry: the connection, and the table that keeps the revision, come from database.py."""

from alembic import context

from ich_node.store.ledger.tables import metadata

attributes = context.config.attributes
context.configure(
    connection=attributes["connection"],
    version_table=attributes["version_table"],
    target_metadata=metadata,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
