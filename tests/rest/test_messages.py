"""HL7 v2 over HTTP: who may, in which types, and that every acknowledgement is an answer of 200."""

from __future__ import annotations

import gzip
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from fhir_server.access import issue
from fhir_server.app import build_app
from fhir_server.interactions import Engine
from fhir_server.operations import names
from fhir_server.settings import Settings
from fhir_server.store import Store

SECRET = "a secret that only the tests know of"


@pytest.fixture(scope="module")
def app(fresh_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    store = Store(fresh_database(), zone=ZoneInfo("Europe/Berlin"), connections=4)
    settings = Settings(data=tmp_path_factory.mktemp("data"), jwt_secret=SECRET, max_body_mb=1)
    yield build_app(Engine.build(store, settings, names()), settings)
    store.close()


def token(role: Any = None, scope: str | None = None, patient: str | None = None) -> str:
    return issue(SECRET, role=role, user="a lab", patient=patient, scope=scope, ttl=3600, now=time.time())


def post(app: Flask, body: bytes, given: str | None = None, kind: str = "application/hl7-v2", **headers: str) -> TestResponse:
    sent = {"Authorization": f"Bearer {given}"} if given else {}
    return app.test_client(use_cookies=False).post("/hl7v2", data=body, content_type=kind, headers=sent | headers)


def oru(modes: str = "") -> bytes:
    control = uuid.uuid4().hex[:12]
    lines = [
        f"MSH|^~\\&|LAB|HOSP|CLINIC|C1|20260102101500||ORU^R01^ORU_R01|{control}|P|2.5.1|||{modes}",
        f"PID|1||{control}^^^HOSP^MR||Doe^Jane||19800101|F",
        f"OBR|1||F{control}|GLU^Glucose^L|||20260102090000+0100|||||||||||||||20260102101500+0100|||F",
        "OBX|1|NM|2345-7^Glucose^LN||95|mg/dL^mg/dL^UCUM|70-110|N|||F",
    ]
    return "\r".join([*lines, ""]).encode()


@pytest.mark.parametrize(
    ("kind", "answered"),
    [
        ("application/hl7-v2", "application/hl7-v2"),
        ("APPLICATION/HL7-V2; charset=UTF-8", "application/hl7-v2; charset=utf-8"),
        ("x-application/hl7-v2+er7", "x-application/hl7-v2+er7"),
        ("text/plain", "text/plain"),
        ('text/plain; charset="iso-8859-1"', "text/plain; charset=iso-8859-1"),
    ],
)
def test_a_message_is_answered_in_its_own_type(app: Flask, kind: str, answered: str) -> None:
    answer = post(app, oru(), token(scope="hl7v2"), kind)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, answered)
    assert b"\rMSA|AA|" in answer.data
    assert "X-Request-Id" in answer.headers


@pytest.mark.parametrize(
    ("body", "code"),
    [(oru(), b"AA"), (oru("AL|NE"), b"AA"), (oru("NE|NE"), b"AA"), (oru().replace(b"HOSP^MR", b""), b"A"), (b"hello", b"AR"), (b"\0\1\2", b"AR")],
)
def test_every_acknowledgement_is_an_answer_of_200(app: Flask, body: bytes, code: bytes) -> None:
    answer = post(app, body, token(scope="hl7v2"))
    assert answer.status_code == 200
    assert b"MSA|" + code in answer.data


def test_a_batch_is_answered_by_a_batch(app: Flask) -> None:
    answer = post(app, b"BHS|^~\\&|\r" + oru() + oru() + b"BTS|2\r", token(scope="hl7v2"))
    assert answer.data.startswith(b"BHS|")
    assert answer.data.count(b"MSA|AA|") == 2


def test_what_is_an_acknowledgement_itself_has_no_answer(app: Flask) -> None:
    answer = post(app, b"MSH|^~\\&|A|B|C|D|20260101||ACK|7|P|2.5\rMSA|AA|1\r", token(scope="hl7v2"))
    assert (answer.status_code, answer.data) == (204, b"")


@pytest.mark.parametrize(
    "given", [{"role": "admin"}, {"scope": "system/*.cruds"}, {"scope": "system/*.*"}, {"scope": "hl7v2"}, {"scope": "hl7v2 system/Patient.rs"}]
)
def test_who_may_hand_in_messages(app: Flask, given: dict[str, Any]) -> None:
    assert post(app, oru(), token(**given)).status_code == 200


@pytest.mark.parametrize(
    "given",
    [
        {"role": "doctor"},
        {"role": "staff"},
        {"role": "patient", "patient": "p1"},
        {"role": "doctor", "scope": "hl7v2"},
        {"role": "admin", "scope": "user/Patient.rs"},
        {"scope": "system/*.rs"},
        {"scope": "system/Observation.cruds"},
        {"scope": "patient/*.cruds", "patient": "p1"},
    ],
)
def test_who_may_not(app: Flask, given: dict[str, Any]) -> None:
    answer = post(app, oru(), token(**given))
    assert answer.status_code == 403
    assert answer.json is not None
    assert answer.json["resourceType"] == "OperationOutcome"


@pytest.mark.parametrize("given", [None, "nonsense"])
def test_without_a_good_token(app: Flask, given: str | None) -> None:
    answer = post(app, oru(), given)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert answer.json is not None
    assert answer.json["resourceType"] == "OperationOutcome"


def test_the_scope_for_messages_opens_nothing_else(app: Flask) -> None:
    client = app.test_client(use_cookies=False)
    headers = {"Authorization": f"Bearer {token(scope='hl7v2')}"}
    assert client.get("/fhir/Patient", headers=headers).status_code == 403
    assert client.post("/fhir/Patient", headers=headers, json={"resourceType": "Patient"}).status_code == 403
    assert client.get("/admin/api/v1/users", headers=headers).status_code == 403


@pytest.mark.parametrize("kind", ["application/json", "application/fhir+json", "", "text/plain; charset=windows-1252", "multipart/form-data"])
def test_other_types(app: Flask, kind: str) -> None:
    assert post(app, oru(), token(scope="hl7v2"), kind).status_code == 415


def test_bodies_that_are_too_large_empty_or_packed(app: Flask) -> None:
    given = token(scope="hl7v2")
    assert post(app, b"MSH|" + b"x" * 1_100_000, given).status_code == 413
    assert post(app, gzip.compress(b"MSH|" + b"x" * 1_100_000), given, **{"Content-Encoding": "gzip"}).status_code == 413
    assert post(app, gzip.compress(oru()), given, **{"Content-Encoding": "gzip"}).status_code == 200
    assert post(app, oru(), given, **{"Content-Encoding": "br"}).status_code == 415
    assert post(app, b"", given).status_code == 400


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_other_methods(app: Flask, method: str) -> None:
    answer = app.test_client(use_cookies=False).open("/hl7v2", method=method)
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")


def test_where_nothing_can_be_stored_the_request_fails(app: Flask, tmp_path: Path) -> None:
    """A sender that speaks HTTP knows what 503 is; an acknowledgement would say more than is true."""
    given = token(scope="hl7v2")
    store = app.extensions["store"]
    with store.database.connection() as connection:
        connection.execute("ALTER TABLE hl7v2_message ADD CONSTRAINT none CHECK (false) NOT VALID")
    try:
        answer = post(app, oru(), given)
    finally:
        with store.database.connection() as connection:
            connection.execute("ALTER TABLE hl7v2_message DROP CONSTRAINT none")
    assert answer.status_code == 500
    assert b"MSA" not in answer.data
