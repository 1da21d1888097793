from __future__ import annotations

from typing import Any

import pytest

from .conftest import CORE, Json, Told, element, profile


def bound(strength: str, value_set: str = "urn:colours", **more: Any) -> Json:
    return {"binding": {"strength": strength, "valueSet": value_set, **more}}


def concept(*codes: str) -> Json:
    return {"coding": [{"system": "urn:c", "code": code} for code in codes]}


@pytest.mark.parametrize(
    ("strength", "value", "told_of"),
    [
        ("required", concept("green", "red"), []),
        ("required", concept("green"), ["error"]),
        ("required", {"text": "red"}, ["error"]),
        ("required", {"coding": [{"code": "red"}]}, ["error"]),
        ("extensible", concept("green"), ["warning"]),
        ("extensible", {"text": "green"}, []),
        ("preferred", concept("green"), []),
    ],
)
def test_a_concept_has_a_code_of_its_value_set(told: Told, strength: str, value: Json, told_of: list[str]) -> None:
    found = told(profile("Observation", element("Observation.code", **bound(strength))), {"resourceType": "Observation", "code": value})
    assert found == [(severity, "code-invalid", "Observation.code") for severity in told_of]


def test_a_value_set_that_is_not_known_is_no_fault_and_is_told_once(told: Told) -> None:
    wanted = profile("Observation", element("Observation.category", **bound("required", "urn:unknown")))
    two = {"resourceType": "Observation", "category": [concept("a"), concept("b")]}
    assert told(wanted, two) == [("information", "not-supported", "Observation.category[0]")]


def test_codes_codings_and_units_are_held_to_value_sets(told: Told) -> None:
    wanted = profile("Observation", element("Observation.value[x]", **bound("required")), element("Observation.language", **bound("required")))
    red, green = ({"system": "urn:c", "code": code} for code in ("red", "green"))
    assert told(wanted, {"resourceType": "Observation", "valueQuantity": red, "language": "blue"}) == []
    found = told(wanted, {"resourceType": "Observation", "valueQuantity": green, "language": "x"})
    assert sorted(place for *_, place in found) == ["Observation.language", "Observation.value"]
    assert told(wanted, {"resourceType": "Observation", "valueString": "green"}) == []


def test_a_weak_binding_may_have_a_maximum(told: Told) -> None:
    most = [{"url": f"{CORE}elementdefinition-maxValueSet", "valueCanonical": "urn:colours"}]
    wanted = profile("Observation", element("Observation.code", **bound("preferred", "urn:unknown", extension=most)))
    assert told(wanted, {"resourceType": "Observation", "code": concept("green")}) == [("error", "code-invalid", "Observation.code")]
    assert told(wanted, {"resourceType": "Observation", "code": concept("red")}) == []
