"""Every expression of R4 compiles, and the fast way of invariants agrees with the general one."""

from __future__ import annotations

import bz2
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from fhir_server import fhirjson
from fhir_server.fhirpath import FhirPathError, parse
from fhir_server.fhirpath import compile as compile_
from fhir_server.fhirpath.operators import boolean
from fhir_server.spec import Constraint, r4
from tests.strategies import resources

SPEC: Final = r4()
MISPRINTED: Final = {
    "cid-0": "ChargeItemDefinition has no name in R4",
    "ras-1": "stands on probability[x] but speaks of its elements low and high, which only the Range has",
}
DATA: Final = os.environ.get("FHIR_TEST_DATA")
EXAMPLES: Final = sorted((Path(__file__).parent / "data").glob("*.json"))


def constraints() -> Iterator[tuple[str, Constraint]]:
    for definition in SPEC.types.values():
        yield from ((definition.name, constraint) for constraint in definition.constraints)
        for element in definition.elements.values():
            yield from ((element.type, constraint) for constraint in element.constraints)


def walk(value: Any, name: str, resource: Any, root: Any) -> Iterator[tuple[Any, str, tuple[Constraint, ...], Any, Any]]:
    """Every element with its type, the constraints on it, its resource and the outermost one."""
    definition = SPEC.types[name]
    yield value, name, definition.constraints, resource, root
    if not isinstance(value, dict):
        return
    for element in definition.elements.values():
        found = value.get(element.key, [])
        for one in found if isinstance(found, list) else [found]:
            if one is None:
                continue
            child, within, outermost = element.type, resource, root
            if child == "Resource":
                child, within = one["resourceType"], one
                outermost = root if element.key == "contained" else one
            yield one, child, element.constraints, within, outermost
            yield from walk(one, child, within, outermost)


def disagreements(document: Any) -> list[tuple[str, Any]]:
    found = []
    for value, name, listed, resource, root in walk(document, document["resourceType"], document, document):
        for constraint in listed:
            expression = compile_(constraint.expression, SPEC, name)
            if expression.true(value, resource, root) is not (boolean(expression.nodes(value, resource=resource, root=root)) is not False):
                found.append((constraint.key, value))
    return found


def test_all_constraints_compile_strictly() -> None:
    count, refused = 0, set()
    for context, constraint in constraints():
        compile_(constraint.expression, SPEC, context)
        count += 1
        try:
            compile_(constraint.expression, SPEC, context, strict=True)
        except FhirPathError:
            refused.add(constraint.key)
    assert refused == MISPRINTED.keys()
    assert count > 900


def test_all_search_parameters_compile() -> None:
    expressions = {param.expression for param in SPEC.params if param.expression}
    expressions |= {component.expression for param in SPEC.params for component in param.components}
    for expression in expressions:
        compile_(expression, SPEC)
    assert len(expressions) > 1000


def test_search_parameters_name_elements_that_exist() -> None:
    for param in SPEC.params:
        for part in (param.expression or "").split(" | "):
            base = part.partition(".")[0]
            if base in param.base:
                compile_(part, SPEC, base, strict=True)


def test_most_constraints_have_a_fast_way() -> None:
    general = {constraint.key for context, constraint in constraints() if compile_(constraint.expression, SPEC, context)._check is None}
    common = {
        "ext-1",
        "ref-1",
        "per-1",
        "qty-3",
        "cpt-2",
        "att-1",
        "obs-3",
        "obs-6",
        "obs-7",
        "con-3",
        "con-4",
        "con-5",
        "pat-1",
        "bdl-3",
        "bdl-8",
        "tim-1",
    }
    assert not general & common


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_both_ways_agree_on_the_examples(path: Path) -> None:
    assert disagreements(fhirjson.loads(path.read_bytes())) == []


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(resources())
def test_both_ways_agree_on_generated_resources(resource: Any) -> None:
    assert disagreements(resource) == []


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(resources(), st.data())
def test_both_ways_agree_on_resources_that_lost_an_element(resource: Any, data: st.DataObject) -> None:
    holders = [value for value, *_ in walk(resource, resource["resourceType"], resource, resource) if isinstance(value, dict) and len(value) > 1]
    assume(holders)
    holder = data.draw(st.sampled_from(holders))
    holder.pop(data.draw(st.sampled_from(sorted(key for key in holder if key != "resourceType"))))
    assert disagreements(resource) == []


def test_both_ways_agree_on_synthetic_patients() -> None:
    folder = Path(DATA, "synthea") if DATA else None
    for path in sorted(folder.glob("*.json.bz2"))[2:4] if folder else []:
        bundle = fhirjson.loads(bz2.decompress(path.read_bytes()))
        assert [disagreements(entry["resource"]) for entry in bundle["entry"]] == [[]] * len(bundle["entry"])


def test_the_tree_of_an_expression_does_not_depend_on_white_space() -> None:
    for _, constraint in constraints():
        text = constraint.expression
        if "'" not in text:
            assert parse(text) == parse(" ".join(text.split()))
