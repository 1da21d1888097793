"""What gateways tell by themselves: each event is kept once, in the transaction that has its effect.

What fits nothing that is known here is parked: it is tried again for a day, as it may be about something that is just being written down, and waits
for an administrator, who replays it or says which invoice it pays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from fhir_server.clinic.acting import carry_out
from fhir_server.outcome import Outcome
from fhir_server.store import Snapshot, Store
from fhir_server.store.database import Connection
from fhir_server.store.ops import Op

from . import news, rows
from .gateway import Event, Gateway, Payment, RefusedError, UnreachableError
from .rows import Intent

MAX_BODY: Final = 256 * 1024
"""Bytes of an event."""
KEPT: Final = timedelta(days=180)
"""How long events are kept that are settled; gateways send none again after a few days."""
_TRIED: Final = timedelta(days=1)
_AT_A_TIME: Final = 50
_UNMATCHED: Final = "unmatched"

_FIELDS: Final = "number, gateway, id, type, reference, state, reason, body, intent, came, settled, settled_by"
_ADD: Final = """
INSERT INTO payment_event (gateway, id, type, reference, state, reason, body, intent, came, settled)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, CASE WHEN %s THEN %s::timestamptz END) ON CONFLICT DO NOTHING
"""
_ONE: Final = f"SELECT {_FIELDS} FROM payment_event WHERE number = %s"  # noqa: S608 - our own columns
_KNOWN: Final = "SELECT 1 FROM payment_event WHERE gateway = %s AND id = %s"
_PAGE: Final = f"""
SELECT {_FIELDS} FROM payment_event WHERE (%(state)s::text IS NULL OR state = %(state)s) AND (%(before)s::bigint IS NULL OR number < %(before)s)
ORDER BY number DESC LIMIT %(limit)s
"""  # noqa: S608 - our own columns
_SETTLE: Final = """
UPDATE payment_event SET state = 'applied', intent = %s, reason = NULL, body = NULL, settled = %s, settled_by = %s
WHERE number = %s AND state = 'parked'
"""
_REASON: Final = "UPDATE payment_event SET reason = %s WHERE number = %s AND state = 'parked'"
_WAITING: Final = """
SELECT number FROM payment_event WHERE state = 'parked' AND reason = 'unmatched' AND came > %s AND (%s::text IS NULL OR reference = %s)
ORDER BY number LIMIT %s
"""
_FORGET: Final = "DELETE FROM payment_event WHERE state <> 'parked' AND came < %s"


@dataclass(frozen=True, slots=True)
class Kept:
    """An event that is kept; `body` is there as long as somebody may have to look at it."""

    number: int
    gateway: str
    id: str
    type: str
    reference: str | None
    state: str
    reason: str | None
    body: str | None
    intent: str | None
    came: datetime
    settled: datetime | None
    settled_by: str | None


def hear(store: Store, gateway: Gateway, raw: bytes, signature: str) -> None:
    """Takes the event of a request's body. Heard again, it changes nothing.

    Raises Outcome `malformed` for what the gateway has not signed, `unavailable` where it has to come again.
    """
    gateway.verify(raw, signature, store.clock().timestamp())
    event = gateway.read(raw)
    with store.database.connection() as connection:
        if connection.execute(_KNOWN, (gateway.name, event.id)).fetchone() is not None:
            return
        if event.payment is None:
            _add(store, connection, gateway, event, "ignored")
            return
        found = rows.by_number(connection, gateway.name, event.payment)
    text = raw.decode()
    if found is None:
        _park(store, gateway, event, _UNMATCHED, text)
        return
    payment = _asked(gateway, event, event.payment)

    def prepare(connection: Connection, db: Snapshot) -> Sequence[Op]:
        if not _add(store, connection, gateway, event, "applied", intent=found[0]):
            return ()
        return news.apply(store, connection, db, found, payment, dispute=event.dispute)

    try:
        carry_out(store, news.ACT, prepare)
    except news.ParkedError as parked:
        _park(store, gateway, event, str(parked), text)
        return
    if payment.reference is not None:
        retry(store, gateway, payment.reference)


def retry(store: Store, gateway: Gateway, reference: str | None = None) -> None:
    """Tries what fitted nothing once more: all of the last day, or what is about one number of the gateway's."""
    with store.database.connection() as connection:
        since = store.clock() - _TRIED
        numbers = [number for (number,) in connection.execute(_WAITING, (since, reference, reference, _AT_A_TIME)).fetchall()]
    for number in numbers:
        replay(store, gateway, number, "system")


def replay(store: Store, gateway: Gateway, number: int, by: str) -> Kept:
    """Tries a parked event once more, by its number here; it stays parked where it still does not fit.

    Raises Outcome `not-found`, `business-rule` where it is settled, `unavailable`.
    """
    kept, event, payment = _parked(store, gateway, number)
    with store.database.connection() as connection:
        found = rows.by_number(connection, kept.gateway, payment)
        if found is None:
            connection.execute(_REASON, (_UNMATCHED, number))
            return kept
    payment = _asked(gateway, event, payment)
    return _settle(store, kept, by, lambda _: found, event, payment, trusted=False)


def assign(store: Store, gateway: Gateway, number: int, invoice: str, by: str) -> Kept:
    """Books what a parked event tells of on an Invoice, by id, for as much as it tells.

    Raises Outcome as `replay`, and `business-rule` where it tells of no payment.
    """
    kept, event, payment = _parked(store, gateway, number)
    if payment.state != "succeeded" or payment.amount is None or payment.currency is None or event.dispute is not None:
        raise Outcome("business-rule", "This event tells of no payment that could be booked")
    price = payment.amount, payment.currency

    def made(connection: Connection) -> tuple[str, str]:
        found = rows.by_number(connection, kept.gateway, payment)
        if found is not None and found[1] != invoice:
            raise Outcome("business-rule", f"The payment was begun for Invoice/{found[1]}")
        if found is None:
            new = rows.new(invoice, kept.gateway, price, store.clock())
            rows.add(connection, new, by)
            found = new.id, invoice
        return found

    return _settle(store, kept, by, made, event, payment, trusted=True)


def park_answer(store: Store, known: Intent, reason: str) -> None:
    """Parks what a gateway has answered about a payment, and does not fit it."""
    with store.database.connection() as connection:
        now = store.clock()
        connection.execute(_ADD, (known.gateway, f"answer-{known.id}", "answer", known.reference, "parked", reason, None, known.id, now, False, now))


def page(connection: Connection, state: str | None, before: int | None, limit: int) -> list[Kept]:
    """Events that are kept, the newest first: those in a state, those before a number."""
    return [Kept(*row) for row in connection.execute(_PAGE, {"state": state, "before": before, "limit": limit}).fetchall()]


def one(connection: Connection, number: int) -> Kept:
    """An event by its number here. Raises Outcome `not-found`."""
    row = connection.execute(_ONE, (number,)).fetchone()
    if row is None:
        raise Outcome("not-found", f"There is no event {number}")
    return Kept(*row)


def forget(store: Store) -> None:
    """Takes out what was settled long ago."""
    with store.database.connection() as connection:
        connection.execute(_FORGET, (store.clock() - KEPT,))


def _settle(
    store: Store, kept: Kept, by: str, whose: Callable[[Connection], tuple[str, str]], event: Event, payment: Payment, *, trusted: bool
) -> Kept:
    def prepare(connection: Connection, db: Snapshot) -> Sequence[Op]:
        at = whose(connection)
        if connection.execute(_SETTLE, (at[0], store.clock(), by, kept.number)).rowcount == 0:
            return ()
        return news.apply(store, connection, db, at, payment, dispute=event.dispute, trusted=trusted)

    try:
        carry_out(store, news.ACT, prepare)
    except news.ParkedError as parked:
        with store.database.connection() as connection:
            connection.execute(_REASON, (str(parked), kept.number))
        if trusted:
            raise Outcome("business-rule", str(parked)) from None
    with store.database.connection() as connection:
        return one(connection, kept.number)


def _parked(store: Store, gateway: Gateway, number: int) -> tuple[Kept, Event, Payment]:
    with store.database.connection() as connection:
        kept = one(connection, number)
        known = rows.intent(connection, kept.intent) if kept.intent is not None and kept.body is None else None
    if kept.state != "parked":
        raise Outcome("business-rule", f"The event is {kept.state} already")
    if known is not None:
        # It was an answer: the gateway gives it again.
        try:
            return kept, Event(kept.id, kept.type), replace(gateway.ask(known.reference, known.session), order=known.id)
        except (UnreachableError, RefusedError):
            raise _no_answer() from None
    event = gateway.read((kept.body or "").encode())
    if event.payment is None:
        raise Outcome("business-rule", "This event tells of no payment")
    return kept, event, event.payment


def _asked(gateway: Gateway, event: Event, payment: Payment) -> Payment:
    """What an event tells; where it does not tell enough, what the gateway answers. Raises Outcome `unavailable`."""
    if not event.doubtful:
        return payment
    try:
        return gateway.ask(payment.reference, payment.session)
    except (UnreachableError, RefusedError):
        raise _no_answer() from None


def _add(
    store: Store,
    connection: Connection,
    gateway: Gateway,
    event: Event,
    state: str,
    reason: str | None = None,
    body: str | None = None,
    *,
    intent: str | None = None,
) -> bool:
    """Keeps an event; False where it is kept already."""
    payment, now = event.payment, store.clock()
    reference = (payment.reference or payment.session) if payment is not None else None
    values: tuple[Any, ...] = (gateway.name, event.id, event.type, reference, state, reason, body, intent, now, state != "parked", now)
    return connection.execute(_ADD, values).rowcount == 1


def _park(store: Store, gateway: Gateway, event: Event, reason: str, body: str) -> None:
    with store.database.connection() as connection:
        _add(store, connection, gateway, event, "parked", reason, body)


def _no_answer() -> Outcome:
    return Outcome("unavailable", "The payment gateway does not answer; send it again", headers={"Retry-After": "30"})
