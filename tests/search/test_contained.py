"""Contained resources have rows of their own, under the negative numbers of their type's parameters."""

from __future__ import annotations

from typing import Any

from fhir_server.search import Registry

PATIENT = {
    "resourceType": "Patient",
    "id": "p",
    "name": [{"family": "Inner"}],
    "birthDate": "1980",
    "identifier": [{"system": "urn:mrn", "value": "7"}],
    "managingOrganization": {"reference": "Organization/o"},
}


def codes(registry: Registry, resource: dict[str, Any]) -> dict[str, list[tuple[Any, ...]]]:
    """Rows of the contained Patients by code."""
    named = {-param.pid: code for code, param in registry.supported_params("Patient").items() if code != "phonetic"}
    found: dict[str, list[tuple[Any, ...]]] = {}
    for rows in registry.rows(resource).values():
        for row in rows:
            if row[0] < 0:
                found.setdefault(named[row[0]], []).append(row[1:])
    return found


def observation(*contained: dict[str, Any]) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "contained": list(contained),
        "code": {"coding": [{"code": "x"}]},
        "subject": {"reference": "#p"},
        "effectiveDateTime": "2020-01-01",
    }


def test_a_contained_resource_has_the_rows_of_its_type(registry: Registry) -> None:
    found = codes(registry, observation(PATIENT))
    assert set(found) == {"name", "family", "birthdate", "deceased", "identifier", "organization"}
    assert found["family"] == [("inner", "Inner", True, True)]
    assert found["identifier"] == [("7", "urn:mrn", True, True)]
    number = registry.types["Organization"]
    assert found["organization"] == [("o", number, None, None, True, True)]


def test_the_container_has_its_own_rows_and_says_that_it_refers_to_what_it_contains(registry: Registry) -> None:
    resource = observation(PATIENT)
    own = {table: [row for row in rows if row[0] > 0] for table, rows in registry.rows(resource).items()}
    alone = registry.rows({key: value for key, value in resource.items() if key != "contained"})
    assert {table: rows for table, rows in own.items() if rows and table != "sp_words"} == alone
    assert {row[1:3] for row in own["sp_reference"]} == {("#p", 0)}
    [row] = own["sp_words"]
    assert "'inner':1" in row[1].split(" ")


def test_the_least_and_the_greatest_are_of_all_contained_together(registry: Registry) -> None:
    found = codes(registry, observation(PATIENT, PATIENT | {"id": "q", "name": [{"family": "Another"}]}))
    assert sorted(found["family"]) == [("another", "Another", True, False), ("inner", "Inner", False, True)]


def test_rows_for_patients_within_carry_no_main_date(registry: Registry) -> None:
    inner = {
        "resourceType": "Condition",
        "id": "c",
        "subject": {"reference": "Patient/1"},
        "recordedDate": "2021",
        "code": {"coding": [{"code": "f"}]},
    }
    rows = registry.rows({"resourceType": "List", "status": "current", "mode": "working", "contained": [inner]})["sp_reference"]
    assert {row[1:] for row in rows} == {("1", registry.types["Patient"], None, None, True, True)}
    assert {row[0] for row in rows} == {-registry.supported_params("Condition")["patient"].pid}
