"""How long an app's access lasts, and what ends it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from flask import Flask

from fhir_server import rest
from fhir_server.interactions import Engine
from fhir_server.operations import names
from fhir_server.store import Store

from .conftest import House, Json, query_of

DAY = 24 * 3600


def test_a_refresh_brings_another_of_both_tokens(house: House) -> None:
    client, secret = house.app("client_secret_basic")
    first = house.tokens(house.account(), client, secret)
    answer = house.refresh(client, first["refresh_token"], secret)
    second: Json = answer.get_json()
    assert second["refresh_token"] != first["refresh_token"]
    assert {"patient": "p1", "scope": first["scope"], "expires_in": 900}.items() <= second.items()
    assert house.status(second["access_token"]) == 200


def test_an_app_without_a_secret_need_not_name_itself_to_refresh(house: House) -> None:
    """https://hl7.org/fhir/smart-app-launch/STU2.2/app-launch.html#use-a-refresh-token"""
    client, _ = house.app()
    first = house.tokens(house.account(), client)["refresh_token"]
    answer = house.post("/oauth/token", grant_type="refresh_token", refresh_token=first)
    assert answer.status_code == 200, answer.text
    assert house.post("/oauth/token", grant_type="refresh_token", refresh_token=first).get_json()["error"] == "invalid_grant"
    assert house.status(answer.get_json()["access_token"]) == 401
    known, secret = house.app("client_secret_basic")
    token = house.tokens(house.account(), known, secret)["refresh_token"]
    for sent in (token, "nonsense"):
        assert house.post("/oauth/token", grant_type="refresh_token", refresh_token=sent).get_json()["error"] == "invalid_client"


def test_a_used_refresh_token_ends_all(house: House) -> None:
    client, _ = house.app()
    first = house.tokens(house.account(), client)
    second = house.refresh(client, first["refresh_token"]).get_json()
    again = house.refresh(client, first["refresh_token"])
    assert (again.status_code, again.get_json()["error"]) == (400, "invalid_grant")
    assert house.status(second["access_token"]) == 401
    assert house.refresh(client, second["refresh_token"]).status_code == 400


def test_of_two_refreshes_with_one_token_at_once_one_wins_and_the_session_ends(house: House) -> None:
    client, _ = house.app()
    token = house.tokens(house.account(), client)["refresh_token"]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: house.refresh(client, token), range(4)))
    assert sorted(each.status_code for each in answers) == [200, 400, 400, 400]
    (won,) = [each.get_json() for each in answers if each.status_code == 200]
    assert house.status(won["access_token"]) == 401


def test_a_refresh_token_of_another_app_is_none_and_stays_good(house: House) -> None:
    client, _ = house.app()
    other, _ = house.app()
    token = house.tokens(house.account(), client)["refresh_token"]
    assert house.refresh(other, token).get_json()["error"] == "invalid_grant"
    assert house.refresh(client, token).status_code == 200


def test_a_refresh_may_ask_for_less_but_not_for_more(house: House) -> None:
    client, _ = house.app()
    tokens = house.tokens(house.account(), client)
    more = house.refresh(client, tokens["refresh_token"], scope="patient/*.rus")
    assert more.get_json()["error"] == "invalid_scope"
    less = house.refresh(client, tokens["refresh_token"], scope="patient/Observation.rs").get_json()
    assert less["scope"] == "patient/Observation.rs"
    assert [house.status(less["access_token"], each) for each in ("Patient/p1", "Observation/laboratory-p1")] == [403, 200]
    assert house.refresh(client, less["refresh_token"]).get_json()["scope"] == tokens["scope"]


@pytest.mark.parametrize("blank", [" ", "\t", "  \n "])
def test_blanks_for_a_scope_bring_what_was_granted_and_no_more(house: House, blank: str) -> None:
    client, _ = house.app()
    tokens = house.tokens(house.account("doctor"), client, scope="offline_access user/Practitioner.rs")
    again = house.refresh(client, tokens["refresh_token"], scope=blank).get_json()
    assert again["scope"] == tokens["scope"]
    assert [house.status(again["access_token"], each) for each in ("Practitioner/d1", "Patient/p1")] == [200, 403]


def test_without_a_word_for_it_there_is_no_refresh_token(house: House) -> None:
    client, _ = house.app()
    tokens = house.tokens(house.account(), client, scope="patient/*.rs")
    assert "refresh_token" not in tokens
    assert tokens["expires_in"] == 3600
    house.clinic.clock.seconds += 3599
    assert house.status(tokens["access_token"]) == 200
    house.clinic.clock.seconds += 1
    assert house.status(tokens["access_token"]) == 401
    plain, _ = house.app(grant_types=("authorization_code",))
    assert "refresh_token" not in house.tokens(house.account(), plain)


def test_offline_access_outlives_the_browser_for_90_days_and_30_without_use(house: House) -> None:
    client, _ = house.app()
    account = house.account()
    tokens = house.tokens(account, client)
    _sign_out(house, account.id)
    assert house.status(tokens["access_token"]) == 200
    for _ in range(3):
        house.clinic.clock.seconds += 29 * DAY
        answer = house.refresh(client, tokens["refresh_token"])
        assert answer.status_code == 200, answer.text
        tokens = answer.get_json()
    house.clinic.clock.seconds += 3 * DAY
    assert house.refresh(client, tokens["refresh_token"]).status_code == 400
    idle = house.tokens(house.account(), client)
    house.clinic.clock.seconds += 30 * DAY
    assert house.refresh(client, idle["refresh_token"]).status_code == 400


def test_online_access_lives_and_dies_with_the_browser(house: House) -> None:
    client, _ = house.app()
    account = house.account()
    tokens = house.tokens(account, client, scope="patient/*.rs online_access")
    tokens = house.refresh(client, tokens["refresh_token"]).get_json()
    assert house.status(tokens["access_token"]) == 200
    _sign_out(house, account.id)
    assert house.clinic.sign_in.sessions.of(account.id, house.clinic.clock.now()) == []
    assert house.status(tokens["access_token"]) == 401
    assert house.refresh(client, tokens["refresh_token"]).status_code == 400


def test_online_access_ends_when_nobody_uses_the_browser(house: House) -> None:
    client, _ = house.app()
    tokens = house.tokens(house.account(), client, scope="patient/*.rs online_access")
    house.clinic.clock.seconds += 2 * 3600
    assert house.refresh(client, tokens["refresh_token"]).status_code == 400


def test_access_without_refresh_ends_with_the_sign_out_too(house: House) -> None:
    client, _ = house.app()
    account = house.account()
    tokens = house.tokens(account, client, scope="patient/*.rs")
    _sign_out(house, account.id)
    assert house.status(tokens["access_token"]) == 401


ENDINGS: dict[str, Callable[[House, Json], object]] = {
    "another password": lambda house, it: house.clinic.sign_in.accounts.set_password(it["account"], "another password", house.clinic.clock.now()),
    "other roles": lambda house, it: house.clinic.change(it["account"], roles=["staff"]),
    "disabled": lambda house, it: house.clinic.sign_in.accounts.set_state(it["account"].id, "disabled", house.clinic.clock.now()),
    "app disabled": lambda house, it: house.clients.disable(it["client"].id, "admin", house.clinic.clock.now()),
    "revoked by the app": lambda house, it: house.post("/oauth/revoke", token=it["access_token"], client_id=it["client"].id),
    "refresh token revoked": lambda house, it: house.post("/oauth/revoke", token=it["refresh_token"], client_id=it["client"].id),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_ends_access_ends_it_at_once(house: House, ending: str) -> None:
    client, _ = house.app()
    account = house.account("doctor", patient="p1")
    browser = house.browser(account)
    tokens = house.redeem(client, house.code(browser, client, "p1")).get_json()
    assert house.status(tokens["access_token"]) == 200
    ENDINGS[ending](house, {**tokens, "client": client, "account": account})
    assert house.status(tokens["access_token"]) == 401
    assert house.refresh(client, tokens["refresh_token"]).status_code in (400, 401)


def test_people_see_and_end_what_apps_have(house: House) -> None:
    client, _ = house.app(name="Growth Chart")
    account = house.account(email="them@example.org")
    tokens = house.tokens(account, client)
    own = house.clinic.session(account)["access_token"]
    (listed,) = [each for each in house.clinic.listed(own) if each["agent"] == "App: Growth Chart"]
    assert (listed["address"], listed["current"]) == ("127.0.0.1", False)
    assert house.clinic("DELETE", f"/auth/sessions/{listed['id']}", token=own).status_code == 204
    assert house.status(tokens["access_token"]) == 401


@pytest.mark.parametrize(("method", "path"), [("GET", "sessions"), ("GET", "me"), ("POST", "logout"), ("POST", "totp/enroll")])
def test_an_app_is_not_the_person(house: House, method: str, path: str) -> None:
    client, _ = house.app()
    tokens = house.tokens(house.account(), client)
    assert house.clinic(method, f"/auth/{path}", token=tokens["access_token"]).status_code == 403
    assert house.clinic.post("refresh", refresh_token=tokens["refresh_token"]).status_code == 401


def test_a_refresh_token_of_a_person_is_none_of_an_app(house: House) -> None:
    client, _ = house.app()
    assert house.refresh(client, house.clinic.session(house.account())["refresh_token"]).status_code == 400


def test_an_app_has_20_sessions_of_a_person_and_pushes_no_browser_out(house: House) -> None:
    client, secret = house.app("client_secret_basic")
    account = house.account()
    browser = house.browser(account)
    code = house.code(browser, client)
    got = [house.redeem(client, code, secret).get_json()]
    for _ in range(20):
        house.clinic.clock.seconds += 1
        location = house.ask(browser, client).headers["Location"]
        got.append(house.redeem(client, query_of(location)["code"], secret).get_json())
    assert [house.status(each["access_token"]) for each in (got[0], got[1], got[20])] == [401, 200, 200]
    assert house.ask(browser, client).status_code == 303


def test_every_process_sees_the_end(house: House) -> None:
    """A second application on the same database, as another process is."""
    client, _ = house.app()
    tokens = house.tokens(house.account(), client)
    clinic = house.clinic
    store = Store(clinic.url, zone=clinic.settings.clinic_timezone, connections=2)
    try:
        app = Flask(__name__, static_folder=None)
        app.register_blueprint(
            rest.blueprint(Engine.build(store, clinic.settings, names()), clinic.settings, clinic.sign_in.desk.messenger, clinic.clock)
        )
        headers = {"Authorization": f"Bearer {tokens['access_token']}"}
        assert app.test_client().get("/fhir/Patient/p1", headers=headers).status_code == 200
        house.clients.disable(client.id, "admin", clinic.clock.now())
        assert app.test_client().get("/fhir/Patient/p1", headers=headers).status_code == 401
    finally:
        store.close()


def _sign_out(house: House, account: str) -> None:
    with house.clinic.store.database.connection() as connection:
        connection.execute("UPDATE session SET ended = now(), reason = 'logged out' WHERE account = %s AND client IS NULL", (account,))
