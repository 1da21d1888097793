"""Expressions and data made to cost too much end with an error, or cheaply."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server.fhirpath import Budget, FhirPathError, locate
from fhir_server.fhirpath import compile as compile_
from fhir_server.fhirpath.budget import MAX_STEPS
from fhir_server.fhirpath.narrative import MAX_ATTRIBUTES, crowded
from fhir_server.spec import r4

WIDE: Any = {"resourceType": "Patient", "id": "w", "name": [{"family": f"F{n}", "given": [f"G{m}" for m in range(10)]} for n in range(500)]}


@pytest.mark.parametrize(
    "text",
    [
        "descendants().where(%resource.descendants().combine($this).where($this is code).empty()).exists()",
        "descendants().select(%resource.descendants())",
        "descendants().select(%resource).distinct().select(%resource).count() + descendants().select(%resource ~ %resource).count()",
        "1.repeat($this + 1)",
        "'a'.repeat($this & $this & 'x')",
        "name.given.aggregate($total & $total & 'x', 'x').length()",
        "name.given.join('x').replace('', name.given.join('').substring(0, 200))",
        "name.given.join('').replaceMatches('.', name.given.join('').substring(0, 1000))",
        "name.given.select(%resource.name.given.combine($this).count())",
        "name.given.select(%resource.name.given.tail().combine($this) contains 'none')",
        "name.given.select((%resource.name.given.join('') & $this).matches('(G|[0-9])*(G|[0-9])*x'))",
        "name.given.aggregate($total | %resource.descendants()).count()",
    ],
)
def test_the_budget_ends_it(text: str) -> None:
    with pytest.raises(FhirPathError) as caught:
        compile_(text, r4(), "Patient")(WIDE)
    assert caught.value.issues[0].code == "too-costly"


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("descendants().where(%resource.descendants().where($this is code).empty()).exists()", [True]),
        ("name.given.select(%resource.name.given.count()).distinct()", [5000]),
        ("name.given.all(%resource.name.given contains $this)", [True]),
        ("name.given.where($this in (%resource.name.given.tail() | 'none')).count()", [5000]),
        ("name.given.where(%resource.name.given.join('').matches('(G|[0-9])*(G|[0-9])*x')).count()", [0]),
        ("name.where(given.intersect(%resource.name.first().given).exists()).count()", [500]),
        ("name.where(given.exclude(%resource.name.last().given).empty()).count()", [500]),
        ("name.all(family.startsWith(%resource.name.first().family.substring(0, 1)))", [True]),
    ],
)
def test_what_stays_the_same_is_evaluated_once(text: str, result: list[Any]) -> None:
    assert compile_(text, r4(), "Patient")(WIDE) == result


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("name.take(2).select(given.take(3).select($index))", [0, 1, 2, 0, 1, 2]),
        ("name.take(2).select(%resource.name.take(2).select($index)) ", [0, 1, 0, 1]),
        ("name.take(3).where(%resource.name.take(2).all($index < 2)).select($index)", [0, 1, 2]),
        ("name.take(3).aggregate($total + %resource.name.take(2).count(), 0)", [6]),
        ("name.take(3).aggregate(%resource.name.take(1).select($total + 1).first(), 0)", [3]),
        ("name.take(2).select(%resource.iif(id.exists(), $index, 7))", [0, 1]),
        ("name.take(2).family.select($this & %resource.id)", ["F0w", "F1w"]),
    ],
)
def test_what_changes_is_not_kept(text: str, result: list[Any]) -> None:
    assert compile_(text, r4(), "Patient")(WIDE) == result


def test_evaluations_share_a_budget() -> None:
    expression, budget = compile_("descendants().count()", r4(), "Patient"), Budget(35_000)
    assert expression(WIDE, budget=budget) == [6001]
    assert expression(WIDE, budget=budget) == [6001]
    with pytest.raises(FhirPathError) as caught:
        expression(WIDE, budget=budget)
    assert (caught.value.category, caught.value.status, caught.value.issues[0].code) == ("too-costly", 422, "too-costly")
    assert budget.steps < 0


def test_the_fast_way_is_charged_too() -> None:
    expression, budget = compile_("name.all(family.matches('F[0-9]+'))", r4(), "Patient"), Budget(1_000)
    assert expression.true(WIDE)
    with pytest.raises(FhirPathError):
        expression.true(WIDE, budget=budget)


def test_places_are_charged_to_the_budget_given() -> None:
    budget = Budget(50_000)
    assert len(locate("name.given", r4(), WIDE, budget)) == 5_000
    with pytest.raises(FhirPathError) as caught:
        locate("name.given", r4(), WIDE, budget)
    assert caught.value.category == "too-costly"
    with pytest.raises(FhirPathError):
        locate("name" + " " * 5_000, r4(), WIDE, Budget(1_000))


def test_crowded_elements_of_a_narrative_are_not_parsed() -> None:
    many = " ".join(f"a{n}='='" for n in range(MAX_ATTRIBUTES + 1))
    assert crowded(f"<div><p {many}>x</p></div>")
    assert not crowded(f"<div><p {many.partition(' ')[2]}>x</p></div>")
    assert not crowded("<div>" + "<p title='='>= \"</p>" * 1_000 + "</div>")
    assert compile_(f"'<div xmlns=\"http://www.w3.org/1999/xhtml\" {many.replace(chr(39), chr(34))}>x</div>'.htmlChecks()", r4())({}) == [False]


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
