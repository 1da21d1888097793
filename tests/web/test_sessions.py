from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import jwt
import pytest

from fhir_server.access.sealing import reseal, unreadable
from fhir_server.access.tokens import grant_of
from fhir_server.access.vault import Vault
from fhir_server.outcome import Outcome

from .conftest import PASSWORD, SECRET, Clinic


def test_a_refresh_rotates(clinic: Clinic) -> None:
    first = clinic.session(clinic.account())
    clinic.clock.seconds += 601
    assert clinic("GET", "/fhir/Patient", token=first["access_token"]).status_code == 401
    second = clinic.ok("refresh", refresh_token=first["refresh_token"])
    assert second["session"] == first["session"]
    assert second["refresh_token"] != first["refresh_token"]
    assert clinic("GET", "/fhir/Patient", token=second["access_token"]).status_code == 200
    (listed,) = clinic.listed(second["access_token"])
    assert listed["last_seen"] > listed["created"]


def test_an_old_refresh_token_ends_the_session(clinic: Clinic) -> None:
    first = clinic.session(clinic.account())
    second = clinic.ok("refresh", refresh_token=first["refresh_token"])
    assert clinic.post("refresh", refresh_token=first["refresh_token"]).status_code == 401
    assert clinic("GET", "/fhir/Patient", token=second["access_token"]).status_code == 401
    assert clinic.post("refresh", refresh_token=second["refresh_token"]).status_code == 401


def test_two_refreshes_with_one_token_end_the_session(clinic: Clinic) -> None:
    for _ in range(4):
        token = clinic.session(clinic.account())["refresh_token"]
        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(lambda _, token=token: clinic.post("refresh", refresh_token=token), range(2)))
        assert sorted(each.status_code for each in answers) == [200, 401]
        (new,) = [each.json for each in answers if each.status_code == 200]
        assert new is not None
        assert clinic("GET", "/fhir/Patient", token=new["access_token"]).status_code == 401
        assert clinic.post("refresh", refresh_token=new["refresh_token"]).status_code == 401


def test_sessions_end_when_nobody_uses_them_and_in_any_case(clinic: Clinic) -> None:
    idle = clinic.session(clinic.account("doctor"))
    clinic.clock.seconds += 3600
    assert clinic.post("refresh", refresh_token=idle["refresh_token"]).status_code == 401
    long = clinic.session(clinic.account("doctor"))
    for _ in range(12 * 2 - 1):
        clinic.clock.seconds += 1800
        long = clinic.ok("refresh", refresh_token=long["refresh_token"])
    clinic.clock.seconds += 1500
    long = clinic.ok("refresh", refresh_token=long["refresh_token"])
    assert long["expires_in"] == 300
    clinic.clock.seconds += 300
    assert clinic.post("refresh", refresh_token=long["refresh_token"]).status_code == 401


def test_a_change_of_password_or_roles_ends_all_sessions(clinic: Clinic) -> None:
    account = clinic.account()
    one, two = clinic.session(account), clinic.session(account)
    token = one["access_token"]
    assert clinic.post("password", token, current="wrong password", new="another password").status_code == 403
    assert clinic.post("password", token, current=PASSWORD, new="short").status_code == 422
    assert clinic.post("password", token, current=PASSWORD, new=account.login.upper()).status_code == 422
    assert clinic("GET", "/auth/me", token=two["access_token"]).status_code == 200
    assert clinic.post("password", token, current=PASSWORD, new="another password").status_code == 204
    for each in (one, two):
        assert clinic("GET", "/auth/me", token=each["access_token"]).status_code == 401
        assert clinic.post("refresh", refresh_token=each["refresh_token"]).status_code == 401
    assert clinic.post("login", login=account.login, password=PASSWORD).status_code == 401
    three = clinic.session(account, "another password")
    clinic.change(account, roles=["staff"])
    assert clinic("GET", "/auth/me", token=three["access_token"]).status_code == 401


def test_an_expired_password_opens_nothing_but_its_change(clinic: Clinic) -> None:
    account = clinic.account("admin")
    clinic.sign_in.accounts.set_password(account, "temporary password", clinic.clock.now(), expired=True)
    tokens = clinic.session(account, "temporary password")
    assert tokens["password_expired"] is True
    token = tokens["access_token"]
    assert clinic("GET", "/fhir/Patient", token=token).status_code == 403
    assert clinic.post("totp/enroll", token).status_code == 403
    assert clinic.post("password", token, current="temporary password", new="my own password").status_code == 204
    again = clinic.session(account, "my own password")
    assert "password_expired" not in again
    assert clinic("GET", "/fhir/Patient", token=again["access_token"]).status_code == 200


def test_an_account_has_so_many_sessions_at_once(clinic: Clinic) -> None:
    account = clinic.account()
    first = last = clinic.session(account)
    for _ in range(20):
        clinic.clock.seconds += 1
        last = clinic.session(account)
    assert clinic("GET", "/auth/me", token=first["access_token"]).status_code == 401
    assert len(clinic.listed(last["access_token"])) == 20


def test_a_token_of_a_session_is_nothing_to_who_cannot_ask_for_it(clinic: Clinic) -> None:
    token = clinic.session(clinic.account())["access_token"]
    with pytest.raises(Outcome, match="session has ended"):
        grant_of(SECRET, token, clinic.clock())
    claims = jwt.decode(token, options={"verify_signature": False})
    forged = jwt.encode(claims | {"sid": "another"}, SECRET, algorithm="HS256")
    assert clinic("GET", "/fhir/Patient", token=forged).status_code == 401
    assert clinic("GET", "/auth/me", token=forged).status_code == 401
    odd = jwt.encode(claims | {"sid": 7}, SECRET, algorithm="HS256")
    assert clinic("GET", "/fhir/Patient", token=odd).status_code == 401


def test_another_secret_opens_no_session_and_shows_no_address(clinic: Clinic, make_clinic: Callable[..., Clinic]) -> None:
    other = make_clinic(jwt_secret="another secret of more than thirty-two bytes")
    account = clinic.account()
    tokens = clinic.session(account)
    assert other("GET", "/auth/me", token=tokens["access_token"]).status_code == 401
    assert other.post("refresh", refresh_token=tokens["refresh_token"]).status_code == 401
    assert other.ok("login", login=account.login, password=PASSWORD)["methods"] == []


def test_with_a_data_key_another_secret_shows_addresses_all_the_same(clinic: Clinic, make_clinic: Callable[..., Clinic]) -> None:
    account = clinic.account(phone="+49 170 1234567")
    keyed = make_clinic(data_key="a data key of more than thirty-two bytes")
    assert keyed.sign_in.accounts.by_id(account.id) == clinic.sign_in.accounts.by_id(account.id)
    vault = Vault.of(keyed.settings)
    assert reseal(keyed.store, vault) >= 2
    assert reseal(keyed.store, vault) == 0
    assert unreadable(keyed.store, vault) == 0
    other = make_clinic(jwt_secret="another secret of more than thirty-two bytes", data_key="a data key of more than thirty-two bytes")
    found = other.sign_in.accounts.by_id(account.id)
    assert found is not None
    assert (found.email, found.phone) == (account.email, account.phone)
    assert other.ok("login", login=account.login, password=PASSWORD)["methods"] == ["email", "sms"]
    assert unreadable(clinic.store, Vault.of(clinic.settings)) >= 2


@pytest.mark.parametrize(
    "path", ["/fhir/Patient/p1", "/fhir/Patient/nobody", "/fhir/AuditEvent/1", "/fhir/Basic/1", "/fhir/Patient", "/fhir/Patient/p1/_history/1"]
)
def test_an_ended_session_opens_no_door_and_tells_nothing_apart(clinic: Clinic, path: str) -> None:
    session = clinic.session(clinic.account("staff"))
    assert clinic("GET", path, token=session["access_token"]).status_code != 401
    assert clinic.post("logout", session["access_token"]).status_code == 204
    answer = clinic("GET", path, token=session["access_token"])
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
