"""Invariants, native and through the FHIRPath engine, each with what keeps it and what breaks it."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server.spec import r4
from fhir_server.validation import Validator
from fhir_server.validation.invariants import CORRECTED, IMPLIED

VALIDATOR = Validator(r4())
WEIGHT = {"coding": [{"system": "http://loinc.org", "code": "29463-7"}]}


def broken(resource: dict[str, Any], **kwargs: bool) -> set[tuple[str, str]]:
    """Key and place of each invariant that does not hold."""
    issues = VALIDATOR.check(resource, **kwargs)
    assert {issue.code for issue in issues} <= {"invariant"}
    return {(issue.diagnostics.partition(" ")[0], issue.expression[0]) for issue in issues}


def observation(**elements: Any) -> dict[str, Any]:
    return {"resourceType": "Observation", "status": "final", "code": WEIGHT, **elements}


def patient(**elements: Any) -> dict[str, Any]:
    return {"resourceType": "Patient", **elements}


def appointment(**elements: Any) -> dict[str, Any]:
    return {
        "resourceType": "Appointment",
        "status": "booked",
        "participant": [{"actor": {"reference": "Patient/1"}, "status": "accepted"}],
        **elements,
    }


def bundle(kind: str, *entries: dict[str, Any], **elements: Any) -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": kind, **({"entry": list(entries)} if entries else {}), **elements}


REQUEST = {"request": {"method": "GET", "url": "Patient/1"}}
TIMES = {"start": "2020-01-01T10:00:00Z", "end": "2020-01-01T10:30:00Z"}


@pytest.mark.parametrize(
    ("resource", "expected"),
    [
        (observation(valueBoolean=True), set()),
        (observation(valueBoolean=True, dataAbsentReason={"text": "?"}), {("obs-6", "Observation")}),
        (observation(valueBoolean=True, component=[{"code": WEIGHT}]), {("obs-7", "Observation")}),
        (observation(component=[{"code": WEIGHT}]), set()),
        (observation(referenceRange=[{"age": {"low": {"value": 1}}}]), {("obs-3", "Observation.referenceRange[0]")}),
        (observation(valueQuantity={"value": 1, "code": "kg"}), {("qty-3", "Observation.value")}),
        (observation(valueQuantity={"value": 1, "code": "kg", "system": "http://unitsofmeasure.org"}), set()),
        (observation(valueRange={"low": {"value": 2, "unit": "kg"}, "high": {"value": 1, "unit": "kg"}}), {("rng-2", "Observation.value")}),
        (observation(valueRange={"low": {"value": 1}, "high": {"value": 2}}), set()),
        (observation(valueRatio={"numerator": {"value": 1}}), {("rat-1", "Observation.value")}),
        (observation(effectivePeriod={"start": "2020-02-01", "end": "2020-01-01"}), {("per-1", "Observation.effective")}),
        (observation(effectivePeriod={"start": "2020-01-01", "end": "2020-01-01"}), set()),
        (observation(effectivePeriod={"start": "2020-01-01T10:00:00Z", "end": "2020-01-01"}), set()),
        (observation(effectivePeriod={"start": "2020-01-01T23:00:00+14:00", "end": "2020-01-01T10:00:00Z"}), set()),
        (observation(effectivePeriod={"start": "2020-01-01T10:00:00-05:00", "end": "2020-01-01T10:00:00Z"}), {("per-1", "Observation.effective")}),
        (patient(contact=[{"gender": "male"}]), {("pat-1", "Patient.contact[0]")}),
        (patient(contact=[{"organization": {"reference": "Organization/1"}}]), set()),
        (patient(telecom=[{"value": "1"}]), {("cpt-2", "Patient.telecom[0]")}),
        (patient(photo=[{"data": "YQ=="}]), {("att-1", "Patient.photo[0]")}),
        (patient(extension=[{"url": "http://x.org"}]), {("ext-1", "Patient.extension[0]")}),
        (
            patient(extension=[{"url": "http://x.org", "valueBoolean": True, "extension": [{"url": "a", "valueBoolean": True}]}]),
            {("ext-1", "Patient.extension[0]")},
        ),
        (patient(extension=[{"url": "http://x.org", "_valueBoolean": {"extension": [{"url": "http://y.org", "valueCode": "x"}]}}]), set()),
        ({"resourceType": "Organization"}, {("org-1", "Organization")}),
        (
            {"resourceType": "Organization", "name": "O", "telecom": [{"use": "home", "system": "phone", "value": "1"}]},
            {("org-3", "Organization.telecom[0]")},
        ),
        (
            {"resourceType": "Organization", "name": "O", "address": [{"text": "x"}, {"use": "home", "text": "y"}]},
            {("org-2", "Organization.address[1]")},
        ),
        (appointment(**TIMES), set()),
        (appointment(), {("app-3", "Appointment")}),
        (appointment(status="proposed"), set()),
        (appointment(status="proposed", start=TIMES["start"]), {("app-2", "Appointment")}),
        (appointment(**TIMES, cancelationReason={"text": "x"}), {("app-4", "Appointment")}),
        (bundle("collection", {"resource": patient()}, {"resource": patient()}), set()),
        (bundle("collection", total=1), {("bdl-1", "Bundle")}),
        (bundle("batch", REQUEST), set()),
        (bundle("batch", {"resource": patient()}), {("bdl-3", "Bundle")}),
        (bundle("collection", REQUEST), {("bdl-3", "Bundle")}),
        (bundle("batch-response", {"resource": patient()}), {("bdl-4", "Bundle")}),
        (bundle("collection", *[{"fullUrl": "http://x.org/Patient/1", "resource": patient()}] * 2), {("bdl-7", "Bundle")}),
        (bundle("collection", *[{"fullUrl": f"http://x.org/Patient/1", "resource": patient(meta={"versionId": v})} for v in "12"]), set()),  # noqa: F541
        (bundle("collection", {"fullUrl": "http://x.org/Patient/1/_history/1", "resource": patient()}), {("bdl-8", "Bundle.entry[0]")}),
        (
            bundle("document", {"resource": patient()}, timestamp="2020-01-01T00:00:00Z", identifier={"system": "urn:x", "value": "1"}),
            {("bdl-11", "Bundle")},
        ),
    ],
)
def test_invariants(resource: dict[str, Any], expected: set[tuple[str, str]]) -> None:
    assert broken(resource) == expected


def test_a_question_is_enabled_by_whether_another_has_an_answer() -> None:
    def questionnaire(answer: dict[str, Any]) -> dict[str, Any]:
        item = {"linkId": "2", "type": "string", "enableWhen": [{"question": "1", "operator": "exists", **answer}]}
        return {"resourceType": "Questionnaire", "status": "draft", "item": [{"linkId": "1", "type": "boolean"}, item]}

    assert broken(questionnaire({"answerBoolean": True})) == set()
    assert broken(questionnaire({"answerInteger": 1})) == {("que-7", "Questionnaire.item[1].enableWhen[0]")}


def test_link_ids_differ_at_all_depths() -> None:
    def items(*ids: str, **elements: Any) -> set[tuple[str, str]]:
        inner = [{"linkId": one, "type": "string"} for one in ids]
        outer = {"linkId": "1", "type": "group", "item": inner}
        return broken({"resourceType": "Questionnaire", "status": "draft", "item": [outer], **elements})

    own = {"reference": "#c"}
    contained = {"resourceType": "Questionnaire", "id": "c", "status": "draft", "item": [{"linkId": "2", "type": "string"}]}
    assert items("2", "3") == set()
    assert items("1") == items("2", "2") == {("que-2", "Questionnaire")}
    assert items("2", contained=[contained], extension=[{"url": "http://x.org", "valueReference": own}]) == {("que-2", "Questionnaire")}


def test_codes_of_a_code_system_differ_at_all_depths() -> None:
    def concepts(*codes: str) -> set[tuple[str, str]]:
        inner = [{"code": code} for code in codes]
        return broken({"resourceType": "CodeSystem", "status": "draft", "content": "complete", "concept": [{"code": "1", "concept": inner}]})

    assert concepts("2", "3") == set()
    assert concepts("1") == concepts("2", "2") == {("csd-1", "CodeSystem")}


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ({}, set()),
        ({"max": "*"}, set()),
        ({"max": "0"}, {"eld-2"}),
        ({"max": "-1"}, {"eld-2", "eld-3"}),
        ({"max": "99999999999"}, set()),
        ({"min": 0, "max": "0"}, set()),
        ({"type": [{"code": "string"}, {"code": "code"}]}, set()),
        ({"type": [{"code": "string"}] * 2}, {"eld-13"}),
        ({"constraint": [{"key": "a", "severity": "error", "human": "x"}] * 2}, {"eld-14"}),
        ({"sliceName": "a-b/c"}, set()),
        ({"sliceName": "a b"}, {"eld-16"}),
        ({"path": "X.,"}, set()),
        ({"path": ".,"}, {"eld-19", "sdf-8"}),
        ({"path": "Y.a"}, {"sdf-8"}),
    ],
)
def test_elements_of_definitions(elements: dict[str, Any], expected: set[str]) -> None:
    assert {key for key, _ in broken(definition([{"min": 1, "max": "1", **elements}]))} == expected


def definition(elements: list[dict[str, Any]]) -> dict[str, Any]:
    shared = {"definition": "d", "base": {"path": "X", "min": 0, "max": "*"}}
    root = {"id": "X", "path": "X", "min": 0, "max": "*", **shared}
    listed = [{"id": f"X.e{n}", "path": f"X.e{n}", **shared, **element} for n, element in enumerate(elements)]
    return {
        "resourceType": "StructureDefinition",
        "url": "http://x.org/X",
        "name": "X",
        "status": "draft",
        "kind": "resource",
        "abstract": False,
        "type": "X",
        "baseDefinition": "http://x.org/Y",
        "derivation": "constraint",
        "snapshot": {"element": [root, *listed]},
    }


def test_advice_is_given_only_when_asked_for() -> None:
    assert broken(patient()) == set()
    assert broken(patient(), warnings=True) == {("dom-6", "Patient")}
    assert [issue.severity for issue in VALIDATOR.check(patient(), warnings=True)] == ["warning"]


def test_every_invariant_of_every_type_compiles() -> None:
    validator = Validator(r4())
    for name in r4().resource_types:
        validator.check({"resourceType": name, "id": "x"}, warnings=True)
    known = {c.key for t in r4().types.values() for c in t.constraints} | {
        c.key for t in r4().types.values() for e in t.elements.values() for c in e.constraints
    }
    assert known >= {*IMPLIED, *CORRECTED}


def test_twenty_thousand_entries_are_compared_once_each() -> None:
    entries = [{"fullUrl": f"urn:uuid:{n:08x}-0000-4000-8000-000000000000", "resource": patient(), **REQUEST} for n in range(20_000)]
    assert broken(bundle("transaction", *entries)) == set()
    assert broken(bundle("transaction", *entries, entries[0])) == {("bdl-7", "Bundle")}
