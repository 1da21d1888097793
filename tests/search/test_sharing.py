"""What parameters leave to others: the same rows are found, each of them is stored once, and everything that names a parameter still means it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fhir_server.outcome import Outcome
from fhir_server.search import SYSTEM, Registry, compile_count, compile_search, cursor
from fhir_server.search.compartment import compartment_pids
from fhir_server.search.params import kind_of
from fhir_server.search.query import Criterion, Param
from fhir_server.search.sharing import MOST_NUMBERS, elsewhere, shared
from fhir_server.spec import r4
from tests.strategies import resources

from . import worlds
from .conftest import apart

Json = dict[str, Any]


@pytest.fixture(scope="module")
def whole(registry: Registry) -> Registry:
    """Of the same parameters, with all rows of each."""
    return apart(registry, registry._pids)


def rows_of(registry: Registry, param: Param, made: Mapping[str, list[tuple[Any, ...]]], sign: int) -> set[tuple[Any, ...]]:
    """The rows of a parameter, of the resource itself or of what it contains, without number and marks."""
    kind = kind_of(param)
    pids = {sign * pid for pid in param.pids}
    marks = 2 if kind.ORDER is not None else 0
    return {row[1 : len(row) - marks] for row in made.get(kind.TABLE, ()) if row[0] in pids}


def assert_same(registry: Registry, whole: Registry, resource: Json) -> None:
    made, every = registry.rows(resource), whole.rows(resource)
    patient = registry.types["Patient"]
    for name, sign in ((resource["resourceType"], 1), *((inner["resourceType"], -1) for inner in resource.get("contained", ()))):
        for code, param in registry.supported_params(name).items():
            if not param.pid:
                continue
            found = rows_of(registry, param, made, sign)
            assert found == rows_of(whole, whole.supported_params(name)[code], every, sign), (name, code)
            for row in found if param.type == "reference" and kind_of(param).TABLE == "sp_reference" else ():
                only = replace(param, pid=param.towards((row[1],))[0], others=param.towards((row[1],))[1:])
                assert row in rows_of(registry, only, made, sign), (name, code, row)
    assert {row[1:] for row in made.get("sp_reference", ()) if row[2] == patient} <= {row[1:] for row in every.get("sp_reference", ())}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(resource=st.sampled_from(r4().resource_types).flatmap(resources))
def test_the_rows_of_any_resource_are_those_of_parameters_that_share_none(registry: Registry, whole: Registry, resource: Json) -> None:
    assert_same(registry, whole, resource)


@worlds.examples(60)
@given(seed=st.integers(0, 2**64))
def test_the_rows_of_any_world_are_those_of_parameters_that_share_none(registry: Registry, whole: Registry, seed: int) -> None:
    for resource in worlds.worlds().draw(Random(seed)):
        assert_same(registry, whole, resource)


def made_of(registry: Registry, name: str, code: str) -> set[str]:
    """The parameters under whose numbers one is searched."""
    params = registry.supported_params(name)
    own = {registry._pids[name, each]: each for each in params}
    return {own[pid] for pid in params[code].pids}


@pytest.mark.parametrize(
    ("name", "code", "parts"),
    [
        ("Observation", "combo-code", {"code", "component-code"}),
        ("Observation", "combo-code:text", {"code:text", "component-code:text"}),
        ("Observation", "combo-value-quantity", {"value-quantity", "component-value-quantity"}),
        ("Observation", "combo-code-value-quantity", {"code-value-quantity", "component-code-value-quantity"}),
        ("Observation", "subject", {"subject", "patient"}),
        ("Observation", "patient", {"patient"}),
        ("Observation", "code", {"code"}),
        ("Appointment", "actor", {"actor", "patient", "practitioner", "location"}),
        ("Patient", "phonetic", {"name"}),
        ("Patient", "name", {"name"}),
        ("Organization", "name", {"name"}),
        ("Organization", "phonetic", {"phonetic"}),
        ("Patient", "telecom", {"telecom"}),
        ("Coverage", "patient", {"beneficiary"}),
    ],
)
def test_a_parameter_is_made_of_these(registry: Registry, name: str, code: str, parts: set[str]) -> None:
    assert made_of(registry, name, code) == parts


def test_no_parameter_has_more_numbers_than_a_page_is_put_together_from(registry: Registry) -> None:
    for name in r4().resource_types:
        params = registry.supported_params(name)
        assert max(len(param.pids) for param in params.values()) <= MOST_NUMBERS
        # What whose a resource is goes by has one range of an index, and so have its main date and code.
        main = [code for code in (registry.main_date(name), registry.main_code(name), "patient", "identifier") if code is not None]
        assert all(len(params[code].pids) == 1 for code in main if code in params)


def test_a_reference_is_asked_for_where_what_it_points_to_stands(registry: Registry) -> None:
    def asked(code: str, value: str) -> set[str]:
        (node,) = registry.parse("Observation", [(code, value)], strict=True).filters
        assert isinstance(node, Criterion)
        params = registry.supported_params("Observation")
        return {each for each in params if registry._pids.get(("Observation", each)) in node.pids}

    assert asked("subject", "Patient/1") == {"patient"}
    assert asked("subject", "http://localhost/fhir/Patient/1") == {"patient"}
    assert asked("subject", "Group/1") == {"subject"}
    assert asked("subject:Device", "1") == {"subject"}
    assert asked("subject", "Patient/1,Group/1") == {"subject", "patient"}
    assert asked("subject", "1") == asked("subject", "http://else.example/Patient/1") == asked("subject", "Patient/1/_history/2")
    assert asked("subject", "1") == asked("subject:missing", "true") == {"subject", "patient"}
    assert asked("patient", "1") == {"patient"}
    assert {registry._pids["Observation", "patient"], registry._pids["Observation", "performer"]} == set(compartment_pids(registry, "Observation"))


def test_a_lab_result_has_each_row_once(registry: Registry) -> None:
    resource = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "718-7", "display": "Hemoglobin"}], "text": "Hb"},
        "subject": {"reference": "Patient/1"},
        "valueQuantity": {"value": 7.2, "unit": "g/dL"},
    }
    rows = [(table, row[1:]) for table, found in registry.rows(resource).items() for row in found]
    assert len(set(rows)) == len(rows)


def observations() -> list[Json]:
    values: list[tuple[str | None, float | None, list[tuple[str, float]]]] = [
        ("b", 5, []),
        ("d", None, [("a", 1), ("z", 9)]),
        ("c", 3, [("c", 3), ("e", 7)]),
        (None, None, []),
        ("a", 8, [("a", 2)]),
        (None, None, [("c", 3)]),
        ("b", 5, [("b", 5)]),
    ]
    return [
        {
            "resourceType": "Observation",
            "id": f"o{number}",
            "meta": {"lastUpdated": "2020-01-01T00:00:00.000Z"},
            "status": "final",
            "code": {"coding": [{"code": code}]} if code else {"text": "x"},
            "subject": {"reference": ("Patient/p", "Group/g", "Patient/q", "Device/p")[number % 4]},
            **({"valueQuantity": {"value": value}} if value is not None else {}),
            "component": [{"code": {"coding": [{"code": each}]}, "valueQuantity": {"value": size}} for each, size in parts],
        }
        for number, (code, value, parts) in enumerate(values, start=1)
    ]


def pages(database: Any, params: Iterable[tuple[str, str]]) -> list[int]:
    query = database.registry.parse("Observation", [*params, ("_count", "2")], strict=True)
    found: list[int] = []
    position = None
    while True:
        rows = database.run(compile_search(query, database.registry, SYSTEM, position))
        found += [row[0] for row in rows[:2]]
        if len(rows) <= query.count:
            assert database.run(compile_count(query, database.registry, SYSTEM)) == [(len(found),)]
            return found
        position = cursor.Position(tuple(rows[1][6:]), rows[1][0])


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ([("_sort", "combo-code")], [2, 5, 1, 7, 3, 6, 4]),
        ([("_sort", "-combo-code")], [2, 3, 6, 7, 1, 5, 4]),
        ([("_sort", "combo-value-quantity")], [2, 5, 3, 6, 1, 7, 4]),
        ([("_sort", "-combo-value-quantity")], [2, 5, 3, 7, 1, 6, 4]),
        ([("_sort", "status,-combo-value-quantity")], [2, 5, 3, 1, 7, 6, 4]),
        ([("_sort", "subject")], [1, 5, 3, 4, 7, 2, 6]),
        ([("_sort", "-subject,_id")], [2, 6, 3, 4, 7, 1, 5]),
        ([("combo-code", "c")], [6, 3]),
        ([("combo-code", "b")], [7, 1]),
        ([("combo-code", "a,z")], [5, 2]),
        ([("combo-code:not", "b")], [6, 5, 4, 3, 2]),
        ([("combo-code:missing", "true")], [4]),
        ([("combo-code:missing", "false")], [7, 6, 5, 3, 2, 1]),
        ([("combo-value-quantity", "3")], [6, 3]),
        ([("combo-code-value-quantity", "a$gt1")], [5]),
        ([("combo-code", "b"), ("subject", "Group/g")], [1]),
        ([("subject", "p"), ("_sort", "-combo-code")], [3, 7, 4]),
        ([("subject", "p")], [7, 4, 3]),
        ([("subject", "Patient/p")], [4]),
        ([("subject:Device", "p")], [7, 3]),
        ([("subject:missing", "true")], []),
        ([("patient:missing", "true")], [7, 5, 3, 1]),
    ],
)
def test_pages_of_what_stands_under_several_numbers(database: Any, params: list[tuple[str, str]], expected: list[int]) -> None:
    with database.holding(observations()):
        assert pages(database, params) == expected


def test_who_may_not_see_components_is_still_found_by_code(database: Any) -> None:
    grant = replace(SYSTEM, hidden=(("Observation", frozenset({"component"})),))
    for code in ("component-code", "combo-code", "combo-code-value-quantity"):
        query = database.registry.parse("Observation", [(code, "a$1" if "value" in code else "a")], strict=True)
        with pytest.raises(Outcome, match="does not allow to search Observation by"):
            compile_search(query, database.registry, grant)
    compile_search(database.registry.parse("Observation", [("code", "a"), ("subject", "Patient/1")], strict=True), database.registry, grant)


def test_who_may_not_see_the_subject_is_not_found_by_the_patient(database: Any) -> None:
    grant = replace(SYSTEM, hidden=(("Observation", frozenset({"subject"})),))
    for code, value in (("patient", "1"), ("subject", "Group/1"), ("subject", "Patient/1"), ("subject:missing", "true")):
        query = database.registry.parse("Observation", [(code, value)], strict=True)
        with pytest.raises(Outcome, match="does not allow to search Observation by"):
            compile_search(query, database.registry, grant)


NUMBERS = st.dictionaries(st.integers(1, 12), st.sets(st.tuples(st.integers(1, 4), st.sampled_from((None, "A", "B"))), min_size=1), max_size=8)


@given(spots=NUMBERS, keep=st.sets(st.integers(1, 12)))
def test_whatever_is_left_to_others_is_there(spots: dict[int, set[tuple[int, str | None]]], keep: set[int]) -> None:
    found = shared(spots, keep)
    told = elsewhere(spots, found)
    without = {pid: {name for own, name, _ in told if own == pid} for pid in found}

    def own(pid: int) -> set[tuple[int, str | None]]:
        if pid not in found[pid]:
            return set()
        return spots[pid] if found[pid] == (pid,) else {(place, name) for place, name in spots[pid] if name is None and without[pid]}

    for pid, numbers in found.items():
        assert set().union(*(own(number) for number in numbers)) == spots[pid]
        assert len(numbers) <= MOST_NUMBERS
        assert numbers == (pid,) or pid not in keep
    for _, name, other in told:
        assert found[other] == (other,)
        assert {each for _, each in spots[other]} == {name}
