"""Payments that come in: in cash, by card, by transfer, or out of what somebody has paid too much before; for one invoice or for several.

Each is a PaymentReconciliation, and an entry of the ledger with it. Those of several invoices are locked in one order, so that two who pay the same
ones do not wait for each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Final, Literal

from fhir_server.clinic.acting import Act, carry_out
from fhir_server.clinic.billing import approvals, ledger
from fhir_server.clinic.billing.invoices import require_desk
from fhir_server.clinic.billing.ledger import Balance, Entry
from fhir_server.clinic.billing.money import ZERO, rounded
from fhir_server.outcome import Outcome
from fhir_server.store import Snapshot, Store
from fhir_server.store.database import Connection
from fhir_server.store.ids import new_id
from fhir_server.store.ops import Commit, Op, Resource

from . import credit, shifts
from .allocation import Offer, allocate
from .records import Line, Receipt, notices, reconciliation
from .rules import rules_of

Method = Literal["cash", "card", "transfer", "credit", "gateway"]
METHODS: Final[tuple[Method, ...]] = ("cash", "card", "transfer", "credit")
"""How somebody pays at the desk."""
MOST: Final = 100
"""Invoices of one payment."""

_ADD: Final = """
INSERT INTO payment (id, method, amount, currency, at, actor, name, shift) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
"""


@dataclass(frozen=True, slots=True)
class Paid:
    """What somebody has paid: an amount with its currency, None for the invoice's, or without one all that is due.

    `tendered` is what was handed over in cash, of which the rest is change; `reference` the number of a terminal's slip or of a transfer; `location`
    the id of the place at whose shift it is taken, None for that which the caller has opened.
    """

    method: Method
    amount: Decimal | None = None
    currency: str | None = None
    tendered: Decimal | None = None
    reference: str = ""
    location: str | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """An invoice, by id, that is to be paid: so much of it, or without an amount what there is for it."""

    invoice: str
    amount: Decimal | None = None


def pay(store: Store, act: Act, identity: str, paid: Paid) -> Commit:
    """Books a payment of an invoice, by id; the PaymentReconciliation comes first. A transfer may be more than is due, which is credit then.

    Raises Outcome `forbidden` for anybody but the desk, `not-found`, `gone`, and `business-rule` where the invoice is not issued, nothing is due, the
    amount is more than is due or than there is credit, or less was tendered than paid.
    """
    return pay_several(store, act, [Wanted(identity)], paid)


def pay_several(store: Store, act: Act, wanted: Sequence[Wanted], paid: Paid) -> Commit:
    """Books one payment of up to MOST invoices, each once: first the amounts that are wanted, then the oldest invoice first.

    Raises Outcome as `pay`, and `business-rule` for invoices of several patients, payers or currencies.
    """
    require_desk(act)
    if paid.tendered is not None and paid.method != "cash":
        raise Outcome("parameter", "Only cash is tendered", code="value")
    amounts = {each.invoice: each.amount for each in wanted}
    if len(amounts) < len(wanted) or not 0 < len(amounts) <= MOST:
        raise Outcome("parameter", f"A payment is for 1 to {MOST} invoices, each named once")

    def prepare(connection: Connection, db: Snapshot) -> Sequence[Op]:
        if paid.method == "credit":
            return _from_credit(store, connection, db, act, amounts, paid)
        invoices = _in_order(ledger.locked_all(store, connection, db, act, list(amounts)))
        balances = _balances(connection, invoices, paid.currency)
        step = rules_of(store, connection).step(balances[0].currency) if paid.method == "cash" else None
        offer = Offer(paid.amount, paid.tendered, step, beyond=paid.method == "transfer")
        shares = allocate(offer, balances, [amounts[each["id"]] for each in invoices])
        lines = [Line(invoice, share.amount, share.rounding) for invoice, share in zip(invoices, shares, strict=True) if share.amount]
        return book(store, connection, act, lines, replace(paid, currency=balances[0].currency))

    return carry_out(store, act, prepare)


def receive(store: Store, connection: Connection, act: Act, invoice: Resource, paid: Paid) -> list[Op]:
    """Takes a payment of an Invoice that the transaction has locked, with its amount and currency: the ops, the PaymentReconciliation first.

    Raises Outcome `business-rule` for another currency than the invoice's.
    """
    if paid.amount is None or paid.currency is None:
        raise ValueError("a payment is received with its amount and currency")
    return book(store, connection, act, [Line(invoice, paid.amount)], paid)


def book(store: Store, connection: Connection, act: Act, lines: Sequence[Line], paid: Paid) -> list[Op]:
    """Books what comes in for Invoices that the transaction has locked, each once.

    The ops: PaymentReconciliation, Invoices, PaymentNotices. Raises Outcome `business-rule` for another currency than the invoices'.
    """
    assert paid.currency is not None
    now = store.clock().astimezone(store.registry.zone)
    receipt = Receipt(new_id(), now, paid.method, paid.currency, lines, paid.tendered, paid.reference)
    posted = [ledger.post(store, connection, act, line.invoice, entries(line, receipt)) for line in lines]
    made, *told = record(store, connection, act, receipt, paid.location)
    return [made, *posted, *told]


def record(store: Store, connection: Connection, act: Act, receipt: Receipt, location: str | None = None) -> list[Op]:
    """Keeps how a payment was made, whose `entries` the caller books: the ops, PaymentReconciliation first, then PaymentNotices.

    Raises Outcome as `shifts.used`.
    """
    shift = shifts.used(store, connection, act, receipt.method, receipt.currency, location)
    told = (receipt.id, receipt.method, receipt.total, receipt.currency, receipt.at, approvals.who(act), act.grant.actor, shift)
    connection.execute(_ADD, told)
    return [reconciliation(receipt), *notices(receipt)]


def entries(line: Line, receipt: Receipt) -> list[Entry]:
    """What the ledger has of a line."""
    paid = line.amount + line.rounding
    kind: Literal["payment", "refund"] = "payment" if line.amount > 0 else "refund"
    found = [Entry(kind, abs(paid), receipt.currency, receipt.cause)]
    return [*found, Entry("rounding", line.rounding, receipt.currency, receipt.cause)] if line.rounding else found


def _from_credit(store: Store, connection: Connection, db: Snapshot, act: Act, amounts: Mapping[str, Decimal | None], paid: Paid) -> list[Op]:
    """What was paid too much of some invoices of the patient goes to others: nothing comes in, and nothing goes out."""
    sources = credit.sources(store, connection, db, act, list(amounts))
    named = dict.fromkeys([*amounts, *sources])
    there = {each["id"]: each for each in ledger.locked_all(store, connection, db, act, list(named))}
    invoices = _in_order([there[each] for each in amounts])
    balances = _balances(connection, invoices, paid.currency)
    currency = balances[0].currency
    left = credit.left(connection, [there[each] for each in sources if each not in amounts], currency)
    zero = rounded(ZERO, currency)
    whole = sum((each.credit for each in left.values()), zero)
    most = sum((max(each.due, zero) for each in balances), zero)
    if not most:
        raise Outcome("business-rule", "Nothing is due of this invoice", expression="Invoice.status")
    asked = min(whole, most) if paid.amount is None else paid.amount
    if not 0 < asked <= whole:
        raise Outcome("business-rule", f"There are {whole} {currency} of credit, and no more can be used", expression="Invoice")
    shares = allocate(Offer(asked), balances, [amounts[each["id"]] for each in invoices])
    lines = [Line(invoice, share.amount) for invoice, share in zip(invoices, shares, strict=True) if share.amount]
    lines += [Line.back(there[identity], left[identity], part) for identity, part in credit.taken(left, asked).items()]
    return book(store, connection, act, lines, replace(paid, currency=currency))


def _balances(connection: Connection, invoices: Sequence[Resource], currency: str | None) -> list[Balance]:
    """The balances of invoices that can be paid together."""
    for each in invoices:
        ledger.opened(each)
    found = [ledger.balance(connection, each) for each in invoices]
    if len({each.currency for each in found}) > 1:
        raise Outcome("business-rule", "The invoices are in several currencies; pay those of each by themselves", expression="Invoice.totalGross")
    if currency not in (None, found[0].currency):
        raise Outcome("business-rule", f"The invoice is in {found[0].currency}, not in {currency}")
    if len({tuple(str(each.get(name, {}).get("reference")) for name in ("subject", "recipient")) for each in invoices}) > 1:
        raise Outcome(
            "business-rule", "A payment is for invoices of one patient and one payer; the receipt would tell others", expression="Invoice.subject"
        )
    return found


def _in_order(invoices: Sequence[Resource]) -> list[Resource]:
    """The oldest first."""
    return sorted(invoices, key=lambda each: (str(each.get("date", "")), each["id"]))
