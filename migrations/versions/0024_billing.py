"""Billing"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0024"
down_revision = "0023"


def _text(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text(collation="C"), nullable=nullable)


def upgrade() -> None:
    op.create_table("billed", _text("charge"), sa.Column("rid", sa.BigInteger(), nullable=False), sa.PrimaryKeyConstraint("charge"))
    op.create_index("billed_rid", "billed", ["rid"])
    op.create_table(
        "billing_template",
        sa.Column("rid", sa.BigInteger(), autoincrement=False, nullable=False),
        _text("id"),
        _text("url"),
        _text("version"),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("events", ARRAY(sa.Text(collation="C")), nullable=False),
        sa.Column("whole", ARRAY(sa.Text(collation="C")), nullable=False),
        sa.PrimaryKeyConstraint("rid"),
        sa.UniqueConstraint("url", "version"),
    )
    op.create_table(
        "ledger_entry",
        sa.Column("number", sa.BigInteger(), sa.Identity(), nullable=False),
        _text("invoice"),
        _text("kind"),
        sa.Column("amount", sa.Numeric(), nullable=False),
        _text("currency"),
        _text("cause", nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("invoice", "kind", "cause"),
        sa.CheckConstraint("kind IN ('charge', 'payment', 'credit', 'refund', 'write-off', 'rounding')", name="ledger_entry_kind"),
    )
    op.create_table(
        "invoice_series",
        _text("issuer"),
        _text("kind"),
        sa.Column("year", sa.Integer(), nullable=False),
        _text("series"),
        sa.Column("next", sa.BigInteger(), nullable=False),
        sa.Column("last", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("issuer", "kind", "year"),
        sa.UniqueConstraint("series", "year"),
    )
    op.create_table(
        "billing_request",
        _text("id"),
        _text("kind"),
        _text("invoice"),
        sa.Column("amount", sa.Numeric(), nullable=False),
        _text("currency"),
        sa.Column("reason", sa.Text(), nullable=False),
        _text("state"),
        sa.Column("asked", sa.DateTime(timezone=True), nullable=False),
        sa.Column("asked_by", sa.Text(), nullable=False),
        sa.Column("decided", sa.DateTime(timezone=True), nullable=True),
        sa.Column("decided_by", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.CheckConstraint("kind IN ('discount', 'write-off', 'refund')", name="billing_request_kind"),
        sa.CheckConstraint("state IN ('waiting', 'approved', 'rejected')", name="billing_request_state"),
    )
    op.create_index("billing_request_waiting", "billing_request", ["asked", "id"], postgresql_where=sa.text("state = 'waiting'"))
    op.create_index("billing_request_invoice", "billing_request", ["invoice"])
    # Rows of what is there from before are made with the search rows, when these are found not to fit.
    op.execute(
        "UPDATE index_settings SET fingerprint = fingerprint || '; bills=unread' WHERE EXISTS"
        " (SELECT FROM resource r JOIN resource_type t ON t.tid = r.type WHERE t.name IN ('Invoice', 'ChargeItemDefinition') AND NOT r.deleted)"
    )
