"""What changed, for those who listen"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0015"
down_revision = "0014"


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
        sa.Column("client", sa.Text()),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("outbox_consumer", "outbox", ["consumer", "id"])
    # Where the broker keeps its queues when the database is the broker: its library makes the tables.
    op.execute("CREATE SCHEMA broker")
    _peers()


def _optional(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(collation="C"))


def _moment(name: str, *, nullable: bool = True) -> sa.Column[object]:
    return sa.Column(name, sa.TIMESTAMP(timezone=True), nullable=nullable)


def _count(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer(), server_default=sa.text("0"), nullable=False)


def _peers() -> None:
    op.create_table(
        "hl7v2_peer",
        _text("id"),
        _text("name"),
        _text("host"),
        sa.Column("port", sa.Integer(), nullable=False),
        sa.Column("tls", sa.Boolean(), nullable=False),
        _optional("ca"),
        *(_text(name) for name in ("application", "facility", "own_application", "own_facility", "version", "charset")),
        sa.Column("events", postgresql.ARRAY(sa.Text(collation="C")), nullable=False),
        sa.Column("seconds", sa.Integer(), nullable=False),
        _moment("created", nullable=False),
        _text("created_by"),
        _moment("disabled"),
        _count("failures"),
        _optional("fault"),
        _moment("due"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "hl7v2_delivery",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        _text("peer"),
        _text("control_id"),
        *(_text(name) for name in ("event", "type", "resource")),
        sa.Column("version", sa.Integer(), nullable=False),
        _optional("patient"),
        sa.Column("message", postgresql.BYTEA()),
        _text("state"),
        _count("attempts"),
        _count("unanswered"),
        _moment("created", nullable=False),
        _moment("sent"),
        _moment("ended"),
        _optional("fault"),
        sa.Column("answer", postgresql.BYTEA()),
        sa.CheckConstraint("state IN ('waiting', 'delivered', 'dead')", name="hl7v2_delivery_state"),
        sa.ForeignKeyConstraint(["peer"], ["hl7v2_peer.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("control_id"),
    )
    op.create_index("hl7v2_delivery_waiting", "hl7v2_delivery", ["peer", "id"], postgresql_where=sa.text("state = 'waiting'"))
    op.create_index("hl7v2_delivery_dead", "hl7v2_delivery", ["id"], postgresql_where=sa.text("state = 'dead'"))
    op.create_index("hl7v2_delivery_ended", "hl7v2_delivery", ["ended"], postgresql_where=sa.text("state = 'delivered'"))
