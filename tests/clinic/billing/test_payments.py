"""What is paid at the desk, and what is given back: never more than is due, never more than was paid, and never by one person alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest

from fhir_server import fhirjson
from fhir_server.spec import r4
from fhir_server.validation import Validator
from tests.clinic.billing.world import Json, ask, balance, desk, drafted, issued, person
from tests.interactions.conftest import Fhir, issues

D = Decimal


def status_of(fhir: Fhir, invoice: Json) -> str:
    return str(fhir.get(f"Invoice/{invoice['id']}")["status"])


def test_what_is_due_is_paid_and_the_invoice_is_balanced(fhir: Fhir) -> None:
    invoice = issued(fhir)
    path = f"Invoice/{invoice['id']}/$pay"
    answer = desk(fhir)("POST", path, ask(method="card", reference="terminal 7, slip 12", amount=D("70.00")))
    paid = fhirjson.loads(answer.data)
    Validator(r4()).require(paid)
    assert (answer.status_code, paid["resourceType"], str(paid["paymentAmount"]["value"])) == (200, "PaymentReconciliation", "70.00")
    assert paid["detail"][0]["request"] == {"reference": f"Invoice/{invoice['id']}"}
    assert paid["paymentIdentifier"] == {"value": "terminal 7, slip 12"}
    assert (balance(fhir, invoice)["due"], status_of(fhir, invoice)) == ("50.00", "issued")
    desk(fhir).post(path, ask(method="transfer"), 200)
    assert (balance(fhir, invoice), status_of(fhir, invoice)) == ({"paid": "120.00", "credited": "0.00", "due": "0.00"}, "balanced")
    assert "Nothing is due" in issues(desk(fhir).post(path, ask(method="cash"), 422))


def test_change_is_what_was_tendered_too_much(fhir: Fhir) -> None:
    invoice = issued(fhir)
    paid = desk(fhir).post(f"Invoice/{invoice['id']}/$pay", ask(method="cash", tendered=D("150.00")), 200)
    (tendered,) = [each for each in paid["extension"] if each["url"].endswith("payment-tendered")]
    assert {part["url"]: part["valueMoney"]["value"] for part in tendered["extension"]} == {"given": 150.0, "change": 30.0}
    assert paid["paymentAmount"]["value"] == 120.0


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({"method": "cash", "amount": D("120.01")}, 422),
        ({"method": "card", "amount": D("0")}, 422),
        ({"method": "card", "amount": D("10.001")}, 422),
        ({"method": "card", "amount": {"value": 10, "currency": "USD"}}, 422),
        ({"method": "cash", "amount": D(50), "tendered": D(40)}, 422),
        ({"method": "card", "tendered": D(40)}, 400),
        ({"method": "cash", "tendered": D("150.001")}, 422),
        ({"method": "cash", "tendered": D("-5")}, 422),
        ({"method": "cash", "tendered": D("1E+90")}, 422),
        ({"method": "transfer", "amount": D("1E+90")}, 422),
        ({"method": "transfer", "amount": D("1E-90")}, 422),
        ({"method": "card", "reference": "9" * 201}, 400),
        ({"method": "credit"}, 422),
        ({"method": "shells"}, 400),
        ({"method": "gateway"}, 501),
        ({"amount": D(1)}, 400),
    ],
)
def test_what_is_no_payment_is_refused_and_nothing_is_booked(fhir: Fhir, given: Json, status: int) -> None:
    invoice = issued(fhir)
    desk(fhir).post(f"Invoice/{invoice['id']}/$pay", ask(**given), status)
    assert balance(fhir, invoice)["due"] == "120.00"


def test_more_by_transfer_is_owed_to_the_patient(fhir: Fhir) -> None:
    invoice = issued(fhir)
    desk(fhir).post(f"Invoice/{invoice['id']}/$pay", ask(method="transfer", amount=D("130.00")), 200)
    assert (balance(fhir, invoice)["due"], status_of(fhir, invoice)) == ("-10.00", "balanced")


def test_drafts_are_not_paid_nor_does_a_patient_or_a_doctor_take_money(fhir: Fhir) -> None:
    patient = person(fhir)
    draft, invoice = drafted(fhir), issued(fhir, patient)
    desk(fhir).post(f"Invoice/{draft['id']}/$pay", ask(method="cash"), 422)
    for caller in (desk(fhir, role="patient", patient=patient), desk(fhir, role="doctor")):
        assert caller("POST", f"Invoice/{invoice['id']}/$pay", ask(method="cash")).status_code == 403


def test_two_who_pay_at_once_do_not_pay_twice(fhir: Fhir) -> None:
    invoice = issued(fhir)
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda n: desk(fhir, f"desk {n}")("POST", f"Invoice/{invoice['id']}/$pay", ask(method="card")).status_code, range(6)))
    assert sorted(answers) == [200, 422, 422, 422, 422, 422]
    assert balance(fhir, invoice)["paid"] == "120.00"


def test_a_key_pays_once(fhir: Fhir) -> None:
    invoice = issued(fhir)
    key = {"Idempotency-Key": f"pay {invoice['id']}"}
    bodies = [desk(fhir)("POST", f"Invoice/{invoice['id']}/$pay", ask(method="card", amount=D(20)), headers=key).data for _ in range(2)]
    assert bodies[0] == bodies[1]
    assert balance(fhir, invoice)["paid"] == "20.00"


def test_a_refund_takes_two_people_and_is_never_more_than_was_paid(fhir: Fhir) -> None:
    invoice, ann, bob = issued(fhir), desk(fhir, "ann"), desk(fhir, "bob")
    path = f"Invoice/{invoice['id']}"
    assert "Only 0.00 EUR were paid" in issues(ann.post(f"{path}/$refund", ask(reason="x", amount=D(1)), 422))
    ann.post(f"{path}/$pay", ask(method="card"), 200)
    ann.post(f"{path}/$refund", ask(amount=D(20)), 400)
    waits = ann.post(f"{path}/$refund", ask(amount=D("20.00"), reason="charged twice"), 202)
    assert waits["parameter"][1] == {"name": "state", "valueCode": "waiting"}
    assert balance(fhir, invoice)["paid"] == "120.00"
    ann.post(f"{path}/$approve-refund", None, 403)
    given = bob.post(f"{path}/$approve-refund", None, 200)
    assert (given["resourceType"], given["paymentAmount"]["value"], given["disposition"]) == ("PaymentReconciliation", -20.0, "charged twice")
    assert (balance(fhir, invoice)["paid"], status_of(fhir, invoice)) == ("100.00", "issued")
    bob.post(f"{path}/$approve-refund", None, 404)
    bob.post(f"{path}/$refund", ask(amount=D("100.01"), reason="x"), 422)
    bob.post(f"{path}/$refund", ask(reason="all of it"), 202)
    ann.post(f"{path}/$approve-refund", None, 200)
    assert balance(fhir, invoice)["paid"] == "0.00"
