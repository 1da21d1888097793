"""Payments online through a real stand-in of the gateway: begun once, booked once, and never guessed."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import pytest

from fhir_server.web.forms import TOKEN
from tests.clinic.billing.gateway.stand_in import Clinic, clinic, succeeded
from tests.clinic.billing.world import ask, desk, drafted, issued, number, person, template
from tests.interactions.conftest import issues

D = Decimal
# Begins a payment, and dies when the gateway has answered, before anything is written down of it.
DYING = """
import os, signal, sys
from pathlib import Path
from zoneinfo import ZoneInfo
from fhir_server.clinic.acting import Act
from fhir_server.clinic.billing.gateway import Online
from fhir_server.search import SYSTEM
from fhir_server.settings import Settings
from fhir_server.store import Store
url, base, invoice = sys.argv[1:]
store = Store(url, zone=ZoneInfo("UTC"), connections=2)
online = Online(store, Settings(data=Path("."), jwt_secret="x" * 32, payment_api_key="sk_test_stand_in", payment_api_base=base))
begin = online.gateway.begin
def die(order):
    begin(order)
    os.kill(os.getpid(), signal.SIGKILL)
online.gateway.begin = die
online.begin(Act("pay", SYSTEM), invoice, None, None, "http://localhost")
"""


def test_a_patient_pays_their_own_invoice_online(here: Clinic) -> None:
    whose, other = person(here.fhir), person(here.fhir)
    invoice = issued(here.fhir, whose)
    caller = desk(here.fhir, "pat", "patient", whose)
    begun = here.begin(invoice, caller)
    assert begun["amount"] == {"value": 120.0, "currency": "EUR"}
    here.stripe.pay(begun["reference"])
    assert here.tell(succeeded(begun["reference"])).status_code == 200
    assert here.ledger(invoice) == [("payment", "-120.00")]
    assert here.fhir.get(f"Invoice/{invoice['id']}")["status"] == "balanced"
    here.begin(invoice, desk(here.fhir, "eve", "patient", other), 404)
    assert "Nothing is due" in issues(here.begin(invoice, caller, 422))


def test_only_the_patient_and_the_desk_begin_payments_and_only_of_what_is_due(here: Clinic) -> None:
    invoice = issued(here.fhir, person(here.fhir))
    path = f"Invoice/{invoice['id']}/$pay"
    assert desk(here.fhir, role="doctor")("POST", path, ask(method="gateway")).status_code == 403
    for given in ({"amount": D("120.01")}, {"amount": D(0)}, {"amount": D("1.001")}, {"amount": {"value": 10, "currency": "USD"}}):
        here.begin(invoice, status=422, **given)
    here.begin(invoice, status=400, tendered=D(200))
    here.begin(drafted(here.fhir), status=422)


def test_an_open_payment_is_given_again_and_one_of_another_amount_ends_the_first(here: Clinic) -> None:
    invoice = issued(here.fhir)
    first, again = here.begin(invoice), here.begin(invoice)
    assert first == again
    other = here.begin(invoice, amount=D("50.00"))
    assert (here.state(first["id"]), here.stripe("GET", f"payment_intents/{first['reference']}")["status"]) == ("cancelled", "canceled")
    here.stripe.pay(other["reference"])
    # The next one finds out that it was paid, though no event has come.
    rest = here.begin(invoice)
    assert (rest["amount"]["value"], here.ledger(invoice)) == (70.0, [("payment", "-50.00")])


def test_one_that_was_paid_meanwhile_is_booked_and_no_other_begun(here: Clinic) -> None:
    invoice = issued(here.fhir)
    first = here.begin(invoice)
    here.stripe.pay(first["reference"])
    assert "Nothing is due" in issues(here.begin(invoice, status=422))
    assert (here.ledger(invoice), len(here.stripe.intents(first["id"]))) == ([("payment", "-120.00")], 1)


def test_a_key_gives_the_same_payment_again(here: Clinic) -> None:
    invoice = issued(here.fhir)
    key = {"Idempotency-Key": f"pay {invoice['id']}"}
    answers = [desk(here.fhir)("POST", f"Invoice/{invoice['id']}/$pay", ask(method="gateway"), headers=key) for _ in range(2)]
    assert [each.status_code for each in answers] == [200, 200]
    assert answers[0].data == answers[1].data
    assert answers[1].headers["Idempotency-Replayed"] == "true"


def test_of_many_who_begin_at_once_all_get_the_same_payment(here: Clinic) -> None:
    invoice = issued(here.fhir)
    with ThreadPoolExecutor(6) as pool:
        path = f"Invoice/{invoice['id']}/$pay"
        answers = list(pool.map(lambda n: desk(here.fhir, f"desk {n}")("POST", path, ask(method="gateway")).status_code, range(6)))
    assert 200 in answers
    assert set(answers) <= {200, 409}
    begun = here.begin(invoice)
    assert len(here.stripe.intents(begun["id"])) == 1


@pytest.mark.parametrize("when", ["after", "before"])
def test_no_answer_leaves_a_payment_unknown_until_it_is_asked_for(here: Clinic, when: str) -> None:
    invoice = issued(here.fhir)
    # Once more than the library tries.
    here.stripe.swallow(**{when: 3})
    answer = desk(here.fhir)("POST", f"Invoice/{invoice['id']}/$pay", ask(method="gateway"))
    here.stripe.swallow()
    assert (answer.status_code, "Retry-After" in answer.headers) == (503, True)
    with here.store.database.connection() as connection:
        ((identity, state),) = connection.execute("SELECT id, state FROM payment_intent WHERE invoice = %s", (invoice["id"],)).fetchall()
    assert state == "unknown"
    there = {each["id"] for each in here.stripe.intents(identity)}
    begun = here.begin(invoice)
    assert begun["id"] == identity
    assert there == set() or begun["reference"] in there
    here.stripe.pay(begun["reference"])
    here.tell(succeeded(begun["reference"]))
    assert here.ledger(invoice) == [("payment", "-120.00")]


def test_a_process_that_dies_at_the_call_leaves_nothing_charged_twice(here: Clinic) -> None:
    invoice = issued(here.fhir)
    process = subprocess.run([sys.executable, "-c", DYING, here.store.url, here.stripe.base, str(invoice["id"])], check=False, capture_output=True)
    assert process.returncode == -signal.SIGKILL, process.stderr
    with here.store.database.connection() as connection:
        ((identity, state),) = connection.execute("SELECT id, state FROM payment_intent WHERE invoice = %s", (invoice["id"],)).fetchall()
    (there,) = here.stripe.intents(identity)
    assert state == "created"
    # Somebody has paid it, which nobody here has heard of.
    here.stripe.pay(there["id"])
    here.age(120)
    assert here.online.settle() >= 1
    assert (here.state(identity), here.ledger(invoice), len(here.stripe.intents(identity))) == ("succeeded", [("payment", "-120.00")], 1)


def test_what_was_paid_at_the_desk_is_not_to_be_paid_online_any_more(here: Clinic) -> None:
    invoice = issued(here.fhir)
    begun = here.begin(invoice)
    desk(here.fhir).post(f"Invoice/{invoice['id']}/$pay", ask(method="card"), 200)
    here.age(600)
    here.online.settle()
    assert here.state(begun["id"]) == "cancelled"
    assert "nicht mehr" in here.page(begun["url"], "de-AT,de;q=0.9").text


@pytest.mark.parametrize(("amount", "currency", "minor"), [("1500", "JPY", 1500), ("12.340", "KWD", 12340), ("7", "ISK", 700), ("5", "UGX", 500)])
def test_amounts_are_in_the_units_of_the_gateway(here: Clinic, amount: str, currency: str, minor: int) -> None:
    invoice = issued(here.fhir, None, template(amount, currency, tax=None))
    begun = here.begin(invoice)
    assert here.stripe("GET", f"payment_intents/{begun['reference']}")["amount"] == minor
    here.tell(succeeded(begun["reference"], minor, currency.lower()))
    assert here.ledger(invoice) == [("payment", f"-{amount}")]


@pytest.mark.parametrize(("amount", "currency"), [("12.345", "KWD"), ("10.5", "MGA"), ("3", "UYW")])
def test_amounts_that_the_gateway_cannot_count_are_for_the_desk(here: Clinic, amount: str, currency: str) -> None:
    invoice = issued(here.fhir, None, template(amount, currency, tax=None))
    assert "The gateway takes" in issues(here.begin(invoice, status=422))
    with here.store.database.connection() as connection:
        assert connection.execute("SELECT FROM payment_intent WHERE invoice = %s", (invoice["id"],)).fetchone() is None


def test_no_more_are_begun_than_somebody_could_mean(here: Clinic) -> None:
    invoice = issued(here.fhir)
    with here.store.database.connection() as connection:
        connection.execute(
            "INSERT INTO payment_intent (id, invoice, gateway, amount, currency, state, key, token, back, title, asked, asked_by, changed)"
            " SELECT %(i)s || n, %(i)s, 'stripe', 1, 'EUR', 'cancelled', 'k', %(i)s || n, '', '', now(), '', now() FROM generate_series(1, 20) n",
            {"i": invoice["id"]},
        )
    here.begin(invoice, status=429)


def test_a_key_that_the_gateway_does_not_accept_begins_nothing_and_is_told_nobody(here: Clinic, tmp_path: Path) -> None:
    other = clinic(here.store.url, tmp_path, here.stripe, payment_api_key="a secret that is no key")
    try:
        invoice = issued(here.fhir)
        answer = desk(other.fhir)("POST", f"Invoice/{invoice['id']}/$pay", ask(method="gateway"))
        assert (answer.status_code, b"a secret" in answer.data) == (503, False)
        assert "a secret" not in repr((other.settings, other.online, other.online.gateway, vars(other.online)))
    finally:
        other.fhir.close()


def test_the_page_says_what_is_to_be_paid_and_when_it_is_paid(here: Clinic) -> None:
    invoice = issued(here.fhir)
    begun = here.begin(invoice)
    page = here.page(begun["url"])
    policy = page.headers["Content-Security-Policy"]
    assert f"script-src 'self' {here.stripe.base}; connect-src {here.stripe.base}" in policy
    assert ("€120.00" in page.text, number(invoice) in page.text, '<html lang="en">' in page.text) == (True, True, True)
    assert "120,00\xa0€" in here.page(begun["url"], "de").text
    here.stripe.pay(begun["reference"])
    paid = here.page(begun["url"])
    assert ("It is paid" in paid.text, "<script" in paid.text, here.ledger(invoice)) == (True, False, [("payment", "-120.00")])
    assert here.page("/pay/nobody").status_code == 404


def test_whoever_has_an_invoice_on_paper_may_pay_it_by_its_code(here: Clinic) -> None:
    invoice = issued(here.fhir)
    assert here.fhir("GET", f"Invoice/{invoice['id']}/$document").status_code == 200
    (paper,) = (each["resource"] for each in here.fhir.get(f"DocumentReference?related=Invoice/{invoice['id']}")["entry"])
    path = f"/paper/{paper['identifier'][0]['value']}"
    browser = here.fhir.app.test_client()
    page = browser.get(path)
    (token,) = re.findall(f'name="{TOKEN}" value="([^"]+)"', page.text)
    assert here.fhir.app.test_client().post(path, data={TOKEN: token}).status_code == 403
    first, again = (browser.post(path, data={TOKEN: token}) for _ in range(2))
    assert first.status_code == 303
    assert first.headers["Location"] == again.headers["Location"]
    assert "120.00" in browser.get(first.headers["Location"]).text
    with here.store.database.connection() as connection:
        ((begun,),) = connection.execute("SELECT reference FROM payment_intent WHERE invoice = %s", (invoice["id"],)).fetchall()
    here.stripe.pay(begun)
    assert "It is paid" in browser.get(first.headers["Location"]).text
    assert here.ledger(invoice) == [("payment", "-120.00")]
    page = browser.get(path)
    assert TOKEN not in page.text
    assert browser.post(path, data={TOKEN: token}).status_code == 422
