"""The tables that reports are made of, beside the resources that say the same at length. See `rules.reports.rows`."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, Date, Index, Integer, Table, text

from fhir_server.search.tables import metadata

from .columns import amount, moment, string


def _rid() -> Column[int]:
    # The resource's.
    return Column("rid", BigInteger, primary_key=True, autoincrement=False)


invoice_sum: Final = Table(
    "invoice_sum",
    metadata,
    _rid(),
    # Of the Invoice, as the ledger names it.
    string("id"),
    # Of its date, in the clinic's zone.
    Column("day", Date, nullable=False),
    string("currency"),
    amount("net"),
    amount("gross"),
    # What it shows as due; a credit note, which is an Invoice too, owes nothing.
    amount("due"),
    Column("credit", Boolean, nullable=False),
    Index("invoice_sum_due", "day", postgresql_where=text("due <> 0")),
)
"""The Invoices that are issued."""

invoice_line: Final = Table(
    "invoice_line",
    metadata,
    _rid(),
    # 0 is what the totals have beyond the lines.
    Column("line", Integer, primary_key=True, autoincrement=False),
    Column("day", Date, nullable=False),
    string("currency"),
    amount("net"),
    amount("tax"),
    Column("credit", Boolean, nullable=False),
    # The id of the ChargeItem, and what it says: by which template, as a canonical, and by whom, as `Practitioner/7`; empty where it does not.
    string("charge", nullable=True),
    string("template"),
    string("doctor"),
    Index("invoice_line_day", "day"),
    Index("invoice_line_charge", "charge", postgresql_where=text("charge IS NOT NULL")),
)
"""Their lines."""

payment_sum: Final = Table(
    "payment_sum",
    metadata,
    _rid(),
    Column("day", Date, nullable=False),
    # How it was paid, empty where it does not say.
    string("method"),
    string("currency"),
    # Negative where it was given back.
    amount("amount"),
    Index("payment_sum_day", "day"),
)
"""The PaymentReconciliations that are active."""

visit_time: Final = Table(
    "visit_time",
    metadata,
    _rid(),
    # The id of the first Location, and the zone; empty where it does not say.
    string("location"),
    string("zone"),
    moment("arrived"),
    # When they were seen first.
    moment("seen", nullable=True),
    # Whether they went without that.
    Column("went", Boolean, nullable=False),
    Index("visit_time_arrived", "arrived"),
)
"""The Encounters of which it is known when somebody came."""
