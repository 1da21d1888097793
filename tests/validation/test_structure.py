"""Shape, values, bindings and references: each fault by its kind and its place."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server.fhirjson import loads
from fhir_server.outcome import Outcome
from fhir_server.spec import r4
from fhir_server.validation import Validator
from fhir_server.validation.faults import MAX_DEPTH, MAX_FAULTS

VALIDATOR = Validator(r4())
OBSERVATION = {"resourceType": "Observation", "status": "final", "code": {"text": "weight"}}
PATIENT = {"resourceType": "Patient"}


def faults(resource: dict[str, Any], **kwargs: bool) -> set[tuple[str, str]]:
    return {(issue.code, issue.expression[0]) for issue in VALIDATOR.check(resource, **kwargs)}


def patient(**elements: Any) -> dict[str, Any]:
    return {**PATIENT, **elements}


@pytest.mark.parametrize(
    ("elements", "code", "place"),
    [
        ({"nmae": [{"family": "A"}]}, "structure", "Patient.nmae"),
        ({"name": {"family": "A"}}, "structure", "Patient.name"),
        ({"name": []}, "structure", "Patient.name"),
        ({"name": [{}]}, "structure", "Patient.name[0]"),
        ({"name": [None]}, "structure", "Patient.name[0]"),
        ({"name": ["A"]}, "structure", "Patient.name[0]"),
        ({"name": [{"given": "A"}]}, "structure", "Patient.name[0].given"),
        ({"name": [{"given": ["A", None]}]}, "structure", "Patient.name[0].given[1]"),
        ({"name": [{"given": [None], "_given": [None]}]}, "structure", "Patient.name[0].given[0]"),
        ({"name": [{"given": ["A"], "_given": [None, {"id": "x"}]}]}, "structure", "Patient.name[0].given"),
        ({"name": [{"_given": [None, {"id": "x"}]}]}, "structure", "Patient.name[0].given[0]"),
        ({"name": [{"given": ["A"], "_given": {"id": "x"}}]}, "structure", "Patient.name[0].given"),
        ({"name": [{"given": ["A"], "_given": []}]}, "structure", "Patient.name[0].given"),
        ({"_name": [{"id": "x"}]}, "structure", "Patient._name"),
        ({"birthDate": None}, "structure", "Patient.birthDate"),
        ({"birthDate": ["2020"]}, "structure", "Patient.birthDate"),
        ({"_birthDate": None}, "structure", "Patient.birthDate"),
        ({"_birthDate": {}}, "structure", "Patient.birthDate"),
        ({"_birthDate": {"value": "2020"}}, "structure", "Patient.birthDate.value"),
        ({"_birthDate": {"extension": [{"valueCode": "unknown"}]}}, "required", "Patient.birthDate.extension[0].url"),
        ({"deceased": True}, "structure", "Patient.deceased"),
        ({"deceasedString": "yes"}, "structure", "Patient.deceasedString"),
        ({"deceasedBoolean": True, "deceasedDateTime": "2020"}, "structure", "Patient.deceased"),
        ({"deceasedBoolean": True, "_deceasedDateTime": {"id": "x"}}, "structure", "Patient.deceased"),
        ({"active": "true"}, "structure", "Patient.active"),
        ({"active": 1}, "structure", "Patient.active"),
        ({"gender": "foo"}, "code-invalid", "Patient.gender"),
        ({"gender": " male"}, "value", "Patient.gender"),
        ({"gender": ""}, "value", "Patient.gender"),
        ({"multipleBirthInteger": 2**31}, "value", "Patient.multipleBirth"),
        ({"multipleBirthInteger": 1.5}, "structure", "Patient.multipleBirth"),
        (
            {"contact": [{"gender": "male", "name": {"text": "A"}}, {"gender": "x", "name": {"text": "A"}}]},
            "code-invalid",
            "Patient.contact[1].gender",
        ),
        ({"communication": [{"preferred": True}]}, "required", "Patient.communication[0].language"),
        ({"telecom": [{"system": "phone", "value": "1", "rank": 0}]}, "value", "Patient.telecom[0].rank"),
        ({"id": "a" * 65}, "value", "Patient.id"),
        ({"id": "a_b"}, "value", "Patient.id"),
        ({"meta": {"lastUpdated": "2020-01-01T00:00:00"}}, "value", "Patient.meta.lastUpdated"),
        ({"meta": {"profile": ["a b"]}}, "value", "Patient.meta.profile[0]"),
        ({"name": [{"id": "a b", "family": "A"}]}, "value", "Patient.name[0].id"),
        ({"name": [{"text": "a\x07"}]}, "value", "Patient.name[0].text"),
        ({"name": [{"text": "a" * (1024 * 1024 + 1)}]}, "too-long", "Patient.name[0].text"),
        ({"photo": [{"contentType": "image/png", "data": "abc"}]}, "value", "Patient.photo[0].data"),
        ({"photo": [{"contentType": "image/png", "size": -1}]}, "value", "Patient.photo[0].size"),
        ({"generalPractitioner": [{"reference": "Patient/1"}]}, "value", "Patient.generalPractitioner[0].reference"),
        ({"generalPractitioner": [{"reference": "http://x.org/fhir/Patient/1"}]}, "value", "Patient.generalPractitioner[0].reference"),
        ({"generalPractitioner": [{"reference": "Patient?identifier=1"}]}, "value", "Patient.generalPractitioner[0].reference"),
        ({"generalPractitioner": [{"reference": "Foo/1"}]}, "value", "Patient.generalPractitioner[0].reference"),
        ({"generalPractitioner": [{"reference": "nothing"}]}, "value", "Patient.generalPractitioner[0].reference"),
        ({"generalPractitioner": [{"reference": "urn:uuid:1"}]}, "value", "Patient.generalPractitioner[0].reference"),
        ({"generalPractitioner": [{"reference": "urn:oid:x"}]}, "value", "Patient.generalPractitioner[0].reference"),
        ({"generalPractitioner": [{"reference": "#"}]}, "value", "Patient.generalPractitioner[0].reference"),
        ({"generalPractitioner": [{"reference": "#no"}]}, "not-found", "Patient.generalPractitioner[0].reference"),
        ({"generalPractitioner": [{"reference": "Practitioner/1", "type": "Organization"}]}, "value", "Patient.generalPractitioner[0].type"),
        ({"generalPractitioner": [{"display": "Dr A", "type": "Patient"}]}, "value", "Patient.generalPractitioner[0].type"),
        ({"generalPractitioner": [{"type": "Practitioner"}]}, "required", "Patient.generalPractitioner[0]"),
        ({"resourcetype": "Patient"}, "structure", "Patient.resourcetype"),
        ({"extension": [{"url": "http://x.org", "valueFoo": 1}]}, "structure", "Patient.extension[0].valueFoo"),
        ({"extension": [{"url": "http://x.org", "value": 1}]}, "structure", "Patient.extension[0].value"),
        ({"a b": 1}, "structure", "Patient"),
    ],
)
def test_a_fault_is_found_at_its_place(elements: dict[str, Any], code: str, place: str) -> None:
    assert (code, place) in faults(patient(**elements))


@pytest.mark.parametrize(
    "elements",
    [
        {},
        {"birthDate": "2020-02-29"},
        {"_birthDate": {"extension": [{"url": "http://x.org", "valueCode": "unknown"}]}},
        {"birthDate": "1970", "_birthDate": {"id": "b1"}},
        {"name": [{"given": ["A", None], "_given": [None, {"id": "x"}]}]},
        {"name": [{"_given": [{"id": "x"}]}]},
        {"name": [{"text": "two\nlines\tand a tab"}]},
        {"deceasedBoolean": False, "_deceasedBoolean": {"id": "x"}},
        {"generalPractitioner": [{"reference": "Practitioner/1/_history/2"}, {"reference": "http://x.org/fhir/Practitioner/1"}]},
        {"generalPractitioner": [{"reference": "http://x.org/anything?at=all"}, {"reference": "urn:oid:1.2.3"}]},
        {"generalPractitioner": [{"reference": "Practitioner?identifier=http://hl7.org/fhir/sid/us-npi|99"}]},
        {"generalPractitioner": [{"extension": [{"url": "http://x.org", "valueCode": "unknown"}]}]},
        {"generalPractitioner": [{"reference": "Practitioner/1", "type": "Practitioner"}]},
        {"photo": [{"contentType": "image/png", "data": "YWJj\nZGVm"}]},
        {"maritalStatus": {"text": "any"}},
        {"managingOrganization": {"reference": "#o"}, "contained": [{"resourceType": "Organization", "id": "o", "name": "O"}]},
    ],
)
def test_valid_patients_have_no_fault(elements: dict[str, Any]) -> None:
    assert VALIDATOR.check(patient(**elements)) == []


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (
            "Date",
            ["2020", "2020-02", "2020-02-29", "0001-01-01"],
            ["2020-02-30", "2021-02-29", "2020-13", "2020-00", "0000", "20", "2020-1-1", "2020-01-01T00:00:00Z", ""],
        ),
        (
            "DateTime",
            ["2020", "2020-01-01T00:00:00Z", "2020-12-31T23:59:60Z", "2020-01-01T10:00:00.123456789+14:00"],
            [
                "2020-01-01T24:00:00Z",
                "2020-01-01T10:00Z",
                "2020-01-01T10:00:00",
                "2020-04-31T10:00:00Z",
                "2020-01-01T10:00:00+15:00",
                "2020-01-01 10:00:00Z",
            ],
        ),
        ("Instant", ["2020-01-01T00:00:00.001Z", "2016-12-31T23:59:60Z"], ["2020-01-01", "2020-01-01T00:00:00"]),
        ("Time", ["10:00:00", "23:59:60.5"], ["24:00:00", "10:00", "10:00:00Z"]),
        ("Integer", [0, -(2**31), 2**31 - 1], [2**31, "1", True, None]),
        ("PositiveInt", [1], [0, -1, 2**31]),
        ("UnsignedInt", [0], [-1]),
        ("Boolean", [True, False], [0, "false"]),
        ("Code", ["a", "a b"], ["a  b", " a", "a\n", ""]),
        ("Uri", ["http://x.org", "a", "#b", "urn:oid:1", "a\u00a0b"], ["a b", "a\tb", ""]),
        ("Oid", ["urn:oid:1.2.3"], ["1.2.3", "urn:oid:3.1", "urn:oid:1.02"]),
        (
            "Uuid",
            ["urn:uuid:53fefa32-fcbb-4ff8-8a92-55ee120877b7"],
            ["53fefa32-fcbb-4ff8-8a92-55ee120877b7", "urn:uuid:53FEFA32-fcbb-4ff8-8a92-55ee120877b7"],
        ),
        ("Id", ["a-1.B"], ["a_b", "a" * 65, ""]),
        ("Base64Binary", ["YQ==", "YW Jj"], ["Y", "YQ=", "*"]),
        ("String", ["a", "ñ€𝄞", " a "], ["", 1, "\x00", "\x1b[0m"]),
        ("Markdown", ["# a\n\nb"], [""]),
    ],
)
def test_primitives(kind: str, good: list[Any], bad: list[Any]) -> None:
    def found(value: Any) -> set[tuple[str, str]]:
        return faults(patient(extension=[{"url": "http://x.org", f"value{kind}": value}]))

    assert [value for value in good if found(value)] == []
    assert [value for value in bad if "Patient.extension[0].value" not in {place for _, place in found(value)}] == []


def test_decimals_are_numbers_of_any_form() -> None:
    text = b'{"resourceType":"Observation","status":"final","code":{"text":"w"},"valueQuantity":{"value":%s}}'
    for number in (b"1.10", b"1e3", b"-0.5", b"7", b"0.00000000000000000001"):
        assert VALIDATOR.check(loads(text % number)) == []
    assert faults(loads(text % b'"1.10"')) == {("structure", "Observation.value.value")}


def test_an_integer_is_not_written_with_a_fraction() -> None:
    assert faults(loads(b'{"resourceType":"Patient","multipleBirthInteger":1.0}')) == {("value", "Patient.multipleBirth")}


def test_every_fault_is_reported_at_once() -> None:
    found = faults({"resourceType": "Observation", "status": "x", "foo": 1, "valueBoolean": "no", "dataAbsentReason": {"text": "?"}})
    assert found == {
        ("code-invalid", "Observation.status"),
        ("structure", "Observation.foo"),
        ("structure", "Observation.value"),
        ("required", "Observation.code"),
        ("invariant", "Observation"),
    }


def test_no_more_than_a_hundred_faults_are_listed() -> None:
    assert len(VALIDATOR.check(patient(**{f"x{n}": n for n in range(10_000)}))) == MAX_FAULTS
    assert len(VALIDATOR.check(patient(name=[{"given": [1] * 50}] * 10_000))) == MAX_FAULTS


def test_nesting_is_bounded() -> None:
    def nested(depth: int) -> dict[str, Any]:
        extension: dict[str, Any] = {"url": "http://x.org", "valueBoolean": True}
        for _ in range(depth):
            extension = {"url": "http://x.org", "extension": [extension]}
        return patient(extension=[extension])

    assert VALIDATOR.check(nested(MAX_DEPTH - 3)) == []
    assert {code for code, _ in faults(nested(MAX_DEPTH))} == {"too-long"}
    bundle: dict[str, Any] = {"resourceType": "Bundle", "type": "collection"}
    for _ in range(200):
        bundle = {"resourceType": "Bundle", "type": "collection", "entry": [{"fullUrl": "http://x.org/Bundle/1", "resource": bundle}]}
    assert {code for code, _ in faults(bundle)} == {"too-long"}


@pytest.mark.parametrize(
    "resource",
    [None, [], "Patient", 5, {}, {"resourceType": 5}, {"resourceType": "Patiennt"}, {"resourceType": "Resource"}, {"resourceType": "Period"}],
)
def test_what_is_no_resource_is_malformed(resource: Any) -> None:
    with pytest.raises(Outcome) as refused:
        VALIDATOR.require(resource)
    assert refused.value.status == 400


def test_require_carries_every_issue() -> None:
    VALIDATOR.require(PATIENT)
    with pytest.raises(Outcome) as refused:
        VALIDATOR.require(patient(gender="x", active="y"))
    assert refused.value.status == 422
    assert {issue.expression[0] for issue in refused.value.issues} == {"Patient.gender", "Patient.active"}


def test_messages_say_what_to_do() -> None:
    def said(**elements: Any) -> str:
        return VALIDATOR.check(patient(**elements))[0].diagnostics

    assert "did you mean 'birthDate'" in said(birthdate="2020")
    assert "male, other, unknown" in said(gender="man")
    assert "deceasedBoolean, deceasedDateTime" in said(deceased=True)
    assert "Practitioner" in said(generalPractitioner=[{"reference": "Patient/1"}])
    with pytest.raises(Outcome, match="did you mean 'Patient'"):
        VALIDATOR.check({"resourceType": "Patien"})


def test_a_concept_with_a_required_binding_needs_one_coding_of_the_set() -> None:
    def allergy(status: Any) -> dict[str, Any]:
        return {"resourceType": "AllergyIntolerance", "patient": {"reference": "Patient/1"}, "clinicalStatus": status}

    system = "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical"
    assert VALIDATOR.check(allergy({"coding": [{"system": "http://x.org", "code": "x"}, {"system": system, "code": "active"}]})) == []
    assert VALIDATOR.check(allergy({"text": "active"})) == []
    assert faults(allergy({"coding": [{"system": system, "code": "aktiv"}]})) == {("code-invalid", "AllergyIntolerance.clinicalStatus")}
    assert faults(allergy({"coding": [{"code": "active"}]})) == {("code-invalid", "AllergyIntolerance.clinicalStatus.coding[0].system")}


@pytest.mark.parametrize(
    ("contained", "expected"),
    [
        ([{"resourceType": "Organization", "name": "O"}], {("required", "Patient.contained[0].id"), ("invariant", "Patient")}),
        ([{"resourceType": "Organization", "id": "o", "name": "O"}] * 2, {("value", "Patient.contained")}),
        (
            [{"resourceType": "Organization", "id": "o", "name": "O", "meta": {"versionId": "1"}}],
            {("invariant", "Patient.contained[0].meta.versionId")},
        ),
        (
            [{"resourceType": "Organization", "id": "o", "name": "O", "meta": {"security": [{"code": "R"}]}}],
            {("invariant", "Patient.contained[0].meta.security")},
        ),
        (
            [{"resourceType": "Organization", "id": "o", "name": "O", "contained": [{"resourceType": "Patient", "id": "x"}]}],
            {("invariant", "Patient.contained[0].contained"), ("invariant", "Patient.contained[0]")},
        ),
        ([{"resourceType": "Patient", "id": "o"}], {("value", "Patient.managingOrganization.reference")}),
        ([{"id": "o"}], {("structure", "Patient.contained[0]"), ("value", "Patient.managingOrganization.reference")}),
        (
            [{"resourceType": "Foo", "id": "o"}],
            {("structure", "Patient.contained[0].resourceType"), ("value", "Patient.managingOrganization.reference")},
        ),
        (["o"], {("structure", "Patient.contained[0]"), ("not-found", "Patient.managingOrganization.reference"), ("invariant", "Patient")}),
    ],
)
def test_contained_resources(contained: list[Any], expected: set[tuple[str, str]]) -> None:
    assert expected <= faults(patient(managingOrganization={"reference": "#o"}, contained=contained))


def test_a_contained_resource_is_referred_to_or_refers() -> None:
    organization = {"resourceType": "Organization", "id": "o", "name": "O"}
    assert faults(patient(contained=[organization])) == {("invariant", "Patient")}
    agent = {"who": {"display": "A"}}
    provenance = {"resourceType": "Provenance", "id": "p", "target": [{"reference": "#"}], "recorded": "2020-01-01T00:00:00Z", "agent": [agent]}
    assert VALIDATOR.check(patient(contained=[provenance])) == []


def test_resources_inside_bundles_and_parameters_are_checked() -> None:
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": PATIENT}, {"resource": patient(gender="x")}]}
    assert faults(bundle) == {("code-invalid", "Bundle.entry[1].resource.gender")}
    parameters = {"resourceType": "Parameters", "parameter": [{"name": "a", "part": [{"name": "b", "resource": patient(active=1)}]}]}
    assert faults(parameters) == {("structure", "Parameters.parameter[0].part[0].resource.active")}
    assert faults({"resourceType": "Bundle", "type": "collection", "entry": [{"resource": {"resourceType": "Nope"}}]}) == {
        ("structure", "Bundle.entry[0].resource.resourceType")
    }


def test_without_invariants_only_the_structure_counts() -> None:
    resource = {**OBSERVATION, "valueBoolean": True, "dataAbsentReason": {"text": "?"}}
    assert faults(resource) == {("invariant", "Observation")}
    assert Validator(r4(), invariants=False).check(resource) == []


RIGHT: dict[str, Any] = {"coding": [{"system": "http://s.example", "code": "1", "userSelected": True}], "text": "one"}


@pytest.mark.parametrize(
    "concept",
    [
        {"coding": [{"system": "http://s.example", "code": 1}]},
        {"coding": [{"system": "http://s.example", "code": "1"}], "text": None},
        {"coding": [{"system": "http://s.example", "code": "1", "userSelected": 1}], "text": "one"},
        {"coding": [{"system": "http://s.example", "code": "1"}], "text": "one", "texts": "one"},
        {"coding": [{"system": "http://s.example", "code": "1", "extension": [{}]}]},
        {"coding": [["system", "code"]], "text": "one"},
        {"coding": {"system": "http://s.example", "code": "1"}},
    ],
)
def test_a_code_that_was_right_does_not_make_right_what_only_looks_like_it(concept: dict[str, Any]) -> None:
    validator = Validator(r4())
    for good in (
        RIGHT,
        {"coding": [{"system": "http://s.example", "code": "1"}]},
        {"coding": [{"system": "http://s.example", "code": "1"}], "text": "one"},
    ):
        assert validator.check({"resourceType": "Patient", "maritalStatus": good}) == []
    for _ in range(2):
        assert validator.check({"resourceType": "Patient", "maritalStatus": concept})


@pytest.mark.parametrize(("day", "right"), [("04-30", True), ("04-31", False), ("12-31", True), ("02-29", False), ("02-28", True)])
def test_months_end_when_they_do(day: str, right: bool) -> None:  # noqa: FBT001 - a parameter
    assert (Validator(r4()).check({"resourceType": "Patient", "birthDate": f"2023-{day}"}) == []) is right


RANGE = {"low": {"value": 1, "unit": "g"}, "high": {"value": 2, "unit": "g"}, "text": "1-2"}


@pytest.mark.parametrize(
    "wrong",
    [
        {**RANGE, "low": {"value": True, "unit": "g"}},
        {**RANGE, "low": {"value": "1", "unit": "g"}},
        {**RANGE, "low": [{"value": 1, "unit": "g"}]},
        {**RANGE, "low": {"value": None, "unit": "g"}},
        {**RANGE, "text": 1},
        {**RANGE, "text": ""},
        {**RANGE, "more": 1},
        {**RANGE, "extension": [{"url": "http://x.example"}]},
        {**RANGE, "type": {"extension": [{"url": "http://x.example", "valueReference": {"reference": "#gone"}}]}},
        {"type": {"text": "neither bounds nor text"}},
        [RANGE],
        "1-2",
    ],
)
def test_a_range_that_was_right_does_not_make_right_what_only_looks_like_it(wrong: Any) -> None:
    validator = Validator(r4())
    for _ in range(2):
        assert validator.check({**OBSERVATION, "referenceRange": [RANGE]}) == []
    for _ in range(2):
        assert validator.check({**OBSERVATION, "referenceRange": [wrong]})


def test_a_reference_in_a_range_is_looked_at_in_each_resource() -> None:
    validator = Validator(r4())
    inside = {"text": "1-2", "type": {"extension": [{"url": "http://x.example", "valueReference": {"reference": "#it"}}]}}
    contained = [{"resourceType": "Patient", "id": "it"}]
    assert validator.check({**OBSERVATION, "contained": contained, "referenceRange": [inside]}) == []
    assert validator.check({**OBSERVATION, "referenceRange": [inside]})
