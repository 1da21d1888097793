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
from fhir_server.clinic.billing.money import to_step
from fhir_server.outcome import Outcome
from fhir_server.store import Snapshot, Store
from fhir_server.store.database import Connection, scalar
from fhir_server.store.ops import Commit, Op

from .allocation import fits
from .receiving import Method, Paid, book
from .records import Line
from .rules import rules_of

GIVEN: Final[tuple[Method, ...]] = ("cash", "card", "transfer")
"""Ways in which something is given back."""
_LAST: Final = """
SELECT p.method FROM ledger_entry l JOIN payment p ON l.cause = 'PaymentReconciliation/' || p.id
WHERE l.invoice = %s AND l.kind = 'payment' ORDER BY l.number DESC LIMIT 1
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
class Given:
    """How something is given back: by one of GIVEN, without one as it was paid at last, or by transfer; the rest as of `Paid`."""

    method: Method | None = None
    reference: str = ""
    location: str | None = None


def approve_refund(store: Store, act: Act, identity: str, request: str | None, given: Given) -> Commit:
    """Gives back what somebody else has asked for: a PaymentReconciliation with a negative amount, which comes first.

    Raises Outcome `forbidden` for whoever has asked, `not-found` where nothing waits, `business-rule` where less is left of what was paid, or no
    coins are there for it.
    """
    require_desk(act)

    def prepare(connection: Connection, db: Snapshot) -> Sequence[Op]:
        invoice = ledger.locked(store, connection, db, act, identity)
        waiting = [each for each in approvals.waiting(connection, identity, request) if each.kind == "refund"]
        if not waiting:
            raise Outcome("not-found", "No refund of this invoice waits for approval")
        found = approvals.decide(store, connection, act, identity, waiting[0].id, approved=True)
        last = scalar(connection, _LAST, identity) if given.method is None else given.method
        way: Method = next((each for each in GIVEN if each == last), "transfer")
        step = rules_of(store, connection).step(found.currency) if way == "cash" else None
        if step is not None and to_step(found.amount, step) != found.amount:
            raise Outcome(
                "business-rule", f"There are no coins for {found.amount} {found.currency}: give it back otherwise, or ask for another amount"
            )
        line = Line.back(invoice, ledger.balance(connection, invoice), found.amount)
        paid = Paid(way, -found.amount, found.currency, reference=given.reference, location=given.location)
        return book(store, connection, replace(act, reason=found.reason), [line], paid, found.reason)

    return carry_out(store, act, prepare)
