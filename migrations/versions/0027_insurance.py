"""Insurance"""

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"

_KINDS = ("charge", "payment", "credit", "refund", "write-off", "rounding", "insurance")


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(collation="C"), nullable=False)


def upgrade() -> None:
    op.drop_constraint("ledger_entry_kind", "ledger_entry")
    op.create_check_constraint("ledger_entry_kind", "ledger_entry", f"kind IN {_KINDS}")
    op.create_table(
        "insurer_payment",
        sa.Column("number", sa.BigInteger(), sa.Identity(), nullable=False),
        _text("invoice"),
        sa.Column("amount", sa.Numeric(), nullable=False),
        _text("currency"),
        _text("cause"),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("cause"),
    )
    op.create_index("insurer_payment_invoice", "insurer_payment", ["invoice"])
    op.create_table(
        "insured_invoice",
        _text("invoice"),
        _text("coverage"),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("deductible", sa.Numeric(), nullable=False),
        sa.Column("outside", sa.Numeric(), nullable=False),
        _text("currency"),
        sa.PrimaryKeyConstraint("invoice"),
    )
    op.create_index("insured_invoice_coverage", "insured_invoice", ["coverage", "day"])
    op.create_table(
        "claimed",
        sa.Column("rid", sa.BigInteger(), autoincrement=False, nullable=False),
        _text("claim"),
        _text("invoice"),
        _text("coverage"),
        sa.Column("answered", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("rid"),
        sa.UniqueConstraint("claim"),
        sa.UniqueConstraint("invoice", "coverage"),
    )
    op.execute("INSERT INTO outbox_listener (consumer, type) VALUES ('insurance', 'ClaimResponse')")
