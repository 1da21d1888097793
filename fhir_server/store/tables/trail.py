"""The tables of the audit trail and of the chain that proves it. See `trail`, `chain`, `archive`."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Identity, Index, Integer, SmallInteger, Table, Text, text
from sqlalchemy.dialects.postgresql import BYTEA

from fhir_server.search.tables import metadata

from .columns import moment, string, strings

audit_event: Final = Table(
    "audit_event",
    metadata,
    # First, since columns get their defaults in their order: whoever has taken an id is known to be at work by then. See `chain`.
    Column("xid", BigInteger, nullable=False, server_default=text("pg_current_xact_id()::text::bigint")),
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    moment("recorded"),
    moment("received", nullable=True),
    string("kind"),
    string("action"),
    Column("outcome", SmallInteger, nullable=False),
    string("actor"),
    string("account", nullable=True),
    string("fhir_user", nullable=True),
    strings("roles"),
    string("client", nullable=True),
    string("session", nullable=True),
    string("purpose", nullable=True),
    string("address", nullable=True),
    string("request_id", nullable=True),
    string("type", nullable=True),
    string("resource", nullable=True),
    Column("version", Integer),
    strings("patients"),
    string("query", nullable=True),
    string("detail", nullable=True),
    Column("body", Text),
    Index("audit_event_recorded", "recorded", "id"),
    Index("audit_event_actor", "actor", "id"),
    Index("audit_event_fhir_user", "fhir_user", "id", postgresql_where=text("fhir_user IS NOT NULL")),
    Index("audit_event_resource", "type", "resource", "id", postgresql_where=text("resource IS NOT NULL")),
    Index("audit_event_received", "id", postgresql_where=text("received IS NOT NULL")),
    Index("audit_event_patients", "patients", postgresql_using="gin", postgresql_with={"gin_pending_list_limit": 512}),
)
"""What was done, by whom and to whose record: appended, never changed nor deleted, which triggers see to. See `trail`."""

audit_chain: Final = Table(
    "audit_chain",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("event", BigInteger, nullable=False, unique=True),
    # No event with an id up to this one was still to come when the entry was made.
    Column("settled", BigInteger, nullable=False),
    Column("hash", BYTEA, nullable=False),
)
"""The events in the order in which they were sealed, each hash over the one before and the event's content. See `chain`."""

audit_anchor: Final = Table(
    "audit_anchor",
    metadata,
    # An entry of the chain up to which all went to an archive, itself included.
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("settled", BigInteger, nullable=False),
    Column("hash", BYTEA, nullable=False),
    # The transaction that archived, which alone may take out what it did, and when that was; by a trigger.
    Column("xid", BigInteger, nullable=False),
    moment("made"),
)
"""What the chain goes on from after its oldest part was archived. See `archive`."""
