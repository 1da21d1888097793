"""Invoices before they are issued: drafts made of charges, which they keep from others, and taken back.

https://hl7.org/fhir/R4/invoice.html
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Final

from fhir_server import fhirjson
from fhir_server.clinic.acting import Act, carry_out, content, resource_of, visible
from fhir_server.outcome import Outcome
from fhir_server.search import SYSTEM, compile_search
from fhir_server.store import Snapshot, Store
from fhir_server.store.database import Changed, Connection
from fhir_server.store.ops import Commit, Create, Op, Patch, Resource
from fhir_server.store.rules.billing.bills import INVOICE_TYPE, PRICE, TEMPLATE

from . import insured, ledger
from .charging import price_extensions, price_of
from .money import ZERO, amount_of, money
from .pricing import Kind, Line, Price, as_component, by_rate

MOST_LINES: Final = 1_000
_UP: Final = 10
"""How far an Organization may be below the legal entity that it is a part of."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """What is to be billed: all billable charges of an Account or an Encounter, by id, or these ChargeItems; and who pays."""

    account: str | None = None
    encounter: str | None = None
    charges: tuple[str, ...] = ()
    payer: insured.Asked = field(default_factory=insured.Asked)


def invoice_type(code: str) -> Resource:
    """The type of an Invoice: `invoice` or `credit-note`."""
    return {"coding": [{"system": INVOICE_TYPE, "code": code}]}


def require_desk(act: Act, permission: Any = "u") -> None:
    """Raises Outcome `forbidden` for anybody but the clinic's desk."""
    act.require("Invoice", permission)
    if not act.is_desk:
        raise Outcome("forbidden", f"${act.name} is for the clinic's staff")


def generate(store: Store, act: Act, chosen: Chosen) -> Commit:
    """Drafts an Invoice of charges, which are billed from then on; it comes first. It has no number and no date, and shows the share of a payer.

    Raises Outcome `forbidden`, `not-found`, `gone`, and `business-rule` where there is nothing to bill, a charge is not billable or has no price, or
    the charges are of several patients, accounts' currencies, and as `insured.drafted`.
    """
    require_desk(act, "c")

    def prepare(connection: Connection, db: Snapshot) -> Sequence[Op]:
        charges = _chosen(store, act, db, chosen)
        prices = [_price(charge) for charge in charges]
        if len({price.currency for price in prices}) > 1:
            raise Outcome("business-rule", "The charges are in several currencies; make an invoice of each", expression="ChargeItem")
        subjects = {charge["subject"].get("reference") for charge in charges}
        if len(subjects) > 1:
            raise Outcome("business-rule", "The charges are of several patients; make an invoice for each", expression="ChargeItem.subject")
        invoice = _drafted(charges, prices) | _account(charges, chosen)
        if (issuer := _issuer(store, db, charges[0])) is not None:
            invoice["issuer"] = {"reference": issuer}
        share = insured.drafted(store, connection, db, act, charges, prices, chosen.payer)
        return [Create(insured.shown(invoice, share)), *(Patch("ChargeItem", _billed, charge["id"]) for charge in charges)]

    return carry_out(store, act, prepare)


def cancel(store: Store, act: Act, identity: str, *, reason: str) -> Commit:
    """Takes a draft back: it is cancelled, and its charges can be billed again. Raises Outcome `business-rule` for one that is issued."""
    require_desk(act)

    def prepare(connection: Connection, db: Snapshot) -> Sequence[Op]:
        invoice = ledger.locked(store, connection, db, act, identity)
        if invoice.get("status") != "draft":
            raise Outcome("business-rule", f"The invoice is {invoice.get('status')}; it is taken back by $credit", expression="Invoice.status")
        ended = {"status": "cancelled", "cancelledReason": reason or "taken back before it was issued"}
        return [Patch("Invoice", lambda current: {**current, **ended}, identity), *freed(invoice)]

    return carry_out(store, replace(act, reason=reason), prepare)


def freed(invoice: Resource) -> list[Op]:
    """The ops by which an Invoice's charges can be billed again."""
    found = (str(line.get("chargeItemReference", {}).get("reference", "")) for line in invoice.get("lineItem", ()))
    return [Patch("ChargeItem", _free, text.removeprefix("ChargeItem/")) for text in found if text.startswith("ChargeItem/")]


def prices_of(invoice: Resource) -> list[Price]:
    """The prices of an Invoice's lines, as its priceComponents have them. Raises Outcome `invalid` for amounts without a currency, or several."""
    currency: str | None = None
    found: list[tuple[Line, ...]] = []
    for n, item in enumerate(invoice.get("lineItem", ())):
        lines = []
        for c, part in enumerate(item.get("priceComponent", ())):
            place = f"Invoice.lineItem[{n}].priceComponent[{c}]"
            amount, named = amount_of(part.get("amount"), currency, f"{place}.amount")
            if named is None or currency not in (None, named):
                raise Outcome("invalid", "The amounts of an invoice are in one currency", expression=f"{place}.amount")
            currency = named
            factor = Decimal(part["factor"]) if "factor" in part else None
            lines.append(Line(_kind(part, place), amount, factor, part.get("code")))
        found.append(tuple(lines))
    return [Price(currency or "XXX", lines) for lines in found]


def totals(prices: Iterable[Price], currency: str) -> Resource:
    """The totals of an Invoice, which are sums of its lines, and what of them is tax, by rate."""
    listed = list(prices)
    net = sum((price.net for price in listed), ZERO)
    gross = sum((price.gross for price in listed), ZERO)
    made: Resource = {"totalNet": money(net, currency), "totalGross": money(gross, currency)}
    rates = by_rate(listed, currency)
    return made | ({"totalPriceComponent": rates} if rates else {})


def priced_line(item: Resource, price: Price) -> Resource:
    """A line of an Invoice with its price."""
    return {
        **item,
        "extension": [each for each in item.get("extension", ()) if each.get("url") != PRICE] + price_extensions(price)[:1],
        "priceComponent": [as_component(line, price.currency) for line in price.lines],
    }


def _kind(part: Resource, place: str) -> Kind:
    kind: Kind = part.get("type", "base")
    if kind not in Kind.__args__:  # type: ignore[attr-defined]  # of a Literal there are
        raise Outcome("invalid", "That is no kind of price component", expression=f"{place}.type", code="value")
    return kind


def _drafted(charges: Sequence[Resource], prices: Sequence[Price]) -> Resource:
    subject = charges[0]["subject"]
    templates = {fhirjson.dumps(each): each for charge in charges for each in charge.get("extension", ()) if each.get("url") == TEMPLATE}
    lines = []
    for sequence, (charge, price) in enumerate(zip(charges, prices, strict=True), 1):
        named = charge.get("code", {})
        display = named.get("text") or next((each["display"] for each in named.get("coding", ()) if "display" in each), None)
        reference = {"reference": f"ChargeItem/{charge['id']}"} | ({"display": display} if display else {})
        lines.append(priced_line({"sequence": sequence, "chargeItemReference": reference}, price))
    return {
        "resourceType": "Invoice",
        **({"extension": list(templates.values())} if templates else {}),
        "status": "draft",
        "type": invoice_type("invoice"),
        "subject": subject,
        "recipient": subject,
        "lineItem": lines,
        **totals(prices, prices[0].currency),
    }


def _account(charges: Sequence[Resource], chosen: Chosen) -> Resource:
    named = f"Account/{chosen.account}" if chosen.account is not None else None
    accounts = {each.get("reference") for charge in charges for each in charge.get("account", ())}
    found = named or (accounts.pop() if len(accounts) == 1 else None)
    return {"account": {"reference": found}} if found else {}


def _chosen(store: Store, act: Act, db: Snapshot, chosen: Chosen) -> list[Resource]:
    if chosen.charges:
        if len(chosen.charges) > MOST_LINES:
            raise Outcome("parameter", f"An invoice has {MOST_LINES:,} lines at the most")
        wanted = list(dict.fromkeys(chosen.charges))
        there = {version.id: content(version) for version in db.seen_by(act.grant).read_many([("ChargeItem", each) for each in wanted])}
        if missing := [each for each in wanted if each not in there]:
            raise Outcome("not-found", f"ChargeItem/{missing[0]} does not exist")
        charges = [there[each] for each in wanted]
        for charge in charges:
            if charge.get("status") != "billable":
                raise Outcome("business-rule", f"ChargeItem/{charge['id']} is {charge.get('status')}, not billable", expression="ChargeItem.status")
        return charges
    if chosen.account is not None:
        visible(db, act, "Account", chosen.account)
        condition = ("account", f"Account/{chosen.account}")
    else:
        visible(db, act, "Encounter", str(chosen.encounter))
        condition = ("context", f"Encounter/{chosen.encounter}")
    query = store.registry.parse("ChargeItem", [condition, ("_sort", "_lastUpdated")], strict=True)
    # What was billed before is among them; of those many an account may have, the first that are not are billed.
    query = replace(query, count=MOST_LINES * 10)
    rows = db.select(compile_search(query, store.registry, SYSTEM, None, db.sources))
    found = [fhirjson.loads(db.body_of(row)) for row in rows]
    billable = [charge for charge in found if charge.get("status") == "billable"][:MOST_LINES]
    if not billable:
        raise Outcome("business-rule", "There is nothing to bill: no charge is billable", expression="ChargeItem.status")
    return billable


def _price(charge: Resource) -> Price:
    """The price of a charge: that which it was made with, else the total that somebody has written over it."""
    price = price_of(charge)
    if price is not None:
        return price
    place = f"ChargeItem/{charge['id']}"
    if "priceOverride" in charge:
        amount, currency = amount_of(charge["priceOverride"], None, "ChargeItem.priceOverride")
        if currency is not None and amount >= 0:
            return Price(currency, (Line("base", amount),))
    summary = next((each for each in charge.get("extension", ()) if each.get("url") == PRICE), None)
    if summary is not None:
        parts = {each["url"]: amount_of(each.get("valueMoney"), None, "ChargeItem.extension") for each in summary.get("extension", ())}
        if parts.keys() >= {"net", "tax"} and (currency := parts["net"][1]) is not None:
            return Price(currency, (Line("base", parts["net"][0]), *((Line("tax", parts["tax"][0]),) if parts["tax"][0] else ())))
    raise Outcome("business-rule", f"{place} has no price: make it by $apply, or give it a priceOverride with a currency", expression=place)


def _issuer(store: Store, db: Snapshot, charge: Resource) -> str | None:
    """The legal entity that bills: the one that the visit's, else the patient's organization is a part of."""
    found = None
    for name, code, kind in (("context", "service-provider", "Encounter"), ("subject", "organization", "Patient")):
        text = str(charge.get(name, {}).get("reference", ""))
        if found is None and text.startswith(f"{kind}/"):
            there = resource_of(db.read(kind, text.partition("/")[2]))
            found = _organization(store, there, code) if there is not None else None
    for _ in range(_UP):
        part = resource_of(db.read("Organization", found)) if found is not None else None
        above = _organization(store, part, "partof") if part is not None else None
        if above is None:
            break
        found = above
    return f"Organization/{found}" if found is not None else None


def _organization(store: Store, resource: Resource, code: str) -> str | None:
    return next((identity for name, identity in store.registry.references(resource, code) if name == "Organization"), None)


def _billed(charge: Resource) -> Resource:
    if charge.get("status") != "billable":
        raise Changed
    return {**charge, "status": "billed"}


def _free(charge: Resource) -> Resource:
    return {**charge, "status": "billable"} if charge.get("status") == "billed" else charge
