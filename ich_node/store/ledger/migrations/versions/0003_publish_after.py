"""When results may go out, and what is told instead of an analysis."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Every job of before may publish at once."""
    op.add_column("job", sa.Column("publish_after", sa.Float, nullable=False, server_default="0"))
    op.add_column("job", sa.Column("told", sa.Text))


def downgrade() -> None:
    """Raises NotImplementedError."""
    raise NotImplementedError("an older version cannot hold what this one keeps: restore the copy made before")
