"""A note for the courier."""

import sqlalchemy as sa
from alembic import op

revision = "003"
down_revision = "002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Let customers leave a note."""
    op.add_column("orders", sa.Column("note", sa.Text))


def downgrade() -> None:
    """Remove the column."""
    op.drop_column("orders", "note")
