"""The tables of payments online, in the MetaData that the migrations must equal. What was paid stands in the ledger; these say how it came about."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import BigInteger, CheckConstraint, Column, Date, DateTime, Identity, Index, Integer, Numeric, Table, Text, UniqueConstraint, text

from fhir_server.store.tables import metadata


def _text(name: str, *, nullable: bool = False, **options: Any) -> Column[str]:
    return Column(name, Text(collation="C"), nullable=nullable, **options)


def _moment(name: str, *, nullable: bool = False) -> Column[Any]:
    return Column(name, DateTime(timezone=True), nullable=nullable)


payment_intent: Final = Table(
    "payment_intent",
    metadata,
    _text("id", primary_key=True),
    _text("invoice"),
    _text("gateway"),
    Column("amount", Numeric, nullable=False),
    _text("currency"),
    _text("state"),
    # What the gateway does a thing once by.
    _text("key"),
    # The end of the address of our page.
    _text("token"),
    # Where the payer comes back to.
    _text("back"),
    _text("title"),
    _text("reference", nullable=True),
    _text("session", nullable=True),
    _text("url", nullable=True),
    # The PaymentReconciliation, and how much of the gateway's refunds the ledger knows that were not ordered here.
    _text("payment", nullable=True),
    Column("received", Numeric),
    Column("refunded", Numeric, nullable=False, server_default="0"),
    Column("returned", Numeric, nullable=False, server_default="0"),
    _text("dispute", nullable=True),
    _moment("disputed", nullable=True),
    _text("fault", nullable=True),
    _moment("asked"),
    Column("asked_by", Text, nullable=False),
    _moment("changed"),
    # When the gateway was asked last.
    _moment("checked", nullable=True),
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
    _text("id", primary_key=True),
    _text("intent"),
    _text("invoice"),
    Column("amount", Numeric, nullable=False),
    _text("currency"),
    _text("state"),
    _text("key"),
    _text("reference", nullable=True),
    _text("fault", nullable=True),
    _moment("asked"),
    _moment("tried", nullable=True),
    CheckConstraint("state IN ('requested', 'submitted', 'succeeded', 'failed', 'unknown')", name="payment_refund_state"),
    Index("payment_refund_intent", "intent"),
    Index("payment_refund_invoice", "invoice", postgresql_where=text("state = 'requested'")),
    Index("payment_refund_open", "asked", postgresql_where=text("state IN ('requested', 'submitted', 'unknown')")),
)
"""What a gateway is ordered to give back of a payment."""

payment_event: Final = Table(
    "payment_event",
    metadata,
    Column("number", BigInteger, Identity(), primary_key=True),
    _text("gateway"),
    _text("id"),
    _text("type"),
    _text("reference", nullable=True),
    _text("state"),
    _text("reason", nullable=True),
    # As it came, where somebody has to look at it.
    Column("body", Text),
    _text("intent", nullable=True),
    _moment("came"),
    _moment("settled", nullable=True),
    Column("settled_by", Text),
    UniqueConstraint("gateway", "id"),
    CheckConstraint("state IN ('applied', 'ignored', 'parked')", name="payment_event_state"),
    Index("payment_event_parked", "number", postgresql_where=text("state = 'parked'")),
)
"""What gateways have told, each event once."""

payment_day: Final = Table(
    "payment_day",
    metadata,
    _text("gateway", primary_key=True),
    Column("day", Date, primary_key=True),
    Column("payments", Integer, nullable=False),
    Column("differences", Integer, nullable=False),
    _moment("compared"),
)
"""Days of the clinic that were compared with a gateway's list."""

payment_difference: Final = Table(
    "payment_difference",
    metadata,
    Column("number", BigInteger, Identity(), primary_key=True),
    _text("gateway"),
    Column("day", Date, nullable=False),
    _text("kind"),
    _text("intent", nullable=True),
    _text("invoice", nullable=True),
    _text("reference", nullable=True),
    _text("currency", nullable=True),
    Column("ours", Numeric),
    Column("theirs", Numeric),
    Index("payment_difference_day", "gateway", "day"),
)
"""Where a gateway's list and ours do not agree."""
