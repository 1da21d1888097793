"""What a grant hides makes no difference: every door answers as if it were not there.

Random resources are stored once whole and once without what the grant hides; random requests are answered the same both times, byte for byte but for
times and the signed parts of links. Random writes are refused or taken the same both times, where references have to resolve.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, Final
from unittest.mock import patch
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from fhir_server.interactions import Engine, Exchange, Reply, dispatch
from fhir_server.operations import dispatch_operation, names
from fhir_server.outcome import Outcome
from fhir_server.search import SYSTEM, Grant, Scope, narrow
from fhir_server.search.match import permits
from fhir_server.settings import Settings
from fhir_server.store import Store
from fhir_server.store.ops import Create, Op, Put
from fhir_server.store.tables import INDEX_TABLES
from tests.search import queries, worlds
from tests.search.values import Known
from tests.search.worlds import Json, Memory

ZONE: Final = ZoneInfo("Europe/Berlin")
BASE: Final = "http://localhost/fhir"
_VARYING: Final = (
    (re.compile(rb'"lastUpdated":"[^"]*"'), b'"lastUpdated":""'),
    (re.compile(rb'"(lastModified|timestamp)":"[^"]*"'), b'"":""'),
    (re.compile(rb"_cursor=[A-Za-z0-9_.\-%]+"), b"_cursor="),
    (re.compile(rb"_page=[A-Za-z0-9_.\-%]+"), b"_page="),
)
_INCLUDES: Final = (
    *(("_include", text) for text in ("*", "Observation:subject", "Encounter:*", "List:item", "Patient:organization", "Observation:has-member")),
    *(("_revinclude", text) for text in ("Observation:subject", "Encounter:subject", "List:subject", "Patient:organization")),
    *(("_include:iterate", text) for text in ("Observation:encounter", "Organization:partof")),
)


@pytest.fixture(scope="module")
def database_of(fresh_database: Callable[[], str]) -> str:
    return fresh_database()


@pytest.fixture(scope="module")
def engine(database_of: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    store = Store(database_of, zone=ZONE, bases=(BASE,), connections=4)
    with store.database.connection() as connection:
        worlds.permit(connection, store.registry.types)
    options = Settings(data=Path(tmp_path_factory.mktemp("data")), jwt_secret="a secret that only the tests know of", clinic_timezone=ZONE)
    yield Engine.build(store, options, names())
    store.close()


@pytest.fixture(scope="module")
def strict(engine: Engine, database_of: str) -> Iterator[Store]:
    """The same database for writers whose references have to resolve."""
    store = Store(database_of, zone=ZONE, bases=(BASE,), connections=2, referential_integrity=True)
    yield store
    store.close()


def hold(engine: Engine, resources: Sequence[Json]) -> None:
    """Makes these the only resources there are."""
    tables = ", ".join(("resource", "resource_version", "transaction", *(table.name for table in INDEX_TABLES)))
    with engine.store.database.connection() as connection:
        connection.execute(f"TRUNCATE {tables}")
    engine.store.transact([Put(dict(each), each["id"]) for each in resources], SYSTEM)


def requests(known: Known, resources: Sequence[Json], chance: Random) -> Iterator[tuple[str, dict[str, Any]]]:
    """Random requests: the name of an operation, empty for an interaction, and what an Exchange is made of."""
    for _ in range(40):
        search = queries.searches(known).draw(chance)
        params = [pair for pair in search.params if "_lastUpdated" not in pair[0] + pair[1]]
        params += chance.choice(((), (chance.choice(_INCLUDES),), (("_summary", "count"),), (("_total", "accurate"),), (("_total", "estimate"),)))
        owner = (
            {"type": search.compartment[0], "id": search.compartment[1], "member": search.type or "*"}
            if search.compartment
            else {"type": search.type}
        )
        yield "", {"interaction": "search", "params": tuple(params), "strict": False, **owner}
    for each in chance.sample(list(resources), min(4, len(resources))):
        place = {"type": each["resourceType"], "id": each["id"]}
        yield "", {"interaction": "read", **place}
        yield "", {"interaction": "vread", "version": "1", **place}
        yield "", {"interaction": "history", **place}
        yield "", {"interaction": "history", "type": place["type"], "params": chance.choice(((), (("_summary", "count"),)))}
    yield "", {"interaction": "history", "params": (("_count", "5"),)}
    for identity in worlds.IDS[:2]:
        yield "everything", {"interaction": "operation", "type": "Patient", "id": identity}
        text = f'{{Patient(id: "{identity}") {{id ObservationList(_reference: subject) {{id status encounter {{resource {{id}}}}}}}}}}'
        yield "graphql", {"interaction": "operation", "params": (("query", text),)}
    yield "graphql", {"interaction": "operation", "params": (("query", "{ObservationList(status: final) {id subject {resource {id}}}}"),)}


def answer(engine: Engine, grant: Grant, operation: str, asked: dict[str, Any]) -> tuple[int, bytes]:
    exchange = Exchange(grant=grant, base=BASE, operation=operation or None, **asked)
    try:
        reply: Reply = dispatch(engine, exchange, dispatch_operation)
    except Outcome as outcome:
        return outcome.status, str(outcome.as_json()).encode()
    body = reply.body or b""
    for pattern, plain in _VARYING:
        body = pattern.sub(plain, body)
    return reply.status, body


@worlds.examples(12)
@given(seed=st.integers(0, 2**64))
def test_every_door_answers_as_if_what_is_hidden_were_not_there(engine: Engine, seed: int) -> None:
    chance = Random(seed)
    resources = worlds.worlds().draw(chance)
    grant = SYSTEM
    while not grant.narrows:
        grant = worlds.grants.draw(chance)
    world = Memory(resources, engine.registry)
    open_to_all = [each for each in resources if permits(grant, engine.registry, each, world)]
    asked = list(requests(Known(engine.registry, resources), resources, chance))
    few = chance.choice((0, 0, 2, 1_000))
    with patch.object(narrow, "FEW", few), patch.object(narrow, "_LOOKED_AT", 1 + 3 * few):
        hold(engine, resources)
        whole = [answer(engine, grant, *each) for each in asked]
        hold(engine, open_to_all)
        again = [answer(engine, grant, *each) for each in asked]
    for each, before, after in zip(asked, whole, again, strict=True):
        if after != before:
            note(f"{grant} asks for {each}; hidden are {[(one['resourceType'], one['id']) for one in resources if one not in open_to_all]}")
            note(f"with what is hidden: {before}")
            note(f"without: {after}")
        assert after == before


class Undone(Exception):  # noqa: N818 - no fault: what was written is taken back
    """The end of a write that is only tried."""


def undo(_: object) -> None:
    raise Undone


def tried(store: Store, grant: Grant, op: Op) -> str:
    """What the writer is told; nothing is written."""
    try:
        store.transact([op], grant, then=undo)
    except Undone:
        return "written"
    except Outcome as outcome:
        return str(outcome.as_json())
    raise AssertionError("nothing was undone")


def writes(seen: Sequence[Json], chance: Random) -> Iterator[Op]:
    """New resources, and others in the place of those that the writer sees, with references to whatever there may be."""
    for _ in range(25):
        yield Create(worlds.KINDS[chance.choice(worlds.TYPES)].draw(chance))
    for old in seen:
        yield Put({**old, "language": "de"}, old["id"])
        new = worlds.KINDS[old["resourceType"]].draw(chance)
        yield Put({**new, "id": old["id"]}, old["id"])


@worlds.examples(12)
@given(seed=st.integers(0, 2**64))
def test_a_reference_does_not_find_out_what_is_hidden(engine: Engine, strict: Store, seed: int) -> None:
    chance = Random(seed)
    resources = worlds.worlds().draw(chance)
    grant = SYSTEM
    while not grant.narrows:
        grant = worlds.grants.draw(chance)
    open_to_all = [each for each in resources if permits(grant, engine.registry, each, Memory(resources, engine.registry))]
    writer = replace(grant, scopes=(*grant.scopes, Scope("*", frozenset("cu"))))
    ops = list(writes(open_to_all, chance))
    hold(engine, resources)
    whole = [tried(strict, writer, op) for op in ops]
    hold(engine, open_to_all)
    again = [tried(strict, writer, op) for op in ops]
    for op, before, after in zip(ops, whole, again, strict=True):
        if after != before:
            note(f"{grant} writes {op}; hidden are {[(one['resourceType'], one['id']) for one in resources if one not in open_to_all]}")
        assert after == before
