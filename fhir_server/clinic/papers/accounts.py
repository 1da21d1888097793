"""What goes into a statement of account: the invoices that the caller may see, and what was booked on them until a day."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

from fhir_server.clinic.billing.statement import Booked, booked
from fhir_server.outcome import Outcome
from fhir_server.store.ops import Resource

from .gathering import Gathered, Gatherer

MOST: Final = 1_500
"""Entries of one statement."""
_BY: Final = {"Patient": "subject", "Account": "account"}


@dataclass(frozen=True, slots=True)
class Period:
    """The days that a statement is of, both included; None is from the beginning."""

    start: date | None
    end: date


def gather_statement(gatherer: Gatherer, main: Resource, period: Period) -> Gathered:
    """A Patient or an Account with invoices and entries. The paper is another one when an entry of the time comes in.

    Raises Outcome `too-costly` for more invoices than a paper is made of, or MOST entries.
    """
    of = f"{main['resourceType']}/{main['id']}"
    invoices = gatherer.all("Invoice", (_BY[main["resourceType"]], of), ("status", "issued,balanced,cancelled"))
    zone = gatherer.zone
    entries = [each for each in booked(gatherer.connection, invoices, zone) if each.at.astimezone(zone).date() <= period.end]
    shown = [each for each in entries if period.start is None or each.at.astimezone(zone).date() >= period.start]
    if len(shown) > MOST:
        raise Outcome("too-costly", f"A statement has {MOST:,} entries at the most, and this one would have {len(shown):,}: ask for less time")
    causes = {each.cause for each in shown if each.cause is not None}
    gatherer.follow({"reference": each} for each in sorted(causes) if each.startswith("Invoice/"))
    # Whoever sees the invoice may know how it was paid.
    paid = gatherer.unheld(("PaymentReconciliation", each.partition("/")[2]) for each in causes if each.startswith("PaymentReconciliation/"))
    gatherer.follow(main.get("subject", ()) if main["resourceType"] == "Account" else ())
    # Who sends the bills sends the statement.
    issuers = [each["issuer"] for each in invoices if "issuer" in each]
    headed = {**main, "issuer": issuers[-1]} if issuers else main
    days: Resource = {"start": period.start.isoformat() if period.start is not None else None, "end": period.end.isoformat()}
    found = gatherer.gathered(headed, (), period=[days], entries=[_entry(each, paid.get(str(each.cause), {})) for each in entries])
    found.essence = (of, str(days["start"]), str(days["end"]), _digest(entries))
    return found


def _entry(each: Booked, payment: Resource) -> Resource:
    return {
        "at": each.at.isoformat(),
        "invoice": f"Invoice/{each.invoice}",
        "kind": each.kind,
        "amount": each.amount,
        "currency": each.currency,
        "cause": each.cause,
        "payment": {name: payment[name] for name in ("extension", "formCode", "paymentIdentifier") if name in payment},
    }


def _digest(entries: Sequence[Booked]) -> str:
    return hashlib.sha256("\n".join(map(repr, entries)).encode()).hexdigest()
