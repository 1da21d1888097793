from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from .conftest import PASSWORD, Clinic


def told(**changes: Any) -> dict[str, Any]:
    return {"password": PASSWORD, "given": "Ana", "family": "Rivera", "birthDate": "1990-05-17"} | changes


def test_a_patient_registers_and_sees_their_own_record_alone(clinic: Clinic) -> None:
    login = "ana@example.org"
    answer = clinic.post("register", login=login, email=login, phone="+49 170 555", **told())
    assert answer.status_code == 202
    assert clinic.post("login", login=login, password=PASSWORD).status_code == 401
    code = clinic.outside.mailed_code(login)
    assert clinic.post("register/confirm", login=login, code="0" * 6 if code != "0" * 6 else "1" * 6).status_code == 401
    made = clinic.ok("register/confirm", login=login.upper(), code=code)
    assert clinic.post("register/confirm", login=login, code=code).status_code == 401
    account = clinic.sign_in.accounts.by_login(login)
    assert account is not None
    assert (account.state, made["fhirUser"], account.applicant) == ("active", account.fhir_user, None)
    # The telephone number is not proved, so no codes go there.
    assert clinic.ok("login", login=login, password=PASSWORD)["methods"] == ["email"]
    token = clinic.session(account)["access_token"]
    found = clinic("GET", f"/fhir/{made['fhirUser']}", token=token).json
    assert found is not None
    assert found["name"] == [{"family": "Rivera", "given": ["Ana"]}]
    page = clinic("GET", "/fhir/Patient", token=token).json
    assert page is not None
    assert [entry["resource"]["id"] for entry in page["entry"]] == [account.patient]


def test_a_login_that_is_taken_gets_the_same_answer_and_no_mail(clinic: Clinic) -> None:
    account = clinic.account("staff")
    fields = told(email="thief@example.org", password="password of a thief")
    taken = clinic.post("register", login=account.login, **fields)
    free = clinic.post("register", login="thief@example.org", **fields)
    assert taken.status_code == free.status_code == 202
    assert taken.data.replace(account.login.encode(), b"") == free.data.replace(b"thief@example.org", b"")
    assert clinic.outside.mails.get(timeout=10)["To"] == "thief@example.org"
    assert clinic.outside.mails.empty()
    assert clinic.post("login", login=account.login, password=PASSWORD).status_code == 200


def test_a_registration_is_repeated_by_the_same_and_given_up_after_a_day(clinic: Clinic) -> None:
    login = "late@example.org"
    clinic.post("register", login=login, **told(email=login))
    old = clinic.outside.mailed_code(login)
    clinic.clock.seconds += 60
    assert clinic.post("register", login=login, **told(email=login)).status_code == 202
    new = clinic.outside.mailed_code(login)
    assert old == new or clinic.post("register/confirm", login=login, code=old).status_code == 401
    other = told(email="other@example.org", password="another person's")
    assert clinic.post("register", login=login, **other).status_code == 202
    assert clinic.outside.mails.empty()
    clinic.clock.seconds += 86_400
    assert clinic.post("register", login=login, **other).status_code == 202
    code = clinic.outside.mailed_code("other@example.org")
    assert clinic.post("register/confirm", login=login, code=code).status_code == 200
    assert clinic.post("login", login=login, password=PASSWORD).status_code == 401
    assert clinic.post("login", login=login, password="another person's").status_code == 200


@pytest.mark.parametrize(
    "fields",
    [
        {"birthDate": "17.05.1990"},
        {"birthDate": "20900517"},
        {"birthDate": "2090-05-17"},
        {"birthDate": "1990-02-30"},
        {"given": " "},
        {"family": "x" * 101},
        {"family": "a\u0007b"},
        {"email": "no address"},
        {"email": "a@b.example\r\nBcc: c@d.example"},
        {"phone": "call me"},
        {"password": "short"},
        {"password": "x" * 300},
        {"login": "with blanks"},
        {"login": "x" * 101},
    ],
)
def test_what_cannot_be_is_refused(clinic: Clinic, fields: dict[str, str]) -> None:
    answer = clinic.post("register", **{"login": "new@example.org", "email": "new@example.org"} | told() | fields)
    assert answer.status_code == 422, answer.text
    assert clinic.sign_in.accounts.by_login("new@example.org") is None


def test_without_a_gateway_the_desk_has_the_code(make_clinic: Callable[..., Clinic]) -> None:
    clinic = make_clinic(smtp_url=None, sms_url=None)
    assert clinic.post("register", login="desk@example.org", email="desk@example.org", **told()).status_code == 202
    account = clinic.sign_in.accounts.by_login("desk@example.org")
    assert account is not None
    # The answer does not wait for what a login that is taken would not have.
    deadline = time.monotonic() + 10
    while (code := clinic.sign_in.code_for_shell(account)) is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert clinic.post("register/confirm", login="desk@example.org", code=code).status_code == 200
    assert clinic.ok("login", login="desk@example.org", password=PASSWORD)["methods"] == []


def test_a_phone_proves_where_there_is_no_mail(make_clinic: Callable[..., Clinic]) -> None:
    clinic = make_clinic(smtp_url=None)
    assert clinic.post("register", login="phone", email="phone@example.org", phone="+49 170 556", **told()).status_code == 202
    code = clinic.outside.texts.get(timeout=10)["text"][:6]
    assert clinic.post("register/confirm", login="phone", code=code).status_code == 200
    assert clinic.ok("login", login="phone", password=PASSWORD)["methods"] == ["sms"]


def test_one_address_registers_so_many(clinic: Clinic) -> None:
    found = [clinic.post("register", login=f"many-{number}", email="many@example.org", **told()).status_code for number in range(21)]
    assert found == [202] * 20 + [429]
