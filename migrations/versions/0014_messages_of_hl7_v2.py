"""Messages of HL7 v2 as they came"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, BYTEA, JSONB

revision = "0014"
down_revision = "0013"


def _text(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text(collation="C"), nullable=nullable)


def _moment(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.TIMESTAMP(timezone=True), nullable=nullable)


def upgrade() -> None:
    op.create_table(
        "hl7v2_message",
        sa.Column("id", sa.Text(collation="C"), primary_key=True),
        _moment("received"),
        _text("transport"),
        _text("peer"),
        _text("address", nullable=True),
        sa.Column("raw", BYTEA(), nullable=False),
        _text("application"),
        _text("facility"),
        _text("control_id"),
        _text("type"),
        _text("event"),
        _text("version"),
        _text("state"),
        sa.Column("attempts", sa.Integer(), nullable=False),
        _moment("settled", nullable=True),
        _text("code", nullable=True),
        sa.Column("accept", BYTEA()),
        sa.Column("ack", BYTEA()),
        sa.Column("faults", JSONB(), nullable=False),
        sa.Column("unhandled", ARRAY(sa.Text(collation="C")), nullable=False),
        _text("patient", nullable=True),
        sa.Column("written", ARRAY(sa.Text(collation="C")), nullable=False),
        sa.Column("reused", sa.Boolean(), nullable=False),
        sa.Column("repeats", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("corrected", BYTEA()),
        _moment("replayed", nullable=True),
        sa.CheckConstraint(
            "state IN ('received', 'processed', 'warning', 'unmatched', 'unmapped', 'invalid', 'rejected', 'unreadable', 'failed')",
            name="hl7v2_message_state_known",
        ),
    )
    op.create_index("hl7v2_message_received", "hl7v2_message", ["received", "id"])
    op.create_index(
        "hl7v2_message_inbox", "hl7v2_message", ["state", "received", "id"], postgresql_where=sa.text("state NOT IN ('processed', 'warning')")
    )
    op.create_index("hl7v2_message_control", "hl7v2_message", ["control_id", "application", "facility"])
    op.create_index("hl7v2_message_patient", "hl7v2_message", ["patient", "received"], postgresql_where=sa.text("patient IS NOT NULL"))
