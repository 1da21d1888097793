from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.spec import r4
from fhir_server.validation.profiles import Profiles

from .conftest import URL, Json, Told, element, member, profile


def patient(**fields: Any) -> Json:
    return {"resourceType": "Patient", **fields}


def test_what_is_needed_is_missed_where_its_parent_is_there(told: Told) -> None:
    wanted = profile("Patient", element("Patient.name", 1), element("Patient.identifier.system", 1))
    assert told(wanted, patient()) == [("error", "required", "Patient.name")]
    two = [{"system": "a"}, {"value": "b"}]
    assert told(wanted, patient(name=[{}], identifier=two)) == [("error", "required", "Patient.identifier[1].system")]
    assert told(wanted, patient(name=[{}], identifier=[{"_system": {"extension": []}}])) == []


def test_what_may_not_be_there_or_not_so_often_is_too_many(told: Told) -> None:
    wanted = profile("Patient", element("Patient.name", most="1"), element("Patient.deceased[x]", most="0"))
    assert told(wanted, patient(name=[{}, {}])) == [("error", "structure", "Patient.name")]
    assert told(wanted, patient(deceasedDateTime="2020")) == [("error", "structure", "Patient.deceased")]
    assert told(wanted, patient(name=[{}])) == []


def test_what_the_specification_asks_for_is_not_told_again(told: Told) -> None:
    wanted = profile("Observation", element("Observation.code", 1, "1"), element("Observation.status", 1, "1", binding=REQUIRED))
    assert told(wanted, {"resourceType": "Observation", "status": "nonsense"}) == []


REQUIRED: Json = {"strength": "required", "valueSet": "http://hl7.org/fhir/ValueSet/observation-status|4.0.1"}


@pytest.mark.parametrize(("value", "fits"), [("male", True), ("female", False)])
def test_a_fixed_value_is_that_value(told: Told, value: str, fits: bool) -> None:  # noqa: FBT001 - a table of expectations
    assert (told(profile("Patient", element("Patient.gender", fixedCode="male")), patient(gender=value)) == []) == fits


def test_true_is_not_one(told: Told) -> None:
    assert told(profile("Patient", element("Patient.multipleBirth[x]", fixedInteger=1)), patient(multipleBirthBoolean=True)) != []


def test_a_pattern_is_there_among_other_things(told: Told) -> None:
    pattern = {"coding": [{"system": "urn:s", "code": "M"}]}
    wanted = profile("Patient", element("Patient.maritalStatus", patternCodeableConcept=pattern))
    more = {"text": "married", "coding": [{"code": "x"}, {"system": "urn:s", "code": "M", "display": "Married"}]}
    assert told(wanted, patient(maritalStatus=more)) == []
    other = {"coding": [{"system": "urn:s", "code": "S"}]}
    assert told(wanted, patient(maritalStatus=other)) == [("error", "value", "Patient.maritalStatus")]
    assert told(wanted, patient()) == []


def test_its_invariants_are_asked_whoever_states_them_and_a_warning_is_one(told: Told) -> None:
    rules = [
        {"key": "w-1", "severity": "error", "human": "A name has a family", "expression": "family.exists()", "source": URL},
        {"key": "w-2", "severity": "warning", "human": "Has a given", "expression": "given.exists()"},
        {"key": "ele-1", "severity": "error", "expression": "false", "source": "http://hl7.org/fhir/StructureDefinition/Element"},
        {"key": "w-3", "severity": "error", "expression": "no such thing (", "source": URL},
    ]
    wanted = profile("Patient", element("Patient.name", type=[{"code": "HumanName"}], constraint=rules))
    assert told(wanted, patient(name=[{"family": "a"}, {"given": ["b"]}])) == [
        ("warning", "invariant", "Patient.name[0]"),
        ("information", "informational", "Patient.name[0]"),
        ("error", "invariant", "Patient.name[1]"),
    ]


def test_an_invariant_may_ask_for_a_value_set_and_for_what_is_contained(told: Told) -> None:
    rules = [
        {"key": "w-1", "severity": "error", "expression": "valueCodeableConcept.memberOf('urn:colours')"},
        {"key": "w-2", "severity": "error", "expression": "subject.resolve().birthDate.exists()"},
    ]
    wanted = profile("Observation")
    wanted["snapshot"]["element"][0]["constraint"] = [rules[0] | {"expression": "value.memberOf('urn:colours')"}, rules[1]]
    contained = {"resourceType": "Patient", "id": "p", "birthDate": "2000-01-01"}
    green = {"coding": [{"system": "urn:c", "code": "green"}]}
    resource = {"resourceType": "Observation", "contained": [contained], "subject": {"reference": "#p"}, "valueCodeableConcept": green}
    assert told(wanted, resource) == [("error", "invariant", "Observation")]
    green["coding"][0]["code"] = "red"
    assert told(wanted, resource) == []
    del contained["birthDate"]
    assert told(wanted, resource) == [("error", "invariant", "Observation")]


@pytest.mark.parametrize(
    ("limit", "value", "wrong"),
    [
        ({"minValueInteger": 1}, {"valueInteger": 0}, True),
        ({"minValueInteger": 1}, {"valueInteger": 1}, False),
        ({"maxValueQuantity": {"value": 5, "code": "kg"}}, {"valueQuantity": {"value": 6, "code": "kg"}}, True),
        ({"maxValueQuantity": {"value": 5, "code": "kg"}}, {"valueQuantity": {"value": 6, "code": "g"}}, False),
        ({"maxValueDateTime": "2020"}, {"valueDateTime": "2020-05"}, False),
        ({"maxValueDateTime": "2020"}, {"valueDateTime": "2021-05-01"}, True),
        ({"maxLength": 3}, {"valueString": "four"}, True),
        ({"maxLength": 4}, {"valueString": "four"}, False),
    ],
)
def test_a_value_is_within_its_limits(told: Told, limit: Json, value: Json, wrong: bool) -> None:  # noqa: FBT001 - a table of expectations
    found = told(profile("Observation", element("Observation.value[x]", **limit)), {"resourceType": "Observation", **value})
    assert found == ([("error", "value", "Observation.value")] if wrong else [])


def test_a_choice_is_of_the_types_that_are_left(told: Told) -> None:
    wanted = profile("Observation", element("Observation.value[x]", type=[{"code": "Quantity"}, {"code": "string"}]))
    assert told(wanted, {"resourceType": "Observation", "valueInteger": 1}) == [("error", "structure", "Observation.value")]
    assert told(wanted, {"resourceType": "Observation", "valueString": "x"}) == []


def test_an_element_that_is_like_another_is_held_to_what_that_is_held_to_at_any_depth(told: Told) -> None:
    wanted = profile(
        "Questionnaire", element("Questionnaire.item.text", 1), element("Questionnaire.item.item", contentReference="#Questionnaire.item")
    )
    nested = {"resourceType": "Questionnaire", "item": [{"text": "a", "item": [{"text": "b", "item": [{"linkId": "c"}]}]}]}
    assert told(wanted, nested) == [("error", "required", "Questionnaire.item[0].item[0].item[0].text")]


def test_a_profile_for_another_type_or_without_elements_is_an_error(told: Told) -> None:
    assert told(profile("Observation"), patient()) == [("error", "invalid", "Patient")]
    assert told(profile("Patient", snapshot={}), patient()) == [("error", "not-supported", "")]


def test_no_more_faults_are_told_than_somebody_reads(told: Told) -> None:
    assert len(told(profile("Patient", element("Patient.name.family", 1)), patient(name=[{"text": "x"}] * 5_000))) == 200


def test_what_takes_too_long_ends_and_says_so(told: Told) -> None:
    rules = [{"key": "w-1", "severity": "error", "expression": "%resource.name.where(family = 'x').count() > 99"}]
    wanted = profile("Patient", element("Patient.name", constraint=rules))
    found = told(wanted, patient(name=[{"family": "x", "text": "x"}] * 3_000))
    assert found[-1] == ("warning", "too-costly", "Patient")


def test_value_sets_without_end_are_too_costly() -> None:
    bound = [
        element(f"Patient.contact.relationship:s{n}.coding.code", binding={"strength": "required", "valueSet": f"urn:{n}"}) for n in range(6_000)
    ]
    sliced = element("Patient.contact.relationship", slicing={"discriminator": [{"type": "exists", "path": "coding"}], "rules": "open"})
    slices = [element(f"Patient.contact.relationship:s{n}.coding", 1) for n in range(6_000)]
    asked: list[str] = []

    def answer(value_set: str, _system: str | None, _code: str) -> bool | str:
        asked.append(value_set)
        return True

    resource = patient(contact=[{"relationship": [{"coding": [{"code": "x"}]}]}])
    found = Profiles(r4(), lambda _canonical: None, answer).check(profile("Patient", sliced, *slices, *bound), resource)
    assert [issue.code for issue in found] == ["too-costly"]
    assert len(asked) < 5_000


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["coding", "code", "system", "url", "value", "resourceType"]), inner),
    max_leaves=8,
)
NAMES = st.sampled_from(["category", "code", "component", "valueQuantity", "_status", "status", "contained", "subject", "extension", "note"])


@given(st.dictionaries(NAMES, ANY))
def test_a_resource_of_any_shape_is_checked_without_a_crash(fields: Json) -> None:
    wanted = profile(
        "Observation",
        element("Observation.category", 1, slicing={"discriminator": [{"type": "value", "path": "coding.code"}], "rules": "closed"}),
        element("Observation.category:one", 1, "1"),
        element("Observation.category:one.coding.code", 1, "1", fixedCode="x"),
        element("Observation.component.code", 1, "1", patternCodeableConcept={"coding": [{"code": "x"}]}),
        element("Observation.value[x]", type=[{"code": "Quantity", "profile": ["urn:none"]}], maxLength=3),
        element("Observation.status", binding={"strength": "required", "valueSet": "urn:colours"}),
        element("Observation.code", binding={"strength": "extensible", "valueSet": "urn:colours"}, minValueInteger=1),
        element("Observation.subject", type=[{"code": "Reference", "targetProfile": ["http://hl7.org/fhir/StructureDefinition/Patient"]}]),
    )
    for issue in Profiles(r4(), lambda _canonical: None, member).check(wanted, {"resourceType": "Observation", **fields}):
        assert issue.diagnostics.startswith(URL)
