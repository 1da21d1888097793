"""What is paid too much is the patient's: seen, used for other invoices, given back, and never more than there is, whoever comes at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import psycopg
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_server import fhirjson
from fhir_server.spec import r4
from fhir_server.validation import Validator
from tests.clinic.billing.world import Json, ask, balance, desk, issued, person, template
from tests.interactions.conftest import Fhir, issues

D = Decimal


def bill(fhir: Fhir, patient: str, amount: str = "100", currency: str = "EUR") -> str:
    identity: str = issued(fhir, patient, template(amount, currency, tax=None))["id"]
    return identity


def pay(fhir: Fhir, invoice: str, status: int = 200, user: str = "ann", **given: Any) -> Any:
    answer = desk(fhir, user)("POST", f"Invoice/{invoice}/$pay", ask(**given))
    assert answer.status_code == status, answer.text
    return fhirjson.loads(answer.data)


def account(caller: Fhir, patient: str, currency: str = "EUR") -> dict[str, str]:
    """Sums of a patient's account, digits as they are."""
    found = fhirjson.loads(caller("GET", f"Patient/{patient}/$balance").data)
    for each in found.get("parameter", ()):
        sums = {part["name"]: part["valueMoney"] for part in each["part"] if "valueMoney" in part}
        if sums["due"]["currency"] == currency:
            return {name: str(money["value"]) for name, money in sums.items()}
    return {}


def test_credit_is_seen_used_and_given_back(fhir: Fhir) -> None:
    patient = person(fhir)
    one, two = bill(fhir, patient), bill(fhir, patient, "80")
    pay(fhir, one, method="transfer", amount=D("130.00"))
    assert account(desk(fhir), patient) == {"due": "80.00", "credit": "30.00", "balance": "50.00"}
    assert account(desk(fhir, role="patient", patient=patient), patient) == {"due": "80.00", "credit": "30.00", "balance": "50.00"}
    used = pay(fhir, two, method="credit", amount=D("20.00"))
    Validator(r4()).require(used)
    assert str(used["paymentAmount"]["value"]) == "0.00"
    assert [(each["request"]["reference"], str(each["amount"]["value"])) for each in used["detail"]] == [
        (f"Invoice/{two}", "20.00"),
        (f"Invoice/{one}", "-20.00"),
    ]
    assert (balance(fhir, one)["paid"], balance(fhir, two)["paid"]) == ("110.00", "20.00")
    pay(fhir, two, method="credit")
    assert account(desk(fhir), patient) == {"due": "50.00", "credit": "0.00", "balance": "50.00"}
    assert "0.00 EUR of credit" in issues(pay(fhir, two, 422, method="credit"))
    pay(fhir, two, method="transfer", amount=D("55"))
    desk(fhir, "ann").post(f"Invoice/{two}/$refund", ask(amount=D(5), reason="too much"), 202)
    desk(fhir, "bob").post(f"Invoice/{two}/$approve-refund", ask(method="transfer"), 200)
    assert account(desk(fhir), patient) == {}


def test_what_is_credited_of_a_paid_invoice_is_credit(fhir: Fhir) -> None:
    patient = person(fhir)
    one, two = bill(fhir, patient), bill(fhir, patient, "50")
    pay(fhir, one, method="card")
    desk(fhir).post(f"Invoice/{one}/$credit", ask(amount=D(60), reason="not done"))
    assert account(desk(fhir), patient) == {"due": "50.00", "credit": "60.00", "balance": "-10.00"}
    pay(fhir, two, method="credit")
    assert account(desk(fhir), patient)["credit"] == "10.00"
    assert fhir.get(f"Invoice/{two}")["status"] == "balanced"


def test_credit_is_one_patients_one_currencys_and_the_desks_to_use(fhir: Fhir) -> None:
    patient, other = person(fhir), person(fhir)
    pay(fhir, bill(fhir, patient), method="transfer", amount=D(150))
    theirs, francs = bill(fhir, other), bill(fhir, patient, "20", "CHF")
    for invoice in (theirs, francs):
        assert "of credit" in issues(pay(fhir, invoice, 422, method="credit"))
    own = bill(fhir, patient)
    for role in ("patient", "doctor"):
        caller = desk(fhir, role=role, patient=patient if role == "patient" else None)
        assert caller("POST", f"Invoice/{own}/$pay", ask(method="credit")).status_code == 403
    assert desk(fhir, role="patient", patient=other)("GET", f"Patient/{patient}/$balance").status_code == 404


def test_drafts_are_on_nobodys_account(fhir: Fhir) -> None:
    patient = person(fhir)
    fhir.post("Invoice", {"resourceType": "Invoice", "status": "draft", "subject": {"reference": f"Patient/{patient}"}})
    assert account(desk(fhir), patient) == {}
    desk(fhir).get("Patient/nobody/$balance", 404)


def test_credit_that_many_use_at_once_is_used_once(fhir: Fhir) -> None:
    patient = person(fhir)
    pay(fhir, bill(fhir, patient), method="transfer", amount=D(125))
    pay(fhir, bill(fhir, patient), method="transfer", amount=D(125))
    open_ones = [bill(fhir, patient, "40") for _ in range(4)]

    def go(n: int) -> int:
        return desk(fhir, f"desk {n}")("POST", f"Invoice/{open_ones[n % 4]}/$pay", ask(method="credit", amount=D(20))).status_code

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(go, range(8))) == [200, 200, *[422] * 6]
    assert account(desk(fhir), patient) == {"due": "120.00", "credit": "10.00", "balance": "110.00"}


def several(*invoices: str, **given: Any) -> Json:
    return ask(invoice=[f"Invoice/{each}" for each in invoices], **given)


def test_one_receipt_pays_several_invoices_the_oldest_first(fhir: Fhir) -> None:
    patient = person(fhir)
    one, two, three = (bill(fhir, patient, amount) for amount in ("10", "20", "30"))
    answer = desk(fhir)("POST", "Invoice/$pay", several(three, one, two, method="card", amount=D("25.00")))
    paid = fhirjson.loads(answer.data)
    Validator(r4()).require(paid)
    assert str(paid["paymentAmount"]["value"]) == "25.00"
    assert [(each["request"]["reference"], str(each["amount"]["value"])) for each in paid["detail"]] == [
        (f"Invoice/{one}", "10.00"),
        (f"Invoice/{two}", "15.00"),
    ]
    assert len(fhir.ids(f"PaymentNotice?request=Invoice/{one},Invoice/{two},Invoice/{three}")) == 2
    chosen = [
        {"name": "invoice", "valueReference": {"reference": f"Invoice/{three}"}},
        {"name": "amount", "valueMoney": {"value": 7, "currency": "EUR"}},
    ]
    body = several(two, method="card")
    body["parameter"].append({"name": "allocation", "part": chosen})
    desk(fhir).post("Invoice/$pay", body, 200)
    assert [balance(fhir, each)["due"] for each in (one, two, three)] == ["0.00", "0.00", "23.00"]


def test_invoices_that_do_not_belong_together_are_not_paid_together(fhir: Fhir) -> None:
    patient, other = person(fhir), person(fhir)
    own, theirs, francs = bill(fhir, patient), bill(fhir, other), bill(fhir, patient, "20", "CHF")
    who = desk(fhir)
    assert "one patient" in issues(who.post("Invoice/$pay", several(own, theirs, method="card"), 422))
    assert "currencies" in issues(who.post("Invoice/$pay", several(own, francs, method="card"), 422))
    assert "named once" in issues(who.post("Invoice/$pay", several(own, own, method="card"), 400))
    who.post("Invoice/$pay", several(own, "nothing", method="card"), 404)
    who.post("Invoice/$pay", ask(method="card"), 400)
    who.post("Invoice/$pay", several(*(f"i{n}" for n in range(101)), method="card"), 400)
    body = ask(method="card")
    for wrong in ([], [{"name": "invoice", "valueReference": {"reference": f"Invoice/{own}"}}], [{"name": "else", "valueString": "x"}]):
        who.post("Invoice/$pay", {**body, "parameter": [*body["parameter"], {"name": "allocation", "part": wrong}]}, 422 if not wrong else 400)
    assert {balance(fhir, each)["due"] for each in (own, theirs)} == {"100.00"}


def test_two_who_pay_the_same_invoices_in_another_order_do_not_stop_each_other(fhir: Fhir) -> None:
    patient = person(fhir)
    bills = [bill(fhir, patient, "60") for _ in range(4)]

    def go(n: int) -> int:
        named = bills if n % 2 else bills[::-1]
        return desk(fhir, f"desk {n}")("POST", "Invoice/$pay", several(*named, method="card", amount=D(40))).status_code

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(go, range(8))) == [*[200] * 6, *[422] * 2]
    assert {balance(fhir, each)["due"] for each in bills} == {"0.00"}


def test_a_payment_may_be_split_over_methods(fhir: Fhir) -> None:
    patient = person(fhir)
    invoice = bill(fhir, patient)
    pay(fhir, invoice, method="cash", amount=D(30), tendered=D(50))
    pay(fhir, invoice, method="card", amount=D(30))
    pay(fhir, invoice, method="transfer")
    assert balance(fhir, invoice) == {"paid": "100.00", "credited": "0.00", "due": "0.00"}
    methods = [
        each["extension"][0]["valueCode"]
        for each in map(fhir.get, (f"PaymentReconciliation/{i}" for i in fhir.ids("PaymentReconciliation?patient=Patient/" + patient)))
    ]
    assert sorted(methods) == ["card", "cash", "transfer"]


STEPS = ("cash", "card", "transfer", "credit", "credit-note", "refund")
steps = st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 2), st.decimals("0.01", 90, places=2)), min_size=3, max_size=7)


@settings(max_examples=6, deadline=None)
@given(steps, st.sampled_from(["EUR", "CHF"]))
def test_the_ledger_is_what_came_in_less_what_went_out_and_nobody_gets_more_than_they_paid(
    fhir: Fhir, made: list[tuple[str, int, Decimal]], currency: str
) -> None:
    patient = person(fhir)
    bills = [bill(fhir, patient, amount, currency) for amount in ("40.01", "50.02", "60.03")]
    ann, bob = desk(fhir, "ann"), desk(fhir, "bob")
    credited = D(0)
    for kind, n, amount in made:
        invoice = bills[n]
        money = {"value": amount, "currency": currency}
        if kind == "credit-note":
            credited += amount if ann("POST", f"Invoice/{invoice}/$credit", ask(amount=money, reason="x")).status_code == 201 else 0
        elif kind == "refund":
            if ann("POST", f"Invoice/{invoice}/$refund", ask(amount=money, reason="x")).status_code == 202:
                assert bob("POST", f"Invoice/{invoice}/$approve-refund", ask(method="transfer")).status_code == 200
        else:
            ann("POST", f"Invoice/{invoice}/$pay", ask(method=kind, amount=money) if n else ask(method=kind))
    payments = [
        fhirjson.loads(fhir("GET", f"PaymentReconciliation/{each}").data) for each in fhir.ids(f"PaymentReconciliation?patient=Patient/{patient}")
    ]
    moved = sum((each["paymentAmount"]["value"] for each in payments), D(0))
    rounded = sum((d["amount"]["value"] for each in payments for d in each["detail"] if d["type"]["coding"][0]["code"] == "rounding"), D(0))
    for each in payments:
        assert sum(d["amount"]["value"] for d in each["detail"]) == each["paymentAmount"]["value"]
    shown = [{name: D(value) for name, value in balance(fhir, each).items()} for each in bills]
    assert sum(each["paid"] for each in shown) == moved >= 0
    assert all(each["paid"] >= 0 for each in shown)
    assert sum(each["due"] for each in shown) == D("150.06") + rounded - moved - credited
    sums = account(ann, patient, currency)
    assert D(sums.get("credit", 0)) == sum((max(min(-each["due"], each["paid"]), D(0)) for each in shown), D(0))
    store = fhir.app.extensions["store"]
    with psycopg.connect(store.url) as connection:
        row = connection.execute(
            "SELECT sum(amount) FILTER (WHERE kind IN ('payment', 'refund')), sum(amount) FILTER (WHERE kind = 'rounding') FROM ledger_entry"
            " WHERE invoice = ANY(%s)",
            (bills,),
        ).fetchone()
    assert row is not None
    assert (row[0] or 0, row[1] or 0) == (-moved, rounded)
