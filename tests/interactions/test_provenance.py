"""Where a version comes from: what the caller says in X-Provenance, and what the server says of amendments."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

import pytest

from fhir_server.access import issue
from fhir_server.spec import r4
from fhir_server.validation import Validator
from tests.interactions.conftest import SECRET, Fhir, entry, issues, made, observation, patient, unique

Json = dict[str, Any]
SENT: Json = {"resourceType": "Provenance", "recorded": "2026-01-02T03:04:05Z", "agent": [{"who": {"display": "Gerät Ä"}}]}


def header(resource: Any) -> dict[str, str]:
    return {"X-Provenance": resource if isinstance(resource, str) else json.dumps(resource)}


def about(fhir: Fhir, reference: str) -> list[Json]:
    page = fhir.get(f"Provenance?target={reference}")
    return [each["resource"] for each in page.get("entry", ())]


@pytest.mark.parametrize("kind", ["create", "update", "patch"])
def test_a_provenance_that_comes_along_is_created_with_the_version_as_its_target(fhir: Fhir, kind: str) -> None:
    identity = unique()[:60]
    if kind == "create":
        identity = fhir.post("Patient", patient(), headers=header(SENT))["id"]
    else:
        fhir.put(f"Patient/{identity}", patient(id=identity), 201)
        if kind == "update":
            fhir.put(f"Patient/{identity}", patient(id=identity), headers=header(SENT))
        else:
            patch = [{"op": "add", "path": "/active", "value": True}]
            assert fhir("PATCH", f"Patient/{identity}", patch, header(SENT)).status_code == 200
    version = 1 if kind == "create" else 2
    [found] = about(fhir, f"Patient/{identity}")
    assert found["target"] == [{"reference": f"Patient/{identity}/_history/{version}"}]
    assert {name: value for name, value in found.items() if name not in ("id", "meta", "target")} == SENT
    Validator(r4()).require(found)


def test_one_of_a_transaction_has_all_that_is_written_as_its_targets(fhir: Fhir) -> None:
    link = "urn:uuid:00000000-0000-4000-8000-000000000001"
    gone = made(fhir, patient())
    sent = {**SENT, "agent": [{"who": {"reference": link}}]}
    entries = [
        entry("POST", "Patient", patient(), link),
        entry("POST", "Observation", observation(subject={"reference": link})),
        entry("DELETE", f"Patient/{gone}"),
    ]
    answer = fhir.bundle("transaction", *entries, headers=header(sent))
    locations = [each["response"]["location"] for each in answer["entry"][:2]]
    assert len(answer["entry"]) == 3
    [found] = about(fhir, locations[0].partition("/_history")[0])
    assert sorted(each["reference"] for each in found["target"]) == sorted(locations)
    assert found["agent"][0]["who"]["reference"] == locations[0].partition("/_history")[0]


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ("{", 400),
        ("[]", 400),
        ('{"resourceType": "Patient"}', 400),
        ({**SENT, "target": [{"reference": "Patient/1"}]}, 400),
        ({"resourceType": "Provenance"}, 422),
        ({**SENT, "recorded": "yesterday"}, 422),
        ({**SENT, "nonsense": 1}, 422),
        ({**SENT, "policy": ["x" * 40_000]}, 413),
        ("[" * 20_000, 400),
    ],
)
def test_a_bad_one_is_refused_and_nothing_is_stored(fhir: Fhir, sent: Any, status: int) -> None:
    identity = unique()[:60]
    answer = fhir("PUT", f"Patient/{identity}", patient(id=identity), header(sent))
    assert (answer.status_code, answer.get_json()["resourceType"]) == (status, "OperationOutcome")
    fhir.get(f"Patient/{identity}", 404)
    entries = [entry("PUT", f"Patient/{identity}", patient(id=identity))]
    fhir.bundle("transaction", *entries, status=status, headers=header(sent))
    fhir.get(f"Patient/{identity}", 404)


def test_where_it_means_nothing_it_is_refused(fhir: Fhir) -> None:
    identity = made(fhir, patient())
    assert fhir("DELETE", f"Patient/{identity}", headers=header(SENT)).status_code == 400
    assert "batch" in issues(fhir.bundle("batch", entry("GET", "Patient"), status=400, headers=header(SENT)))
    assert fhir("GET", f"Patient/{identity}", headers=header("{")).status_code == 200


def test_it_takes_the_right_to_create_one(fhir: Fhir) -> None:
    writer = fhir.other(scope="system/Patient.cruds")
    assert "Provenance" in issues(writer.post("Patient", patient(), 403, header(SENT)))
    assert writer.post("Patient", patient())


def test_what_fails_leaves_no_provenance(fhir: Fhir) -> None:
    identity = made(fhir, patient())
    fhir.put(f"Patient/{identity}", patient(id=identity), 412, {**header(SENT), "If-Match": 'W/"9"'})
    assert about(fhir, f"Patient/{identity}") == []


def doctor(fhir: Fhir) -> Fhir:
    return replace(fhir, token=issue(SECRET, role="doctor", user="eva", patient=None, scope=None, ttl=3600, now=time.time()))


@pytest.mark.parametrize("status", ["amended", "corrected", "entered-in-error"])
@pytest.mark.parametrize("way", ["update", "patch", "transaction"])
def test_an_amendment_has_a_provenance(fhir: Fhir, status: str, way: str) -> None:
    result = made(fhir, observation())
    eva, changed = doctor(fhir), observation(id=result, status=status)
    if way == "update":
        eva.put(f"Observation/{result}", changed)
    elif way == "patch":
        assert eva("PATCH", f"Observation/{result}", [{"op": "replace", "path": "/status", "value": status}]).status_code == 200
    else:
        assert len(eva.bundle("transaction", entry("PUT", f"Observation/{result}", changed))["entry"]) == 1
    [found] = about(fhir, f"Observation/{result}")
    Validator(r4()).require(found)
    assert found["target"] == [{"reference": f"Observation/{result}/_history/2"}]
    assert found["entity"] == [{"role": "revision", "what": {"reference": f"Observation/{result}/_history/1"}}]
    assert found["activity"]["text"] == status
    assert found["agent"][0]["who"]["display"] == "eva"
    assert found["recorded"] == fhir.get(f"Observation/{result}")["meta"]["lastUpdated"]


def test_other_changes_have_none(fhir: Fhir) -> None:
    result = made(fhir, observation(status="preliminary"))
    fhir.put(f"Observation/{result}", observation(id=result, status="final"))
    assert about(fhir, f"Observation/{result}") == []
    fhir.put(f"Observation/{result}", observation(id=result, status="amended"))
    fhir.put(f"Observation/{result}", observation(id=result, status="amended", note=[{"text": "x"}]))
    assert len(about(fhir, f"Observation/{result}")) == 1
    born = made(fhir, observation(status="amended"))
    assert about(fhir, f"Observation/{born}") == []
