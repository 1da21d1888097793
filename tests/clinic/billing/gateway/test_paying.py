"""Payments online through a real stand-in of the gateway: begun once, booked once, and never guessed."""

from __future__ import annotations

from decimal import Decimal

from tests.clinic.billing.gateway.stand_in import Clinic, succeeded
from tests.clinic.billing.world import desk, issued, person
from tests.interactions.conftest import issues

D = Decimal


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
