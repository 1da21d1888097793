from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyotp
import pytest

from fhir_server.access.tokens import issue

from .conftest import PASSWORD, SECRET, Clinic, Json


def test_from_password_to_session_to_sign_out(clinic: Clinic) -> None:
    account = clinic.account("doctor", practitioner="d7")
    started = clinic.ok("login", login=account.login.upper(), password=PASSWORD)
    assert started["methods"] == ["email"]
    assert started["expires_in"] == 600
    code = clinic.code(started["challenge"], account)
    tokens = clinic.ok("otp", challenge=started["challenge"], code=code)
    assert {name: tokens[name] for name in ("token_type", "expires_in")} == {"token_type": "Bearer", "expires_in": 600}
    token = tokens["access_token"]
    me = clinic("GET", "/auth/me", token=token).json
    assert me == {"login": account.login, "roles": ["doctor"], "fhirUser": "Practitioner/d7", "session": tokens["session"]}
    assert clinic("GET", "/fhir/Patient", token=token).status_code == 200
    (listed,) = clinic.listed(token)
    assert (listed["id"], listed["current"], listed["agent"], listed["address"]) == (tokens["session"], True, "test", clinic.address)
    gone = clinic.post("logout", token)
    assert (gone.status_code, gone.headers.get("Content-Type")) == (204, None)
    for path in ("/auth/me", "/auth/sessions", "/fhir/Patient"):
        ended = clinic("GET", path, token=token)
        assert ended.status_code == 401
        assert ended.headers["WWW-Authenticate"].startswith("Bearer")
    assert clinic.post("refresh", refresh_token=tokens["refresh_token"]).status_code == 401


def test_a_token_of_the_shell_says_who_it_is_for(clinic: Clinic) -> None:
    given: Json = {"role": "doctor", "user": "doctor@example.org", "patient": None, "scope": None, "ttl": 60, "now": clinic.clock()}
    me = clinic("GET", "/auth/me", token=issue(SECRET, **given, fhir_user="Practitioner/d7")).json
    assert me == {"login": "doctor@example.org", "roles": ["doctor"], "fhirUser": "Practitioner/d7", "session": None}


def test_a_session_that_ends_ends_for_every_process(clinic: Clinic, make_clinic: Callable[..., Clinic]) -> None:
    other = make_clinic()
    account = clinic.account()
    first, second = clinic.session(account), clinic.session(account)
    assert other("GET", "/fhir/Patient", token=second["access_token"]).status_code == 200
    assert other("DELETE", f"/auth/sessions/{second['session']}", token=first["access_token"]).status_code == 204
    for each in (clinic, other):
        assert each("GET", "/fhir/Patient", token=second["access_token"]).status_code == 401
        assert each("GET", "/fhir/Patient", token=first["access_token"]).status_code == 200
    stranger = clinic.session(clinic.account())
    assert clinic("DELETE", f"/auth/sessions/{first['session']}", token=stranger["access_token"]).status_code == 404
    assert clinic("GET", "/auth/me", token=first["access_token"]).status_code == 200


def test_an_sms_has_the_code(clinic: Clinic) -> None:
    account = clinic.account(phone="+49 170 1234567", email=None)
    challenge = clinic.challenge(account)
    assert clinic.post("otp/send", challenge=challenge, method="email").status_code == 422
    assert clinic.post("otp/send", challenge=challenge, method="sms").status_code == 202
    message = clinic.outside.texts.get(timeout=10)
    assert set(message) == {"to", "text"}
    assert message["to"] == "+49 170 1234567"
    assert clinic.post("otp", challenge=challenge, code=message["text"][:6]).status_code == 200


def test_a_code_is_good_once_and_only_for_its_own_challenge(clinic: Clinic) -> None:
    account = clinic.account()
    one, two = clinic.challenge(account), clinic.challenge(account)
    code = clinic.code(one, account)
    assert clinic.post("otp", challenge=two, code=code).status_code == 401
    assert clinic.post("otp", challenge=one, code=code).status_code == 200
    assert clinic.post("otp", challenge=one, code=code).status_code == 401


def test_the_next_code_supersedes_the_one_before_after_a_while(clinic: Clinic) -> None:
    account = clinic.account()
    challenge = clinic.challenge(account)
    old = clinic.code(challenge, account)
    hasty = clinic.post("otp/send", challenge=challenge, method="email")
    assert (hasty.status_code, hasty.headers["Retry-After"]) == (429, "30")
    clinic.clock.seconds += 30
    new = clinic.code(challenge, account)
    assert old == new or clinic.post("otp", challenge=challenge, code=old).status_code == 401
    assert clinic.post("otp", challenge=challenge, code=new).status_code == 200


def test_five_wrong_tries_or_ten_minutes_end_a_challenge(clinic: Clinic) -> None:
    account = clinic.account()
    challenge = clinic.challenge(account)
    code = clinic.code(challenge, account)
    wrong = "000000" if code != "000000" else "000001"
    assert [clinic.post("otp", challenge=challenge, code=wrong).status_code for _ in range(5)] == [401] * 5
    assert clinic.post("otp", challenge=challenge, code=code).status_code == 401
    challenge = clinic.challenge(account)
    code = clinic.code(challenge, account)
    assert [clinic.post("otp", challenge=challenge, code="0" * 5).status_code for _ in range(4)] == [401] * 4
    assert clinic.post("otp", challenge=challenge, code=code).status_code == 200
    challenge = clinic.challenge(account)
    code = clinic.code(challenge, account)
    clinic.clock.seconds += 600
    assert clinic.post("otp", challenge=challenge, code=code).status_code == 401


def test_whoever_has_the_password_cannot_try_codes_without_end(clinic: Clinic) -> None:
    account = clinic.account()
    found = []
    for _ in range(5):
        challenge = clinic.challenge(account)
        found += [clinic.post("otp", challenge=challenge, code="12345x").status_code for _ in range(5)]
    assert found == [401] * 20 + [429] * 5


def test_an_authenticator_app(clinic: Clinic) -> None:
    account = clinic.account()
    token = clinic.session(account)["access_token"]
    offered = clinic.ok("totp/enroll", token)
    assert offered["otpauth_uri"].startswith("otpauth://totp/")
    assert f"secret={offered['secret']}" in offered["otpauth_uri"]
    assert offered["qr_svg"].startswith("<svg")
    totp = pyotp.TOTP(offered["secret"])
    assert clinic.ok("login", login=account.login, password=PASSWORD)["methods"] == ["email"]
    right = totp.at(int(clinic.clock.seconds))
    assert clinic.post("totp/confirm", token, code="0" * 6 if right != "0" * 6 else "1" * 6).status_code == 422
    assert clinic.post("totp/confirm", token, code=right).status_code == 204
    started = clinic.ok("login", login=account.login, password=PASSWORD)
    assert started["methods"] == ["totp", "email"]
    assert clinic.post("otp/send", challenge=started["challenge"], method="totp").status_code == 202
    # That of the confirmation was used up by it; the next is good once, for one challenge of all.
    assert clinic.post("otp", challenge=started["challenge"], code=right).status_code == 401
    clinic.clock.seconds += 30
    following = totp.at(int(clinic.clock.seconds))
    assert clinic.post("otp", challenge=started["challenge"], code=following).status_code == 200
    assert clinic.post("otp", challenge=clinic.challenge(account), code=following).status_code == 401
    # The app's clock may be half a minute off, and no more.
    clinic.clock.seconds += 3000
    challenge = clinic.challenge(account)
    assert clinic.post("otp", challenge=challenge, code=totp.at(int(clinic.clock.seconds) - 60)).status_code == 401
    assert clinic.post("otp", challenge=challenge, code=totp.at(int(clinic.clock.seconds) - 30)).status_code == 200
    with clinic.store.database.connection() as connection:
        row = connection.execute("SELECT totp_secret, email FROM account WHERE id = %s", (account.id,)).fetchone()
    assert row is not None
    assert offered["secret"].encode() not in row[0]
    assert account.login.encode() not in row[1]


def test_an_unknown_login_gets_the_same_answers(clinic: Clinic) -> None:
    account = clinic.account()

    def answers(login: str) -> list[Any]:
        clinic.address = login
        given = [clinic.post("login", login=login, password="wrong password") for _ in range(6)]
        return [(each.status_code, each.data, each.headers.get("Retry-After"), each.headers.get("WWW-Authenticate")) for each in given]

    known, unknown = answers(account.login), answers("nobody@example.org")
    assert [status for status, *_ in known] == [401] * 5 + [429]
    assert known == unknown
    assert known[-1][2] == "900"


def test_too_many_failures_shut_the_right_password_out_for_a_quarter_of_an_hour(clinic: Clinic) -> None:
    account = clinic.account()
    for _ in range(5):
        assert clinic.post("login", login=account.login, password="wrong password").status_code == 401
    assert clinic.post("login", login=account.login, password=PASSWORD).status_code == 429
    clinic.clock.seconds += 900
    assert clinic.post("login", login=account.login, password=PASSWORD).status_code == 200


def test_strangers_do_not_shut_somebody_out_of_where_they_have_been(clinic: Clinic) -> None:
    account, home = clinic.account(), clinic.address
    clinic.session(account)
    clinic.address = "stranger"
    for _ in range(5):
        assert clinic.post("login", login=account.login, password="wrong password").status_code == 401
    clinic.address = "another stranger"
    assert clinic.post("login", login=account.login, password="wrong password").status_code == 429
    clinic.address = home
    assert clinic.post("login", login=account.login, password=PASSWORD).status_code == 200


def test_successful_sign_ins_do_not_count(clinic: Clinic) -> None:
    account = clinic.account()
    for _ in range(12):
        clinic.session(account)


def test_an_address_has_a_limit_over_all_logins(make_clinic: Callable[..., Clinic]) -> None:
    clinic = make_clinic(auth_address_limit=7)
    clinic.address = "2001:db8::1"
    found = [clinic.post("login", login=f"login-{number}", password="wrong password").status_code for number in range(8)]
    assert found == [401] * 7 + [429]
    clinic.address = "2001:db8::2"
    assert clinic.post("login", login="other", password="wrong password").status_code == 429
    clinic.address = "2001:db8:1::1"
    assert clinic.post("login", login="other", password="wrong password").status_code == 401


def test_of_many_guesses_at_once_five_are_looked_at(clinic: Clinic) -> None:
    account = clinic.account()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: clinic.post("login", login=account.login, password="wrong password").status_code, range(16)))
    assert sorted(found) == [401] * 5 + [429] * 11


@pytest.mark.parametrize("kind", ["email", "totp"])
def test_of_two_uses_of_one_code_at_once_one_succeeds(clinic: Clinic, kind: str) -> None:
    account = clinic.account()
    for _ in range(3):
        if kind == "email":
            challenge = clinic.challenge(account)
            challenges, code = [challenge] * 6, clinic.code(challenge, account)
        else:
            secret = pyotp.random_base32()
            clinic.sign_in.accounts.offer_totp(account, secret)
            clinic.sign_in.accounts.accept_totp(account)
            clinic.clock.seconds += 60
            challenges, code = [clinic.challenge(account) for _ in range(6)], pyotp.TOTP(secret).at(int(clinic.clock.seconds))
        with ThreadPoolExecutor(6) as pool:
            found = list(pool.map(lambda challenge, code=code: clinic.post("otp", challenge=challenge, code=code).status_code, challenges))
        assert sorted(found) == [200] + [401] * 5
        clinic.clock.seconds += 3600


def test_accounts_that_are_not_active_do_not_sign_in(clinic: Clinic) -> None:
    account = clinic.account()
    session = clinic.session(account)
    waiting = clinic.challenge(account)
    code = clinic.code(waiting, account)
    clinic.sign_in.accounts.set_state(account.id, "disabled", clinic.clock.now())
    assert clinic("GET", "/fhir/Patient", token=session["access_token"]).status_code == 401
    assert clinic.post("otp", challenge=waiting, code=code).status_code == 401
    assert clinic.post("login", login=account.login, password=PASSWORD).status_code == 401
    locked = clinic.account()
    clinic.sign_in.accounts.set_state(locked.id, "locked", clinic.clock.now())
    assert clinic.post("login", login=locked.login, password="wrong password").status_code == 401
    assert clinic.post("login", login=locked.login, password=PASSWORD).status_code == 429
    clinic.sign_in.unlock(clinic.sign_in.accounts.by_id(locked.id) or locked)
    assert clinic.post("login", login=locked.login, password=PASSWORD).status_code == 200


def test_blanks_around_a_login_and_within_a_code_do_not_matter(clinic: Clinic) -> None:
    account = clinic.account()
    started = clinic.ok("login", login=f" {account.login.upper()}\u00a0", password=PASSWORD)
    code = clinic.code(started["challenge"], account)
    assert clinic.post("otp", challenge=started["challenge"], code=f" {code[:3]} {code[3:]} ").status_code == 200


def test_head_is_answered_as_get_without_the_body(clinic: Clinic) -> None:
    token = clinic.session(clinic.account())["access_token"]
    for path in ("/auth/me", "/auth/sessions", "/auth/me/notifications"):
        answer = clinic("HEAD", path, token=token)
        assert (answer.status_code, answer.data) == (200, b"")
        assert clinic("HEAD", path).status_code == 401
        assert clinic("DELETE", path, token=token).headers["Allow"].startswith("GET, ")
