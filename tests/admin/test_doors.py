"""Who is let in, and what comes of what is not meant well."""

from __future__ import annotations

import json
from typing import Any

import jwt
import pytest

from fhir_server.access import ROLES
from fhir_server.access.roles import RELEASED, Role
from tests.web.conftest import NO_OBJECTS, SECRET, Clinic

from .conftest import ADDRESSES, BASE, Desk, problem, token_of

TRIED = (*((method, path.replace("{identity}", "x")) for method, path in ADDRESSES), ("OPTIONS", f"{BASE}/users"), ("GET", f"{BASE}/nothing"))


def test_the_table_of_addresses_is_that_of_the_document(clinic: Clinic) -> None:
    document = json.loads(clinic("GET", "/admin/openapi.json").data)
    there = {(method.upper(), path) for path, each in document["paths"].items() for method in each if method != "parameters"}
    assert there == set(ADDRESSES)


OTHERS: tuple[Role, ...] = tuple(role for role in ROLES if role != "admin")


@pytest.fixture(scope="module")
def sessions(shared: Clinic) -> dict[Role, str]:
    """An access token of a session of each other role: signing in costs 0.1 s."""
    return {role: shared.session(shared.account(role))["access_token"] for role in OTHERS}


@pytest.mark.parametrize(("method", "path"), TRIED)
def test_only_administrators_are_let_in(clinic: Clinic, sessions: dict[Role, str], method: str, path: str) -> None:
    nobody = clinic(method, path)
    problem(nobody, 401)
    assert nobody.headers["WWW-Authenticate"] == "Bearer"
    problem(clinic(method, path, token="no token"), 401)
    problem(clinic(method, path, headers={"Authorization": "Basic YTpi"}), 401)
    for role in OTHERS:
        problem(clinic(method, path, token=token_of(clinic.clock(), role)), 403)
        problem(clinic(method, path, token=sessions[role]), 403)
    problem(clinic(method, path, token=token_of(clinic.clock(), None, "system/*.cruds")), 403)
    problem(clinic(method, path, token=token_of(clinic.clock(), "admin", "user/Patient.rs")), 403)


def test_a_session_of_an_administrator_is_let_in_until_it_ends(clinic: Clinic) -> None:
    account = clinic.account("admin", "doctor")
    session = clinic.session(account)
    assert Desk(clinic, session["access_token"])("GET", "/roles").status_code == 200
    clinic.post("logout", session["access_token"])
    problem(Desk(clinic, session["access_token"])("GET", "/roles"), 401)
    expired = clinic.account("admin")
    clinic.sign_in.accounts.set_password(expired, "temporary password", clinic.clock.now(), expired=True)
    problem(Desk(clinic, clinic.session(expired, "temporary password")["access_token"])("GET", "/roles"), 403)


def test_an_app_that_an_administrator_uses_is_no_administrator(clinic: Clinic) -> None:
    claims = jwt.decode(token_of(clinic.clock()), options={"verify_signature": False})
    token = jwt.encode(claims | {"client_id": "an app"}, SECRET, algorithm="HS256")
    problem(Desk(clinic, token)("GET", "/roles"), 403)


@pytest.mark.parametrize(
    ("data", "kind", "status"),
    [
        *NO_OBJECTS,
        (b"[1]", "application/json", 422),
        (b"null", "application/json", 422),
        (b'{"login": NaN}', "application/json", 400),
        (b'{"login": "\\ud800"}', "application/json", 400),
        (b'{"login": "a\\u0000b"}', "application/json", 400),
        (b'{"login": "a", "password": "correct horse", "roles": ["doctor"], "odd": 1}', "application/json", 422),
        (b'{"login": "a b", "password": "correct horse", "roles": ["doctor"]}', "application/json", 422),
        (b'{"login": "a", "password": "correct horse", "roles": "doctor"}', "application/json", 422),
        (b'{"login": "a", "password": "correct horse", "roles": []}', "application/json", 422),
        (b'{"login": "a", "password": "correct horse", "roles": ["nurse"]}', "application/json", 422),
        (b'{"login": "a", "password": "short", "roles": ["doctor"]}', "application/json", 422),
        (b'{"login": {"a": 1}, "password": "correct horse", "roles": ["doctor"]}', "application/json", 422),
        (b'{"login": "a", "email": "a@b\\r\\nBcc: c@d", "roles": ["doctor"]}', "application/json", 422),
        (b'{"login": "a", "phone": "not a number", "roles": ["doctor"]}', "application/json", 422),
        (b'{"login": "a", "patient": "../x", "roles": ["doctor"]}', "application/json", 422),
    ],
)
def test_bodies_that_are_none(desk: Desk, clinic: Clinic, data: bytes, kind: str, status: int) -> None:
    answer = clinic("POST", f"{BASE}/users", token=desk.token, data=data, content_type=kind)
    problem(answer, status)
    assert "correct horse" not in answer.text


def test_what_is_at_fault_is_named(desk: Desk) -> None:
    body = {"login": "a", "password": "correct horse", "roles": ["doctor", "nurse"]}
    assert problem(desk("POST", "/users", body), 422)["detail"] == "'roles.1': Must be one of: admin, doctor, staff, patient."
    assert "'odd'" in problem(desk("POST", "/users", {"login": "a", "roles": ["staff"], "odd": 1}), 422)["detail"]


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", "/users", {"GET", "HEAD", "POST", "OPTIONS"}),
        ("TRACE", "/users", {"GET", "HEAD", "POST", "OPTIONS"}),
        ("GET", "/sessions/revoke", None),
        ("DELETE", "/roles", {"GET", "HEAD", "OPTIONS"}),
    ],
)
def test_other_methods_are_told(desk: Desk, method: str, path: str, allow: set[str] | None) -> None:
    answer = desk(method, path)
    if allow is None:
        assert answer.status_code in (404, 405)
        return
    problem(answer, 405)
    assert set(answer.headers["Allow"].split(", ")) == allow


def test_options_names_the_methods_that_are_there(desk: Desk) -> None:
    answer = desk("OPTIONS", "/users")
    assert (answer.status_code, answer.headers["Allow"]) == (204, "GET, HEAD, POST, OPTIONS")


def test_there_is_nothing_elsewhere(desk: Desk, clinic: Clinic) -> None:
    for path in ("/admin/api/v2/users", "/admin/docs/../../etc", "/admin/x"):
        problem(desk("GET", path), 404)
    assert clinic("GET", "/fhir/metadata").status_code == 200
    fault = clinic("GET", "/fhir/Nothing", token=desk.token)
    assert json.loads(fault.data)["resourceType"] == "OperationOutcome"


def test_roles_are_told_as_they_are(desk: Desk) -> None:
    found: dict[str, Any] = {each["role"]: each for each in desk.ok("GET", "/roles")["items"]}
    assert tuple(found) == ROLES
    assert any("Organization" in rule["types"] and rule["permissions"] == "cruds" for rule in found["admin"]["rules"])
    (results,) = [rule for rule in found["patient"]["rules"] if "Observation" in rule["types"]]
    assert results == {
        "types": ["DiagnosticReport", "Observation"],
        "permissions": "rs",
        "held_to": [RELEASED],
        "editable": [],
    }
