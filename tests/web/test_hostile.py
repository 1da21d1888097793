from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .conftest import NO_OBJECTS, PASSWORD, Clinic

PATHS = (
    "login",
    "otp/send",
    "otp",
    "refresh",
    "password",
    "totp/confirm",
    "register",
    "register/confirm",
    "invitation",
    "password/forgot",
    "password/reset",
    "contact",
    "contact/confirm",
)
TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)
NAMES = (
    "login",
    "password",
    "challenge",
    "method",
    "code",
    "refresh_token",
    "current",
    "new",
    "email",
    "given",
    "family",
    "birthDate",
    "phone",
    "totp",
)


def problem(answer: Any) -> dict[str, Any]:
    assert answer.mimetype == "application/problem+json"
    assert answer.headers["Cache-Control"] == "no-store"
    body: dict[str, Any] = json.loads(answer.data)
    assert set(body) == {"type", "title", "status", "detail", "error"}
    assert body["status"] == answer.status_code
    return body


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("data", "kind", "status"),
    [*NO_OBJECTS, (b"[1]", "application/json", 400), (b"{}", "application/json", 400), (b" " * 20_000, "application/json", 413)],
)
def test_bodies_that_are_none(clinic: Clinic, path: str, data: bytes, kind: str, status: int) -> None:
    answer = clinic("POST", f"/auth/{path}", data=data, content_type=kind)
    assert answer.status_code == status
    problem(answer)


@pytest.mark.parametrize("value", [None, 7, True, [], {}, "", "\0", "\ud800", "x" * 1001])
def test_fields_that_are_no_text(clinic: Clinic, value: Any) -> None:
    assert problem(clinic.post("login", login=value, password=PASSWORD))["status"] == 400
    assert problem(clinic.post("login", login="somebody", password=value))["status"] == 400


@given(path=st.sampled_from(PATHS), body=st.dictionaries(st.sampled_from(NAMES), st.text(max_size=50) | TREES))
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_nothing_is_a_fault_of_the_server(clinic: Clinic, path: str, body: dict[str, Any]) -> None:
    answer = clinic("POST", f"/auth/{path}", data=json.dumps(body), content_type="application/json")
    assert 400 <= answer.status_code < 500 or (path in {"register", "password/forgot"} and answer.status_code == 202), answer.text


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_other_methods(clinic: Clinic, method: str) -> None:
    answer = clinic(method, "/auth/login")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")


@pytest.mark.parametrize("path", ["nothing", "login/", "sessions/", "sessions/a/b", "sessions/%00", "sessions/a.b", "totp"])
def test_other_addresses(clinic: Clinic, path: str) -> None:
    for method in ("GET", "POST", "DELETE"):
        assert problem(clinic(method, f"/auth/{path}"))["status"] == 404


@pytest.mark.parametrize("path", ["logout", "totp/enroll"])
@pytest.mark.parametrize("header", ["", "Basic YTpi", "Bearer", "Bearer x", "Bearer " + "x" * 9000])
def test_without_a_token(clinic: Clinic, path: str, header: str) -> None:
    answer = clinic("POST", f"/auth/{path}", headers={"Authorization": header})
    assert problem(answer)["error"] == "unauthenticated"
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_no_secret_is_logged(clinic: Clinic, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> None:
    caplog.set_level(logging.DEBUG)
    account = clinic.account()
    challenge = clinic.challenge(account)
    code = clinic.code(challenge, account)
    tokens = clinic.ok("otp", challenge=challenge, code=code)
    # The mail server of the tests tells all that it is told.
    own = [record.getMessage() for record in caplog.records if not record.name.startswith("mail.")]
    written = "".join(own) + "".join(capsys.readouterr())
    for secret in (PASSWORD, code, challenge, tokens["access_token"], tokens["refresh_token"], account.login):
        assert secret not in written
