"""What administrators set"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"


def _text(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text(collation="C"), nullable=nullable)


def _moment(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.TIMESTAMP(timezone=True), nullable=nullable)


def upgrade() -> None:
    op.create_table(
        "idempotency",
        sa.Column("key", postgresql.BYTEA(), nullable=False),
        sa.Column("request", postgresql.BYTEA(), nullable=False),
        sa.Column("answer", postgresql.BYTEA()),
        _moment("at"),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_index("idempotency_at", "idempotency", ["at"])
    op.create_index("session_open", "session", ["created", "id"], postgresql_where=sa.text("ended IS NULL"))
    op.create_table(
        "reindex_job",
        _text("id"),
        _text("type", nullable=True),
        _text("code", nullable=True),
        _text("state"),
        sa.Column("done", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("total", sa.BigInteger()),
        _text("actor"),
        _moment("created"),
        _moment("started", nullable=True),
        _moment("ended", nullable=True),
        sa.Column("fault", sa.Text()),
        sa.CheckConstraint("state IN ('waiting', 'running', 'done', 'failed')", name="reindex_job_state"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("reindex_job_created", "reindex_job", ["created", "id"])
    op.create_index("reindex_job_open", "reindex_job", ["created"], postgresql_where=sa.text("state IN ('waiting', 'running')"))
