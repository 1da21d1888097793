"""`$why-denied` names the rule that decides, as the doors do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import pytest
from flask import Flask

from fhir_server.access import is_administrator, issue
from fhir_server.access.accounts.accounts import Accounts, NewAccount
from fhir_server.access.accounts.sessions import Sessions
from fhir_server.access.policy import Policy
from fhir_server.access.tokens import Person, issue_app, issue_session, session_and_grant
from fhir_server.access.vault import Vault
from fhir_server.app import build_app
from fhir_server.interactions import Engine
from fhir_server.operations import names
from fhir_server.settings import Settings
from fhir_server.store import Store

SECRET: Final = "a secret that only the tests know of"
ZONE: Final = ZoneInfo("Europe/Berlin")
DENY: Final = {"type": "deny", "actor": [{"role": {"coding": [{"code": "PRCP"}]}, "reference": {"reference": "Practitioner/d"}}]}


def value_of(part: dict[str, Any]) -> Any:
    return next(value for key, value in part.items() if key.startswith("value"))


class Clinic:
    def __init__(self, app: Flask, store: Store) -> None:
        self.app, self.store = app, store
        self.accounts = Accounts(store, Vault(SECRET))
        self.loader = issue(SECRET, role=None, user="loader", patient=None, scope="system/*.cruds", ttl=600, now=time.time())
        self.admin = issue(SECRET, role="admin", user="ada", patient=None, scope=None, ttl=600, now=time.time())

    def __call__(self, token: str, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {token}"}
        answer = self.app.test_client(use_cookies=False).open(f"/fhir/{path}", method=method, headers=headers, json=body)
        return answer.status_code, answer.json

    def why(self, login: str, reference: str, interaction: str = "read") -> tuple[bool, str, str]:
        """Whether it is allowed, and the last rule that was looked at with its words."""
        asked = [
            {"name": "login", "valueString": login},
            {"name": "reference", "valueReference": {"reference": reference}} if "/" in reference else {"name": "type", "valueCode": reference},
            {"name": "interaction", "valueCode": interaction},
        ]
        status, told = self(self.admin, "POST", "$why-denied", {"resourceType": "Parameters", "parameter": asked})
        assert status == 200, told
        steps = [{part["name"]: value_of(part) for part in each["part"]} for each in told["parameter"][1:]]
        assert all(step["met"] for step in steps[:-1])
        assert steps[-1]["met"] is told["parameter"][0]["valueBoolean"]
        return told["parameter"][0]["valueBoolean"], steps[-1]["rule"], steps[-1]["text"]

    def session(self, login: str) -> str:
        account = self.accounts.by_login(login)
        assert account is not None
        now = datetime.now(UTC)
        opened = Sessions(self.store, Vault(SECRET)).begin(account, "127.0.0.1", "", now)
        person = Person(account.login, account.roles, account.patient, account.fhir_user, account=account.id)
        return issue_session(SECRET, person, session=opened.id, ttl=600, now=now.timestamp())


@pytest.fixture(scope="module")
def clinic(fresh_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clinic]:
    store = Store(fresh_database(), zone=ZONE, connections=4)
    options = Settings(data=Path(tmp_path_factory.mktemp("data")), jwt_secret=SECRET, clinic_timezone=ZONE)
    found = Clinic(build_app(Engine.build(store, options, names()), options), store)
    now = datetime.now(UTC)
    for login, roles, links in (
        ("dora", ("doctor",), {"practitioner": "d"}),
        ("stan", ("staff",), {"practitioner": "s"}),
        ("pat", ("patient",), {"patient": "p"}),
        ("gone", ("doctor",), {"practitioner": "g"}),
    ):
        account = found.accounts.add(NewAccount(login, "correct horse battery", roles, **links), now)  # type: ignore[arg-type]  # links by name
        assert account is not None
        if login == "gone":
            found.accounts.set_state(account.id, "disabled", now)
    for each in ("p", "q"):
        found(found.loader, "PUT", f"Patient/{each}", {"resourceType": "Patient", "id": each})
        for status in ("final", "preliminary"):
            body = {"resourceType": "Observation", "id": f"{status}-{each}", "status": status, "code": {"text": "x"}}
            found(found.loader, "PUT", f"Observation/{status}-{each}", {**body, "subject": {"reference": f"Patient/{each}"}})
    forbidden = {
        "resourceType": "Consent",
        "id": "c",
        "status": "active",
        "scope": {"text": "privacy"},
        "category": [{"text": "x"}],
        "patient": {"reference": "Patient/q"},
        "policyRule": {"text": "x"},
        "provision": DENY,
    }
    assert found(found.loader, "PUT", "Consent/c", forbidden)[0] == 201
    yield found
    store.close()


@pytest.mark.parametrize(
    ("login", "reference", "interaction", "expected"),
    [
        ("dora", "Observation/final-p", "read", (True, "policy")),
        ("dora", "Observation/preliminary-p", "update", (True, "policy")),
        ("dora", "Observation/final-p", "delete", (False, "role")),
        ("dora", "Observation/final-q", "read", (False, "consent")),
        ("dora", "Observation/final-q", "update", (False, "consent")),
        ("dora", "Observation/nobody", "read", (False, "resource")),
        ("dora", "Observation", "create", (True, "role")),
        ("stan", "Observation/final-p", "read", (False, "role")),
        ("stan", "Patient/p", "update", (True, "policy")),
        ("pat", "Observation/final-p", "read", (True, "consent")),
        ("pat", "Observation/final-q", "read", (False, "compartment")),
        ("pat", "Observation/preliminary-p", "read", (False, "content")),
        ("pat", "Patient/q", "read", (False, "compartment")),
        ("gone", "Patient/q", "read", (False, "account")),
    ],
)
def test_the_rule_that_decides_is_named(clinic: Clinic, login: str, reference: str, interaction: str, expected: tuple[bool, str]) -> None:
    assert clinic.why(login, reference, interaction)[:2] == expected


def test_what_it_says_is_what_happens(clinic: Clinic) -> None:
    for login in ("dora", "stan", "pat"):
        token = clinic.session(login)
        for reference in ("Observation/final-p", "Observation/preliminary-p", "Observation/final-q", "Patient/p", "Patient/q", "Consent/c"):
            assert clinic.why(login, reference)[0] is (clinic(token, "GET", reference)[0] == 200), (login, reference)


def test_a_policy_that_closes_records_is_told_of(clinic: Clinic) -> None:
    def decide(value: str) -> None:
        with clinic.store.database.connection() as connection, connection.transaction():
            Policy(clinic.store).set_consent(value, "ada", connection)

    decide("deny")
    try:
        for login, reference, expected in (
            ("dora", "Observation/final-p", (False, "policy")),
            ("dora", "Observation/final-q", (False, "consent")),
            ("dora", "Patient/p", (True, "policy")),
            ("stan", "Patient/p", (True, "policy")),
            ("pat", "Observation/final-p", (True, "consent")),
        ):
            assert clinic.why(login, reference)[:2] == expected, (login, reference)
            assert (clinic(clinic.session(login), "GET", reference)[0] == 200) is expected[0]
        assert "break the glass" in clinic.why("dora", "Observation/final-p")[2]
        permit = {"resourceType": "Consent", "id": "yes", "status": "active", "category": [{"text": "x"}], "patient": {"reference": "Patient/p"}}
        permit |= {"scope": {"coding": [{"code": "patient-privacy"}]}, "policyRule": {"text": "x"}, "provision": {"type": "permit"}}
        assert clinic(clinic.loader, "PUT", "Consent/yes", permit)[0] == 201
        assert clinic.why("dora", "Observation/final-p")[:2] == (True, "policy")
        assert clinic(clinic.session("dora"), "GET", "Observation/final-p")[0] == 200
    finally:
        clinic(clinic.loader, "DELETE", "Consent/yes")
        decide("permit")


def test_a_consent_is_named_by_its_id(clinic: Clinic) -> None:
    assert "Consent/c" in clinic.why("dora", "Observation/final-q")[2]


@pytest.mark.parametrize("path", ["$why-denied?login=pat&reference=Patient/p", "Patient?_explain=true"])
def test_administrators_alone_may_ask_and_not_by_their_apps(clinic: Clinic, path: str) -> None:
    scope, now = "user/Patient.rs", time.time()
    narrowed = issue(SECRET, role="admin", user="ada", patient=None, scope=scope, ttl=600, now=now)
    app = issue_app(SECRET, Person("ada", ("admin",)), client="c", scope=scope, context={}, session="s", ttl=600, now=now)
    for token in (clinic.loader, clinic.session("dora"), clinic.session("pat"), narrowed):
        assert clinic(token, "GET", path)[0] == 403
    assert not is_administrator(session_and_grant(SECRET, app, now)[1])
    assert clinic(clinic.admin, "GET", path)[0] == 200


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("reference=Patient/p", 400),
        ("login=pat", 400),
        ("login=pat&reference=Patient", 400),
        ("login=pat&reference=Pat/1", 404),
        ("login=pat&reference=Patient/p&interaction=steal", 400),
        ("login=nobody&reference=Patient/p", 404),
        ("login=pat&reference=Patient/p&more=1", 400),
    ],
)
def test_what_cannot_be_asked_is_refused(clinic: Clinic, query: str, status: int) -> None:
    assert clinic(clinic.admin, "GET", f"$why-denied?{query}")[0] == status
