"""The tables of the record: appended versions, a narrow pointer to the current one, transactions, dictionaries.

The search tables are declared where they are searched, in `search`; those of the queue, reports, the outbox and the trail beside this module. All
stand in one MetaData, which the migrations must equal.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Sequence,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, BYTEA, TSTZRANGE, ExcludeConstraint

from fhir_server.search.tables import metadata

from .outbox_tables import outbox, outbox_listener, subscription, subscription_delivery
from .queue_tables import queue_counter, queue_entry, queue_event, queue_setting
from .report_tables import invoice_line, invoice_sum, payment_sum, visit_time
from .trail_tables import audit_anchor, audit_chain, audit_event

INDEX_TABLES: Final = tuple(table for name, table in sorted(metadata.tables.items()) if name.startswith("sp_"))
"""The search tables that hold index rows, in one order for every statement."""

BLOCK: Final = 64
resource_rid: Final = Sequence("resource_rid", increment=BLOCK, metadata=metadata)
"""Resource numbers are taken in blocks by each process, so that index rows can be made before the row they point to."""
transaction_txn: Final = Sequence("transaction_txn", increment=BLOCK, metadata=metadata)

resource: Final = Table(
    "resource",
    metadata,
    Column("rid", BigInteger, primary_key=True, autoincrement=False),
    Column("type", SmallInteger, nullable=False),
    Column("id", Text(collation="C"), nullable=False),
    Column("vid", BigInteger, nullable=False),
    Column("version", Integer, nullable=False),
    Column("deleted", Boolean, nullable=False),
    Column("updated", DateTime(timezone=True), nullable=False),
    UniqueConstraint("type", "id"),
    Index("resource_newest", "type", "rid", postgresql_where=text("NOT deleted")),
    Index("resource_updated", "type", "updated", "rid", postgresql_where=text("NOT deleted")),
)

resource_version: Final = Table(
    "resource_version",
    metadata,
    Column("vid", BigInteger, Identity(), primary_key=True),
    Column("rid", BigInteger, nullable=False),
    Column("type", SmallInteger, nullable=False),
    Column("version", Integer, nullable=False),
    Column("method", Text(collation="C"), nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("txn", BigInteger, nullable=False),
    Column("body", Text),
    # The writing transaction's, by which a page link tells what it has seen; 0 for what came from another cluster.
    Column("xid", BigInteger, nullable=False, server_default=text("pg_current_xact_id()::text::bigint")),
    Index("resource_version_xid", "xid"),
    Index("resource_version_instance", "rid", "version", unique=True),
    Index("resource_version_type", "type", "vid"),
    Index("resource_version_at", "at", postgresql_using="brin"),
)

transaction: Final = Table(
    "transaction",
    metadata,
    Column("txn", BigInteger, primary_key=True, autoincrement=False),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("actor", Text, nullable=False),
    Column("request_id", Text, nullable=False),
)

once: Final = Table(
    "once",
    metadata,
    Column("key", BYTEA, primary_key=True),
)
"""Keys of work that is done once however often it is asked for: digests of loaded files, Idempotency-Keys."""

index_settings: Final = Table(
    "index_settings",
    metadata,
    # One row at the most; none says that nobody knows how the index rows were made.
    Column("single", Boolean, CheckConstraint("single", name="index_settings_single"), primary_key=True, server_default=text("true")),
    Column("fingerprint", Text, nullable=False),
    Column("addresses", ARRAY(Text), nullable=False),
)
"""What the index rows were made under; see `rebuild`."""

search_generation: Final = Table(
    "search_generation",
    metadata,
    # One row, made by the migration.
    Column("single", Boolean, CheckConstraint("single", name="search_generation_single"), primary_key=True, server_default=text("true")),
    Column("generation", Integer, nullable=False),
    Column("listening", Integer, nullable=False, server_default=text("0")),
)
"""Goes up with every change of the set of search parameters; whoever writes with an older set writes nothing. See `parameters`.

So does `listening` with every change of which types are listened to. See `outbox`.
"""

consent_rule: Final = Table(
    "consent_rule",
    metadata,
    Column("rid", BigInteger, primary_key=True, autoincrement=False),
    Column("body", Text, nullable=False),
)
"""The current Consents that forbid something: few, so that whoever looks for them need not read all."""

consent_generation: Final = Table(
    "consent_generation",
    metadata,
    # One row, made by the migration.
    Column("single", Boolean, CheckConstraint("single", name="consent_generation_single"), primary_key=True, server_default=text("true")),
    Column("generation", Integer, nullable=False),
)
"""Goes up with every change of what is forbidden, of who works where, or of the policy."""

consent_permit: Final = Table(
    "consent_permit",
    metadata,
    # The Consent's.
    Column("rid", BigInteger, nullable=False),
    Column("patient", Text(collation="C"), nullable=False),
    # Whoever is all of these, for one of these, to resources of one of these types; an empty list narrows nothing.
    Column("parties", ARRAY(Text(collation="C")), nullable=False),
    Column("purposes", ARRAY(Text(collation="C")), nullable=False),
    Column("types", ARRAY(SmallInteger), nullable=False),
    # Half open.
    Column("lo", DateTime(timezone=True), nullable=False),
    Column("hi", DateTime(timezone=True), nullable=False),
    Index("consent_permit_patient", "patient"),
    Index("consent_permit_rid", "rid"),
)
"""What current Consents permit; asked by each statement for which it counts. See `search.permit`."""

occupancy: Final = Table(
    "occupancy",
    metadata,
    # The Appointment's.
    Column("rid", BigInteger, primary_key=True, autoincrement=False),
    # Whom or what it holds, as Practitioner/7, or by URL.
    Column("actor", Text(collation="C"), primary_key=True),
    Column("lane", Integer, nullable=False),
    Column("during", TSTZRANGE, nullable=False),
    # A hold that expires holds nothing from then on, though its row may still be there.
    Column("expires", DateTime(timezone=True)),
    # There was no room for it when the row was made from what had been stored before.
    Column("clash", Boolean, nullable=False),
    ExcludeConstraint(("actor", "="), ("during", "&&"), ("lane", "="), name="occupancy_once", using="gist"),
    Index("occupancy_clash", "rid", postgresql_where=text("clash")),
)
"""What appointments hold when; no two rows of an actor overlap in one lane. See `occupancy`."""

slot_time: Final = Table(
    "slot_time",
    metadata,
    Column("rid", BigInteger, primary_key=True, autoincrement=False),
    Column("id", Text(collation="C"), nullable=False, unique=True),
    Column("schedule", Text(collation="C"), nullable=False),
    Column("during", TSTZRANGE, nullable=False),
    Column("status", Text(collation="C"), nullable=False),
    # For how many appointments there is room that name it.
    Column("room", Integer),
    Column("services", ARRAY(Text(collation="C")), nullable=False),
    # Its status follows the appointments.
    Column("kept", Boolean, nullable=False),
    Index("slot_time_when", "schedule", "during", postgresql_using="gist"),
)
"""The Slots. See `slots`."""

schedule_time: Final = Table(
    "schedule_time",
    metadata,
    Column("id", Text(collation="C"), primary_key=True),
    Column("active", Boolean, nullable=False),
    Column("services", ARRAY(Text(collation="C")), nullable=False),
)
"""The Schedules, with what is done in them."""

schedule_actor: Final = Table(
    "schedule_actor",
    metadata,
    Column("schedule", Text(collation="C"), primary_key=True),
    # As in `occupancy`; a role is the person in it, too, and where and for what they are there.
    Column("actor", Text(collation="C"), primary_key=True),
    # For how many at a time there is room; none where it is not held.
    Column("room", Integer),
    Index("schedule_actor_whose", "actor", "schedule"),
)
"""Whose time a Schedule is about."""

reindex_job: Final = Table(
    "reindex_job",
    metadata,
    Column("id", Text(collation="C"), primary_key=True),
    # What is indexed anew: all of it, one type, one parameter, or one parameter of one type.
    Column("type", Text(collation="C")),
    Column("code", Text(collation="C")),
    Column("state", Text(collation="C"), nullable=False),
    Column("done", BigInteger, nullable=False, server_default=text("0")),
    Column("total", BigInteger),
    Column("actor", Text(collation="C"), nullable=False),
    Column("created", DateTime(timezone=True), nullable=False),
    Column("started", DateTime(timezone=True)),
    Column("ended", DateTime(timezone=True)),
    Column("fault", Text),
    CheckConstraint("state IN ('waiting', 'running', 'done', 'failed')", name="reindex_job_state"),
    Index("reindex_job_created", "created", "id"),
    Index("reindex_job_open", "created", postgresql_where=text("state IN ('waiting', 'running')")),
)
"""Reindexing that was asked for from outside; see `jobs`."""

billed: Final = Table(
    "billed",
    metadata,
    Column("charge", Text(collation="C"), primary_key=True),
    Column("rid", BigInteger, nullable=False),
    Index("billed_rid", "rid"),
)
"""Which invoice each ChargeItem, by id, is on: no more than one. See `bills`."""

billing_template: Final = Table(
    "billing_template",
    metadata,
    Column("rid", BigInteger, primary_key=True, autoincrement=False),
    Column("id", Text(collation="C"), nullable=False),
    Column("url", Text(collation="C"), nullable=False),
    Column("version", Text(collation="C"), nullable=False),
    Column("active", Boolean, nullable=False),
    # What makes the server apply it, and the templates that it is a part of.
    Column("events", ARRAY(Text(collation="C")), nullable=False),
    Column("whole", ARRAY(Text(collation="C")), nullable=False),
    UniqueConstraint("url", "version"),
)
"""The ChargeItemDefinitions that are active, or were. See `bills`."""

claimed: Final = Table(
    "claimed",
    metadata,
    Column("rid", BigInteger, primary_key=True, autoincrement=False),
    Column("claim", Text(collation="C"), nullable=False, unique=True),
    Column("invoice", Text(collation="C"), nullable=False),
    Column("coverage", Text(collation="C"), nullable=False),
    # Whether the payer has said all it has to say.
    Column("answered", Boolean, nullable=False),
    UniqueConstraint("invoice", "coverage"),
)
"""The Claims of invoices that are not cancelled, all by id: one for each invoice and coverage. See `insurance`."""

bulk_export: Final = Table(
    "bulk_export",
    metadata,
    Column("id", Text(collation="C"), primary_key=True),
    Column("actor", Text(collation="C"), nullable=False),
    # What was open to them when they asked, as JSON.
    Column("holder", Text(collation="C"), nullable=False),
    # What they asked for, as JSON.
    Column("request", Text(collation="C"), nullable=False),
    Column("state", Text(collation="C"), nullable=False),
    Column("done", BigInteger, nullable=False, server_default=text("0")),
    Column("created", DateTime(timezone=True), nullable=False),
    # The moment that the files show.
    Column("at", DateTime(timezone=True)),
    Column("ended", DateTime(timezone=True)),
    Column("fault", Text),
    CheckConstraint("state IN ('waiting', 'running', 'done', 'failed')", name="bulk_export_state"),
    Index("bulk_export_open", "created", postgresql_where=text("state IN ('waiting', 'running')")),
)
"""Bulk exports; see `exports`."""

bulk_file: Final = Table(
    "bulk_file",
    metadata,
    Column("export", Text(collation="C"), ForeignKey("bulk_export.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("type", Text(collation="C"), nullable=False),
    Column("count", BigInteger, nullable=False),
    # NDJSON, packed by zlib.
    Column("content", BYTEA, nullable=False),
    # Whether it tells which resources of the type were deleted.
    Column("deleted", Boolean, nullable=False, server_default=text("false")),
)
"""The files of bulk exports, in parts of some megabytes."""

__all__ = [
    "BLOCK",
    "INDEX_TABLES",
    "audit_anchor",
    "audit_chain",
    "audit_event",
    "billed",
    "billing_template",
    "bulk_export",
    "bulk_file",
    "claimed",
    "consent_generation",
    "consent_permit",
    "consent_rule",
    "index_settings",
    "invoice_line",
    "invoice_sum",
    "metadata",
    "occupancy",
    "once",
    "outbox",
    "outbox_listener",
    "payment_sum",
    "queue_counter",
    "queue_entry",
    "queue_event",
    "queue_setting",
    "reindex_job",
    "resource",
    "resource_rid",
    "resource_version",
    "schedule_actor",
    "schedule_time",
    "search_generation",
    "slot_time",
    "subscription",
    "subscription_delivery",
    "transaction",
    "transaction_txn",
    "visit_time",
]
