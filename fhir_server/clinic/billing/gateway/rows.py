"""The rows of payments online: what is read and written of them, each in whatever transaction the caller has."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from fhir_server.clinic.billing.money import ZERO
from fhir_server.store.database import Connection, scalar

from .gateway import Payment, RefundState, State

OPEN: Final = ("created", "requires_action", "processing", "failed", "unknown")
"""States of a payment that may still come to be paid. One that has failed may be tried again by the payer, on the gateway's page."""
_FIELDS: Final = (
    "id, invoice, gateway, amount, currency, state, key, token, back, title, reference, session, url, payment, received, refunded, returned,"
    " dispute, fault, asked, checked"
)
_INTENT: Final = f"SELECT {_FIELDS} FROM payment_intent WHERE id = %s"  # noqa: S608 - our own columns
_ADD: Final = """
INSERT INTO payment_intent (id, invoice, gateway, amount, currency, state, key, token, back, title, asked, asked_by, changed, checked)
VALUES (%(id)s, %(invoice)s, %(gateway)s, %(amount)s, %(currency)s, 'created', %(key)s, %(token)s, %(back)s, %(title)s, %(now)s, %(by)s, %(now)s,
    %(now)s)
"""
_BY_TOKEN: Final = "SELECT id FROM payment_intent WHERE token = %s"  # noqa: S105 - no secret
_BY_NUMBER: Final = """
SELECT id, invoice FROM payment_intent WHERE gateway = %(gateway)s
    AND (id = %(order)s OR reference = %(reference)s OR session = %(session)s)
ORDER BY id <> %(order)s LIMIT 1
"""
_OF_INVOICE: Final = f"SELECT {_FIELDS} FROM payment_intent WHERE invoice = %s AND state = ANY(%s) ORDER BY asked, id"  # noqa: S608 - our own columns
_PAGE: Final = """
SELECT id, gateway, invoice, amount, currency, state, reference, session, payment, received, refunded, disputed, dispute, fault, asked, asked_by,
    checked
FROM payment_intent
WHERE (%(state)s::text IS NULL OR state = %(state)s) AND (%(invoice)s::text IS NULL OR invoice = %(invoice)s)
    AND (%(disputed)s::boolean IS NULL OR (dispute IS NOT NULL) = %(disputed)s)
    AND (%(asked)s::timestamptz IS NULL OR (asked, id) < (%(asked)s::timestamptz, %(id)s))
ORDER BY asked DESC, id DESC LIMIT %(limit)s
"""
_ASKED_SINCE: Final = "SELECT count(*) FROM payment_intent WHERE invoice = %s AND asked > %s"
_TOLD: Final = """
UPDATE payment_intent SET state = %(state)s, reference = coalesce(reference, %(reference)s), session = coalesce(session, %(session)s),
    url = coalesce(%(url)s, url), fault = %(fault)s, checked = %(now)s,
    changed = CASE WHEN state = %(state)s THEN changed ELSE %(now)s END
WHERE id = %(id)s
"""
_TAKE: Final = """
UPDATE payment_intent SET state = 'created', checked = %(now)s
WHERE id = %(id)s AND reference IS NULL AND session IS NULL AND (state = 'unknown' OR (state = 'created' AND checked < %(before)s))
"""
_LOST: Final = "UPDATE payment_intent SET state = %s, fault = %s WHERE id = %s AND reference IS NULL AND session IS NULL AND state = 'created'"
_PAID: Final = "UPDATE payment_intent SET payment = %s, received = %s WHERE id = %s"
_RETURNED: Final = "UPDATE payment_intent SET refunded = %s, returned = %s WHERE id = %s"
_DISPUTED: Final = "UPDATE payment_intent SET dispute = %s, disputed = %s WHERE id = %s AND dispute IS NULL"
# Named in the statements, so that these find them by the index of those that are open.
_WITHOUT: Final = "SELECT id FROM payment_intent WHERE state IN ('created', 'unknown') AND checked < %s ORDER BY checked LIMIT %s"
_WAITING: Final = """
SELECT id FROM payment_intent
WHERE state IN ('requires_action', 'processing', 'failed') AND checked < %s AND (reference IS NOT NULL OR session IS NOT NULL)
ORDER BY checked LIMIT %s
"""
_OWN: Final = "SELECT coalesce(sum(amount), 0) FROM payment_refund WHERE intent = %s AND state <> 'failed'"
_GIVEN: Final = "SELECT coalesce(sum(amount), 0) FROM payment_refund WHERE intent = %s AND state = 'succeeded'"
_REFUND: Final = "SELECT id, intent, invoice, amount, currency, state, key, reference, asked FROM payment_refund WHERE id = %s"
_ADD_REFUND: Final = """
INSERT INTO payment_refund (id, intent, invoice, amount, currency, state, key, asked) VALUES (%s, %s, %s, %s, %s, 'requested', %s, %s)
"""
_DUE: Final = (
    "SELECT id FROM payment_refund WHERE state IN ('requested', 'submitted', 'unknown') AND (tried IS NULL OR tried < %s) ORDER BY asked LIMIT %s"
)
_REQUESTED: Final = "SELECT id FROM payment_refund WHERE invoice = %s AND state = 'requested' ORDER BY asked"
_CLAIM: Final = """
UPDATE payment_refund r SET tried = %(now)s, state = CASE WHEN state = 'requested' THEN 'submitted' ELSE state END
FROM (SELECT id, tried IS NULL AS is_first FROM payment_refund WHERE id = %(id)s AND state IN ('requested', 'submitted', 'unknown')
    AND (tried IS NULL OR tried < %(before)s) FOR UPDATE) AS old
WHERE r.id = old.id RETURNING old.is_first
"""
_REFUNDED: Final = "UPDATE payment_refund SET state = %s, reference = coalesce(%s, reference), fault = %s WHERE id = %s"


@dataclass(frozen=True, slots=True)
class Intent:
    """A payment by a gateway, as we know of it; see `tables.payment_intent`."""

    id: str
    invoice: str
    gateway: str
    amount: Decimal
    currency: str
    state: State
    key: str
    token: str
    back: str
    title: str
    reference: str | None
    session: str | None
    url: str | None
    payment: str | None
    received: Decimal | None
    refunded: Decimal
    returned: Decimal
    dispute: str | None
    fault: str | None
    asked: datetime
    checked: datetime | None

    @property
    def place(self) -> str:
        """Where it is paid: the gateway's page, or ours where the gateway has none."""
        return self.url or self.back


@dataclass(frozen=True, slots=True)
class Ordered:
    """What a gateway is ordered to give back; see `tables.payment_refund`."""

    id: str
    intent: str
    invoice: str
    amount: Decimal
    currency: str
    state: RefundState
    key: str
    reference: str | None
    asked: datetime


def new(
    invoice: str, gateway: str, price: tuple[Decimal, str], asked: datetime, *, token: str | None = None, back: str = "", title: str = ""
) -> Intent:
    """A payment that the gateway has told nothing of yet. Without a `token` there is no page of ours for it: nobody has begun it here."""
    identity = uuid.uuid4().hex
    return Intent(
        id=identity,
        invoice=invoice,
        gateway=gateway,
        amount=price[0],
        currency=price[1],
        state="created",
        key=f"pay-{identity}" if token is not None else f"assigned-{identity}",
        token=token if token is not None else f"assigned-{identity}",
        back=back,
        title=title,
        reference=None,
        session=None,
        url=None,
        payment=None,
        received=None,
        refunded=ZERO,
        returned=ZERO,
        dispute=None,
        fault=None,
        asked=asked,
        checked=asked,
    )


def add(connection: Connection, new: Intent, by: str) -> None:
    """Adds a payment that is to be begun."""
    names = ("id", "invoice", "gateway", "amount", "currency", "key", "token", "back", "title")
    connection.execute(_ADD, {name: getattr(new, name) for name in names} | {"now": new.asked, "by": by})


def intent(connection: Connection, identity: str, *, locked: bool = False) -> Intent | None:
    """A payment by our id; locked until the transaction ends, where that is wanted."""
    row = connection.execute(_INTENT + (" FOR UPDATE" if locked else ""), (identity,)).fetchone()
    return Intent(*row) if row is not None else None


def by_token(connection: Connection, token: str) -> str | None:
    """The id of the payment that a page is for."""
    row = connection.execute(_BY_TOKEN, (token,)).fetchone()
    return str(row[0]) if row is not None else None


def by_number(connection: Connection, gateway: str, payment: Payment) -> tuple[str, str] | None:
    """The id and the invoice of what a gateway speaks of: by our id where it tells that, else by its own numbers."""
    named = {"gateway": gateway, "order": payment.order, "reference": payment.reference, "session": payment.session}
    row = connection.execute(_BY_NUMBER, named).fetchone()
    return (str(row[0]), str(row[1])) if row is not None else None


def of_invoice(connection: Connection, invoice: str, states: tuple[str, ...]) -> list[Intent]:
    """The payments of an invoice that are in some state, the oldest first."""
    return [Intent(*row) for row in connection.execute(_OF_INVOICE, (invoice, list(states))).fetchall()]


def page(connection: Connection, wanted: Mapping[str, Any], after: tuple[datetime, str] | None, limit: int) -> list[dict[str, Any]]:
    """Payments as they are listed, the newest first: those in a `state`, of an `invoice`, those that are `disputed` or not; those behind one."""
    named = {name: wanted.get(name) for name in ("state", "invoice", "disputed")}
    found = connection.cursor().execute(_PAGE, named | {"asked": after[0] if after else None, "id": after[1] if after else None, "limit": limit})
    names = [column.name for column in found.description or ()]
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def asked_since(connection: Connection, invoice: str, moment: datetime) -> int:
    """How many payments of an invoice were begun since."""
    return int(scalar(connection, _ASKED_SINCE, invoice, moment))


def told(connection: Connection, identity: str, state: State, now: datetime, payment: Payment | None = None, fault: str | None = None) -> None:
    """Keeps what the gateway has told of a payment. Its numbers stay those that it had first."""
    found = {"reference": payment.reference, "session": payment.session, "url": payment.url} if payment is not None else {}
    named = {"reference": None, "session": None, "url": None} | found
    connection.execute(_TOLD, {"id": identity, "state": state, "now": now, "fault": fault, **named})


def take(connection: Connection, identity: str, now: datetime, before: datetime) -> bool:
    """Takes a payment without a number for a try to find it or begin it; False where somebody is at it, or it has one."""
    return connection.execute(_TAKE, {"id": identity, "now": now, "before": before}).rowcount == 1


def lost(connection: Connection, identity: str, state: State, fault: str | None = None) -> None:
    """Keeps that a try has given a payment no number: it is unknown, failed, or given up."""
    connection.execute(_LOST, (state, fault, identity))


def paid(connection: Connection, identity: str, payment: str, received: Decimal) -> None:
    """Keeps which PaymentReconciliation, by id, a payment has become."""
    connection.execute(_PAID, (payment, received, identity))


def returned(connection: Connection, identity: str, refunded: Decimal, ledgered: Decimal) -> None:
    """Keeps what the gateway has told of as given back, and what of that the ledger has beyond orders of ours."""
    connection.execute(_RETURNED, (refunded, ledgered, identity))


def disputed(connection: Connection, identity: str, dispute: str, now: datetime) -> None:
    """Marks a payment as one that is disputed; the first dispute stays."""
    connection.execute(_DISPUTED, (dispute, now, identity))


def without_answer(connection: Connection, before: datetime, most: int) -> list[str]:
    """The ids of payments whose call has no answer, and for which the gateway was not asked since, the longest ago first."""
    return [str(identity) for (identity,) in connection.execute(_WITHOUT, (before, most)).fetchall()]


def waiting(connection: Connection, before: datetime, most: int) -> list[str]:
    """The same of payments that somebody may still pay, or pays."""
    return [str(identity) for (identity,) in connection.execute(_WAITING, (before, most)).fetchall()]


def ordered_back(connection: Connection, identity: str) -> Decimal:
    """How much of a payment the gateway was ordered to give back, but for what has failed."""
    return Decimal(scalar(connection, _OWN, identity))


def given_back(connection: Connection, identity: str) -> Decimal:
    """How much of a payment the gateway has given back on orders."""
    return Decimal(scalar(connection, _GIVEN, identity))


def order_back(connection: Connection, new: Ordered) -> None:
    """Adds what the gateway is to give back."""
    connection.execute(_ADD_REFUND, (new.id, new.intent, new.invoice, new.amount, new.currency, new.key, new.asked))


def order(connection: Connection, identity: str, *, locked: bool = False) -> Ordered | None:
    """What a gateway is ordered to give back, by id."""
    row = connection.execute(_REFUND + (" FOR UPDATE" if locked else ""), (identity,)).fetchone()
    return Ordered(*row) if row is not None else None


def due_orders(connection: Connection, before: datetime, most: int) -> list[str]:
    """The ids of orders whose end is not known, and that nobody has tried since."""
    return [str(identity) for (identity,) in connection.execute(_DUE, (before, most)).fetchall()]


def requested(connection: Connection, invoice: str) -> list[str]:
    """The ids of an invoice's orders that nobody has sent."""
    return [str(identity) for (identity,) in connection.execute(_REQUESTED, (invoice,)).fetchall()]


def claim(connection: Connection, identity: str, now: datetime, before: datetime) -> bool | None:
    """Takes an order for a try: whether it is the first; None where somebody has tried since, or it is settled."""
    row = connection.execute(_CLAIM, {"id": identity, "now": now, "before": before}).fetchone()
    return bool(row[0]) if row is not None else None


def settle_order(connection: Connection, identity: str, state: RefundState, reference: str | None = None, fault: str | None = None) -> None:
    """Keeps what became of an order."""
    connection.execute(_REFUNDED, (state, reference, fault, identity))
