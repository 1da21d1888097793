"""The tables of payments online, in the MetaData that the migrations must equal. What was paid stands in the ledger; these say how it came about."""

from __future__ import annotations

from typing import Final

from sqlalchemy import CheckConstraint, Column, Date, Index, Integer, Numeric, Table, Text, UniqueConstraint, text

from fhir_server.store.tables import metadata
from fhir_server.store.tables.columns import amount, moment, serial, string

payment_intent: Final = Table(
    "payment_intent",
    metadata,
    string("id", primary_key=True),
    string("invoice"),
    string("gateway"),
    amount("amount"),
    string("currency"),
    string("state"),
    # What the gateway does a thing once by.
    string("key"),
    # The end of the address of our page.
    string("token"),
    # Where the payer comes back to.
    string("back"),
    string("title"),
    string("reference", nullable=True),
    string("session", nullable=True),
    string("url", nullable=True),
    # The PaymentReconciliation, and how much of the gateway's refunds the ledger knows that were not ordered here.
    string("payment", nullable=True),
    amount("received", nullable=True),
    Column("refunded", Numeric, nullable=False, server_default="0"),
    Column("returned", Numeric, nullable=False, server_default="0"),
    string("dispute", nullable=True),
    moment("disputed", nullable=True),
    string("fault", nullable=True),
    moment("asked"),
    Column("asked_by", Text, nullable=False),
    moment("changed"),
    # When the gateway was asked last.
    moment("checked", nullable=True),
    UniqueConstraint("token"),
    UniqueConstraint("gateway", "reference"),
    UniqueConstraint("gateway", "session"),
    CheckConstraint(
        "state IN ('created', 'requires_action', 'processing', 'succeeded', 'failed', 'cancelled', 'unknown')", name="payment_intent_state"
    ),
    Index("payment_intent_invoice", "invoice"),
    Index("payment_intent_asked", "asked", "id"),
    Index("payment_intent_open", "checked", postgresql_where=text("state IN ('created', 'requires_action', 'processing', 'failed', 'unknown')")),
)
"""Payments by a gateway. `refunded` is the most that it has told of as given back, `returned` what the ledger has of it beyond payment_refund."""

payment_refund: Final = Table(
    "payment_refund",
    metadata,
    # The PaymentReconciliation's.
    string("id", primary_key=True),
    string("intent"),
    string("invoice"),
    amount("amount"),
    string("currency"),
    string("state"),
    string("key"),
    string("reference", nullable=True),
    string("fault", nullable=True),
    moment("asked"),
    moment("tried", nullable=True),
    CheckConstraint("state IN ('requested', 'submitted', 'succeeded', 'failed', 'unknown')", name="payment_refund_state"),
    Index("payment_refund_intent", "intent"),
    Index("payment_refund_invoice", "invoice", postgresql_where=text("state = 'requested'")),
    Index("payment_refund_open", "asked", postgresql_where=text("state IN ('requested', 'submitted', 'unknown')")),
)
"""What a gateway is ordered to give back of a payment."""

payment_event: Final = Table(
    "payment_event",
    metadata,
    serial("number"),
    string("gateway"),
    string("id"),
    string("type"),
    string("reference", nullable=True),
    string("state"),
    string("reason", nullable=True),
    # As it came, where somebody has to look at it.
    Column("body", Text),
    string("intent", nullable=True),
    moment("came"),
    moment("settled", nullable=True),
    Column("settled_by", Text),
    UniqueConstraint("gateway", "id"),
    CheckConstraint("state IN ('applied', 'ignored', 'parked')", name="payment_event_state"),
    Index("payment_event_parked", "number", postgresql_where=text("state = 'parked'")),
)
"""What gateways have told, each event once."""

payment_day: Final = Table(
    "payment_day",
    metadata,
    string("gateway", primary_key=True),
    Column("day", Date, primary_key=True),
    Column("payments", Integer, nullable=False),
    Column("differences", Integer, nullable=False),
    moment("compared"),
)
"""Days of the clinic that were compared with a gateway's list."""

payment_difference: Final = Table(
    "payment_difference",
    metadata,
    serial("number"),
    string("gateway"),
    Column("day", Date, nullable=False),
    string("kind"),
    string("intent", nullable=True),
    string("invoice", nullable=True),
    string("reference", nullable=True),
    string("currency", nullable=True),
    amount("ours", nullable=True),
    amount("theirs", nullable=True),
    Index("payment_difference_day", "gateway", "day"),
)
"""Where a gateway's list and ours do not agree."""
