"""Cash in drawers: what should be there is what was paid, nothing comes in after it was counted, and what was counted stays so."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from fhir_server import fhirjson
from fhir_server.clinic.billing.payments.rules import rules_of, set_rules
from fhir_server.outcome import Outcome
from fhir_server.store import Store
from tests.clinic.billing.world import Json, ask, balance, desk, issued, person, template
from tests.interactions.conftest import Fhir, issues

D = Decimal


@pytest.fixture
def place(fhir: Fhir) -> str:
    identity: str = fhir.post("Location", {"resourceType": "Location", "name": "Front desk"})["id"]
    return identity


def store_of(fhir: Fhir) -> Store:
    found: Store = fhir.app.extensions["store"]
    return found


def told(caller: Fhir, method: str, path: str, body: Any = None, status: int = 200) -> dict[str, Any]:
    """What a report says by name, amounts with their digits; totals by method and user."""
    answer = caller(method, path, body)
    assert answer.status_code == status, answer.text
    found: dict[str, Any] = {"total": {}}
    for each in fhirjson.loads(answer.data)["parameter"]:
        if each["name"] == "total":
            parts = {part["name"]: value(part) for part in each["part"]}
            found["total"][parts["method"], parts["user"]] = (parts["payments"], parts["taken"], parts["given"])
        else:
            found[each["name"]] = value(each)
    return found


def value(part: Json) -> Any:
    found = next(each for name, each in part.items() if name.startswith("value"))
    return str(found["value"]) if isinstance(found, dict) and "value" in found else found


def opened(fhir: Fhir, place: str, user: str, amount: str = "100.00") -> Fhir:
    who = desk(fhir, user)
    who.post(f"Location/{place}/$open-shift", ask(float=D(amount)))
    return who


def bill(fhir: Fhir, amount: str = "50", currency: str = "EUR") -> str:
    identity: str = issued(fhir, person(fhir), template(amount, currency, tax=None))["id"]
    return identity


def test_a_shift_adds_up_by_method_and_user(fhir: Fhir, place: str) -> None:
    ann, bob = opened(fhir, place, "ann-1"), desk(fhir, "bob-1")
    one, two = bill(fhir), bill(fhir)
    ann.post(f"Invoice/{one}/$pay", ask(method="cash", amount=D(30), tendered=D(50)), 200)
    bob.post(f"Invoice/{one}/$pay", ask(method="cash", location=f"Location/{place}"), 200)
    ann.post(f"Invoice/{two}/$pay", ask(method="card"), 200)
    bob.post(f"Invoice/{one}/$refund", ask(amount=D("5.00"), reason="x"), 202)
    ann.post(f"Invoice/{one}/$approve-refund", None, 200)
    seen = told(bob, "GET", f"Location/{place}/$shift-report")
    assert (seen["state"], seen["opened-by"], seen["float"], seen["cash-in"], seen["cash-out"], seen["expected"]) == (
        *("open", "ann-1", "100.00", "50.00", "5.00", "145.00"),
    )
    assert "should be 145.00 EUR" in issues(ann.post(f"Location/{place}/$close-shift", ask(counted=D("140.00")), 422))
    closed = told(bob, "POST", f"Location/{place}/$close-shift", ask(counted=D("140.00"), reason="a coin fell"))
    assert (closed["state"], closed["closed-by"], closed["counted"], closed["difference"], closed["reason"]) == (
        *("closed", "bob-1", "140.00", "-5.00", "a coin fell"),
    )
    assert closed["total"] == {
        ("cash", "ann-1"): (2, "30.00", "5.00"),
        ("cash", "bob-1"): (1, "20.00", "0.00"),
        ("card", "ann-1"): (1, "50.00", "0.00"),
    }
    assert told(ann, "GET", f"Location/{place}/$shift-report?shift={closed['shift']}") == closed


def test_there_is_one_shift_of_a_place_and_one_of_a_person(fhir: Fhir, place: str) -> None:
    other: str = fhir.post("Location", {"resourceType": "Location"})["id"]
    ann = opened(fhir, place, "ann-2")
    assert "open already, of ann-2" in issues(desk(fhir, "bob-2").post(f"Location/{place}/$open-shift", ask(float=D(0)), 409))
    ann.post(f"Location/{other}/$open-shift", ask(float=D(0)), 409)
    told(ann, "POST", f"Location/{place}/$close-shift", ask(counted=D("100.00")))
    ann.post(f"Location/{place}/$close-shift", ask(counted=D("100.00")), 404)
    ann.post(f"Location/{other}/$open-shift", ask(float=D(0)))
    assert "No shift is open" in issues(ann.post(f"Invoice/{bill(fhir)}/$pay", ask(method="cash", location=f"Location/{place}"), 422))
    francs = bill(fhir, "20", "CHF")
    assert "drawer is in EUR" in issues(ann.post(f"Invoice/{francs}/$pay", ask(method="cash"), 422))
    ann.post(f"Invoice/{francs}/$pay", ask(method="card"), 200)


@pytest.mark.parametrize(
    ("float_", "status"),
    [(D("-1"), 400), (D("0.001"), 400), (D("1E+90"), 422), (D("1E-90"), 400), ({"value": 1, "currency": "euro"}, 422), (D(0), 201)],
)
def test_a_float_is_an_amount_of_coins(fhir: Fhir, place: str, float_: Any, status: int) -> None:
    desk(fhir, f"float {float_}").post(f"Location/{place}/$open-shift", ask(float=float_), status)


def test_shifts_are_for_the_desk(fhir: Fhir, place: str) -> None:
    for caller in (desk(fhir, role="doctor"), desk(fhir, role="patient", patient=person(fhir))):
        assert caller("POST", f"Location/{place}/$open-shift", ask(float=D(0))).status_code == 403
        assert caller("GET", f"Location/{place}/$shift-report").status_code == 403
    desk(fhir).get(f"Location/{place}/$shift-report", 404)
    desk(fhir).post("Location/nowhere/$open-shift", ask(float=D(0)), 404)


def test_of_many_who_open_or_close_at_once_one_does(fhir: Fhir, place: str) -> None:
    def go(n: int) -> int:
        return desk(fhir, f"racer {n}")("POST", f"Location/{place}/$open-shift", ask(float=D(n))).status_code

    def end(n: int) -> int:
        return desk(fhir, f"racer {n}")("POST", f"Location/{place}/$close-shift", ask(counted=D(n), reason="race")).status_code

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(go, range(6))) == [201, *[409] * 5]
        assert sorted(pool.map(end, range(6))) == [200, *[404] * 5]


def test_nothing_comes_into_a_drawer_after_it_was_counted(fhir: Fhir) -> None:
    chance = random.Random(3)
    for n in range(3):
        place: str = fhir.post("Location", {"resourceType": "Location"})["id"]
        ann = opened(fhir, place, f"ann-race-{n}", "0")
        bills = [bill(fhir, "10") for _ in range(6)]

        def go(invoice: str, who: Fhir = ann) -> int:
            return who("POST", f"Invoice/{invoice}/$pay", ask(method="cash")).status_code

        def end(who: Fhir = ann, where: str = place) -> dict[str, Any]:
            return told(who, "POST", f"Location/{where}/$close-shift", ask(counted=D(0), reason="race"))

        work = [lambda each=each: go(each) for each in bills] + [end]
        chance.shuffle(work)
        with ThreadPoolExecutor(7) as pool:
            done = list(pool.map(lambda each: each(), work))
        (closed,) = [each for each in done if isinstance(each, dict)]
        assert [each for each in done if each is not closed] == [200] * 6
        with psycopg.connect(store_of(fhir).url) as connection:
            row = connection.execute("SELECT coalesce(sum(amount), 0) FROM payment WHERE shift = %s", (closed["shift"],)).fetchone()
        assert row == (D(closed["expected"]),)
        assert told(ann, "GET", f"Location/{place}/$shift-report")["expected"] == closed["expected"]


@pytest.fixture
def decided(fhir: Fhir) -> Iterator[Callable[..., None]]:
    store = store_of(fhir)

    def decide(**changes: Any) -> None:
        with store.database.connection() as connection, connection.transaction():
            set_rules(store, connection, changes, "admin")

    yield decide
    decide(coins={}, shift_required=False)


def test_a_clinic_may_want_cash_in_shifts_alone(fhir: Fhir, place: str, decided: Callable[..., None]) -> None:
    decided(shift_required=True)
    invoice, ann = bill(fhir), desk(fhir, "ann-3")
    assert "$open-shift" in issues(ann.post(f"Invoice/{invoice}/$pay", ask(method="cash", amount=D(10)), 422))
    ann.post(f"Invoice/{invoice}/$pay", ask(method="card", amount=D(10)), 200)
    opened(fhir, place, "ann-3")
    ann.post(f"Invoice/{invoice}/$pay", ask(method="cash"), 200)
    assert balance(fhir, invoice)["due"] == "0.00"


def test_cash_is_rounded_to_coins_as_a_line_of_its_own(fhir: Fhir, place: str) -> None:
    invoice = bill(fhir, "12.33", "CHF")
    before = fhir.get(f"Invoice/{invoice}")["lineItem"]
    who = desk(fhir, "ann-4")
    who.post(f"Location/{place}/$open-shift", ask(float={"value": D("20.00"), "currency": "CHF"}))
    paid = who.post(f"Invoice/{invoice}/$pay", ask(method="cash", tendered={"value": 20, "currency": "CHF"}), 200)
    assert [(each["type"]["coding"][0]["code"], each["amount"]["value"]) for each in paid["detail"]] == [("payment", 12.33), ("rounding", 0.02)]
    assert paid["paymentAmount"]["value"] == 12.35
    (tendered,) = [each for each in paid["extension"] if each["url"].endswith("payment-tendered")]
    assert {part["url"]: part["valueMoney"]["value"] for part in tendered["extension"]} == {"given": 20.0, "change": 7.65}
    assert balance(fhir, invoice) == {"paid": "12.35", "credited": "0.00", "due": "0.00"}
    after = fhir.get(f"Invoice/{invoice}")
    assert (after["status"], after["lineItem"]) == ("balanced", before)
    assert told(who, "GET", f"Location/{place}/$shift-report")["expected"] == "32.35"
    who.post(f"Invoice/{invoice}/$credit", ask(reason="never happened"))
    who.post(f"Invoice/{invoice}/$refund", ask(amount={"value": D("12.33"), "currency": "CHF"}, reason="x"), 202)
    other = desk(fhir, "bob-4")
    location = f"Location/{place}"
    assert "no coins" in issues(other.post(f"Invoice/{invoice}/$approve-refund", ask(location=location), 422))
    # By transfer what is due goes back, and what was rounded stays; all of it takes the rounding back with it.
    given = other.post(f"Invoice/{invoice}/$approve-refund", ask(method="transfer"), 200)
    assert given["paymentAmount"]["value"] == -12.33
    assert balance(fhir, invoice) == {"paid": "0.02", "credited": "12.33", "due": "0.00"}


def test_the_rounding_goes_back_with_the_last_of_what_was_paid(fhir: Fhir) -> None:
    invoice = bill(fhir, "12.32", "CHF")
    ann, bob = desk(fhir, "ann-5"), desk(fhir, "bob-5")
    ann.post(f"Invoice/{invoice}/$pay", ask(method="cash"), 200)
    assert balance(fhir, invoice) == {"paid": "12.30", "credited": "0.00", "due": "0.00"}
    ann.post(f"Invoice/{invoice}/$credit", ask(reason="never happened"))
    ann.post(f"Invoice/{invoice}/$refund", ask(reason="never happened"), 202)
    given = bob.post(f"Invoice/{invoice}/$approve-refund", None, 200)
    assert (given["paymentAmount"]["value"], given["formCode"]["text"]) == (-12.3, "cash")
    assert balance(fhir, invoice) == {"paid": "0.00", "credited": "12.32", "due": "0.00"}
    assert fhir.get(f"Invoice/{invoice}")["status"] == "cancelled"


def test_a_clinic_decides_about_its_coins(fhir: Fhir, decided: Callable[..., None]) -> None:
    decided(coins={"EUR": "0.05", "CHF": "0"})
    euros, francs = bill(fhir, "9.98"), bill(fhir, "9.98", "CHF")
    for invoice in (euros, francs):
        desk(fhir).post(f"Invoice/{invoice}/$pay", ask(method="cash"), 200)
    assert (balance(fhir, euros)["paid"], balance(fhir, francs)["paid"]) == ("10.00", "9.98")


@pytest.mark.parametrize("coins", [{"EUR": "a lot"}, {"EUR": "-1"}, {"EUR": "0.001"}, {"euro": "1"}, {"EUR": "NaN"}, {"JPY": "0.5"}])
def test_coins_that_there_are_not_are_refused(fhir: Fhir, coins: dict[str, str]) -> None:
    store = store_of(fhir)
    with store.database.connection() as connection, connection.transaction():
        before = rules_of(store, connection)
        with pytest.raises(Outcome):
            set_rules(store, connection, {"coins": coins}, "admin")
        assert rules_of(store, connection) == before
