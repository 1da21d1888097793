"""The tables of peers and of what is sent to them, in the MetaData that the migrations must equal."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import TIMESTAMP, BigInteger, Boolean, CheckConstraint, Column, ForeignKey, Identity, Index, Integer, Table, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, BYTEA

from fhir_server.store.tables import metadata


def _text(name: str, *, nullable: bool = False, **options: Any) -> Column[str]:
    return Column(name, Text(collation="C"), nullable=nullable, **options)


def _moment(name: str, *, nullable: bool = False) -> Column[Any]:
    return Column(name, TIMESTAMP(timezone=True), nullable=nullable)


def _count(name: str) -> Column[int]:
    return Column(name, Integer, nullable=False, server_default=text("0"))


hl7v2_peer: Final = Table(
    "hl7v2_peer",
    metadata,
    _text("id", primary_key=True),
    _text("name"),
    _text("host"),
    Column("port", Integer, nullable=False),
    Column("tls", Boolean, nullable=False),
    _text("ca", nullable=True),
    # MSH-5 and 6, then our own names for it, MSH-3 and 4.
    _text("application"),
    _text("facility"),
    _text("own_application"),
    _text("own_facility"),
    _text("version"),
    _text("charset"),
    Column("events", ARRAY(Text(collation="C")), nullable=False),
    Column("seconds", Integer, nullable=False),
    _moment("created"),
    _text("created_by"),
    _moment("disabled", nullable=True),
    # Tries in a row that came to nothing, why the last did, and when the next one is.
    _count("failures"),
    _text("fault", nullable=True),
    _moment("due", nullable=True),
)
"""Systems that are told of changes."""

hl7v2_delivery: Final = Table(
    "hl7v2_delivery",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("peer", Text(collation="C"), ForeignKey("hl7v2_peer.id"), nullable=False),
    _text("control_id", unique=True),
    _text("event"),
    _text("type"),
    _text("resource"),
    Column("version", Integer, nullable=False),
    _text("patient", nullable=True),
    # None where none could be made.
    Column("message", BYTEA),
    _text("state"),
    _count("attempts"),
    # So often it was sent and not answered, since it was made or replayed.
    _count("unanswered"),
    _moment("created"),
    _moment("sent", nullable=True),
    _moment("ended", nullable=True),
    _text("fault", nullable=True),
    Column("answer", BYTEA),
    CheckConstraint("state IN ('waiting', 'delivered', 'dead')", name="hl7v2_delivery_state"),
    Index("hl7v2_delivery_waiting", "peer", "id", postgresql_where=text("state = 'waiting'")),
    Index("hl7v2_delivery_dead", "id", postgresql_where=text("state = 'dead'")),
    Index("hl7v2_delivery_ended", "ended", postgresql_where=text("state = 'delivered'")),
)
"""Messages on their way out, in the order in which each peer gets them, and for a while those that it has taken."""
