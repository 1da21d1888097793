"""Expressions and data made to cost too much end with an error, or cheaply."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server.fhirpath import FhirPathError
from fhir_server.fhirpath import compile as compile_
from fhir_server.fhirpath.model import MAX_STEPS
from fhir_server.spec import r4

WIDE: Any = {"resourceType": "Patient", "id": "w", "name": [{"family": f"F{n}", "given": [f"G{m}" for m in range(10)]} for n in range(500)]}


@pytest.mark.parametrize(
    "text",
    [
        "descendants().where(%resource.descendants().where($this is code).empty()).exists()",
        "descendants().select(%resource.descendants())",
        "descendants().select(%resource).distinct().select(%resource).count() + descendants().select(%resource ~ %resource).count()",
        "1.repeat($this + 1)",
        "'a'.repeat($this & $this & 'x')",
        "name.given.aggregate($total & $total & 'x', 'x').length()",
        "name.given.join('x').replace('', name.given.join('').substring(0, 200))",
        "name.given.join('').replaceMatches('.', name.given.join('').substring(0, 1000))",
        "name.given.select(%resource.name.given.count())",
        "name.given.select(%resource.name.given contains 'none')",
        "name.given.select(%resource.name.given.join('').matches('(G|[0-9])*(G|[0-9])*x'))",
        "name.given.aggregate($total | %resource.descendants()).count()",
    ],
)
def test_the_budget_ends_it(text: str) -> None:
    with pytest.raises(FhirPathError) as caught:
        compile_(text, r4(), "Patient")(WIDE)
    assert caught.value.issues[0].code == "too-costly"


@pytest.mark.parametrize(
    "text",
    [
        "2.power(100000)",
        "10.0.power(399).power(2)",
        "1000.exp()",
        "name.given.aggregate($total * 1000000 'm', 1 'm')",
        "@2020-01-01 + 99999999 years",
        "9223372036854775807 * 9223372036854775807",
    ],
)
def test_what_leaves_the_range_of_numbers_is_empty(text: str) -> None:
    assert compile_(text, r4(), "Patient")(WIDE) == []


def test_descendants_of_a_large_resource_are_within_the_budget() -> None:
    assert compile_("descendants().count()", r4(), "Patient")(WIDE) == [6001]
    assert MAX_STEPS > 50 * 6001


def test_deep_resources_are_walked_or_refused() -> None:
    deep: Any = {"resourceType": "Questionnaire"}
    level = deep
    for number in range(480):
        level["item"] = [{"linkId": str(number)}]
        level = level["item"][0]
    assert compile_("descendants().linkId.isDistinct()", r4(), "Questionnaire")(deep) == [True]
    assert compile_("repeat(item).count()", r4(), "Questionnaire")(deep) == [480]


def test_comparing_what_is_nested_beyond_the_stack_is_refused() -> None:
    deep: Any = {"resourceType": "Basic", "extension": []}
    level = deep
    for _ in range(900):
        level["extension"] = [{"url": "http://example.org"}]
        level = level["extension"][0]
    with pytest.raises(FhirPathError) as caught:
        compile_("extension = extension", r4(), "Basic")(deep)
    assert caught.value.issues[0].code == "too-costly"
