"""What is stated works. https://hl7.org/fhir/R4/http.html#capabilities"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fhir_server.interactions import capabilities, supported
from fhir_server.rest import render
from tests.interactions.conftest import BASE, Fhir, Json, MakeFhir, entry, made, patient, profile

INSTANCE = {"everything", "graphql", "access-report", "balance", "statement", "meta", "meta-add", "meta-delete"}
VALUES = {
    "string": "ann",
    "token": "urn:s|code",
    "date": "ge2020-01-01",
    "reference": "Patient/1",
    "number": "1.5",
    "quantity": "1.5|http://unitsofmeasure.org|kg",
    "uri": "http://example.org/x",
    "special": "48.1|11.6|5|km",
}


@pytest.fixture(scope="module", autouse=True)
def statement(fhir: Fhir) -> Json:
    # Tests of other modules may just have stored profiles, which would come to be known in the middle of this one.
    supported._looked.clear()
    found: Json = fhir.get("metadata")
    return found


def test_the_statement_needs_no_token_and_is_valid(fhir: Fhir, statement: Json) -> None:
    answer = fhir.app.test_client().get("/fhir/metadata")
    assert answer.status_code == 200
    assert answer.get_json() == statement
    assert (statement["fhirVersion"], statement["implementation"]["url"]) == ("4.0.1", BASE)
    outcome = fhir.post("CapabilityStatement/$validate", statement, 200)
    assert [issue for issue in outcome["issue"] if issue["severity"] == "error"] == []


def test_who_has_the_statement_is_told_so(fhir: Fhir) -> None:
    tag = fhir("GET", "metadata").headers["ETag"]
    assert fhir("GET", "metadata", headers={"If-None-Match": tag}).status_code == 304
    assert fhir("GET", "metadata", headers={"If-None-Match": 'W/"other"'}).status_code == 200
    assert fhir("GET", "metadata", headers={"Host": "elsewhere.example.org"}).headers["ETag"] != tag


def test_the_statement_is_made_once_for_all_hosts(fhir: Fhir) -> None:
    fhir.get("metadata")
    made = capabilities._statement.cache_info().misses
    for number in range(40):
        stated = fhir.get("metadata", headers={"Host": f"host-{number}.example.org"})
        assert stated["implementation"]["url"] == f"http://host-{number}.example.org/fhir"
        written = fhir("GET", "metadata?_format=xml", headers={"Host": f"host-{number}.example.org"}).text
        assert written.count(f'<url value="http://host-{number}.example.org/fhir"/>') == 1
    assert capabilities._statement.cache_info().misses == made
    assert render._neutral.cache_info().misses <= 1


def test_every_type_is_stated_and_answers(fhir: Fhir, statement: Json) -> None:
    stated = [each["type"] for each in statement["rest"][0]["resource"]]
    assert len(stated) == len(set(stated)) >= 146
    assert {"Patient", "Observation", "Binary", "Bundle", "Parameters", "VisionPrescription"} <= set(stated)
    for name in stated:
        assert fhir("GET", f"{name}?_count=1").status_code == 200, name


@pytest.mark.parametrize("name", ["Patient", "Observation", "Encounter", "RiskAssessment", "ValueSet", "ChargeItem", "Appointment"])
def test_every_stated_parameter_finds_and_filters(fhir: Fhir, statement: Json, name: str) -> None:
    stated = next(each for each in statement["rest"][0]["resource"] if each["type"] == name)
    assert len(stated["searchParam"]) > 5
    registry = fhir.app.extensions["store"].registry
    for param in stated["searchParam"]:
        value = VALUES.get(param["type"]) or "$".join(VALUES[part.type] for part in registry.supported_params(name)[param["name"]].components)
        answer = fhir("GET", f"{name}?{param['name']}={value}")
        assert answer.status_code == 200, (param, answer.data)
        if param["type"] != "token":
            continue
        missing = fhir("GET", f"{name}?{param['name']}:missing=true&_count=1")
        assert missing.status_code == 200, param
    for include in stated["searchInclude"]:
        assert fhir("GET", f"{name}?_count=1&_include={include}").status_code == 200, include
    for include in stated["searchRevInclude"]:
        assert fhir("GET", f"{name}?_count=1&_revinclude={include}").status_code == 200, include


@pytest.mark.parametrize("name", ["Patient", "Basic"])
def test_every_stated_interaction_answers(fhir: Fhir, statement: Json, name: str) -> None:
    stated = next(each for each in statement["rest"][0]["resource"] if each["type"] == name)
    body = patient() if name == "Patient" else {"resourceType": "Basic", "code": {"text": "x"}}
    made = fhir.post(name, body)
    path = f"{name}/{made['id']}"
    calls = {
        "read": fhir("GET", path),
        "vread": fhir("GET", f"{path}/_history/1"),
        "update": fhir("PUT", path, made),
        "patch": fhir("PATCH", path, [{"op": "test", "path": "/id", "value": made["id"]}]),
        "history-instance": fhir("GET", f"{path}/_history"),
        "history-type": fhir("GET", f"{name}/_history"),
        "create": fhir("POST", name, body),
        "search-type": fhir("GET", f"{name}?_id={made['id']}"),
        "delete": fhir("DELETE", path),
    }
    assert {each["code"] for each in stated["interaction"]} == set(calls)
    assert {name: answer.status_code for name, answer in calls.items() if answer.status_code >= 300} == {}
    for operation in stated["operation"]:
        # What lacks its parameters is told so; what is not there would be 404 or 405.
        at = path if operation["name"] in INSTANCE else name
        assert fhir("POST", f"{at}/${operation['name']}", body).status_code in {200, 400, 410}, operation


def test_every_stated_system_interaction_answers(fhir: Fhir, statement: Json) -> None:
    rest = statement["rest"][0]
    assert {each["code"] for each in rest["interaction"]} == {"transaction", "batch", "search-system", "history-system"}
    for kind in ("transaction", "batch"):
        fhir.bundle(kind, entry("GET", "metadata"))
    fhir.get("_history?_count=1")
    fhir.get("?_type=Patient,Basic&_count=1")
    assert all(":" not in each["name"] for each in rest["searchParam"])
    assert [each["name"] for each in rest["operation"]] == ["export", "graphql", "why-denied"]
    assert fhir.get("$graphql?query={__typename}") == {"data": {"__typename": "Query"}}


def test_formats_stated_are_spoken(fhir: Fhir, statement: Json) -> None:
    made = fhir.post("Patient", patient())
    for name in statement["format"]:
        answer = fhir("GET", f"Patient/{made['id']}?_format={name.replace('+', '%2B')}")
        assert answer.status_code == 200, name
    assert "application/json-patch+json" in statement["patchFormat"]


def test_profiles_that_are_stored_are_stated_with_their_type(make_fhir: MakeFhir, fresh_database: Callable[[], str]) -> None:
    server = make_fhir(fresh_database())
    first = profile("urn:first", {"id": "Patient", "path": "Patient"}, status="active")
    made(server, first)
    made(server, first | {"url": "urn:retired", "status": "retired"})
    made(server, first | {"url": "urn:type", "derivation": "specialization"})
    stated = {each["type"]: each.get("supportedProfile") for each in server.get("metadata")["rest"][0]["resource"]}
    assert stated["Patient"] == ["urn:first"]
    assert stated["Observation"] is None
    again = server("GET", "metadata", headers={"Accept": "application/fhir+xml"})
    assert '<supportedProfile value="urn:first"/>' in again.text
