"""What was paid by the gateway goes back by it, once, and what is not known of it is asked for."""

from __future__ import annotations

from decimal import Decimal

from fhir_server.clinic.billing.gateway import Gateway, gateway_of, refunds
from tests.clinic.billing.gateway.stand_in import Clinic, refunded, succeeded
from tests.clinic.billing.world import Json, ask, balance, desk, issued

D = Decimal


def paid(here: Clinic) -> tuple[Json, str]:
    invoice = issued(here.fhir)
    reference = str(here.begin(invoice)["reference"])
    here.stripe.pay(reference)
    here.tell(succeeded(reference))
    return invoice, reference


def give_back(here: Clinic, invoice: Json, amount: Decimal) -> Json:
    path = f"Invoice/{invoice['id']}"
    desk(here.fhir, "ann").post(f"{path}/$refund", ask(amount=amount, reason="charged twice"), 202)
    found: Json = desk(here.fhir, "bob").post(f"{path}/$approve-refund", None, 200)
    return found


def gateway(here: Clinic) -> Gateway:
    found = gateway_of(here.settings)
    assert found is not None
    return found


def given_back(here: Clinic, reference: str) -> list[int]:
    return [each["amount"] for each in here.stripe("GET", f"refunds?payment_intent={reference}")["data"]]


def test_a_refund_goes_back_by_the_gateway_and_its_event_books_nothing_twice(here: Clinic) -> None:
    invoice, reference = paid(here)
    note = give_back(here, invoice, D("20.00"))
    assert (note["outcome"], note["paymentAmount"]["value"], note["formCode"]) == ("queued", -20.0, {"text": "gateway"})
    assert given_back(here, reference) == [2000]
    after = here.fhir.get(f"PaymentReconciliation/{note['id']}")
    assert (after["outcome"], after["paymentIdentifier"]["value"][:3]) == ("complete", "re_")
    assert here.tell(refunded(reference, 2000)).status_code == 200
    assert here.ledger(invoice) == [("payment", "-120.00"), ("refund", "20.00")]
    told = [here.fhir.get(f"PaymentNotice/{each}") for each in here.fhir.ids(f"PaymentNotice?request=Invoice/{invoice['id']}")]
    assert sorted((each["amount"]["value"], each["paymentStatus"]["coding"][0]["code"]) for each in told) == [(-20.0, "paid"), (120.0, "cleared")]
    assert balance(here.fhir, invoice)["due"] == "20.00"
    # Of these 50, 20 were ordered here.
    here.tell(refunded(reference, 5000))
    assert here.ledger(invoice)[2:] == [("refund", "30.00")]


def test_a_refund_without_an_answer_is_asked_for_and_not_sent_twice(here: Clinic) -> None:
    invoice, reference = paid(here)
    here.stripe.swallow(after=1)
    note = give_back(here, invoice, D("20.00"))
    assert here.fhir.get(f"PaymentReconciliation/{note['id']}")["outcome"] == "queued"
    refunds.settle(here.store, gateway(here))
    assert here.fhir.get(f"PaymentReconciliation/{note['id']}")["outcome"] == "queued"
    here.age(120, "payment_refund")
    refunds.settle(here.store, gateway(here))
    assert here.fhir.get(f"PaymentReconciliation/{note['id']}")["outcome"] == "complete"
    # The stand-in knows nothing of keys: sent again, it would have been given back again.
    assert given_back(here, reference) == [2000]


def test_a_refund_that_never_arrived_is_sent_by_the_next_try(here: Clinic) -> None:
    invoice, reference = paid(here)
    here.stripe.swallow(before=1)
    note = give_back(here, invoice, D("20.00"))
    assert given_back(here, reference) == []
    here.age(120, "payment_refund")
    refunds.settle(here.store, gateway(here))
    assert (given_back(here, reference), here.fhir.get(f"PaymentReconciliation/{note['id']}")["outcome"]) == ([2000], "complete")


def test_a_refund_that_the_gateway_refuses_is_taken_back(here: Clinic) -> None:
    invoice = issued(here.fhir)
    reference = str(here.begin(invoice)["reference"])
    # The gateway tells that it was paid, and then knows nothing of it.
    here.tell(succeeded(reference))
    note = give_back(here, invoice, D("20.00"))
    assert here.fhir.get(f"PaymentReconciliation/{note['id']}")["outcome"] == "error"
    assert here.ledger(invoice) == [("payment", "-120.00"), ("refund", "20.00"), ("refund", "-20.00")]
    assert balance(here.fhir, invoice) == {"paid": "120.00", "credited": "0.00", "due": "0.00"}


def test_what_was_paid_in_cash_goes_back_by_hand(here: Clinic) -> None:
    invoice = issued(here.fhir)
    desk(here.fhir).post(f"Invoice/{invoice['id']}/$pay", ask(method="cash", amount=D("70.00")), 200)
    reference = str(here.begin(invoice)["reference"])
    here.stripe.pay(reference)
    here.tell(succeeded(reference, 5000))
    first = give_back(here, invoice, D("60.00"))
    assert (first["paymentAmount"]["value"], given_back(here, reference)) == (-50.0, [5000])
    assert here.ledger(invoice)[-2:] == [("refund", "50.00"), ("refund", "10.00")]
    rest = give_back(here, invoice, D("60.00"))
    assert (rest["outcome"], rest["paymentAmount"]["value"], rest["formCode"]) == ("complete", -60.0, {"text": "cash"})
    assert balance(here.fhir, invoice)["paid"] == "0.00"


def test_the_desk_may_give_back_by_a_way_of_its_own(here: Clinic) -> None:
    invoice, reference = paid(here)
    path = f"Invoice/{invoice['id']}"
    desk(here.fhir, "ann").post(f"{path}/$refund", ask(amount=D(20), reason="the card is gone"), 202)
    given = desk(here.fhir, "bob").post(f"{path}/$approve-refund", ask(method="transfer", reference="order 7"), 200)
    assert (given["outcome"], given["formCode"], given["paymentIdentifier"]) == ("complete", {"text": "transfer"}, {"value": "order 7"})
    assert given_back(here, reference) == []
