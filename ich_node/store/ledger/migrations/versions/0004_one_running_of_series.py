"""No series has two running jobs: what workers on several machines must not be able to break."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

RUNNING = sa.text("state = 'running'")


def upgrade() -> None:
    """It was so before, by one writer at a time."""
    op.create_index(
        "one_running_of_series", "job", ["series_uid"], unique=True, sqlite_where=RUNNING, postgresql_where=RUNNING
    )


def downgrade() -> None:
    """As before."""
    op.drop_index("one_running_of_series", "job")
