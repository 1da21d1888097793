from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.web.conftest import PASSWORD, Clinic, Json

from .conftest import Desk, problem


def login() -> str:
    return f"{uuid.uuid4().hex}@example.org"


def made(desk: Desk, **fields: Any) -> Json:
    body = {"login": login(), "password": PASSWORD, "roles": ["doctor"]} | fields
    found: Json = desk.ok("POST", "/users", body, 201)
    return found


def resource(clinic: Clinic, resource_type: str) -> str:
    identity = uuid.uuid4().hex
    body = {"resourceType": resource_type, "id": identity}
    clinic("PUT", f"/fhir/{resource_type}/{identity}", body, _admin(clinic))
    return identity


def _admin(clinic: Clinic) -> str:
    from .conftest import token_of

    return token_of(clinic.clock(), None, "system/*.cruds")


def test_an_account_is_made_and_shown(desk: Desk, clinic: Clinic) -> None:
    practitioner = resource(clinic, "Practitioner")
    name = login()
    body = {
        "login": name,
        "password": PASSWORD,
        "roles": ["staff", "doctor"],
        "email": name,
        "phone": "+49 170 1234567",
        "practitioner": practitioner,
    }
    answer = desk("POST", "/users", body)
    assert answer.status_code == 201, answer.text
    user = json.loads(answer.data)
    assert user["roles"] == ["doctor", "staff"]
    assert user["state"] == "active"
    assert (user["email"], user["phone"], user["email_proved"], user["phone_proved"]) == (name, "+49 170 1234567", True, True)
    assert user["fhirUser"] == f"Practitioner/{practitioner}"
    assert "password" not in answer.text.replace("password_expired", "")
    shown = desk("GET", answer.headers["Location"])
    assert json.loads(shown.data) == user
    assert shown.headers["ETag"] == answer.headers["ETag"]
    (listed,) = desk.ok("GET", f"/users?login={name.upper()}")["items"]
    assert listed == user | {"email": f"{name[0]}***@example.org", "phone": "***67"}
    account = clinic.sign_in.accounts.by_login(name)
    assert account is not None
    assert clinic("GET", "/auth/me", token=clinic.session(account)["access_token"]).status_code == 200


def test_a_login_is_taken_once(desk: Desk) -> None:
    user = made(desk)
    problem(desk("POST", "/users", {"login": user["login"].upper(), "password": PASSWORD, "roles": ["staff"]}), 409)


def test_who_a_person_is_has_to_be_in_the_record(desk: Desk, clinic: Clinic) -> None:
    for name in ("practitioner", "patient", "related_person"):
        body = {"login": login(), "password": PASSWORD, "roles": ["staff"], name: "nobody"}
        assert name in problem(desk("POST", "/users", body), 422)["detail"]
    user = made(desk)
    problem(desk("PATCH", f"/users/{user['id']}", {"practitioner": "nobody"}), 422)
    patient = resource(clinic, "Patient")
    assert desk.ok("PATCH", f"/users/{user['id']}", {"patient": patient})["fhirUser"] == f"Patient/{patient}"
    gone = resource(clinic, "Patient")
    clinic("DELETE", f"/fhir/Patient/{gone}", token=_admin(clinic))
    problem(desk("PATCH", f"/users/{user['id']}", {"patient": gone}), 422)


def test_who_somebody_is_may_be_told_by_reference(desk: Desk, clinic: Clinic) -> None:
    patient = resource(clinic, "Patient")
    user = made(desk, roles=["patient"], patient=f"Patient/{patient}")
    assert (user["patient"], user["fhirUser"]) == (patient, f"Patient/{patient}")
    for wrong in (f"Practitioner/{patient}", f"Patient/Patient/{patient}", "Patient/"):
        problem(desk("PATCH", f"/users/{user['id']}", {"patient": wrong}), 422)


def test_the_role_patient_needs_the_patient(desk: Desk, clinic: Clinic) -> None:
    problem(desk("POST", "/users", {"login": login(), "password": PASSWORD, "roles": ["patient"]}), 422)
    user = made(desk, roles=["patient"], patient=resource(clinic, "Patient"))
    problem(desk("PATCH", f"/users/{user['id']}", {"patient": None}), 422)


def test_an_invitation_goes_out_by_mail_and_is_taken_up_once(desk: Desk, clinic: Clinic) -> None:
    name = login()
    user = desk.ok("POST", "/users", {"login": name, "email": name, "roles": ["doctor"]}, 201)
    assert user["state"] == "invited"
    code = clinic.outside.mailed_code(name)
    assert clinic.post("login", login=name, password=PASSWORD).status_code == 401
    assert clinic.post("invitation", login=name, code="000000" if code != "000000" else "1", password=PASSWORD).status_code == 401
    assert clinic.post("invitation", login=name, code=code, password="short").status_code == 422
    clinic.clock.seconds += 6 * 86_400
    assert clinic.post("invitation", login=name, code=code, password=PASSWORD).status_code == 204
    assert clinic.post("invitation", login=name, code=code, password=PASSWORD).status_code == 401
    account = clinic.sign_in.accounts.by_login(name)
    assert account is not None
    assert account.state == "active"
    clinic.session(account)


def test_an_invitation_goes_by_sms_where_there_is_no_mail_address(desk: Desk, clinic: Clinic) -> None:
    name = login()
    desk.ok("POST", "/users", {"login": name, "phone": "+49 170 7654321", "roles": ["staff"]}, 201)
    text = clinic.outside.texts.get(timeout=10)
    assert text["to"] == "+49 170 7654321"
    (code,) = re.findall(r"\b[0-9]{6}\b", text["text"])
    assert clinic.post("invitation", login=name, code=code, password=PASSWORD).status_code == 204


def test_without_a_way_the_shell_shows_the_code(desk: Desk, clinic: Clinic) -> None:
    name = login()
    user = desk.ok("POST", "/users", {"login": name, "roles": ["staff"]}, 201)
    account = clinic.sign_in.accounts.by_login(name)
    assert account is not None
    code = clinic.sign_in.code_for_shell(account)
    assert code is not None
    assert desk.ok("POST", f"/users/{user['id']}/invite", None, 202) == {"sent": None}
    assert clinic.post("invitation", login=name, code=code, password=PASSWORD).status_code == 401
    code = clinic.sign_in.code_for_shell(account)
    assert clinic.post("invitation", login=name, code=code, password=PASSWORD).status_code == 204
    assert clinic.post("otp", challenge="x", code=code).status_code == 401


def test_an_invitation_ends_with_its_week_another_one_or_the_account(desk: Desk, clinic: Clinic) -> None:
    name = login()
    user = desk.ok("POST", "/users", {"login": name, "email": name, "roles": ["doctor"]}, 201)
    first = clinic.outside.mailed_code(name)
    problem(desk("POST", f"/users/{user['id']}/invite"), 429)
    clinic.clock.seconds += 31
    assert desk.ok("POST", f"/users/{user['id']}/invite", None, 202) == {"sent": "email"}
    second = clinic.outside.mailed_code(name)
    if first != second:
        assert clinic.post("invitation", login=name, code=first, password=PASSWORD).status_code == 401
    clinic.clock.seconds += 7 * 86_400
    assert clinic.post("invitation", login=name, code=second, password=PASSWORD).status_code == 401
    desk = Desk(clinic, _token(clinic))
    desk.ok("POST", f"/users/{user['id']}/invite", None, 202)
    third = clinic.outside.mailed_code(name)
    desk.ok("DELETE", f"/users/{user['id']}", None, 204)
    assert clinic.post("invitation", login=name, code=third, password=PASSWORD).status_code == 401
    problem(desk("POST", f"/users/{user['id']}/invite"), 409)


def _token(clinic: Clinic) -> str:
    from .conftest import token_of

    return token_of(clinic.clock())


def test_five_wrong_codes_end_an_invitation_and_no_login_is_betrayed(desk: Desk, clinic: Clinic) -> None:
    name = login()
    desk.ok("POST", "/users", {"login": name, "email": name, "roles": ["doctor"]}, 201)
    code = clinic.outside.mailed_code(name)
    wrong = "111111" if code != "111111" else "222222"
    known = [clinic.post("invitation", login=name, code=wrong, password=PASSWORD) for _ in range(6)]
    unknown = [clinic.post("invitation", login=login(), code=wrong, password=PASSWORD)]
    nobody = login()
    unknown = [clinic.post("invitation", login=nobody, code=wrong, password=PASSWORD) for _ in range(6)]
    assert [each.status_code for each in known] == [401] * 5 + [429]
    assert [(each.status_code, each.data) for each in known] == [(each.status_code, each.data) for each in unknown]
    clinic.clock.seconds += 901
    assert clinic.post("invitation", login=name, code=code, password=PASSWORD).status_code == 401


def test_one_invitation_taken_up_by_two_at_once_is_one_ones(desk: Desk, clinic: Clinic) -> None:
    name = login()
    desk.ok("POST", "/users", {"login": name, "email": name, "roles": ["doctor"]}, 201)
    code = clinic.outside.mailed_code(name)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda n: clinic.post("invitation", login=name, code=code, password=f"{PASSWORD} {n}").status_code, range(4)))
    assert sorted(answers) == [204, 401, 401, 401]


def test_taking_rights_away_ends_sessions_at_once(desk: Desk, clinic: Clinic) -> None:
    for changes in ({"roles": ["staff"]}, {"state": "locked"}, {"state": "disabled"}, {"practitioner": resource(clinic, "Practitioner")}):
        account = clinic.account("doctor")
        token = clinic.session(account)["access_token"]
        desk.ok("PATCH", f"/users/{account.id}", changes)
        assert clinic("GET", "/auth/me", token=token).status_code == 401, changes
    account = clinic.account("doctor")
    token = clinic.session(account)["access_token"]
    desk.ok("PATCH", f"/users/{account.id}", {"phone": "+49 30 1234567"})
    assert clinic("GET", "/auth/me", token=token).status_code == 200


def test_a_new_address_voids_the_code_on_its_way_to_the_old_one(desk: Desk, clinic: Clinic) -> None:
    account = clinic.account()
    challenge = clinic.challenge(account)
    code = clinic.code(challenge, account)
    desk.ok("PATCH", f"/users/{account.id}", {"email": login()})
    assert clinic.post("otp", challenge=challenge, code=code).status_code == 401


@pytest.mark.parametrize(
    ("before", "after", "status"),
    [
        ("active", "locked", 200),
        ("active", "active", 200),
        ("locked", "active", 200),
        ("locked", "disabled", 200),
        ("disabled", "active", 200),
        ("disabled", "locked", 422),
        ("invited", "active", 422),
        ("invited", "locked", 422),
        ("invited", "disabled", 200),
        ("active", "invited", 422),
    ],
)
def test_states_follow_each_other(desk: Desk, clinic: Clinic, before: Any, after: str, status: int) -> None:
    account = clinic.account(state=before)
    answer = desk("PATCH", f"/users/{account.id}", {"state": after})
    assert answer.status_code == status, answer.text
    assert desk.ok("GET", f"/users/{account.id}")["state"] == (after if status == 200 else before)


def test_a_change_meant_for_another_state_is_refused(desk: Desk, clinic: Clinic) -> None:
    account = clinic.account()
    tag = desk("GET", f"/users/{account.id}").headers["ETag"]
    problem(desk("PATCH", f"/users/{account.id}", {"roles": ["staff"]}, If_Match='"another"'), 412)
    problem(desk("DELETE", f"/users/{account.id}", If_Match='"another"'), 412)
    changed = desk("PATCH", f"/users/{account.id}", {"roles": ["staff"]}, If_Match=tag)
    assert changed.status_code == 200
    problem(desk("PATCH", f"/users/{account.id}", {"roles": ["doctor"]}, If_Match=tag), 412)
    assert desk("PATCH", f"/users/{account.id}", {"roles": ["doctor"]}, If_Match=f"W/{changed.headers['ETag']}").status_code == 200
    assert desk("PATCH", f"/users/{account.id}", {"roles": ["staff"]}, If_Match="*").status_code == 200


def test_of_two_changes_with_one_etag_one_is_done(desk: Desk, clinic: Clinic) -> None:
    for _ in range(4):
        account = clinic.account()
        tag = desk("GET", f"/users/{account.id}").headers["ETag"]
        bodies = [{"roles": ["staff"]}, {"phone": "+49 30 1234567"}]
        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(lambda body, at=account.id, tag=tag: desk("PATCH", f"/users/{at}", body, If_Match=tag).status_code, bodies))
        assert sorted(answers) == [200, 412]


def test_one_key_makes_one_account(desk: Desk, clinic: Clinic) -> None:
    for _ in range(3):
        key, name = uuid.uuid4().hex, login()
        body = {"login": name, "email": name, "roles": ["doctor"]}
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _, body=body, key=key: desk("POST", "/users", body, Idempotency_Key=key), range(4)))
        assert [each.status_code for each in answers] == [201] * 4
        assert len({each.data for each in answers}) == 1
        assert len({each.headers["Location"] for each in answers}) == 1
        assert sum(each.headers.get("Idempotency-Replayed") == "true" for each in answers) == 3
        assert clinic.outside.mailed_code(name)
    assert clinic.outside.mails.empty()


def test_a_key_is_the_callers_the_requests_and_the_days(desk: Desk, clinic: Clinic) -> None:
    key = uuid.uuid4().hex
    body = {"login": login(), "password": PASSWORD, "roles": ["doctor"]}
    assert desk("POST", "/users", body, Idempotency_Key=key).status_code == 201
    problem(desk("POST", "/users", body | {"login": login()}, Idempotency_Key=key), 422)
    other = Desk(clinic, clinic.session(clinic.account("admin"))["access_token"])
    problem(other("POST", "/users", body, Idempotency_Key=key), 409)
    clinic.clock.seconds += 86_401
    later = Desk(clinic, _token(clinic))
    problem(later("POST", "/users", body, Idempotency_Key=key), 409)
    problem(later("POST", "/users", body, Idempotency_Key=""), 400)
    problem(later("POST", "/users", body, Idempotency_Key="k" * 256), 400)


def test_what_was_refused_may_be_sent_again_under_its_key(desk: Desk) -> None:
    key, user = uuid.uuid4().hex, made(desk)
    body = {"login": user["login"], "password": PASSWORD, "roles": ["doctor"]}
    for _ in range(2):
        problem(desk("POST", "/users", body, Idempotency_Key=key), 409)


def test_a_password_that_is_shown_once_is_sealed_where_it_is_kept(desk: Desk, clinic: Clinic) -> None:
    account, key = clinic.account(), uuid.uuid4().hex
    token = clinic.session(account)["access_token"]
    first = desk.ok("POST", f"/users/{account.id}/reset-password", None, Idempotency_Key=key)
    assert desk.ok("POST", f"/users/{account.id}/reset-password", None, Idempotency_Key=key) == first
    assert clinic("GET", "/auth/me", token=token).status_code == 401
    with clinic.store.database.connection() as connection:
        kept = connection.execute("SELECT answer FROM idempotency").fetchall()
    assert all(first["password"].encode() not in bytes(answer) for (answer,) in kept)
    assert clinic.session(account, first["password"])["password_expired"] is True
    invited = desk.ok("POST", "/users", {"login": login(), "roles": ["staff"]}, 201)
    problem(desk("POST", f"/users/{invited['id']}/reset-password"), 409)


def test_unlocking_forgets_failures(desk: Desk, clinic: Clinic) -> None:
    account = clinic.account()
    for _ in range(5):
        clinic.post("login", login=account.login, password="wrong password")
    assert clinic.post("login", login=account.login, password=PASSWORD).status_code == 429
    desk.ok("POST", f"/users/{account.id}/unlock", None, 204)
    clinic.session(account)
    locked = clinic.account(state="locked")
    desk.ok("POST", f"/users/{locked.id}/unlock", None, 204)
    clinic.session(locked)


def test_a_lost_authenticator_app_is_taken_off(desk: Desk, clinic: Clinic) -> None:
    account = clinic.account()
    clinic.sign_in.enroll_totp(account)
    clinic.sign_in.accounts.accept_totp(account)
    assert desk.ok("GET", f"/users/{account.id}")["totp"] is True
    desk.ok("POST", f"/users/{account.id}/reset-otp", None, 204)
    assert desk.ok("GET", f"/users/{account.id}")["totp"] is False


def test_accounts_come_in_pages(desk: Desk, clinic: Clinic) -> None:
    prefix = uuid.uuid4().hex
    names = sorted(f"{prefix}{letter}{n}" for n in range(4) for letter in "aé")
    for name in names:
        made(desk, login=name.upper(), roles=["staff"] if name.endswith("3") else ["doctor"])
    found, address, pages = [], f"/admin/api/v1/users?login={prefix}&limit=3", 0
    while address:
        answer = desk("GET", address.removeprefix("http://localhost"))
        body = json.loads(answer.data)
        found += [each["login"].lower() for each in body["items"]]
        pages, address = pages + 1, body["next"]
        assert answer.headers.get("Link") == (f'<{address}>; rel="next"' if address else None)
    assert (found, pages) == (names, 3)
    assert len(desk.ok("GET", f"/users?login={prefix}&role=staff")["items"]) == 2
    assert desk.ok("GET", f"/users?login={prefix}&state=locked")["items"] == []
    first = desk.ok("GET", f"/users?login={prefix}&limit=3")["next"].removeprefix("http://localhost")
    problem(desk("GET", first.replace(prefix, "x")), 400)
    problem(desk("GET", first[:-1] + ("a" if first[-1] != "a" else "b")), 400)
    problem(desk("GET", first.replace("/users", "/sessions").replace(f"login={prefix}&", "")), 400)
    for bad in ("limit=0", "limit=201", "limit=x", "role=nurse", "state=odd", "cursor=x", "unknown=1", "login=", "login=%ff", "limit=1&limit=2"):
        problem(desk("GET", f"/users?{bad}"), 400)


@pytest.fixture
def alone(make_clinic: Callable[..., Clinic]) -> Clinic:
    """A clinic whose only administrators are those that the test makes."""
    found = make_clinic()
    with found.store.database.connection() as connection:
        connection.execute("UPDATE account SET roles = '{staff}' WHERE 'admin' = ANY(roles)")
    return found


@pytest.mark.parametrize("change", [{"roles": ["doctor"]}, {"state": "locked"}, {"state": "disabled"}])
def test_the_last_administrator_stays(alone: Clinic, change: Json) -> None:
    desk = Desk(alone, _token(alone))
    one = alone.account("admin", "doctor")
    alone.account("admin", state="locked")
    problem(desk("PATCH", f"/users/{one.id}", change), 422)
    problem(desk("DELETE", f"/users/{one.id}"), 422)
    desk.ok("PATCH", f"/users/{one.id}", {"roles": ["admin"]})
    alone.account("admin")
    desk.ok("PATCH", f"/users/{one.id}", change)


def test_of_the_last_two_administrators_one_stays_whoever_is_quicker(alone: Clinic) -> None:
    for _ in range(4):
        with alone.store.database.connection() as connection:
            connection.execute("UPDATE account SET roles = '{staff}' WHERE 'admin' = ANY(roles)")
        two = [alone.account("admin"), alone.account("admin")]
        desk = Desk(alone, _token(alone))
        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(lambda each, desk=desk: desk("PATCH", f"/users/{each.id}", {"roles": ["doctor"]}).status_code, two))
        assert sorted(answers) == [200, 422]


def test_nobody_is_found_under_a_strange_id(desk: Desk) -> None:
    for path in ("/users/nobody", "/users/%00", "/users/%F0%9F%98%80"):
        answer = desk("GET", path)
        assert answer.status_code in (400, 404)
    for path in ("unlock", "reset-password", "reset-otp", "invite"):
        problem(desk("POST", f"/users/nobody/{path}"), 404)
    problem(desk("DELETE", "/users/nobody/sessions"), 404)
