"""Operations as entries of a batch: each answers as it does alone. https://hl7.org/fhir/R4/http.html#transaction"""

from __future__ import annotations

import base64
import sys
from typing import Any

import pytest

from tests.interactions.conftest import BASE, Fhir, Json, entry, identified, issues, make_fhir, observation, patient, statuses, unique
from tests.operations.scheduling.conftest import Practice, as_role, house, make_practice, parameters, practice

__all__ = ["house", "make_fhir", "make_practice", "practice"]


@pytest.fixture(scope="module")
def clinic(house: Fhir) -> Fhir:
    """A caller who may do everything."""
    return house.other()


def responses(answer: Json) -> list[Json]:
    return [each["response"] for each in answer["entry"]]


def test_what_operations_read_is_what_they_answer_alone(clinic: Fhir) -> None:
    ann = clinic.post("Patient", patient())["id"]
    clinic.post("Observation", observation(subject={"reference": f"Patient/{ann}"}))
    answer = clinic.bundle(
        "batch",
        entry("GET", f"Patient/{ann}/$everything?_type=Observation,Patient"),
        entry("POST", "Patient/$validate", {"resourceType": "Patient", "gender": "none"}),
        entry("GET", f"Observation/$lastn?patient={ann}&code=29463-7"),
        entry("POST", f"{BASE}/Patient/nobody/$everything"),
    )
    assert statuses(answer) == ["200", "200", "200", "404"]
    assert {each["resource"]["resourceType"] for each in answer["entry"][0]["resource"]["entry"]} == {"Patient", "Observation"}
    assert answer["entry"][1]["resource"]["issue"][0]["severity"] == "error"
    assert answer["entry"][2]["resource"]["type"] == "searchset"
    issues(answer["entry"][3]["response"]["outcome"])


def test_times_are_booked_each_for_itself(practice: Practice) -> None:
    offer = practice.free()[0]
    first, second = practice.patient(), practice.patient()
    answer = practice.staff.bundle(
        "batch",
        entry("POST", "Appointment/$book", parameters(appointment=offer, patient=first)),
        entry("POST", "Appointment/$book", parameters(appointment=offer, patient=second)),
    )
    assert statuses(answer) == ["201", "409"]
    booked = answer["entry"][0]["resource"]
    assert answer["entry"][0]["response"]["location"] == f"Appointment/{booked['id']}/_history/1"
    assert (answer["entry"][0]["fullUrl"], booked["status"]) == (f"{BASE}/Appointment/{booked['id']}", "booked")
    issues(answer["entry"][1]["response"]["outcome"])
    assert practice.status(practice.slots[0]) == "busy"


def test_a_batch_that_comes_again_under_its_key_does_nothing_twice(practice: Practice) -> None:
    offers, key = practice.free(), {"Idempotency-Key": unique()}
    mine = [entry("POST", "Appointment/$book", parameters(appointment=offer, patient=practice.patient())) for offer in offers[:2]]
    first = practice.staff.bundle("batch", *mine, headers=key)
    again = practice.staff.bundle("batch", *mine, headers=key)
    assert statuses(first) == ["201", "201"]
    assert [each["resource"] for each in again["entry"]] == [each["resource"] for each in first["entry"]]
    other = practice.staff.bundle("batch", mine[1], headers=key)
    assert statuses(other) == ["422"]
    assert statuses(practice.staff.bundle("batch", mine[0])) == ["409"]


def test_a_paper_is_a_binary(practice: Practice) -> None:
    booked = practice.book()["id"]
    answer = practice.staff.bundle(
        "batch",
        entry("GET", f"Appointment/{booked}/$document"),
        entry("HEAD", f"Appointment/{booked}/$document"),
        entry("GET", f"Appointment/{booked}/$document?paper=b7"),
    )
    assert statuses(answer) == ["200", "200", "400"]
    paper = answer["entry"][0]["resource"]
    assert (paper["resourceType"], paper["contentType"]) == ("Binary", "application/pdf")
    assert base64.b64decode(paper["data"]).startswith(b"%PDF")
    assert "resource" not in answer["entry"][1]


def test_each_entry_is_held_to_the_rights_of_its_caller(practice: Practice) -> None:
    mine, other = practice.patient(), practice.patient()
    caller = practice.as_patient(mine)
    booked = practice.book(patient=other)["id"]
    answer = caller.bundle(
        "batch",
        entry("GET", f"{other}/$everything"),
        entry("GET", f"{mine}/$everything"),
        entry("POST", f"Appointment/{booked}/$confirm"),
        entry("GET", f"Appointment/{booked}/$document"),
        entry("POST", "Patient/_search?_id=" + other.split("/")[1]),
    )
    assert [each["status"][:3] for each in responses(answer)] == ["404", "200", "403", "404", "200"]
    assert answer["entry"][4]["resource"]["total"] == 0
    assert statuses(as_role(practice.staff, "doctor").bundle("batch", entry("POST", "Location/1/$queue-next", parameters(room="1")))) != ["200"]


@pytest.mark.parametrize(
    ("method", "url", "resource", "status"),
    [
        ("GET", "Appointment/$book", None, "405"),
        ("PUT", "Patient/$validate", {"resourceType": "Patient"}, "400"),
        ("DELETE", "$export-status?id=1", None, "400"),
        ("GET", "Patient/$nothing", None, "404"),
        ("GET", "Nothing/$validate", None, "404"),
        ("GET", "Patient/1/_history/$validate", None, "400"),
        ("GET", "Patient/$", None, "400"),
        ("GET", "$everything", None, "404"),
        ("GET", "Patient/%00/$everything", None, "404"),
        ("POST", "Patient/$validate", [1], "400"),
        ("POST", "Patient/$validate", None, "400"),
        ("GET", "$export", None, "400"),
        ("POST", "", {"resourceType": "Bundle", "type": "batch"}, "400"),
        ("POST", "Patient/1/_search", None, "400"),
        ("GET", "Patient/_search", None, "404"),
        ("POST", "Patient/_search", {"resourceType": "Patient"}, "400"),
        ("POST", "Patient/_search", {"resourceType": "Parameters", "parameter": [{"name": "_id", "valueInteger": 7}]}, "400"),
        ("POST", "Patient/_search", {"resourceType": "Parameters", "parameter": 7}, "400"),
    ],
)
def test_what_is_no_operation_is_refused_with_its_own_outcome(clinic: Fhir, method: str, url: str, resource: Any, status: str) -> None:
    answer = clinic.bundle("batch", entry(method, url, resource), entry("GET", "metadata?_elements=status"))
    assert statuses(answer) == [status, "200"], answer["entry"][0]
    issues(answer["entry"][0]["response"]["outcome"])


@pytest.mark.parametrize(("method", "url"), [("POST", "Patient/$validate"), ("GET", "Patient/1/$everything"), ("POST", "Appointment/$book")])
def test_a_transaction_with_an_operation_does_nothing(clinic: Fhir, method: str, url: str) -> None:
    value = unique()
    answer = clinic.bundle("transaction", entry("POST", "Patient", identified(value)), entry(method, url), status=400)
    assert "cannot stand in a transaction" in issues(answer)
    assert answer["issue"][0]["expression"] == ["Bundle.entry[1].request.url"]
    assert clinic.ids(f"Patient?identifier={value}") == []


@pytest.mark.parametrize("kind", ["batch", "transaction"])
def test_searches_are_posted_in_bundles(clinic: Fhir, kind: str) -> None:
    value = unique()
    identity = clinic.post("Patient", identified(value))["id"]
    weight = clinic.post("Observation", observation(subject={"reference": f"Patient/{identity}"}))["id"]
    answer = clinic.bundle(
        kind,
        entry("POST", f"Patient/_search?identifier={value}"),
        entry("POST", "Patient/_search", {"resourceType": "Parameters", "parameter": [{"name": "identifier", "valueString": value}]}),
        entry("POST", f"Patient/{identity}/Observation/_search?status=final"),
        entry("POST", f"_search?_type=Patient&_id={identity}"),
    )
    assert statuses(answer) == ["200"] * 4
    found = [[each["resource"]["id"] for each in part["resource"]["entry"]] for part in answer["entry"]]
    assert found == [[identity], [identity], [weight], [identity]]


def test_conditional_reads_and_heads_stand_in_a_batch(clinic: Fhir) -> None:
    path = f"Patient/{clinic.post('Patient', patient())['id']}"
    answer = clinic.bundle(
        "batch",
        entry("GET", path, ifNoneMatch='W/"1"'),
        entry("GET", path, ifModifiedSince="2100-01-01T00:00:00Z"),
        entry("GET", path, ifNoneMatch='W/"2"'),
        entry("HEAD", path),
        entry("HEAD", "Patient/nobody"),
    )
    assert statuses(answer) == ["304", "304", "200", "200", "404"]
    assert ["resource" in each for each in answer["entry"]] == [False, False, True, False, False]
    assert answer["entry"][3]["response"]["etag"] == 'W/"1"'


def test_an_export_is_asked_for_in_a_batch(clinic: Fhir) -> None:
    answer = clinic.bundle("batch", entry("GET", "$export?_type=Patient"), headers={"Prefer": "respond-async"})
    assert statuses(answer) == ["202"]
    status = responses(answer)[0]["location"]
    assert clinic("DELETE", status).status_code == 202


def test_operations_of_a_batch_that_take_too_long_are_answered_in_part(clinic: Fhir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["fhir_server.interactions.bundle.process"], "MAX_SECONDS", 0)
    one = entry("POST", "Patient/$validate", {"resourceType": "Patient"})
    answer = clinic.bundle("batch", one, one, one, entry("GET", "Patient?_count=1"))
    assert statuses(answer) == ["200", "429", "429", "200"]


def test_the_trail_has_an_event_of_each_operation(clinic: Fhir) -> None:
    ann = clinic.post("Patient", patient())["id"]
    clinic.bundle("batch", entry("GET", f"Patient/{ann}/$everything"), entry("GET", f"Patient/{ann}/$everything"))
    clinic.app.extensions["store"].flush_notes()
    with clinic.app.extensions["store"].database.connection() as connection:
        row = connection.execute("SELECT count(*) FROM audit_event WHERE kind = 'operation' AND %s = ANY(patients)", (ann,)).fetchone()
    assert row == (2,)
