"""The gateway's webhook: signed, each event once, in any order, and nothing that does not fit is guessed at."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fhir_server.clinic.billing.gateway import events
from tests.clinic.billing.gateway.stand_in import (
    HOOK,
    WEBHOOK_SECRET,
    Clinic,
    clinic,
    completed,
    disputed,
    event,
    refunded,
    serving,
    signature,
    succeeded,
)
from tests.clinic.billing.world import Json, balance, desk, issued
from tests.interactions.conftest import unique


def parked(here: Clinic, reference: str) -> list[events.Kept]:
    with here.store.database.connection() as connection:
        return [each for each in events.page(connection, "parked", None, 500) if each.reference == reference]


def status_of(here: Clinic, invoice: Json) -> str:
    return str(here.fhir.get(f"Invoice/{invoice['id']}")["status"])


@pytest.fixture(scope="module")
def begun(here: Clinic) -> tuple[Json, str]:
    """An invoice with a payment that nobody pays."""
    invoice = issued(here.fhir)
    return invoice, str(here.begin(invoice)["reference"])


def signed_by(raw: bytes, **how: object) -> str:
    return signature(raw, **how)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "header",
    [
        lambda _: "",
        lambda raw: signed_by(raw, secret="whsec_another"),
        lambda raw: signed_by(raw, at=time.time() - 301),
        lambda raw: signed_by(raw, at=time.time() + 301),
        lambda raw: signed_by(raw + b" "),
        lambda raw: signed_by(raw).replace("v1=", "v0="),
        lambda raw: signed_by(raw).replace("t=", "t=1"),
        lambda raw: f"{signed_by(raw)},t=17",
        lambda raw: signed_by(raw).replace("v1=", "v1=\u00e4"),
        lambda _: "t=1,v1=" + "0" * 10_000,
        lambda _: "v1",
        lambda _: ",,,===",
    ],
)
def test_what_the_gateway_has_not_signed_is_refused(here: Clinic, begun: tuple[Json, str], header: object) -> None:
    raw = json.dumps(succeeded(begun[1])).encode()
    given = header(raw)  # type: ignore[operator]
    answer = here.fhir.app.test_client(use_cookies=False).post(HOOK, data=raw, headers={"Stripe-Signature": given})
    assert (answer.status_code, here.ledger(begun[0])) == (400, [])


def test_any_of_several_signatures_may_be_that_of_the_secret(here: Clinic) -> None:
    raw = json.dumps(event("customer.created", {"id": "cus_1"})).encode()
    stamp, _, made = signature(raw).partition(",")
    answer = here.fhir.app.test_client(use_cookies=False).post(HOOK, data=raw, headers={"Stripe-Signature": f"{stamp},v1={'0' * 64},{made},v0=x"})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b"\xff\xfe",
        b"[" * 50_000,
        b'{"id":"evt_1","type":"payment_intent.succeeded"}',
        b'{"id":"evt\\u0000","type":"payment_intent.succeeded","data":{"object":{}}}',
        b'{"id":"evt_2","type":"payment_intent.succeeded","data":{"object":{}}}',
        b'{"id":"evt_3","type":"payment_intent.succeeded","data":{"object":{"id":"pi_1","amount":1.5,"currency":"eur"}}}',
        b'{"id":"evt_4","type":"payment_intent.succeeded","data":{"object":{"id":"pi_1","amount":10,"currency":"euros"}}}',
        b'{"id":"evt_5","type":"charge.refunded","data":{"object":{"id":"ch_1","amount":10,"currency":"eur","amount_refunded":"all"}}}',
        b'{"id":"evt_6","type":"charge.refunded","data":{"object":{"id":"ch_1","amount":10,"currency":["eur"],"amount_refunded":1}}}',
        b'{"id":"evt_7","type":"checkout.session.completed","data":{"object":[]}}',
        b'{"id":7,"type":"charge.dispute.created","data":{"object":{"id":"dp_1"}}}',
    ],
)
def test_what_is_no_event_is_refused_though_it_is_signed(here: Clinic, raw: bytes) -> None:
    answer = here.fhir.app.test_client(use_cookies=False).post(HOOK, data=raw, headers={"Stripe-Signature": signature(raw)} if raw else {})
    assert answer.status_code == 400


def test_a_body_is_bounded(here: Clinic) -> None:
    raw = b'"' + b"x" * events.MAX_BODY + b'"'
    answer = here.fhir.app.test_client(use_cookies=False).post(HOOK, data=raw, headers={"Stripe-Signature": signature(raw)})
    assert answer.status_code == 413


def test_events_that_matter_to_nobody_are_taken_and_done_with(here: Clinic) -> None:
    told = event("customer.created", {"id": "cus_1"})
    assert [here.tell(told).status_code for _ in range(3)] == [200, 200, 200]


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_events_thrice_in_any_order_come_to_the_same_ledger(here: Clinic, data: st.DataObject) -> None:
    invoice = issued(here.fhir)
    reference = here.begin(invoice)["reference"]
    told = [succeeded(reference), completed(reference), refunded(reference, 2000), refunded(reference, 5000), disputed(reference)]
    for each in data.draw(st.permutations(told * 3)):
        assert here.tell(each).status_code == 200
    entries = here.ledger(invoice)
    assert [entry for entry in entries if entry[0] == "payment"] == [("payment", "-120.00")]
    assert sum(float(amount) for kind, amount in entries if kind == "refund") == 50
    assert (balance(here.fhir, invoice), status_of(here, invoice)) == ({"paid": "70.00", "credited": "0.00", "due": "50.00"}, "issued")
    assert parked(here, reference) == []
    found = here.receipts(invoice)
    assert sum(each["paymentAmount"]["value"] for each in found) == 70
    assert {each["paymentIdentifier"]["value"] for each in found} == {reference}


def test_a_payment_is_booked_once_however_many_events_tell_of_it_at_once(here: Clinic) -> None:
    invoice = issued(here.fhir)
    begun = here.begin(invoice)
    here.stripe.pay(begun["reference"])
    same = succeeded(begun["reference"])
    told = [same, same, same, succeeded(begun["reference"]), completed(begun["reference"])]

    def poll(_: int) -> int:
        return here.page(begun["url"]).status_code

    with ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(poll, n) for n in range(3)]
        answers = list(pool.map(lambda each: here.tell(each).status_code, told))
        assert {each.result() for each in asked} == {200}
    # What finds the others in its way for too long is sent again by the gateway.
    assert set(answers) <= {200, 409}
    assert [here.tell(each).status_code for each in told] == [200] * 5
    assert here.ledger(invoice) == [("payment", "-120.00")]


@pytest.mark.parametrize("told", [{"amount": 11999}, {"currency": "usd"}])
def test_another_amount_or_currency_waits_for_somebody_to_look_at_it(here: Clinic, told: Json) -> None:
    invoice = issued(here.fhir)
    begun = here.begin(invoice)
    assert here.tell(succeeded(begun["reference"], **told)).status_code == 200
    assert (here.ledger(invoice), here.state(begun["id"])) == ([], "requires_action")
    (waits,) = parked(here, begun["reference"])
    assert "were paid in place of 120.00 EUR" in str(waits.reason)


def test_what_nobody_has_begun_here_waits_too(here: Clinic) -> None:
    reference = unique("pi")
    assert here.tell(succeeded(reference)).status_code == 200
    (waits,) = parked(here, reference)
    assert (waits.reason, json.loads(str(waits.body))["type"]) == ("unmatched", "payment_intent.succeeded")


def test_a_page_that_two_payments_are_told_to_have_is_neithers(here: Clinic) -> None:
    for _ in range(2):
        invoice = issued(here.fhir)
        assert here.tell(completed(here.begin(invoice)["reference"], id="cs_of_both")).status_code == 200
        assert here.ledger(invoice) == [("payment", "-120.00")]


def test_states_move_forwards_only(here: Clinic) -> None:
    invoice = issued(here.fhir)
    begun = here.begin(invoice)
    failed = event(
        "payment_intent.payment_failed", {"id": begun["reference"], "amount": 12000, "currency": "eur", "status": "requires_payment_method"}
    )
    here.tell(failed)
    assert here.state(begun["id"]) == "failed"
    here.tell(succeeded(begun["reference"]))
    here.tell(failed | {"id": unique("evt")})
    here.tell(event("payment_intent.canceled", {"id": begun["reference"], "amount": 12000, "currency": "eur", "status": "canceled"}))
    assert (here.state(begun["id"]), here.ledger(invoice)) == ("succeeded", [("payment", "-120.00")])


def test_what_is_paid_too_much_all_the_same_is_owed_to_the_patient(here: Clinic) -> None:
    invoice = issued(here.fhir)
    begun = here.begin(invoice)
    desk(here.fhir).post(f"Invoice/{invoice['id']}/$pay", {"resourceType": "Parameters", "parameter": [{"name": "method", "valueCode": "card"}]}, 200)
    here.tell(succeeded(begun["reference"]))
    assert (balance(here.fhir, invoice)["due"], status_of(here, invoice)) == ("-120.00", "balanced")


def test_money_for_an_invoice_that_was_credited_meanwhile_is_kept(here: Clinic) -> None:
    invoice = issued(here.fhir)
    begun = here.begin(invoice)
    desk(here.fhir).post(
        f"Invoice/{invoice['id']}/$credit", {"resourceType": "Parameters", "parameter": [{"name": "reason", "valueString": "wrong person"}]}
    )
    assert status_of(here, invoice) == "cancelled"
    here.tell(succeeded(begun["reference"]))
    assert (balance(here.fhir, invoice)["due"], status_of(here, invoice), parked(here, begun["reference"])) == ("-120.00", "cancelled", [])


def test_the_gateways_own_events_arrive(here: Clinic) -> None:
    invoice = issued(here.fhir)
    reference = here.begin(invoice)["reference"]
    with serving(here) as base:
        config = {"url": f"{base}{HOOK}", "secret": WEBHOOK_SECRET}
        assert requests.post(f"{here.stripe.base}/_config/webhooks/clinic", json=config, timeout=5).ok
        try:
            here.stripe.pay(reference)
            deadline = time.monotonic() + 20
            while not here.ledger(invoice) and time.monotonic() < deadline:
                time.sleep(0.05)
        finally:
            requests.post(f"{here.stripe.base}/_config/webhooks/clinic", json=config | {"events": []}, timeout=5)
    assert here.ledger(invoice) == [("payment", "-120.00")]


def test_without_a_secret_there_is_no_webhook(here: Clinic, tmp_path: Path) -> None:
    for lacking in ("payment_api_key", "payment_webhook_secret"):
        other = clinic(here.store.url, tmp_path, here.stripe, **{lacking: None})
        try:
            assert other.tell(succeeded("pi_1")).status_code == 404
        finally:
            other.fhir.close()
