"""What `fhir-server check` says of the gateway, and what the background does with it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fhir_server.cli.doctor import _payment
from fhir_server.clinic.billing.gateway import Online
from fhir_server.jobs.application import SCHEDULE, application
from fhir_server.jobs.paying import define_payments
from fhir_server.outcome import Outcome
from fhir_server.settings import Settings, SetupError
from tests.clinic.billing.gateway.stand_in import HOOK, Clinic
from tests.clinic.billing.world import issued


def test_a_gateway_that_accepts_the_key_is_fine(here: Clinic) -> None:
    assert "accepts the key" in _payment(here.settings)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"payment_webhook_secret": None}, "PAYMENT_WEBHOOK_SECRET is unset"),
        ({"payment_api_key": None}, "PAYMENT_API_KEY is unset"),
        ({"payment_api_key": "no key"}, "does not accept PAYMENT_API_KEY"),
        ({"payment_api_base": "http://127.0.0.1:1"}, "cannot be reached"),
    ],
)
def test_what_is_wrong_with_a_gateway_is_told_with_what_to_do(here: Clinic, changed: dict[str, str | None], said: str) -> None:
    with pytest.raises(SetupError, match=said) as caught:
        _payment(replace(here.settings, **changed))  # type: ignore[arg-type]
    assert "no key" not in str(caught.value)


def test_the_background_finds_out_what_was_paid(here: Clinic) -> None:
    invoice = issued(here.fhir)
    begun = here.begin(invoice)
    here.stripe.pay(begun["reference"])
    here.age(600)
    app = application(replace(here.settings, database_url=here.store.url))
    define_payments(app, here.store, here.settings)
    for name in ("payments.settle", "payments.compare"):
        assert name in SCHEDULE
        app.tasks[name]()
    assert here.ledger(invoice) == [("payment", "-120.00")]


def test_without_a_gateway_there_is_nothing_to_do(here: Clinic) -> None:
    online = Online(here.store, Settings(here.settings.data, here.settings.jwt_secret))
    assert (online.is_set_up, online.settle()) == (False, 0)
    with pytest.raises(Outcome, match="takes no payments online"):
        _ = online.gateway
    assert here.fhir.app.test_client().get(HOOK).status_code == 405
