from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from datetime import timedelta

import pytest

from fhir_server.access.accounts.sessions import revoke
from tests.web.conftest import Clinic

from .conftest import Desk, problem, token_of


def test_sessions_are_listed_the_newest_first(desk: Desk, clinic: Clinic) -> None:
    account, other = clinic.account(), clinic.account()
    ids = []
    for _ in range(3):
        clinic.clock.seconds += 1
        ids.append(clinic.session(account)["session"])
    clinic.session(other)
    found, address = [], f"/sessions?user={account.id}&limit=2"
    while address:
        body = json.loads(desk("GET", address.removeprefix("http://localhost")).data)
        found += body["items"]
        address = body["next"]
    assert [each["id"] for each in found] == ids[::-1]
    assert {(each["user"], each["login"], each["address"], each["agent"]) for each in found} == {(account.id, account.login, clinic.address, "test")}
    assert set(found[0]) == {"id", "user", "login", "client", "created", "last_seen", "expires", "address", "agent"}
    everybodys = [each["login"] for each in desk.ok("GET", "/sessions?limit=200")["items"]]
    assert {account.login, other.login} <= set(everybodys)
    assert desk.ok("GET", f"/sessions/{ids[0]}")["login"] == account.login


def test_one_session_ends(desk: Desk, clinic: Clinic) -> None:
    account = clinic.account()
    one, two = clinic.session(account), clinic.session(account)
    desk.ok("DELETE", f"/sessions/{one['session']}", None, 204)
    problem(desk("DELETE", f"/sessions/{one['session']}"), 404)
    problem(desk("GET", f"/sessions/{one['session']}"), 404)
    assert clinic("GET", "/auth/me", token=one["access_token"]).status_code == 401
    assert clinic.post("refresh", refresh_token=one["refresh_token"]).status_code == 401
    assert clinic("GET", "/auth/me", token=two["access_token"]).status_code == 200


def test_all_sessions_of_an_account_end(desk: Desk, clinic: Clinic) -> None:
    account, other = clinic.account(), clinic.account()
    mine = [clinic.session(account), clinic.session(account)]
    kept = clinic.session(other)
    assert desk.ok("DELETE", f"/users/{account.id}/sessions") == {"revoked": 2}
    assert desk.ok("POST", "/sessions/revoke", {"user": account.id}) == {"revoked": 0}
    assert all(clinic("GET", "/auth/me", token=each["access_token"]).status_code == 401 for each in mine)
    assert clinic("GET", "/auth/me", token=kept["access_token"]).status_code == 200


def test_the_sessions_of_a_role_end_and_those_of_everybody(desk: Desk, clinic: Clinic) -> None:
    staff, doctor, admin = (clinic.session(clinic.account(role)) for role in ("staff", "doctor", "admin"))
    assert desk.ok("POST", "/sessions/revoke", {"role": "staff"})["revoked"] >= 1
    assert clinic("GET", "/auth/me", token=staff["access_token"]).status_code == 401
    assert clinic("GET", "/auth/me", token=doctor["access_token"]).status_code == 200
    mine = Desk(clinic, admin["access_token"])
    assert mine.ok("POST", "/sessions/revoke", {"all": True})["revoked"] >= 2
    assert clinic("GET", "/auth/me", token=doctor["access_token"]).status_code == 401
    problem(mine("GET", "/sessions"), 401)


@pytest.mark.parametrize("body", [{}, {"all": False}, {"all": 1}, {"all": "true"}, {"all": True, "role": "staff"}, {"role": "nurse"}, {"user": ""}])
def test_what_to_end_is_said_in_one_way(desk: Desk, body: object) -> None:
    problem(desk("POST", "/sessions/revoke", body), 422)


def test_a_key_ends_sessions_once(desk: Desk, clinic: Clinic) -> None:
    account, key = clinic.account(), uuid.uuid4().hex
    clinic.session(account)
    assert desk.ok("POST", "/sessions/revoke", {"user": account.id}, Idempotency_Key=key) == {"revoked": 1}
    clinic.session(account)
    assert desk.ok("POST", "/sessions/revoke", {"user": account.id}, Idempotency_Key=key) == {"revoked": 1}
    assert len(desk.ok("GET", f"/sessions?user={account.id}")["items"]) == 1


def test_a_thousand_sessions_end_in_one_statement(clinic: Clinic, statements: Callable[[Callable[[], object]], int]) -> None:
    account = clinic.account("patient")
    now = clinic.clock.now()
    ends = now + timedelta(hours=1)
    with clinic.store.database.connection() as connection:
        connection.execute(
            "INSERT INTO session (id, account, created, last_seen, idle_at, expires, address, agent)"
            " SELECT 'many-' || n, %s, %s, %s, %s, %s, '', '' FROM generate_series(1, 1000) AS x(n)",
            (account.id, now, now, ends, ends),
        )
        assert statements(lambda: revoke(connection, now, role="patient")) == 1
        found = connection.execute("SELECT count(*) FROM session WHERE account = %s AND ended IS NULL", (account.id,)).fetchall()
    assert found == [(0,)]


def test_sessions_that_are_over_are_not_open(desk: Desk, clinic: Clinic) -> None:
    account = clinic.account("doctor")
    session = clinic.session(account)["session"]
    clinic.clock.seconds += 3_600
    desk = Desk(clinic, token_of(clinic.clock()))
    assert desk.ok("GET", f"/sessions?user={account.id}")["items"] == []
    problem(desk("DELETE", f"/sessions/{session}"), 404)


def test_every_process_sees_the_end(desk: Desk, clinic: Clinic, make_clinic: Callable[..., Clinic]) -> None:
    other = make_clinic()
    other.clock.seconds = clinic.clock.seconds
    session = clinic.session(clinic.account())
    assert other("GET", "/auth/me", token=session["access_token"]).status_code == 200
    desk.ok("DELETE", f"/sessions/{session['session']}", None, 204)
    assert other("GET", "/auth/me", token=session["access_token"]).status_code == 401
