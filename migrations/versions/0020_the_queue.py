"""The queue"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"


def _text(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text(collation="C"), nullable=nullable)


def _moment(name: str, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def upgrade() -> None:
    op.create_table(
        "queue_entry",
        _text("encounter"),
        _text("location"),
        _text("patient", nullable=True),
        _text("appointment", nullable=True),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("token", sa.Integer(), nullable=False),
        _text("zone"),
        _moment("assigned"),
        _moment("credit"),
        _moment("arrived"),
        _text("state"),
        _moment("changed"),
        _moment("called", nullable=True),
        _moment("started", nullable=True),
        _moment("ended", nullable=True),
        _text("ending", nullable=True),
        _text("room", nullable=True),
        _text("practitioner", nullable=True),
        sa.Column("recalls", sa.Integer(), nullable=False),
        _moment("skipped", nullable=True),
        _moment("alerted", nullable=True),
        sa.PrimaryKeyConstraint("encounter"),
        sa.CheckConstraint("state IN ('waiting', 'called', 'in-service', 'paused', 'ended')", name="queue_entry_state"),
    )
    op.create_index("queue_entry_open", "queue_entry", ["location"], postgresql_where=sa.text("state <> 'ended'"))
    op.create_index("queue_entry_patient", "queue_entry", ["patient"], postgresql_where=sa.text("state <> 'ended'"))
    op.create_index("queue_entry_arrived", "queue_entry", ["location", "arrived"])
    op.create_table(
        "queue_event",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        _text("encounter"),
        _text("location"),
        _moment("at"),
        _text("event"),
        _text("zone"),
        _text("state"),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("before", sa.Text()),
        sa.Column("undone", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("queue_event_encounter", "queue_event", ["encounter", "id"])
    op.create_table(
        "queue_counter",
        _text("location"),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("last", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("location", "day"),
    )
    op.create_table(
        "queue_setting",
        _text("location"),
        _text("zone"),
        sa.Column("target", sa.Integer(), nullable=False),
        sa.Column("maximum", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("location", "zone"),
    )
