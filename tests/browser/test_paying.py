"""The page where an invoice is paid, in a browser: a card is entered into what the gateway's script shows, under the page's own policy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.browser.conftest import PHONE
from tests.clinic.billing.gateway.stand_in import Clinic, clinic, localstripe, serving
from tests.clinic.billing.world import issued


@pytest.fixture(scope="module")
def clinic_online(fresh_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Clinic, str]]:
    with localstripe() as stripe:
        made = clinic(fresh_database(), tmp_path_factory.mktemp("clinic"), stripe)
        with serving(made) as base:
            yield made, base
        made.fhir.close()


def pay(browser: Browser, address: str, number: str, language: str, pictures: Path) -> str:
    """What the page says after a card was entered."""
    with browser.new_context(viewport=PHONE, locale=language) as context:
        page = context.new_page()
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        page.goto(address)
        assert page.locator("html").get_attribute("lang") == language[:2]
        for field, value in {"number": number, "exp_month": "12", "exp_year": "40", "cvc": "123"}.items():
            page.get_by_placeholder(field).fill(value)
        page.screenshot(path=pictures / f"pay-{number[-4:]}.png", full_page=True)
        page.locator("#card-form button").click()
        # The stand-in says nothing of a card that it refuses; a page that was loaded anew has it empty.
        page.wait_for_function("!document.querySelector('#card-form') || document.querySelector('#card input').value === ''")
        page.screenshot(path=pictures / f"pay-{number[-4:]}-after.png", full_page=True)
        assert said == []
        return page.locator("main").inner_text()


def test_an_invoice_is_paid_by_a_card(chromium: Browser, clinic_online: tuple[Clinic, str], tmp_path: Path) -> None:
    here, base = clinic_online
    invoice = issued(here.fhir)
    refused = here.begin(invoice)["url"].replace("http://localhost", base)
    assert "Es wurde nichts abgebucht" in pay(chromium, refused, "4000000000000341", "de-DE", tmp_path)
    assert here.ledger(invoice) == []
    # After a try that was refused there is another one.
    again = here.begin(invoice)["url"].replace("http://localhost", base)
    assert "It is paid" in pay(chromium, again, "4242424242424242", "en-GB", tmp_path)
    assert here.ledger(invoice) == [("payment", "-120.00")]
