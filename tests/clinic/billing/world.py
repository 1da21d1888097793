"""What the tests of billing share: people at the desk, templates, and the way to an invoice."""

from __future__ import annotations

import time
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from fhir_server import fhirjson
from fhir_server.access import issue
from fhir_server.access.roles import Role
from fhir_server.settings import CANON
from tests.interactions.conftest import SECRET, Fhir, unique

Json = dict[str, Any]
PRICE = f"{CANON}/StructureDefinition/charge-price"
BALANCE = f"{CANON}/StructureDefinition/invoice-balance"
SHARE = f"{CANON}/StructureDefinition/payer-share"
NUMBER = f"{CANON}/sid/invoice-number"


def desk(fhir: Fhir, name: str = "ann", role: Role = "staff", patient: str | None = None) -> Fhir:
    return Fhir(fhir.app, issue(SECRET, role=role, user=name, patient=patient, scope=None, ttl=600, now=time.time()))


def ask(**given: Any) -> Json:
    """A Parameters resource: texts as they are, numbers as decimals, references as `Type/id`."""
    return {"resourceType": "Parameters", "parameter": [part for name, value in given.items() for part in _parts(name.replace("_", "-"), value)]}


def _parts(name: str, value: Any) -> list[Json]:
    if isinstance(value, list):
        return [part for each in value for part in _parts(name, each)]
    kinds = {bool: "valueBoolean", int: "valuePositiveInt", Decimal: "valueDecimal", dict: "valueMoney"}
    if (kind := kinds.get(type(value))) is not None:
        return [{"name": name, kind: value}]
    return [{"name": name, "valueReference": {"reference": value}}] if "/" in value else [{"name": name, "valueString": value}]


def template(amount: str = "100", currency: str = "EUR", tax: str | None = "0.20", **fields: Any) -> Json:
    parts: list[Json] = [{"type": "base", "amount": {"value": Decimal(amount), "currency": currency}}]
    if tax is not None:
        parts.append({"type": "tax", "factor": Decimal(tax), "code": {"text": "VAT"}})
    made = {
        "resourceType": "ChargeItemDefinition",
        "url": f"urn:{unique('template')}",
        "version": "1",
        "status": "active",
        "code": {"text": "Visit"},
        "propertyGroup": [{"priceComponent": parts}],
    }
    return made | fields


def person(fhir: Fhir, **fields: Any) -> str:
    identity: str = fhir.post("Patient", {"resourceType": "Patient", **fields})["id"]
    return identity


def visit(fhir: Fhir, patient: str, **fields: Any) -> str:
    made = {"resourceType": "Encounter", "status": "in-progress", "class": {"code": "AMB"}, "subject": {"reference": f"Patient/{patient}"}}
    identity: str = fhir.post("Encounter", made | fields)["id"]
    return identity


def charged(fhir: Fhir, patient: str, made: Json | None = None, **given: Any) -> Json:
    """A charge of a new template."""
    definition = fhir.post("ChargeItemDefinition", made or template())["id"]
    found: Json = desk(fhir).post(f"ChargeItemDefinition/{definition}/$apply", ask(patient=f"Patient/{patient}", **given))
    return found


def drafted(fhir: Fhir, patient: str | None = None, *templates: Json) -> Json:
    """A draft of charges, each of a new template."""
    whose = patient or person(fhir)
    charges = [charged(fhir, whose, made) for made in templates or (template(),)]
    found: Json = desk(fhir).post("Invoice/$generate", ask(charge_item=[f"ChargeItem/{each['id']}" for each in charges]))
    return found


def issued(fhir: Fhir, patient: str | None = None, *templates: Json) -> Json:
    """An invoice of charges, each of a new template."""
    draft = drafted(fhir, patient, *templates)
    found: Json = desk(fhir).post(f"Invoice/{draft['id']}/$issue", None, 200)
    return found


def number(invoice: Json) -> str:
    (found,) = [each["value"] for each in invoice["identifier"] if each["system"] == NUMBER]
    return str(found)


def balance(fhir: Fhir, invoice: Json | str) -> dict[str, str]:
    """What an invoice shows, digits as they are."""
    answer = fhir("GET", f"Invoice/{invoice if isinstance(invoice, str) else invoice['id']}")
    return money(fhirjson.loads(answer.data), BALANCE)


def money(resource: Json, url: str) -> dict[str, str]:
    (found,) = [each for each in resource["extension"] if each["url"] == url]
    return {part["url"]: str(part["valueMoney"]["value"]) for part in found["extension"] if "valueMoney" in part}


def covered(fhir: Fhir, patient: str, percent: str = "20", more: Sequence[tuple[str, Decimal]] = (), **fields: Any) -> str:
    """A Coverage, by id, of which the patient pays so many per cent, and what else is said in EUR; a field that is None is left out."""
    costs: list[Json] = [_cost("copaypct", {"valueQuantity": {"value": Decimal(percent), "unit": "%"}})]
    costs += [_cost(code, {"valueMoney": {"value": value, "currency": "EUR"}}) for code, value in more]
    made: Json = {
        "resourceType": "Coverage",
        "status": "active",
        "beneficiary": {"reference": f"Patient/{patient}"},
        "payor": [{"display": "Hill Health"}],
        "costToBeneficiary": costs,
    }
    identity: str = fhir.post("Coverage", {name: value for name, value in (made | fields).items() if value is not None})["id"]
    return identity


def shares(fhir: Fhir, invoice: Json) -> dict[str, str]:
    """What an invoice shows of payer and patient, digits as they are."""
    return money(fhirjson.loads(fhir("GET", f"Invoice/{invoice['id']}").data), SHARE)


def _cost(code: str, value: Json) -> Json:
    return {"type": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/coverage-copay-type", "code": code}]}, **value}
