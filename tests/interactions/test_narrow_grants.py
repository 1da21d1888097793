"""Scopes that narrow by a query, and results that are not released: what they hide is hidden at every door.

https://hl7.org/fhir/smart-app-launch/STU2.2/scopes-and-launch-context.html#finer-grained-resource-constraints-using-search-parameters
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from time import time

import pytest

from fhir_server.access import issue
from tests.interactions.conftest import SECRET, Fhir, Json, entry, identified, observation, unique

VITALS = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "vital-signs"}]}


@dataclass(frozen=True)
class Record:
    """A patient with a released result, one that is not, and one that was taken back; the first is a vital sign."""

    value: str
    patient: str
    final: str
    preliminary: str


@pytest.fixture(scope="module")
def record(fhir: Fhir) -> Record:
    value = unique()
    patient = fhir.post("Patient", identified(value))["id"]

    def result(**fields: object) -> Json:
        return observation(subject={"reference": f"Patient/{patient}"}, identifier=[{"value": value}], **fields)

    # Each began as the other: what a version was decides whether it is shown.
    final = fhir.post("Observation", result(status="preliminary", category=[VITALS]))
    final = fhir.put(f"Observation/{final['id']}", {**final, "status": "final"})
    preliminary = fhir.post("Observation", result(status="registered"))
    preliminary = fhir.put(f"Observation/{preliminary['id']}", {**preliminary, "status": "preliminary"})
    return Record(value, patient, final["id"], preliminary["id"])


def callers(fhir: Fhir, record: Record) -> dict[str, Fhir]:
    """Four who see the final result and not the preliminary one."""
    return {
        "patient's app": fhir.other(user="app", scope="patient/*.rs", patient=record.patient),
        "released scope": fhir.other(user="lab", scope="system/Observation.rs?status=final system/Patient.rs"),
        "vital signs": fhir.other(user="vitals", scope="system/Observation.rs?category=vital-signs system/Patient.rs"),
        "vital signs of the patient": fhir.other(user="one", scope="patient/Observation.rs?category=vital-signs", patient=record.patient),
    }


WHO = ("patient's app", "released scope", "vital signs", "vital signs of the patient")


@pytest.mark.parametrize("who", WHO)
def test_what_is_hidden_is_hidden_at_every_door(fhir: Fhir, record: Record, who: str) -> None:
    caller = callers(fhir, record)[who]
    assert fhir.get(f"Observation?identifier={record.value}&_summary=count")["total"] == 2
    assert caller.ids(f"Observation?identifier={record.value}") == [record.final]
    assert caller.get(f"Observation?identifier={record.value}&_summary=count")["total"] == 1
    assert caller.get(f"Observation?identifier={record.value}&_total=accurate&_count=1")["total"] == 1
    assert caller.get(f"Observation?patient={record.patient}&_sort=-date")["total"] == 1
    assert caller.get(f"Observation/{record.final}")["status"] == "final"
    caller.get(f"Observation/{record.preliminary}", 404)
    caller.get(f"Observation/{record.preliminary}/_history/1", 404)
    caller.get(f"Observation/{record.preliminary}/_history", 404)
    told = caller.bundle("batch", entry("GET", f"Observation/{record.preliminary}"), entry("GET", f"Observation?_id={record.preliminary}"))
    assert told["entry"][0]["response"]["status"].startswith("404")
    assert told["entry"][1]["resource"]["total"] == 0
    assert record.preliminary not in str(caller.get("Observation/_history?_count=1000"))
    if "the patient" not in who:
        assert caller.ids(f"Patient?_has:Observation:patient:status=preliminary&identifier={record.value}") == []
        bundle = caller.get(f"Patient?identifier={record.value}&_revinclude=Observation:patient")
        assert {each["resource"]["id"] for each in bundle["entry"]} == {record.patient, record.final}
        assert record.preliminary not in str(caller.get(f"Patient/{record.patient}/$everything"))


def test_a_version_from_before_the_release_stays_hidden(fhir: Fhir, record: Record) -> None:
    app = callers(fhir, record)["patient's app"]
    assert [each["resource"]["meta"]["versionId"] for each in app.get(f"Observation/{record.final}/_history")["entry"]] == ["2"]
    assert app.get(f"Observation/{record.final}/_history")["total"] == 1
    app.get(f"Observation/{record.final}/_history/1", 404)
    fhir.get(f"Observation/{record.final}/_history/1")


def test_a_scope_that_narrows_by_nonsense_opens_nothing(fhir: Fhir, record: Record) -> None:
    for query in ("nonsense=1", "code:in=http://nobody.example/vs", "_id=1", "status:nonsense=1"):
        lost = fhir.other(user="lost", scope=f"system/Observation.rs?{query}")
        assert lost.ids(f"Observation?identifier={record.value}") == [], query
        lost.get(f"Observation/{record.final}", 404)


def test_a_scope_that_narrows_does_not_open_writing(fhir: Fhir, record: Record) -> None:
    reader = fhir.other(user="reader", scope="system/Observation.rs?status=final")
    reader.post("Observation", observation(), 403)
    assert reader("DELETE", f"Observation/{record.final}").status_code == 403


def test_a_doctor_in_a_patients_context_sees_what_is_not_released(fhir: Fhir, record: Record) -> None:

    made = issue(SECRET, role="doctor", user="dr", patient=record.patient, scope="patient/Observation.rs", ttl=60, now=time())
    doctor = replace(fhir, token=made)
    assert set(doctor.ids(f"Observation?identifier={record.value}")) == {record.final, record.preliminary}
