"""The tables of peers and of what is sent to them, in the MetaData that the migrations must equal."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Boolean, CheckConstraint, Column, ForeignKey, Index, Integer, Table, text
from sqlalchemy.dialects.postgresql import BYTEA

from fhir_server.store.tables import metadata
from fhir_server.store.tables.columns import count, moment, serial, string, strings

hl7v2_peer: Final = Table(
    "hl7v2_peer",
    metadata,
    string("id", primary_key=True),
    string("name"),
    string("host"),
    Column("port", Integer, nullable=False),
    Column("tls", Boolean, nullable=False),
    string("ca", nullable=True),
    # MSH-5 and 6, then our own names for it, MSH-3 and 4.
    string("application"),
    string("facility"),
    string("own_application"),
    string("own_facility"),
    string("version"),
    string("charset"),
    strings("events"),
    Column("seconds", Integer, nullable=False),
    moment("created"),
    string("created_by"),
    moment("disabled", nullable=True),
    # Tries in a row that came to nothing, why the last did, and when the next one is.
    count("failures"),
    string("fault", nullable=True),
    moment("due", nullable=True),
)
"""Systems that are told of changes."""

hl7v2_delivery: Final = Table(
    "hl7v2_delivery",
    metadata,
    serial(),
    string("peer", ForeignKey("hl7v2_peer.id")),
    string("control_id", unique=True),
    string("event"),
    string("type"),
    string("resource"),
    Column("version", Integer, nullable=False),
    string("patient", nullable=True),
    # None where none could be made.
    Column("message", BYTEA),
    string("state"),
    count("attempts"),
    # So often it was sent and not answered, since it was made or replayed.
    count("unanswered"),
    moment("created"),
    moment("sent", nullable=True),
    moment("ended", nullable=True),
    string("fault", nullable=True),
    Column("answer", BYTEA),
    CheckConstraint("state IN ('waiting', 'delivered', 'dead')", name="hl7v2_delivery_state"),
    Index("hl7v2_delivery_waiting", "peer", "id", postgresql_where=text("state = 'waiting'")),
    Index("hl7v2_delivery_dead", "id", postgresql_where=text("state = 'dead'")),
    Index("hl7v2_delivery_ended", "ended", postgresql_where=text("state = 'delivered'")),
)
"""Messages on their way out, in the order in which each peer gets them, and for a while those that it has taken."""
