"""From a template to an issued invoice and its credit notes, by the operations."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from fhir_server import fhirjson
from fhir_server.interactions import Engine
from fhir_server.operations.conformance import FOLDER, install
from fhir_server.operations.load import load_paths
from fhir_server.settings import CANON, Settings
from fhir_server.spec import r4
from fhir_server.validation import Validator
from tests.clinic.billing.world import (
    PRICE,
    Json,
    ask,
    balance,
    charged,
    covered,
    desk,
    drafted,
    issued,
    money,
    number,
    person,
    template,
    visit,
)
from tests.interactions.conftest import Fhir, MakeFhir, entry, issues, unique

D = Decimal


@pytest.fixture(scope="module")
def fhir(make_fhir: MakeFhir, fresh_database: Callable[[], str]) -> Iterator[Fhir]:
    """A server whose definitions are there, so that their search parameters are."""
    made = make_fhir(fresh_database())
    store = made.app.extensions["store"]
    install(store)
    store.index_now(patience=0)
    yield made
    made.close()


def refused(caller: Fhir, path: str, body: Json | None = None, status: int = 422) -> str:
    return issues(caller.post(path, body, status))


def valid(resource: Json) -> None:
    Validator(r4()).require(fhirjson.loads(json.dumps(resource).encode()))


def test_apply_prices_a_charge_and_opens_an_account(fhir: Fhir) -> None:
    patient = person(fhir)
    made = template()
    charge = charged(fhir, patient, made, quantity=D("2"))
    assert charge["status"] == "billable"
    assert charge["subject"] == {"reference": f"Patient/{patient}"}
    assert charge["definitionCanonical"] == [f"{made['url']}|1"]
    assert money(charge, PRICE) == {"net": "200.0", "tax": "40.0", "gross": "240.0"}
    valid(charge)
    assert fhir.ids(f"ChargeItem?billing-template={made['url']}|1") == [charge["id"]]
    again = charged(fhir, patient)
    assert again["account"] == charge["account"]
    account = fhir.get(charge["account"][0]["reference"])
    assert (account["status"], account["subject"]) == ("active", [{"reference": f"Patient/{patient}"}])
    valid(account)


def test_amounts_keep_the_digits_of_their_currency(fhir: Fhir) -> None:
    for currency, amount, gross in (("EUR", "10.5", "12.60"), ("JPY", "10", "12"), ("KWD", "1", "1.200")):
        definition = fhir.post("ChargeItemDefinition", template(amount, currency))["id"]
        answer = fhir("POST", f"ChargeItemDefinition/{definition}/$apply", ask(patient=f"Patient/{person(fhir)}"))
        assert money(fhirjson.loads(answer.data), PRICE)["gross"] == gross


def test_who_may_charge_and_what_they_must_see(fhir: Fhir) -> None:
    patient = person(fhir)
    definition = fhir.post("ChargeItemDefinition", template())["id"]
    body = ask(patient=f"Patient/{patient}")
    path = f"ChargeItemDefinition/{definition}/$apply"
    assert desk(fhir, role="doctor")("POST", path, body).status_code == 201
    assert desk(fhir, role="patient", patient=patient)("POST", path, body).status_code == 403
    refused(desk(fhir), path, None, 400)
    refused(desk(fhir), path, ask(patient="Patient/nobody"), 404)
    refused(desk(fhir), "ChargeItemDefinition/nothing/$apply", body, 404)
    for quantity in ("-1", "0", "1e150"):
        refused(desk(fhir), path, ask(patient=f"Patient/{patient}", quantity=D(quantity)))
    refused(desk(fhir), "Invoice/$generate", ask(charge_item=["ChargeItem/nothing", "ChargeItem/none"]), 404)
    assert "another patient" in refused(desk(fhir), path, ask(patient=f"Patient/{patient}", encounter=f"Encounter/{visit(fhir, person(fhir))}"))


def test_only_the_newest_version_that_is_in_force_is_applied(fhir: Fhir) -> None:
    first = template()
    old = fhir.post("ChargeItemDefinition", first)["id"]
    body = ask(patient=f"Patient/{person(fhir)}")
    later = fhir.post("ChargeItemDefinition", {**first, "version": "3", "effectivePeriod": {"start": "2999-01-01"}})["id"]
    desk(fhir).post(f"ChargeItemDefinition/{old}/$apply", body)
    assert "not in effect" in refused(desk(fhir), f"ChargeItemDefinition/{later}/$apply", body)
    new = fhir.post("ChargeItemDefinition", {**first, "version": "2"})["id"]
    assert f"ChargeItemDefinition/{new}" in refused(desk(fhir), f"ChargeItemDefinition/{old}/$apply", body)
    draft = fhir.post("ChargeItemDefinition", template(status="draft"))["id"]
    assert "draft" in refused(desk(fhir), f"ChargeItemDefinition/{draft}/$apply", body)


def test_a_template_whose_conditions_cannot_be_read_does_not_get_in_force(fhir: Fhir) -> None:
    faulty = template()
    faulty["propertyGroup"].append({"applicability": [{"expression": "true"}, {"expression": "%patient.("}]})
    answer = fhir.post("ChargeItemDefinition", faulty, 422)
    assert answer["issue"][0]["expression"] == ["ChargeItemDefinition.propertyGroup[1].applicability[1].expression"]
    draft = fhir.post("ChargeItemDefinition", {**faulty, "status": "draft"})
    change = [{"op": "replace", "path": "/status", "value": "active"}]
    assert fhir("PATCH", f"ChargeItemDefinition/{draft['id']}", change).status_code == 422


def test_conditions_are_about_the_patient_and_the_visit(fhir: Fhir) -> None:
    made = template(tax=None)
    child = {"priceComponent": [{"type": "discount", "factor": D("0.5")}], "applicability": [{"expression": "%patient.birthDate > @2015-01-01"}]}
    made["propertyGroup"].append(child)
    covered = {"priceComponent": [{"type": "deduction", "amount": {"value": 10, "currency": "EUR"}}]}
    made["propertyGroup"].append({**covered, "applicability": [{"expression": "%coverage.exists() and %encounter.class.code = 'AMB'"}]})
    patient = person(fhir, birthDate="2020-02-02")
    payor = [{"display": "Insurer"}]
    fhir.post("Coverage", {"resourceType": "Coverage", "status": "active", "beneficiary": {"reference": f"Patient/{patient}"}, "payor": payor})
    charge = charged(fhir, patient, made, encounter=f"Encounter/{visit(fhir, patient)}")
    assert money(charge, PRICE)["gross"] == "40.0"
    only = template(applicability=[{"description": "For children", "expression": "%patient.birthDate > @2015-01-01"}])
    definition = fhir.post("ChargeItemDefinition", only)["id"]
    assert "For children" in refused(desk(fhir), f"ChargeItemDefinition/{definition}/$apply", ask(patient=f"Patient/{person(fhir)}"))


def test_a_bundle_charges_for_its_parts(fhir: Fhir) -> None:
    whole = template("10")
    for part, fields in ((template("5"), {}), (template("7"), {"applicability": [{"expression": "false"}]}), (template("3"), {"status": "draft"})):
        fhir.post("ChargeItemDefinition", {**part, "partOf": [whole["url"]], **fields})
    charge = charged(fhir, person(fhir), whole)
    parts = [each["resource"] for each in fhir.get(f"ChargeItem?account={charge['account'][0]['reference']}")["entry"]]
    (part,) = [each for each in parts if each["id"] != charge["id"]]
    assert part["partOf"] == [{"reference": f"ChargeItem/{charge['id']}"}]
    assert money(part, PRICE)["net"] == "5.0"


def test_a_bundle_has_fifty_parts_and_an_invoice_a_thousand_lines_at_the_most(fhir: Fhir) -> None:
    whole, patient = template(), person(fhir)
    definition = fhir.post("ChargeItemDefinition", whole)["id"]
    parts = [template(partOf=[whole["url"]]) for _ in range(51)]
    entries = [entry("POST", "ChargeItemDefinition", each) for each in parts]
    fhir.bundle("transaction", *entries[:50])
    desk(fhir).post(f"ChargeItemDefinition/{definition}/$apply", ask(patient=f"Patient/{patient}"))
    fhir.bundle("transaction", *entries[50:])
    assert "50 parts" in issues(desk(fhir).post(f"ChargeItemDefinition/{definition}/$apply", ask(patient=f"Patient/{patient}"), 422))
    assert fhir.get(f"ChargeItem?subject=Patient/{patient}&_summary=count")["total"] == 51
    for count, status in ((1_000, 404), (1_001, 400)):
        desk(fhir).post("Invoice/$generate", ask(charge_item=[f"ChargeItem/x{n}" for n in range(count)]), status)


def test_the_same_key_charges_once(fhir: Fhir) -> None:
    definition = fhir.post("ChargeItemDefinition", template())["id"]
    body, key = ask(patient=f"Patient/{person(fhir)}"), {"Idempotency-Key": unique()}
    one, two = (desk(fhir).post(f"ChargeItemDefinition/{definition}/$apply", body, headers=key) for _ in range(2))
    assert one == two


def test_a_draft_takes_what_is_billable_of_a_visit(fhir: Fhir) -> None:
    patient = person(fhir)
    one, other = visit(fhir, patient), visit(fhir, patient)
    mine, _ = (charged(fhir, patient, encounter=f"Encounter/{each}") for each in (one, other))
    draft = desk(fhir).post("Invoice/$generate", ask(encounter=f"Encounter/{one}"))
    assert [line["chargeItemReference"]["reference"] for line in draft["lineItem"]] == [f"ChargeItem/{mine['id']}"]
    assert "nothing to bill" in refused(desk(fhir), "Invoice/$generate", ask(encounter=f"Encounter/{one}"))


def test_a_draft_takes_all_that_is_billable_of_an_account(fhir: Fhir) -> None:
    patient = person(fhir, managingOrganization={"reference": "Organization/none"})
    one, two = charged(fhir, patient, template("100", tax="0.2")), charged(fhir, patient, template("50", tax="0.1"))
    account = one["account"][0]["reference"]
    draft = desk(fhir).post("Invoice/$generate", ask(account=account))
    assert draft["status"] == "draft"
    assert "identifier" not in draft
    assert "date" not in draft
    assert (draft["totalNet"], draft["totalGross"]) == ({"value": 150.0, "currency": "EUR"}, {"value": 175.0, "currency": "EUR"})
    assert [(each["factor"], each["amount"]["value"]) for each in draft["totalPriceComponent"]] == [(0.2, 20.0), (0.1, 5.0)]
    assert [line["chargeItemReference"]["reference"] for line in draft["lineItem"]] == [f"ChargeItem/{each['id']}" for each in (one, two)]
    assert {fhir.get(f"ChargeItem/{each['id']}")["status"] for each in (one, two)} == {"billed"}
    assert len(draft["extension"]) == 2
    valid(draft)
    assert "nothing to bill" in refused(desk(fhir), "Invoice/$generate", ask(account=account))
    desk(fhir).post(f"Invoice/{draft['id']}/$cancel", None, 200)
    assert len(desk(fhir).post("Invoice/$generate", ask(account=account))["lineItem"]) == 2


def test_what_cannot_be_one_invoice_is_refused(fhir: Fhir) -> None:
    patient = person(fhir)
    euro, dollar = charged(fhir, patient), charged(fhir, patient, template(currency="USD"))
    path = "Invoice/$generate"
    assert "several currencies" in refused(desk(fhir), path, ask(charge_item=[f"ChargeItem/{each['id']}" for each in (euro, dollar)]))
    other = charged(fhir, person(fhir))
    assert "several patients" in refused(desk(fhir), path, ask(charge_item=[f"ChargeItem/{each['id']}" for each in (euro, other)]))
    subject, code = {"reference": f"Patient/{patient}"}, {"text": "x"}
    bare = fhir.post("ChargeItem", {"resourceType": "ChargeItem", "status": "billable", "code": code, "subject": subject})
    assert "no price" in refused(desk(fhir), path, ask(charge_item=f"ChargeItem/{bare['id']}"))
    refused(desk(fhir), path, None, 400)
    refused(desk(fhir), path, ask(charge_item=f"ChargeItem/{euro['id']}", account="Account/x"), 400)
    assert desk(fhir, role="patient", patient=patient)("POST", path, ask(charge_item=f"ChargeItem/{euro['id']}")).status_code == 403
    override = {"priceOverride": {"value": 12, "currency": "EUR"}, "overrideReason": "agreed"}
    agreed = fhir.post("ChargeItem", {"resourceType": "ChargeItem", "status": "billable", "code": code, "subject": subject, **override})
    assert desk(fhir).post(path, ask(charge_item=f"ChargeItem/{agreed['id']}"))["totalGross"]["value"] == 12.0


def test_an_issued_invoice_has_a_number_a_date_and_a_balance(fhir: Fhir) -> None:
    organization = fhir.post("Organization", {"resourceType": "Organization", "name": "House"})["id"]
    wing = fhir.post("Organization", {"resourceType": "Organization", "name": "Wing", "partOf": {"reference": f"Organization/{organization}"}})["id"]
    patient = person(fhir, managingOrganization={"reference": f"Organization/{wing}"})
    first, second = issued(fhir, patient), issued(fhir, patient)
    year = fhir.app.extensions["store"].clock().astimezone(fhir.app.extensions["store"].registry.zone).year
    series = number(first).split("-")[0]
    assert [number(first), number(second)] == [f"{series}-{year}-000001", f"{series}-{year}-000002"]
    assert first["issuer"] == {"reference": f"Organization/{organization}"}
    assert first["date"] <= second["date"]
    assert first["status"] == "issued"
    assert balance(fhir, first) == {"paid": "0.00", "credited": "0.00", "due": "120.00"}
    assert set(fhir.ids(f"Invoice?subject=Patient/{patient}&due=gt100")) == {first["id"], second["id"]}
    valid(first)
    assert "only drafts" in refused(desk(fhir), f"Invoice/{first['id']}/$issue")


def test_an_organization_may_name_its_series(fhir: Fhir) -> None:
    named = [{"system": f"{CANON}/sid/invoice-series", "value": "HILL"}]
    organization = fhir.post("Organization", {"resourceType": "Organization", "name": "Hill", "identifier": named})["id"]
    invoice = issued(fhir, person(fhir, managingOrganization={"reference": f"Organization/{organization}"}))
    assert number(invoice).startswith("HILL-")
    note = desk(fhir).post(f"Invoice/{invoice['id']}/$credit", ask(reason="wrong"))
    assert number(note).startswith("HILLCN-")
    other = fhir.post("Organization", {"resourceType": "Organization", "name": "Hell", "identifier": named})["id"]
    draft = drafted(fhir, person(fhir, managingOrganization={"reference": f"Organization/{other}"}))
    assert "nobody else's" in refused(desk(fhir), f"Invoice/{draft['id']}/$issue")


def test_lines_keep_the_version_that_they_were_made_by(fhir: Fhir) -> None:
    made = template("100")
    invoice = issued(fhir, None, made)
    (old,) = fhir.ids(f"ChargeItemDefinition?url={made['url']}")
    dearer = {**made, "version": "2", "propertyGroup": template("900")["propertyGroup"]}
    fhir.post("ChargeItemDefinition", dearer)
    fhir("PATCH", f"ChargeItemDefinition/{old}", [{"op": "replace", "path": "/status", "value": "retired"}])
    shown = fhir.get(f"Invoice/{invoice['id']}")
    assert shown["totalNet"]["value"] == 100.0
    assert fhir.ids(f"Invoice?billing-template={made['url']}|1") == [invoice["id"]]


def by_load(fhir: Fhir, folder: Path, bundle: Json) -> int:
    """Loads a file; 422 where that is refused."""
    (folder / "again.json").write_bytes(fhirjson.dumps(bundle))
    engine = Engine.build(fhir.app.extensions["store"], Settings(data=folder, jwt_secret="x" * 32))
    return 422 if load_paths(engine, [folder / "again.json"], lambda _path, _loaded: None).refused else 200


@pytest.mark.parametrize("door", ["put", "patch", "fhirpath", "delete", "conditional delete", "transaction", "batch", "load"])
def test_an_issued_invoice_stays_as_it_is_at_every_door(fhir: Fhir, door: str, tmp_path: Path) -> None:
    patient = person(fhir)
    path = f"Invoice/{issued(fhir, patient)['id']}"
    before = fhir("GET", path).data
    changed = {**fhirjson.loads(before), "note": [{"text": "free of charge"}]}
    removed = {"name": "operation", "part": [{"name": "type", "valueCode": "delete"}, {"name": "path", "valueString": "Invoice.lineItem[0]"}]}

    def bundle(kind: str) -> Json:
        return {"resourceType": "Bundle", "type": kind, "entry": [entry("PUT", path, changed)]}

    doors: dict[str, Callable[[], int]] = {
        "put": lambda: fhir("PUT", path, changed).status_code,
        "patch": lambda: fhir("PATCH", path, [{"op": "remove", "path": "/lineItem"}]).status_code,
        "fhirpath": lambda: fhir("PATCH", path, {"resourceType": "Parameters", "parameter": [removed]}).status_code,
        "delete": lambda: fhir("DELETE", path).status_code,
        "conditional delete": lambda: fhir("DELETE", f"Invoice?subject=Patient/{patient}").status_code,
        "transaction": lambda: fhir("POST", "", bundle("transaction")).status_code,
        "batch": lambda: int(json.loads(fhir("POST", "", bundle("batch")).data)["entry"][0]["response"]["status"][:3]),
        "load": lambda: by_load(fhir, tmp_path, bundle("transaction")),
    }
    assert doors[door]() == 422
    assert fhir("GET", path).data == before


def test_a_patient_sees_what_was_issued_and_no_draft(fhir: Fhir) -> None:
    patient = person(fhir)
    draft, invoice = drafted(fhir, patient), issued(fhir, patient)
    own = desk(fhir, role="patient", patient=patient)
    assert own("GET", f"Invoice/{draft['id']}").status_code == 404
    assert own.ids("Invoice") == [invoice["id"]]
    desk(fhir).post(f"Invoice/{draft['id']}/$cancel", None, 200)
    assert own("GET", f"Invoice/{draft['id']}").status_code == 404
    credited = issued(fhir, patient)
    note = desk(fhir).post(f"Invoice/{credited['id']}/$credit", ask(reason="x"))
    assert set(own.ids("Invoice")) == {invoice["id"], credited["id"], note["id"]}
    assert own("POST", f"Invoice/{invoice['id']}/$credit", ask(reason="too dear")).status_code == 403
    assert desk(fhir, role="patient", patient=person(fhir))("GET", f"Invoice/{invoice['id']}").status_code == 404


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"totalGross": {"value": 9, "currency": "EUR"}}, "sum to 10.00"),
        ({"lineItem": []}, "no lines"),
        ({"lineItem": [{"priceComponent": [{"type": "base", "amount": {"value": D("1.001"), "currency": "EUR"}}]}]}, "digits of EUR"),
    ],
)
def test_a_draft_written_by_hand_has_to_sum(fhir: Fhir, change: Json, said: str) -> None:
    line: Json = {
        "chargeItemCodeableConcept": {"text": "Certificate"},
        "priceComponent": [{"type": "base", "amount": {"value": 10, "currency": "EUR"}}],
    }
    draft: Json = {"resourceType": "Invoice", "status": "draft", "subject": {"reference": f"Patient/{person(fhir)}"}, "lineItem": [line]}
    fine = desk(fhir).post("Invoice", draft)["id"]
    assert desk(fhir).post(f"Invoice/{fine}/$issue", None, 200)["totalGross"] == {"value": 10.0, "currency": "EUR"}
    for item in change.get("lineItem", ()):
        item["chargeItemCodeableConcept"] = {"text": "x"}
    wrong = {name: value for name, value in (draft | change).items() if value != []}
    bad = desk(fhir).post("Invoice", wrong)["id"]
    assert said in refused(desk(fhir), f"Invoice/{bad}/$issue")


def test_claims_are_found_by_their_invoice(fhir: Fhir) -> None:
    fhir.put("Organization/claiming", {"resourceType": "Organization", "id": "claiming", "name": "x"}, 201)
    patient = person(fhir, managingOrganization={"reference": "Organization/claiming"})
    covered(fhir, patient)
    invoice = issued(fhir, patient)
    claim = desk(fhir).post(f"Invoice/{invoice['id']}/$claim", None)
    assert fhir.ids(f"Claim?invoice=Invoice/{invoice['id']}") == [claim["id"]]
    assert fhir.ids("Invoice?_has:Claim:invoice:status=active") == [invoice["id"]]


def test_an_amount_is_credited_from_each_line_with_its_taxes(fhir: Fhir) -> None:
    invoice = issued(fhir, None, template("100", tax="0.2"), template("50", tax=None))
    path = f"Invoice/{invoice['id']}/$credit"
    note = desk(fhir).post(path, ask(amount=D("17"), reason="late"))
    assert (note["status"], note["type"]["coding"][0]["code"]) == ("issued", "credit-note")
    assert note["totalGross"] == {"value": -17.0, "currency": "EUR"}
    assert [line["extension"][0]["extension"][2]["valueMoney"]["value"] for line in note["lineItem"]] == [-12.0, -5.0]
    assert note["totalPriceComponent"][0]["amount"]["value"] == -2.0
    (link,) = [each for each in note["extension"] if each["url"].endswith("credits-invoice")]
    assert link["valueReference"] == {"reference": f"Invoice/{invoice['id']}", "display": number(invoice)}
    assert balance(fhir, invoice) == {"paid": "0.00", "credited": "17.00", "due": "153.00"}
    assert "153.00 EUR are left" in refused(desk(fhir), path, ask(amount=D("153.01"), reason="late"))
    valid(note)
    assert "credit note" in refused(desk(fhir), f"Invoice/{note['id']}/$credit", ask(reason="x"))
    refused(desk(fhir), path, ask(amount=D("1")), 400)
    refused(desk(fhir), path, ask(amount={"value": 1, "currency": "USD"}, reason="x"))
    for huge in ("1e150", "1e-150", "-1"):
        refused(desk(fhir), path, ask(amount=D(huge), reason="x"))
        refused(desk(fhir), f"Invoice/{invoice['id']}/$write-off", ask(amount=D(huge), reason="x"))


def test_an_invoice_of_another_system_begins_with_its_total(fhir: Fhir) -> None:
    total = {"value": 50, "currency": "EUR"}
    base = {"type": "base", "amount": total}
    line: Json = {"chargeItemCodeableConcept": {"text": "x"}, "priceComponent": [base]}
    made: Json = {"resourceType": "Invoice", "status": "issued", "totalGross": total, "lineItem": [line]}
    invoice = fhir.post("Invoice", made)["id"]
    desk(fhir).post(f"Invoice/{invoice}/$credit", ask(amount=D("20"), reason="x"))
    assert balance(fhir, invoice) == {"paid": "0.00", "credited": "20.00", "due": "30.00"}
    bare = fhir.post("Invoice", {**made, "lineItem": [{"chargeItemCodeableConcept": {"text": "x"}}]})["id"]
    assert "do not come to its total" in refused(desk(fhir), f"Invoice/{bare}/$credit", ask(reason="x"))
    none = fhir.post("Invoice", {"resourceType": "Invoice", "status": "issued", "lineItem": [line]})["id"]
    refused(desk(fhir), f"Invoice/{none}/$credit", ask(reason="x"))


def test_a_line_is_credited_wholly_and_only_once(fhir: Fhir) -> None:
    invoice = issued(fhir, None, template("100"), template("50"))
    path = f"Invoice/{invoice['id']}/$credit"
    note = desk(fhir).post(path, ask(line=2, reason="not done"))
    assert note["totalGross"]["value"] == -60.0
    refused(desk(fhir), path, ask(line=2, reason="again"))
    refused(desk(fhir), path, ask(line=3, reason="none"), 400)


def test_an_unpaid_invoice_that_is_credited_in_full_is_cancelled(fhir: Fhir) -> None:
    patient = person(fhir)
    invoice = issued(fhir, patient)
    note = desk(fhir).post(f"Invoice/{invoice['id']}/$credit", ask(reason="wrong patient", rebill=True))
    assert note["totalGross"]["value"] == -120.0
    after = fhir.get(f"Invoice/{invoice['id']}")
    assert (after["status"], after["lineItem"]) == ("cancelled", invoice["lineItem"])
    assert balance(fhir, invoice)["due"] == "0.00"
    charge = invoice["lineItem"][0]["chargeItemReference"]["reference"]
    assert desk(fhir).post("Invoice/$generate", ask(charge_item=charge))["totalGross"]["value"] == 120.0
    kept = issued(fhir, patient)
    desk(fhir).post(f"Invoice/{kept['id']}/$credit", ask(reason="goodwill"))
    assert "billed, not billable" in refused(
        desk(fhir), "Invoice/$generate", ask(charge_item=kept["lineItem"][0]["chargeItemReference"]["reference"])
    )


def test_notes_together_come_to_the_invoice_to_the_last_cent(fhir: Fhir) -> None:
    invoice = issued(fhir, None, template("33.33", tax="0.19"), template("0.05", tax="0.07"), template("9.99", tax="0.19"))
    path = f"Invoice/{invoice['id']}/$credit"
    gross = D(str(invoice["totalGross"]["value"]))
    notes = [fhirjson.loads(desk(fhir)("POST", path, ask(amount=D(part), reason="x")).data) for part in ("7.77", "0.01", "31.41")]
    notes.append(fhirjson.loads(desk(fhir)("POST", path, ask(reason="rest")).data))
    assert sum(note["totalGross"]["value"] for note in notes) == -gross
    shown = fhirjson.loads(fhir("GET", f"Invoice/{invoice['id']}").data)
    assert sum(note["totalNet"]["value"] for note in notes) == -shown["totalNet"]["value"]
    taxes: dict[Any, Decimal] = {}
    for each in (*notes, shown):
        for part in each.get("totalPriceComponent", ()):
            taxes[part["factor"]] = taxes.get(part["factor"], D(0)) + part["amount"]["value"]
    assert set(taxes.values()) == {D(0)}


def test_a_discount_takes_its_share_from_each_line_and_the_taxes_follow(fhir: Fhir) -> None:
    draft = drafted(fhir, None, template("100", tax="0.2"), template("50", tax=None))
    path = f"Invoice/{draft['id']}/$discount"
    after = desk(fhir).post(path, ask(amount=D("30"), reason="regular"), 200)
    assert (after["totalNet"]["value"], after["totalGross"]["value"]) == (120.0, 136.0)
    assert [part["type"] for part in after["lineItem"][0]["priceComponent"]] == ["base", "discount", "tax"]
    refused(desk(fhir), path, ask(amount=D("200"), reason="too much"))
    refused(desk(fhir), path, ask(amount=D("1")), 400)
    desk(fhir).post(f"Invoice/{draft['id']}/$issue", None, 200)
    assert "$credit" in refused(desk(fhir), path, ask(amount=D("1"), reason="late"))


def test_a_discount_over_the_limit_waits_for_a_second_person(fhir: Fhir) -> None:
    draft = drafted(fhir, None, template("200", tax=None))
    path = f"Invoice/{draft['id']}"
    ann, bob = desk(fhir, "ann"), desk(fhir, "bob")
    ann.post(f"{path}/$discount", ask(amount=D("40"), reason="a"), 200)
    waiting = ann.post(f"{path}/$discount", ask(amount=D("20"), reason="b"), 202)
    assert "second person" in refused(ann, f"{path}/$issue")
    assert "second person" in refused(ann, f"{path}/$approve", None, 403)
    refused(bob, f"{path}/$approve", ask(request="another"), 404)
    request = waiting["parameter"][0]["valueString"]
    (listed,) = [each["part"] for each in bob.get("Invoice/$approvals")["parameter"] if each["part"][0]["valueString"] == request]
    assert [part.get("valueString") for part in listed] == [request, None, None, None, "b", "ann"]
    assert desk(fhir, role="doctor")("GET", "Invoice/$approvals").status_code == 403
    assert bob.post(f"{path}/$approve", ask(request=request), 200)["totalGross"]["value"] == 140.0
    refused(bob, f"{path}/$approve", None, 404)
    ann.post(f"{path}/$discount", ask(factor=D("0.5"), reason="c"), 202)
    assert bob("POST", f"{path}/$reject").status_code == 204
    assert ann.post(f"{path}/$issue", None, 200)["totalGross"]["value"] == 140.0


def test_a_write_off_leaves_the_invoice_as_it_is_and_less_due(fhir: Fhir) -> None:
    invoice = issued(fhir, None, template("100", tax=None))
    path = f"Invoice/{invoice['id']}"
    desk(fhir).post(f"{path}/$write-off", ask(amount=D("10"), reason="small"), 200)
    assert balance(fhir, invoice) == {"paid": "0.00", "credited": "0.00", "due": "90.00"}
    desk(fhir, "ann").post(f"{path}/$write-off", ask(reason="cannot pay"), 202)
    done = desk(fhir, "bob").post(f"{path}/$approve", None, 200)
    assert (done["status"], done["totalGross"]["value"]) == ("balanced", 100.0)
    refused(desk(fhir), f"{path}/$credit", ask(amount=D("1"), reason="x"))


def test_nothing_stays_due_of_what_costs_nothing(fhir: Fhir) -> None:
    free = template("10")
    free["propertyGroup"][0]["priceComponent"].insert(1, {"type": "discount", "factor": 1})
    assert issued(fhir, None, free)["status"] == "balanced"


def test_a_follow_up_is_free_within_days_of_a_paid_visit(fhir: Fhir) -> None:
    from fhir_server.clinic.acting import Act, carry_out
    from fhir_server.clinic.billing import ledger
    from fhir_server.search import SYSTEM

    store = fhir.app.extensions["store"]
    made = template("80", tax=None)
    made["propertyGroup"].append(
        {"priceComponent": [{"type": "discount", "factor": 1}], "applicability": [{"expression": "%daysSincePaidVisit <= 14"}]}
    )
    definition = fhir.post("ChargeItemDefinition", made)["id"]
    patient = person(fhir)

    def gross(days_ago: int, doctor: str, name: str = "gross") -> str:
        start = (store.clock() - timedelta(days=days_ago)).isoformat()
        seen = visit(fhir, patient, period={"start": start}, participant=[{"individual": {"reference": f"Practitioner/{doctor}"}}])
        charge = desk(fhir).post(f"ChargeItemDefinition/{definition}/$apply", ask(encounter=f"Encounter/{seen}"))
        gross.last = charge  # type: ignore[attr-defined]  # for the invoice
        return money(charge, PRICE)[name]

    assert gross(10, "one") == "80.0"
    draft = desk(fhir).post("Invoice/$generate", ask(charge_item=f"ChargeItem/{gross.last['id']}"))  # type: ignore[attr-defined]
    invoice = desk(fhir).post(f"Invoice/{draft['id']}/$issue", None, 200)
    assert gross(0, "one") == "80.0", "not paid yet"
    act = Act("pay", SYSTEM)
    entry = ledger.Entry("payment", D("80"), "EUR", "PaymentReconciliation/1")
    carry_out(
        store, act, lambda connection, db: [ledger.post(store, connection, act, ledger.locked(store, connection, db, act, invoice["id"]), [entry])]
    )
    assert balance(fhir, invoice) == {"paid": "80.00", "credited": "0.00", "due": "0.00"}
    assert fhir.get(f"Invoice/{invoice['id']}")["status"] == "balanced"
    assert gross(0, "one") == "0.0"
    assert gross(0, "two") == "80.0", "another doctor"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("OperationDefinition-*.json")), ids=lambda path: path.stem)
def test_the_definitions_of_operations_are_valid(path: Any) -> None:
    Validator(r4()).require(fhirjson.loads(path.read_bytes()))
