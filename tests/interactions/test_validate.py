"""The operation `$validate`. https://hl7.org/fhir/R4/resource-operation-validate.html"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.interactions.conftest import Fhir, Json, identified, issues, made, patient, profile, unique


def severities(outcome: Json) -> set[str]:
    assert outcome["resourceType"] == "OperationOutcome"
    return {issue["severity"] for issue in outcome["issue"]}


def parameters(resource: Any, **more: str) -> Json:
    parts: list[Json] = [{"name": "resource", "resource": resource}]
    parts += [{"name": name, "valueCode" if name == "mode" else "valueUri": value} for name, value in more.items()]
    return {"resourceType": "Parameters", "parameter": parts}


def test_a_valid_resource_gets_no_errors_and_is_not_stored(fhir: Fhir) -> None:
    value = unique()
    for body in (identified(value), parameters(identified(value)), parameters(identified(value), mode="create")):
        outcome = fhir.post("Patient/$validate", body, 200)
        assert severities(outcome) <= {"information", "warning"}
        assert outcome["issue"]
    assert fhir.ids(f"Patient?identifier={value}") == []


def test_every_fault_is_told_with_its_place(fhir: Fhir) -> None:
    wrong = {"resourceType": "Patient", "gender": "foo", "birthDate": "2020-02-30", "name": {}}
    for body in (wrong, parameters(wrong)):
        outcome = fhir.post("Patient/$validate", body, 200)
        errors = [issue for issue in outcome["issue"] if issue["severity"] == "error"]
        assert {"Patient.gender", "Patient.birthDate", "Patient.name"} <= {place for issue in errors for place in issue["expression"]}


def test_on_an_instance(fhir: Fhir) -> None:
    made = fhir.post("Patient", patient())
    path = f"Patient/{made['id']}"
    assert "error" not in severities(fhir.get(f"{path}/$validate"))
    assert "error" not in severities(fhir.post(f"{path}/$validate", parameters(made, mode="update"), 200))
    assert "error" in severities(fhir.post(f"{path}/$validate", parameters(patient(id="another"), mode="update"), 200))
    assert "error" in severities(fhir.post(f"{path}/$validate?mode=update", patient(), 200))
    assert "error" not in severities(
        fhir.post(f"{path}/$validate", {"resourceType": "Parameters", "parameter": [{"name": "mode", "valueCode": "delete"}]}, 200)
    )
    fhir.get("Patient/never-was/$validate", 404)
    fhir("DELETE", path)
    fhir.get(f"{path}/$validate", 410)


def test_a_resource_of_another_type(fhir: Fhir) -> None:
    assert "error" in severities(fhir.post("Observation/$validate", patient(), 200))


def test_parameters_may_be_validated_themselves(fhir: Fhir) -> None:
    own = {"resourceType": "Parameters", "parameter": [{"name": "x", "valueString": "y"}]}
    assert "error" not in severities(fhir.post("Parameters/$validate", own, 200))
    assert "error" not in severities(fhir.post("Parameters/$validate", parameters(own), 200))


def test_profiles(fhir: Fhir) -> None:
    fhir.post("Patient/$validate", parameters(patient(), profile="http://hl7.org/fhir/StructureDefinition/Patient"), 200)
    assert "not at hand" in issues(fhir.post("Patient/$validate", parameters(patient(), profile="http://example.org/unknown"), 400))
    assert "not at hand" in issues(fhir.post("Patient/$validate?profile=http://example.org/unknown", patient(), 400))


def test_xml(fhir: Fhir) -> None:
    sent = '<Patient xmlns="http://hl7.org/fhir"><gender value="foo"/></Patient>'
    outcome = fhir.post("Patient/$validate", sent, 200, {"Content-Type": "application/fhir+xml", "Accept": "application/fhir+json"})
    assert severities(outcome) >= {"error"}


@pytest.mark.parametrize(
    "body",
    [
        {"resourceType": "Parameters"},
        {"resourceType": "Parameters", "parameter": None},
        {"resourceType": "Parameters", "parameter": 7},
        {"resourceType": "Parameters", "parameter": [7, None]},
        {"resourceType": "Parameters", "parameter": [{"name": ["resource"]}]},
        {"resourceType": "Parameters", "parameter": [{"name": {}, "resource": {}}]},
        parameters(7),
        parameters(None),
        parameters({}),
        parameters({"resourceType": 7}),
        parameters({"resourceType": "Nonsense"}),
        parameters(patient(), mode="nonsense"),
        {"resourceType": ["Patient"]},
        {},
        {"resourceType": "Nonsense"},
    ],
)
def test_what_cannot_be_validated_is_refused(fhir: Fhir, body: Any) -> None:
    issues(fhir.post("Patient/$validate", body, 400))


def test_only_where_it_is_offered(fhir: Fhir) -> None:
    issues(fhir.post("$validate", patient(), 404))
    issues(fhir.post("Patient/$nonsense", patient(), 404))
    assert fhir("DELETE", "Patient/$validate").status_code == 405
    fhir.post("Patient/$validate", None, 400)


def named(url: str) -> Json:
    """A profile of patients who have a name."""
    name = {"id": "Patient.name", "path": "Patient.name", "min": 1, "max": "*", "base": {"path": "Patient.name", "min": 0, "max": "*"}}
    root = {"id": "Patient", "path": "Patient", "min": 0, "max": "*", "base": {"path": "Patient", "min": 0, "max": "*"}}
    return profile(url, *(each | {"definition": "A patient with a name"} for each in (root, name)), view="snapshot")


def test_a_profile_that_is_here_is_validated_by(fhir: Fhir) -> None:
    url = f"urn:{unique('profile')}"
    made(fhir, named(url))
    nameless = {"resourceType": "Patient"}
    assert "Patient.name is needed" in issues(fhir.post(f"Patient/$validate?profile={url}", nameless, 200))
    assert "Patient.name is needed" in issues(fhir.post("Patient/$validate", parameters(nameless, profile=url), 200))
    assert "Patient.name is needed" in issues(fhir.post("Patient/$validate", nameless | {"meta": {"profile": [url, "urn:unknown"]}}, 200))
    assert "needed" not in json.dumps(fhir.post(f"Patient/$validate?profile={url}", patient(), 200))
    # A write is held to the specification alone.
    made(fhir, nameless | {"meta": {"profile": [url]}})


def test_resources_in_a_resource_are_held_to_what_they_claim_and_what_is_not_here_is_told(fhir: Fhir) -> None:
    url = f"urn:{unique('profile')}"
    made(fhir, named(url))
    claim = {"resourceType": "Patient", "id": "p", "meta": {"profile": [url]}}
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": [{"fullUrl": "https://x.example/Patient/p", "resource": claim}]}
    found = fhir.post("Bundle/$validate", bundle, 200)["issue"]
    assert ["Bundle.entry[0].resource.name"] in [each.get("expression") for each in found if each["severity"] == "error"]
    observation = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "subject": {"reference": "#p"}, "contained": [claim]}
    found = fhir.post("Observation/$validate", observation, 200)["issue"]
    assert ["Observation.contained[0].name"] in [each.get("expression") for each in found if each["severity"] == "error"]
    claim["meta"] = {"profile": ["urn:not-here"]}
    found = fhir.post("Bundle/$validate", bundle, 200)["issue"]
    assert ["Bundle.entry[0].resource.meta.profile"] in [each.get("expression") for each in found if each["severity"] == "warning"]


def test_faults_by_the_specification_and_by_a_profile_are_told_together(fhir: Fhir) -> None:
    url = f"urn:{unique('profile')}"
    made(fhir, named(url))
    found = fhir.post(f"Patient/$validate?profile={url}", {"resourceType": "Patient", "gender": "x", "meta": 7, "contained": 7}, 200)["issue"]
    assert {"Patient.gender", "Patient.name"} <= {place for each in found if each["severity"] == "error" for place in each.get("expression", ())}


def test_codes_are_held_to_value_sets_that_are_here(fhir: Fhir) -> None:
    url, system = f"urn:{unique('profile')}", f"urn:{unique('system')}"
    compose = {"include": [{"system": system, "concept": [{"code": "gold"}]}]}
    made(fhir, {"resourceType": "ValueSet", "url": f"{url}:set", "status": "draft", "compose": compose})
    married_by = named(url)
    married_by["snapshot"]["element"][1] |= {
        "id": "Patient.maritalStatus",
        "path": "Patient.maritalStatus",
        "min": 0,
        "binding": {"strength": "required", "valueSet": f"{url}:set"},
    }
    made(fhir, married_by)
    for code, severity in (("gold", set()), ("tin", {"error"})):
        married = patient(maritalStatus={"coding": [{"system": system, "code": code}]})
        found = fhir.post(f"Patient/$validate?profile={url}", married, 200)["issue"]
        assert {each["severity"] for each in found if each.get("expression") == ["Patient.maritalStatus"]} == severity
