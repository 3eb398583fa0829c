"""Alembic's entry: the connection comes from JobStore.open()."""

from alembic import context

from ich_node.store.ledger.tables import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
