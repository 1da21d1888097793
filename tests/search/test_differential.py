"""The strongest law of search: for any resources, query, order and caller, the pages of the SQL are what `matches` finds in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from random import Random
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import patch

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from fhir_server import fhirjson
from fhir_server.interactions import codes as coded
from fhir_server.interactions import search as interaction
from fhir_server.interactions.finding import Found
from fhir_server.outcome import Outcome
from fhir_server.search import SYSTEM, Grant, Query, Registry, Scope, Statement, compile_count, compile_search, cursor, matches, narrow
from fhir_server.search.compile import compile_matching
from fhir_server.search.contained import over_containers
from fhir_server.search.match import permits
from fhir_server.search.narrow import narrowed, resolved
from fhir_server.search.params import kind_of
from fhir_server.search.params.token import Token
from fhir_server.search.query import Coded, Criterion, Filter
from fhir_server.spec.load import terminology as shipped
from fhir_server.terminology import Terminology

from . import queries, worlds
from .values import Known
from .worlds import Json, Memory

Run = Callable[[Statement], list[tuple[Any, ...]]]

S1, S2 = "http://s.example/1", "http://s.example/2"
KNOWN: dict[str, Json] = {
    S1: {
        "resourceType": "CodeSystem",
        "url": S1,
        "status": "active",
        "content": "complete",
        "concept": [{"code": "a", "concept": [{"code": "c"}]}, {"code": "B"}],
    },
    "http://t.example/some": {
        "resourceType": "ValueSet",
        "status": "active",
        "compose": {"include": [{"system": S1, "concept": [{"code": "a"}]}, {"system": S2, "concept": [{"code": "B"}]}]},
    },
    "http://t.example/all-of-1": {"resourceType": "ValueSet", "status": "active", "compose": {"include": [{"system": S1}]}},
    "http://t.example/all-but": {
        "resourceType": "ValueSet",
        "status": "active",
        "compose": {"include": [{"system": S2}], "exclude": [{"system": S2, "concept": [{"code": "a"}]}]},
    },
}
MEANT = {
    "http://t.example/some": {(S1, "a"), (S2, "b")},
    "http://t.example/all-of-1": {(S1, "a"), (S1, "b"), (S1, "c")},
    "http://t.example/all-but": {(S2, "b"), (S2, "c")},
    ("below", "a"): {(S1, "a"), (S1, "c")},
    ("below", "c"): {(S1, "c")},
    ("above", "a"): {(S1, "a")},
    ("above", "c"): {(S1, "a"), (S1, "c")},
}
"""What KNOWN says, written down by hand for the codes of these worlds."""


def meant(node: Coded) -> Filter:
    """The filter by MEANT, for the side that does not ask terminology."""
    keys: list[Any] = [text if node.how == "in" else (node.how, text.rpartition("|")[2].lower()) for text in node.texts]
    tokens = sorted({pair for key in keys for pair in MEANT[key]})
    return Criterion(node.param, tuple(Token(code, system) for system, code in tokens), "not" if node.negated else None)


@pytest.fixture(scope="module")
def expand() -> Callable[[Coded], Filter]:
    """What the server does with codes, over KNOWN."""
    with patch.object(coded, "terminology", lambda *_: Terminology(shipped(), lambda _kind, url: KNOWN.get(url))):
        return coded.expansion(cast(Any, None), cast(Any, None), SYSTEM)


PLANNER = ("", "", "enable_nestloop", "enable_hashjoin", "enable_sort", "enable_indexscan")
"""What a plan is kept from using: the answer must not depend on the plan."""


@worlds.examples(100)
@given(seed=st.integers(0, 2**64))
def test_pages_are_what_matches(database: Any, expand: Callable[[Coded], Filter], seed: int) -> None:
    registry, apart, chance = database.registry, database.apart, Random(seed)
    resources, grant, off = worlds.worlds().draw(chance), worlds.grants.draw(chance), chance.choice(PLANNER)
    world, known, few = Memory(resources, apart), Known(registry, resources), chance.choice((0, 1, 2, 1_000))
    with database.holding(resources) as run, patch.object(narrow, "FEW", few), patch.object(narrow, "_LOOKED_AT", 1 + 3 * few):
        if off:
            run(Statement(f"SELECT set_config('{off}', 'off', true)"))
        for _ in range(12):
            search = queries.searches(known).draw(chance)
            asked = queries.parsed(registry, search)
            query = resolved(asked, expand)
            if not any(grant.allows(name, "s") for name in query.types):
                with pytest.raises(Outcome, match="does not allow"):
                    compile_search(query, registry, grant)
                continue
            # In memory every parameter has all of its rows itself: what it leaves to others must find the same.
            other = resolved(queries.parsed(apart, search), meant)
            expected = ordered(other, wanted(other, enumerate(resources, start=1), apart, world, grant), apart)
            with told(search, grant, resources):
                agrees(run, query, registry, grant, expected)
                agrees(run, narrowed(query, registry, grant, run), registry, grant, expected)


@worlds.examples(50)
@given(seed=st.integers(0, 2**64))
def test_containers_are_what_has_a_match_in_it(database: Any, expand: Callable[[Coded], Filter], seed: int) -> None:
    registry, chance = database.registry, Random(seed)
    resources, grant = worlds.worlds().draw(chance), worlds.grants.draw(chance)
    known = Known(registry, resources)
    with database.holding(resources) as run:
        for _ in range(12):
            search = queries.contained_searches(known).draw(chance)
            with told(search, grant, resources):
                contained_agrees(run, registry, database.apart, expand, search, resources, grant)


@contextmanager
def told(search: queries.Search, grant: Grant, resources: Sequence[Json]) -> Iterator[None]:
    """Says with a failure what was asked, by whom and of what."""
    try:
        yield
    except Exception:
        note(f"{grant} asks for {search} among")
        for number, each in enumerate(resources, start=1):
            note(f"{number}: {each}")
        raise


def contained_agrees(
    run: Run, registry: Registry, apart: Registry, expand: Callable[[Coded], Filter], search: queries.Search, resources: Sequence[Json], grant: Grant
) -> list[tuple[str, str]]:
    """What a search inside of containers shows is what is there: types and ids, as `container#inner` where matches are shown without containers."""
    asked = queries.parsed(registry, search)
    query, other = resolved(asked, expand), resolved(queries.parsed(apart, search), meant)
    outer = narrowed(over_containers(query, registry, grant), registry, grant, run)
    rows = [resources[rid - 1] for rid in paged(run, outer, registry, grant, len(resources))]
    found = [Found(each["resourceType"], each["id"], fhirjson.dumps(each)) for each in rows]
    shown = interaction._unpacked(cast(Any, SimpleNamespace(registry=registry)), query, found)
    expected = []
    for each in reversed(resources):
        if grant.allows(each["resourceType"], "s") and permits(grant, apart, each, Memory(resources, apart)):
            inside = [one for one in each.get("contained", ()) if matches(other, one, apart)]
            itself = query.contained == "both" and matches(other, each, apart)
            if itself or (inside and query.whole):
                expected.append((each["resourceType"], each["id"]))
            if not query.whole:
                expected += [(each["resourceType"], f"{each['id']}#{one['id']}") for one in inside]
    assert [(each.type, each.id) for each in shown] == expected
    return expected


def wanted(query: Query, resources: Iterable[tuple[int, Json]], registry: Registry, world: Memory, grant: Grant) -> list[tuple[int, Json]]:
    """The matches that the grant may see, with their numbers."""
    return [
        (rid, resource)
        for rid, resource in resources
        if grant.allows(resource["resourceType"], "s")
        and permits(grant, registry, resource, world)
        and matches(query, resource, registry, world, grant)
    ]


def agrees(run: Run, query: Query, registry: Registry, grant: Grant, expected: list[int]) -> None:
    """Pages, count and unordered matches of the SQL are these resources."""
    shown = paged(run, query, registry, grant, len(expected) + 1)
    if any(key.param is None for key in query.sort):
        shown, expected = sorted(shown), sorted(expected)
    assert shown == expected, f"{shown} is shown in place of {expected}"
    assert run(compile_count(query, registry, grant)) == [(len(expected),)]
    assert sorted(row[0] for row in run(compile_matching(query, registry, grant, 50))) == sorted(expected)


def paged(run: Run, query: Query, registry: Registry, grant: Grant, most: int) -> list[int]:
    shown: list[int] = []
    position = None
    for _ in range(most + 1):
        rows = run(compile_search(query, registry, grant, position))
        shown += [row[0] for row in rows[: query.count]]
        if len(rows) <= query.count:
            return shown
        last = rows[query.count - 1]
        text = cursor.encode(cursor.Position(tuple(last[6:]), last[0]), key=b"k", query=query.text, actor=grant.actor)
        position = cursor.decode(text, key=b"k", query=query.text, actor=grant.actor)
    raise AssertionError(f"paging does not end: {shown}")


def ordered(query: Query, found: list[tuple[int, Json]], registry: Registry) -> list[int]:
    """Python's stable sort, from the last key to the first; what lacks a key comes last either way."""
    descending = not query.sort or query.sort[0].descending
    found = sorted(found, key=lambda entry: entry[0], reverse=descending)
    for key in reversed(query.sort):
        if key.param is not None:
            keyed = [(value(key.param, key.descending, entry[1], registry), entry) for entry in found]
            having = sorted((pair for pair in keyed if pair[0] is not None), key=lambda pair: pair[0], reverse=key.descending)
            found = [entry for _, entry in having] + [entry for least, entry in keyed if least is None]
    return [rid for rid, _ in found]


def value(param: Any, descending: bool, resource: Json, registry: Registry) -> Any:  # noqa: FBT001 - a test's own
    if param.code == "_id":
        return resource["id"]
    if param.code == "_lastUpdated":
        return resource["meta"]["lastUpdated"]
    kind = kind_of(param)
    ends = [kind.ends(row[1:]) for row in registry.rows(resource).get(kind.TABLE, ()) if row[0] in param.pids]
    if not ends:
        return None
    return max(high for _, high in ends) if descending else min(low for low, _ in ends)


def test_a_grant_without_search_is_refused(database: Any) -> None:
    query = database.registry.parse("Observation", [], strict=True)
    for grant in (Grant("x", frozenset(), ()), Grant("x", frozenset(), (Scope("Patient", frozenset("rs")), Scope("*", frozenset("r"))))):
        for compiled in (compile_search, compile_count):
            with pytest.raises(Outcome) as caught:
                compiled(query, database.registry, grant)
            assert caught.value.category == "forbidden"
