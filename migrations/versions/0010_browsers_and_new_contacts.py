"""Browsers' sessions, and contacts that are to be proved"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.add_column("session", sa.Column("browser", postgresql.BYTEA(), nullable=True))
    op.create_unique_constraint("session_browser_key", "session", ["browser"])
    op.add_column("challenge", sa.Column("target", postgresql.BYTEA(), nullable=True))
