"""Scheduling"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TSTZRANGE

revision = "0019"
down_revision = "0017"


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(collation="C"), nullable=False)


def _texts(name: str) -> sa.Column[object]:
    return sa.Column(name, ARRAY(sa.Text(collation="C")), nullable=False)


def upgrade() -> None:
    op.create_table(
        "slot_time",
        sa.Column("rid", sa.BigInteger(), autoincrement=False, nullable=False),
        _text("id"),
        _text("schedule"),
        sa.Column("during", TSTZRANGE(), nullable=False),
        _text("status"),
        sa.Column("room", sa.Integer()),
        _texts("services"),
        sa.Column("kept", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("rid"),
        sa.UniqueConstraint("id"),
    )
    op.create_index("slot_time_when", "slot_time", ["schedule", "during"], postgresql_using="gist")
    op.create_table(
        "schedule_time",
        _text("id"),
        sa.Column("active", sa.Boolean(), nullable=False),
        _texts("services"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "schedule_actor",
        _text("schedule"),
        _text("actor"),
        sa.Column("room", sa.Integer()),
        sa.PrimaryKeyConstraint("schedule", "actor"),
    )
    op.create_index("schedule_actor_whose", "schedule_actor", ["actor", "schedule"])
    op.create_table("scheduling_setting", _text("name"), sa.Column("value", JSONB(), nullable=False), sa.PrimaryKeyConstraint("name"))
    op.create_table(
        "waiting_offer",
        _text("appointment"),
        _text("schedule"),
        sa.Column("start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("appointment", "schedule", "start"),
    )
    # The rows of Slots from before are made with the search rows, when these are found not to fit.
    op.execute(
        "UPDATE index_settings SET fingerprint = fingerprint || '; slots=unread' WHERE EXISTS"
        " (SELECT FROM resource r JOIN resource_type t ON t.tid = r.type WHERE t.name IN ('Schedule', 'Slot') AND NOT r.deleted)"
    )
