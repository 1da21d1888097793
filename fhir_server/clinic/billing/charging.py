"""Charges: what a template makes of a patient's visit, priced when it is made.

https://hl7.org/fhir/R4/chargeitem.html
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from fhir_server.clinic.acting import Act, carry_out, content, resource_of, visible
from fhir_server.outcome import Outcome
from fhir_server.settings import CANON
from fhir_server.store import Snapshot, Store, instant
from fhir_server.store.database import Connection
from fhir_server.store.ops import Commit, Create, Op, Put, Resource
from fhir_server.store.rules.billing.bills import PARTS, PRICE, TEMPLATE

from . import catalogue
from .applicability import Applicability
from .money import amount_of, money
from .pricing import Line, Price
from .revisits import days_since_paid_visit
from .templates import canonical, priced

_SPACE: Final = uuid.uuid5(uuid.NAMESPACE_URL, f"{CANON}/billing")
_MOST_PARTS: Final = 50


@dataclass(frozen=True, slots=True)
class Occasion:
    """What is charged for: whose it is, at which visit, how many; `source` is the reference of what it came from, with the event that it was.

    `variables` are what conditions may ask for.
    """

    patient: str
    encounter: Resource | None
    quantity: Decimal
    now: datetime
    currency: str
    enterer: str | None = None
    source: str | None = None
    event: str = ""
    variables: Mapping[str, Any] = field(default_factory=dict)


def apply(store: Store, act: Act, template: str, *, patient: str | None, encounter: str | None, quantity: Decimal, currency: str) -> Commit:
    """Makes a charge of a template, by id, and charges of its parts; the template's own comes first, and the patient's account is made when needed.

    `patient` is an id, without which the encounter's patient is charged; `currency` is that of amounts that name none. Raises Outcome `forbidden`,
    `not-found`, `gone`, `parameter` without a patient, and `business-rule` for a template that is not in force or does not apply.
    """
    act.require("ChargeItem", "c")

    def prepare(connection: Connection, db: Snapshot) -> Sequence[Op]:
        whole = content(visible(db, act, "ChargeItemDefinition", template))
        now = store.clock().astimezone(store.registry.zone)
        parts = catalogue.current(connection, store.registry, whole, now)
        visit = content(visible(db, act, "Encounter", encounter)) if encounter is not None else None
        of_visit = next((identity for name, identity in store.registry.references(visit, "patient") if name == "Patient"), None) if visit else None
        whose = patient or of_visit
        if whose is None:
            raise Outcome("parameter", "The parameter 'patient' is needed", code="required")
        if of_visit not in (None, whose):
            raise Outcome("business-rule", "The encounter is another patient's", expression="Encounter.subject")
        asked = {"patient": content(visible(db, act, "Patient", whose))}
        user = act.grant.user
        enterer = user if user is not None and user.startswith(("Practitioner", "Patient/", "Organization/", "RelatedPerson/")) else None
        occasion = Occasion(whose, visit, quantity, now, currency, enterer, variables=asked)
        made = charges(store, db, whole, parts, occasion)
        if not made:
            reasons = [each["description"] for each in whole.get("applicability", ()) if "description" in each]
            said = f"The template does not apply here{': ' + '; '.join(reasons) if reasons else ''}"
            raise Outcome("business-rule", said, expression="ChargeItemDefinition.applicability")
        return made

    return carry_out(store, act, prepare)


def charges(store: Store, db: Snapshot, template: Resource, parts: Sequence[Resource], occasion: Occasion) -> list[Op]:
    """The ops that charge for a template and its parts, and make the account where there is none; none where the template does not apply.

    Those of an event have ids of their own, and are left out where they are there already. Raises Outcome `business-rule` for a template of too many
    parts, `invalid` for conditions and quantities that cannot be computed.
    """
    if len(parts) > _MOST_PARTS:
        raise Outcome("business-rule", f"A template has {_MOST_PARTS} parts at the most", expression="ChargeItemDefinition.partOf")
    account, opening = _account(store, db, occasion)
    conditions = _conditions(store, db, [template, *parts], occasion)
    whole = _charge(template, occasion, account, conditions, None)
    if whole is None:
        return []
    link = f"urn:uuid:{uuid.uuid4()}"
    found = [_op(template, whole, occasion, link)]
    parent = f"ChargeItem/{found[0].id}" if isinstance(found[0], Put) else link
    for each in parts:
        part = _charge(each, occasion, account, conditions, parent)
        if part is not None:
            found.append(_op(each, part, occasion, None))
    puts = [("ChargeItem", str(each.id)) for each in found if isinstance(each, Put)]
    if puts and any(db.read(name, identity) is not None for name, identity in puts):
        return []
    return [*found, *opening]


def identity_of(event: str, template: Mapping[str, Any], source: str) -> str:
    """The id of the charge that an event makes by any version of a template: the same whenever the event is heard of."""
    return str(uuid.uuid5(_SPACE, f"{event} {template['url']} {source}"))


def price_of(charge: Mapping[str, Any]) -> Price | None:
    """The price that stands on a ChargeItem, with its lines; None where there is none, or only totals that another system has written."""
    lines = [_line(each) for each in charge.get("extension", ()) if each.get("url") == PARTS]
    if not lines:
        return None
    return Price(lines[0][1], tuple(line for line, _ in lines))


def price_extensions(price: Price) -> list[Resource]:
    """A price as it stands on a ChargeItem."""
    totals = {"net": price.net, "tax": price.tax, "gross": price.gross}
    summary = {"url": PRICE, "extension": [{"url": name, "valueMoney": money(value, price.currency)} for name, value in totals.items()]}
    return [summary, *(_part(line, price.currency) for line in price.lines)]


def _part(line: Line, currency: str) -> Resource:
    parts: list[Resource] = [{"url": "type", "valueCode": line.kind}]
    if line.code is not None:
        parts.append({"url": "code", "valueCodeableConcept": line.code})
    if line.factor is not None:
        parts.append({"url": "factor", "valueDecimal": line.factor})
    if line.inclusive:
        parts.append({"url": "inclusive", "valueBoolean": True})
    return {"url": PARTS, "extension": [*parts, {"url": "amount", "valueMoney": money(line.amount, currency)}]}


def _line(extension: Mapping[str, Any]) -> tuple[Line, str]:
    part = {each["url"]: next(value for name, value in each.items() if name.startswith("value")) for each in extension["extension"]}
    amount, currency = amount_of(part["amount"], None, "ChargeItem.extension")
    assert currency is not None
    factor = Decimal(part["factor"]) if "factor" in part else None
    return Line(part["type"], amount, factor, part.get("code"), bool(part.get("inclusive"))), currency


def _conditions(store: Store, db: Snapshot, templates: Sequence[Resource], occasion: Occasion) -> Applicability:
    """What conditions know, of which only what some template asks for is looked up."""
    text = "".join(_expressions(templates))
    asked: dict[str, Any] = {"encounter": occasion.encounter, **occasion.variables}
    if "%patient" in text and "patient" not in asked:
        asked["patient"] = resource_of(db.read("Patient", occasion.patient))
    if "%coverage" in text:
        covers = [content(version) for version in db.of_patient("Coverage", occasion.patient)]
        asked["coverage"] = [each for each in covers if each.get("status") == "active"]
    if "%daysSincePaidVisit" in text:
        asked["daysSincePaidVisit"] = days_since_paid_visit(db, store.registry, occasion.patient, occasion.encounter, occasion.now)
    return Applicability(_bare(occasion), asked, occasion.now)


def _expressions(templates: Sequence[Resource]) -> Iterator[str]:
    for template in templates:
        for holder in (template, *template.get("propertyGroup", ())):
            yield from (str(each.get("expression", "")) for each in holder.get("applicability", ()))


def _bare(occasion: Occasion) -> Resource:
    """The charge as conditions see it: without a price."""
    made: Resource = {
        "resourceType": "ChargeItem",
        "status": "billable",
        "subject": {"reference": f"Patient/{occasion.patient}"},
        "occurrenceDateTime": occasion.now.isoformat(timespec="seconds"),
        "quantity": {"value": occasion.quantity},
    }
    if occasion.encounter is not None:
        made["context"] = {"reference": f"Encounter/{occasion.encounter['id']}"}
        if (doctor := _doctor(occasion.encounter)) is not None:
            made["performer"] = [{"actor": {"reference": doctor}}]
    if occasion.enterer is not None:
        made["enterer"] = {"reference": occasion.enterer}
    if occasion.source is not None:
        made["supportingInformation"] = [{"reference": occasion.source}]
    return made


def _doctor(encounter: Resource) -> str | None:
    """Who saw the patient, by reference: whoever has called them last, else the first of those who take part."""
    named = [(each, str(each.get("individual", {}).get("reference", ""))) for each in encounter.get("participant", ())]
    doctors = [(each, text) for each, text in named if "Practitioner/" in text or "PractitionerRole/" in text]
    attending = [text for each, text in doctors if any(c.get("code") == "ATND" for kind in each.get("type", ()) for c in kind.get("coding", ()))]
    return attending[-1] if attending else next((text for _, text in doctors), None)


def _charge(template: Resource, occasion: Occasion, account: str, conditions: Applicability, parent: str | None) -> Resource | None:
    price = priced(template, occasion.quantity, occasion.currency, conditions)
    if price is None:
        return None
    made = {
        **_bare(occasion),
        "extension": [*price_extensions(price), {"url": TEMPLATE, "extension": [{"url": "template", "valueCanonical": canonical(template)}]}],
        "definitionCanonical": [canonical(template)],
        "code": template.get("code") or {"text": template.get("title") or template["url"]},
        "account": [{"reference": account}],
        "enteredDate": instant(occasion.now.astimezone(UTC)),
    }
    return made | ({"partOf": [{"reference": parent}]} if parent is not None else {})


def _op(template: Resource, charge: Resource, occasion: Occasion, link: str | None) -> Create | Put:
    if occasion.source is None:
        return Create(charge, link=link)
    identity = identity_of(occasion.event, template, occasion.source)
    return Put({**charge, "id": identity}, identity)


def _account(store: Store, db: Snapshot, occasion: Occasion) -> tuple[str, list[Op]]:
    """The account that charges go to: the visit's, else an active one of the patient's, else a new one."""
    if occasion.encounter is not None:
        for name, identity in store.registry.references(occasion.encounter, "account"):
            if name == "Account":
                return f"Account/{identity}", []
    there = [content(version) for version in db.of_patient("Account", occasion.patient)]
    active = next((each["id"] for each in there if each.get("status") == "active"), None)
    if active is not None:
        return f"Account/{active}", []
    # An id of its own, so that of two who open one the second finds the first's.
    identity = str(uuid.uuid5(_SPACE, f"account {occasion.patient} {len(there)}"))
    account = {
        "resourceType": "Account",
        "id": identity,
        "status": "active",
        "type": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "PBILLACCT"}]},
        "subject": [{"reference": f"Patient/{occasion.patient}"}],
    }
    return f"Account/{identity}", [Put(account, identity)]
