"""`$issue`: a draft becomes an invoice, with a number and a date; from then on it stays as it is.

https://hl7.org/fhir/R4/invoice-definitions.html#Invoice.status
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from fhir_server.clinic.acting import Act, carry_out
from fhir_server.outcome import Outcome
from fhir_server.store import Snapshot, Store
from fhir_server.store.database import Connection
from fhir_server.store.ops import Commit, Op, Patch, Resource
from fhir_server.store.rules.billing.bills import NUMBER

from . import approvals, insured, ledger, series
from .invoices import invoice_type, prices_of, require_desk, totals
from .money import ZERO, amount_of, rounded
from .pricing import Price


def issue(store: Store, act: Act, identity: str, limit: Decimal) -> Commit:
    """Issues a draft, by id; it comes first. `limit` is how much of a draft written by hand may be discounts.

    Raises Outcome `forbidden`, `not-found`, `gone`, and `business-rule` for what is no draft, has no lines, does not sum to its totals, or waits for
    somebody's approval, or names a Coverage that is not in force any more.
    """
    require_desk(act)

    def prepare(connection: Connection, db: Snapshot) -> Sequence[Op]:
        draft = ledger.locked(store, connection, db, act, identity)
        if draft.get("status") != "draft":
            raise Outcome("business-rule", f"The invoice is {draft.get('status')}; only drafts are issued", expression="Invoice.status")
        approvals.settled(connection, identity)
        prices = _verified(draft, limit)
        ready = {**draft, "type": draft.get("type") or invoice_type("invoice"), **totals(prices, prices[0].currency)}
        gross, currency = ledger.total_of(ready)
        entries = [ledger.Entry("charge", gross, currency, f"Invoice/{identity}")]
        share = insured.of_draft(store, connection, db, draft, prices, finally_=True)
        if share is not None:
            insured.keep(connection, identity, share)
            entries.append(ledger.Entry("insurance", share.payer, currency, f"Coverage/{share.coverage['id']}"))
        ledger.book(store, connection, act, identity, entries)
        now = store.clock().astimezone(store.registry.zone)
        issuer = str(draft.get("issuer", {}).get("reference", ""))
        number, at = series.take(connection, db, issuer, "invoice", now)
        zero = rounded(ZERO, currency)
        balance = ledger.Balance(currency, gross, zero, zero, zero, zero, share.payer if share is not None else zero, zero)
        return [Patch("Invoice", lambda _: _issued(ready, number, at.isoformat(timespec="milliseconds"), balance), identity)]

    return carry_out(store, act, prepare)


def _issued(ready: Resource, number: str, date: str, balance: ledger.Balance) -> Resource:
    shown = ledger.shown(ready, balance)
    numbers = [*ready.get("identifier", ()), {"use": "official", "system": NUMBER, "value": number}]
    return shown | {"identifier": numbers, "date": date}


def _verified(draft: Resource, limit: Decimal) -> list[Price]:
    """The prices of a draft's lines, which sum to its totals, if it has some."""
    prices = prices_of(draft)
    if not prices or not any(price.lines for price in prices):
        raise Outcome("business-rule", "The draft has no lines with amounts", expression="Invoice.lineItem")
    currency = next(price.currency for price in prices if price.lines)
    prices = [Price(currency, price.lines) for price in prices]
    for n, price in enumerate(prices):
        for line in price.lines:
            if line.amount < 0 or rounded(line.amount, currency) != line.amount:
                said = f"An amount is positive, in the digits of {currency}"
                raise Outcome("business-rule", said, expression=f"Invoice.lineItem[{n}].priceComponent")
        if price.net < 0:
            raise Outcome("business-rule", "A line takes off more than there is", expression=f"Invoice.lineItem[{n}].priceComponent")
    for name, value in totals(prices, currency).items():
        if name != "totalPriceComponent" and name in draft and amount_of(draft[name], currency, f"Invoice.{name}") != (value["value"], currency):
            raise Outcome("business-rule", f"The lines sum to {value['value']} {currency}, not to what {name} says", expression=f"Invoice.{name}")
    by_hand = [price for item, price in zip(draft["lineItem"], prices, strict=True) if "chargeItemReference" not in item]
    taken = sum(line.amount for price in by_hand for line in price.lines if line.kind in {"discount", "deduction"})
    if taken > limit:
        said = f"More than {limit} {currency} are taken off by hand: leave it to $discount, which a second person approves"
        raise Outcome("business-rule", said, expression="Invoice.lineItem")
    return prices
