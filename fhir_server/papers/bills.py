"""Invoices, credit notes and receipts as sheets. https://hl7.org/fhir/R4/invoice.html, https://hl7.org/fhir/R4/paymentreconciliation.html

Amounts stand as the resource has them: nothing is priced here. What is shown besides are the sums of a line's components.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any, Final

from fhir_server.iban import SYSTEM, normal, spaced

from .reading import Json, Record, amount_of, concept, name_of, paragraphs, plain, quantity
from .sheets import Sheet, day_of, identifier_of, notes_of, sheet
from .wording import Wording

NUMBER: Final = "/sid/invoice-number"
BALANCE: Final = "/StructureDefinition/invoice-balance"
CREDITS: Final = "/StructureDefinition/credits-invoice"
METHOD: Final = "/StructureDefinition/payment-method"
TENDERED: Final = "/StructureDefinition/payment-tendered"
DETAIL: Final = "/CodeSystem/payment-detail"
_TENDERED: Final = {"given": "tendered", "change": "change"}
SHARE: Final = "/StructureDefinition/payer-share"
_SIGNS: Final = {"base": 1, "surcharge": 1, "discount": -1, "deduction": -1}
_MOST: Final = Decimal(1_000_000_000)
_NAME: Final = 70
_REMITTANCE: Final = 60
"""What a transfer has room for in a code: euros below, and characters. EPC069-12, https://www.europeanpaymentscouncil.eu/"""
_VOID: Final = frozenset({"cancelled", "entered-in-error"})


def invoice(record: Record, wording: Wording) -> Sheet:
    """An Invoice with its lines, its taxes by rate, and what is still due; a draft and a cancelled one say so."""
    main = record.main
    is_credit = any(coding.get("code") == "credit-note" for coding in main.get("type", {}).get("coding", ()))
    currency = _currency(main)
    number = identifier_of(main, NUMBER)
    status = main.get("status")
    credited = [each.get("valueReference") for each in main.get("extension", ()) if str(each.get("url")).endswith(CREDITS)]
    facts = [
        (wording("number"), number),
        (wording("date"), wording.date(main.get("date")) if main.get("date") else ""),
        (wording("to-invoice"), wording.joined(_number_of(record, each) for each in credited)),
    ]
    return sheet(
        "invoice",
        record,
        wording,
        heading=wording("credit-note" if is_credit else "invoice"),
        number=number,
        on=day_of(main.get("date"), wording),
        facts=facts,
        mark=wording("draft") if status == "draft" else wording("cancelled") if status in _VOID else None,
        currency=currency,
        lines=[_line(record, wording, each, currency) for each in main.get("lineItem", ())],
        totals=_totals(main, wording, currency),
        transfer=_transfer(record, wording, number),
        notes=[*paragraphs(main.get("paymentTerms")), *paragraphs(main.get("cancelledReason")), *notes_of(main)],
    )


def receipt(record: Record, wording: Wording) -> Sheet:
    """The receipt of a PaymentReconciliation: of what came in, of what was given back, or of credit that went to other invoices."""
    main = record.main
    value, currency = amount_of(main.get("paymentAmount")) or (Decimal(0), "XXX")
    number = identifier_of(main) or plain(main.get("id"), 64)
    facts = [
        (wording("number"), number),
        (wording("date"), wording.date(main.get("paymentDate") or main.get("created"))),
        (wording("method"), method_of(main, wording)),
        (wording("reference"), plain(main.get("paymentIdentifier", {}).get("value"), 80)),
        *((wording(name), wording.money(*found)) for name, found in _tendered(main)),
    ]
    lines, moved = [], Decimal(0)
    for each in main.get("detail", ()):
        part = amount_of(each.get("amount"))
        moved += max(part[0], Decimal(0)) if part else 0
        text = _number_of(record, each.get("request")) or concept(each.get("type"))
        if any(coding.get("code") == "rounding" and str(coding.get("system")).endswith(DETAIL) for coding in each.get("type", {}).get("coding", ())):
            text = wording("rounding")
        lines.append({"text": text, "date": wording.date(each["date"]) if "date" in each else "", "amount": wording.money(*part) if part else ""})
    is_credit = not value and bool(moved)
    status = main.get("status")
    return sheet(
        "receipt",
        record,
        wording,
        heading=wording("receipt"),
        number=number,
        on=day_of(main.get("paymentDate"), wording),
        facts=facts,
        mark=wording("draft") if status == "draft" else wording("cancelled") if status in _VOID else None,
        label=wording("set-off" if is_credit else "given-back" if value < 0 else "received"),
        amount=wording.money(moved if is_credit else abs(value), currency),
        lines=lines,
        closing=wording("payment-thanks") if value > 0 else "",
        notes=[*paragraphs(main.get("disposition")), *notes_of(main, "processNote")],
    )


def method_of(main: Json, wording: Wording) -> str:
    """How something was paid, as people say it."""
    code = next((str(each.get("valueCode")) for each in main.get("extension", ()) if str(each.get("url")).endswith(METHOD)), "")
    return wording(f"method-{code}") if wording.has(f"method-{code}") else concept(main.get("formCode"))


def _tendered(main: Json) -> Iterator[tuple[str, tuple[Decimal, str]]]:
    """What was handed over in cash, and what was given back of it."""
    parts = (part for each in main.get("extension", ()) if str(each.get("url")).endswith(TENDERED) for part in each.get("extension", ()))
    for part in parts:
        found = amount_of(part.get("valueMoney"))
        if found is not None and part.get("url") in _TENDERED:
            yield _TENDERED[part["url"]], found


def _currency(main: Json) -> str:
    found = [amount_of(main.get(name)) for name in ("totalGross", "totalNet")]
    found += [amount_of(part.get("amount")) for line in main.get("lineItem", ()) for part in line.get("priceComponent", ())]
    return next((each[1] for each in found if each is not None), "XXX")


def _number_of(record: Record, reference: Any) -> str:
    """The number of the Invoice that a Reference leads to, else what it is called."""
    found = record.of(reference)
    return (identifier_of(found, NUMBER) if found is not None else "") or record.named(reference)


def _line(record: Record, wording: Wording, item: Json, currency: str) -> dict[str, Any]:
    parts = item.get("priceComponent", ())
    charge = record.of(item.get("chargeItemReference")) or {}
    text = concept(item.get("chargeItemCodeableConcept")) or concept(charge.get("code")) or record.named(item.get("chargeItemReference"))
    net, tax = _sums(parts)
    performed = charge.get("occurrenceDateTime") or charge.get("occurrencePeriod", {}).get("start") or charge.get("enteredDate")
    rates = dict.fromkeys(wording.percent(Decimal(part["factor"])) for part in parts if part.get("type") == "tax" and "factor" in part)
    return {
        "text": text,
        "details": list(_details(parts, wording, currency)),
        "date": wording.date(performed) if performed else "",
        "quantity": quantity(charge.get("quantity"), wording),
        "net": wording.amount(net, currency),
        "rate": wording.joined(rates) or (wording.amount(tax, currency) if tax else ""),
        "gross": wording.amount(net + tax, currency),
    }


def _sums(parts: Sequence[Json]) -> tuple[Decimal, Decimal]:
    """Net and tax of a line. Discounts and deductions take off what the base is, whichever sign they are written with."""
    values = [(part.get("type"), found[0]) for part in parts if (found := amount_of(part.get("amount"))) is not None]
    is_negative = sum((value for kind, value in values if kind == "base"), Decimal(0)) < 0
    net = sum((_signed(str(kind), value, is_negative=is_negative) for kind, value in values if kind in _SIGNS), Decimal(0))
    return net, sum((value for kind, value in values if kind == "tax"), Decimal(0))


def _signed(kind: str, value: Decimal, *, is_negative: bool) -> Decimal:
    if _SIGNS[kind] > 0:
        return value
    return abs(value) if is_negative else -abs(value)


def _details(parts: Sequence[Json], wording: Wording, currency: str) -> Iterator[str]:
    """What a line is made of, where it is more than a price and a tax."""
    if all(part.get("type") in ("base", "tax") for part in parts):
        return
    is_negative = any(part.get("type") == "base" and (found := amount_of(part.get("amount"))) is not None and found[0] < 0 for part in parts)
    for part in parts:
        kind, found = str(part.get("type")), amount_of(part.get("amount"))
        if found is None or kind == "tax" or not wording.has(kind):
            continue
        name = wording.joined((wording(kind), concept(part.get("code"))))
        value = _signed(kind, found[0], is_negative=is_negative) if kind in _SIGNS else found[0]
        rate = f" ({wording.percent(Decimal(part['factor']))})" if "factor" in part else ""
        yield f"{name}{rate}: {wording.amount(value, currency)}"


def _totals(main: Json, wording: Wording, currency: str) -> list[dict[str, Any]]:
    rows: list[tuple[str, Decimal, bool]] = []
    net, gross = amount_of(main.get("totalNet")), amount_of(main.get("totalGross"))
    taxes = list(_taxes(main, wording))
    if net is not None and (taxes or gross is None or net[0] != gross[0]):
        rows.append((wording("net"), net[0], False))
    rows += [(name, value, False) for name, value in taxes]
    if gross is not None:
        rows.append((wording("gross"), gross[0], True))
        rows += _shares(main, wording, gross[0])
    balance = {name: found[0] for name, value in _balance(main).items() if (found := amount_of(value)) is not None}
    if balance.get("paid") or balance.get("credited"):
        rows += [(wording(name), -balance[name], False) for name in ("paid", "credited") if balance.get(name)]
        rows.append((wording("due"), balance.get("due", Decimal(0)), True))
    return [
        {"name": name, "amount": wording.money(value, currency) if strong else wording.amount(value, currency), "strong": strong}
        for name, value, strong in rows
    ]


def _shares(main: Json, wording: Wording, gross: Decimal) -> Iterator[tuple[str, Decimal, bool]]:
    """What a payer pays of the total, and what is left for the patient."""
    for each in main.get("extension", ()):
        if not str(each.get("url")).endswith(SHARE):
            continue
        parts = {str(part.get("url")): part for part in each.get("extension", ())}
        found = amount_of(parts.get("amount", {}).get("valueMoney"))
        name = plain(parts.get("coverage", {}).get("valueReference", {}).get("display"), 100)
        if found is not None and found[0]:
            yield wording("payer-share") + (f" ({name})" if name else ""), -found[0], False
            yield wording("patient-share"), gross - found[0], True


def due_of(main: Json) -> tuple[Decimal, str] | None:
    """What is to be paid of an Invoice, with its currency: by its balance, else all of it while it is issued."""
    stated = amount_of(_balance(main).get("due"))
    if stated is not None:
        return stated
    total = amount_of(main.get("totalGross"))
    return total if total is None or main.get("status") == "issued" else (Decimal(0), total[1])


def _transfer(record: Record, wording: Wording, number: str) -> dict[str, str] | None:
    """What a bank has to know to pay what is due, where it is due in euros and the clinic has an IBAN."""
    clinic, due = record.clinic or {}, due_of(record.main)
    accounts = (normal(each.get("value")) for each in clinic.get("identifier", ()) if each.get("system") == SYSTEM)
    account, name = next((each for each in accounts if each is not None), None), _short(name_of(clinic), _NAME)
    if record.main.get("status") != "issued" or due is None or due[1] != "EUR" or not 0 < due[0] < _MOST or not (account and name and number):
        return None
    return {
        "name": name,
        "iban": account,
        "account": spaced(account),
        "amount": f"{due[0]:.2f}",
        "sum": wording.money(*due),
        "text": _short(number, _REMITTANCE),
    }


def _short(text: str, most: int) -> str:
    """The beginning of a text, of no more characters, and twice as many bytes at the most."""
    return text[:most].encode()[: 2 * most].decode(errors="ignore").strip()


def _balance(main: Json) -> dict[str, Json]:
    parts = (part for each in main.get("extension", ()) if str(each.get("url")).endswith(BALANCE) for part in each.get("extension", ()))
    return {str(part.get("url")): part["valueMoney"] for part in parts if "valueMoney" in part}


def _taxes(main: Json, wording: Wording) -> Iterator[tuple[str, Decimal]]:
    """Tax by rate: as the invoice sums it up, else summed over its lines."""
    stated = [part for part in main.get("totalPriceComponent", ()) if part.get("type") == "tax"]
    parts = stated or [part for line in main.get("lineItem", ()) for part in line.get("priceComponent", ()) if part.get("type") == "tax"]
    sums: dict[str, Decimal] = {}
    for part in parts:
        rate = wording.percent(Decimal(part["factor"])) if "factor" in part else ""
        name = " ".join(text for text in (concept(part.get("code")) or wording("tax"), rate) if text)
        found = amount_of(part.get("amount"))
        if found is not None:
            sums[name] = sums.get(name, Decimal(0)) + found[0]
    yield from sums.items()
