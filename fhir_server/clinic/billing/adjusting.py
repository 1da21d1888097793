"""Discounts on drafts and write-offs of what is due: at once up to a limit, and over it when a second person has approved.

A discount is taken off what a draft comes to before tax, from each line by its share, and its taxes follow. A write-off gives up what is due of an
invoice that is issued: the invoice stays as it is, the ledger says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Final

from fhir_server.clinic.acting import Act, carry_out
from fhir_server.outcome import Outcome
from fhir_server.settings import CANON
from fhir_server.store import Snapshot, Store
from fhir_server.store.database import Connection
from fhir_server.store.ops import Commit, Op, Patch, Resource

from . import approvals, insured, ledger
from .approvals import Kind, Request
from .invoices import priced_line, prices_of, require_desk, totals
from .money import EXACT, ZERO, digits, rounded, shared
from .pricing import KINDS, Line, Price

_DISCOUNT: Final = {"system": f"{CANON}/CodeSystem/billing-adjustment", "code": "discount", "display": "Discount"}


@dataclass(frozen=True, slots=True)
class Asked:
    """How much: an amount with its currency, None for the invoice's, or a factor of what is there; without either all of it."""

    amount: Decimal | None = None
    currency: str | None = None
    factor: Decimal | None = None


def adjust(store: Store, act: Act, kind: Kind, identity: str, asked: Asked, limit: Decimal, tell: Callable[[Request], None]) -> Commit:
    """Asks for a `discount` of a draft or a `write-off` of an invoice, by id, and does it where no second person is needed.

    `tell` is told what was asked for, again where the transaction begins again.

    Raises Outcome `forbidden`, `not-found`, `gone`, `parameter` without a reason, `business-rule` where it is not the time for it, or it is more than
    there is.
    """
    require_desk(act)

    def prepare(connection: Connection, db: Snapshot) -> Sequence[Op]:
        invoice = ledger.locked(store, connection, db, act, identity)
        there, currency = _there(connection, invoice, kind)
        amount = _amount(asked, there, currency)
        request = approvals.ask(store, connection, act, kind, identity, amount, currency, limit)
        tell(request)
        return _DO[kind](store, connection, db, act, invoice, request) if request.state == "approved" else ()

    return carry_out(store, act, prepare)


def decide(store: Store, act: Act, identity: str, request: str | None, *, approved: bool) -> Commit:
    """Approves or rejects what was asked for an invoice, by id: the request of an id, or the first that waits; the Invoice comes first if it changes.

    Raises Outcome `forbidden` for whoever has asked, `not-found` where nothing waits, `business-rule` where it cannot be done any more, or is a
    refund.
    """
    require_desk(act)

    def prepare(connection: Connection, db: Snapshot) -> Sequence[Op]:
        invoice = ledger.locked(store, connection, db, act, identity)
        found = approvals.decide(store, connection, act, identity, request, approved=approved)
        if found.kind not in _DO:
            raise Outcome("business-rule", "A refund is approved by $approve-refund")
        if not approved:
            return ()
        there, _ = _there(connection, invoice, found.kind)
        if found.amount > there:
            raise Outcome("business-rule", f"There are only {there} {found.currency} left; reject it")
        return _DO[found.kind](store, connection, db, act, invoice, found)

    return carry_out(store, act, prepare)


def _there(connection: Connection, invoice: Resource, kind: Kind) -> tuple[Decimal, str]:
    """How much there is that can be given up, and its currency."""
    if kind == "discount":
        if invoice.get("status") != "draft":
            said = f"The invoice is {invoice.get('status')}: a discount is given on a draft, later by $credit"
            raise Outcome("business-rule", said, expression="Invoice.status")
        prices = prices_of(invoice)
        if not prices:
            raise Outcome("business-rule", "The draft has no lines", expression="Invoice.lineItem")
        return sum((price.net for price in prices), ZERO), prices[0].currency
    ledger.opened(invoice)
    found = ledger.balance(connection, invoice)
    return max(min(found.due, found.left), ZERO), found.currency


def _amount(asked: Asked, there: Decimal, currency: str) -> Decimal:
    if asked.currency not in (None, currency):
        raise Outcome("business-rule", f"The invoice is in {currency}, not in {asked.currency}")
    if asked.factor is not None:
        if not 0 < asked.factor <= 1:
            raise Outcome("parameter", "A factor is a fraction: 0.10 is 10 %", code="value")
        amount = rounded(EXACT.multiply(there, asked.factor), currency)
    else:
        amount = there if asked.amount is None else asked.amount
    if not 0 < amount <= there:
        raise Outcome("business-rule", f"There are {there} {currency} that can be given up: the amount is more than 0 and not over that")
    if amount != rounded(amount, currency):
        raise Outcome("business-rule", f"An amount in {currency} has {digits(currency)} digits", code="value")
    return amount


def _discount(store: Store, connection: Connection, db: Snapshot, _act: Act, draft: Resource, request: Request) -> list[Op]:
    prices = prices_of(draft)
    shares = shared(request.amount, [price.net for price in prices], request.currency)
    code = {"coding": [_DISCOUNT], "text": request.reason}
    after = [_cheaper(price, share, code) if share else price for price, share in zip(prices, shares, strict=True)]
    lines = [priced_line(item, price) for item, price in zip(draft["lineItem"], after, strict=True)]
    change = {"lineItem": lines, **totals(after, request.currency)}
    share = insured.of_draft(store, connection, db, draft, after)
    return [Patch("Invoice", lambda current: insured.shown({**current, **change}, share), draft["id"])]


def _cheaper(price: Price, amount: Decimal, code: Resource) -> Price:
    """A price with a discount more, and the taxes of what is left."""
    net = price.net - amount
    lines = [_of(line, net, price.currency) for line in price.lines]
    found = [*lines, Line("discount", rounded(amount, price.currency), code=code)]
    return Price(price.currency, tuple(sorted(found, key=lambda line: KINDS.index(line.kind))))


def _of(line: Line, net: Decimal, currency: str) -> Line:
    """The line, a tax by rate as of that net."""
    if line.kind != "tax" or line.factor is None:
        return line
    return replace(line, amount=rounded(EXACT.multiply(net, line.factor), currency))


def _write_off(store: Store, connection: Connection, _db: Snapshot, act: Act, invoice: Resource, request: Request) -> list[Op]:
    entry = ledger.Entry("write-off", request.amount, request.currency, request.id)
    return [ledger.post(store, connection, act, invoice, [entry])]


_DO: Final[dict[Kind, Callable[[Store, Connection, Snapshot, Act, Resource, Request], list[Op]]]] = {"discount": _discount, "write-off": _write_off}
"""What an approved request does."""
