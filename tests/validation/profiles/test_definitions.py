from __future__ import annotations

from typing import Any

import pytest

from fhir_server.spec import r4
from fhir_server.validation.profiles import Profiles

from .conftest import CORE, Json, Told, differential, element, member, profile, slicing


def patient(**fields: Any) -> Json:
    return {"resourceType": "Patient", **fields}


def test_a_differential_is_laid_over_the_specification(told: Told) -> None:
    wanted = differential("Patient", {"path": "Patient.name", "min": 1}, base=f"{CORE}Patient")
    assert told(wanted, patient()) == [("error", "required", "Patient.name")]


BASE = profile(
    "Observation",
    slicing("Observation.category", ("pattern", "$this")),
    element("Observation.category:lab", 1, "1", patternCodeableConcept={"coding": [{"code": "lab"}]}),
    element("Observation.note", 1, constraint=[{"key": "b-1", "severity": "error", "expression": "text.length() > 1"}]),
    url="urn:base",
)


def test_a_differential_is_laid_over_the_profile_that_it_builds_on(told: Told) -> None:
    wanted = differential(
        "Observation",
        {"path": "Observation.category", "sliceName": "lab"},
        {"path": "Observation.category.text", "min": 1},
        {"path": "Observation.note", "max": "1", "constraint": [{"key": "o-1", "severity": "error", "expression": "text.length() > 2"}]},
        base="urn:base",
    )
    lab = {"coding": [{"code": "lab"}]}
    assert told(wanted, {"resourceType": "Observation"}, BASE) == [
        ("error", "required", place) for place in ("Observation.category", "Observation.note")
    ]
    found = told(wanted, {"resourceType": "Observation", "category": [{"text": "x"}, lab], "note": [{"text": "a"}, {"text": "bb"}]}, BASE)
    assert found == [
        ("error", "required", "Observation.category[1].text"),
        ("error", "structure", "Observation.note"),
        ("error", "invariant", "Observation.note[0]"),
        ("error", "invariant", "Observation.note[0]"),
        ("error", "invariant", "Observation.note[1]"),
    ]


def test_a_profile_whose_base_is_not_here_or_goes_round_is_refused(told: Told) -> None:
    one = differential("Patient", {"path": "Patient"}, base="urn:two", url="urn:one")
    two = differential("Patient", {"path": "Patient"}, base="urn:one", url="urn:two")
    assert told(one, patient()) == [("error", "not-supported", "")]
    assert told(one, patient(), two) == [("error", "not-supported", "")]


def test_an_element_meets_the_profile_of_its_type_or_one_of_several(told: Told) -> None:
    named = profile("HumanName", element("HumanName.family", 1, "1"), url="urn:named")
    short = profile("HumanName", element("HumanName.text", 1, "1"), url="urn:short")
    wanted = profile("Patient", element("Patient.name", type=[{"code": "HumanName", "profile": ["urn:named"]}]))
    assert told(wanted, patient(name=[{"text": "x"}]), named) == [("error", "required", "Patient.name[0].family")]
    either = profile("Patient", element("Patient.name", type=[{"code": "HumanName", "profile": ["urn:named", "urn:short"]}]))
    assert told(either, patient(name=[{"text": "x"}, {"family": "y"}]), named, short) == []
    assert told(either, patient(name=[{"given": ["x"]}]), named, short) == [("error", "structure", "Patient.name[0]")]
    assert told(either, patient(name=[{"given": ["x"]}]), named) == [("information", "not-supported", "Patient.name[0]")]


@pytest.mark.parametrize(
    ("reference", "issues"),
    [
        ({"reference": "Patient/1"}, []),
        ({"reference": "https://elsewhere.example/fhir/Patient/1"}, []),
        ({"reference": "urn:uuid:0", "type": "Group"}, ["error"]),
        ({"reference": "Group/1"}, ["error"]),
        ({"display": "somebody"}, []),
    ],
)
def test_a_reference_is_to_a_type_of_its_profiles(told: Told, reference: Json, issues: list[str]) -> None:
    known = profile("Patient", element("Patient.birthDate", 1), url="urn:known")
    wanted = profile("Observation", element("Observation.subject", type=[{"code": "Reference", "targetProfile": ["urn:known"]}]))
    found = told(wanted, {"resourceType": "Observation", "subject": reference}, known)
    assert found == [(severity, "structure", "Observation.subject") for severity in issues]


def test_what_is_referred_to_in_the_same_resource_meets_a_profile_also_where_references_go_round(told: Told) -> None:
    known = profile(
        "Patient", element("Patient.birthDate", 1), element("Patient.link.other", type=[{"code": "Reference", "targetProfile": ["urn:k"]}])
    )
    known["url"] = "urn:k"
    wanted = profile("Observation", element("Observation.subject", type=[{"code": "Reference", "targetProfile": ["urn:k"]}]))
    link = [{"other": {"reference": "#p"}}]
    inside = patient(id="p", birthDate="2000-01-01", link=link)
    observation = {"resourceType": "Observation", "contained": [inside], "subject": {"reference": "#p"}}
    assert told(wanted, observation, known) == []
    entries = [{"fullUrl": "urn:uuid:1", "resource": observation}, {"fullUrl": "urn:uuid:2", "resource": patient(id="2")}]
    bundle = {"resourceType": "Bundle", "entry": entries}
    place = "Bundle.entry[0].resource"
    assert told(wanted, observation, known, outer=bundle, place=place) == []
    observation["subject"] = {"reference": "urn:uuid:2"}
    assert told(wanted, observation, known, outer=bundle, place=place) == [("error", "structure", f"{place}.subject")]
    del inside["birthDate"]
    observation["subject"] = {"reference": "#p"}
    assert told(wanted, observation, known) == [("error", "structure", "Observation.subject")]


def test_a_definition_is_looked_up_once() -> None:
    asked: list[str] = []

    def find(canonical: str) -> bytes | None:
        asked.append(canonical)
        return None

    wanted = profile("Patient", element("Patient.name", type=[{"code": "HumanName", "profile": ["urn:none"]}]))
    found = Profiles(r4(), find, member).check(wanted, patient(name=[{}, {}, {}]))
    assert len(found) == 1
    assert asked == ["urn:none"]


def test_a_differential_over_the_specification_keeps_the_value_sets_that_are_extensible_there_and_may_make_them_required(told: Told) -> None:
    absent = {"resourceType": "Observation", "dataAbsentReason": {"coding": [{"system": "urn:c", "code": "red"}]}}
    plain = differential("Observation", {"path": "Observation.dataAbsentReason", "min": 1}, base=f"{CORE}Observation")
    assert told(plain, absent) == [("information", "not-supported", "Observation.dataAbsentReason")]
    strict = differential("Observation", {"path": "Observation.dataAbsentReason", "binding": {"strength": "required"}}, base="urn:base")
    base = profile("Observation", element("Observation.dataAbsentReason", binding={"strength": "example", "valueSet": "urn:colours"}), url="urn:base")
    assert told(strict, absent, base) == []
    absent["dataAbsentReason"] = {"coding": [{"system": "urn:c", "code": "green"}]}
    assert told(strict, absent, base) == [("error", "code-invalid", "Observation.dataAbsentReason")]


def test_one_type_of_a_choice_may_be_needed_by_its_own_name(told: Told) -> None:
    wanted = differential("Observation", {"path": "Observation.effectiveDateTime", "min": 1}, base=f"{CORE}Observation")
    assert told(wanted, {"resourceType": "Observation", "effectivePeriod": {}}) == [("error", "required", "Observation.effective")]
    assert told(wanted, {"resourceType": "Observation", "effectiveDateTime": "2020"}) == []
