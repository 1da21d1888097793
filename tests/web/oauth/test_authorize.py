from __future__ import annotations

import html
import re
from urllib.parse import quote, urlencode

import pytest

from .conftest import BACK, FHIR, ISSUER, House, Json, query_of


def test_who_has_not_signed_in_is_led_to_that_and_back(house: House) -> None:
    client, _ = house.app()
    query = house.query(client)
    answer = house.browser().get(f"/oauth/authorize?{query}")
    assert (answer.status_code, answer.headers["Location"]) == (303, f"/sign-in?next={quote(f'/oauth/authorize?{query}', safe='/')}")


def test_a_request_by_post_goes_on_by_get(house: House) -> None:
    client, _ = house.app()
    query = house.query(client)
    answer = house.browser().post("/oauth/authorize", data=query, content_type="application/x-www-form-urlencoded")
    assert (answer.status_code, answer.headers["Location"]) == (303, f"/oauth/authorize?{query}")


def test_a_request_by_post_that_no_address_holds_is_told_on_a_page(house: House) -> None:
    client, _ = house.app()
    form = {"client_id": client.id, "redirect_uri": BACK, "scope": "%" * 3000}
    answer = house.browser().post("/oauth/authorize", data=form)
    assert (answer.status_code, "too much at once" in answer.text) == (400, True)


@pytest.mark.parametrize(
    "changed",
    [
        {"client_id": None},
        {"client_id": "nobody"},
        {"client_id": "x" * 3000},
        {"client_id": "\0"},
        {"redirect_uri": None},
        {"redirect_uri": "https://evil.example.org/back"},
        {"redirect_uri": f"{BACK}/"},
        {"redirect_uri": f"{BACK}?x=1"},
        {"redirect_uri": f"{BACK}#x"},
        {"redirect_uri": BACK.replace("https", "http")},
        {"redirect_uri": BACK.upper()},
        {"redirect_uri": f"{BACK}\r\nX: 1"},
        {"redirect_uri": "https://app.example.org@evil.example.org/back"},
        {"redirect_uri": "https://app.example.org/back/../other"},
        {"redirect_uri": "javascript:alert(1)"},
    ],
)
def test_whom_nobody_can_trust_is_told_on_a_page(house: House, changed: Json) -> None:
    client, _ = house.app()
    for browser in (house.browser(), house.browser(house.account())):
        answer = house.ask(browser, client, **changed)
        assert (answer.status_code, answer.mimetype) == (400, "text/html")
        assert "Location" not in answer.headers
        assert "script" not in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize("name", ["client_id", "redirect_uri", "scope", "state", "code_challenge", "response_type"])
def test_a_parameter_that_stands_there_twice_is_refused(house: House, name: str) -> None:
    client, _ = house.app()
    answer = house.browser().get(f"/oauth/authorize?{house.query(client)}&{name}=x")
    assert answer.status_code == 400
    assert "Location" not in answer.headers


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": "code id_token"}, "unsupported_response_type"),
        ({"response_type": None}, "unsupported_response_type"),
        ({"response_mode": "fragment"}, "invalid_request"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"code_challenge": "ü" * 43}, "invalid_request"),
        ({"aud": None}, "invalid_request"),
        ({"aud": "https://elsewhere.example.org/fhir"}, "invalid_request"),
        ({"aud": f"{FHIR}x"}, "invalid_request"),
        ({"request": "eyJ"}, "request_not_supported"),
        ({"scope": "x " * 2500}, "invalid_scope"),
        ({"nonce": "x" * 501}, "invalid_request"),
        ({"max_age": "-1"}, "invalid_request"),
        ({"max_age": "soon"}, "invalid_request"),
    ],
)
def test_what_cannot_be_granted_is_told_to_the_app_before_anybody_signs_in(house: House, changed: Json, error: str) -> None:
    client, _ = house.app()
    answer = house.ask(house.browser(), client, **changed)
    assert answer.status_code == 303
    assert answer.headers["Location"].startswith(f"{BACK}?error={error}")
    told = query_of(answer.headers["Location"])
    assert (told["state"], told["iss"]) == ("st&te=1", ISSUER)


@pytest.mark.parametrize("scope", [None, "", "nonsense", "system/*.rs", "launch/patient", "launch offline_access", "patient/Foo.rs"])
def test_where_no_scope_is_left_the_app_is_told(house: House, scope: str | None) -> None:
    client, _ = house.app()
    answer = house.ask(house.browser(house.account()), client, scope=scope)
    assert query_of(answer.headers["Location"])["error"] == "invalid_scope"


def test_the_base_may_end_in_a_slash_and_be_the_public_one(house: House, make_house: object) -> None:
    client, _ = house.app()
    assert house.page(house.browser(house.account()), client, aud=f"{FHIR}/")
    assert callable(make_house)
    public: House = make_house(public_url="https://clinic.example.org/ehr")
    client, _ = public.app()
    browser = public.browser()
    for aud, leads in (("https://clinic.example.org/ehr/fhir", "/ehr/sign-in"), (FHIR, "/ehr/sign-in"), ("https://clinic.example.org/fhir", BACK)):
        assert public.ask(browser, client, aud=aud).headers["Location"].startswith(leads)


def test_a_disabled_app_is_not_known_any_more(house: House) -> None:
    client, _ = house.app()
    browser = house.browser(house.account())
    place = house.page(browser, client)
    house.clients.disable(client.id, "admin", house.clinic.clock.now())
    assert house.ask(browser, client).status_code == 400
    assert browser.get(place).status_code == 400
    house.clients.enable(client.id, "admin")
    assert house.ask(browser, client).status_code == 303


@pytest.mark.parametrize(("prompt", "error"), [("none", "login_required"), ("none consent", "login_required")])
def test_nobody_is_asked_where_the_app_wants_silence(house: House, prompt: str, error: str) -> None:
    client, _ = house.app()
    assert query_of(house.ask(house.browser(), client, prompt=prompt).headers["Location"])["error"] == error
    asked = house.ask(house.browser(house.account()), client, prompt=prompt)
    assert query_of(asked.headers["Location"])["error"] == "interaction_required"


@pytest.mark.parametrize(("changed", "waits"), [({"prompt": "login"}, 0), ({"prompt": "login consent"}, 0), ({"max_age": "60"}, 61)])
def test_an_app_may_have_the_person_sign_in_anew(house: House, changed: Json, waits: int) -> None:
    client, _ = house.app()
    account = house.account()
    browser = house.browser(account)
    house.clinic.clock.seconds += waits
    page = house.ask(browser, client, **changed)
    assert page.status_code == 200
    assert "Please sign in again" in page.text
    onto = re.search(r'name="next" value="(/oauth/authorize\?[^"]+)"', page.text)
    token = re.search(r'name="form_token" value="(\w+)"', page.text)
    assert onto is not None
    assert token is not None
    there = html.unescape(onto[1])
    left = browser.post("/sign-out", data={"form_token": token[1], "next": there})
    assert left.headers["Location"].startswith("/sign-in?")
    assert browser.get(there).headers["Location"].startswith("/sign-in?next=")
    assert house.browser(account).get(there).headers["Location"].startswith("/oauth/authorize/")
    silent = house.ask(house.browser(account), client, prompt=f"none {changed.get('prompt', '')}", max_age="60")
    assert query_of(silent.headers["Location"])["error"] == ("login_required" if "prompt" in changed else "interaction_required")


def test_a_request_belongs_to_the_browser_it_was_made_in(house: House) -> None:
    client, _ = house.app()
    account = house.account()
    place = house.page(house.browser(account), client)
    assert house.browser(account).get(place).status_code == 400
    assert house.browser(house.account()).get(place).status_code == 400
    assert house.browser().get(place).headers["Location"].startswith("/sign-in?next=")


def test_a_request_waits_for_half_an_hour(house: House) -> None:
    client, _ = house.app()
    browser = house.browser(house.account())
    place = house.page(browser, client)
    house.clinic.clock.seconds += 1800
    assert browser.get(place).status_code == 400


def test_a_form_from_elsewhere_lets_nobody_in(house: House) -> None:
    client, _ = house.app()
    browser = house.browser(house.account())
    place = house.page(browser, client)
    for headers in ({"Origin": "https://evil.example.org"}, {"Sec-Fetch-Site": "cross-site"}):
        page = browser.get(place).text
        token = page.split('name="form_token" value="')[1].split('"')[0]
        answer = browser.post(place, data={"form_token": token, "answer": "allow", "scope": "patient/*.rs"}, headers=headers)
        assert answer.status_code == 403
    assert browser.post(place, data={"answer": "allow", "scope": "patient/*.rs"}).status_code == 403


def test_after_a_sign_in_the_way_back_begins_anew(house: House) -> None:
    """Browsers hold the redirects that follow a form to where that form may lead, which for the sign-in is here."""
    client, secret = house.app("client_secret_basic")
    account = house.account()
    house.tokens(account, client, secret)
    browser = house.browser(account)
    answer = browser.get(f"/oauth/authorize?{house.query(client)}", headers={"Sec-Fetch-Site": "same-origin"})
    assert answer.status_code == 200
    assert f'content="0; url={BACK}?code=' in answer.text
    answer = browser.get(f"/oauth/authorize?{house.query(client)}", headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.headers["Location"].startswith(f"{BACK}?code=")


def test_an_unreadable_query_is_a_page(house: House) -> None:
    for query in ("client_id=%ff", "a=1&" * 100, urlencode({"client_id": "<script>"})):
        answer = house.browser().get(f"/oauth/authorize?{query}")
        assert (answer.status_code, answer.mimetype) == (400, "text/html")
        assert "<script>" not in answer.text
