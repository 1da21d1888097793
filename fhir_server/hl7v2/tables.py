"""The table of messages as they came, in the MetaData that the migrations must equal."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import TIMESTAMP, Boolean, CheckConstraint, Column, Index, Integer, Table, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, BYTEA, JSONB

from fhir_server.store.tables import metadata


def _text(name: str, *, nullable: bool = False, **options: Any) -> Column[str]:
    return Column(name, Text(collation="C"), nullable=nullable, **options)


def _moment(name: str, *, nullable: bool = False) -> Column[Any]:
    return Column(name, TIMESTAMP(timezone=True), nullable=nullable)


hl7v2_message: Final = Table(
    "hl7v2_message",
    metadata,
    # The digest of the bytes: the same bytes are the same message, however often they come.
    _text("id", primary_key=True),
    _moment("received"),
    _text("transport"),
    # Who sent it: the name in the certificate, else the address; over HTTP the actor of the token.
    _text("peer"),
    _text("address", nullable=True),
    Column("raw", BYTEA, nullable=False),
    # What MSH says, empty where it does not or cannot be read: MSH-3, 4, 10, 9.1, 9.2, 12.
    _text("application"),
    _text("facility"),
    _text("control_id"),
    _text("type"),
    _text("event"),
    _text("version"),
    _text("state"),
    Column("attempts", Integer, nullable=False),
    _moment("settled", nullable=True),
    # MSA-1 of `ack`, which is the application's acknowledgement; `accept` is that of enhanced mode which came before. Kept though nobody wanted them.
    _text("code", nullable=True),
    Column("accept", BYTEA),
    Column("ack", BYTEA),
    Column("faults", JSONB, nullable=False),
    Column("unhandled", ARRAY(Text(collation="C")), nullable=False),
    # The id of the patient that it is about, and the versions that came of it, as Observation/7/_history/2.
    _text("patient", nullable=True),
    Column("written", ARRAY(Text(collation="C")), nullable=False),
    # Whether another message of the same sender had the same control id.
    Column("reused", Boolean, nullable=False),
    Column("repeats", Integer, nullable=False, server_default=text("0")),
    # What an administrator made of it, and when it was last processed anew.
    Column("corrected", BYTEA),
    _moment("replayed", nullable=True),
    # How often it has changed, for whoever changes what they have seen; and the patient whom an administrator has chosen.
    Column("revision", Integer, nullable=False, server_default=text("0")),
    _text("linked", nullable=True),
    CheckConstraint(
        "state IN ('received', 'processed', 'warning', 'unmatched', 'unmapped', 'invalid', 'rejected', 'unreadable', 'failed')",
        name="hl7v2_message_state_known",
    ),
    Index("hl7v2_message_received", "received", "id"),
    Index("hl7v2_message_inbox", "state", "received", "id", postgresql_where=text("state NOT IN ('processed', 'warning')")),
    Index("hl7v2_message_control", "control_id", "application", "facility"),
    Index("hl7v2_message_patient", "patient", "received", postgresql_where=text("patient IS NOT NULL")),
)
"""Every message that came, before anything was answered. What became of it is its state; see `processing.State`."""
