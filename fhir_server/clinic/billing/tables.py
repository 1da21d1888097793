"""The tables of billing, in the MetaData that the migrations must equal. What an Invoice says of its balance is made of the ledger's rows."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, CheckConstraint, Column, Date, Index, Integer, Table, Text, UniqueConstraint, text

from fhir_server.store.tables import metadata
from fhir_server.store.tables.columns import amount, moment, serial, string

LEDGER_KINDS: Final = ("charge", "payment", "credit", "refund", "write-off", "rounding", "insurance")
"""What entries of the ledger may be."""

ledger_entry: Final = Table(
    "ledger_entry",
    metadata,
    serial("number"),
    string("invoice"),
    string("kind"),
    # As it counts in what is due: a charge adds, a payment takes away.
    amount("amount"),
    string("currency"),
    # What it was written for, as `PaymentReconciliation/7`: of a kind once for an invoice.
    string("cause", nullable=True),
    moment("at"),
    Column("actor", Text, nullable=False),
    UniqueConstraint("invoice", "kind", "cause"),
    CheckConstraint(f"kind IN {LEDGER_KINDS}", name="ledger_entry_kind"),
)
"""What adds to what is due of an invoice, by id, and what takes from it; rows are only ever added."""

invoice_series: Final = Table(
    "invoice_series",
    metadata,
    # The reference to the Organization, empty where there is none.
    string("issuer", primary_key=True),
    string("kind", primary_key=True),
    Column("year", Integer, primary_key=True, autoincrement=False),
    string("series"),
    Column("next", BigInteger, nullable=False),
    # The date of the last number.
    moment("last"),
    UniqueConstraint("series", "year"),
)
"""The next number of each series. A row is locked by the transaction that takes a number, until it ends."""

billing_request: Final = Table(
    "billing_request",
    metadata,
    string("id", primary_key=True),
    string("kind"),
    string("invoice"),
    amount("amount"),
    string("currency"),
    Column("reason", Text, nullable=False),
    string("state"),
    moment("asked"),
    Column("asked_by", Text, nullable=False),
    moment("decided", nullable=True),
    Column("decided_by", Text),
    CheckConstraint("kind IN ('discount', 'write-off', 'refund')", name="billing_request_kind"),
    CheckConstraint("state IN ('waiting', 'approved', 'rejected')", name="billing_request_state"),
    Index("billing_request_waiting", "asked", "id", postgresql_where=text("state = 'waiting'")),
    Index("billing_request_invoice", "invoice"),
)
"""What a second person decides about."""

payment: Final = Table(
    "payment",
    metadata,
    # That of the PaymentReconciliation.
    string("id", primary_key=True),
    string("method"),
    # What came in; negative for what went out.
    amount("amount"),
    string("currency"),
    moment("at"),
    Column("actor", Text, nullable=False),
    # As people know them.
    Column("name", Text, nullable=False),
    string("shift", nullable=True),
    Index("payment_shift", "shift", postgresql_where=text("shift IS NOT NULL")),
)
"""How each payment was made, by whom, and in which shift; rows are only ever added."""

cash_shift: Final = Table(
    "cash_shift",
    metadata,
    string("id", primary_key=True),
    string("location"),
    moment("opened"),
    Column("opened_by", Text, nullable=False),
    Column("name", Text, nullable=False),
    string("currency"),
    amount("float"),
    moment("closed", nullable=True),
    Column("closed_by", Text),
    amount("counted", nullable=True),
    Column("reason", Text),
    # What should have been in the drawer, as JSON, from when it was closed on.
    Column("report", Text),
    CheckConstraint("(closed IS NULL) = (report IS NULL)", name="cash_shift_closed"),
    Index("cash_shift_open", "location", unique=True, postgresql_where=text("closed IS NULL")),
    Index("cash_shift_of", "opened_by", unique=True, postgresql_where=text("closed IS NULL")),
    Index("cash_shift_opened", "opened", "id"),
)
"""Shifts at drawers with cash, from their opening to their closing: one that is open for each place, and one for each person."""

insurer_payment: Final = Table(
    "insurer_payment",
    metadata,
    serial("number"),
    string("invoice"),
    # Less than nothing where it was taken back.
    amount("amount"),
    string("currency"),
    # The PaymentReconciliation.
    string("cause", unique=True),
    moment("at"),
    Column("actor", Text, nullable=False),
    Index("insurer_payment_invoice", "invoice"),
)
"""What payers have paid of their shares, which are the ledger's entries of the kind `insurance`; rows are only ever added."""

insured_invoice: Final = Table(
    "insured_invoice",
    metadata,
    string("invoice", primary_key=True),
    string("coverage"),
    # Of the first line that is covered: what is used up counts in its year.
    Column("day", Date, nullable=False),
    # What the patient has of the deductible, and of lines that are not covered.
    amount("deductible"),
    amount("outside"),
    string("currency"),
    Index("insured_invoice_coverage", "coverage", "day"),
)
"""The Coverage by which a payer has a share of an issued invoice, both by id, and what the invoice uses up of the year's terms."""
