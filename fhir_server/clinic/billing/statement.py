"""What the ledger has of some invoices, entry by entry: what a statement of account is made of.

An Invoice that another system has issued begins with its total, as `ledger.balance` has it; where it says that it is settled, it was settled there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final
from zoneinfo import ZoneInfo

from fhir_server.search.params.date import parse_date
from fhir_server.store.database import Connection
from fhir_server.store.ops import Resource

from .ledger import total_of

CHARGE: Final = "charge"
SETTLED: Final = "settled"
_OPEN: Final = frozenset({"issued", "balanced"})
_ENTRIES: Final = "SELECT invoice, kind, amount, currency, cause, at FROM ledger_entry WHERE invoice = ANY(%s) ORDER BY at, number"


@dataclass(frozen=True, slots=True)
class Booked:
    """An entry: the id of its invoice, its kind as the ledger names it, and how much it adds to what is due; `cause` is a reference."""

    invoice: str
    kind: str
    amount: Decimal
    currency: str
    cause: str | None
    at: datetime


def booked(connection: Connection, invoices: Sequence[Resource], zone: ZoneInfo) -> list[Booked]:
    """All entries of some Invoices in the order of their times. One statement. They sum to what is due of all of them.

    A credit note is an entry of the invoice that it credits. `zone` is where dates are.
    """
    rows = connection.execute(_ENTRIES, ([each["id"] for each in invoices],)).fetchall()
    found = [Booked(*row) for row in rows]
    charged = {each.invoice for each in found if each.kind == CHARGE}
    touched = {each.invoice for each in found}
    notes = {each.cause for each in found if each.kind == "credit"}
    for invoice in sorted(invoices, key=lambda each: str(each["id"])):
        identity = str(invoice["id"])
        if identity not in charged and f"Invoice/{identity}" not in notes and invoice.get("status") in _OPEN and "totalGross" in invoice:
            found += _from_elsewhere(invoice, zone, is_open=identity in touched)
    return sorted(found, key=lambda each: each.at)


def _from_elsewhere(invoice: Resource, zone: ZoneInfo, *, is_open: bool) -> Iterator[Booked]:
    amount, currency = total_of(invoice)
    at = parse_date(str(invoice.get("date") or invoice["meta"]["lastUpdated"]), zone)[0]
    yield Booked(str(invoice["id"]), CHARGE, amount, currency, None, at)
    if invoice.get("status") == "balanced" and not is_open:
        yield Booked(str(invoice["id"]), SETTLED, -amount, currency, None, at)
