"""Every page answers from the moment of the first: whatever is written between two pages, they are together what was there then."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from types import SimpleNamespace
from typing import Any, cast
from zoneinfo import ZoneInfo

import psycopg
import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from fhir_server import fhirjson
from fhir_server.interactions.finding import Page, find
from fhir_server.search import SYSTEM, Grant, Query, cursor
from fhir_server.search.cursor import Position
from fhir_server.search.narrow import narrowed
from fhir_server.store import Store
from fhir_server.store.ops import Delete, Op, Put
from tests.search import chance, queries, worlds
from tests.search.test_differential import ordered, wanted
from tests.search.values import Known
from tests.search.worlds import Json, Memory


@pytest.fixture(scope="module")
def url(fresh_database: Callable[[], str]) -> str:
    return fresh_database()


@pytest.fixture(scope="module")
def own_store(url: str) -> Iterator[Store]:
    opened = Store(url, zone=ZoneInfo("Europe/Berlin"), bases=("http://localhost/fhir",), connections=2)
    with opened.database.connection() as connection:
        worlds.permit(connection, opened.registry.types)
    yield opened
    opened.close()


@chance.composite
def changes(draw: chance.Draw, there: list[Json]) -> list[Op]:
    """Some resources as other ones, deleted, or new."""
    # An amendment has brought a Provenance with it, which no world makes by itself.
    there = [each for each in there if each["resourceType"] in worlds.KINDS]
    chosen = draw(chance.lists(chance.sampled_from(there), min_size=1, max_size=4, unique_by=lambda each: (each["resourceType"], each["id"])))
    ops: list[Op] = []
    for number, each in enumerate(chosen):
        how, name = draw(chance.integers(0, 3)), each["resourceType"]
        if how == 0:
            ops.append(Delete(name, id=each["id"]))
        else:
            identity = each["id"] if how > 1 else draw(chance.sampled_from((f"new{number}", f"newer{number}")))
            ops.append(Put({**draw(worlds.KINDS[name]), "id": identity}, id=identity))
    return ops


def state(url: str) -> list[tuple[int, Json]]:
    """What is there, with its numbers."""
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT r.rid, v.body FROM resource r JOIN resource_version v ON v.vid = r.vid WHERE NOT r.deleted ORDER BY r.rid")
        return [(rid, fhirjson.loads(body.encode())) for rid, body in rows]


def emptied(url: str) -> None:
    with psycopg.connect(url) as connection:
        tables = connection.execute("SELECT string_agg(tablename, ', ') FROM pg_tables WHERE tablename LIKE 'sp\\_%'").fetchone()
        assert tables is not None
        connection.execute(f"TRUNCATE resource, resource_version, {tables[0]}")


def page(store: Store, query: Query, grant: Grant, position: Position | None) -> Page:
    """A page as a request gets it, behind a link that went out and came back."""
    with store.snapshot(grant) as db:
        if position is not None:
            text = cursor.encode(position, key=b"k", query=query.text, actor=grant.actor)
            position = cursor.decode(text, key=b"k", query=query.text, actor=grant.actor)
            db.rewind(position.moment)
        engine = cast(Any, SimpleNamespace(registry=store.registry))
        return find(engine, db, narrowed(query, store.registry, grant, db.select, db.sources), grant, position)


@worlds.examples(30)
@given(seed=st.integers(0, 2**64))
def test_pages_are_of_one_moment(own_store: Store, url: str, seed: int) -> None:
    emptied(url)
    random = Random(seed)
    resources, grant = worlds.worlds().draw(random), worlds.grants.draw(random)
    registry = own_store.registry
    own_store.transact([Put(each, id=each["id"]) for each in resources], SYSTEM)
    if random.choice((True, False)):
        own_store.transact(changes(resources).draw(random), SYSTEM)
    there = state(url)
    known = Known(registry, [each for _, each in there])
    begun: list[tuple[Query, list[str], list[bytes], Position | None]] = []
    for _ in range(random.randint(2, 6)):
        search = queries.searches(known).draw(random)
        query = queries.parsed(registry, search)
        if "Coded(" in repr(query) or not any(grant.allows(name, "s") for name in query.types) or any(key.param is None for key in query.sort):
            continue
        found = wanted(query, there, registry, Memory((each for _, each in there), registry), grant)
        by_number = dict(found)
        expected = [f"{by_number[rid]['resourceType']}/{by_number[rid]['id']}" for rid in ordered(query, found, registry)]
        note(f"{grant} asks for {search}")
        first = page(own_store, query, grant, None)
        begun.append((query, expected, [each.body for each in first.found], first.following))
    bodies = {f"{each['resourceType']}/{each['id']}": fhirjson.dumps(each) for _, each in there}
    while any(position is not None for *_, position in begun):
        ops = changes([each for _, each in there]).draw(random)
        note(f"between pages: {ops}")
        own_store.transact(ops, SYSTEM)
        for number, (query, expected, shown, position) in enumerate(begun):
            if position is not None:
                further = page(own_store, query, grant, position)
                begun[number] = (query, expected, shown + [each.body for each in further.found], further.following)
    for query, expected, shown, _ in begun:
        told = [fhirjson.loads(body) for body in shown]
        assert [f"{each['resourceType']}/{each['id']}" for each in told] == expected, query.text
        assert [fhirjson.dumps(each) for each in told] == [bodies[name] for name in expected]
