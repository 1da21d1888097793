from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from .conftest import BACK, ISSUER, House, Json, query_of

VITALS = "http://terminology.hl7.org/CodeSystem/observation-category|vital-signs"


def test_a_patient_lets_an_app_in(house: House) -> None:
    client, _ = house.app()
    tokens = house.tokens(house.account(), client)
    assert {"token_type": "Bearer", "patient": "p1", "need_patient_banner": True, "expires_in": 900}.items() <= tokens.items()
    assert set(tokens["scope"].split()) == {"openid", "fhirUser", "launch/patient", "offline_access", "patient/*.rs"}
    assert house.status(tokens["access_token"]) == 200
    assert house.status(tokens["access_token"], "Patient/p2") == 404
    found = house.get("/fhir/Observation", tokens["access_token"]).get_json()
    assert {entry["resource"]["id"] for entry in found["entry"]} == {"laboratory-p1", "vital-signs-p1"}
    assert house.clinic.app.test_client().delete("/fhir/Observation/laboratory-p1", headers=_bearer(tokens)).status_code == 403


def test_the_state_comes_back_as_it_was(house: House) -> None:
    client, _ = house.app()
    browser = house.browser(house.account())
    location = house.fill(browser, house.page(browser, client), answer="allow").headers["Location"]
    assert location.startswith(f"{BACK}?code=")
    assert query_of(location)["state"] == "st&te=1"
    assert query_of(location)["iss"] == ISSUER


def test_a_doctor_chooses_the_patient(house: House) -> None:
    client, _ = house.app()
    browser = house.browser(house.account("doctor"))
    place = house.page(browser, client, scope="launch/patient patient/*.rs")
    assert "Choose the patient" in browser.get(place).text
    # Nothing is let in before somebody is chosen.
    token = browser.get(place).text.split('name="form_token" value="')[1].split('"')[0]
    early = browser.post(place, data={"form_token": token, "answer": "allow", "scope": "patient/*.rs"})
    assert early.status_code == 400
    tokens = house.redeem(client, house.code(browser, client, "p2", scope="launch/patient patient/*.rs")).get_json()
    assert tokens["patient"] == "p2"
    assert [house.status(tokens["access_token"], f"Patient/{each}") for each in ("p1", "p2")] == [404, 200]


def test_scopes_of_the_level_user_open_what_the_person_may_see(house: House) -> None:
    client, _ = house.app()
    tokens = house.tokens(house.account("doctor"), client, scope="user/Patient.rs user/Observation.read")
    assert "patient" not in tokens
    assert tokens["scope"] == "user/Patient.rs user/Observation.read"
    assert [house.status(tokens["access_token"], each) for each in ("Patient/p1", "Patient/p2", "Observation/laboratory-p1")] == [200] * 3
    assert house.status(tokens["access_token"], "Encounter/e1") == 403


def test_levels_may_be_mixed(house: House) -> None:
    client, _ = house.app()
    scope = "launch/patient patient/Observation.rs user/Patient.rs"
    browser = house.browser(house.account("doctor"))
    tokens = house.redeem(client, house.code(browser, client, "p2", scope=scope)).get_json()
    seen = [house.status(tokens["access_token"], each) for each in ("Patient/p1", "Observation/laboratory-p2", "Observation/laboratory-p1")]
    assert seen == [200, 200, 404]


def test_a_granular_scope_opens_its_part_only(house: House) -> None:
    client, _ = house.app()
    tokens = house.tokens(house.account(), client, scope=f"launch/patient patient/Observation.rs?category={VITALS}")
    assert tokens["scope"] == f"launch/patient patient/Observation.rs?category={VITALS}"
    assert [house.status(tokens["access_token"], f"Observation/{each}-p1") for each in ("vital-signs", "laboratory")] == [200, 404]


@pytest.mark.parametrize(
    ("role", "registered", "asked", "granted"),
    [
        ("patient", None, "patient/*.cruds", "patient/*.rus"),
        ("patient", None, "patient/*.* patient/Observation.read", "patient/*.* patient/Observation.read"),
        ("patient", None, "patient/Observation.*", "patient/Observation.read"),
        ("patient", None, "patient/Observation.cruds", "patient/Observation.rs"),
        ("patient", None, "patient/Patient.rs system/*.rs email nonsense patient/Foo.rs", "patient/Patient.rs"),
        ("patient", "patient/Patient.rs patient/Observation.r", "patient/*.rs openid", "patient/Patient.rs patient/Observation.r"),
        ("patient", "patient/*.read", "patient/Patient.rs", "patient/Patient.rs"),
        ("patient", None, "patient/Observation.rs?code:in=x&_count=1", "patient/Observation.rs?code:in=x&_count=1"),
        ("patient", None, "patient/Patient.rs patient/Observation.rs?subject.name=x", "patient/Patient.rs"),
        ("staff", None, "user/Condition.rs user/Patient.rs", "user/Patient.rs"),
        ("doctor", None, "user/ChargeItemDefinition.cruds", "user/ChargeItemDefinition.rs"),
    ],
)
def test_what_is_granted_is_what_all_allow(house: House, role: str, registered: str | None, asked: str, granted: str) -> None:
    client, _ = house.app(**({"scope": registered} if registered is not None else {}))
    browser = house.browser(house.account(role))
    needs = role != "patient" and "patient/" in asked
    answer = house.redeem(client, house.code(browser, client, "p1" if needs else None, scope=asked)).get_json()
    assert answer["scope"] == granted


def test_a_code_is_good_once_and_ends_what_it_opened_when_it_is_shown_again(house: House) -> None:
    client, _ = house.app()
    browser = house.browser(house.account())
    code = house.code(browser, client)
    tokens = house.redeem(client, code).get_json()
    assert house.status(tokens["access_token"]) == 200
    again = house.redeem(client, code)
    assert (again.status_code, again.get_json()["error"]) == (400, "invalid_grant")
    assert house.status(tokens["access_token"]) == 401
    assert house.refresh(client, tokens["refresh_token"]).status_code == 400


def test_of_two_uses_of_one_code_at_once_none_keeps_anything(house: House) -> None:
    client, _ = house.app()
    code = house.code(house.browser(house.account()), client)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: house.redeem(client, code), range(4)))
    won = [each for each in answers if each.status_code == 200]
    assert len(won) == 1
    assert {each.get_json()["error"] for each in answers if each.status_code != 200} == {"invalid_grant"}
    assert house.status(won[0].get_json()["access_token"]) == 401


def test_a_code_is_good_for_a_minute(house: House) -> None:
    client, _ = house.app()
    code = house.code(house.browser(house.account()), client)
    house.clinic.clock.seconds += 60
    assert house.redeem(client, code).get_json()["error"] == "invalid_grant"


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"code_verifier": "w" * 43}, "invalid_grant"),
        ({"code_verifier": None}, "invalid_request"),
        ({"code_verifier": "short"}, "invalid_request"),
        ({"redirect_uri": "https://app.example.org/other"}, "invalid_grant"),
        ({"redirect_uri": None}, "invalid_grant"),
        ({"code": "another"}, "invalid_grant"),
        ({"code": None}, "invalid_request"),
        ({"code": "x" * 5000}, "invalid_grant"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"grant_type": None}, "invalid_request"),
        ({"client_id": None}, "invalid_client"),
        ({"client_id": "nobody"}, "invalid_client"),
    ],
)
def test_a_code_with_anything_wrong_opens_nothing_and_stays_good(house: House, changed: Json, error: str) -> None:
    client, _ = house.app()
    code = house.code(house.browser(house.account()), client)
    answer = house.redeem(client, code, **changed)
    assert answer.get_json()["error"] == error
    assert answer.headers["Cache-Control"] == "no-store"
    assert house.redeem(client, code).status_code == 200


def test_a_code_of_another_app_is_none_and_stays_good(house: House) -> None:
    client, _ = house.app()
    other, _ = house.app()
    code = house.code(house.browser(house.account()), client)
    assert house.redeem(other, code).get_json()["error"] == "invalid_grant"
    assert house.redeem(client, code).status_code == 200


def test_a_code_is_worth_nothing_when_the_person_has_signed_out(house: House) -> None:
    client, _ = house.app()
    account = house.account()
    browser = house.browser(account)
    code = house.code(browser, client)
    for session in house.clinic.sign_in.sessions.of(account.id, house.clinic.clock.now()):
        house.clinic.sign_in.sessions.end(session.id, account.id, "logged out", house.clinic.clock.now())
    assert house.redeem(client, code).get_json()["error"] == "invalid_grant"


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"grant_type=authorization_code&grant_type=refresh_token", "application/x-www-form-urlencoded", 400),
        (b"grant_type=refresh_token&refresh_token=%00", "application/x-www-form-urlencoded", 400),
        (b"grant_type=%ff", "application/x-www-form-urlencoded", 400),
        (b"\xff\xfe", "application/x-www-form-urlencoded", 400),
        (b"a=1&" * 100, "application/x-www-form-urlencoded", 400),
        (b"x=" + b"y" * 20_000, "application/x-www-form-urlencoded", 413),
        (b"{}", "application/json", 415),
        (b"", "application/x-www-form-urlencoded", 400),
    ],
)
def test_requests_that_cannot_be_read(house: House, body: bytes, kind: str, status: int) -> None:
    answer = house.clinic.app.test_client().post("/oauth/token", data=body, content_type=kind)
    assert (answer.status_code, answer.get_json()["error"]) == (status, "invalid_request")


def test_parameters_in_the_address_do_not_count(house: House) -> None:
    client, _ = house.app()
    code = house.code(house.browser(house.account()), client)
    query = f"grant_type=authorization_code&code={code}&client_id={client.id}"
    assert house.post(f"/oauth/token?{query}").get_json()["error"] == "invalid_request"


def _bearer(tokens: Json) -> dict[str, Any]:
    return {"Authorization": f"Bearer {tokens['access_token']}"}


def test_an_app_is_told_how_the_clinic_looks(house: House) -> None:
    client, _ = house.app()
    tokens = house.tokens(house.account(), client)
    address = tokens["smart_style_url"]
    assert address.startswith(f"{ISSUER}/oauth/style.json?v=")
    answer = house.clinic.app.test_client().get(address.removeprefix(ISSUER))
    assert (answer.status_code, answer.content_type) == (200, "application/json")
    found = answer.get_json()
    colours = {name: value for name, value in found.items() if name.startswith("color_")}
    assert len(colours) == 6
    assert all(len(value) == 7 and value.startswith("#") for value in colours.values())
    assert {"dim_border_radius", "dim_font_size", "dim_spacing_size", "font_family_body", "font_family_heading"} <= set(found)
    assert house.refresh(client, tokens["refresh_token"]).get_json()["smart_style_url"] == address
    told = house.get("/fhir/.well-known/smart-configuration", tokens["access_token"]).get_json()
    assert {"context-banner", "context-style"} <= set(told["capabilities"])
    # An app that is opened for nobody's record has no frame to fit in.
    assert "smart_style_url" not in house.tokens(house.account("doctor"), client, scope="user/*.rs openid")
