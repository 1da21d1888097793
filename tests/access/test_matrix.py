"""Role by type by interaction: what each door answers, against the table of the public contract."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from fhir_server.access import issue
from fhir_server.access.roles import CLINICAL, ROLES
from fhir_server.app import build_app
from fhir_server.interactions import Engine
from fhir_server.operations import names
from fhir_server.settings import Settings
from fhir_server.spec import r4
from fhir_server.store import Store

SECRET: Final = "a secret that only the tests know of"
ZONE: Final = ZoneInfo("Europe/Berlin")
# Columns: admin, doctor, staff, patient. Whatever stands nowhere here is an admin's alone.
CONTRACT: Final[dict[str, tuple[str, str, str, str]]] = {
    **dict.fromkeys(CLINICAL.split(), ("rs", "crus", "", "rs")),
    "Binary": ("cruds", "crus", "", "rs"),
    **dict.fromkeys(("Encounter", "ServiceRequest", "Flag"), ("rs", "crus", "rs", "rs")),
    **dict.fromkeys(
        ("Organization", "Location", "Practitioner", "PractitionerRole", "HealthcareService", "OrganizationAffiliation", "Endpoint"),
        ("cruds", "rs", "rs", "rs"),
    ),
    **dict.fromkeys(("CodeSystem", "ValueSet", "ConceptMap", "NamingSystem", "Questionnaire"), ("cruds", "rs", "rs", "rs")),
    **dict.fromkeys(("StructureDefinition", "SearchParameter", "OperationDefinition"), ("cruds", "rs", "rs", "rs")),
    **dict.fromkeys(("CapabilityStatement", "CompartmentDefinition", "ImplementationGuide"), ("cruds", "rs", "rs", "rs")),
    **dict.fromkeys(("Coverage", "RelatedPerson", "Consent"), ("cruds", "crus", "crus", "rs")),
    "Patient": ("cruds", "crus", "crus", "rus"),
    **dict.fromkeys(("Schedule", "Appointment", "AppointmentResponse"), ("cruds", "crus", "cruds", "rs")),
    "Slot": ("cruds", "crus", "cruds", "rs"),
    "ChargeItemDefinition": ("cruds", "rs", "rs", ""),
    **dict.fromkeys(("Account", "Invoice", "PaymentNotice", "PaymentReconciliation"), ("cruds", "rs", "cruds", "rs")),
    "ChargeItem": ("cruds", "crs", "cruds", "rs"),
    **dict.fromkeys(("Claim", "ClaimResponse"), ("cruds", "rs", "crus", "rs")),
    "AuditEvent": ("rs", "", "", ""),
}
WRITTEN: Final[dict[str, dict[str, Any]]] = {
    "Observation": {"status": "final", "code": {"text": "x"}, "subject": {"reference": "Patient/p"}},
    "Condition": {"subject": {"reference": "Patient/p"}},
    "MedicationRequest": {
        "status": "active",
        "intent": "order",
        "subject": {"reference": "Patient/p"},
        "medicationCodeableConcept": {"text": "x"},
    },
    "Encounter": {"status": "planned", "class": {"code": "AMB"}, "subject": {"reference": "Patient/p"}},
    "Organization": {"name": "x"},
    "Location": {"name": "x"},
    "Patient": {"birthDate": "1990-01-01"},
    "Coverage": {"status": "active", "beneficiary": {"reference": "Patient/p"}, "payor": [{"display": "x"}]},
    "Schedule": {"actor": [{"reference": "Practitioner/d"}]},
    "Appointment": {"status": "proposed", "participant": [{"status": "accepted", "actor": {"reference": "Practitioner/d"}}]},
    "ChargeItemDefinition": {"status": "draft", "url": "http://x.example/template"},
    "ChargeItem": {"status": "planned", "code": {"text": "x"}, "subject": {"reference": "Patient/p"}},
    "Invoice": {"status": "draft", "subject": {"reference": "Patient/p"}},
    "Group": {"type": "person", "actual": True},
    "SearchParameter": {
        "status": "draft",
        "url": "http://x.example/sp",
        "name": "X",
        "description": "x",
        "code": "xx",
        "base": ["Patient"],
        "type": "token",
        "expression": "Patient.active",
    },
}
"""Something of some types that can be written, where that matters by the doctor d."""


def allowed(role: str, name: str) -> str:
    return CONTRACT.get(name, ("cruds", "", "", ""))[("admin", "doctor", "staff", "patient").index(role)]


class Callers:
    def __init__(self, app: Flask) -> None:
        self.app = app
        users = {"admin": None, "doctor": "Practitioner/d", "staff": "Practitioner/s", "patient": "Patient/p"}
        now = time.time()
        self.tokens: dict[str, str] = {}
        for role in ROLES:
            patient = "p" if role == "patient" else None
            self.tokens[role] = issue(SECRET, role=role, user=role, patient=patient, scope=None, ttl=3600, now=now, fhir_user=users[role])

    def __call__(self, role: str, method: str, path: str, body: Any = None) -> TestResponse:
        kind = "application/json-patch+json" if isinstance(body, list) else "application/fhir+json"
        headers = {"Authorization": f"Bearer {self.tokens[role]}", "Content-Type": kind}
        return self.app.test_client(use_cookies=False).open(f"/fhir/{path}", method=method, headers=headers, json=body)


@pytest.fixture(scope="module")
def callers(fresh_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callers]:
    store = Store(fresh_database(), zone=ZONE, connections=4)
    options = Settings(data=Path(tmp_path_factory.mktemp("data")), jwt_secret=SECRET, clinic_timezone=ZONE)
    found = Callers(build_app(Engine.build(store, options, names()), options))
    for kind, identity in (("Practitioner", "d"), ("Patient", "p")):
        assert found("admin", "PUT", f"{kind}/{identity}", {"resourceType": kind, "id": identity}).status_code == 201
    yield found
    store.close()


@pytest.mark.parametrize("name", r4().resource_types)
@pytest.mark.parametrize("role", ROLES)
def test_each_interaction_is_open_to_the_roles_of_the_contract_alone(callers: Callers, role: str, name: str) -> None:
    may = allowed(role, name)
    append_only = name == "AuditEvent"
    expected = {
        ("GET", f"{name}/nobody"): 404 if "r" in may else 403,
        ("GET", f"{name}/nobody/_history"): 404 if "r" in may else 403,
        ("GET", f"{name}/nobody/_history/1"): 404 if "r" in may else 403,
        ("GET", f"{name}?_count=1"): 200 if "s" in may else 403,
        ("GET", f"{name}?_summary=count"): 200 if "s" in may else 403,
        ("GET", f"{name}/_history"): 403 if "r" not in may else 501 if append_only else 200,
        ("PATCH", f"{name}/nobody"): 405 if append_only else 404 if "u" in may else 403,
        ("DELETE", f"{name}/nobody"): 405 if append_only else 204 if "d" in may else 403,
    }
    patch = [{"op": "add", "path": "/language", "value": "en"}]
    found = {(method, path): callers(role, method, path, patch if method == "PATCH" else None).status_code for method, path in expected}
    assert found == expected


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("role", ROLES)
def test_writing_takes_the_role_for_it(callers: Callers, role: str, name: str) -> None:
    body = {"resourceType": name, **WRITTEN[name]}
    made = callers(role, "POST", name, body)
    assert made.status_code == (201 if "c" in allowed(role, name) else 403), made.data
    identity = f"{role}-{name}"
    put = callers(role, "PUT", f"{name}/{identity}", {**body, "id": identity})
    # A patient may update a Patient, but this is somebody else's.
    assert put.status_code == (201 if "u" in allowed(role, name) and role != "patient" else 403), put.data
    whole = {"resourceType": "Bundle", "type": "batch", "entry": [{"resource": body, "request": {"method": "POST", "url": name}}]}
    entry = callers(role, "POST", "", whole).json["entry"][0]  # type: ignore[index]  # a batch is always answered
    assert entry["response"]["status"].startswith("201" if "c" in allowed(role, name) else "403")


@pytest.mark.parametrize("role", ["staff", "patient"])
def test_who_may_not_write_is_told_so_and_not_what_is_wrong_with_the_body(callers: Callers, role: str) -> None:
    for method, path in (("POST", "Condition"), ("PUT", "Condition/c"), ("PUT", "Condition?identifier=c")):
        answer = callers(role, method, path, {"resourceType": "Condition", "colour": "red"})
        assert answer.status_code == 403, answer.data
    assert callers("doctor", "POST", "Condition", {"resourceType": "Condition", "colour": "red"}).status_code == 422


def test_patients_change_their_own_details_and_nothing_else(callers: Callers) -> None:
    def patched(*steps: dict[str, Any]) -> int:
        return callers("patient", "PATCH", "Patient/p", list(steps)).status_code

    phone = [{"system": "phone", "value": "+49 30 1234"}]
    assert patched({"op": "add", "path": "/telecom", "value": phone}) == 200
    assert patched({"op": "add", "path": "/address", "value": [{"city": "Ulm"}]}) == 200
    for path, value in (("/birthDate", "1980-01-01"), ("/name", [{"family": "Other"}]), ("/active", False), ("/identifier", [{"value": "1"}])):
        answer = callers("patient", "PATCH", "Patient/p", [{"op": "add", "path": path, "value": value}])
        assert answer.status_code == 403
        assert answer.json is not None
        assert answer.json["issue"][0]["expression"] == [f"Patient.{path[1:]}"]
    now = callers("patient", "GET", "Patient/p").json
    assert now is not None
    assert now["telecom"] == phone
    assert "birthDate" not in now
    assert callers("patient", "PUT", "Patient/p", {**now, "telecom": []}).status_code in (200, 422)
    assert callers("patient", "PUT", "Patient/p", {"resourceType": "Patient", "id": "p", "birthDate": "1980-01-01"}).status_code == 403


def test_patients_neither_label_their_record_nor_take_labels_off_it(callers: Callers) -> None:
    labels = {"security": [{"code": "R"}, {"code": "V"}], "tag": [{"code": "vip"}]}
    answer = callers("admin", "PUT", "Patient/p", {"resourceType": "Patient", "id": "p", "meta": labels})
    assert answer.status_code in (200, 201)
    kept = {"resourceType": "Patient", "id": "p", "telecom": [{"system": "phone", "value": "+49 30 77"}]}
    assert callers("patient", "PUT", "Patient/p", kept).status_code == 200
    assert callers("patient", "PUT", "Patient/p", {**kept, "meta": {"security": [{"code": "V"}]}}).status_code == 200
    assert callers("patient", "PUT", "Patient/p", {**kept, "meta": {"security": [{"code": "N"}]}}).status_code == 403
    for step in ({"op": "remove", "path": "/meta/security"}, {"op": "add", "path": "/meta/tag/-", "value": {"code": "staff"}}):
        assert callers("patient", "PATCH", "Patient/p", [step]).status_code == 403
    now = callers("patient", "GET", "Patient/p").json
    assert now is not None
    assert {each["code"] for name in labels for each in now["meta"][name]} == {"R", "V", "vip"}


def test_doctors_write_in_their_own_schedule_only(callers: Callers) -> None:
    other = {"resourceType": "Schedule", "actor": [{"reference": "Practitioner/other"}]}
    own = {"resourceType": "Schedule", "actor": [{"reference": "Practitioner/d"}]}
    assert callers("doctor", "POST", "Schedule", other).status_code == 403
    made = callers("doctor", "POST", "Schedule", own)
    assert made.status_code == 201
    theirs = callers("staff", "POST", "Schedule", other)
    assert made.json is not None
    assert theirs.json is not None
    slot = {"resourceType": "Slot", "status": "free", "start": "2026-12-01T09:00:00Z", "end": "2026-12-01T09:20:00Z"}
    assert callers("doctor", "POST", "Slot", {**slot, "schedule": {"reference": f"Schedule/{made.json['id']}"}}).status_code == 201
    assert callers("doctor", "POST", "Slot", {**slot, "schedule": {"reference": f"Schedule/{theirs.json['id']}"}}).status_code == 403
    # Seen by everybody, since patients look for free times in it, and still not a colleague's to change.
    assert callers("doctor", "GET", f"Schedule/{theirs.json['id']}").status_code == 200
    assert callers("doctor", "PUT", f"Schedule/{theirs.json['id']}", {**own, "id": theirs.json["id"]}).status_code == 403
    appointment = {"resourceType": "Appointment", "status": "proposed"}
    booked = callers(
        "staff", "POST", "Appointment", {**appointment, "participant": [{"status": "accepted", "actor": {"reference": "Practitioner/other"}}]}
    )
    assert booked.json is not None
    assert callers("doctor", "GET", f"Appointment/{booked.json['id']}").status_code == 404
