"""Payments online"""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"


def _text(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text(collation="C"), nullable=nullable)


def _moment(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def upgrade() -> None:
    op.create_table(
        "payment_intent",
        *map(_text, ("id", "invoice", "gateway")),
        sa.Column("amount", sa.Numeric(), nullable=False),
        *map(_text, ("currency", "state", "key", "token", "back", "title")),
        *(_text(name, nullable=True) for name in ("reference", "session", "url", "payment")),
        sa.Column("received", sa.Numeric(), nullable=True),
        sa.Column("refunded", sa.Numeric(), nullable=False, server_default="0"),
        sa.Column("returned", sa.Numeric(), nullable=False, server_default="0"),
        _text("dispute", nullable=True),
        _moment("disputed", nullable=True),
        _text("fault", nullable=True),
        _moment("asked"),
        sa.Column("asked_by", sa.Text(), nullable=False),
        _moment("changed"),
        _moment("checked", nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("token"),
        sa.UniqueConstraint("gateway", "reference"),
        sa.UniqueConstraint("gateway", "session"),
        sa.CheckConstraint(
            "state IN ('created', 'requires_action', 'processing', 'succeeded', 'failed', 'cancelled', 'unknown')", name="payment_intent_state"
        ),
    )
    op.create_index("payment_intent_invoice", "payment_intent", ["invoice"])
    op.create_index("payment_intent_asked", "payment_intent", ["asked", "id"])
    is_open = sa.text("state IN ('created', 'requires_action', 'processing', 'failed', 'unknown')")
    op.create_index("payment_intent_open", "payment_intent", ["checked"], postgresql_where=is_open)
    op.create_table(
        "payment_refund",
        *map(_text, ("id", "intent", "invoice")),
        sa.Column("amount", sa.Numeric(), nullable=False),
        *map(_text, ("currency", "state", "key")),
        _text("reference", nullable=True),
        _text("fault", nullable=True),
        _moment("asked"),
        _moment("tried", nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.CheckConstraint("state IN ('requested', 'submitted', 'succeeded', 'failed', 'unknown')", name="payment_refund_state"),
    )
    op.create_index("payment_refund_intent", "payment_refund", ["intent"])
    op.create_index("payment_refund_invoice", "payment_refund", ["invoice"], postgresql_where=sa.text("state = 'requested'"))
    is_open = sa.text("state IN ('requested', 'submitted', 'unknown')")
    op.create_index("payment_refund_open", "payment_refund", ["asked"], postgresql_where=is_open)
    op.create_table(
        "payment_event",
        sa.Column("number", sa.BigInteger(), sa.Identity(), nullable=False),
        *map(_text, ("gateway", "id", "type")),
        _text("reference", nullable=True),
        _text("state"),
        _text("reason", nullable=True),
        sa.Column("body", sa.Text(), nullable=True),
        _text("intent", nullable=True),
        _moment("came"),
        _moment("settled", nullable=True),
        sa.Column("settled_by", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("gateway", "id"),
        sa.CheckConstraint("state IN ('applied', 'ignored', 'parked')", name="payment_event_state"),
    )
    op.create_index("payment_event_parked", "payment_event", ["number"], postgresql_where=sa.text("state = 'parked'"))
    op.create_table(
        "payment_day",
        _text("gateway"),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("payments", sa.Integer(), nullable=False),
        sa.Column("differences", sa.Integer(), nullable=False),
        _moment("compared"),
        sa.PrimaryKeyConstraint("gateway", "day"),
    )
    op.create_table(
        "payment_difference",
        sa.Column("number", sa.BigInteger(), sa.Identity(), nullable=False),
        _text("gateway"),
        sa.Column("day", sa.Date(), nullable=False),
        _text("kind"),
        *(_text(name, nullable=True) for name in ("intent", "invoice", "reference", "currency")),
        sa.Column("ours", sa.Numeric(), nullable=True),
        sa.Column("theirs", sa.Numeric(), nullable=True),
        sa.PrimaryKeyConstraint("number"),
    )
    op.create_index("payment_difference_day", "payment_difference", ["gateway", "day"])
