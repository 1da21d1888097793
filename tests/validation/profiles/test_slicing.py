from __future__ import annotations

from typing import Any

import pytest

from fhir_server.spec import r4
from fhir_server.validation.profiles import Profiles

from .conftest import CORE, URL, Json, Told, element, member, profile, slicing


def observation(**fields: Any) -> Json:
    return {"resourceType": "Observation", **fields}


def concept(*codes: str, system: str = "urn:s") -> Json:
    return {"coding": [{"system": system, "code": code} for code in codes]}


def pattern(code: str) -> Json:
    return {"patternCodeableConcept": concept(code)}


PRESSURE = profile(
    "Observation",
    slicing("Observation.component", ("pattern", "code")),
    element("Observation.component:upper", 1, "1"),
    element("Observation.component:upper.code", 1, "1", **pattern("U")),
    element("Observation.component:upper.value[x]", 1, "1", type=[{"code": "Quantity"}]),
    element("Observation.component:upper.value[x].code", 1, "1", fixedCode="mm[Hg]"),
    element("Observation.component:lower", 1, "1"),
    element("Observation.component:lower.code", 1, "1", **pattern("L")),
)


def part(code: str, **fields: Any) -> Json:
    return {"code": concept(code), **fields}


def test_slices_are_told_apart_by_a_pattern_and_each_is_held_to_its_own(told: Told) -> None:
    good = part("U", valueQuantity={"value": 1, "code": "mm[Hg]"})
    assert told(PRESSURE, observation(component=[part("L"), part("other"), good])) == []
    assert told(PRESSURE, observation(component=[good])) == [("error", "required", "Observation.component")]
    assert told(PRESSURE, observation(component=[part("L"), part("L"), good])) == [("error", "structure", "Observation.component")]
    wrong = part("U", valueQuantity={"value": 1, "code": "kPa"})
    assert told(PRESSURE, observation(component=[part("L"), wrong])) == [("error", "value", "Observation.component[1].value.code")]
    assert told(PRESSURE, observation(component=[part("L"), part("U")])) == [("error", "required", "Observation.component[1].value")]


def test_an_issue_names_the_slice() -> None:
    found = Profiles(r4(), lambda _canonical: None, member).check(PRESSURE, observation(component=[part("L")]))
    assert [issue.diagnostics for issue in found] == [f"{URL}: Observation.component:upper is needed, at least 1 of it; there are 0"]


def test_slices_are_told_apart_by_values_at_several_paths(told: Told) -> None:
    wanted = profile(
        "Observation",
        slicing("Observation.category", ("value", "coding.code"), ("value", "coding.system"), least=1),
        element("Observation.category:vital", 1, "1"),
        element("Observation.category:vital.coding", 1),
        element("Observation.category:vital.coding.system", 1, "1", fixedUri="urn:s"),
        element("Observation.category:vital.coding.code", 1, "1", fixedCode="vital"),
    )
    assert told(wanted, observation(category=[concept("vital"), concept("x")])) == []
    assert told(wanted, observation(category=[concept("vital", system="urn:t")])) == [("error", "required", "Observation.category")]


def test_values_may_be_in_slices_of_what_tells_slices_apart(told: Told) -> None:
    wanted = profile(
        "Observation",
        slicing("Observation.component", ("value", "code.coding.code")),
        element("Observation.component:upper", 1, "1"),
        slicing("Observation.component:upper.code.coding", ("value", "code")),
        element("Observation.component:upper.code.coding:loinc", 1, "1"),
        element("Observation.component:upper.code.coding:loinc.code", 1, "1", fixedCode="U"),
    )
    assert told(wanted, observation(component=[{"code": concept("x", "U")}])) == []
    assert told(wanted, observation(component=[{"code": concept("x")}])) == [("error", "required", "Observation.component")]


def test_this_is_the_item_itself(told: Told) -> None:
    wanted = profile(
        "Observation", slicing("Observation.category", ("pattern", "$this")), element("Observation.category:lab", 1, "1", **pattern("lab"))
    )
    assert told(wanted, observation(category=[concept("lab", "x")])) == []
    assert told(wanted, observation(category=[concept("x")])) == [("error", "required", "Observation.category")]


def test_a_code_of_a_required_value_set_tells_slices_apart(told: Told) -> None:
    bound = {"binding": {"strength": "required", "valueSet": "urn:colours"}}
    wanted = profile("Observation", slicing("Observation.category", ("value", "$this")), element("Observation.category:colour", 1, "1", **bound))
    assert told(wanted, observation(category=[concept("red", system="urn:c")])) == []
    assert told(wanted, observation(category=[concept("green", system="urn:c")])) == [("error", "required", "Observation.category")]


def test_slices_are_told_apart_by_what_is_there(told: Told) -> None:
    wanted = profile(
        "Patient",
        slicing("Patient.identifier", ("exists", "period")),
        element("Patient.identifier:always", 1),
        element("Patient.identifier:always.period", 0, "0"),
        element("Patient.identifier:once", 1),
        element("Patient.identifier:once.period", 1, "1"),
        element("Patient.identifier:once.system", 1, "1"),
    )
    both = [{"value": "a"}, {"system": "s", "period": {"start": "2020"}}]
    assert told(wanted, {"resourceType": "Patient", "identifier": both}) == []
    found = told(wanted, {"resourceType": "Patient", "identifier": [{"value": "a"}, {"period": {"start": "2020"}}]})
    assert found == [("error", "required", "Patient.identifier[1].system")]


@pytest.mark.parametrize("path", ["Observation.value[x]:valueQuantity", "Observation.valueQuantity"])
def test_a_choice_is_sliced_by_type(told: Told, path: str) -> None:
    wanted = profile("Observation", slicing("Observation.value[x]", ("type", "$this")), element(f"{path}.unit", 1, "1"))
    assert told(wanted, observation(valueString="x")) == []
    assert told(wanted, observation(valueQuantity={"value": 1})) == [("error", "required", "Observation.value.unit")]


def test_resources_in_a_bundle_are_told_apart_by_type_and_by_profile(told: Told) -> None:
    one = profile("Patient", element("Patient.birthDate", 1, "1"), url="urn:born")
    wanted = profile(
        "Bundle",
        slicing("Bundle.entry", ("type", "resource")),
        element("Bundle.entry:patient", 1, "1"),
        element("Bundle.entry:patient.resource", 1, "1", type=[{"code": "Patient", "profile": ["urn:born"]}]),
    )
    entry = {"resource": {"resourceType": "Patient"}}
    other = {"resource": observation()}
    assert told(wanted, {"resourceType": "Bundle", "entry": [other]}, one) == [("error", "required", "Bundle.entry")]
    assert told(wanted, {"resourceType": "Bundle", "entry": [other, entry]}, one) == [("error", "required", "Bundle.entry[1].resource.birthDate")]
    wanted["snapshot"]["element"][1]["slicing"]["discriminator"] = [{"type": "profile", "path": "resource"}]
    assert told(wanted, {"resourceType": "Bundle", "entry": [other, entry]}, one) == [("error", "required", "Bundle.entry")]
    born = {"resource": {"resourceType": "Patient", "birthDate": "2000-01-01"}}
    assert told(wanted, {"resourceType": "Bundle", "entry": [entry, born]}, one) == []


def test_references_are_told_apart_by_what_they_lead_to_as_far_as_that_is_here(told: Told) -> None:
    types = [{"code": "Reference", "targetProfile": [f"{CORE}Practitioner"]}]
    wanted = profile(
        "Observation", slicing("Observation.performer", ("type", "resolve()")), element("Observation.performer:doctor", 1, "1", type=types)
    )
    assert told(wanted, observation(performer=[{"reference": "Practitioner/1"}, {"reference": "Patient/1"}])) == []
    assert told(wanted, observation(performer=[{"reference": "Patient/1"}])) == [("error", "required", "Observation.performer")]
    assert told(wanted, observation(performer=[{"display": "Dr. Who"}])) == [("information", "informational", "Observation.performer")]
    inside = profile(
        "Observation",
        slicing("Observation.hasMember", ("pattern", "resolve().code")),
        element("Observation.hasMember:u", 1, "1", type=[{"code": "Reference", "targetProfile": ["urn:u"]}]),
    )
    u = profile("Observation", element("Observation.code", 1, "1", **pattern("U")), url="urn:u")
    contained = [observation(id="a", code=concept("U")), observation(id="b", code=concept("L"))]
    assert told(inside, observation(contained=contained, hasMember=[{"reference": "#a"}]), u) == []
    assert told(inside, observation(contained=contained, hasMember=[{"reference": "#b"}]), u) == [("error", "required", "Observation.hasMember")]
    assert told(inside, observation(hasMember=[{"reference": "Observation/1"}]), u) == [("information", "informational", "Observation.hasMember")]


def test_extensions_are_told_apart_by_their_url_also_where_their_definition_is_not_here(told: Told) -> None:
    nested = profile(
        "Extension",
        slicing("Extension.extension", ("value", "url")),
        element("Extension.extension:text", 1, "1"),
        element("Extension.extension:text.url", 1, "1", fixedUri="text"),
        element("Extension.extension:text.value[x]", 1, "1", type=[{"code": "string"}]),
        element("Extension.url", 1, "1", fixedUri="urn:race"),
        element("Extension.value[x]", 0, "0"),
        url="urn:race",
    )
    wanted = profile(
        "Patient",
        slicing("Patient.extension", ("value", "url")),
        element("Patient.extension:race", 1, "1", type=[{"code": "Extension", "profile": ["urn:race"]}]),
    )
    race = {"url": "urn:race", "extension": [{"url": "text", "valueString": "x"}]}
    assert told(wanted, {"resourceType": "Patient", "extension": [{"url": "urn:other"}, race]}, nested) == []
    assert told(wanted, {"resourceType": "Patient", "extension": [{"url": "urn:other"}]}, nested) == [("error", "required", "Patient.extension")]
    race["extension"] = [{"url": "text", "valueCode": "x"}]
    wrong = {"resourceType": "Patient", "extension": [race]}
    assert told(wanted, wrong, nested) == [("error", "structure", "Patient.extension[0].extension[0].value")]
    assert told(wanted, wrong) == [("information", "not-supported", "Patient.extension[0]")]
    assert told(wanted, {"resourceType": "Patient"}) == [("error", "required", "Patient.extension")]


def test_extensions_of_primitives_are_sliced_too(told: Told) -> None:
    wanted = profile(
        "Patient",
        slicing("Patient.birthDate.extension", ("value", "url")),
        element("Patient.birthDate.extension:time", 1, "1", type=[{"code": "Extension", "profile": ["urn:time"]}]),
    )
    assert told(wanted, {"resourceType": "Patient", "birthDate": "2000"}) == [("error", "required", "Patient.birthDate.extension")]
    beside = {"extension": [{"url": "urn:time", "valueDateTime": "2000-01-01"}]}
    found = told(wanted, {"resourceType": "Patient", "birthDate": "2000", "_birthDate": beside})
    assert found == [("information", "not-supported", "Patient.birthDate.extension[0]")]


@pytest.mark.parametrize(
    ("rules", "ordered", "codes", "place"),
    [
        ("open", False, "bax", ""),
        ("closed", False, "bax", "[2]"),
        ("closed", False, "ba", ""),
        ("openAtEnd", False, "xab", "[1]"),
        ("openAtEnd", False, "bax", ""),
        ("open", True, "xab", ""),
        ("open", True, "bxa", "[2]"),
        ("openAtEnd", True, "abx", ""),
    ],
)
def test_rules_say_what_may_stand_besides_and_in_which_order(told: Told, rules: str, ordered: bool, codes: str, place: str) -> None:  # noqa: FBT001
    wanted = profile(
        "Observation",
        slicing("Observation.category", ("pattern", "$this"), rules=rules, ordered=ordered),
        element("Observation.category:a", **pattern("a")),
        element("Observation.category:b", **pattern("b")),
    )
    found = told(wanted, observation(category=[concept(code) for code in codes]))
    assert found == ([("error", "structure", f"Observation.category{place}")] if place else [])


def test_slices_may_be_sliced_again(told: Told) -> None:
    wanted = profile(
        "Observation",
        slicing("Observation.category", ("value", "coding.system")),
        slicing("Observation.category:own", ("value", "coding.code")),
        element("Observation.category:own.coding.system", 1, "1", fixedUri="urn:s"),
        element("Observation.category:own/a", 1, "1"),
        element("Observation.category:own/a.coding.code", 1, "1", fixedCode="a"),
    )
    assert told(wanted, observation(category=[concept("a"), concept("b", system="urn:t")])) == []
    assert told(wanted, observation(category=[concept("b"), concept("a", system="urn:t")])) == [("error", "required", "Observation.category")]


@pytest.mark.parametrize("by", [[], [("value", "name.where(use = 'x')")], [("value", "text")]])
def test_slices_that_nothing_tells_apart_are_told_not_to_be_checked(told: Told, by: list[tuple[str, str]]) -> None:
    wanted = profile("Observation", slicing("Observation.category", *by), element("Observation.category:a", 1))
    assert told(wanted, observation(category=[concept("a")])) == [("information", "informational", "Observation.category")]
