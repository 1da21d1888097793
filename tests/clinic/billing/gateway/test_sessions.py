"""With a gateway that has pages of its own: Checkout Sessions, whose intents come to be when somebody pays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal

import pytest

from tests.clinic.billing.gateway.stand_in import Clinic, StandIn, clinic, completed, event, localstripe, refunded
from tests.clinic.billing.world import Json, ask, balance, desk, issued
from tests.interactions.conftest import issues

D = Decimal


@pytest.fixture(scope="module")
def stripe() -> Iterator[StandIn]:
    with localstripe("pages") as made:
        yield made


@pytest.fixture(scope="module")
def here(fresh_database: Callable[[], str], stripe: StandIn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clinic]:
    made = clinic(fresh_database(), tmp_path_factory.mktemp("clinic"), stripe)
    yield made
    made.fhir.close()


def paid(here: Clinic, begun: Json) -> Json:
    return here.stripe("POST", f"checkout/sessions/{begun['session']}/_pay")


def back_at(here: Clinic, begun: Json) -> str:
    with here.store.database.connection() as connection:
        row = connection.execute("SELECT back FROM payment_intent WHERE id = %s", (begun["id"],)).fetchone()
    assert row is not None
    return str(row[0])


def test_the_page_is_the_gateways_and_ours_the_one_to_come_back_to(here: Clinic) -> None:
    invoice = issued(here.fhir)
    begun = here.begin(invoice)
    assert begun["url"].startswith("https://checkout.stand-in.example/")
    page = here.page(back_at(here, begun), "de").text
    assert (f'href="{begun["url"]}"' in page, "<script" in page, "Jetzt bezahlen" in page) == (True, False, True)
    assert here.begin(invoice) == begun
    paid(here, begun)
    assert "Vielen Dank" in here.page(back_at(here, begun), "de").text
    assert here.ledger(invoice) == [("payment", "-120.00")]


def test_its_events_find_the_payment_by_what_it_was_told(here: Clinic) -> None:
    invoice = issued(here.fhir)
    begun = here.begin(invoice)
    session = paid(here, begun)
    intent = here.stripe("GET", f"payment_intents/{session['payment_intent']}")
    told = [
        refunded(intent["id"], 2000),
        event("payment_intent.succeeded", intent),
        event("checkout.session.completed", session),
        completed(intent["id"], id=session["id"], client_reference_id=begun["id"]),
    ]
    # That of the refund names nothing that is known before the others have come.
    assert [here.tell(each).status_code for each in told * 2] == [200] * 8
    assert here.ledger(invoice) == [("payment", "-120.00"), ("refund", "20.00")]
    assert {each["paymentIdentifier"]["value"] for each in here.receipts(invoice)} == {intent["id"]}


def test_an_event_that_does_not_tell_whether_it_is_paid_has_the_gateway_asked(here: Clinic) -> None:
    invoice = issued(here.fhir)
    begun = here.begin(invoice)
    session = {name: value for name, value in here.stripe("GET", f"checkout/sessions/{begun['session']}").items() if name != "payment_status"}
    here.tell(event("checkout.session.completed", session))
    assert here.ledger(invoice) == []
    paid(here, begun)
    here.tell(event("checkout.session.completed", session))
    assert here.ledger(invoice) == [("payment", "-120.00")]


def test_a_page_of_another_amount_is_closed_first_unless_somebody_has_just_paid(here: Clinic) -> None:
    invoice = issued(here.fhir)
    first = here.begin(invoice, amount=D("50.00"))
    second = here.begin(invoice, amount=D("60.00"))
    assert here.stripe("GET", f"checkout/sessions/{first['session']}")["status"] == "expired"
    paid(here, second)
    third = here.begin(invoice)
    assert (third["amount"]["value"], balance(here.fhir, invoice)["due"]) == (60.0, "60.00")
    here.tell(event("checkout.session.expired", here.stripe("POST", f"checkout/sessions/{third['session']}/expire")))
    assert here.state(third["id"]) == "cancelled"
    assert here.begin(invoice)["id"] != third["id"]


def test_a_page_that_was_made_without_an_answer_is_found_again(here: Clinic) -> None:
    invoice = issued(here.fhir)
    here.stripe.swallow(after=2)
    assert "does not answer" in issues(here.begin(invoice, status=503))
    begun = here.begin(invoice)
    with here.store.database.connection() as connection:
        assert connection.execute("SELECT count(*) FROM payment_intent WHERE invoice = %s", (invoice["id"],)).fetchone() == (1,)
    paid(here, begun)
    here.age(600)
    here.online.settle()
    assert here.ledger(invoice) == [("payment", "-120.00")]


def test_a_refund_goes_back_along_the_intent_of_the_page(here: Clinic) -> None:
    invoice = issued(here.fhir)
    begun = here.begin(invoice)
    intent = paid(here, begun)["payment_intent"]
    here.page(back_at(here, begun))
    path = f"Invoice/{invoice['id']}"
    desk(here.fhir, "ann").post(f"{path}/$refund", ask(amount=D("20.00"), reason="charged twice"), 202)
    desk(here.fhir, "bob").post(f"{path}/$approve-refund", None, 200)
    assert [each["amount"] for each in here.stripe("GET", f"refunds?payment_intent={intent}")["data"]] == [2000]
