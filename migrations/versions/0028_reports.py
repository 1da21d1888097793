"""Reports"""

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"


def _text(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text(collation="C"), nullable=nullable)


def _rid() -> sa.Column[int]:
    return sa.Column("rid", sa.BigInteger(), autoincrement=False, nullable=False)


def _day() -> sa.Column[object]:
    return sa.Column("day", sa.Date(), nullable=False)


def _number(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.Numeric(), nullable=False)


def _flag(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean(), nullable=False)


def upgrade() -> None:
    op.create_table(
        "invoice_sum",
        *(_rid(), _text("id"), _day(), _text("currency"), _number("net"), _number("gross"), _number("due"), _flag("credit")),
        sa.PrimaryKeyConstraint("rid"),
    )
    op.create_index("invoice_sum_due", "invoice_sum", ["day"], postgresql_where=sa.text("due <> 0"))
    op.create_table(
        "invoice_line",
        _rid(),
        sa.Column("line", sa.Integer(), autoincrement=False, nullable=False),
        *(_day(), _text("currency"), _number("net"), _number("tax"), _flag("credit")),
        *(_text("charge", nullable=True), _text("template"), _text("doctor")),
        sa.PrimaryKeyConstraint("rid", "line"),
    )
    op.create_index("invoice_line_day", "invoice_line", ["day"])
    op.create_index("invoice_line_charge", "invoice_line", ["charge"], postgresql_where=sa.text("charge IS NOT NULL"))
    op.create_table(
        "payment_sum",
        *(_rid(), _day(), _text("method"), _text("currency"), _number("amount")),
        sa.PrimaryKeyConstraint("rid"),
    )
    op.create_index("payment_sum_day", "payment_sum", ["day"])
    op.create_table(
        "visit_time",
        *(_rid(), _text("location"), _text("zone")),
        sa.Column("arrived", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen", sa.DateTime(timezone=True), nullable=True),
        _flag("went"),
        sa.PrimaryKeyConstraint("rid"),
    )
    op.create_index("visit_time_arrived", "visit_time", ["arrived"])
    # Rows of what is there from before are made with the search rows, when these are found not to fit.
    op.execute(
        "UPDATE index_settings SET fingerprint = fingerprint || '; reports=unread' WHERE EXISTS (SELECT FROM resource r"
        " JOIN resource_type t ON t.tid = r.type WHERE t.name IN ('Invoice', 'PaymentReconciliation', 'Encounter') AND NOT r.deleted)"
    )
