"""The operations on value sets and code systems, with stored resources before those that ship. https://hl7.org/fhir/R4/terminology-service.html"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from tests.interactions.conftest import Fhir, Json, issues, unique

ACT = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
GENDER = "http://hl7.org/fhir/ValueSet/administrative-gender"
SEX = "http://hl7.org/fhir/administrative-gender"


def code_system(url: str, *concepts: Json, **fields: Any) -> Json:
    return {"resourceType": "CodeSystem", "url": url, "status": "active", "content": "complete", "concept": list(concepts), **fields}


def value_set(url: str, *include: Json, **fields: Any) -> Json:
    return {"resourceType": "ValueSet", "url": url, "status": "active", "compose": {"include": list(include)}, **fields}


def parameters(**values: Any) -> Json:
    def part(name: str, value: Any) -> Json:
        if isinstance(value, dict):
            kind = "resource" if "resourceType" in value else "valueCodeableConcept" if "coding" in value else "valueCoding"
        else:
            kind = "valueInteger" if isinstance(value, int) else "valueUri"
        return {"name": name, kind: value}

    return {"resourceType": "Parameters", "parameter": [part(*each) for each in values.items()]}


def codes(expanded: Json) -> list[str]:
    assert expanded["resourceType"] == "ValueSet"
    return [entry["code"] for entry in expanded["expansion"].get("contains", ())]


def told(answer: Json) -> dict[str, Any]:
    """The simple parameters of an answer."""
    assert answer["resourceType"] == "Parameters"
    return {part["name"]: value for part in answer["parameter"] for key, value in part.items() if key.startswith("value")}


def test_a_shipped_value_set_is_expanded(fhir: Fhir) -> None:
    expanded = fhir.get(f"ValueSet/$expand?url={GENDER}")
    assert codes(expanded) == ["male", "female", "other", "unknown"]
    assert expanded["expansion"]["contains"][0] == {"system": SEX, "code": "male", "display": "Male"}
    assert expanded["expansion"]["total"] == 4
    assert expanded["url"] == GENDER
    assert "compose" not in expanded
    fhir.post("ValueSet/$validate", expanded, 200)


def test_pages_and_words(fhir: Fhir) -> None:
    assert codes(fhir.get(f"ValueSet/$expand?url={GENDER}&count=2&offset=1")) == ["female", "other"]
    beyond = fhir.get(f"ValueSet/$expand?url={GENDER}&offset=9")
    assert (codes(beyond), beyond["expansion"]["total"]) == ([], 4)
    assert codes(fhir.get(f"ValueSet/$expand?url={GENDER}&count=0")) == []
    assert codes(fhir.get(f"ValueSet/$expand?url={GENDER}&filter=FEM")) == ["female"]
    assert codes(fhir.post("ValueSet/$expand", parameters(url=GENDER, count=1), 200)) == ["male"]


def test_stored_resources_are_found_by_url_and_version(fhir: Fhir) -> None:
    url, system = f"urn:{unique('a,b$c')}", f"http://example.org/{unique()}"
    fhir.post("CodeSystem", code_system(system, {"code": "b", "display": "Bee"}, {"code": "a", "concept": [{"code": "c"}]}))
    for version, code in (("1", "a"), ("2", "b")):
        fhir.post("ValueSet", value_set(url, {"system": system, "concept": [{"code": code}]}, version=version))
    assert codes(fhir.get(f"ValueSet/$expand?url={quote(url)}%7C1")) == ["a"]
    assert codes(fhir.get(f"ValueSet/$expand?url={quote(url)}")) == ["b"]
    assert codes(fhir.get(f"ValueSet/$expand?url={quote(url)}&valueSetVersion=1")) == ["a"]
    assert "not known here" in issues(fhir.get(f"ValueSet/$expand?url={quote(url)}%7C3", 400))
    whole = fhir.post("ValueSet", value_set("urn:whole", {"system": system}))
    for path in (f"ValueSet/{whole['id']}/$expand", f"ValueSet/$expand?url=ValueSet/{whole['id']}"):
        assert codes(fhir.get(path)) == ["b", "a", "c"]
    issues(fhir.get("ValueSet/$expand?url=ValueSet/never-was", 400))
    below = {"system": system, "filter": [{"property": "concept", "op": "is-a", "value": "a"}]}
    assert codes(fhir.post("ValueSet/$expand", value_set("urn:given", below), 200)) == ["a", "c"]
    assert codes(fhir.post("ValueSet/$expand", parameters(valueSet=value_set("urn:given", below)), 200)) == ["a", "c"]


def test_an_active_resource_goes_before_a_newer_draft(fhir: Fhir) -> None:
    url = f"urn:{unique()}"
    fhir.post("ValueSet", value_set(url, {"system": "urn:s", "concept": [{"code": "active"}]}))
    fhir.post("ValueSet", value_set(url, {"system": "urn:s", "concept": [{"code": "draft"}]}) | {"status": "draft"})
    assert codes(fhir.get(f"ValueSet/$expand?url={url}")) == ["active"]


def test_what_a_grant_does_not_show_is_not_used(fhir: Fhir) -> None:
    url = f"urn:{unique()}"
    made = fhir.post("ValueSet", value_set(url, {"system": "urn:s", "concept": [{"code": "a"}]}))
    other = fhir.other(scope="system/Patient.rs")
    assert "not known here" in issues(other.get(f"ValueSet/$expand?url={url}", 400))
    other.get(f"ValueSet/{made['id']}/$expand", 403)
    assert codes(other.get(f"ValueSet/$expand?url={GENDER}&count=1")) == ["male"]


def test_whether_a_code_is_in_a_value_set(fhir: Fhir) -> None:
    path = f"ValueSet/$validate-code?url={GENDER}&system={SEX}"
    assert told(fhir.get(f"{path}&code=male")) == {"result": True, "display": "Male"}
    assert told(fhir.get(f"{path}&code=male&display=Mael"))["message"] == "The display is 'Male', not 'Mael'"
    wrong = told(fhir.get(f"{path}&code=foo"))
    assert wrong["result"] is False
    assert "'foo'" in wrong["message"]
    coding = {"system": SEX, "code": "male"}
    for way in (
        parameters(url=GENDER, coding=coding),
        parameters(url=GENDER, codeableConcept={"coding": [{"system": "urn:x", "code": "y"}, coding]}),
    ):
        assert told(fhir.post("ValueSet/$validate-code", way, 200))["result"] is True
    units = "http://hl7.org/fhir/ValueSet/ucum-units&system=http://unitsofmeasure.org"
    assert told(fhir.get(f"ValueSet/$validate-code?url={units}&code=mg")) == {"result": True}
    assert "not here to be listed" in issues(fhir.get("ValueSet/$expand?url=http://hl7.org/fhir/ValueSet/ucum-units", 422))


def test_lookup(fhir: Fhir) -> None:
    found = fhir.get(f"CodeSystem/$lookup?system={ACT}&code=IMP")
    simple = told(found)
    assert (simple["name"], simple["display"]) == ("v3.ActCode", "inpatient encounter")
    properties = {(p["part"][0]["valueCode"], p["part"][1].get("valueCode")) for p in found["parameter"] if p["name"] == "property"}
    assert properties >= {("child", "ACUTE"), ("child", "NONAC"), ("parent", "_ActEncounterCode")}
    assert found == fhir.post("CodeSystem/$lookup", parameters(coding={"system": ACT, "code": "IMP"}), 200)
    issues(fhir.get(f"CodeSystem/$lookup?system={ACT}&code=never", 404))
    assert "http://loinc.org" in issues(fhir.get("CodeSystem/$lookup?system=http://loinc.org&code=1-8", 400))


def test_whether_a_code_exists(fhir: Fhir) -> None:
    assert told(fhir.get(f"CodeSystem/$validate-code?url={ACT}&code=IMP"))["result"] is True
    assert told(fhir.get(f"CodeSystem/$validate-code?url={ACT}&code=IMPOSSIBLE"))["result"] is False
    made = fhir.post("CodeSystem", code_system(f"urn:{unique()}", {"code": "a", "display": "A"}))
    assert told(fhir.get(f"CodeSystem/{made['id']}/$validate-code?code=a")) == {"result": True, "display": "A"}
    away = parameters(coding={"system": "urn:other", "code": "a"})
    assert told(fhir.post(f"CodeSystem/{made['id']}/$validate-code", away, 200))["result"] is False
    hollow = fhir.post("CodeSystem", {"resourceType": "CodeSystem", "url": "urn:hollow", "status": "active", "content": "not-present"})
    assert "not known here" in issues(fhir.get(f"CodeSystem/{hollow['id']}/$validate-code?code=a", 400))


@pytest.mark.parametrize(
    ("a", "b", "outcome"),
    [("IMP", "ACUTE", "subsumes"), ("ACUTE", "IMP", "subsumed-by"), ("IMP", "IMP", "equivalent"), ("ACUTE", "NONAC", "not-subsumed")],
)
def test_subsumption(fhir: Fhir, a: str, b: str, outcome: str) -> None:
    assert told(fhir.get(f"CodeSystem/$subsumes?system={ACT}&codeA={a}&codeB={b}")) == {"outcome": outcome}
    codings = parameters(codingA={"system": ACT, "code": a}, codingB={"system": ACT, "code": b})
    assert told(fhir.post("CodeSystem/$subsumes", codings, 200)) == {"outcome": outcome}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("ValueSet/$expand", 400),
        ("ValueSet/$expand?url=", 400),
        ("ValueSet/$expand?url=urn:nowhere", 400),
        (f"ValueSet/$expand?url={GENDER}&url={GENDER}", 400),
        (f"ValueSet/$expand?url={GENDER}&count=-1", 400),
        (f"ValueSet/$expand?url={GENDER}&count=many", 400),
        (f"ValueSet/$expand?url={GENDER}&offset=99999999999999999999", 400),
        (f"ValueSet/$expand?url={GENDER}&context=x", 400),
        (f"ValueSet/$expand?url={'x' * 3000}", 400),
        ("ValueSet/$expand?valueSet=x", 400),
        ("ValueSet/never-was/$expand", 404),
        ("Patient/$expand", 404),
        ("CodeSystem/$expand", 404),
        ("CodeSystem/x/$lookup?code=a", 404),
        (f"ValueSet/$validate-code?url={GENDER}", 400),
        (f"ValueSet/$validate-code?url={GENDER}&code=male", 400),
        (f"CodeSystem/$lookup?system={ACT}", 400),
        ("CodeSystem/$lookup?code=IMP", 400),
        (f"CodeSystem/$subsumes?system={ACT}&codeA=IMP", 400),
        (f"CodeSystem/$subsumes?system={ACT}&codeA=IMP&codeB=never", 400),
        ("CodeSystem/$validate-code?code=a", 400),
    ],
)
def test_what_is_asked_wrongly_is_refused(fhir: Fhir, path: str, status: int) -> None:
    issues(fhir.get(path, status))


@pytest.mark.parametrize(
    "body",
    [
        {"resourceType": "Parameters"},
        {"resourceType": "Parameters", "parameter": 7},
        {"resourceType": "Parameters", "parameter": [{"name": "url"}, {"name": "url", "valueUri": GENDER, "valueString": GENDER}]},
        {"resourceType": "Parameters", "parameter": [{"name": "url", "valueInteger": 7}]},
        {"resourceType": "Parameters", "parameter": [{"name": "valueSet", "resource": {"resourceType": "Patient"}}]},
        {"resourceType": "Parameters", "parameter": [{"name": "valueSet", "resource": {"resourceType": "ValueSet", "compose": {"include": 7}}}]},
        {"resourceType": "ValueSet", "status": "active", "compose": {"include": [{"system": 7}]}},
        {"resourceType": "Patient"},
        {},
    ],
)
def test_bodies_that_are_no_input_are_refused(fhir: Fhir, body: Any) -> None:
    answer = fhir("POST", "ValueSet/$expand", body)
    assert answer.status_code in {400, 422}
    issues(answer.get_json(force=True))


def test_operations_are_stated_where_they_work(fhir: Fhir) -> None:
    stated = {each["type"]: {operation["name"] for operation in each["operation"]} for each in fhir.get("metadata")["rest"][0]["resource"]}
    all_have = {"graphql", "validate", "meta", "meta-add", "meta-delete"}
    assert stated["ValueSet"] == all_have | {"expand", "validate-code"}
    assert stated["CodeSystem"] == all_have | {"lookup", "validate-code", "subsumes"}
    assert stated["Patient"] == all_have | {"everything", "export", "access-report", "balance", "statement"}
