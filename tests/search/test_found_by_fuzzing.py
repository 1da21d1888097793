"""What the differential tests found, each as the case it is, so that it stays found."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from fhir_server import fhirjson
from fhir_server.interactions import search as interaction
from fhir_server.interactions.finding import Found
from fhir_server.search import SYSTEM, Grant, Registry, Scope, compile_count, compile_search, matches
from fhir_server.search.contained import over_containers
from fhir_server.search.params.token import Token
from fhir_server.search.query import Criterion, Query

from .agreement import UPDATED
from .test_differential import agrees, ordered, paged, wanted
from .worlds import Json, Memory

META = {"lastUpdated": UPDATED}


def organization(**fields: Any) -> Json:
    return {"resourceType": "Organization", **fields}


def in_practitioner(*contained: Json) -> Json:
    """A resource of another type that contains these."""
    inner = [{**each, "id": f"i{number}"} for number, each in enumerate(contained)]
    return {"resourceType": "Practitioner", "id": "p0", "meta": META, "contained": inner}


def in_organization(*contained: Json) -> Json:
    """A resource of the same type that contains these."""
    return {**in_practitioner(*contained), "resourceType": "Organization"}


def containers(database: Any, container: Json, *params: tuple[str, str]) -> list[str]:
    """Ids of what a search inside of containers shows."""
    registry = database.registry
    query = registry.parse("Organization", list(params), strict=True)
    with database.holding([container]) as run:
        rows = [container for _ in paged(run, over_containers(query, registry, SYSTEM), registry, SYSTEM, 2)]
    found = [Found(each["resourceType"], each["id"], fhirjson.dumps(each)) for each in rows]
    return [each.id for each in interaction._unpacked(cast(Any, SimpleNamespace(registry=registry)), query, found)]


TYPED = {"type": [{"coding": [{"code": "x"}]}]}


def test_a_contained_resource_may_lack_what_another_beside_it_has(database: Any) -> None:
    container = in_practitioner(organization(name="a", **TYPED), organization(name="a"))
    for lacking in (("type:not", "x"), ("type:missing", "true"), ("_filter", "not (type eq x)")):
        found = containers(database, container, ("name", "a"), lacking, ("_contained", "true"), ("_containedType", "contained"))
        assert found == ["p0#i1"], lacking


def test_a_container_that_has_one_filter_in_each_of_two_resources_is_no_match(database: Any) -> None:
    parts = organization(name="a"), organization(**TYPED)
    for container in (in_practitioner(*parts), in_organization(*parts)):
        for contained in ("true", "both"):
            assert containers(database, container, ("name", "a"), ("type", "x"), ("_contained", contained)) == []


def test_a_match_that_contains_another_is_shown_beside_it(database: Any) -> None:
    container = in_organization(organization(name="a")) | {"name": "a"}
    assert containers(database, container, ("name", "a"), ("_contained", "both"), ("_containedType", "contained")) == ["p0", "p0#i0"]
    assert containers(database, container, ("name", "a"), ("_contained", "both")) == ["p0"]


def test_a_contained_resource_has_no_time_of_its_own(registry: Registry) -> None:
    inner = organization(id="i0", name="a")
    for params, held in (([("_lastUpdated", "ge2000")], False), ([("_lastUpdated:missing", "true")], True), ([("_id", "i0")], True)):
        query = registry.parse("Organization", [("name", "a"), *params, ("_contained", "true")], strict=True)
        assert matches(query, inner, registry) is held


def test_a_system_but_for_one_code_is_met_beside_that_code(database: Any) -> None:
    """A resource that also has the code that is left out still has one that is not."""
    registry = database.registry
    codings = ["a", "b"], ["a"], ["b"]
    resources = [
        organization(id=f"p{number}", meta=META, type=[{"coding": [{"system": "http://s", "code": code} for code in codes]}])
        for number, codes in enumerate(codings)
    ]
    param = registry.supported_params("Organization")["type"]
    for modifier, expected in ((None, [3, 1]), ("not", [2])):
        query = Query(("Organization",), filters=(Criterion(param, (Token(None, "http://s", ("a",)),), cast(Any, modifier)),))
        assert [rid for rid, each in enumerate(resources, start=1) if matches(query, each, registry)] == sorted(expected)
        with database.holding(resources) as run:
            agrees(run, query, registry, SYSTEM, expected)


def test_what_the_grant_hides_puts_nothing_below_anything(database: Any) -> None:
    registry = database.registry
    resources: list[Json] = [
        {"resourceType": "Location", "id": "p0", "meta": META},
        {"resourceType": "Location", "id": "p1", "meta": META, "partOf": {"reference": "Location/p0"}},
        {"resourceType": "Encounter", "id": "p0", "meta": META, "location": [{"location": {"reference": "Location/p1"}}]},
    ]
    query = registry.parse("Encounter", [("location:below", "Location/p0")], strict=True)
    above = registry.parse("Encounter", [("location:above", "Location/p1")], strict=True)
    narrow = Grant("x", frozenset(), (Scope("Encounter", frozenset("rs")),))
    with database.holding(resources) as run:
        for grant, expected in ((SYSTEM, [3]), (narrow, [])):
            assert matches(query, resources[2], registry, Memory(resources, registry), grant) is bool(expected)
            agrees(run, query, registry, grant, expected)
        assert run(compile_count(above, registry, narrow)) == [(1,)]


def test_pages_of_those_without_the_first_key_go_in_the_direction_of_the_second(database: Any) -> None:
    registry = database.registry
    resources = [organization(id=f"p{number}", meta=META) for number in range(5)]
    with database.holding(resources) as run:
        for sort in ("-name,_id", "name,-_id", "-name,_lastUpdated", "name,-_lastUpdated", "-name,_id,address", "name,-_id,-_lastUpdated"):
            query = registry.parse("Organization", [("_sort", sort), ("_count", "2")], strict=True)
            expected = ordered(query, wanted(query, enumerate(resources, start=1), registry, Memory(resources, registry), SYSTEM), registry)
            assert len(run(compile_search(query, registry, SYSTEM))) == 3
            agrees(run, query, registry, SYSTEM, expected)


@pytest.mark.parametrize("asked", [[("subject", "Patient/p1")], [("code", "c"), ("patient", "Patient/p1")]])
def test_a_patient_named_by_what_is_contained_says_nothing_of_the_container(database: Any, asked: list[tuple[str, str]]) -> None:
    registry, code = database.registry, {"coding": [{"code": "c"}]}
    inner = {"resourceType": "Observation", "id": "i0", "code": code, "subject": {"reference": "Patient/p1"}}
    outer = {"resourceType": "Observation", "id": "p0", "meta": META, "code": code, "subject": {"reference": "Patient/p2"}, "contained": [inner]}
    query = registry.parse("Observation", [*asked, ("_contained", "true")], strict=True)
    with database.holding([outer]) as run:
        for grant, expected in (
            (SYSTEM, [1]),
            (Grant("x", frozenset(), (Scope("Observation", frozenset("rs")),)), [1]),
            (Grant("p1", frozenset(), (Scope("Observation", frozenset("rs"), patient="p1"),)), []),
            (Grant("p2", frozenset(), (Scope("Observation", frozenset("rs"), patient="p2"),)), [1]),
        ):
            assert paged(run, over_containers(query, registry, grant), registry, grant, 2) == expected
