"""What changed, for those who listen"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0011"


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(collation="C"), nullable=False)


def upgrade() -> None:
    op.add_column("search_generation", sa.Column("listening", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.create_table("outbox_listener", _text("consumer"), _text("type"), sa.PrimaryKeyConstraint("consumer", "type"))
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        _text("consumer"),
        _text("type"),
        _text("resource"),
        sa.Column("version", sa.Integer(), nullable=False),
        _text("kind"),
        sa.Column("at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("outbox_consumer", "outbox", ["consumer", "id"])
    # Where the broker keeps its queues when the database is the broker: its library makes the tables.
    op.execute("CREATE SCHEMA broker")
