"""What an administrator sees of payments online, and does about what does not fit."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import Any

import pytest

from fhir_server.access import issue
from fhir_server.clinic.billing.gateway import comparing, events, gateway_of
from tests.clinic.billing.gateway.stand_in import Clinic, disputed, refunded, succeeded
from tests.clinic.billing.world import Json, balance, issued
from tests.interactions.conftest import SECRET, ZONE, unique


def office(here: Clinic, method: str, path: str, status: int = 200, body: Any = None) -> Any:
    token = issue(SECRET, role="admin", user="root", patient=None, scope=None, ttl=600, now=time.time())
    given = {"json": body} if body is not None else {}
    client = here.fhir.app.test_client(use_cookies=False)
    answer = client.open(f"/admin/api/v1/payments/{path}", method=method, headers={"Authorization": f"Bearer {token}"}, **given)
    assert answer.status_code == status, answer.text
    return answer.json


def waiting(here: Clinic, reference: str) -> Json:
    (found,) = [each for each in office(here, "GET", "events?state=parked&limit=200")["items"] if each["reference"] == reference]
    return dict(found)


def test_a_payment_that_nobody_began_is_booked_where_an_administrator_says(here: Clinic) -> None:
    invoice, reference = issued(here.fhir), unique("pi")
    here.tell(succeeded(reference, 5000))
    waits = waiting(here, reference)
    assert "payment_intent.succeeded" in office(here, "GET", f"events/{waits['number']}")["body"]
    assert office(here, "POST", f"events/{waits['number']}/replay")["reason"] == "unmatched"
    office(here, "POST", f"events/{waits['number']}/assign", 422, {"invoice": "nobody"})
    done = office(here, "POST", f"events/{waits['number']}/assign", 200, {"invoice": invoice["id"]})
    assert (done["state"], done["settled_by"]) == ("applied", "token root")
    office(here, "POST", f"events/{waits['number']}/assign", 422, {"invoice": invoice["id"]})
    # Others that tell of it find it now.
    here.tell(refunded(reference, 1000, 5000))
    assert here.ledger(invoice) == [("payment", "-50.00"), ("refund", "10.00")]
    assert office(here, "GET", f"events/{waits['number']}")["body"] is None


def test_another_amount_is_booked_as_it_was_paid(here: Clinic) -> None:
    invoice = issued(here.fhir)
    begun = here.begin(invoice)
    here.tell(succeeded(begun["reference"], 11000))
    waits = waiting(here, begun["reference"])
    assert office(here, "POST", f"events/{waits['number']}/replay")["state"] == "parked"
    office(here, "POST", f"events/{waits['number']}/assign", 422, {"invoice": issued(here.fhir)["id"]})
    assert office(here, "POST", f"events/{waits['number']}/assign", 200, {"invoice": invoice["id"]})["payment"] == begun["id"]
    assert balance(here.fhir, invoice)["due"] == "10.00"


def test_what_came_too_early_is_tried_again_when_its_payment_is_known(here: Clinic) -> None:
    invoice = issued(here.fhir)
    begun = here.begin(invoice)
    # As with a page of the gateway's, whose payment has no number before somebody pays.
    with here.store.database.connection() as connection:
        connection.execute("UPDATE payment_intent SET reference = NULL, session = %s WHERE id = %s", (f"cs-{begun['id']}", begun["id"]))
    here.tell(refunded(begun["reference"], 12000))
    assert waiting(here, begun["reference"])["reason"] == "unmatched"
    first = succeeded(begun["reference"])
    first["data"]["object"]["metadata"] = {"clinic_payment": begun["id"]}
    here.tell(first)
    assert here.ledger(invoice) == [("payment", "-120.00"), ("refund", "120.00")]


def test_payments_are_listed_and_those_that_are_disputed_found(here: Clinic) -> None:
    invoice = issued(here.fhir)
    begun = here.begin(invoice)
    here.tell(succeeded(begun["reference"]))
    here.tell(disputed(begun["reference"]))
    (found,) = office(here, "GET", f"intents?invoice={invoice['id']}&disputed=true&state=succeeded")["items"]
    assert (found["id"], found["received"], found["refunded"], found["dispute"][-10:]) == (begun["id"], "120.00", "0", "fraudulent")
    assert office(here, "GET", f"intents?invoice={invoice['id']}&disputed=false")["items"] == []
    assert here.fhir.get(f"Invoice/{invoice['id']}")["status"] == "balanced"
    page = office(here, "GET", "intents?limit=1")
    assert office(here, "GET", page["next"].partition("/payments/")[2])["items"][0]["id"] != page["items"][0]["id"]


def test_a_day_is_compared_with_the_gateways_list(here: Clinic) -> None:
    today = datetime.now(ZONE).date()
    missed, there, only = issued(here.fhir), issued(here.fhir), issued(here.fhir)
    begun = here.begin(missed)
    here.stripe.pay(begun["reference"])
    fine = here.begin(there)
    here.stripe.pay(fine["reference"])
    here.tell(succeeded(fine["reference"]))
    here.stripe("POST", "refunds", payment_intent=fine["reference"], amount=700)
    lost = here.begin(only)
    here.tell(succeeded(lost["reference"]))
    stranger = here.stripe("POST", "payment_intents", amount=900, currency="eur")["id"]
    here.stripe.pay(stranger)
    made = office(here, "POST", "reconciliations", 200, {"day": today.isoformat()})
    found = office(here, "GET", f"reconciliations/{today}")
    assert found | {"items": None} == made | {"items": None}
    of = {
        each["reference"]: each
        for each in found["items"]
        if each["reference"] in {begun["reference"], fine["reference"], lost["reference"], stranger}
    }
    assert {name: (each["kind"], each["ours"], each["theirs"]) for name, each in of.items()} == {
        begun["reference"]: ("state", None, "120.00"),
        fine["reference"]: ("refunded", "0", "7.00"),
        lost["reference"]: ("state", "120.00", None),
        stranger: ("unknown-here", None, "9.00"),
    }
    assert office(here, "GET", "reconciliations")["items"][0]["day"] == today.isoformat()
    office(here, "POST", "reconciliations", 422, {"day": (today + timedelta(days=2)).isoformat()})


def test_each_night_the_days_that_are_over_are_compared_once(here: Clinic) -> None:
    gateway = gateway_of(here.settings)
    assert gateway is not None
    comparing.compare_due(here.store, gateway)
    with here.store.database.connection() as connection:
        before = comparing.days(connection, datetime.now(ZONE).date(), 10)
    assert len(before) == 7
    comparing.compare_due(here.store, gateway)
    events.forget(here.store)
    with here.store.database.connection() as connection:
        assert comparing.days(connection, datetime.now(ZONE).date(), 10) == before


MISSING = ("GET events/x", "GET events/999999999", "GET reconciliations/today", "GET reconciliations/2001-01-01", "POST events/999999999/replay")


@pytest.mark.parametrize("asked", MISSING)
def test_what_is_not_there_is_not_found(here: Clinic, asked: str) -> None:
    method, _, path = asked.partition(" ")
    office(here, method, path, 404)
