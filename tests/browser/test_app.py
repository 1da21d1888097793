"""An app that is launched with https://github.com/smart-on-fhir/client-js, as it is published, in a browser."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any, Final

import pytest
import requests
from playwright.sync_api import Browser, Page, expect

from tests.listening import http_server

from .conftest import Server, Visit, visiting
from .test_pages import examine

APP: Final = Path(__file__).with_name("app")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server for the app's three files."""
    npm = shutil.which("npm")
    if npm is None:
        if os.environ.get("CI"):
            pytest.fail("npm is not installed, and no app has been launched")
        pytest.skip("npm is not installed: install it to have an app launched")
    folder = tmp_path_factory.mktemp("app")
    for name in ("package.json", "package-lock.json", "index.html", "app.js"):
        shutil.copy(APP / name, folder)
    # What is optional are 500 packages for other surroundings than a browser.
    command = [npm, "ci", "--ignore-scripts", "--omit=optional", "--omit=peer", "--no-audit", "--no-fund"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=300)
    shutil.copy(folder / "node_modules" / "fhirclient" / "build" / "fhir-client.js", folder)
    with http_server(partial(Quiet, directory=str(folder))) as address:
        yield address


@pytest.fixture
def client(server: Server, app: str) -> str:
    """The id of the app, which registers itself."""
    metadata = {"client_name": "Launched app", "redirect_uris": [f"{app}/"], "launch_uri": f"{app}/", "token_endpoint_auth_method": "none"}
    answer = requests.post(f"{server.base}/oauth/register", json=metadata, timeout=30)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["client_id"])


@pytest.fixture
def window(chromium: Browser, server: Server) -> Iterator[Visit]:
    """A person's browser window, from which apps elsewhere may be asked."""
    with visiting(chromium, server) as found:
        yield found
    assert [each for each in found.said if "favicon" not in each] == []


def state(page: Page, text: str) -> None:
    expect(page.locator("#state")).to_have_text(text, timeout=15_000)


def test_a_patient_launches_an_app_which_reads_and_refreshes(window: Visit, app: str, client: str) -> None:
    page, base = window.page, window.server.base
    page.goto(f"{app}/?client={client}&iss={base}/fhir")
    window.fill_in("patient")
    expect(page.get_by_role("heading", level=1)).to_have_text("Let Launched app in?")
    expect(page.get_by_text("Mira Castellano")).to_be_visible()
    examine(window)
    page.get_by_role("button", name="Let it in", exact=True).click()
    state(page, "ready")
    expect(page.locator("#patient")).to_have_text("Castellano")
    assert page.locator("#user").text_content() == "Patient/demo-patient"
    page.get_by_role("button", name="Refresh").click()
    state(page, "refreshed")
    # What the person takes back is over with the next call.
    window.open("/account")
    expect(page.get_by_text("App: Launched app")).to_be_visible()


def test_who_says_no_gives_nothing(window: Visit, app: str, client: str) -> None:
    page = window.page
    page.goto(f"{app}/?client={client}&iss={window.server.base}/fhir")
    window.fill_in("patient")
    page.get_by_role("button", name="Do not let it in").click()
    expect(page.locator("#state")).to_contain_text("failed")
    assert page.locator("#patient").text_content() == ""


def test_a_doctor_opens_an_app_for_a_patient(window: Visit, app: str, client: str) -> None:
    page = window.page
    page.goto(f"{app}/?client={client}")
    state(page, "prepared")
    window.sign_in("doctor", "/launch")
    examine(window)
    # Its name is that of every other test's.
    window.open(f"/launch?client={client}")
    page.get_by_label("Name").fill("castel")
    page.get_by_role("button", name="Search").click()
    examine(window)
    page.get_by_role("button", name="Choose Mira Castellano").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Let Launched app in?")
    page.get_by_role("button", name="Let it in", exact=True).click()
    state(page, "ready")
    expect(page.locator("#patient")).to_have_text("Castellano")


@pytest.fixture
def encounter(window: Visit) -> str:
    """The id of a visit of the demo clinic's patient."""
    account, base = window.server.accounts["doctor"], window.server.base

    def post(path: str, **body: str) -> Any:
        return requests.post(f"{base}/auth/{path}", json=body, timeout=30)

    challenge = post("login", login=account["login"], password=account["password"]).json()["challenge"]
    post("otp/send", challenge=challenge, method="email")
    token = post("otp", challenge=challenge, code=window.server.outside.mailed_code(account["email"])).json()["access_token"]
    resource = {
        "resourceType": "Encounter",
        "status": "in-progress",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB", "display": "ambulatory"},
        "subject": {"reference": "Patient/demo-patient"},
        "period": {"start": "2026-03-01T09:30:00+00:00"},
        "reasonCode": [{"text": "Cough for three weeks, and a fever that comes back in the evening"}],
    }
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/fhir+json"}
    answer = requests.post(f"{base}/fhir/Encounter", json=resource, headers=headers, timeout=30)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def test_a_doctor_opens_an_app_for_a_visit(window: Visit, app: str, client: str, encounter: str) -> None:
    page = window.page
    page.goto(f"{app}/?client={client}")
    state(page, "prepared")
    window.sign_in("doctor", "/launch")
    window.open(f"/launch?client={client}&name=castel")
    page.get_by_role("link", name="Choose a visit of Mira Castellano").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Choose the visit")
    examine(window)
    assert page.locator(f"button[value='{encounter}']").count() == 1
    page.get_by_role("button", name="Choose the visit of 1 March 2026, 09:30 UTC").first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Let Launched app in?")


def test_a_doctor_chooses_the_patient_by_keyboard(window: Visit, app: str, client: str) -> None:
    page = window.page
    page.goto(f"{app}/?client={client}&iss={window.server.base}/fhir")
    window.fill_in("doctor")
    expect(page.get_by_role("heading", level=1)).to_have_text("Choose the patient")
    window.press_until("name")
    page.keyboard.type("castel")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Mira Castellano")).to_be_visible()
    window.press_until("Choose")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Let Launched app in?")
    window.press_until("Let it in")
    page.keyboard.press("Enter")
    state(page, "ready")


def test_what_nobody_can_trust_is_said_on_a_page(window: Visit, client: str) -> None:
    window.open(f"/oauth/authorize?client_id={client}&redirect_uri=https://evil.test/")
    expect(window.page.get_by_role("heading", level=1)).to_have_text("The app cannot be let in")
    examine(window)
