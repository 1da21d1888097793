"""What is given back: asked for by one, approved by another, and never more than was paid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Final

from fhir_server.clinic.acting import Act, carry_out
from fhir_server.clinic.billing import approvals, ledger
from fhir_server.clinic.billing.approvals import Request
from fhir_server.clinic.billing.invoices import require_desk
from fhir_server.clinic.billing.money import ZERO, to_step
from fhir_server.outcome import Outcome
from fhir_server.store import Snapshot, Store
from fhir_server.store.database import Connection, scalar
from fhir_server.store.ids import new_id
from fhir_server.store.ops import Commit, Op

from .allocation import fits
from .receiving import Method, entries, record
from .records import Line, Receipt
from .rules import rules_of

GIVEN: Final[tuple[Method, ...]] = ("cash", "card", "transfer")
"""Ways in which something is given back."""
_LAST: Final = """
SELECT p.method FROM ledger_entry l JOIN payment p ON l.cause = 'PaymentReconciliation/' || p.id
WHERE l.invoice = %s AND l.kind = 'payment' AND p.method = ANY(%s::text[]) ORDER BY l.number DESC LIMIT 1
"""


def ask_refund(store: Store, act: Act, identity: str, amount: Decimal | None, currency: str | None, tell: Callable[[Request], None]) -> Commit:
    """Asks for some of what was paid to be given back, or all of it: a second person has to approve. `tell` is told what was asked for.

    Raises Outcome as `receiving.pay`, and `parameter` without a reason.
    """
    require_desk(act)

    def prepare(connection: Connection, db: Snapshot) -> Sequence[Op]:
        invoice = ledger.locked(store, connection, db, act, identity)
        ledger.opened(invoice)
        found = ledger.balance(connection, invoice)
        asked = found.paid if amount is None else amount
        if currency not in (None, found.currency):
            raise Outcome("business-rule", f"The invoice is in {found.currency}, not in {currency}")
        if asked > found.paid or found.paid <= 0:
            raise Outcome("business-rule", f"Only {found.paid} {found.currency} were paid, and can be given back", expression="Invoice")
        fits(asked, found.currency)
        tell(approvals.ask(store, connection, act, "refund", identity, asked, found.currency, Decimal(-1)))
        return ()

    return carry_out(store, act, prepare)


@dataclass(frozen=True, slots=True)
class Share:
    """A part of what is given back: the id of its PaymentReconciliation, how much, and by which way it goes."""

    number: str
    amount: Decimal
    method: Method


@dataclass(frozen=True, slots=True)
class Given:
    """How something is given back: by one of GIVEN, without one as it was paid at last, or by transfer; the rest as of `Paid`."""

    method: Method | None = None
    reference: str = ""
    location: str | None = None


def by_hand(_: Connection, __: Request) -> list[Share]:
    """Nothing goes back by a gateway: the desk gives it."""
    return []


def approve_refund(
    store: Store,
    act: Act,
    identity: str,
    request: str | None,
    given: Given,
    shares: Callable[[Connection, Request], list[Share]] = by_hand,
) -> Commit:
    """Gives back what somebody else has asked for: a PaymentReconciliation with a negative amount, which comes first.

    `shares` says what of it goes back by other ways, each in a PaymentReconciliation of its own, whose outcome is not known yet; it is not asked
    where the desk has named its way. Raises Outcome `forbidden` for whoever has asked, `not-found` where nothing waits, `business-rule` where less is
    left of what was paid, or no coins are there for it.
    """
    require_desk(act)

    def prepare(connection: Connection, db: Snapshot) -> Sequence[Op]:
        invoice = ledger.locked(store, connection, db, act, identity)
        waiting = [each for each in approvals.waiting(connection, identity, request) if each.kind == "refund"]
        if not waiting:
            raise Outcome("not-found", "No refund of this invoice waits for approval")
        found = approvals.decide(store, connection, act, identity, waiting[0].id, approved=True)
        now = store.clock().astimezone(store.registry.zone)
        elsewhere = shares(connection, found) if given.method is None else []
        receipts = [
            Receipt(each.number, now, each.method, found.currency, [Line(invoice, -each.amount)], disposition=found.reason, is_queued=True)
            for each in elsewhere
        ]
        rest = found.amount - sum((each.amount for each in elsewhere), ZERO)
        if rest:
            way = _way(store, connection, found, rest, given.method)
            line = Line.back(invoice, ledger.balance(connection, invoice), rest)
            receipts.append(Receipt(new_id(), now, way, found.currency, [line], reference=given.reference, disposition=found.reason))
        posted = [entry for each in receipts for entry in entries(each.lines[0], each)]
        op = ledger.post(store, connection, replace(act, reason=found.reason), invoice, posted)
        return [*(each for receipt in receipts for each in record(store, connection, act, receipt, given.location)), op]

    return carry_out(store, act, prepare)


def _way(store: Store, connection: Connection, found: Request, amount: Decimal, method: Method | None) -> Method:
    """How the desk gives an amount back. Raises Outcome `business-rule` where there are no coins for it."""
    last = scalar(connection, _LAST, found.invoice, list(GIVEN)) if method is None else method
    way: Method = next((each for each in GIVEN if each == last), "transfer")
    step = rules_of(store, connection).step(found.currency) if way == "cash" else None
    if step is not None and to_step(amount, step) != amount:
        raise Outcome("business-rule", f"There are no coins for {amount} {found.currency}: give it back otherwise, or ask for another amount")
    return way
