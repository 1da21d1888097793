"""Payments at the desk, in cash, by card or by transfer, and what is given back: each a PaymentReconciliation, and an entry of the ledger with it.

https://hl7.org/fhir/R4/paymentreconciliation.html

What is given back needs a second person always, and is never more than was paid.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Final, Literal

from fhir_server.clinic.acting import Act, carry_out
from fhir_server.outcome import Outcome
from fhir_server.settings import CANON
from fhir_server.store import Snapshot, Store
from fhir_server.store.database import Connection
from fhir_server.store.ids import new_id
from fhir_server.store.ops import Commit, Op, Put, Resource

from . import approvals, ledger
from .approvals import Request
from .invoices import require_desk
from .money import ZERO, digits, money, rounded

Method = Literal["cash", "card", "transfer", "gateway"]
METHODS: Final[tuple[Method, ...]] = ("cash", "card", "transfer")
"""How somebody pays at the desk."""
METHOD: Final = f"{CANON}/StructureDefinition/payment-method"
TENDERED: Final = f"{CANON}/StructureDefinition/payment-tendered"
_KINDS: Final = "http://terminology.hl7.org/CodeSystem/payment-type"


@dataclass(frozen=True, slots=True)
class Paid:
    """What somebody has paid: an amount with its currency, None for the invoice's, or without one all that is due.

    `tendered` is what was handed over in cash, of which the rest is change; `reference` the number of a terminal's slip or of a transfer.
    """

    method: Method
    amount: Decimal | None = None
    currency: str | None = None
    tendered: Decimal | None = None
    reference: str = ""


@dataclass(frozen=True, slots=True)
class Share:
    """A part of what is given back: the id of its PaymentReconciliation, how much, and by which way it goes."""

    number: str
    amount: Decimal
    method: Method


def by_hand(_: Connection, __: Request) -> list[Share]:
    """Nothing goes back by a gateway: the desk gives it."""
    return []


def pay(store: Store, act: Act, identity: str, paid: Paid) -> Commit:
    """Books a payment of an invoice, by id; the PaymentReconciliation comes first. A transfer may be more than is due.

    Raises Outcome `forbidden` for anybody but the desk, `not-found`, `gone`, and `business-rule` where the invoice is not issued, nothing is due, the
    amount is more than is due, or less was tendered than paid.
    """
    require_desk(act)

    def prepare(connection: Connection, db: Snapshot) -> Sequence[Op]:
        invoice = ledger.locked(store, connection, db, act, identity)
        ledger.opened(invoice)
        found = ledger.balance(connection, invoice)
        return receive(store, connection, act, invoice, replace(paid, amount=_amount(paid, found), currency=found.currency))

    return carry_out(store, act, prepare)


def receive(store: Store, connection: Connection, act: Act, invoice: Resource, paid: Paid) -> list[Op]:
    """Takes a payment of an Invoice that the transaction has locked, with its amount and currency: the ops, the PaymentReconciliation first.

    Raises Outcome `business-rule` for another currency than the invoice's.
    """
    amount, currency = paid.amount, paid.currency
    if amount is None or currency is None:
        raise ValueError("a payment is received with its amount and currency")
    number = new_id()
    entry = ledger.Entry("payment", amount, currency, f"PaymentReconciliation/{number}")
    made = reconciliation(store, number, invoice, amount, currency, paid.method, "payment")
    if paid.tendered is not None:
        made["extension"].append(_tendered(paid.tendered, amount, currency))
    if paid.reference:
        made["paymentIdentifier"] = {"value": paid.reference}
    return [Put(made, number, absent=True), ledger.post(store, connection, act, invoice, [entry])]


def ask_refund(store: Store, act: Act, identity: str, amount: Decimal | None, currency: str | None, tell: Callable[[Request], None]) -> Commit:
    """Asks for some of what was paid to be given back, or all of it: a second person has to approve. `tell` is told what was asked for.

    Raises Outcome as `pay`, and `parameter` without a reason.
    """
    require_desk(act)

    def prepare(connection: Connection, db: Snapshot) -> Sequence[Op]:
        invoice = ledger.locked(store, connection, db, act, identity)
        ledger.opened(invoice)
        found = ledger.balance(connection, invoice)
        asked = found.paid if amount is None else amount
        _fits(asked, currency, found)
        if asked > found.paid:
            raise Outcome("business-rule", f"Only {found.paid} {found.currency} were paid, and can be given back", expression="Invoice")
        tell(approvals.ask(store, connection, act, "refund", identity, asked, found.currency, Decimal(-1)))
        return ()

    return carry_out(store, act, prepare)


def approve_refund(
    store: Store, act: Act, identity: str, request: str | None, shares: Callable[[Connection, Request], list[Share]] = by_hand
) -> Commit:
    """Gives back what somebody else has asked for: a PaymentReconciliation with a negative amount, which comes first.

    `shares` says what of it goes back by other ways, each in a PaymentReconciliation of its own, whose outcome is not known yet.

    Raises Outcome `forbidden` for whoever has asked, `not-found` where nothing waits, `business-rule` where less is left of what was paid.
    """
    require_desk(act)

    def prepare(connection: Connection, db: Snapshot) -> Sequence[Op]:
        invoice = ledger.locked(store, connection, db, act, identity)
        waiting = [each for each in approvals.waiting(connection, identity, request) if each.kind == "refund"]
        if not waiting:
            raise Outcome("not-found", "No refund of this invoice waits for approval")
        found = approvals.decide(store, connection, act, identity, waiting[0].id, approved=True)
        elsewhere = shares(connection, found)
        rest = found.amount - sum((each.amount for each in elsewhere), ZERO)
        parts = [*elsewhere, *([Share(new_id(), rest, "cash")] if rest else [])]
        entries = [ledger.Entry("refund", each.amount, found.currency, f"PaymentReconciliation/{each.number}") for each in parts]
        posted = ledger.post(store, connection, replace(act, reason=found.reason), invoice, entries)
        return [*(_given_back(store, invoice, each, found) for each in parts), posted]

    return carry_out(store, act, prepare)


def _given_back(store: Store, invoice: Resource, part: Share, found: Request) -> Op:
    method = None if part.method == "cash" else part.method
    made = reconciliation(store, part.number, invoice, -part.amount, found.currency, method, "adjustment")
    made |= {"disposition": found.reason} | ({} if method is None else {"outcome": "queued"})
    return Put(made, part.number, absent=True)


def _amount(paid: Paid, found: ledger.Balance) -> Decimal:
    if found.due <= 0:
        raise Outcome("business-rule", "Nothing is due of this invoice", expression="Invoice.status")
    if paid.tendered is not None and paid.method != "cash":
        raise Outcome("parameter", "Only cash is tendered", code="value")
    amount = min(found.due, paid.tendered or found.due) if paid.amount is None else paid.amount
    _fits(amount, paid.currency, found)
    if amount > found.due and paid.method != "transfer":
        raise Outcome("business-rule", f"{found.due} {found.currency} are due, and no more is taken", expression="Invoice")
    if paid.tendered is not None and paid.tendered < amount:
        raise Outcome("business-rule", f"Less was tendered than the {amount} {found.currency} that are paid")
    return amount


def _fits(amount: Decimal, currency: str | None, found: ledger.Balance) -> None:
    if currency not in (None, found.currency):
        raise Outcome("business-rule", f"The invoice is in {found.currency}, not in {currency}")
    if amount <= ZERO or amount != rounded(amount, found.currency):
        raise Outcome("business-rule", f"An amount in {found.currency} is more than 0 and has {digits(found.currency)} digits", code="value")


def reconciliation(store: Store, number: str, invoice: Resource, amount: Decimal, currency: str, method: Method | None, kind: str) -> dict[str, Any]:
    """A PaymentReconciliation of an amount, under a number; `kind` is payment or adjustment."""
    now = store.clock().astimezone(store.registry.zone)
    made: dict[str, Any] = {
        "resourceType": "PaymentReconciliation",
        "id": number,
        "status": "active",
        "created": now.isoformat(timespec="seconds"),
        "outcome": "complete",
        "paymentDate": now.date().isoformat(),
        "paymentAmount": money(amount, currency),
        "detail": [
            {
                "type": {"coding": [{"system": _KINDS, "code": kind}]},
                "request": {"reference": f"Invoice/{invoice['id']}"},
                "date": now.date().isoformat(),
                "amount": money(amount, currency),
            }
        ],
    }
    if method is not None:
        made |= {"extension": [{"url": METHOD, "valueCode": method}], "formCode": {"text": method}}
    if "issuer" in invoice:
        made["requestor"] = invoice["issuer"]
    return made


def _tendered(tendered: Decimal, amount: Decimal, currency: str) -> dict[str, Any]:
    parts = (("given", tendered), ("change", tendered - amount))
    return {"url": TENDERED, "extension": [{"url": name, "valueMoney": money(value, currency)} for name, value in parts]}
