"""What the entries of a batch or a transaction may be. https://hl7.org/fhir/R4/bundle.html#bundle-unique"""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tests.interactions.conftest import LINK, Fhir, Json, entry, identified, issues, patient, statuses, unique


def binary(patch: list[Json]) -> Json:
    return {"resourceType": "Binary", "contentType": "application/json-patch+json", "data": base64.b64encode(json.dumps(patch).encode()).decode()}


def test_conditional_entries(fhir: Fhir) -> None:
    one, two, three, four = (unique() for _ in range(4))
    for value in (one, two, three, three, four):
        fhir.post("Patient", identified(value))
    add = [{"op": "add", "path": "/gender", "value": "female"}]
    answer = fhir.bundle(
        "transaction",
        entry("PUT", f"Patient?identifier=urn:mrn|{one}", identified(one, gender="male")),
        entry("PATCH", f"Patient?identifier=urn:mrn|{two}", binary(add)),
        entry("DELETE", f"Patient?identifier=urn:mrn|{three}"),
        entry("POST", "Patient", identified(four), ifNoneExist=f"identifier=urn:mrn|{four}"),
        entry("PUT", f"Patient?identifier=urn:mrn|{unique()}", identified(unique())),
        entry("DELETE", f"Patient?identifier=urn:mrn|{unique()}"),
    )
    assert statuses(answer) == ["200", "200", "204", "200", "201", "204"]
    assert fhir.get(f"Patient?identifier={one}")["entry"][0]["resource"]["gender"] == "male"
    assert fhir.get(f"Patient?identifier={two}")["entry"][0]["resource"]["gender"] == "female"
    assert fhir.ids(f"Patient?identifier={three}") == []
    assert len(fhir.ids(f"Patient?identifier={four}")) == 1
    assert "location" not in answer["entry"][2]["response"]
    assert "location" not in answer["entry"][5]["response"]


@pytest.mark.parametrize("kind", ["batch", "transaction"])
def test_both_kinds_of_patch_as_entries(fhir: Fhir, kind: str) -> None:
    made = [fhir.post("Patient", patient()) for _ in range(2)]
    replace = {
        "resourceType": "Parameters",
        "parameter": [
            {
                "name": "operation",
                "part": [
                    {"name": "type", "valueCode": "replace"},
                    {"name": "path", "valueString": "Patient.name[0].family"},
                    {"name": "value", "valueString": "Huber"},
                ],
            }
        ],
    }
    answer = fhir.bundle(
        kind,
        entry("PATCH", f"Patient/{made[0]['id']}", binary([{"op": "replace", "path": "/name/0/family", "value": "Huber"}]), ifMatch='W/"1"'),
        entry("PATCH", f"Patient/{made[1]['id']}", replace),
    )
    assert statuses(answer) == ["200", "200"]
    assert [fhir.get(f"Patient/{each['id']}")["name"][0]["family"] for each in made] == ["Huber", "Huber"]


def test_one_identity_twice_is_refused(fhir: Fhir) -> None:
    value = unique()
    there = fhir.post("Patient", identified(value))["id"]
    path, condition = f"Patient/{there}", f"Patient?identifier=urn:mrn|{value}"
    add = binary([{"op": "add", "path": "/gender", "value": "female"}])
    put = entry("PUT", path, identified(value, id=there))
    for pair in (
        (put, put),
        (put, entry("DELETE", path)),
        (put, entry("PATCH", path, add)),
        (entry("PATCH", path, add), entry("DELETE", path)),
        (put, entry("PUT", condition, identified(value))),
        (put, entry("DELETE", condition)),
        (entry("DELETE", path), entry("DELETE", condition)),
    ):
        assert "more than once" in issues(fhir.bundle("transaction", *pair, status=400)), pair
    assert fhir.get(f"{path}/_history")["total"] == 1


def test_two_entries_with_one_condition_do_not_make_two_resources(fhir: Fhir) -> None:
    value = unique()
    condition = f"identifier=urn:mrn|{value}"
    for pair in (
        [entry("POST", "Patient", identified(value), ifNoneExist=condition)] * 2,
        [entry("PUT", f"Patient?{condition}", identified(value))] * 2,
        [entry("POST", "Patient", identified(value), ifNoneExist=condition), entry("PUT", f"Patient?{condition}", identified(value))],
    ):
        issues(fhir.bundle("transaction", *pair, status=400))
    assert fhir.ids(f"Patient?{condition}") == []


def test_one_full_url_twice_is_refused(fhir: Fhir) -> None:
    value = unique()
    pair = [entry("POST", "Patient", identified(value), LINK), entry("POST", "Patient", identified(value), LINK)]
    assert LINK in issues(fhir.bundle("transaction", *pair, status=400))
    assert fhir.ids(f"Patient?identifier={value}") == []


@pytest.mark.parametrize(
    "bad",
    [
        7,
        None,
        "x",
        [],
        {"request": 7},
        {"request": {"method": "GET"}},
        {"request": {"method": ["GET"], "url": "Patient"}},
        {"request": {"method": "GET", "url": 7}},
        {"request": {"method": "GET", "url": "Patient/%00"}},
        {"request": {"method": "DELETE", "url": "Patient/%00"}},
        {"request": {"method": "GET", "url": "Patient/" + "x" * 100_000}},
        {"request": {"method": "GET", "url": "Patient/../../etc/passwd"}},
        {"request": {"method": "GET", "url": "Patient/1/2/3/4/5"}},
        {"request": {"method": "GET", "url": "Patient/\u2028"}},
        {"request": {"method": "GET", "url": "Patient?name=%ff"}},
        {"request": {"method": "GET", "url": "Patient?name=%00"}},
        {"request": {"method": "GET", "url": "Patient/$everything"}},
        {"request": {"method": "GET", "url": "Patient?_cursor=x"}},
        {"request": {"method": "POST", "url": "Patient", "ifNoneExist": 7}, "resource": {"resourceType": "Patient"}},
        {"request": {"method": "POST", "url": "Patient", "ifNoneExist": ""}, "resource": {"resourceType": "Patient"}},
        {"request": {"method": "POST", "url": "Patient"}, "resource": {"resourceType": "Patient"}, "fullUrl": {"a": 1}},
        {"request": {"method": "POST", "url": "Patient"}, "resource": {"resourceType": "Patient"}, "fullUrl": 7},
        {"request": {"method": "POST", "url": "Patient"}, "resource": {"resourceType": ["Patient"]}},
        {"request": {"method": "POST", "url": "Patient"}, "resource": [1]},
        {"request": {"method": "PUT", "url": "Patient/1", "ifMatch": "1"}, "resource": {"resourceType": "Patient", "id": "1"}},
        {"request": {"method": "PUT", "url": "Patient/1", "ifMatch": 1}, "resource": {"resourceType": "Patient", "id": "1"}},
        {"request": {"method": "GET", "url": "Patient/1", "ifModifiedSince": "2020"}},
        {"request": {"method": "GET", "url": "Patient/1", "ifModifiedSince": 7}},
        {"request": {"method": "PATCH", "url": "Patient/1"}, "resource": {"resourceType": "Binary", "data": "é"}},
        {"request": {"method": "PATCH", "url": "Patient/1"}, "resource": {"resourceType": "Binary", "data": 7}},
        {"request": {"method": "PATCH", "url": "Patient/1"}, "resource": {"resourceType": "Binary", "data": "AAAA"}},
        {"request": {"method": "PATCH", "url": "Patient/1"}, "resource": {"resourceType": "Binary"}},
        {"request": {"method": "PATCH", "url": "Patient/1"}, "resource": {"resourceType": "Patient"}},
        {"request": {"method": "PATCH", "url": "Patient/1"}},
    ],
)
@pytest.mark.parametrize("kind", ["batch", "transaction"])
def test_hostile_entries_are_refused(fhir: Fhir, kind: str, bad: Any) -> None:
    answer = fhir("POST", "", {"resourceType": "Bundle", "type": kind, "entry": [bad]})
    if kind == "batch" and answer.status_code == 200:
        response = answer.get_json()["entry"][0]["response"]
        status, outcome = int(response["status"][:3]), response["outcome"]
    else:
        status, outcome = answer.status_code, answer.get_json()
    assert 400 <= status < 500, answer.data
    issues(outcome)


@pytest.mark.parametrize("entries", [7, "x", {}, [[]]])
def test_entries_that_are_no_list(fhir: Fhir, entries: Any) -> None:
    issues(fhir.post("", {"resourceType": "Bundle", "type": "transaction", "entry": entries}, 400))
