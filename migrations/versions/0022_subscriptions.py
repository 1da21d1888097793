"""Subscriptions"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0022"
down_revision = "0021"


def _text(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text(collation="C"), nullable=nullable)


def _moment(name: str, *, nullable: bool = True) -> sa.Column[object]:
    return sa.Column(name, sa.TIMESTAMP(timezone=True), nullable=nullable)


def _count(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer(), server_default=sa.text("0"), nullable=False)


def upgrade() -> None:
    op.create_table(
        "subscription",
        *(_text(name) for name in ("id", "holder", "state")),
        _text("type", nullable=True),
        sa.Column("secret", postgresql.BYTEA()),
        _count("failures"),
        _text("fault", nullable=True),
        _moment("due"),
        _moment("ends"),
        sa.CheckConstraint("state IN ('new', 'active', 'error', 'off')", name="subscription_state"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("subscription_type", "subscription", ["type"], postgresql_where=sa.text("state = 'active'"))
    op.create_table(
        "subscription_delivery",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        *(_text(name) for name in ("subscription", "type", "resource")),
        sa.Column("version", sa.Integer(), nullable=False),
        _text("state"),
        _count("attempts"),
        _moment("created", nullable=False),
        _moment("ended"),
        _text("fault", nullable=True),
        sa.CheckConstraint("state IN ('waiting', 'delivered', 'dead')", name="subscription_delivery_state"),
        sa.ForeignKeyConstraint(["subscription"], ["subscription.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("subscription", "type", "resource", "version"),
    )
    op.create_index("subscription_delivery_waiting", "subscription_delivery", ["subscription", "id"], postgresql_where=sa.text("state = 'waiting'"))
    op.create_index("subscription_delivery_ended", "subscription_delivery", ["ended"], postgresql_where=sa.text("ended IS NOT NULL"))
    op.execute("INSERT INTO outbox_listener (consumer, type) VALUES ('subscriptions', 'Subscription')")
    op.execute("UPDATE search_generation SET listening = listening + 1")
