"""What is billed stays as it is, at every door, as all of them write through `transact`; and nothing is billed twice.

https://hl7.org/fhir/R4/invoice.html, https://hl7.org/fhir/R4/chargeitem.html, https://hl7.org/fhir/R4/chargeitemdefinition.html

A template is changed by another version of it; an invoice that is issued by a credit note. What the server has computed is not a caller's to write:
prices, lines of charges, numbers, balances. The clinic's operations write these by rules of their own; and who is no person but another system may
hand over what it has billed, which then stays so too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from fhir_server import fhirjson
from fhir_server.outcome import Outcome
from fhir_server.search import Grant, Registry
from fhir_server.search.params.reference import ABSOLUTE, locate
from fhir_server.settings import CANON
from fhir_server.store import outbox
from fhir_server.store.database import Connection
from fhir_server.store.ops import Create, Op, Resource
from fhir_server.store.walking import chunks
from fhir_server.store.writing.plan import Target

NUMBER: Final = f"{CANON}/sid/invoice-number"
PRICE: Final = f"{CANON}/StructureDefinition/charge-price"
PARTS: Final = f"{CANON}/StructureDefinition/price-component"
TEMPLATE: Final = f"{CANON}/StructureDefinition/billing-template"
BALANCE: Final = f"{CANON}/StructureDefinition/invoice-balance"
CREDITS: Final = f"{CANON}/StructureDefinition/credits-invoice"
SHARE: Final = f"{CANON}/StructureDefinition/payer-share"
INVOICE_TYPE: Final = f"{CANON}/CodeSystem/invoice-type"
TRIGGER: Final = f"{CANON}/StructureDefinition/billing-trigger"
CONSUMER: Final = "billing"
"""The name under which billing hears of changes that templates are triggered by."""
EVENTS: Final[dict[str, str]] = {
    "encounter-finished": "Encounter",
    "appointment-booked": "Appointment",
    "appointment-fulfilled": "Appointment",
    "no-show": "Appointment",
    "order-active": "ServiceRequest",
    "order-completed": "ServiceRequest",
}
"""What may trigger a template, and the type of what it happens to."""

_CONCERNED: Final = frozenset({"Invoice", "ChargeItem", "ChargeItemDefinition"})
_HOLDING: Final = frozenset({"draft", "issued", "balanced"})
_OURS: Final = {"Invoice": frozenset({BALANCE, CREDITS, SHARE}), "ChargeItem": frozenset({PRICE, PARTS, TEMPLATE})}
_PRICED: Final = ("quantity", "subject", "definitionCanonical", "definitionUri", "code", "priceOverride", "factorOverride")
_OF_MONEY: Final = ("identifier", "type", "date", "issuer", "lineItem", "totalPriceComponent", "totalNet", "totalGross")

_FREE: Final = "DELETE FROM billed WHERE rid = ANY(%s)"
_TAKE: Final = "INSERT INTO billed (charge, rid) SELECT * FROM unnest(%s::text[], %s::bigint[]) ON CONFLICT DO NOTHING RETURNING charge"
_SAME: Final = "SELECT 1 FROM billing_template WHERE url = %s AND version = %s AND rid <> %s"
_KEEP: Final = """
INSERT INTO billing_template (rid, id, url, version, active, events, whole) VALUES (%s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (rid) DO UPDATE SET url = excluded.url, version = excluded.version, active = excluded.active, events = excluded.events,
    whole = excluded.whole
"""
_LISTENED: Final = "SELECT DISTINCT unnest(events) FROM billing_template WHERE active"


def concerns(ops: Iterable[Op]) -> bool:
    """Whether some op creates what has rules or rows here."""
    return any(isinstance(op, Create) and op.resource["resourceType"] in _CONCERNED for op in ops)


def check(targets: Iterable[Target], grant: Grant, operation: str) -> None:
    """Raises Outcome `business-rule` for what may not be changed, or not by this caller in this way. No statements.

    `operation` names the one of the server's own that writes, and is empty for plain writes.
    """
    for target in targets:
        if target.type not in _CONCERNED:
            continue
        current = target.current
        alive = current is not None and not current.deleted and current.body is not None
        old: Resource | None = fhirjson.loads(str(current.body).encode()) if alive and current is not None else None
        new = target.resource
        if old is not None and new is not None and _content(old) == _content(new):
            continue
        if target.type == "ChargeItemDefinition":
            _check_template(old, new)
        elif target.type == "Invoice":
            _check_invoice(old, new, grant, operation)
        elif not operation:
            _check_charge(old, new, grant)


def follow(connection: Connection, registry: Registry, targets: Sequence[Target]) -> None:
    """Brings the rows to what invoices and templates say that a transaction has written; no statements without such.

    Raises Outcome `conflict` for a ChargeItem that is on another invoice already, and for a version of a template that is there already.
    """
    invoices = {t.rid: t.resource for t in targets if t.type == "Invoice" and _lines_change(t, registry)}
    if invoices:
        _hold(connection, registry, invoices, refuse=True)
    templates = [target for target in targets if target.type == "ChargeItemDefinition"]
    for target in templates:
        _keep(connection, target.rid, target.resource, refuse=True)
    if templates:
        _listen(connection)


def renew(connection: Connection, registry: Registry) -> None:
    """Makes all rows anew. In a transaction. Of what is there twice the first counts."""
    connection.execute("DELETE FROM billed")
    connection.execute("DELETE FROM billing_template")
    for name in ("Invoice", "ChargeItemDefinition"):
        for chunk in chunks(connection, name):
            if name == "Invoice":
                _hold(connection, registry, chunk, refuse=False)
                continue
            for rid, resource in chunk.items():
                _keep(connection, rid, resource, refuse=False)
    _listen(connection)


def _check_template(old: Resource | None, new: Resource | None) -> None:
    if old is None or old.get("status") not in {"active", "retired"}:
        return
    if new is None or _content(old, "status", "date") != _content(new, "status", "date"):
        said = f"A template that is {old['status']} stays as it is, for what was charged by it; make another version, with the same url"
        raise Outcome("business-rule", said, expression="ChargeItemDefinition")


def _check_invoice(old: Resource | None, new: Resource | None, grant: Grant, operation: str) -> None:
    if old is not None and old.get("status") != "draft":
        if not operation or new is None or any(old.get(name) != new.get(name) for name in _OF_MONEY):
            raise Outcome("business-rule", f"An invoice that is {old.get('status')} stays as it is; it is corrected by $credit", expression="Invoice")
        return
    if operation or (old is None and not grant.roles):
        return
    before, lines = old or {}, (new or {}).get("lineItem", [])
    if any("chargeItemReference" in line for line in (*before.get("lineItem", ()), *lines)):
        if old is None or new is None or new.get("status") != "draft":
            said = "Charges come onto an invoice by $generate, and off a draft by $cancel"
            raise Outcome("business-rule", said, expression="Invoice.lineItem")
        if changed := [name for name in ("subject", *_OF_MONEY) if name != "identifier" and old.get(name) != new.get(name)]:
            said = "What was made of charges is not written by hand: take the draft back by $cancel, and generate it anew"
            raise Outcome("business-rule", said, expression=f"Invoice.{changed[0]}")
    if new is None:
        return
    if new.get("status") not in {"draft", "cancelled", "entered-in-error"}:
        raise Outcome("business-rule", "An invoice is issued by $issue, which gives it its number", expression="Invoice.status")
    if _numbers(before) != _numbers(new):
        raise Outcome("business-rule", "The number of an invoice comes from $issue", expression="Invoice.identifier")
    _check_ours("Invoice", before, new)


def _check_charge(old: Resource | None, new: Resource | None, grant: Grant) -> None:
    if old is not None and old.get("status") == "billed" and _has_price(old):
        said = "A charge that is billed stays as it is; take its draft back by $cancel, or credit its invoice"
        raise Outcome("business-rule", said, expression="ChargeItem")
    if new is None or (old is None and not grant.roles):
        return
    before = old or {}
    if grant.roles and new.get("status") == "billed" != before.get("status"):
        raise Outcome("business-rule", "Charges are billed by $generate", expression="ChargeItem.status")
    if _has_price(before):
        if changed := [name for name in _PRICED if before.get(name) != new.get(name)]:
            said = "The charge has its price; end it, and make another one"
            raise Outcome("business-rule", said, expression=f"ChargeItem.{changed[0]}")
        _check_ours("ChargeItem", before, new)
    elif grant.roles:
        _check_ours("ChargeItem", before, new)


def _check_ours(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    before, after = ([each for each in one.get("extension", ()) if each.get("url") in _OURS[name]] for one in (old, new))
    if before != after:
        raise Outcome("business-rule", f"Prices and balances are computed by the server, not written into a {name}", expression=f"{name}.extension")


def _content(resource: Resource, *without: str) -> Resource:
    return {name: value for name, value in resource.items() if name not in {"id", "meta", "text", *without}}


def _has_price(charge: Mapping[str, Any]) -> bool:
    return any(each.get("url") == PRICE for each in charge.get("extension", ()))


def _numbers(invoice: Mapping[str, Any]) -> list[Any]:
    return [each for each in invoice.get("identifier", ()) if each.get("system") == NUMBER]


def _lines_change(target: Target, registry: Registry) -> bool:
    current = target.current
    old = fhirjson.loads(current.body.encode()) if current is not None and not current.deleted and current.body is not None else None
    return set(_held(old, registry)) != set(_held(target.resource, registry))


def _held(invoice: Resource | None, registry: Registry) -> Iterator[str]:
    """The ids of the ChargeItems that an invoice bills. A credit note bills nothing."""
    if invoice is None or invoice.get("status") not in _HOLDING or any(each.get("url") == CREDITS for each in invoice.get("extension", ())):
        return
    for line in invoice.get("lineItem", ()):
        text = line.get("chargeItemReference", {}).get("reference", "")
        found = locate(text, registry.context) if text and not text.startswith("#") else None
        if found is not None and found[1] != ABSOLUTE and registry.type_name(found[1]) == "ChargeItem":
            yield found[0]


def _hold(connection: Connection, registry: Registry, invoices: Mapping[int, Resource | None], *, refuse: bool) -> None:
    connection.execute(_FREE, (list(invoices),))
    wanted = [(charge, rid) for rid, invoice in invoices.items() for charge in _held(invoice, registry)]
    if not wanted:
        return
    # In one order for everybody, so that two who bill the same wait in a line.
    wanted.sort()
    taken = connection.execute(_TAKE, ([charge for charge, _ in wanted], [rid for _, rid in wanted])).fetchall()
    if refuse and len(taken) < len(wanted):
        there = {charge for (charge,) in taken}
        other = next((charge for charge, _ in wanted if charge not in there), wanted[0][0])
        raise Outcome("conflict", f"ChargeItem/{other} is on an invoice already", expression="Invoice.lineItem")


def _keep(connection: Connection, rid: int, template: Resource | None, *, refuse: bool) -> None:
    if template is None or template.get("status") not in {"active", "retired"} or "url" not in template:
        connection.execute("DELETE FROM billing_template WHERE rid = %s", (rid,))
        return
    url, version = template["url"], template.get("version", "")
    if connection.execute(_SAME, (url, version, rid)).fetchone() is not None:
        if refuse:
            said = f"There is a template {url} of version '{version}' already; give this one another version"
            raise Outcome("conflict", said, expression="ChargeItemDefinition.version")
        return
    is_active = template["status"] == "active"
    connection.execute(_KEEP, (rid, template["id"], url, version, is_active, sorted(events_of(template)), template.get("partOf", [])))


def events_of(template: Mapping[str, Any]) -> set[str]:
    """What triggers a template."""
    concepts = (each.get("valueCodeableConcept", {}) for each in template.get("extension", ()) if each.get("url") == TRIGGER)
    return {str(coding.get("code")) for concept in concepts for coding in concept.get("coding", ())} & EVENTS.keys()


def _listen(connection: Connection) -> None:
    outbox.listen(connection, CONSUMER, {EVENTS[event] for (event,) in connection.execute(_LISTENED)})
