"""The payer's share of an invoice: on the draft, in the ledger, and in what is due, whatever is credited or given up later."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from fhir_server import fhirjson
from fhir_server.settings import CANON
from fhir_server.spec import r4
from fhir_server.validation import Validator
from tests.clinic.billing.world import Json, ask, balance, charged, covered, desk, drafted, issued, person, shares, template
from tests.interactions.conftest import Fhir, issues

D = Decimal
SHARE = f"{CANON}/StructureDefinition/payer-share"


def generated(fhir: Fhir, patient: str, status: int = 201, made: Json | None = None, **given: Any) -> Json:
    found: Json = desk(fhir).post("Invoice/$generate", ask(charge_item=[f"ChargeItem/{charged(fhir, patient, made)['id']}"], **given), status)
    return found


def test_a_draft_shows_who_pays_and_the_issued_invoice_is_due_of_the_patient(fhir: Fhir) -> None:
    patient = person(fhir)
    coverage = covered(fhir, patient)
    draft = drafted(fhir, patient, template("100"), template("0.33", tax=None))
    Validator(r4()).require(fhirjson.loads(fhir("GET", f"Invoice/{draft['id']}").data))
    assert draft["totalGross"]["value"] == 120.33
    assert shares(fhir, draft) == {"amount": "96.26", "patient": "24.07"}
    (named,) = [
        part["valueReference"] for each in draft["extension"] if each["url"] == SHARE for part in each["extension"] if part["url"] == "coverage"
    ]
    assert named == {"reference": f"Coverage/{coverage}", "display": "Hill Health"}
    desk(fhir).post(f"Invoice/{draft['id']}/$issue", None, 200)
    assert shares(fhir, draft) == {"amount": "96.26", "patient": "24.07", "due": "96.26"}
    assert balance(fhir, draft) == {"paid": "0.00", "credited": "0.00", "due": "24.07"}
    desk(fhir).post(f"Invoice/{draft['id']}/$pay", ask(method="card"), 200)
    paid = fhir.get(f"Invoice/{draft['id']}")
    assert (paid["status"], balance(fhir, draft)["due"], shares(fhir, draft)["due"]) == ("balanced", "0.00", "96.26")


def test_what_a_payer_pays_wholly_leaves_nothing_due_of_the_patient(fhir: Fhir) -> None:
    patient = person(fhir)
    covered(fhir, patient, percent="0")
    invoice = issued(fhir, patient)
    assert (invoice["status"], balance(fhir, invoice)["due"], shares(fhir, invoice)["due"]) == ("balanced", "0.00", "120.00")


def test_the_first_in_order_that_says_what_the_patient_pays_decides_unless_another_is_named(fhir: Fhir) -> None:
    patient = person(fhir)
    covered(fhir, patient, costToBeneficiary=None, order=1)
    covered(fhir, patient, percent="50", order=3)
    second = covered(fhir, patient, percent="10", order=2)
    covered(fhir, patient, percent="1", order=1, status="cancelled")
    covered(fhir, patient, percent="1", order=1, period={"end": "2001"})
    other = covered(fhir, person(fhir))
    found = generated(fhir, patient)
    assert shares(fhir, found)["patient"] == "12.00"
    assert f"Coverage/{second}" in str(found["extension"])
    third = covered(fhir, patient, percent="30", order=9)
    assert shares(fhir, generated(fhir, patient, coverage=f"Coverage/{third}"))["patient"] == "36.00"
    assert SHARE not in str(generated(fhir, patient, self_pay=True))
    assert "another patient" in issues(generated(fhir, patient, 422, coverage=f"Coverage/{other}"))
    generated(fhir, patient, 404, coverage="Coverage/nothing")
    generated(fhir, patient, 400, coverage=f"Coverage/{third}", self_pay=True)
    silent = covered(fhir, patient, costToBeneficiary=None)
    assert "does not say" in issues(generated(fhir, patient, 422, coverage=f"Coverage/{silent}"))


def test_a_coverage_without_terms_changes_no_invoice(fhir: Fhir) -> None:
    patient = person(fhir)
    covered(fhir, patient, costToBeneficiary=None)
    invoice = issued(fhir, patient)
    assert SHARE not in str(invoice)
    assert balance(fhir, invoice)["due"] == "120.00"


def test_a_discount_changes_the_shares_and_a_hand_does_not(fhir: Fhir) -> None:
    patient = person(fhir)
    covered(fhir, patient)
    draft = drafted(fhir, patient)
    desk(fhir).post(f"Invoice/{draft['id']}/$discount", ask(amount=D("10.00"), reason="regular"), 200)
    assert shares(fhir, draft) == {"amount": "86.40", "patient": "21.60"}
    kept = fhir.get(f"Invoice/{draft['id']}")
    without = {**kept, "extension": [each for each in kept["extension"] if each["url"] != SHARE]}
    assert desk(fhir)("PUT", f"Invoice/{draft['id']}", without).status_code == 422


def test_a_draft_whose_coverage_has_ended_is_not_issued(fhir: Fhir) -> None:
    patient = person(fhir)
    coverage = covered(fhir, patient)
    draft = drafted(fhir, patient)
    ended = fhir.get(f"Coverage/{coverage}") | {"status": "cancelled"}
    fhir("PUT", f"Coverage/{coverage}", ended)
    assert "not in force" in issues(desk(fhir).post(f"Invoice/{draft['id']}/$issue", None, 422))


def test_a_deductible_and_a_maximum_are_of_the_year(fhir: Fhir) -> None:
    patient = person(fhir)
    costs = [("deductible", D(150)), ("maxoutofpocket", D(200))]
    covered(fhir, patient, percent="50", more=costs)
    first = issued(fhir, patient)
    assert shares(fhir, first)["patient"] == "120.00"
    second = issued(fhir, patient)
    # 30 are missing of the deductible, and half of the other 90; of that, and of all, 80 are missing of the maximum.
    assert shares(fhir, second)["patient"] == "75.00"
    assert shares(fhir, issued(fhir, patient))["patient"] == "5.00"
    assert shares(fhir, issued(fhir, patient))["patient"] == "0.00"
    desk(fhir).post(f"Invoice/{first['id']}/$credit", ask(reason="wrong"), 201)
    # What was credited is used no more: 30 of the deductible and 80 of all are, so that 120 are missing of each.
    assert shares(fhir, issued(fhir, patient))["patient"] == "120.00"


def test_drafts_of_one_coverage_do_not_use_its_deductible_twice(fhir: Fhir) -> None:
    patient = person(fhir)
    covered(fhir, patient, percent="0", more=[("deductible", D(100))])
    drafts = [drafted(fhir, patient) for _ in range(2)]
    assert [shares(fhir, each)["patient"] for each in drafts] == ["100.00", "100.00"]
    for each in drafts:
        desk(fhir).post(f"Invoice/{each['id']}/$issue", None, 200)
    assert [shares(fhir, each)["patient"] for each in drafts] == ["100.00", "0.00"]


def test_a_credit_note_is_of_both_by_their_parts(fhir: Fhir) -> None:
    patient = person(fhir)
    covered(fhir, patient)
    invoice = issued(fhir, patient)
    desk(fhir).post(f"Invoice/{invoice['id']}/$credit", ask(amount=D("30.01"), reason="less was done"), 201)
    assert balance(fhir, invoice) == {"paid": "0.00", "credited": "30.01", "due": "18.00"}
    assert shares(fhir, invoice) == {"amount": "71.99", "patient": "18.00", "due": "71.99"}
    desk(fhir).post(f"Invoice/{invoice['id']}/$credit", ask(reason="nothing was done"), 201)
    assert (fhir.get(f"Invoice/{invoice['id']}")["status"], shares(fhir, invoice)["due"]) == ("cancelled", "0.00")


def test_what_the_patient_owes_is_written_off_and_no_more(fhir: Fhir) -> None:
    patient = person(fhir)
    covered(fhir, patient)
    invoice = issued(fhir, patient)
    desk(fhir).post(f"Invoice/{invoice['id']}/$write-off", ask(amount=D("24.01"), reason="x"), 422)
    desk(fhir).post(f"Invoice/{invoice['id']}/$write-off", ask(reason="cannot pay"), 200)
    assert (balance(fhir, invoice)["due"], shares(fhir, invoice)["due"]) == ("0.00", "96.00")
