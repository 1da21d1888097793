"""Credit notes: what takes an invoice back, wholly or in part, which itself stays as it is.

https://hl7.org/fhir/R4/invoice.html

A credit note is an Invoice of its own type with negative amounts and a number of a series of its own. It takes lines back, or an amount from each
line by its share of what is left; of a line it takes the taxes in proportion, so that all notes together come to the invoice to the last cent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Final

from fhir_server.clinic.acting import Act, carry_out, content
from fhir_server.outcome import Outcome
from fhir_server.store import Snapshot, Store
from fhir_server.store.database import Connection
from fhir_server.store.ids import new_id
from fhir_server.store.ops import Commit, Op, Put, Resource
from fhir_server.store.rules.billing.bills import CREDITS, NUMBER, TEMPLATE

from . import insured, ledger, series
from .invoices import freed, invoice_type, priced_line, prices_of, require_desk, totals
from .money import EXACT, ZERO, rounded, shared
from .pricing import Line, Price

_NOTES: Final = "SELECT cause FROM ledger_entry WHERE invoice = %s AND kind = 'credit' ORDER BY number"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to credit: an amount with its currency, None for the invoice's; lines, by their sequences; or without either all that is left.

    With `rebill` the charges can be billed again where nothing remains of the invoice.
    """

    amount: Decimal | None = None
    currency: str | None = None
    lines: tuple[int, ...] = ()
    rebill: bool = False


def credit(store: Store, act: Act, identity: str, wanted: Wanted) -> Commit:
    """Credits an invoice, by id, for the reason of the act; the credit note comes first. An unpaid one that is credited in full is cancelled.

    Raises Outcome `forbidden`, `not-found`, `gone`, `parameter` without a reason or for an unknown line, and `business-rule` for more than is left,
    or where a payer has still to answer.
    """
    require_desk(act, "c")
    if not act.reason.strip():
        raise Outcome("parameter", "The parameter 'reason' is needed", code="required")

    def prepare(connection: Connection, db: Snapshot) -> Sequence[Op]:
        invoice = ledger.locked(store, connection, db, act, identity)
        ledger.opened(invoice)
        insured.unclaimed(connection, identity)
        before = ledger.balance(connection, invoice)
        prices, credited = prices_of(invoice), credited_lines(connection, db, invoice)
        if not prices:
            raise Outcome("business-rule", "The invoice has no lines to credit", expression="Invoice.lineItem")
        shares = _shares(invoice, prices, credited, wanted, before)
        amount = sum(shares, ZERO)
        if not 0 < amount <= before.left:
            raise Outcome("business-rule", f"Of the invoice {before.left} {before.currency} are left to credit, not {amount}")
        note = _note(invoice, prices, credited, shares, act.reason)
        named = new_id()
        entries = [ledger.Entry("credit", amount, before.currency, f"Invoice/{named}")]
        if of_insurer := before.of_insurer(amount):
            entries.append(ledger.Entry("insurance", -of_insurer, before.currency, f"Invoice/{named}"))
        posted = ledger.post(store, connection, act, invoice, entries)
        again = freed(invoice) if wanted.rebill and before.credited + amount == before.charged and not before.paid else []
        now = store.clock().astimezone(store.registry.zone)
        issuer = str(invoice.get("issuer", {}).get("reference", ""))
        number, at = series.take(connection, db, issuer, "credit-note", now)
        note |= {"id": named, "identifier": [{"use": "official", "system": NUMBER, "value": number}], "date": at.isoformat(timespec="milliseconds")}
        return [Put(note, named), posted, *again]

    return carry_out(store, act, prepare)


def credited_lines(connection: Connection, db: Snapshot, invoice: Resource) -> list[Price]:
    """What each line of an invoice was credited before, as one price with positive amounts."""
    notes = [str(cause).partition("/")[2] for (cause,) in connection.execute(_NOTES, (invoice["id"],)).fetchall()]
    of_line: dict[Any, list[Line]] = {}
    for version in db.read_many([("Invoice", each) for each in notes]) if notes else ():
        note = content(version)
        for item, price in zip(note.get("lineItem", ()), prices_of(note), strict=True):
            of_line.setdefault(item.get("sequence"), []).extend(replace(line, amount=-line.amount) for line in price.lines)
    currency = ledger.total_of(invoice)[1]
    return [Price(currency, tuple(of_line.get(_sequence(item, n), ()))) for n, item in enumerate(invoice["lineItem"])]


def _shares(invoice: Resource, prices: Sequence[Price], credited: Sequence[Price], wanted: Wanted, before: ledger.Balance) -> list[Decimal]:
    """How much of each line is credited now, with its taxes."""
    left = [price.gross - gone.gross for price, gone in zip(prices, credited, strict=True)]
    if wanted.lines:
        known = {_sequence(item, n): n for n, item in enumerate(invoice["lineItem"])}
        if unknown := [each for each in wanted.lines if each not in known]:
            raise Outcome("parameter", f"The invoice has no line {unknown[0]}", code="value")
        chosen = {known[each] for each in wanted.lines}
        return [each if n in chosen else ZERO for n, each in enumerate(left)]
    amount = before.left if wanted.amount is None else wanted.amount
    if wanted.currency not in (None, before.currency):
        raise Outcome("business-rule", f"The invoice is in {before.currency}, not in {wanted.currency}")
    if not 0 < amount <= before.left or amount != rounded(amount, before.currency):
        raise Outcome("business-rule", f"Of the invoice {before.left} {before.currency} are left to credit, not {amount}")
    if sum(left, ZERO) < amount or any(each < 0 for each in left):
        raise Outcome("business-rule", "The lines of the invoice do not come to its total, so they cannot be credited", expression="Invoice.lineItem")
    return shared(rounded(amount, before.currency), left, before.currency)


def _note(invoice: Resource, prices: Sequence[Price], credited: Sequence[Price], shares: Sequence[Decimal], reason: str) -> Resource:
    found = [
        ({**_what(item), "sequence": _sequence(item, n)}, _taken(price, gone, share))
        for n, (item, price, gone, share) in enumerate(zip(invoice["lineItem"], prices, credited, shares, strict=True))
        if share
    ]
    templates = [each for each in invoice.get("extension", ()) if each.get("url") == TEMPLATE]
    reference = {"reference": f"Invoice/{invoice['id']}"}
    numbers = [each["value"] for each in invoice.get("identifier", ()) if each.get("system") == NUMBER]
    kept: Resource = {name: invoice[name] for name in ("subject", "recipient", "issuer", "account") if name in invoice}
    return {
        "resourceType": "Invoice",
        "extension": [{"url": CREDITS, "valueReference": reference | ({"display": numbers[0]} if numbers else {})}, *templates],
        "status": "issued",
        "type": invoice_type("credit-note"),
        **kept,
        "lineItem": [priced_line(item, price) for item, price in found],
        **totals([price for _, price in found], found[0][1].currency),
        "note": [{"text": reason}],
    }


def _taken(price: Price, gone: Price, share: Decimal) -> Price:
    """A part of a line's gross as net and taxes, negative: of each tax what is due of it by now, less what was credited before."""
    whole, currency = price.gross, price.currency
    now = gone.gross + share
    before = _by_rate(gone)
    taxes = []
    for tax in (line for line in price.lines if line.kind == "tax"):
        due = rounded(EXACT.divide(EXACT.multiply(tax.amount, now), whole), currency)
        taken = min(due, tax.amount) - before.pop(_rate(tax), ZERO)
        taxes.append(replace(tax, amount=-taken))
    net = share + sum((tax.amount for tax in taxes), ZERO)
    return Price(currency, (Line("base", -net), *taxes))


def _by_rate(price: Price) -> dict[str, Decimal]:
    found: dict[str, Decimal] = {}
    for line in price.lines:
        if line.kind == "tax":
            found[_rate(line)] = found.get(_rate(line), ZERO) + line.amount
    return found


def _rate(line: Line) -> str:
    return repr((line.code, line.factor))


def _what(item: Mapping[str, Any]) -> Resource:
    return {name: item[name] for name in ("chargeItemReference", "chargeItemCodeableConcept") if name in item}


def _sequence(item: Mapping[str, Any], n: int) -> int:
    return int(item.get("sequence", n + 1))
