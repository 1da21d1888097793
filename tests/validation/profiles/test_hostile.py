"""Profiles that were made to keep the server busy: each check ends within its steps, and says where it stopped."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server import fhirjson
from fhir_server.outcome import Issue
from fhir_server.spec import r4
from fhir_server.validation.profiles import Profiles
from fhir_server.validation.profiles.sources import MAX_STEPS

from .conftest import CORE, URL, differential, element, member, profile, slicing

Json = dict[str, Any]
PATIENT = {"resourceType": "Patient", "name": [{"family": "Doe", "given": ["Jane"]}]}


def checked(resource: Json, *definitions: Json, steps: int = MAX_STEPS, outer: Json | None = None) -> list[Issue]:
    """The issues by the first of some definitions, with so many steps at the most."""
    known = {each["url"]: fhirjson.dumps(each) for each in definitions}
    profiles = Profiles(r4(), known.get, member)
    profiles._sources.budget.steps = steps
    return profiles.check(definitions[0]["url"], resource, outer=outer)


def costly(issues: list[Issue]) -> bool:
    return bool(issues) and issues[-1].code == "too-costly"


def test_a_long_chain_of_bases_is_not_followed_to_its_end() -> None:
    chain = [differential("Patient", element("Patient.name", 1), base=f"{URL}/{n + 1}", url=f"{URL}/{n}") for n in range(600)]
    (issue,) = checked(PATIENT, *chain)
    assert issue.code == "not-supported"


def test_bases_that_go_round_are_not_at_hand() -> None:
    there = differential("Patient", element("Patient.name", 1), base=f"{URL}/b", url=URL)
    back = differential("Patient", element("Patient.name", 1), base=URL, url=f"{URL}/b")
    (issue,) = checked(PATIENT, there, back)
    assert issue.code == "not-supported"


def test_slices_of_slices_of_slices_are_made_only_a_few_deep() -> None:
    name = "/".join("a" * 20_000)
    wanted = profile("Patient", slicing("Patient.name", ("value", "use")), element(f"Patient.name:{name}", 0), element(f"Patient.name:{name}.use", 1))
    assert all(issue.severity == "information" for issue in checked(PATIENT, wanted))


def test_profiles_by_whose_profiles_slices_are_told_apart_end_wherever_they_lead() -> None:
    def level(number: int) -> Json:
        deeper = [{"code": "Reference", "targetProfile": [f"{URL}/{number + 1}"]}]
        return profile(
            "Patient",
            slicing("Patient.link", ("profile", "other.resolve()")),
            element("Patient.link:a", 1, sliceName="a"),
            element("Patient.link:a.other", 1, type=deeper),
            url=f"{URL}/{number}",
        )

    ring = {"resourceType": "Patient", "contained": [], "link": [{"type": "seealso", "other": {"reference": f"#p{n}"}} for n in range(3)]}
    ring["contained"] = [{"resourceType": "Patient", "id": f"p{n}", "link": ring["link"]} for n in range(3)]
    issues = checked(ring, *(level(n) for n in range(150)), steps=100_000)
    assert costly(issues) or len(issues) <= 200


def test_profiles_of_types_that_fork_at_each_level_take_no_more_than_the_steps_there_are() -> None:
    def level(number: int) -> Json:
        both = [f"{URL}/{number + 1}", f"{URL}/{number + 1}?"]
        kind = [{"code": "HumanName", "profile": both}]
        return profile("HumanName", url=f"{URL}/{number}") | {"snapshot": {"element": [{"id": "HumanName", "path": "HumanName", "type": kind}]}}

    levels = [each for n in range(40) for each in (level(n), level(n) | {"url": f"{URL}/{n}?"})]
    wanted = profile("Patient", element("Patient.name", type=[{"code": "HumanName", "profile": [f"{URL}/0", f"{URL}/0?"]}]))
    assert costly(checked(PATIENT, wanted, *levels, steps=50_000))


def test_a_pattern_of_many_codings_against_many_takes_steps_by_each_pair() -> None:
    codings = [{"code": f"c{n}"} for n in range(3_000)]
    wanted = profile("Observation", element("Observation.code", patternCodeableConcept={"coding": [*codings, {"code": "none"}]}))
    resource = {"resourceType": "Observation", "code": {"coding": codings[::-1]}}
    assert costly(checked(resource, wanted, steps=100_000))


def test_each_condition_of_an_element_takes_a_step_of_each_item() -> None:
    kinds = [{"code": "HumanName", "profile": [f"{CORE}HumanName"] * 50} for _ in range(50)]
    wanted = profile("Patient", element("Patient.name", type=kinds))
    assert costly(checked({"resourceType": "Patient", "name": [{"family": "Doe"}] * 1_000}, wanted, steps=1_000_000))


def test_large_definitions_take_steps_to_read_and_to_lay_over_each_other() -> None:
    large = profile("Patient", *(element(f"Patient.name:s{n}", sliceName=f"s{n}") for n in range(10_000)))
    assert costly(checked(PATIENT, large, steps=2_000))
    over = differential("Patient", element("Patient.name", 1), base=large["url"], url=f"{URL}/over")
    assert costly(checked(PATIENT, over, large, steps=10_000))


def test_ten_thousand_references_to_as_many_contained_resources_are_each_looked_up_once() -> None:
    contained = [{"resourceType": "Patient", "id": f"p{n}"} for n in range(10_000)]
    links = [{"type": "seealso", "other": {"reference": f"#p{n}"}} for n in range(10_000)]
    resource = {"resourceType": "Patient", "contained": contained, "link": links}
    wanted = profile(
        "Patient", element("Patient.link"), element("Patient.link.other", type=[{"code": "Reference", "targetProfile": [f"{CORE}Patient"]}])
    )
    assert checked(resource, wanted) == []


def test_resources_of_a_bundle_are_indexed_once_for_all_of_their_checks() -> None:
    wanted = profile("Patient", element("Patient.generalPractitioner", type=[{"code": "Reference", "targetProfile": [f"{CORE}Practitioner"]}]))
    patients = [{"resourceType": "Patient", "generalPractitioner": [{"reference": f"Patient/{n}"}], "id": str(n)} for n in range(2_000)]
    bundle = {"resourceType": "Bundle", "entry": [{"resource": each} for each in patients]}
    known = {wanted["url"]: fhirjson.dumps(wanted)}
    profiles = Profiles(r4(), known.get, member)
    assert all([each.code for each in profiles.check(URL, patient, outer=bundle)] == ["structure"] for patient in patients)


def test_null_among_canonicals_and_elements_without_path_are_passed_over() -> None:
    kinds = [{"code": "Reference", "targetProfile": [None, f"{CORE}Practitioner|4.0.1"], "profile": [None]}]
    wanted = profile("Patient", element("Patient.generalPractitioner", type=kinds), {"id": "x", "_path": {"id": "y"}})
    assert checked({"resourceType": "Patient", "generalPractitioner": [{"reference": "Practitioner/1"}]}, wanted) == []
    assert [each.code for each in checked({"resourceType": "Patient", "generalPractitioner": [{"reference": "Group/1"}]}, wanted)] == ["structure"]


def test_a_base_of_the_specification_may_be_named_with_its_version() -> None:
    wanted = differential("Patient", element("Patient.birthDate", 1), base=f"{CORE}Patient|4.0.1")
    assert [each.code for each in checked(PATIENT, wanted)] == ["required"]


def test_a_quantity_without_code_is_not_outside_of_a_maximum_value_set() -> None:
    largest = {"url": f"{CORE}elementdefinition-maxValueSet", "valueCanonical": "urn:colours"}
    binding = {"strength": "preferred", "valueSet": "urn:any", "extension": [largest]}
    wanted = profile("Observation", element("Observation.value[x]", binding=binding))
    assert checked({"resourceType": "Observation", "valueQuantity": {"value": 1}}, wanted) == []
    outside = {"resourceType": "Observation", "valueQuantity": {"value": 1, "system": "urn:c", "code": "green"}}
    assert [each.code for each in checked(outside, wanted)] == ["code-invalid"]


@pytest.mark.parametrize(
    "expression", ["descendants().descendants().exists()", "repeat(children()).all(descendants().count() > 0)", "name.given.matches('(a+)+$')"]
)
def test_invariants_of_exponential_cost_are_not_decided(expression: str) -> None:
    rule = {"key": "x-1", "severity": "error", "human": "x", "expression": expression}
    wanted = profile("Patient", element("Patient.name", constraint=[rule]))
    wanted["snapshot"]["element"][0]["constraint"] = [rule]
    nested: Json = {"url": "urn:x", "valueString": "a" * 5_000 + "b"}
    for _ in range(80):
        nested = {"url": "urn:x", "extension": [nested, nested] if _ < 8 else [nested]}
    issues = checked({**PATIENT, "name": [{"given": ["a" * 5_000 + "b"]}], "extension": [nested]}, wanted, steps=200_000)
    assert len(issues) <= 200
