from __future__ import annotations

import html
import re

import pytest

from fhir_server.access.apps.words import DEFAULT
from fhir_server.web.oauth.sentences import sentence_of

from .conftest import BACK, ISSUER, House, query_of

SCOPE = "launch/patient patient/Patient.rs patient/Observation.rs offline_access"


def test_the_page_says_who_asks_for_what_and_whose_record_it_is_about(house: House) -> None:
    client, _ = house.app(name="Growth <b>Chart</b>")
    account = house.account()
    browser = house.browser(account)
    answer = browser.get(house.page(browser, client, scope=SCOPE))
    assert answer.status_code == 200
    text = html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.text)))
    for words in ("Let Growth <b>Chart</b> in?", "app.example.org", account.login, "Chidi Okafor", "born 1990-05-17", "See results, measurements"):
        assert words in text
    assert "<b>" not in answer.text
    # A browser lets the form lead to the app, and to nowhere else.
    assert "form-action 'self' https://app.example.org;" in answer.headers["Content-Security-Policy"]
    boxes = re.findall(r"<input type=\"checkbox\"[^>]* name=\"scope\"[^>]*>", answer.text)
    assert len(boxes) == 4
    assert all(" checked" in box for box in boxes)
    assert len(re.findall(r'<label for="scope-\d">', answer.text)) == 4


def test_what_is_taken_off_is_not_given(house: House) -> None:
    client, _ = house.app()
    browser = house.browser(house.account())
    answer = house.fill(browser, house.page(browser, client, scope=SCOPE), answer="allow", scope=["patient/Observation.rs"])
    tokens = house.redeem(client, query_of(answer.headers["Location"])["code"]).get_json()
    assert tokens["scope"] == "patient/Observation.rs"
    assert "refresh_token" not in tokens
    assert [house.status(tokens["access_token"], each) for each in ("Patient/p1", "Observation/laboratory-p1")] == [403, 200]


LABORATORY = "patient/Observation.rs?category=http://terminology.hl7.org/CodeSystem/observation-category|laboratory"
SURVEY = "patient/Observation.rs?category=http://terminology.hl7.org/CodeSystem/observation-category|survey"


def test_of_results_and_diagnoses_a_part_can_be_given(house: House) -> None:
    client, _ = house.app()
    browser = house.browser(house.account())
    place = house.page(browser, client, scope=f"{SCOPE} patient/Condition.read patient/Procedure.rs")
    page = browser.get(place).text
    parts = [html.unescape(each) for each in re.findall(r'name="part" value="([^"]*)"', page)]
    assert len(parts) == 8
    assert {LABORATORY, SURVEY} < set(parts)
    assert not [each for each in re.findall(r"<input[^>]*>", page) if 'name="part"' in each and "checked" in each]
    answer = house.fill(browser, place, answer="allow", part=[LABORATORY, SURVEY, "patient/Procedure.rs?category=1", "user/*.rs"])
    tokens = house.redeem(client, query_of(answer.headers["Location"])["code"]).get_json()
    assert set(tokens["scope"].split()) == {
        *("launch/patient", "patient/Patient.rs", "offline_access", "patient/Condition.read", "patient/Procedure.rs"),
        *(LABORATORY, SURVEY),
    }
    assert [house.status(tokens["access_token"], f"Observation/{each}-p1") for each in ("laboratory", "vital-signs")] == [200, 404]


def test_a_part_of_what_is_taken_off_is_not_given(house: House) -> None:
    client, _ = house.app()
    browser = house.browser(house.account())
    answer = house.fill(browser, house.page(browser, client, scope=SCOPE), answer="allow", scope=["patient/Patient.rs"], part=[LABORATORY])
    assert house.redeem(client, query_of(answer.headers["Location"])["code"]).get_json()["scope"] == "patient/Patient.rs"


def test_an_app_that_was_given_a_part_is_asked_for_the_whole_again(house: House) -> None:
    client, secret = house.app("client_secret_basic")
    browser = house.browser(house.account())
    scope = "launch/patient patient/Observation.cruds"
    answer = house.fill(browser, house.page(browser, client, scope=scope), answer="allow", part=[LABORATORY])
    tokens = house.redeem(client, query_of(answer.headers["Location"])["code"], secret).get_json()
    assert tokens["scope"] == f"launch/patient {LABORATORY}"
    assert "Let Growth Chart in?" in browser.get(house.page(browser, client, scope=scope)).text
    straight = query_of(house.ask(browser, client, scope=f"launch/patient {LABORATORY}").headers["Location"])
    assert "code" in straight


def test_what_was_not_asked_for_cannot_be_put_in(house: House) -> None:
    client, _ = house.app()
    browser = house.browser(house.account())
    scope = ["patient/Patient.rs", "patient/*.cruds", "system/*.cruds"]
    answer = house.fill(browser, house.page(browser, client, scope=SCOPE), answer="allow", scope=scope)
    assert house.redeem(client, query_of(answer.headers["Location"])["code"]).get_json()["scope"] == "patient/Patient.rs"


def test_nothing_left_is_said_on_the_page(house: House) -> None:
    client, _ = house.app()
    browser = house.browser(house.account())
    answer = house.fill(browser, house.page(browser, client, scope=SCOPE), answer="allow", scope=["launch/patient"])
    assert answer.status_code == 400
    assert 'role="alert"' in answer.text


def test_a_no_is_told_to_the_app(house: House) -> None:
    client, _ = house.app()
    browser = house.browser(house.account())
    place = house.page(browser, client)
    location = house.fill(browser, place, answer="deny").headers["Location"]
    assert location.startswith(f"{BACK}?error=access_denied&")
    assert query_of(location)["iss"] == ISSUER
    assert query_of(location)["state"] == "st&te=1"
    assert browser.get(place).status_code == 400


def test_a_request_is_answered_once(house: House) -> None:
    client, _ = house.app()
    browser = house.browser(house.account())
    place = house.page(browser, client)
    token = browser.get(place).text.split('name="form_token" value="')[1].split('"')[0]
    given = {"form_token": token, "answer": "allow", "scope": "patient/*.rs"}
    assert [browser.post(place, data=given).status_code for _ in range(2)] == [303, 400]


def test_an_app_that_can_show_who_it_is_is_asked_for_once(house: House) -> None:
    client, secret = house.app("client_secret_basic")
    account = house.account()
    browser = house.browser(account)
    house.redeem(client, house.code(browser, client), secret)
    # The same, and less, is given without a question; silence is kept.
    for scope in ("openid patient/*.rs", "patient/Observation.rs", "patient/Observation.r?code=1"):
        location = house.ask(browser, client, scope=scope, prompt="none").headers["Location"]
        assert house.redeem(client, query_of(location)["code"], secret).get_json()["scope"] == scope
    for changed in ({"scope": "patient/*.rus"}, {"scope": "patient/*.rs online_access"}, {"prompt": "consent"}):
        assert house.page(browser, client, **changed)
    assert house.page(house.browser(house.account()), client)
    # A no is remembered too.
    house.fill(browser, house.page(browser, client, prompt="consent"), answer="deny")
    assert house.page(browser, client)


def test_an_app_without_a_secret_is_asked_for_each_time(house: House) -> None:
    client, _ = house.app()
    account = house.account()
    house.tokens(account, client)
    assert house.page(house.browser(account), client)


def test_a_clinician_is_asked_for_the_patient_each_time(house: House) -> None:
    client, secret = house.app("client_secret_basic")
    browser = house.browser(house.account("doctor"))
    house.redeem(client, house.code(browser, client, "p2"), secret)
    assert "Choose the patient" in browser.get(house.page(browser, client)).text


@pytest.mark.parametrize("redirect_uri", ["com.example.app:/back", "http://127.0.0.1:4000/back", "https://app.example.org/back?x=1"])
def test_apps_on_a_device_are_answered_too(house: House, redirect_uri: str) -> None:
    client, _ = house.app(redirect_uris=(redirect_uri,))
    browser = house.browser(house.account())
    place = house.page(browser, client, redirect_uri=redirect_uri)
    origin = {"c": "com.example.app:", "h": redirect_uri.partition("/back")[0]}[redirect_uri[0]]
    assert f"form-action 'self' {origin};" in browser.get(place).headers["Content-Security-Policy"]
    location = house.fill(browser, place, answer="allow").headers["Location"]
    assert re.match(rf"{re.escape(redirect_uri)}[?&]code=", location)
    assert house.redeem(client, query_of(location)["code"], redirect_uri=redirect_uri).status_code == 200


def test_every_scope_has_a_sentence() -> None:
    assert all(sentence_of(word) for word in DEFAULT.split())
    assert sentence_of("patient/Observation.rs") == "See results, measurements and vital signs in this record"
    assert sentence_of("user/MedicationRequest.cruds") == "See, add, change and delete prescriptions of all that you may see yourself"
    assert sentence_of("patient/MolecularSequence.write") == "Add, change and delete Molecular Sequence in this record"
    assert sentence_of("patient/Observation.rs?category=http://x|laboratory").endswith("in this record, but only where category is laboratory")
