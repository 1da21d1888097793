"""The HTTP door over a stand-in for the interactions: what reaches them is recorded, what they answer is chosen by the test."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from types import SimpleNamespace
from typing import Any, cast

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from fhir_server.access import issue
from fhir_server.app import build_app
from fhir_server.interactions import Engine, Exchange, Reply
from fhir_server.settings import Settings
from fhir_server.spec import r4

SECRET = "a secret that only the tests know of"
PATIENT = b'{"resourceType":"Patient","id":"1","active":true}'


def bearer(scope: str = "system/*.cruds") -> dict[str, str]:
    token = issue(SECRET, role=None, user="tester", patient=None, scope=scope, ttl=600, now=time.time())
    return {"Authorization": f"Bearer {token}"}


@dataclass
class Door:
    """A client, what it made of the requests, and what is answered: a Reply or an exception."""

    client: FlaskClient
    seen: list[Exchange] = field(default_factory=list)
    answer: Reply | Exception = field(default_factory=lambda: Reply(200, PATIENT))

    def dispatch(self, _engine: Engine, exchange: Exchange, _operate: object) -> Reply:
        self.seen.append(exchange)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def __call__(self, method: str, path: str, *, headers: dict[str, str] | None = None, **rest: Any) -> TestResponse:
        return self.client.open(path, method=method, headers={**bearer(), **(headers or {})}, **rest)

    @property
    def last(self) -> Exchange:
        return self.seen[-1]


MakeDoor = Callable[..., Door]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Flask]:
    """Applications by their settings, each built once: that takes 0.3 s, and they remember nothing of a test."""
    data = tmp_path_factory.mktemp("data")

    @cache
    def make(*, ready: bool, **settings: Any) -> Flask:
        engine = cast("Engine", SimpleNamespace(spec=r4(), store=SimpleNamespace(ready=lambda: ready, note=lambda _event: None)))
        return build_app(engine, Settings(data=data, jwt_secret=SECRET, **settings))

    return make


@pytest.fixture
def make_door(monkeypatch: pytest.MonkeyPatch, build: Callable[..., Flask]) -> MakeDoor:
    """Doors with settings of the test's choice."""

    def make(*, ready: bool = True, **settings: Any) -> Door:
        door = Door(build(ready=ready, **settings).test_client())
        monkeypatch.setattr("fhir_server.rest.api.dispatch", door.dispatch)
        return door

    return make


@pytest.fixture
def door(make_door: MakeDoor) -> Door:
    """A door with the default settings, one MiB of body at most."""
    return make_door(max_body_mb=1)
