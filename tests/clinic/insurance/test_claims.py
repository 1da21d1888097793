"""What is claimed of a payer, and what it answers: booked once, whichever way it comes, and never more than was claimed."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from pypdf import PdfReader

from fhir_server import fhirjson
from fhir_server.access import issue
from fhir_server.clinic.insurance.settling import CONSUMER, Settling
from fhir_server.spec import r4
from fhir_server.store import Store, outbox
from fhir_server.store.rules.billing import insurance
from fhir_server.store.rules.billing.bills import PRICE
from fhir_server.validation import Validator
from tests.clinic.billing.world import Json, ask, balance, charged, covered, desk, person, shares, template, visit
from tests.interactions.conftest import SECRET, Fhir, MakeFhir, issues

D = Decimal
VALIDATOR = Validator(r4())


@pytest.fixture(scope="module")
def fhir(make_fhir: MakeFhir, fresh_database: Callable[[], str]) -> Iterator[Fhir]:
    made = make_fhir(fresh_database())
    made.put("Organization/clinic", {"resourceType": "Organization", "id": "clinic", "name": "Hill Clinic"}, 201)
    yield made
    made.close()


def issued(fhir: Fhir, *templates: Json, percent: str = "20", patient: str | None = None) -> Json:
    """An invoice of a covered patient's visit."""
    whose = patient or person(fhir, managingOrganization={"reference": "Organization/clinic"})
    covered(fhir, whose, percent)
    condition = fhir.post("Condition", {"resourceType": "Condition", "subject": {"reference": f"Patient/{whose}"}, "code": {"text": "Cough"}})["id"]
    encounter = visit(fhir, whose, diagnosis=[{"condition": {"reference": f"Condition/{condition}"}}])
    for each in templates or (template(),):
        charged(fhir, whose, each, encounter=f"Encounter/{encounter}")
    draft = desk(fhir).post("Invoice/$generate", ask(encounter=f"Encounter/{encounter}"))
    found: Json = desk(fhir).post(f"Invoice/{draft['id']}/$issue", None, 200)
    return found


def claimed(fhir: Fhir, invoice: Json) -> Json:
    found: Json = desk(fhir).post(f"Invoice/{invoice['id']}/$claim", None)
    return found


def answered(fhir: Fhir, claim: Json, status: int = 201, **given: Any) -> Json:
    found: Json = desk(fhir).post(f"Claim/{claim['id']}/$record-response", ask(**given), status)
    return found


def payments(fhir: Fhir, claim: Json) -> list[str]:
    return [str(each["paymentAmount"]["value"]) for each in reconciliations(fhir, claim)]


def reconciliations(fhir: Fhir, claim: Json) -> list[Json]:
    """The payments of a claim, the oldest first."""
    found = fhirjson.loads(fhir("GET", "PaymentReconciliation?_sort=_lastUpdated&_count=500").data)
    made = (entry["resource"] for entry in found.get("entry", ()))
    return [each for each in made if each["detail"][0]["request"] == {"reference": f"Claim/{claim['id']}"}]


def state(fhir: Fhir, invoice: Json) -> tuple[str, str, str, str]:
    """Due of the patient, the payer's share, what of it is still due, and the invoice's status."""
    share = shares(fhir, invoice)
    return balance(fhir, invoice)["due"], share["amount"], share["due"], fhir.get(f"Invoice/{invoice['id']}")["status"]


def hear(fhir: Fhir) -> None:
    """As the worker does it."""
    store: Store = fhir.app.extensions["store"]
    while outbox.drain(store.database, CONSUMER, Settling(store).hear) == "some":
        pass


def test_a_claim_has_the_lines_of_the_invoice_and_who_pays_whom_for_what(fhir: Fhir) -> None:
    invoice = issued(fhir, template("100"), template("0.10", tax=None))
    claim = fhirjson.loads(fhir("GET", f"Claim/{claimed(fhir, invoice)['id']}").data)
    VALIDATOR.require(claim)
    assert (claim["status"], claim["use"], claim["patient"], claim["provider"]) == (
        "active",
        "claim",
        invoice["subject"],
        {"reference": "Organization/clinic"},
    )
    assert claim["insurer"] == {"display": "Hill Health"}
    assert claim["insurance"][0]["coverage"]["reference"] in str(invoice["extension"])
    assert [str(item["net"]["value"]) for item in claim["item"]] == ["120.00", "0.10"]
    assert claim["item"][0]["unitPrice"] == {"value": D("120.00"), "currency": "EUR"}
    assert (claim["item"][0]["productOrService"], claim["item"][0]["quantity"]["value"]) == ({"text": "Visit"}, 1)
    assert claim["item"][0]["encounter"][0]["reference"].startswith("Encounter/")
    assert [each["valueReference"] for each in claim["item"][1]["extension"]] == [
        {"reference": invoice["lineItem"][1]["chargeItemReference"]["reference"]}
    ]
    assert claim["diagnosis"][0]["diagnosisReference"]["reference"].startswith("Condition/")
    assert claim["total"] == {"value": D("120.10"), "currency": "EUR"}


def test_where_nobody_is_named_the_one_clinic_provides_and_an_insurer_is_no_clinic(fhir: Fhir) -> None:
    kind = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/organization-type", "code": "ins"}]}
    fhir.put("Organization/insurer", {"resourceType": "Organization", "id": "insurer", "name": "Dale Mutual", "type": [kind]}, 201)
    whose = person(fhir)
    covered(fhir, whose, order=1, payor=[{"reference": "Organization/insurer"}])
    invoice = issued(fhir, patient=whose)
    claim = claimed(fhir, invoice)
    assert (claim["provider"], claim["insurer"]) == ({"reference": "Organization/clinic"}, {"reference": "Organization/insurer"})
    paper = fhir("GET", f"Invoice/{invoice['id']}/$document", headers={"Accept": "application/pdf"}).data
    text = PdfReader(io.BytesIO(paper)).pages[0].extract_text()
    assert "Hill Clinic" in text
    assert "Paid by insurance (Dale Mutual)" in text


def test_an_invoice_is_claimed_once_by_however_many_until_that_is_cancelled(fhir: Fhir) -> None:
    invoice = issued(fhir)
    path = f"Invoice/{invoice['id']}/$claim"
    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(lambda n: desk(fhir, f"desk {n}")("POST", path, None), range(5)))
    assert sorted(answer.status_code for answer in answers) == [200] * 4 + [201]
    (identity,) = {fhirjson.loads(answer.data)["id"] for answer in answers}
    claim = fhir.get(f"Claim/{identity}")
    desk(fhir).put(f"Claim/{identity}", claim | {"status": "cancelled"}, 200)
    assert desk(fhir)("PUT", f"Claim/{identity}", claim).status_code == 422
    assert claimed(fhir, invoice)["id"] != identity
    assert balance(fhir, invoice)["due"] == "24.00"


def test_what_no_payer_has_a_share_of_is_not_claimed(fhir: Fhir) -> None:
    whose = person(fhir)
    covered(fhir, whose)
    given = ask(charge_item=[f"ChargeItem/{charged(fhir, whose)['id']}"], self_pay=True)
    draft = desk(fhir).post("Invoice/$generate", given)
    path = f"Invoice/{draft['id']}/$claim"
    assert "draft" in issues(desk(fhir).post(path, None, 422))
    desk(fhir).post(f"Invoice/{draft['id']}/$issue", None, 200)
    assert "patient pays all" in issues(desk(fhir).post(path, None, 422))
    assert "Nothing is due" in issues(desk(fhir).post(f"Invoice/{issued(fhir, percent='100')['id']}/$claim", None, 422))
    for caller in (desk(fhir, role="doctor"), desk(fhir, role="patient", patient=whose)):
        assert caller("POST", path, None).status_code == 403


def test_what_was_claimed_stays_as_it_is_at_every_door(fhir: Fhir) -> None:
    claim = claimed(fhir, issued(fhir))
    cheaper = claim | {"total": {"value": 1, "currency": "EUR"}}
    assert fhir("PUT", f"Claim/{claim['id']}", cheaper).status_code == 422
    assert fhir("PATCH", f"Claim/{claim['id']}", [{"op": "remove", "path": "/item"}]).status_code == 422
    assert fhir("DELETE", f"Claim/{claim['id']}").status_code == 422
    bundle = {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [{"resource": cheaper, "request": {"method": "PUT", "url": f"Claim/{claim['id']}"}}],
    }
    assert fhir("POST", "", bundle).status_code == 422
    copy = {name: value for name, value in claim.items() if name not in {"id", "meta"}}
    assert desk(fhir)("POST", "Claim", copy).status_code == 422
    assert fhir("POST", "Claim", copy).status_code == 409
    assert desk(fhir).post("Claim", {name: value for name, value in copy.items() if name != "extension"} | {"status": "draft"})["status"] == "draft"


def test_an_answer_is_booked_and_what_is_not_covered_comes_back_to_the_patient(fhir: Fhir) -> None:
    invoice = issued(fhir)
    claim = claimed(fhir, invoice)
    assert state(fhir, invoice) == ("24.00", "96.00", "96.00", "issued")
    desk(fhir).post(f"Invoice/{invoice['id']}/$pay", ask(method="card"), 200)
    assert state(fhir, invoice) == ("0.00", "96.00", "96.00", "balanced")
    response = answered(fhir, claim, benefit=D("80.00"), paid=D("50.00"), date="2026-11-29", reference="R 17", disposition="No more than 80")
    VALIDATOR.require(fhirjson.loads(fhir("GET", f"ClaimResponse/{response['id']}").data))
    assert (response["outcome"], response["request"], response["insurer"]) == (
        "complete",
        {"reference": f"Claim/{claim['id']}"},
        {"display": "Hill Health"},
    )
    assert state(fhir, invoice) == ("16.00", "80.00", "30.00", "issued")
    (made,) = reconciliations(fhir, claim)
    assert (str(made["paymentAmount"]["value"]), made["paymentDate"], made["paymentIdentifier"]) == ("50.00", "2026-11-29", {"value": "R 17"})
    assert made["detail"][0]["response"] == {"reference": f"ClaimResponse/{response['id']}"}
    VALIDATOR.require(made)


def test_the_same_answer_twice_changes_nothing_and_another_one_takes_its_place(fhir: Fhir) -> None:
    invoice = issued(fhir)
    claim = claimed(fhir, invoice)
    given: Json = {"benefit": D("96.00"), "paid": D("90.00")}
    first = answered(fhir, claim, **given)
    again = answered(fhir, claim, 200, **given)
    hear(fhir)
    assert (again["id"], again["meta"]["versionId"]) == (first["id"], "1")
    assert (state(fhir, invoice), payments(fhir, claim)) == (("24.00", "96.00", "6.00", "issued"), ["90.00"])
    second = answered(fhir, claim, benefit=D("60.00"), paid=D("60.00"))
    assert fhir.get(f"ClaimResponse/{first['id']}")["status"] == "cancelled"
    hear(fhir)
    assert (state(fhir, invoice), payments(fhir, claim)) == (("60.00", "60.00", "0.00", "issued"), ["90.00", "-30.00"])
    fhir.put(f"ClaimResponse/{second['id']}", second | {"status": "cancelled"}, 200)
    hear(fhir)
    assert state(fhir, invoice) == ("24.00", "96.00", "96.00", "issued")
    assert sum(map(D, payments(fhir, claim))) == 0


def test_more_than_was_estimated_makes_less_due_of_the_patient_but_never_more_than_claimed(fhir: Fhir) -> None:
    invoice = issued(fhir)
    claim = claimed(fhir, invoice)
    refused: list[Json] = [
        {"benefit": D("120.01")},
        {"benefit": D("10.00"), "paid": D("10.01")},
        {"benefit": D(-1)},
        {"benefit": D("1.001")},
        {"benefit": {"value": 1, "currency": "USD"}},
    ]
    for bad in refused:
        answered(fhir, claim, 422, **bad)
    unread: list[Json] = [{"disposition": "x"}, {"outcome": "maybe", "benefit": D(1)}, {"benefit": D(1), "denied": "nobody"}]
    for bad in unread:
        answered(fhir, claim, 400, **bad)
    assert state(fhir, invoice) == ("24.00", "96.00", "96.00", "issued")
    answered(fhir, claim, benefit=D("120.00"))
    assert state(fhir, invoice) == ("0.00", "120.00", "120.00", "balanced")


def test_what_waits_or_could_not_be_read_books_nothing_and_a_part_leaves_the_rest_open(fhir: Fhir) -> None:
    invoice = issued(fhir)
    claim = claimed(fhir, invoice)
    for outcome in ("queued", "error"):
        answered(fhir, claim, outcome=outcome)
        assert state(fhir, invoice) == ("24.00", "96.00", "96.00", "issued")
    answered(fhir, claim, outcome="partial", benefit=D("40.00"), paid=D("40.00"))
    assert state(fhir, invoice) == ("24.00", "96.00", "56.00", "issued")
    answered(fhir, claim, benefit=D("40.00"), paid=D("40.00"))
    assert (state(fhir, invoice), payments(fhir, claim)) == (("80.00", "40.00", "0.00", "issued"), ["40.00"])


def test_what_is_not_covered_is_given_up_within_the_limit_of_one_person(fhir: Fhir) -> None:
    small, large = issued(fhir), issued(fhir)
    answered(fhir, claimed(fhir, small), benefit=D("90.00"), denied="write-off")
    assert state(fhir, small) == ("24.00", "90.00", "90.00", "issued")
    answered(fhir, claimed(fhir, large), benefit=D("10.00"), denied="write-off")
    assert state(fhir, large)[0] == "110.00"
    desk(fhir).post(f"Invoice/{large['id']}/$approve", None, 403)
    desk(fhir, "bob").post(f"Invoice/{large['id']}/$approve", None, 200)
    assert state(fhir, large)[0] == "24.00"


def test_what_was_given_up_and_is_paid_after_all_is_not_lost(fhir: Fhir) -> None:
    invoice = issued(fhir)
    claim = claimed(fhir, invoice)
    answered(fhir, claim, benefit=D("60.00"), denied="write-off")
    desk(fhir).post(f"Invoice/{invoice['id']}/$pay", ask(method="card"), 200)
    assert state(fhir, invoice) == ("0.00", "60.00", "60.00", "balanced")
    answered(fhir, claim, benefit=D("120.00"), paid=D("120.00"))
    assert state(fhir, invoice) == ("-24.00", "120.00", "0.00", "balanced")


def items(claim: Json, *benefits: str, **fields: Any) -> Json:
    """A ClaimResponse as a payer's program writes one."""
    category = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/adjudication", "code": "benefit"}]}
    adjudications = [{"category": category, "amount": {"value": D(each), "currency": "EUR"}} for each in benefits]
    made = {
        "resourceType": "ClaimResponse",
        "status": "active",
        "type": claim["type"],
        "use": "claim",
        "patient": claim["patient"],
        "created": "2026-11-30",
        "insurer": {"display": "Hill Health"},
        "request": {"reference": f"Claim/{claim['id']}"},
        "outcome": "complete",
        "item": [{"itemSequence": n, "adjudication": [each]} for n, each in enumerate(adjudications, 1)],
    }
    return made | fields


def payment(amount: str) -> Json:
    kind = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/ex-paymenttype", "code": "complete"}]}
    return {"type": kind, "date": "2026-11-28", "amount": {"value": D(amount), "currency": "EUR"}, "identifier": {"value": "T 9"}}


def test_an_answer_that_a_program_posts_is_booked_after_its_commit(fhir: Fhir) -> None:
    service = Fhir(fhir.app, issue(SECRET, role=None, user="payer", patient=None, scope="system/ClaimResponse.cruds", ttl=600, now=time.time()))
    invoice = issued(fhir, template("100"), template("50", tax=None))
    claim = claimed(fhir, invoice)
    assert state(fhir, invoice)[:2] == ("34.00", "136.00")
    for bad in (items(claim, "120", "51"), items(claim, "1", payment=payment("2")), items(claim, "1.001"), items(claim, "1e40"), items(claim, "-1")):
        assert service("POST", "ClaimResponse", bad).status_code == 422
    response = service.post("ClaimResponse", items(claim, "96.00", "20.00", payment=payment("116.00")))
    hear(fhir)
    hear(fhir)
    assert (state(fhir, invoice), payments(fhir, claim)) == (("54.00", "116.00", "0.00", "issued"), ["116.00"])
    later = service.post("ClaimResponse", items(claim, "100.00"))
    hear(fhir)
    assert state(fhir, invoice) == ("70.00", "100.00", "100.00", "issued")
    service("DELETE", f"ClaimResponse/{later['id']}")
    hear(fhir)
    other = service("PUT", f"ClaimResponse/{response['id']}", items(claim, "96.00", "40.00", payment=payment("136.00")) | {"id": response["id"]})
    assert other.status_code == 200
    assert service("PUT", f"ClaimResponse/{response['id']}", items(claim, "170.01") | {"id": response["id"]}).status_code == 422
    hear(fhir)
    assert (state(fhir, invoice), payments(fhir, claim)) == (("34.00", "136.00", "0.00", "issued"), ["116.00", "-116.00", "116.00", "20.00"])
    assert service("DELETE", f"ClaimResponse/{response['id']}").status_code == 204
    hear(fhir)
    assert (state(fhir, invoice), sum(map(D, payments(fhir, claim)))) == (("34.00", "136.00", "136.00", "issued"), 0)


def test_a_whole_response_is_recorded_as_it_is(fhir: Fhir) -> None:
    invoice = issued(fhir)
    claim = claimed(fhir, invoice)
    body = {"resourceType": "Parameters", "parameter": [{"name": "response", "resource": items(claim, "70.00", payment=payment("70.00"))}]}
    response = desk(fhir).post(f"Claim/{claim['id']}/$record-response", body)
    assert response["item"][0]["adjudication"][0]["amount"]["value"] == 70.0
    assert state(fhir, invoice) == ("50.00", "70.00", "0.00", "issued")
    other = claimed(fhir, issued(fhir))
    assert "another claim" in issues(desk(fhir).post(f"Claim/{other['id']}/$record-response", body, 422))


def test_what_is_claimed_is_credited_only_when_it_is_answered_and_never_what_the_payer_has_paid(fhir: Fhir) -> None:
    invoice = issued(fhir)
    claim = claimed(fhir, invoice)
    credit = f"Invoice/{invoice['id']}/$credit"
    assert f"Claim/{claim['id']} waits" in issues(desk(fhir).post(credit, ask(amount=D(10), reason="x"), 422))
    answered(fhir, claim, benefit=D("96.00"), paid=D("96.00"))
    assert "24.00 EUR are left" in issues(desk(fhir).post(credit, ask(amount=D("24.01"), reason="x"), 422))
    desk(fhir).post(credit, ask(amount=D("24.00"), reason="x"), 201)
    assert state(fhir, invoice) == ("0.00", "96.00", "0.00", "balanced")
    assert "are left, by credit notes" in issues(answered(fhir, claim, 422, benefit=D("97.00")))
    answered(fhir, claim, benefit=D(0))
    assert state(fhir, invoice) == ("96.00", "0.00", "0.00", "issued")


def test_a_cancelled_claim_has_no_answer_and_a_strange_one_does_nothing_here(fhir: Fhir) -> None:
    invoice = issued(fhir)
    claim = claimed(fhir, invoice)
    fhir.put(f"Claim/{claim['id']}", claim | {"status": "cancelled"}, 200)
    answered(fhir, claim, 422, benefit=D(1))
    assert fhir("POST", "ClaimResponse", items(claim, "1.00")).status_code == 422
    again = claimed(fhir, invoice)
    response = fhir.post("ClaimResponse", items(again, "96.00"))
    fhir.put(f"Claim/{again['id']}", again | {"status": "cancelled"}, 200)
    # What does not change what was said stays open: a patient who is merged takes it along.
    fhir.put(f"ClaimResponse/{response['id']}", response | {"disposition": "see above"}, 200)
    strange = fhir.post("Claim", {name: value for name, value in claim.items() if name not in {"id", "meta", "extension"}})
    fhir.post("ClaimResponse", items(strange, "500.00"))
    hear(fhir)
    answered(fhir, strange, 422, benefit=D(1))
    assert state(fhir, invoice) == ("24.00", "96.00", "96.00", "issued")


def test_a_patient_sees_their_claims_and_no_drafts(fhir: Fhir) -> None:
    whose = person(fhir, managingOrganization={"reference": "Organization/clinic"})
    claim = claimed(fhir, issued(fhir, patient=whose))
    draft = fhir.post("Claim", {name: value for name, value in claim.items() if name not in {"id", "meta", "extension"}} | {"status": "draft"})
    response = answered(fhir, claim, benefit=D("96.00"))
    own, other = desk(fhir, role="patient", patient=whose), desk(fhir, role="patient", patient=person(fhir))
    assert own.ids("Claim") == [claim["id"]]
    assert own("GET", f"Claim/{draft['id']}").status_code == 404
    assert own.ids("ClaimResponse") == [response["id"]]
    assert (other.ids("Claim"), other("GET", f"ClaimResponse/{response['id']}").status_code) == ([], 404)
    assert own("POST", "ClaimResponse", items(claim, "1.00")).status_code == 403
    assert own("POST", f"Claim/{claim['id']}/$record-response", ask(benefit=D(1))).status_code == 403
    assert desk(fhir, role="doctor")("POST", f"Claim/{claim['id']}/$record-response", ask(benefit=D(1))).status_code == 403
    assert PRICE not in str(claim)


def test_a_key_records_once(fhir: Fhir) -> None:
    claim = claimed(fhir, issued(fhir))
    path = f"Claim/{claim['id']}/$record-response"
    key = {"Idempotency-Key": f"answer {claim['id']}"}
    bodies = [desk(fhir)("POST", path, ask(benefit=D(5)), headers=key).data for _ in range(2)]
    assert bodies[0] == bodies[1]


def test_rows_are_the_same_when_they_are_made_anew(fhir: Fhir) -> None:
    answered(fhir, claimed(fhir, issued(fhir)), benefit=D(5))
    claimed(fhir, issued(fhir))
    store: Store = fhir.app.extensions["store"]

    def rows() -> list[Any]:
        with psycopg.connect(store.url) as connection:
            return connection.execute("SELECT claim, invoice, coverage, answered FROM claimed ORDER BY 1").fetchall()

    before = rows()
    with store.database.connection() as connection, connection.transaction():
        insurance.renew(connection, store.registry)
    assert rows() == before
    assert {answered for *_, answered in before} == {True, False}
