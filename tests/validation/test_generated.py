"""Generated resources pass; each kind of damage is found where it was done; another implementation agrees."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from fhir_server.fhirjson import dumps, loads
from fhir_server.spec import Element, TypeDef, r4
from fhir_server.validation import Validator
from tests.strategies import COMMON_TYPES, find, resources

VALIDATOR = Validator(r4())
few = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much])


@few
@given(resources())
def test_generated_resources_are_valid(resource: dict[str, Any]) -> None:
    VALIDATOR.require(loads(dumps(resource)))


@pytest.mark.parametrize("name", r4().resource_types)
def test_every_type_can_be_generated(name: str) -> None:
    seen: list[dict[str, Any]] = []

    @settings(max_examples=2, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(resources(name))
    def generate(resource: dict[str, Any]) -> None:
        VALIDATOR.require(resource)
        seen.append(resource)

    generate()
    assert seen


@few
@given(resources(), st.data())
def test_a_missing_required_element_is_missed(resource: dict[str, Any], data: st.DataObject) -> None:
    places = [(target, e, at) for target, definition, at in _objects(resource) for e in definition.elements.values() if e.min and not e.choice]
    assume(places)
    target, element, at = data.draw(st.sampled_from(places))
    target.pop(element.key, None)
    target.pop("_" + element.key, None)
    target["id" if at != resource["resourceType"] else "language"] = "en"
    assert f"{at}.{element.name}" in _places(resource, "required")


@few
@given(resources(), st.data())
def test_a_wrong_json_type_is_found(resource: dict[str, Any], data: st.DataObject) -> None:
    present = _elements(resource)
    assume(present)
    target, element, at = data.draw(st.sampled_from(present))
    wrong: Any = [[]] if element.many else data.draw(st.sampled_from(([], {})))
    target[element.key] = wrong
    target.pop("_" + element.key, None)
    assert any(place.startswith(f"{at}.{element.name}") for place in _places(resource, "structure"))


@few
@given(resources(), st.data())
def test_an_unknown_property_is_found(resource: dict[str, Any], data: st.DataObject) -> None:
    target, _, at = data.draw(st.sampled_from(list(_objects(resource))))
    target["notAnElement"] = data.draw(st.sampled_from((None, 1, "x", {}, [])))
    assert f"{at}.notAnElement" in _places(resource, "structure")


@few
@given(resources(), st.data())
def test_a_code_outside_a_required_binding_is_found(resource: dict[str, Any], data: st.DataObject) -> None:
    bound = [(t, e, at) for t, e, at in _elements(resource) if e.type == "code" and _is_listed(e) and not e.many]
    assume(bound)
    target, element, at = data.draw(st.sampled_from(bound))
    target[element.key] = "no-such-code"
    assert f"{at}.{element.name}" in _places(resource, "code-invalid")


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(("id", "value", "status", "code", "reference", "extension", "start")), inner)
    ),
    max_leaves=8,
)


@settings(few, max_examples=150)
@given(resources(), st.data())
def test_whatever_stands_anywhere_the_answer_is_a_list_of_issues(resource: dict[str, Any], data: st.DataObject) -> None:
    for _ in range(data.draw(st.integers(1, 4))):
        target, definition, _ = data.draw(st.sampled_from(list(_objects(resource))))
        key = data.draw(st.sampled_from(sorted(definition.elements)))
        target[data.draw(st.sampled_from((key, "_" + key)))] = data.draw(_json)
    for issue in VALIDATOR.check(resource, warnings=True):
        assert issue.expression[0].startswith(resource["resourceType"])
        assert issue.diagnostics


@settings(few, max_examples=60)
@given(
    st.sampled_from(("Patient", "Practitioner", "Organization", "Observation", "Condition", "Encounter", "Appointment", "Schedule", "Slot")),
    st.data(),
)
def test_another_implementation_takes_what_we_take(name: str, data: st.DataObject) -> None:
    # fhir.resources has R4B, which has the same shape for these types; it knows neither leap seconds nor partial instants.
    resource = data.draw(resources(name))
    model = getattr(importlib.import_module(f"fhir.resources.R4B.{name.lower()}"), name)
    model.model_validate_json(dumps(resource))


@settings(few, max_examples=60)
@given(st.sampled_from(("Patient", "Organization", "Observation", "Encounter")), st.data())
def test_another_implementation_refuses_misshapen_elements_too(name: str, data: st.DataObject) -> None:
    resource = copy.deepcopy(data.draw(resources(name)))
    present = [found for found in _elements(resource) if found[1].type[0].isupper()]
    assume(present)
    target, element, _ = data.draw(st.sampled_from(present))
    target[element.key] = "misshapen"
    model = getattr(importlib.import_module(f"fhir.resources.R4B.{name.lower()}"), name)
    with pytest.raises(ValueError, match="validation error"):
        model.model_validate_json(dumps(resource))
    assert VALIDATOR.check(resource)


def _places(resource: dict[str, Any], code: str) -> set[str]:
    return {issue.expression[0] for issue in VALIDATOR.check(resource) if issue.code == code}


def _is_listed(element: Element) -> bool:
    return element.binding is not None and element.binding.strength == "required" and r4().codes(element.binding.value_set) is not None


def _elements(resource: dict[str, Any]) -> list[tuple[dict[str, Any], Element, str]]:
    return [(target, d.elements[key], at) for target, d, at in _objects(resource) for key in target if key in d.elements]


def _objects(value: dict[str, Any], definition: TypeDef | None = None, at: str = "") -> Iterator[tuple[dict[str, Any], TypeDef, str]]:
    """Every object that has a type of its own, with the type and the location; extensions of primitives are left out."""
    definition = r4().types[value["resourceType"]] if "resourceType" in value else definition
    assert definition is not None
    at = at or definition.name
    yield value, definition, at
    for key, child in value.items():
        element = definition.elements.get(key)
        if element is None or not (element.type[0].isupper()):
            continue
        items = enumerate(child) if isinstance(child, list) else [(None, child)]
        for index, item in items:
            if isinstance(item, dict):
                yield from _objects(item, r4().types[element.type], f"{at}.{element.name}" + (f"[{index}]" if index is not None else ""))


def test_locations_can_be_followed() -> None:
    resource = {"resourceType": "Observation", "valueQuantity": {"value": 1}, "component": [{"valueString": "x"}]}
    assert find(resource, "Observation.value.value") == (1, ["valueQuantity", "value"])
    assert find(resource, "Observation.component[0].value") == ("x", ["component", 0, "valueString"])
    assert set(COMMON_TYPES) <= set(r4().resource_types)
