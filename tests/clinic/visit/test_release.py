"""Results that are held back: closed to their patient at every door, open to everybody else, and let go again."""

from __future__ import annotations

import time
from typing import Any

from fhir_server.access import issue
from fhir_server.access.roles import Role
from tests.interactions.conftest import SECRET, Fhir

Json = dict[str, Any]


def as_role(fhir: Fhir, role: Role, patient: str | None = None) -> Fhir:
    return Fhir(fhir.app, issue(SECRET, role=role, user=None, patient=patient, scope=None, ttl=600, now=time.time()))


def report_of(fhir: Fhir) -> tuple[str, str, str, str]:
    """The ids of a patient, their report, its one result and its document."""
    patient = fhir.post("Patient", {"resourceType": "Patient"})["id"]
    subject = {"reference": f"Patient/{patient}"}
    code = {"text": "Potassium"}
    document = fhir.post(
        "DocumentReference",
        {"resourceType": "DocumentReference", "status": "current", "subject": subject, "content": [{"attachment": {"title": "scan"}}]},
    )["id"]
    result = fhir.post(
        "Observation",
        {
            "resourceType": "Observation",
            "status": "final",
            "code": code,
            "subject": subject,
            "derivedFrom": [{"reference": f"DocumentReference/{document}"}],
        },
    )["id"]
    report = fhir.post(
        "DiagnosticReport",
        {"resourceType": "DiagnosticReport", "status": "final", "code": code, "subject": subject, "result": [{"reference": f"Observation/{result}"}]},
    )["id"]
    return patient, report, result, document


def test_a_held_report_is_closed_to_its_patient_with_all_that_it_brings(fhir: Fhir) -> None:
    patient, report, result, document = report_of(fhir)
    owner, doctor = as_role(fhir, "patient", patient), as_role(fhir, "doctor")
    addresses = (f"DiagnosticReport/{report}", f"Observation/{result}", f"DocumentReference/{document}")
    assert [owner("GET", path).status_code for path in addresses] == [200, 200, 200]
    held = doctor.post(f"DiagnosticReport/{report}/$hold-release", None, 200)
    assert held["meta"]["security"][0]["code"] == "held"
    assert [owner("GET", path).status_code for path in addresses] == [404, 404, 404]
    assert owner.get(f"DiagnosticReport?patient={patient}&_summary=count")["total"] == 0
    assert [doctor("GET", path).status_code for path in addresses] == [200, 200, 200]
    body = {"resourceType": "Parameters", "parameter": [{"name": "hold", "valueBoolean": False}]}
    doctor.post(f"DiagnosticReport/{report}/$hold-release", body, 200)
    assert [owner("GET", path).status_code for path in addresses] == [200, 200, 200]


def test_a_corrected_version_stays_held(fhir: Fhir) -> None:
    patient, report, result, _ = report_of(fhir)
    as_role(fhir, "doctor").post(f"DiagnosticReport/{report}/$hold-release", None, 200)
    found = fhir.get(f"Observation/{result}")
    fhir.put(f"Observation/{result}", {name: value for name, value in found.items() if name != "meta"} | {"status": "corrected"})
    assert as_role(fhir, "patient", patient)("GET", f"Observation/{result}").status_code == 404


def test_the_reason_is_kept_in_a_provenance_that_names_who_and_what(fhir: Fhir) -> None:
    _, report, _, _ = report_of(fhir)
    body = {"resourceType": "Parameters", "parameter": [{"name": "reason", "valueString": "to be told in person"}]}
    as_role(fhir, "doctor").post(f"DiagnosticReport/{report}/$hold-release", body, 200)
    (entry,) = fhir.get(f"Provenance?target=DiagnosticReport/{report}")["entry"]
    provenance = entry["resource"]
    assert provenance["reason"] == [{"text": "to be told in person"}]
    assert provenance["activity"]["coding"][0]["code"] == "hold-release"
    assert provenance["agent"][0]["who"]["display"] == "role/doctor"


def test_only_doctors_hold_back(fhir: Fhir) -> None:
    patient, report, _, _ = report_of(fhir)
    for caller in (as_role(fhir, "staff"), as_role(fhir, "patient", patient), as_role(fhir, "admin")):
        answer = caller("POST", f"DiagnosticReport/{report}/$hold-release")
        assert answer.status_code == 403, answer.data
    assert "security" not in fhir.get(f"DiagnosticReport/{report}")["meta"]


def test_a_get_does_not_hold_back(fhir: Fhir) -> None:
    _, report, _, _ = report_of(fhir)
    assert as_role(fhir, "doctor")("GET", f"DiagnosticReport/{report}/$hold-release").status_code == 405


def test_the_same_key_gives_the_same_answer_and_writes_once(fhir: Fhir) -> None:
    _, report, _, _ = report_of(fhir)
    doctor = as_role(fhir, "doctor")
    key = {"Idempotency-Key": f"hold {report}"}
    first = doctor("POST", f"DiagnosticReport/{report}/$hold-release", headers=key)
    again = doctor("POST", f"DiagnosticReport/{report}/$hold-release", headers=key)
    assert (first.status_code, first.data, first.headers["ETag"]) == (again.status_code, again.data, again.headers["ETag"])
    assert again.headers["Idempotency-Replayed"] == "true"
    assert fhir.get(f"DiagnosticReport/{report}/_history")["total"] == 2
    other = doctor("POST", f"DiagnosticReport/{report}/$hold-release", {"resourceType": "Parameters"}, headers=key)
    assert other.status_code == 422
