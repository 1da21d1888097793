"""Payments at the desk"""

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"


def _text(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text(collation="C"), nullable=nullable)


def upgrade() -> None:
    op.create_table(
        "payment",
        _text("id"),
        _text("method"),
        sa.Column("amount", sa.Numeric(), nullable=False),
        _text("currency"),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        _text("shift", nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("payment_shift", "payment", ["shift"], postgresql_where=sa.text("shift IS NOT NULL"))
    op.create_table(
        "cash_shift",
        _text("id"),
        _text("location"),
        sa.Column("opened", sa.DateTime(timezone=True), nullable=False),
        sa.Column("opened_by", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        _text("currency"),
        sa.Column("float", sa.Numeric(), nullable=False),
        sa.Column("closed", sa.DateTime(timezone=True), nullable=True),
        sa.Column("closed_by", sa.Text(), nullable=True),
        sa.Column("counted", sa.Numeric(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("report", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.CheckConstraint("(closed IS NULL) = (report IS NULL)", name="cash_shift_closed"),
    )
    op.create_index("cash_shift_open", "cash_shift", ["location"], unique=True, postgresql_where=sa.text("closed IS NULL"))
    op.create_index("cash_shift_of", "cash_shift", ["opened_by"], unique=True, postgresql_where=sa.text("closed IS NULL"))
    op.create_index("cash_shift_opened", "cash_shift", ["opened", "id"])
