from __future__ import annotations

import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from email.message import Message
from typing import Any

import pyotp
import pytest

from fhir_server.access.accounts.accounts import Account
from fhir_server.access.accounts.desk import Caller
from fhir_server.access.accounts.recovery import Recovery
from fhir_server.outcome import Outcome
from fhir_server.store.session import Session

from .conftest import PASSWORD, Clinic

NEW = "a word of my own"


def forgot(clinic: Clinic, login: str) -> None:
    """Asks for a code, and waits for what is done after the answer."""
    desk = clinic.sign_in.desk
    Recovery(desk).forgot(login, Caller(clinic.address))
    together = threading.Barrier(3)
    for _ in range(2):
        desk.messenger.later(lambda: together.wait(10))
    together.wait(10)


def code_of(clinic: Clinic, login: str) -> str:
    assert clinic.post("password/forgot", login=login).status_code == 202
    return clinic.outside.mailed_code(login)


def told(clinic: Clinic, to: str) -> str:
    """The subject of the mail that tells of a change."""
    notice: Message = clinic.outside.mails.get(timeout=10)
    assert notice["To"] == to
    return str(notice["Subject"])


def other_than(code: str) -> str:
    return "000000" if code != "000000" else "000001"


def test_a_forgotten_password(clinic: Clinic) -> None:
    account = clinic.account()
    token = clinic.session(account)["access_token"]
    waiting = clinic.challenge(account)
    code = code_of(clinic, account.login)
    assert clinic.post("password/reset", login=account.login, code=other_than(code), new=NEW).status_code == 401
    assert clinic.post("password/reset", login=account.login, code=code, new="short").status_code == 422
    assert clinic.post("password/reset", login=account.login.upper(), code=code, new=NEW).status_code == 204
    assert clinic.post("password/reset", login=account.login, code=code, new=NEW).status_code == 401
    assert clinic("GET", "/auth/me", token=token).status_code == 401
    assert clinic.post("otp/send", challenge=waiting, method="email").status_code == 401
    assert clinic.post("login", login=account.login, password=PASSWORD).status_code == 401
    assert told(clinic, account.login) == "Your password was changed"
    # It proves e-mail, which is one factor; a sign-in wants a second one all the same.
    assert clinic.ok("login", login=account.login, password=NEW)["methods"] == ["email"]


def test_an_unknown_login_gets_the_same_answers(clinic: Clinic) -> None:
    account = clinic.account()

    def answers(login: str) -> list[Any]:
        clinic.address = login
        given = [clinic.post("password/forgot", login=login) for _ in range(6)]
        given += [clinic.post("password/reset", login=login, code="12345x", new=NEW) for _ in range(6)]
        return [(each.status_code, each.data.replace(login.encode(), b""), each.headers.get("Retry-After")) for each in given]

    known, unknown = answers(account.login), answers("nobody@example.org")
    assert [status for status, *_ in known] == [202] * 5 + [429] + [401] * 5 + [429]
    assert known == unknown
    # Of five requests within the cool-down one sends a code.
    assert [clinic.outside.mails.get(timeout=10)["To"], clinic.outside.mails.empty()] == [account.login, True]


def mailed(clinic: Clinic) -> set[str]:
    """Whom mail has gone to; that of a test before may still be on its way."""
    found: set[str] = set()
    while not clinic.outside.mails.empty():
        found.add(str(clinic.outside.mails.get()["To"]))
    return found


@pytest.mark.parametrize("state", ["invited", "locked", "disabled"])
def test_accounts_that_are_not_active_get_no_code(clinic: Clinic, state: Any) -> None:
    account = clinic.account(state=state)
    forgot(clinic, account.login)
    assert account.login not in mailed(clinic)


def test_what_is_not_proved_gets_no_code(clinic: Clinic) -> None:
    account = clinic.account(proved=False)
    forgot(clinic, account.login)
    assert account.login not in mailed(clinic)


def test_a_telephone_does_where_there_is_no_mail(clinic: Clinic) -> None:
    account = clinic.account(email=None, phone="+49 170 1234567")
    assert clinic.post("password/forgot", login=account.login).status_code == 202
    code = clinic.outside.texts.get(timeout=10)["text"][:6]
    assert clinic.post("password/reset", login=account.login, code=code, new=NEW).status_code == 204
    assert clinic.outside.texts.get(timeout=10)["text"].startswith("Your password at the clinic was changed")


def with_app(clinic: Clinic) -> tuple[Account, pyotp.TOTP]:
    """An account with an authenticator app."""
    account = clinic.account()
    secret = pyotp.random_base32()
    clinic.sign_in.accounts.offer_totp(account, secret)
    clinic.sign_in.accounts.accept_totp(account)
    return account, pyotp.TOTP(secret)


def reset(clinic: Clinic, account: Account, code: str, **fields: str) -> int:
    return clinic.post("password/reset", login=account.login, **{"code": code, "new": NEW, **fields}).status_code


def test_mail_alone_resets_no_password_where_there_is_an_authenticator_app(clinic: Clinic) -> None:
    account, app = with_app(clinic)
    clinic.post("password/forgot", login=account.login)
    message = clinic.outside.mails.get(timeout=10)
    text = bytes(message.get_payload(decode=True)).decode()
    assert "authenticator app" in text
    (code,) = re.findall(r"^([0-9]{6})\r?$", text, re.MULTILINE)
    shown = app.at(int(clinic.clock.seconds))
    assert reset(clinic, account, code) == 401
    assert reset(clinic, account, code, totp=other_than(shown)) == 401
    assert reset(clinic, account, shown) == 401
    assert reset(clinic, account, shown, totp=code) == 401
    assert reset(clinic, account, code, totp=shown) == 204
    assert clinic.ok("login", login=account.login, password=NEW)["methods"] == ["totp", "email"]
    told(clinic, account.login)


def test_an_authenticator_app_alone_resets_no_password(clinic: Clinic) -> None:
    account, app = with_app(clinic)
    code = code_of(clinic, account.login)
    shown = app.at(int(clinic.clock.seconds))
    assert reset(clinic, account, other_than(code), totp=shown) == 401
    # It was not used up by that.
    assert reset(clinic, account, code, totp=shown) == 204
    told(clinic, account.login)


def test_a_code_of_the_app_serves_a_reset_or_a_sign_in_but_not_both(clinic: Clinic) -> None:
    account, app = with_app(clinic)
    shown = app.at(int(clinic.clock.seconds))
    code = code_of(clinic, account.login)
    clinic.ok("otp", challenge=clinic.challenge(account), code=shown)
    assert reset(clinic, account, code, totp=shown) == 401
    clinic.clock.seconds += 30
    later = app.at(int(clinic.clock.seconds))
    assert reset(clinic, account, code, totp=later) == 204
    assert clinic.post("otp", challenge=clinic.challenge(account, NEW), code=later).status_code == 401
    told(clinic, account.login)


def test_of_many_resets_at_once_with_both_codes_one_succeeds(clinic: Clinic) -> None:
    account, app = with_app(clinic)
    code, shown = code_of(clinic, account.login), app.at(int(clinic.clock.seconds))
    with ThreadPoolExecutor(4) as pool:
        given = [pool.submit(reset, clinic, account, code, totp=shown, new=f"{NEW} {number}") for number in range(4)]
    assert sorted(each.result() for each in given) == [204, 401, 401, 401]
    told(clinic, account.login)


def test_of_a_reset_and_a_sign_in_at_once_with_one_code_of_the_app_one_succeeds(clinic: Clinic) -> None:
    account, app = with_app(clinic)
    code, shown = code_of(clinic, account.login), app.at(int(clinic.clock.seconds))
    challenge = clinic.challenge(account)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(reset, clinic, account, code, totp=shown)
        second = pool.submit(lambda: clinic.post("otp", challenge=challenge, code=shown).status_code)
    assert (first.result(), second.result()) in {(204, 401), (401, 200)}
    if first.result() == 204:
        told(clinic, account.login)


def test_a_wrong_code_of_the_app_is_answered_like_a_wrong_code_and_an_unknown_login(clinic: Clinic) -> None:
    account, app = with_app(clinic)
    plain = clinic.account()
    codes = {each.login: code_of(clinic, each.login) for each in (account, plain)}
    wrong = other_than(app.at(int(clinic.clock.seconds)))

    def answers(login: str, code: str) -> list[Any]:
        clinic.address = f"{login} {code}"
        given = [clinic.post("password/reset", login=login, code=code, totp=wrong, new=NEW) for _ in range(6)]
        return [(each.status_code, each.data, each.headers.get("Retry-After")) for each in given]

    of_app = answers(account.login, codes[account.login])
    assert [status for status, *_ in of_app] == [401] * 5 + [429]
    assert of_app == answers(plain.login, other_than(codes[plain.login])) == answers("nobody-at-all@example.org", "123456")


def test_a_wrong_code_costs_the_same_whether_or_not_there_is_such_a_login(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, (account, _), idle = clinic.account(), with_app(clinic), clinic.account()
    for each in (plain, account):
        clinic.sign_in.desk.challenges.open(each, "recovery", clinic.clock.now())
    seen: list[str] = []
    here, execute = threading.get_ident(), Session.execute

    def counting(self: Any, query: Any, *arguments: Any, **options: Any) -> Any:
        if threading.get_ident() == here:
            seen.append(str(query))
        return execute(self, query, *arguments, **options)

    monkeypatch.setattr(Session, "execute", counting)
    counts = []
    for login in (plain.login, account.login, idle.login, "nobody-here@example.org"):
        seen.clear()
        with pytest.raises(Outcome):
            Recovery(clinic.sign_in.desk).reset(login, "12345x", NEW, Caller(login), totp="123456")
        counts.append(len(seen))
    assert len(set(counts)) == 1, counts


def test_five_wrong_codes_of_the_app_end_the_challenge(clinic: Clinic) -> None:
    account, app = with_app(clinic)
    challenges, now = clinic.sign_in.desk.challenges, clinic.clock.now()
    challenge = challenges.open(account, "recovery", now)
    code = challenges.new_code(challenge, "email", now)
    account = clinic.sign_in.accounts.by_id(account.id) or account
    shown = app.at(int(clinic.clock.seconds))
    assert [challenges.use(challenge, account, code, now, totp=other_than(shown)) for _ in range(5)] == [None] * 5
    assert challenges.use(challenge, account, code, now, totp=shown) is None


def test_an_app_that_is_set_up_meanwhile_counts(clinic: Clinic) -> None:
    before = clinic.account()
    challenges, now = clinic.sign_in.desk.challenges, clinic.clock.now()
    challenge = challenges.open(before, "recovery", now)
    code = challenges.new_code(challenge, "email", now)
    clinic.sign_in.accounts.offer_totp(before, pyotp.random_base32())
    clinic.sign_in.accounts.accept_totp(before)
    assert challenges.use(challenge, before, code, now) is None


def test_where_the_app_is_lost_the_desk_takes_it_off(clinic: Clinic) -> None:
    account, _ = with_app(clinic)
    clinic.sign_in.accounts.reset_totp(account.id, clinic.clock.now())
    assert reset(clinic, account, code_of(clinic, account.login)) == 204
    told(clinic, account.login)


def test_codes_are_good_for_one_purpose(clinic: Clinic) -> None:
    account = clinic.account()
    code = code_of(clinic, account.login)
    challenge = clinic.challenge(account)
    assert clinic.post("otp", challenge=challenge, code=code).status_code == 401
    clinic.clock.seconds += 30
    other = clinic.code(challenge, account)
    assert other == code or clinic.post("password/reset", login=account.login, code=other, new=NEW).status_code == 401
    assert clinic.post("password/reset", login=account.login, code=code, new=NEW).status_code == 204
    told(clinic, account.login)


def test_of_many_uses_of_one_code_at_once_one_succeeds(clinic: Clinic) -> None:
    account = clinic.account()
    code = code_of(clinic, account.login)
    with ThreadPoolExecutor(4) as pool:
        given = [pool.submit(clinic.post, "password/reset", login=account.login, code=code, new=f"{NEW} {number}") for number in range(4)]
    assert sorted(each.result().status_code for each in given) == [204, 401, 401, 401]
    told(clinic, account.login)


def test_a_reset_opens_what_wrong_passwords_have_shut(clinic: Clinic) -> None:
    account = clinic.account()
    for _ in range(5):
        clinic.post("login", login=account.login, password="wrong password")
    assert clinic.post("login", login=account.login, password=PASSWORD).status_code == 429
    code = code_of(clinic, account.login)
    assert clinic.post("password/reset", login=account.login, code=code, new=NEW).status_code == 204
    assert clinic.post("login", login=account.login, password=NEW).status_code == 200
    told(clinic, account.login)


def test_one_address_asks_for_so_many(clinic: Clinic) -> None:
    found = [clinic.post("password/forgot", login=f"many-{number}").status_code for number in range(21)]
    assert found == [202] * 20 + [429]


def test_without_a_gateway_the_desk_has_the_code(make_clinic: Callable[..., Clinic]) -> None:
    clinic = make_clinic(smtp_url=None, sms_url=None)
    account = clinic.account(demo=True)
    forgot(clinic, account.login)
    code = clinic.sign_in.code_for_shell(account)
    assert clinic.post("password/reset", login=account.login, code=code, new=NEW).status_code == 204


def test_another_e_mail_address_is_proved_before_it_counts(clinic: Clinic) -> None:
    account = clinic.account()
    token = clinic.session(account)["access_token"]
    assert clinic.post("contact", token, email="new@example.org", current="wrong password").status_code == 403
    assert clinic.post("contact", token, email="nowhere", current=PASSWORD).status_code == 422
    assert clinic.post("contact", token, email="new@example.org", phone="+49 170 1", current=PASSWORD).status_code == 400
    assert clinic.post("contact", token, current=PASSWORD).status_code == 400
    assert clinic.post("contact/confirm", token, kind="email", code="123456").status_code == 422
    assert clinic.post("contact", token, email="new@example.org", current=PASSWORD).status_code == 202
    code = clinic.outside.mailed_code("new@example.org")
    found = clinic.sign_in.accounts.by_id(account.id)
    assert found is not None
    assert found.email == account.login
    assert clinic.post("contact/confirm", token, kind="email", code=other_than(code)).status_code == 422
    assert clinic.post("contact/confirm", token, kind="phone", code=code).status_code == 422
    assert clinic.post("contact/confirm", token, kind="email", code=code).status_code == 204
    assert clinic.post("contact/confirm", token, kind="email", code=code).status_code == 422
    assert told(clinic, account.login) == "Your e-mail address was changed"
    found = clinic.sign_in.accounts.by_id(account.id)
    assert found is not None
    assert (found.email, found.email_proved) == ("new@example.org", True)
    with clinic.store.database.connection() as connection:
        rows = connection.execute(
            "SELECT email, (SELECT max(target) FROM challenge WHERE account = a.id) FROM account a WHERE id = %s", (account.id,)
        )
        assert all(b"new@example.org" not in bytes(value) for value in rows.fetchall()[0])


def test_a_telephone_number_comes_to_an_account(clinic: Clinic) -> None:
    account = clinic.account()
    token = clinic.session(account)["access_token"]
    assert clinic.post("contact", token, phone="+49 170 7654321", current=PASSWORD).status_code == 202
    message = clinic.outside.texts.get(timeout=10)
    assert message["to"] == "+49 170 7654321"
    assert clinic.post("contact/confirm", token, kind="phone", code=message["text"][:6]).status_code == 204
    assert clinic.ok("login", login=account.login, password=PASSWORD)["methods"] == ["email", "sms"]
    told(clinic, account.login)


def test_a_further_offer_takes_the_place_of_the_one_before(clinic: Clinic) -> None:
    account = clinic.account()
    token = clinic.session(account)["access_token"]
    codes = []
    for email in ("one@example.org", "two@example.org"):
        clinic.post("contact", token, email=email, current=PASSWORD)
        codes.append(clinic.outside.mailed_code(email))
    assert codes[0] == codes[1] or clinic.post("contact/confirm", token, kind="email", code=codes[0]).status_code == 422
    assert clinic.post("contact/confirm", token, kind="email", code=codes[1]).status_code == 204
    found = clinic.sign_in.accounts.by_id(account.id)
    assert found is not None
    assert found.email == "two@example.org"
    told(clinic, account.login)


def test_of_many_requests_at_once_one_opens_a_challenge(clinic: Clinic) -> None:
    account = clinic.account()
    now = clinic.clock.now()
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda _: clinic.sign_in.desk.challenges.standing(account, "recovery", now), range(6)))
    assert len({each.id for each in found}) == 1
