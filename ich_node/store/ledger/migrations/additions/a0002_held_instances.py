"""Which folder holds an instance: filled from the folders when somebody asks."""

import sqlalchemy as sa
from alembic import op

revision = "a0002"
down_revision = "a0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Two tables beside the others, which an older version does not look at."""
    op.create_table(
        "folder",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("modified_ns", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("kind", "name", name="one_place"),
    )
    op.create_table(
        "held",
        sa.Column("digest", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("folder", sa.Integer, sa.ForeignKey("folder.id"), primary_key=True, autoincrement=False),
        sqlite_with_rowid=False,
    )
    op.create_index("held_of_folder", "held", ["folder"])


def downgrade() -> None:
    """As before."""
    op.drop_table("held")
    op.drop_table("folder")
