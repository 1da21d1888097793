"""A day of the clinic compared with the gateway's list of it: what one of the two has and the other has not, or has otherwise.

Nothing is changed by it. What is found is kept for an administrator, and found anew whenever the day is compared again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Final, Literal

from fhir_server.outcome import Outcome
from fhir_server.store import Store
from fhir_server.store.database import Connection

from . import rows
from .gateway import Gateway, Payment, RefusedError, UnreachableError
from .rows import Intent

Kind = Literal["unknown-here", "unknown-there", "state", "amount", "refunded", "ledger"]
_EARLY: Final = time(2)
"""When a day is over for sure, in the clinic's zone: late news of it have come."""
_BEHIND: Final = 7
"""Days that are caught up with after the server was away."""

_OURS: Final = "SELECT id FROM payment_intent WHERE gateway = %s AND state = 'succeeded' AND asked >= %s AND asked < %s ORDER BY asked, id"
_LEDGER: Final = """
SELECT coalesce(-sum(amount) FILTER (WHERE cause = 'PaymentReconciliation/' || %s), 0) FROM ledger_entry WHERE invoice = %s AND kind = 'payment'
"""
_DONE: Final = "SELECT 1 FROM payment_day WHERE gateway = %s AND day = %s"
_CLEAR: Final = "DELETE FROM payment_difference WHERE gateway = %s AND day = %s"
_ADD: Final = """
INSERT INTO payment_difference (gateway, day, kind, intent, invoice, reference, currency, ours, theirs) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
"""
_KEEP: Final = """
INSERT INTO payment_day (gateway, day, payments, differences, compared) VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (gateway, day) DO UPDATE SET payments = excluded.payments, differences = excluded.differences, compared = excluded.compared
"""
_DAYS: Final = """
SELECT gateway, day, payments, differences, compared FROM payment_day WHERE (%s::date IS NULL OR day < %s) ORDER BY day DESC, gateway LIMIT %s
"""
_DAY: Final = "SELECT gateway, day, payments, differences, compared FROM payment_day WHERE day = %s ORDER BY gateway"
_FOUND: Final = """
SELECT kind, intent, invoice, reference, currency, ours, theirs FROM payment_difference WHERE gateway = %s AND day = %s ORDER BY number LIMIT 1000
"""


@dataclass(frozen=True, slots=True)
class Difference:
    """Where the two do not agree: about which payment, and the amounts where it is about amounts."""

    kind: Kind
    intent: str | None
    invoice: str | None
    reference: str | None
    currency: str | None
    ours: Decimal | None
    theirs: Decimal | None


@dataclass(frozen=True, slots=True)
class Day:
    """A day that was compared: how many payments the gateway has of it, and how many differences there are."""

    gateway: str
    day: date
    payments: int
    differences: int
    compared: datetime


def compare_due(store: Store, gateway: Gateway) -> None:
    """Compares the days that are over and were not compared yet, up to a week back. Stops where the gateway does not answer."""
    now = store.clock().astimezone(store.registry.zone)
    last = now.date() - timedelta(days=1 if now.time() >= _EARLY else 2)
    for behind in reversed(range(_BEHIND)):
        day = last - timedelta(days=behind)
        with store.database.connection() as connection:
            is_done = connection.execute(_DONE, (gateway.name, day)).fetchone() is not None
        if not is_done:
            compare(store, gateway, day)


def compare(store: Store, gateway: Gateway, day: date) -> Day:
    """Compares a day of the clinic, and keeps what is found in place of what was found before. Raises Outcome `unavailable`."""
    zone = store.registry.zone
    start, end = (datetime.combine(each, time(), zone) for each in (day, day + timedelta(days=1)))
    try:
        theirs = list(gateway.listed(start, end))
        with store.database.connection() as connection:
            ours = [str(identity) for (identity,) in connection.execute(_OURS, (gateway.name, start, end)).fetchall()]
            found = list(_compared(connection, gateway, theirs, ours))
    except (UnreachableError, RefusedError):
        raise Outcome("unavailable", "The payment gateway does not answer; try again later", headers={"Retry-After": "60"}) from None
    made = Day(gateway.name, day, len(theirs), len(found), store.clock())
    with store.database.connection() as connection, connection.transaction():
        connection.execute(_KEEP, (made.gateway, made.day, made.payments, made.differences, made.compared))
        connection.execute(_CLEAR, (gateway.name, day))
        for each in found:
            values = (each.kind, each.intent, each.invoice, each.reference, each.currency, each.ours, each.theirs)
            connection.execute(_ADD, (gateway.name, day, *values))
    return made


def days(connection: Connection, before: date | None, limit: int) -> list[Day]:
    """Days that were compared, the newest first; those before one."""
    return [Day(*row) for row in connection.execute(_DAYS, (before, before, limit)).fetchall()]


def one(connection: Connection, day: date) -> tuple[Day, list[Difference]]:
    """A day that was compared, and its differences, of which 1,000 are shown. Raises Outcome `not-found`."""
    row = connection.execute(_DAY, (day,)).fetchone()
    if row is None:
        raise Outcome("not-found", f"{day} was not compared")
    found = Day(*row)
    return found, [Difference(*each) for each in connection.execute(_FOUND, (found.gateway, day)).fetchall()]


def _compared(connection: Connection, gateway: Gateway, theirs: list[Payment], ours: list[str]) -> Iterator[Difference]:
    seen: set[str] = set()
    for payment in theirs:
        at = rows.by_number(connection, gateway.name, payment)
        known = rows.intent(connection, at[0]) if at is not None else None
        if known is None:
            if payment.state == "succeeded":
                yield Difference("unknown-here", None, None, payment.reference, payment.currency, None, payment.amount)
            continue
        seen.add(known.id)
        yield from _differing(connection, known, payment)
    for identity in ours:
        known = rows.intent(connection, identity)
        if identity in seen or known is None:
            continue
        # Its number at the gateway may be of another day than the payment.
        try:
            payment = gateway.ask(known.reference, known.session)
        except RefusedError:
            yield Difference("unknown-there", known.id, known.invoice, known.reference, known.currency, known.received, None)
            continue
        yield from _differing(connection, known, payment)


def _differing(connection: Connection, known: Intent, payment: Payment) -> Iterator[Difference]:
    def difference(kind: Kind, ours: Decimal | None, theirs: Decimal | None) -> Difference:
        return Difference(kind, known.id, known.invoice, payment.reference, known.currency, ours, theirs)

    if (payment.state == "succeeded") != (known.state == "succeeded"):
        ours, theirs = known.received, payment.amount if payment.state == "succeeded" else None
        yield difference("state", ours, theirs)
        return
    if known.received is None or known.payment is None:
        return
    if (known.received, known.currency) != (payment.amount, payment.currency):
        yield difference("amount", known.received, payment.amount)
    booked = Decimal(connection.execute(_LEDGER, (known.payment, known.invoice)).fetchall()[0][0])
    if booked != known.received:
        yield difference("ledger", booked, known.received)
    back = rows.given_back(connection, known.id) + known.returned
    if back != payment.refunded:
        yield difference("refunded", back, payment.refunded)
