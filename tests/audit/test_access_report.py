"""Who saw my record: the patient's own, with names, and nothing of others."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from fhir_server import fhirjson
from fhir_server.access import issue
from fhir_server.access.audit import Event, record
from fhir_server.spec import r4
from fhir_server.validation import Validator
from tests.audit.conftest import Trail
from tests.interactions.conftest import SECRET, Fhir, made, observation, patient, unique

Json = dict[str, Any]


def caller(fhir: Fhir, **claims: Any) -> Fhir:
    given = {"role": None, "user": "x", "patient": None, "scope": None, "ttl": 3600, "now": time.time(), **claims}
    return replace(fhir, token=issue(SECRET, **given))


def seen(trail: Trail, person: str, **fields: Any) -> Json:
    trail.store.flush_notes()
    record(trail.store, Event("read", **{"actor": "doc@example.org", "type": "Patient", "resource": person, "patients": (person,), **fields}))
    page = trail.fhir.get(f"Patient/{person}/$access-report?_count=1")
    found: Json = page["entry"][0]["resource"]
    Validator(r4()).require(found)
    return found


def test_a_patient_sees_who_read_their_record_by_name(shared: Trail) -> None:
    person = made(shared.fhir, patient())
    doctor = made(shared.fhir, {"resourceType": "Practitioner", "name": [{"family": "Weber", "given": ["Eva"], "prefix": ["Dr."]}]})
    own = caller(shared.fhir, role="patient", patient=person)
    record(shared.store, Event("read", "doc@example.org", fhir_user=f"Practitioner/{doctor}", type="Patient", resource=person, patients=(person,)))
    page = own.get(f"Patient/{person}/$access-report")
    newest = page["entry"][0]["resource"]
    assert newest["agent"][0]["name"] == "Dr. Eva Weber"
    assert newest["agent"][0]["who"] == {"display": "Dr. Eva Weber", "reference": f"Practitioner/{doctor}"}
    assert newest["entity"][-1]["what"]["reference"] == f"Patient/{person}"
    assert [entry["resource"]["action"] for entry in page["entry"]] == ["R", "C"]
    assert page["total"] == 2


def test_a_report_tells_nothing_of_other_patients_nor_of_staffs_logins(shared: Trail) -> None:
    person = unique()
    made_of = {"account": "acc-1", "session": "ses-1", "address": "192.0.2.77", "request_id": "req-1", "query": "Patient?name=other-name"}
    shared.fhir.put(f"Patient/{person}", patient(id=person), 201)
    found = seen(shared, person, patients=("other-1", person, "other-2"), type="List", resource="of-many", detail="other-name", **made_of)
    text = fhirjson.dumps(found).decode()
    for hidden in ("other-", "doc@", "acc-1", "ses-1", "192.0.2.77", "req-1", "of-many"):
        assert hidden not in text, hidden
    assert found["agent"][0]["name"] == "a program of the clinic"


def test_names_fall_back_to_what_is_known(shared: Trail) -> None:
    person = made(shared.fhir, patient())
    named = [
        seen(shared, person, **fields)["agent"][0]["name"]
        for fields in (
            {"fhir_user": f"Patient/{person}"},
            {"fhir_user": "Patient/another", "roles": ("patient",)},
            {"client": "diary"},
            {"roles": ("doctor", "patient"), "fhir_user": "Practitioner/nobody"},
            {"roles": ("patient",), "fhir_user": "RelatedPerson/nobody"},
        )
    ]
    assert named == ["you", "a program of the clinic", "the app diary", "somebody with the role doctor", "a related person"]


def test_related_persons_are_told_by_name(shared: Trail) -> None:
    person = made(shared.fhir, patient())
    mother = {"resourceType": "RelatedPerson", "patient": {"reference": f"Patient/{person}"}, "name": [{"text": "Eva Weber"}]}
    reference = f"RelatedPerson/{made(shared.fhir, mother)}"
    who = seen(shared, person, fhir_user=reference, roles=("patient",))["agent"][0]
    assert (who["name"], who["who"]) == ("Eva Weber", {"display": "Eva Weber", "reference": reference})


def test_a_report_is_for_its_patient_and_for_auditors(shared: Trail) -> None:
    one, other = made(shared.fhir, patient()), made(shared.fhir, patient())
    path = f"Patient/{one}/$access-report"
    for refused in (
        caller(shared.fhir, role="patient", patient=other),
        caller(shared.fhir, role="doctor"),
        caller(shared.fhir, role="staff"),
        caller(shared.fhir, role="doctor", patient=one, scope="patient/*.rs"),
        caller(shared.fhir, patient=one, scope="patient/Observation.rs"),
        caller(shared.fhir, scope="system/Patient.cruds"),
    ):
        assert refused("GET", path).status_code == 403
    for allowed in (
        caller(shared.fhir, role="admin"),
        caller(shared.fhir, role="patient", patient=one),
        caller(shared.fhir, patient=one, scope="patient/Patient.rs"),
        caller(shared.fhir, scope="system/AuditEvent.rs"),
    ):
        assert allowed("GET", path).status_code == 200
    shared.fhir.get(f"Patient/{unique()}/$access-report", 404)
    shared.fhir.get("Patient/$access-report", 404)


def test_asking_for_a_report_is_in_the_next_one(shared: Trail) -> None:
    person = made(shared.fhir, patient())
    own = caller(shared.fhir, role="patient", patient=person)
    own.get(f"Patient/{person}/$access-report")
    shared.store.flush_notes()
    assert own.get(f"Patient/{person}/$access-report")["entry"][0]["resource"]["subtype"][0]["code"] == "operation"


def test_a_report_has_pages_and_bounds(shared: Trail) -> None:
    person = made(shared.fhir, patient())
    for _ in range(7):
        shared.fhir.put(f"Patient/{person}", patient(id=person))
    path = f"Patient/{person}/$access-report"
    until = shared.fhir.get(path)["entry"][0]["resource"]["recorded"]
    pages = [len(page["entry"]) for page in shared.fhir.pages(f"{path}?_count=3&end={until}")]
    assert pages == [3, 3, 2]
    assert "entry" not in shared.fhir.get(f"{path}?end=2020-01-01")
    assert "entry" not in shared.fhir.get(f"{path}?start=2100-01-01")
    for query in ("nonsense=1", "_count=0", "_count=x", "start=x", "_cursor=x", "start=2020&start=2021"):
        shared.fhir.get(f"{path}?{query}", 400)
    (link,) = [each["url"] for each in shared.fhir.get(f"{path}?_count=1")["link"] if each["relation"] == "next"]
    caller(shared.fhir, role="admin").get(link, 400)


def test_what_apps_sent_is_not_in_a_report(shared: Trail) -> None:
    person = made(shared.fhir, patient())
    sent = {
        "resourceType": "AuditEvent",
        "type": {"system": "http://terminology.hl7.org/CodeSystem/audit-event-type", "code": "rest"},
        "recorded": "2030-01-02T03:04:05Z",
        "agent": [{"who": {"reference": f"Patient/{person}"}, "requestor": True}, {"who": {"reference": "Patient/other"}, "requestor": False}],
        "source": {"observer": {"display": "app"}},
    }
    shared.fhir.post("AuditEvent", sent)
    report = shared.fhir.get(f"Patient/{person}/$access-report")
    assert [entry["resource"]["action"] for entry in report["entry"]] == ["C"]


def test_the_trail_of_a_result_names_it(shared: Trail) -> None:
    person = made(shared.fhir, patient())
    result = made(shared.fhir, observation(subject={"reference": f"Patient/{person}"}))
    entity = shared.fhir.get(f"Patient/{person}/$access-report")["entry"][0]["resource"]["entity"]
    assert entity[-1]["what"]["reference"] == f"Observation/{result}/_history/1"
