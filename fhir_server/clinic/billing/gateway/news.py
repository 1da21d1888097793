"""What becomes of a payment when something is heard of it, whoever brings the news: an event, an answer, the night's comparison.

The rows of the invoice and of the payment are locked, in this order. States move forwards only, and what is booked is booked once: told again, or in
another order, it comes to the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from fhir_server.clinic.acting import Act
from fhir_server.clinic.billing import ledger
from fhir_server.clinic.billing.money import ZERO
from fhir_server.clinic.billing.payments import Line, Paid, Receipt, receive, record
from fhir_server.outcome import Outcome
from fhir_server.search import SYSTEM
from fhir_server.store import Snapshot, Store
from fhir_server.store.database import Connection
from fhir_server.store.ids import new_id
from fhir_server.store.ops import Op, Patch, Put, Resource

from . import rows
from .gateway import Dispute, Payment, State
from .rows import Intent

ACT: Final = Act("pay", SYSTEM)
"""What is done when a gateway says that somebody has paid: by the system itself."""
_RANK: Final[dict[State, int]] = {"created": 0, "unknown": 0, "requires_action": 1, "processing": 2, "failed": 3, "cancelled": 4, "succeeded": 5}


class ParkedError(Exception):
    """What was told does not fit what is known: somebody has to look at it. The text says why."""


def apply(
    store: Store,
    connection: Connection,
    db: Snapshot,
    at: tuple[str, str],
    payment: Payment,
    *,
    dispute: Dispute | None = None,
    asked: bool = False,
    trusted: bool = False,
) -> list[Op]:
    """Brings the payment at an id and an invoice to what was told; the ops.

    `asked` where it is an answer, and so how it is now; `trusted` where somebody has looked at amounts that differ. Raises ParkedError.
    """
    identity, invoiced = at
    try:
        invoice = ledger.locked(store, connection, db, ACT, invoiced)
    except Outcome as outcome:
        raise ParkedError(str(outcome)) from None
    known = rows.intent(connection, identity, locked=True)
    if known is None:
        raise ParkedError("unmatched")
    now = store.clock()
    if dispute is not None:
        rows.disputed(connection, identity, f"{dispute.reference} {dispute.reason}".strip(), now)
        return []
    if known.reference is not None and payment.reference not in (None, known.reference):
        raise ParkedError(f"the payment is {known.reference} at the gateway, not {payment.reference}")
    if payment.state == "succeeded" and not trusted:
        _fits(known, payment)
    # A page belongs to a payment because it was begun here, not because an event says so.
    numbered = payment if asked else replace(payment, session=None)
    rows.told(connection, identity, onward(known.state, payment.state, asked=asked), now, numbered)
    if payment.state != "succeeded":
        return []
    ops = [*_book_payment(store, connection, invoice, known, payment), *_book_refund(store, connection, invoice, known, payment)]
    return [*ops, showing(connection, invoice)] if ops else []


def onward(before: State, told: State, *, asked: bool) -> State:
    """The state that a payment has when it had one, and is told to have another."""
    if told == "unknown" or before == "succeeded":
        return before
    if asked and before != "cancelled":
        return told
    return told if _RANK[told] > _RANK[before] else before


def showing(connection: Connection, invoice: Resource) -> Op:
    """The op that has an Invoice show what the ledger comes to. One that was cancelled stays so, whatever was paid meanwhile."""
    after = ledger.balance(connection, invoice)

    def shown(current: Resource) -> Resource:
        made = ledger.shown(current, after)
        return {**made, "status": "cancelled"} if current.get("status") == "cancelled" else made

    return Patch("Invoice", shown, invoice["id"])


def _fits(known: Intent, payment: Payment) -> None:
    told = (payment.amount, payment.currency)
    if payment.amount is not None and told != (known.amount, known.currency):
        raise ParkedError(f"{payment.amount} {payment.currency} were paid in place of {known.amount} {known.currency}")


def _book_payment(store: Store, connection: Connection, invoice: Resource, known: Intent, payment: Payment) -> list[Op]:
    if known.payment is not None:
        return []
    amount, currency = payment.amount or known.amount, payment.currency or known.currency
    reference = payment.reference or known.reference or payment.session or known.session or known.id
    try:
        ops = receive(store, connection, ACT, invoice, Paid("gateway", amount, currency, reference=reference))
    except Outcome as outcome:
        raise ParkedError(str(outcome)) from None
    (made, *_) = [op.resource["id"] for op in ops if isinstance(op, Put) and op.resource["resourceType"] == "PaymentReconciliation"]
    rows.paid(connection, known.id, str(made), amount)
    return _without(ops, invoice)


def _book_refund(store: Store, connection: Connection, invoice: Resource, known: Intent, payment: Payment) -> list[Op]:
    """What was given back at the gateway itself: what it tells beyond what it was ordered to, and what is booked already."""
    if payment.refunded <= known.refunded:
        return []
    beyond = payment.refunded - rows.ordered_back(connection, known.id) - known.returned
    rows.returned(connection, known.id, payment.refunded, known.returned + max(beyond, ZERO))
    if beyond <= 0:
        return []
    currency = payment.currency or known.currency
    number = new_id()
    ledger.book(store, connection, ACT, invoice["id"], [ledger.Entry("refund", beyond, currency, f"PaymentReconciliation/{number}")])
    if ledger.balance(connection, invoice).paid < 0:
        raise ParkedError(f"{beyond} {currency} were given back, which is more than was paid")
    now = store.clock().astimezone(store.registry.zone)
    reference, said = payment.reference or known.reference or "", "Given back at the payment gateway"
    return record(store, connection, ACT, Receipt(number, now, "gateway", currency, [Line(invoice, -beyond)], None, reference, said))


def _without(ops: Sequence[Op], invoice: Resource) -> list[Op]:
    """The ops but for that which has the invoice show its balance: of these there is one in the end."""
    return [op for op in ops if not (isinstance(op, Patch) and op.type == "Invoice" and op.id == invoice["id"])]
