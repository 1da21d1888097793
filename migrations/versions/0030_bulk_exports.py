"""Bulk exports"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import BYTEA

revision = "0030"
down_revision = "0029"


def upgrade() -> None:
    op.create_table(
        "bulk_export",
        sa.Column("id", sa.Text(collation="C"), nullable=False),
        sa.Column("actor", sa.Text(collation="C"), nullable=False),
        sa.Column("holder", sa.Text(collation="C"), nullable=False),
        sa.Column("request", sa.Text(collation="C"), nullable=False),
        sa.Column("state", sa.Text(collation="C"), nullable=False),
        sa.Column("done", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True)),
        sa.Column("ended", sa.DateTime(timezone=True)),
        sa.Column("fault", sa.Text()),
        sa.CheckConstraint("state IN ('waiting', 'running', 'done', 'failed')", name="bulk_export_state"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("bulk_export_open", "bulk_export", ["created"], postgresql_where=sa.text("state IN ('waiting', 'running')"))
    op.create_table(
        "bulk_file",
        sa.Column("export", sa.Text(collation="C"), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("type", sa.Text(collation="C"), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("content", BYTEA(), nullable=False),
        sa.ForeignKeyConstraint(["export"], ["bulk_export.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("export", "number"),
    )
    # It is packed already.
    op.execute("ALTER TABLE bulk_file ALTER COLUMN content SET STORAGE EXTERNAL")
