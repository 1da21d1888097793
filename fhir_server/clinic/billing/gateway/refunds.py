"""What was paid by the gateway goes back by it: ordered in the transaction that approves it, and sent after.

The ledger has what is given back from its approval on; where the gateway will not give it back, that is taken back by an entry of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from fhir_server.clinic.acting import Act, carry_out
from fhir_server.clinic.billing import ledger
from fhir_server.clinic.billing.approvals import Request
from fhir_server.clinic.billing.money import ZERO
from fhir_server.clinic.billing.payments import Line, Receipt
from fhir_server.clinic.billing.payments.records import notices
from fhir_server.clinic.billing.payments.refunds import Share
from fhir_server.search import SYSTEM
from fhir_server.store import Snapshot, Store
from fhir_server.store.database import Connection
from fhir_server.store.ids import new_id
from fhir_server.store.ops import Op, Patch, Resource

from . import news, rows
from .gateway import Gateway, Refund, RefusedError, UnreachableError
from .online import AT_IT
from .rows import Intent, Ordered

ACT: Final = Act("refund", SYSTEM)
_AT_A_TIME: Final = 50


def shares(store: Store, gateway: Gateway, connection: Connection, invoice: str, found: Request) -> list[Share]:
    """What of an approved refund goes back by the gateway, as orders to it: as much as was paid by it, the newest payment first.

    In a transaction that has locked the invoice. Raises Outcome `business-rule` for an amount that the gateway cannot count.
    """
    left, made = found.amount, []
    for paid in reversed(rows.of_invoice(connection, invoice, ("succeeded",))):
        if paid.gateway != gateway.name or paid.received is None or paid.currency != found.currency:
            continue
        part = min(left, paid.received - rows.ordered_back(connection, paid.id) - paid.returned)
        if part <= ZERO:
            continue
        gateway.require(part, paid.currency)
        number, now = new_id(), store.clock()
        rows.order_back(connection, Ordered(number, paid.id, invoice, part, paid.currency, "requested", f"refund-{number}", None, now))
        made.append(Share(number, part, "gateway"))
        left -= part
    return made


def send(store: Store, gateway: Gateway, invoice: str) -> None:
    """Sends what the gateway is to give back of an invoice. What it does not answer is asked for later."""
    with store.database.connection() as connection:
        waiting = rows.requested(connection, invoice)
    for identity in waiting:
        _try(store, gateway, identity)


def settle(store: Store, gateway: Gateway) -> int:
    """Sends what was not sent, and asks for the end of what was; how many. Stops where the gateway does not answer."""
    with store.database.connection() as connection:
        due = rows.due_orders(connection, store.clock() - AT_IT, _AT_A_TIME)
    for count, identity in enumerate(due):
        if not _try(store, gateway, identity):
            return count
    return len(due)


def _try(store: Store, gateway: Gateway, identity: str) -> bool:
    """Sends an order, or finds what became of it; False where the gateway does not answer."""
    now = store.clock()
    with store.database.connection() as connection:
        is_first = rows.claim(connection, identity, now, now - AT_IT)
        order = rows.order(connection, identity)
        paid = rows.intent(connection, order.intent) if order is not None else None
    if is_first is None or order is None or paid is None:
        return True
    try:
        _become(store, order, _refund(gateway, order, paid, is_first=is_first))
    except RefusedError as refused:
        _become(store, order, Refund("failed", ""), str(refused))
    except UnreachableError:
        with store.database.connection() as connection:
            rows.settle_order(connection, identity, "unknown")
        return False
    return True


def _refund(gateway: Gateway, order: Ordered, paid: Intent, *, is_first: bool) -> Refund:
    reference = paid.reference or gateway.ask(None, paid.session).reference
    if reference is None:
        raise UnreachableError("no_reference")
    # Somebody may have sent it and died: what is there is found by our id, and only what is not there is sent again, by the same key.
    there = None if is_first else gateway.find_refund(reference, order.id)
    return there or gateway.refund(reference, order.id, order.key, order.amount, order.currency)


def _become(store: Store, order: Ordered, refund: Refund, fault: str | None = None) -> None:
    """Keeps what the gateway says of an order, and brings the record to it."""

    def prepare(connection: Connection, db: Snapshot) -> Sequence[Op]:
        invoice = ledger.locked(store, connection, db, ACT, order.invoice)
        now = rows.order(connection, order.id, locked=True)
        if now is None or now.state in {"succeeded", "failed"}:
            return ()
        rows.settle_order(connection, order.id, refund.state, refund.reference or None, fault)
        if refund.state == "succeeded":
            # Who was paid is told when it is sure.
            at = store.clock().astimezone(store.registry.zone)
            told = notices(Receipt(order.id, at, "gateway", order.currency, [Line(invoice, -order.amount)]))
            return [_told(order, "complete", refund.reference), *told]
        if refund.state != "failed":
            return ()
        _take_back(store, connection, order)
        return [_told(order, "error", refund.reference), news.showing(connection, invoice)]

    carry_out(store, ACT, prepare)


def _take_back(store: Store, connection: Connection, order: Ordered) -> None:
    entry = ledger.Entry("refund", -order.amount, order.currency, f"PaymentReconciliation/{order.id}#failed")
    ledger.book(store, connection, ACT, order.invoice, [entry])
    paid = rows.intent(connection, order.intent, locked=True)
    if paid is not None:
        # What the gateway told of it as given back is not given back any more.
        still = rows.ordered_back(connection, order.intent) + paid.returned
        rows.returned(connection, paid.id, min(paid.refunded, still), paid.returned)


def _told(order: Ordered, outcome: str, reference: str) -> Op:
    def told(current: Resource) -> Resource:
        made: dict[str, Any] = {**current, "outcome": outcome}
        return made | ({"paymentIdentifier": {"value": reference}} if reference else {})

    return Patch("PaymentReconciliation", told, order.id)
