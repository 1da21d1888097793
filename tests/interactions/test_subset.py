from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fhir_server.interactions.subset import SUBSETTED, subset
from fhir_server.outcome import Outcome
from fhir_server.spec import r4
from tests.strategies import COMMON_TYPES, resources

PATIENT: dict[str, Any] = {
    "resourceType": "Patient",
    "id": "1",
    "meta": {"versionId": "2", "tag": [{"code": "x"}]},
    "implicitRules": "http://rules",
    "text": {"status": "generated", "div": "<div/>"},
    "extension": [{"url": "http://e", "valueString": "x"}],
    "modifierExtension": [{"url": "http://m", "valueBoolean": True}],
    "name": [{"family": "A", "given": ["B"], "extension": [{"url": "http://e", "valueString": "x"}]}, {"family": "C"}],
    "birthDate": "2000-01-01",
    "_birthDate": {"extension": [{"url": "http://e", "valueString": "x"}]},
    "photo": [{"title": "p"}],
    "contact": [{"name": {"family": "D", "given": ["E"]}, "gender": "male"}],
    "link": [{"other": {"reference": "Patient/2"}, "type": "seealso"}],
}
OBSERVATION: dict[str, Any] = {
    "resourceType": "Observation",
    "status": "final",
    "code": {"text": "x", "coding": [{"code": "c"}]},
    "category": [{"text": "y"}],
    "valueQuantity": {"value": 1, "unit": "mg"},
    "note": [{"text": "n"}],
    "component": [{"code": {"text": "z"}, "valueString": "v", "interpretation": [{"text": "i"}]}],
}


def keys(resource: dict[str, Any], summary: str | None, *elements: str) -> set[str]:
    return set(subset(r4(), resource, summary, elements))


def test_true_keeps_what_the_specification_marks() -> None:
    part = subset(r4(), PATIENT, "true", ())
    assert set(part) == {"resourceType", "id", "meta", "implicitRules", "modifierExtension", "name", "birthDate", "_birthDate", "link"}
    assert part["name"] == [{"family": "A", "given": ["B"]}, {"family": "C"}]
    assert part["modifierExtension"] == PATIENT["modifierExtension"]
    assert part["link"] == PATIENT["link"]


def test_true_goes_into_backbone_elements() -> None:
    part = subset(r4(), OBSERVATION, "true", ())
    assert "note" not in part
    assert "category" not in part
    assert part["component"] == [{"code": {"text": "z"}, "valueString": "v"}]
    assert part["valueQuantity"] == OBSERVATION["valueQuantity"]


def test_text_keeps_narrative_and_mandatory_elements() -> None:
    assert keys(PATIENT, "text") == {"resourceType", "id", "meta", "implicitRules", "modifierExtension", "text"}
    assert keys(OBSERVATION, "text") == {"resourceType", "meta", "status", "code"}


def test_data_drops_the_narrative_only() -> None:
    part = subset(r4(), PATIENT, "data", ())
    assert set(part) == set(PATIENT) - {"text"}


@pytest.mark.parametrize("summary", [None, "false"])
def test_nothing_asked_is_the_resource_itself(summary: str | None) -> None:
    assert subset(r4(), PATIENT, summary, ()) is PATIENT


@pytest.mark.parametrize("summary", ["count", "TRUE", "", "x"])
def test_other_summaries(summary: str) -> None:
    with pytest.raises(Outcome) as caught:
        subset(r4(), PATIENT, summary, ())
    assert caught.value.status == 400


ALWAYS = {"resourceType", "id", "meta", "implicitRules", "modifierExtension"}


@pytest.mark.parametrize(
    ("elements", "kept"),
    [
        (("name",), {"name"}),
        (("Patient.name",), {"name"}),
        (("birthDate",), {"birthDate", "_birthDate"}),
        (("contact.name", "photo"), {"contact", "photo"}),
        (("unheard", ""), set()),
        ((".", "..", "name..x"), set()),
    ],
)
def test_elements(elements: tuple[str, ...], kept: set[str]) -> None:
    assert keys(PATIENT, None, *elements) == ALWAYS | kept


def test_nested_elements() -> None:
    part = subset(r4(), PATIENT, None, ("contact.name.family", "name.given"))
    assert part["contact"] == [{"name": {"family": "D"}}]
    assert part["name"] == [{"given": ["B"]}]


def test_what_nothing_is_left_of_is_left_out() -> None:
    assert "contact" not in keys(PATIENT, None, "contact.telecom")
    hollow = {"resourceType": "Patient", "name": [{"extension": [{"url": "http://e", "valueString": "x"}]}]}
    assert keys(hollow, "true") == {"resourceType", "meta"}


def test_a_whole_element_counts_more_than_a_part_of_it() -> None:
    for elements in (("contact", "contact.gender"), ("contact.gender", "contact")):
        assert subset(r4(), PATIENT, None, elements)["contact"] == PATIENT["contact"]


def test_mandatory_elements_stay_at_every_level() -> None:
    assert subset(r4(), PATIENT, None, ("link.id",))["link"] == PATIENT["link"]
    assert keys(OBSERVATION, None, "note") == {"resourceType", "meta", "status", "code", "note"}


@pytest.mark.parametrize("name", ["value", "value[x]", "valueQuantity", "Observation.value[x]"])
def test_choices_by_any_of_their_names(name: str) -> None:
    assert "valueQuantity" in keys(OBSERVATION, None, name)
    assert "valueQuantity" not in keys(OBSERVATION, None, "valueString")


def test_the_tag() -> None:
    assert subset(r4(), PATIENT, "data", ())["meta"] == {"versionId": "2", "tag": [{"code": "x"}, SUBSETTED]}
    part = subset(r4(), OBSERVATION, "true", ())
    assert list(part)[:2] == ["resourceType", "meta"]
    assert part["meta"] == {"tag": [SUBSETTED]}
    assert subset(r4(), part, "true", ())["meta"] == {"tag": [SUBSETTED]}


def test_both_keep_what_both_keep() -> None:
    assert keys(PATIENT, "true", "photo", "name") == ALWAYS | {"name"}


def test_bundles_are_left_whole() -> None:
    bundle = {"resourceType": "Bundle", "type": "searchset", "entry": [{"resource": PATIENT}]}
    assert subset(r4(), bundle, "true", ("id",)) is bundle


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data(), st.sampled_from(["true", "text", "data", None]))
def test_a_subset_adds_nothing_but_the_tag_and_changes_nothing_in_place(data: st.DataObject, summary: str | None) -> None:
    resource = data.draw(resources(data.draw(st.sampled_from(COMMON_TYPES))))
    before = copy.deepcopy(resource)
    part = subset(r4(), resource, summary, () if summary else ("id", "status", "code.coding"))
    assert resource == before
    assert SUBSETTED in part["meta"]["tag"]
    for key, element in r4().types[resource["resourceType"]].elements.items():
        assert not (element.min and key in resource) or key in part
    assert _within({key: value for key, value in part.items() if key != "meta"}, resource)


def _within(part: Any, whole: Any) -> bool:
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(key in whole and _within(value, whole[key]) for key, value in part.items())
    if isinstance(part, list):
        return all(any(_within(child, other) for other in whole) for child in part)
    return bool(part == whole)
