"""The table of messages as they came, in the MetaData that the migrations must equal."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Boolean, CheckConstraint, Column, Index, Integer, Table, text
from sqlalchemy.dialects.postgresql import BYTEA, JSONB

from fhir_server.store.tables import metadata
from fhir_server.store.tables.columns import count, moment, string, strings

hl7v2_message: Final = Table(
    "hl7v2_message",
    metadata,
    # The digest of the bytes: the same bytes are the same message, however often they come.
    string("id", primary_key=True),
    moment("received"),
    string("transport"),
    # Who sent it: the name in the certificate, else the address; over HTTP the actor of the token.
    string("peer"),
    string("address", nullable=True),
    Column("raw", BYTEA, nullable=False),
    # What MSH says, empty where it does not or cannot be read: MSH-3, 4, 10, 9.1, 9.2, 12.
    string("application"),
    string("facility"),
    string("control_id"),
    string("type"),
    string("event"),
    string("version"),
    string("state"),
    Column("attempts", Integer, nullable=False),
    moment("settled", nullable=True),
    # MSA-1 of `ack`, which is the application's acknowledgement; `accept` is that of enhanced mode which came before. Kept though nobody wanted them.
    string("code", nullable=True),
    Column("accept", BYTEA),
    Column("ack", BYTEA),
    Column("faults", JSONB, nullable=False),
    strings("unhandled"),
    # The id of the patient that it is about, and the versions that came of it, as Observation/7/_history/2.
    string("patient", nullable=True),
    strings("written"),
    # Whether another message of the same sender had the same control id.
    Column("reused", Boolean, nullable=False),
    count("repeats"),
    # What an administrator made of it, and when it was last processed anew.
    Column("corrected", BYTEA),
    moment("replayed", nullable=True),
    # How often it has changed, for whoever changes what they have seen; and the patient whom an administrator has chosen.
    count("revision"),
    string("linked", nullable=True),
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
