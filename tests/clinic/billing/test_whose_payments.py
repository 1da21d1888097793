"""Patients see their own payments at every door and nobody else's; what is booked stays so, and nobody pays by writing a resource."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from fhir_server import fhirjson
from fhir_server.operations import conformance
from fhir_server.search.definitions import definitions
from fhir_server.settings import CANON
from fhir_server.spec import r4
from tests.clinic.billing.world import Json, ask, balance, desk, issued, person
from tests.interactions.conftest import Fhir, issues

D = Decimal
WHOSE = f"{CANON}/StructureDefinition/payment-patient"
METHOD = f"{CANON}/StructureDefinition/payment-method"
TYPES = ("PaymentReconciliation", "PaymentNotice")


class Payer:
    """A patient with a paid invoice."""

    def __init__(self, fhir: Fhir) -> None:
        self.id = person(fhir, name=[{"family": "Payer"}])
        self.invoice: str = issued(fhir, self.id)["id"]
        self.payment: str = desk(fhir).post(f"Invoice/{self.invoice}/$pay", ask(method="card"), 200)["id"]
        (self.notice,) = fhir.ids(f"PaymentNotice?request=Invoice/{self.invoice}")
        self.caller = desk(fhir, role="patient", patient=self.id)

    def own(self, name: str) -> str:
        return self.payment if name == "PaymentReconciliation" else self.notice


@pytest.fixture(scope="module")
def payers(fhir: Fhir) -> tuple[Payer, Payer]:
    return Payer(fhir), Payer(fhir)


def shown(bundle: Json) -> set[str]:
    return {f"{each['resource']['resourceType']}/{each['resource']['id']}" for each in bundle.get("entry", ()) if "resource" in each}


@pytest.mark.parametrize("name", TYPES)
def test_a_patient_sees_own_payments_at_each_door_and_no_others(payers: tuple[Payer, Payer], name: str) -> None:
    me, other = payers
    mine, theirs = f"{name}/{me.own(name)}", f"{name}/{other.own(name)}"
    caller = me.caller
    for path in (mine, f"{mine}/_history/1"):
        assert caller.get(path)["id"] == me.own(name)
        caller.get(path.replace(mine, theirs), 404)
    caller.get(f"{theirs}/_history", 404)
    for path in (
        *(name, f"{name}?patient=Patient/{me.id}", f"{name}?patient.family=payer", f"{name}/_history", f"{mine}/_history"),
        *(f"Patient?_id={me.id}&_revinclude={name}:patient", f"Patient/{me.id}/$everything", "_history", f"?_type={name}"),
    ):
        found = {each for each in shown(caller.get(path)) if each.startswith(name)}
        assert found == {mine}, path
    assert caller.get(f"{name}?_summary=count")["total"] == 1
    assert caller.get(f"{name}?patient=Patient/{other.id}&_total=accurate")["total"] == 0
    assert caller.get(f"Patient?_has:{name}:patient:_id={other.own(name)}&_total=accurate")["total"] == 0
    read = [{"request": {"method": "GET", "url": each}} for each in (mine, theirs, f"{name}?_id={other.own(name)}")]
    answers = caller.bundle("batch", *read)["entry"]
    assert [each["response"]["status"][:3] for each in answers] == ["200", "404", "200"]
    assert shown(answers[2]["resource"]) == set()


def test_invoices_bring_their_notices_and_notices_their_invoices(payers: tuple[Payer, Payer]) -> None:
    me, _ = payers
    both = {f"Invoice/{me.invoice}", f"PaymentNotice/{me.notice}"}
    assert shown(me.caller.get("Invoice?_revinclude=PaymentNotice:request")) == both
    assert shown(me.caller.get("PaymentNotice?_include=PaymentNotice:request")) == both


def test_a_notice_tells_what_was_paid_of_which_invoice_and_by_which_payment(fhir: Fhir, payers: tuple[Payer, Payer]) -> None:
    me, _ = payers
    notice = fhirjson.loads(me.caller("GET", f"PaymentNotice/{me.notice}").data)
    assert notice["payment"] == {"reference": f"PaymentReconciliation/{me.payment}"}
    assert notice["request"] == {"reference": f"Invoice/{me.invoice}"}
    assert (str(notice["amount"]["value"]), notice["paymentStatus"]["coding"][0]["code"]) == ("120.00", "cleared")
    assert {each["url"] for each in notice["extension"]} == {METHOD, WHOSE}


@pytest.mark.parametrize("name", TYPES)
def test_who_has_looked_at_a_payment_is_in_its_patients_report(fhir: Fhir, payers: tuple[Payer, Payer], name: str) -> None:
    me, _ = payers
    desk(fhir, "curious").get(f"{name}/{me.own(name)}")
    fhir.app.extensions["store"].flush_notes()
    events = [each["resource"] for each in me.caller.get(f"Patient/{me.id}/$access-report")["entry"]]
    assert f"{name}/{me.own(name)}" in [
        what["what"]["reference"] for each in events if each["action"] == "R" for what in each["entity"] if "what" in what
    ]


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("caller", ["staff", "admin", "service"])
def test_what_is_booked_stays_as_it_is_for_everybody(fhir: Fhir, payers: tuple[Payer, Payer], name: str, caller: Any) -> None:
    who = fhir if caller == "service" else desk(fhir, role=caller)
    path = f"{name}/{payers[0].own(name)}"
    there = fhir.get(path)
    for method, body in (
        ("PUT", {**there, "status": "entered-in-error"}),
        ("PUT", {key: value for key, value in there.items() if key != "extension"}),
        ("PATCH", [{"op": "replace", "path": "/status", "value": "cancelled"}]),
        ("DELETE", None),
    ):
        answer = who(method, path, body)
        assert (answer.status_code, "stays as it is" in answer.text) == (422, True), answer.text
    entry = {"resource": {**there, "status": "draft"}, "request": {"method": "PUT", "url": path}}
    assert "stays as it is" in issues(who.bundle("transaction", entry, status=422))
    assert fhir.get(path) == there


def written(**fields: Any) -> Json:
    made = {"resourceType": "PaymentReconciliation", "status": "active", "created": "2026-11-30", "paymentDate": "2026-11-30"}
    return made | {"paymentAmount": {"value": 10, "currency": "EUR"}} | fields


def of(*references: str) -> list[Json]:
    return [{"type": {"text": "payment"}, "request": {"reference": each}, "amount": {"value": 10, "currency": "EUR"}} for each in references]


@pytest.mark.parametrize("role", ["staff", "admin"])
def test_nobody_pays_an_invoice_by_writing_a_payment(fhir: Fhir, role: Any) -> None:
    invoice, who = issued(fhir)["id"], desk(fhir, role=role)
    for reference in (f"Invoice/{invoice}", f"http://localhost/fhir/Invoice/{invoice}", f"Invoice/{invoice}/_history/1"):
        assert "$pay" in issues(who.post("PaymentReconciliation", written(detail=of(reference)), 422))
    assert "$pay" in issues(who.post("PaymentReconciliation", written(extension=[{"url": METHOD, "valueCode": "cash"}]), 422))
    draft = who.post("PaymentReconciliation", written(status="draft", detail=of(f"Invoice/{invoice}")))
    owner = desk(fhir, role="patient", patient=fhir.get(f"Invoice/{invoice}")["subject"]["reference"].partition("/")[2])
    owner.get(f"PaymentReconciliation/{draft['id']}", 404)
    who.put(f"PaymentReconciliation/{draft['id']}", {**draft, "status": "active"}, 422)
    who("PATCH", f"PaymentReconciliation/{draft['id']}", [{"op": "replace", "path": "/status", "value": "active"}])
    assert fhir.get(f"PaymentReconciliation/{draft['id']}")["status"] == "draft"
    advice = who.post("PaymentReconciliation", written())
    who.put(f"PaymentReconciliation/{advice['id']}", {**advice, "status": "cancelled"})
    assert balance(fhir, invoice)["due"] == "120.00"


def test_a_notice_by_hand_announces_and_books_nothing(fhir: Fhir) -> None:
    patient = person(fhir)
    invoice, who = issued(fhir, patient)["id"], desk(fhir)
    made = {
        "resourceType": "PaymentNotice",
        "status": "active",
        "created": "2026-11-30",
        "payment": {"display": "a transfer, announced"},
        "recipient": {"display": "The clinic"},
        "request": {"reference": f"Invoice/{invoice}"},
        "amount": {"value": 120, "currency": "EUR"},
    }
    notice = who.post("PaymentNotice", made)
    assert balance(fhir, invoice)["due"] == "120.00"
    assert desk(fhir, role="patient", patient=patient).get(f"PaymentNotice/{notice['id']}")["id"] == notice["id"]
    who.put(f"PaymentNotice/{notice['id']}", {**notice, "status": "cancelled"})
    assert who("DELETE", f"PaymentNotice/{notice['id']}").status_code == 204
    assert "$pay" in issues(who.post("PaymentNotice", {**made, "extension": [{"url": METHOD, "valueCode": "cash"}]}, 422))


def test_whose_a_payment_is_comes_from_its_bills_and_not_from_who_writes_it(fhir: Fhir) -> None:
    mine, theirs = person(fhir), person(fhir)
    one, two = issued(fhir, mine)["id"], issued(fhir, theirs)["id"]
    said = [{"url": WHOSE, "valueReference": {"reference": f"Patient/{theirs}"}}]

    def patients(made: Json) -> list[str]:
        return [each["valueReference"]["reference"] for each in made.get("extension", ()) if each["url"] == WHOSE]

    staff = desk(fhir)
    draft = written(status="draft", extension=said)
    assert patients(staff.post("PaymentReconciliation", draft)) == []
    assert patients(staff.post("PaymentReconciliation", draft | {"detail": of(f"Invoice/{one}")})) == [f"Patient/{mine}"]
    # What an insurer pays for several would tell each of the others.
    assert patients(staff.post("PaymentReconciliation", draft | {"detail": of(f"Invoice/{one}", f"Invoice/{two}")})) == []
    assert patients(staff.post("PaymentReconciliation", draft | {"detail": of(f"Invoice/{one}", "Invoice/nowhere")})) == []
    assert patients(fhir.post("PaymentReconciliation", written(detail=of(f"Invoice/{one}", f"Invoice/{one}")))) == [f"Patient/{mine}"]
    assert patients(fhir.post("PaymentReconciliation", written(extension=said))) == [f"Patient/{theirs}"]
    link = "urn:uuid:61ebe359-bfdc-4613-8bf2-c5e300945f0a"
    bill = {"resourceType": "Invoice", "status": "draft", "subject": {"reference": f"Patient/{mine}"}}
    answer = fhir.bundle(
        "transaction",
        {"fullUrl": link, "resource": bill, "request": {"method": "POST", "url": "Invoice"}},
        {"resource": written(detail=of(link)), "request": {"method": "POST", "url": "PaymentReconciliation"}},
    )
    place = answer["entry"][1]["response"]["location"].partition("/_history")[0]
    assert patients(fhir.get(place)) == [f"Patient/{mine}"]


def test_the_parameter_that_tells_whose_a_payment_is_is_nobodys_to_change(fhir: Fhir) -> None:
    made = {
        "resourceType": "SearchParameter",
        "url": "urn:mine",
        "name": "Mine",
        "status": "active",
        "description": "x",
        "code": "patient",
        "base": ["PaymentReconciliation"],
        "type": "reference",
        "expression": "PaymentReconciliation.requestor",
    }
    assert "cannot be defined anew" in issues(fhir.post("SearchParameter", made, 422))


def test_its_definition_says_what_the_server_goes_by() -> None:
    (known,) = [resource for resource, _ in conformance.definitions() if resource["id"] == "payment-patient" and "base" in resource]
    assert definitions(known, r4()) == {}
