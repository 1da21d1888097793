"""The clinic of the sign-in tests, and an administrator in it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from werkzeug.test import TestResponse

from fhir_server.access import issue
from fhir_server.access.roles import Role
from fhir_server.search import SYSTEM
from fhir_server.store.ops import Create
from tests.web.conftest import SECRET, Clinic, Json, clinic, make_clinic, outside, shared

__all__ = ["clinic", "make_clinic", "outside", "shared"]

BASE = "/admin/api/v1"
ADDRESSES = (
    ("GET", f"{BASE}/users"),
    ("POST", f"{BASE}/users"),
    ("GET", f"{BASE}/users/{{identity}}"),
    ("PATCH", f"{BASE}/users/{{identity}}"),
    ("DELETE", f"{BASE}/users/{{identity}}"),
    ("POST", f"{BASE}/users/{{identity}}/unlock"),
    ("POST", f"{BASE}/users/{{identity}}/reset-password"),
    ("POST", f"{BASE}/users/{{identity}}/reset-otp"),
    ("POST", f"{BASE}/users/{{identity}}/invite"),
    ("DELETE", f"{BASE}/users/{{identity}}/sessions"),
    ("GET", f"{BASE}/sessions"),
    ("GET", f"{BASE}/sessions/{{identity}}"),
    ("DELETE", f"{BASE}/sessions/{{identity}}"),
    ("POST", f"{BASE}/sessions/revoke"),
    ("GET", f"{BASE}/roles"),
    ("GET", f"{BASE}/clients"),
    ("POST", f"{BASE}/clients"),
    ("GET", f"{BASE}/clients/{{identity}}"),
    ("PATCH", f"{BASE}/clients/{{identity}}"),
    ("DELETE", f"{BASE}/clients/{{identity}}"),
    ("POST", f"{BASE}/clients/{{identity}}/rotate-secret"),
    ("POST", f"{BASE}/initial-tokens"),
    ("GET", f"{BASE}/policy"),
    ("PATCH", f"{BASE}/policy"),
    ("GET", f"{BASE}/hl7v2/peers"),
    ("POST", f"{BASE}/hl7v2/peers"),
    ("GET", f"{BASE}/hl7v2/peers/{{identity}}"),
    ("PATCH", f"{BASE}/hl7v2/peers/{{identity}}"),
    ("DELETE", f"{BASE}/hl7v2/peers/{{identity}}"),
    ("GET", f"{BASE}/hl7v2/peers/{{identity}}/state"),
    ("GET", f"{BASE}/hl7v2/outbox"),
    ("GET", f"{BASE}/hl7v2/outbox/{{identity}}"),
    ("POST", f"{BASE}/hl7v2/outbox/{{identity}}/replay"),
    ("GET", f"{BASE}/notifications"),
    ("GET", f"{BASE}/notifications/{{identity}}"),
    ("POST", f"{BASE}/notifications/{{identity}}/replay"),
    ("POST", f"{BASE}/notifications/run-due"),
    ("GET", f"{BASE}/notifications/settings"),
    ("PATCH", f"{BASE}/notifications/settings"),
    ("GET", f"{BASE}/notifications/texts"),
    ("GET", f"{BASE}/notifications/templates"),
    ("POST", f"{BASE}/notifications/templates"),
    ("POST", f"{BASE}/notifications/templates/preview"),
    ("GET", f"{BASE}/notifications/templates/{{identity}}"),
    ("POST", f"{BASE}/notifications/templates/{{identity}}/activate"),
    ("POST", f"{BASE}/notifications/templates/{{identity}}/retire"),
    ("GET", f"{BASE}/subscriptions"),
    ("POST", f"{BASE}/subscriptions/{{identity}}/rotate-secret"),
    ("GET", f"{BASE}/subscription-deliveries"),
    ("POST", f"{BASE}/subscription-deliveries/{{identity}}/replay"),
    ("GET", f"{BASE}/payments/intents"),
    ("GET", f"{BASE}/payments/events"),
    ("GET", f"{BASE}/payments/events/{{identity}}"),
    ("POST", f"{BASE}/payments/events/{{identity}}/replay"),
    ("POST", f"{BASE}/payments/events/{{identity}}/assign"),
    ("GET", f"{BASE}/payments/reconciliations"),
    ("POST", f"{BASE}/payments/reconciliations"),
    ("GET", f"{BASE}/payments/reconciliations/{{day}}"),
    ("GET", f"{BASE}/search-parameters"),
    ("GET", f"{BASE}/reindex-jobs"),
    ("POST", f"{BASE}/reindex-jobs"),
    ("GET", f"{BASE}/reindex-jobs/{{identity}}"),
    ("GET", f"{BASE}/settings"),
    ("GET", f"{BASE}/audit"),
    ("POST", f"{BASE}/audit/verify"),
    ("GET", f"{BASE}/statistics"),
    ("GET", f"{BASE}/queue/settings/{{identity}}"),
    ("PATCH", f"{BASE}/queue/settings/{{identity}}"),
    ("GET", f"{BASE}/queue/statistics"),
    ("GET", f"{BASE}/hl7v2/messages"),
    ("GET", f"{BASE}/hl7v2/messages/{{identity}}"),
    ("PATCH", f"{BASE}/hl7v2/messages/{{identity}}"),
    ("POST", f"{BASE}/hl7v2/messages/{{identity}}/replay"),
    ("POST", f"{BASE}/hl7v2/messages/replay"),
    ("GET", f"{BASE}/scheduling/policies"),
    ("PATCH", f"{BASE}/scheduling/policies"),
    ("GET", f"{BASE}/scheduling/affected"),
    ("POST", f"{BASE}/billing/templates/preview"),
    ("GET", f"{BASE}/payments/shifts"),
    ("GET", f"{BASE}/payments/shifts/{{identity}}"),
    ("GET", f"{BASE}/payments/shifts/{{identity}}/report"),
    ("GET", f"{BASE}/payments/settings"),
    ("PATCH", f"{BASE}/payments/settings"),
    ("GET", f"{BASE}/reports"),
    ("GET", f"{BASE}/reports/revenue"),
    ("GET", f"{BASE}/reports/collected"),
    ("GET", f"{BASE}/reports/receivables"),
    ("GET", f"{BASE}/reports/waits"),
    ("GET", f"{BASE}/reports/arrivals"),
    ("GET", f"{BASE}/reports/utilisation"),
    ("GET", f"{BASE}/reports/no-shows"),
    ("GET", f"{BASE}/reports/lab-turnaround"),
)


def token_of(seconds: float, role: Role | None = "admin", scope: str | None = None) -> str:
    """A token as the shell makes it."""
    patient = "p1" if role == "patient" else None
    return issue(SECRET, role=role, user=None, patient=patient, scope=scope, ttl=3600, now=seconds)


@dataclass
class Desk:
    """An administrator at work."""

    clinic: Clinic
    token: str

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> TestResponse:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        given = {"json": body} if body is not None else {}
        local = path.removeprefix("http://localhost")
        address = local if local.startswith("/admin") else BASE + local
        base: Json = {"headers": {"Authorization": f"Bearer {self.token}"} | sent, "environ_overrides": {"REMOTE_ADDR": self.clinic.address}}
        return self.clinic.app.test_client(use_cookies=False).open(address, method=method, **(base | given))

    def ok(self, method: str, path: str, body: Any = None, /, status: int = 200, **headers: str) -> Any:
        answer = self(method, path, body, **headers)
        assert answer.status_code == status, answer.text
        assert answer.headers["Cache-Control"] == "no-store"
        return json.loads(answer.data) if answer.data else None


@pytest.fixture
def desk(clinic: Clinic) -> Desk:
    return Desk(clinic, token_of(clinic.clock()))


@pytest.fixture
def place(desk: Desk) -> str:
    """The id of a Location."""
    version = desk.clinic.store.transact([Create({"resourceType": "Location"})], SYSTEM).written[0].version
    assert version is not None
    return version.id


def problem(answer: TestResponse, status: int) -> Json:
    assert answer.status_code == status, answer.text
    assert answer.mimetype == "application/problem+json"
    body: Json = json.loads(answer.data)
    assert set(body) == {"type", "title", "status", "detail", "error"}
    assert body["status"] == status
    return body
