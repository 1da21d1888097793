from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from fhir_server.access import issue
from fhir_server.access.apps import Clients, NewClient
from fhir_server.access.vault import Vault
from fhir_server.app import build_app
from fhir_server.interactions import Engine
from fhir_server.operations import names
from fhir_server.settings import Settings
from fhir_server.store import Store

SECRET = "a secret that only the tests know of"
ORIGIN = "https://app.example.org"
OPEN = ("/fhir/metadata", "/fhir/.well-known/smart-configuration", "/.well-known/openid-configuration", "/oauth/jwks", "/oauth/style.json")
SHARED = ("/fhir/Patient", "/fhir", "/oauth/token", "/oauth/userinfo", "/oauth/introspect", "/oauth/revoke", "/oauth/register")
CLOSED = ("/auth/login", "/auth/me", "/sign-in", "/", "/oauth/authorize", "/launch", "/metrics", "/fhirx")


@dataclass
class Shop:
    client: FlaskClient
    clients: Clients
    app: str
    token: str

    def ask(self, method: str, path: str, origin: str | None, **headers: str) -> TestResponse:
        sent = headers | ({"Origin": origin} if origin is not None else {})
        return self.client.open(path, method=method, headers={name.replace("_", "-"): value for name, value in sent.items()})


@pytest.fixture(scope="module")
def shop(fresh_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    settings = Settings(Path(tmp_path_factory.mktemp("data")), SECRET)
    store = Store(fresh_database(), zone=settings.clinic_timezone, connections=4)
    clients = Clients(store, Vault(SECRET))
    new = NewClient("App", "none", ("authorization_code",), redirect_uris=(f"{ORIGIN}/back",), origins=(ORIGIN, "http://localhost:3000"))
    app, _ = clients.add(new, "tests", datetime.now(UTC))
    now = datetime.now(UTC).timestamp()
    token = issue(SECRET, role="admin", user=None, patient=None, scope=None, ttl=3600, now=now)
    flask = build_app(Engine.build(store, settings, names()), settings)
    yield Shop(flask.test_client(use_cookies=False), clients, app.id, token)
    store.close()


@pytest.mark.parametrize("path", SHARED)
def test_the_pages_of_an_app_may_call(shop: Shop, path: str) -> None:
    for origin in (ORIGIN, "http://localhost:3000"):
        for answer in (
            shop.ask("OPTIONS", path, origin, Access_Control_Request_Method="POST", Access_Control_Request_Headers="authorization"),
            shop.ask("POST", path, origin),
        ):
            assert answer.headers["Access-Control-Allow-Origin"] == origin
            assert "Origin" in answer.headers.getlist("Vary")
            assert "Access-Control-Allow-Credentials" not in answer.headers
        preflight = shop.ask("OPTIONS", path, origin, Access_Control_Request_Method="PUT")
        assert preflight.status_code == 204
        assert "PUT" in preflight.headers["Access-Control-Allow-Methods"]
        assert "Authorization" in preflight.headers["Access-Control-Allow-Headers"]
        assert "X-Request-Id" in preflight.headers


def test_scripts_see_the_headers_that_fhir_speaks_by(shop: Shop) -> None:
    answer = shop.ask("GET", "/fhir/Patient", ORIGIN, Authorization=f"Bearer {shop.token}")
    assert answer.status_code == 200
    exposed = answer.headers["Access-Control-Expose-Headers"].split(", ")
    assert {"ETag", "Location", "Content-Location", "Last-Modified", "X-Request-Id"} <= set(exposed)


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example.org",
        "http://app.example.org",
        "https://app.example.org:8443",
        "null",
        "*",
        "https://app.example.org/",
        "https://x\r\nX: 1",
        "x" * 9000,
    ],
)
def test_other_pages_may_not(shop: Shop, origin: str) -> None:
    sent = origin.replace("\r\n", " ")
    for path in SHARED:
        for headers in ({}, {"Access_Control_Request_Method": "GET"}):
            answer = shop.ask("OPTIONS" if headers else "GET", path, sent, **headers)
            assert "Access-Control-Allow-Origin" not in answer.headers
            assert "Access-Control-Allow-Methods" not in answer.headers


@pytest.mark.parametrize("path", OPEN)
def test_what_everybody_may_know_is_told_to_every_page(shop: Shop, path: str) -> None:
    for origin in (ORIGIN, "https://elsewhere.example.org", "null"):
        answer = shop.ask("GET", path, origin)
        assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (200, "*")


@pytest.mark.parametrize("path", CLOSED)
def test_pages_and_sign_in_are_shared_with_nobody(shop: Shop, path: str) -> None:
    for headers in ({}, {"Access_Control_Request_Method": "POST"}):
        answer = shop.ask("OPTIONS" if headers else "GET", path, ORIGIN, **headers)
        assert not [name for name in answer.headers.keys() if name.startswith("Access-Control")]  # noqa: SIM118 - the names, repeated ones too


def test_without_an_origin_nothing_is_added(shop: Shop) -> None:
    answer = shop.ask("GET", "/fhir/metadata", None)
    assert not [name for name, _ in answer.headers if name.startswith("Access-Control")]


def test_a_disabled_app_s_pages_are_shut_out(shop: Shop) -> None:
    now: Any = datetime.now(UTC)
    shop.clients.disable(shop.app, "admin", now)
    assert "Access-Control-Allow-Origin" not in shop.ask("GET", "/fhir/Patient", ORIGIN).headers
    shop.clients.enable(shop.app, "admin")
    assert "Access-Control-Allow-Origin" in shop.ask("GET", "/fhir/Patient", ORIGIN).headers


def test_the_statement_says_where_apps_are_let_in(shop: Shop) -> None:
    for kind in ("json", "xml"):
        text = shop.client.get(f"/fhir/metadata?_format={kind}", base_url="http://clinic.example.org:8000").text
        for place in ("authorize", "token", "register", "introspect", "revoke"):
            assert f"http://clinic.example.org:8000/oauth/{place}" in text
        assert "http://clinic.example.org:8000/fhir" in text
        assert "\N{SYMBOL FOR NULL}" not in text
    (rest,) = shop.client.get("/fhir/metadata").get_json()["rest"]
    assert rest["security"]["cors"] is True
    assert rest["security"]["service"][0]["coding"][0]["code"] == "SMART-on-FHIR"
    (uris,) = rest["security"]["extension"]
    assert {each["url"]: each["valueUri"] for each in uris["extension"]}["token"] == "http://localhost/oauth/token"
