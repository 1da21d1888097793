"""What reports count of a resource: a pure function for each type. docs/decisions/0040-reports-of-rows.md

https://hl7.org/fhir/R4/invoice.html, https://hl7.org/fhir/R4/chargeitem.html, https://hl7.org/fhir/R4/paymentreconciliation.html,
https://hl7.org/fhir/R4/encounter.html

Each answers None for what is not counted. A resource from another system may say anything: what makes no sense is not counted, and never refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final, NamedTuple

from fhir_server.search import Registry
from fhir_server.search.params.date import parse_date
from fhir_server.search.params.reference import ABSOLUTE, locate
from fhir_server.store.rules.billing.bills import BALANCE, CREDITS, INVOICE_TYPE, NUMBER, PRICE
from fhir_server.store.rules.billing.payments import METHOD
from fhir_server.store.rules.queueing.following import zone_of

CREDIT_NOTE: Final = "credit-note"
_SIGN: Final = {"base": 1, "surcharge": 1, "discount": -1, "deduction": -1, "tax": 1}
_MOST: Final = Decimal(10) ** 12
_ZERO: Final = Decimal(0)
_WAITING: Final = frozenset({"arrived", "triaged"})
_SEEN: Final = frozenset({"in-progress", "onleave", "finished"})
_DAY: Final = timedelta(days=1)

Json = Mapping[str, Any]


class Line(NamedTuple):
    """A line of an invoice: its place from 1 on, 0 for what the totals have beyond the lines; `charge` is the id of its ChargeItem."""

    place: int
    net: Decimal
    tax: Decimal
    charge: str | None


class Bill(NamedTuple):
    """An invoice or credit note that is issued, with the `day` in the clinic's zone."""

    day: date
    currency: str
    net: Decimal
    gross: Decimal
    due: Decimal
    credit: bool
    lines: tuple[Line, ...]


class Payment(NamedTuple):
    """Money that came in, or went back."""

    day: date
    method: str
    currency: str
    amount: Decimal


class Visit(NamedTuple):
    """When somebody came, and when they were first seen; whether they `went` without."""

    location: str
    zone: str
    arrived: datetime
    seen: datetime | None
    went: bool


class Charged(NamedTuple):
    """What a charge was made by: a template, as a canonical, and a doctor, as a reference; empty where it does not say."""

    template: str
    doctor: str


def bill_of(invoice: Json, registry: Registry) -> Bill | None:
    """What an Invoice adds to revenue: one that is issued, balanced, or was issued and is cancelled, by its number, with a date and a total."""
    status = invoice.get("status")
    is_numbered = any(each.get("system") == NUMBER for each in invoice.get("identifier", ()))
    day = _day(invoice.get("date"), registry)
    total = _money(invoice.get("totalGross")) or _money(invoice.get("totalNet"))
    if day is None or total is None or not (status in {"issued", "balanced"} or (status == "cancelled" and is_numbered)):
        return None
    currency, gross = total
    net = _in(currency, invoice.get("totalNet"))
    net = gross if net is None else net
    credit = _is_credit(invoice)
    due = _ZERO if credit else _due(invoice, currency)
    owed = (gross if status == "issued" and not credit else _ZERO) if due is None else due
    return Bill(day, currency, net, gross, owed, credit, tuple(_lines(invoice, currency, net, gross - net, registry)))


def payment_of(reconciliation: Json, registry: Registry) -> Payment | None:
    """What a PaymentReconciliation that is active, and did not come to nothing, brought in on its paymentDate."""
    day, paid = _day(reconciliation.get("paymentDate"), registry), _money(reconciliation.get("paymentAmount"))
    if day is None or paid is None or reconciliation.get("status") != "active" or reconciliation.get("outcome") == "error":
        return None
    method = next((each.get("valueCode", "") for each in reconciliation.get("extension", ()) if each.get("url") == METHOD), "")
    return Payment(day, str(method), *paid)


def visit_of(encounter: Json, registry: Registry) -> Visit | None:
    """When somebody came and was seen, by the history of an Encounter's status; what it shows now begins where its history ends."""
    status, past = encounter.get("status"), encounter.get("statusHistory", ())
    waits = [each.get("period", {}) for each in past if each.get("status") in _WAITING]
    starts = [each.get("start") for each in waits]
    if not waits and status in _WAITING:
        places = [each.get("period", {}).get("start") for each in encounter.get("location", ())]
        starts = [each for each in places if each is not None] or [encounter.get("period", {}).get("start")]
    arrived = min(_moments(starts, registry), default=None)
    if arrived is None or status in {"planned", "entered-in-error"}:
        return None
    seen = min(_moments((each.get("period", {}).get("start") for each in past if each.get("status") == "in-progress"), registry), default=None)
    if seen is None and status in _SEEN:
        seen = max(_moments((each.get("end") for each in waits), registry), default=None)
    if seen is not None and seen < arrived:
        seen = None
    place = next((each.get("location") for each in encounter.get("location", ())), None)
    location = _local(place, registry, {"Location"})
    return Visit(location.partition("/")[2], zone_of(encounter) or "", arrived, seen, status == "cancelled" and seen is None)


def charged_by(charge: Json, registry: Registry) -> Charged:
    """The template of a ChargeItem, and the first of its performers who is a doctor, or one in a role."""
    stated = (*charge.get("definitionCanonical", ()), *charge.get("definitionUri", ()), "")
    actors = (_local(each.get("actor"), registry, {"Practitioner", "PractitionerRole"}) for each in charge.get("performer", ()))
    return Charged(str(stated[0] or ""), next((each for each in actors if each), ""))


def _lines(invoice: Json, currency: str, net: Decimal, tax: Decimal, registry: Registry) -> Iterable[Line]:
    items = invoice.get("lineItem", ())
    for place, item in enumerate(items, 1):
        charge = _local(item.get("chargeItemReference"), registry, {"ChargeItem"}).partition("/")[2] or None
        own_net, own_tax = _price(item, currency)
        net, tax = net - own_net, tax - own_tax
        yield Line(place, own_net, own_tax, charge)
    if net or tax or not items:
        yield Line(0, net, tax, None)


def _price(item: Json, currency: str) -> tuple[Decimal, Decimal]:
    """Net and tax of a line: as it says, or else as its components sum. What is in another currency is nothing."""
    for each in item.get("extension", ()):
        if each.get("url") == PRICE:
            parts = {part.get("url"): _in(currency, part.get("valueMoney")) for part in each.get("extension", ())}
            return parts.get("net") or _ZERO, parts.get("tax") or _ZERO
    net = tax = _ZERO
    for part in item.get("priceComponent", ()):
        kind = part.get("type")
        amount = (_in(currency, part.get("amount")) or _ZERO) * _SIGN.get(kind, 0)
        net, tax = (net, tax + amount) if kind == "tax" else (net + amount, tax)
    return net, tax


def _due(invoice: Json, currency: str) -> Decimal | None:
    for each in invoice.get("extension", ()):
        if each.get("url") == BALANCE:
            return next((_in(currency, part.get("valueMoney")) for part in each.get("extension", ()) if part.get("url") == "due"), None)
    return None


def _is_credit(invoice: Json) -> bool:
    codes = {(each.get("system"), each.get("code")) for each in invoice.get("type", {}).get("coding", ())}
    return (INVOICE_TYPE, CREDIT_NOTE) in codes or any(each.get("url") == CREDITS for each in invoice.get("extension", ()))


def _money(value: Any) -> tuple[str, Decimal] | None:
    """Currency and amount of a Money that has both, in bounds."""
    number, currency = (value.get("value"), value.get("currency")) if isinstance(value, dict) else (None, None)
    if isinstance(number, bool) or not isinstance(number, int | Decimal) or not isinstance(currency, str):
        return None
    amount = Decimal(number)
    return (currency, amount) if abs(amount) < _MOST else None


def _in(currency: str, value: Any) -> Decimal | None:
    found = _money(value)
    return found[1] if found is not None and found[0] == currency else None


def _day(text: Any, registry: Registry) -> date | None:
    try:
        return parse_date(text, registry.zone)[0].astimezone(registry.zone).date() if isinstance(text, str) else None
    except (ValueError, OverflowError):
        return None


def _moments(texts: Iterable[Any], registry: Registry) -> Iterable[datetime]:
    """The times that say more than the day."""
    for text in texts:
        try:
            lo, hi = parse_date(text, registry.zone) if isinstance(text, str) else (None, None)
        except ValueError:
            continue
        if lo is not None and hi is not None and hi - lo < _DAY / 2:
            yield lo


def _local(reference: Any, registry: Registry, wanted: set[str]) -> str:
    text = reference.get("reference") if isinstance(reference, dict) else None
    found = locate(text, registry.context) if isinstance(text, str) and text and not text.startswith("#") else None
    if found is None or found[1] == ABSOLUTE or registry.type_name(found[1]) not in wanted:
        return ""
    return f"{registry.type_name(found[1])}/{found[0]}"
