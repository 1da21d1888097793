"""Races on a real PostgreSQL: whatever the order in which threads arrive, the record is as if they had come one after the other.

https://hl7.org/fhir/R4/http.html#concurrency, https://hl7.org/fhir/R4/http.html#ccreate
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import psycopg
import pytest
from psycopg import errors

from fhir_server.outcome import Outcome
from fhir_server.search import SYSTEM, Query
from fhir_server.store import HistoryScope, Store
from fhir_server.store.ops import Create, Delete, Op, Patch, Put, Written
from fhir_server.store.transact import _transaction

T = TypeVar("T")
RACERS = 12
_WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"


def patient(**fields: Any) -> dict[str, Any]:
    return {"resourceType": "Patient", **fields}


def identified(value: str, system: str = "urn:s", **fields: Any) -> dict[str, Any]:
    return patient(identifier=[{"system": system, "value": value}], **fields)


def criteria(store: Store, text: str) -> Query:
    return store.registry.parse("Patient", [(name, value) for name, _, value in (part.partition("=") for part in text.split("&"))], strict=True)


def one(store: Store, op: Op) -> Written:
    (written,) = store.transact([op], SYSTEM).written
    return written


def race(works: Sequence[Callable[[], T]]) -> list[T | Outcome]:
    """What each work gave or refused, all begun at the same moment."""
    start = threading.Barrier(len(works))

    def run(work: Callable[[], T]) -> T | Outcome:
        start.wait()
        try:
            return work()
        except Outcome as outcome:
            return outcome

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(run, works))


def kinds(results: Sequence[object]) -> Counter[str]:
    return Counter(result.category if isinstance(result, Outcome) else getattr(result, "outcome", "done") for result in results)


def versions(store: Store, identity: str) -> list[int]:
    with store.snapshot(SYSTEM) as db:
        found, _ = db.history(HistoryScope("Patient", identity), 1_000)
    return [version.version for _, version in found]


@pytest.fixture(scope="module")
def narrow(database_url: str) -> Iterator[Store]:
    """A store with fewer connections than threads use it."""
    opened = Store(database_url, zone=ZoneInfo("UTC"), connections=3)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def strict(fresh_database: Callable[[], str]) -> Iterator[Store]:
    """A store that holds references to what they say."""
    opened = Store(fresh_database(), zone=ZoneInfo("UTC"), connections=RACERS, referential_integrity=True)
    yield opened
    opened.close()


CONDITIONS = {
    "same": ["identifier=urn:s|{0}"],
    "with and without system": ["identifier=urn:s|{0}", "identifier={0}"],
    "another parameter": ["identifier=urn:s|{0}", "family={0}", "identifier=urn:s|{0}&family={0}"],
    "case": ["identifier=urn:s|{0}", "identifier=urn:s|{1}"],
}


@pytest.mark.parametrize("name", CONDITIONS)
def test_conditional_creates_make_one_resource(store: Store, name: str) -> None:
    value = f"create-{name.replace(' ', '-')}"
    texts = [text.format(value, value.upper()) for text in CONDITIONS[name]]

    def work(n: int) -> Callable[[], Written]:
        query = criteria(store, texts[n % len(texts)])
        return partial(one, store, Create(identified(value, name=[{"family": value}]), query))

    results = race([work(n) for n in range(RACERS)])
    assert kinds(results) == {"created": 1, "found": RACERS - 1}
    assert len({result.version.id for result in results if isinstance(result, Written) and result.version}) == 1
    assert all(isinstance(result, Written) and result.version and result.version.body for result in results)


def test_conditional_updates_make_one_resource_and_lose_none(store: Store) -> None:
    query = criteria(store, "identifier=urn:s|update")
    results = race([lambda: one(store, Put(identified("update"), criteria=query)) for _ in range(RACERS)])
    assert kinds(results) == {"created": 1, "updated": RACERS - 1}
    (identity,) = {result.version.id for result in results if isinstance(result, Written) and result.version}
    assert versions(store, identity) == list(range(RACERS, 0, -1))


def test_conditional_creates_alone_and_in_bundles_make_one_resource(store: Store) -> None:
    query = criteria(store, "identifier=urn:s|bundle")

    def alone() -> Written:
        return one(store, Create(identified("bundle"), query))

    def bundle() -> Written:
        link = "urn:uuid:00000000-0000-4000-8000-000000000001"
        coverage = {"resourceType": "Basic", "code": {"text": "x"}, "subject": {"reference": link}}
        return store.transact([Create(identified("bundle"), query, link), Create(coverage)], SYSTEM).written[0]

    results = race([alone, bundle] * (RACERS // 2))
    assert kinds(results) == {"created": 1, "found": RACERS - 1}


def test_of_if_match_racers_one_wins(store: Store) -> None:
    one(store, Put(patient(id="match"), "match"))
    results = race([partial(one, store, Put(patient(id="match", active=bool(n % 2)), "match", if_match="1")) for n in range(RACERS)])
    assert kinds(results) == {"updated": 1, "precondition": RACERS - 1}
    assert versions(store, "match") == [2, 1]


def test_of_if_none_match_racers_one_creates(store: Store) -> None:
    results = race([lambda: one(store, Put(patient(id="absent"), "absent", absent=True)) for _ in range(RACERS)])
    assert kinds(results) == {"created": 1, "precondition": RACERS - 1}
    assert versions(store, "absent") == [1]


def test_puts_on_a_new_id_create_once_and_count_without_gaps(store: Store) -> None:
    results = race([lambda: one(store, Put(patient(id="new"), "new")) for _ in range(RACERS)])
    assert kinds(results) == {"created": 1, "updated": RACERS - 1}
    assert versions(store, "new") == list(range(RACERS, 0, -1))


def test_no_patch_is_lost(store: Store) -> None:
    one(store, Put(patient(id="counter", multipleBirthInteger=0), "counter"))

    def add(found: dict[str, Any]) -> dict[str, Any]:
        return {**found, "multipleBirthInteger": found["multipleBirthInteger"] + 1}

    results = race([lambda: [one(store, Patch("Patient", add, "counter")) for _ in range(5)] for _ in range(RACERS)])
    assert not [result for result in results if isinstance(result, Outcome)]
    with store.snapshot(SYSTEM) as db:
        found = db.read("Patient", "counter")
    assert found is not None
    assert found.body is not None
    assert b'"multipleBirthInteger":60' in found.body
    assert found.version == 61


def test_a_delete_that_waits_for_an_update_deletes(store: Store, database_url: str) -> None:
    """The row that a statement waited for is another one when it gets it."""
    for n in range(10):
        identity = f"waiting-{n}"
        one(store, Put(patient(id=identity), identity))
        held = threading.Event()

        def slowly(found: dict[str, Any], held: threading.Event = held) -> dict[str, Any]:
            held.set()
            with psycopg.connect(database_url, autocommit=True) as connection:
                while connection.execute(_WAITING).fetchone() != (1,):
                    continue
            return {**found, "active": True}

        def delete(identity: str = identity, held: threading.Event = held) -> Written:
            held.wait()
            return one(store, Delete("Patient", identity))

        works: list[Callable[[], Written]] = [partial(one, store, Patch("Patient", slowly, identity)), delete]
        results = race(works)
        assert kinds(results) == {"updated": 1, "deleted": 1}
        assert versions(store, identity) == [3, 2, 1]


def test_deletes_and_updates_take_turns(store: Store) -> None:
    one(store, Put(patient(id="turns"), "turns"))
    works: list[Callable[[], Written]] = [lambda: one(store, Delete("Patient", "turns")), lambda: one(store, Put(patient(id="turns"), "turns"))]
    results = race(works * (RACERS // 2))
    assert not [result for result in results if isinstance(result, Outcome)]
    count = 1 + sum(result.outcome != "nothing" for result in results if isinstance(result, Written))
    assert versions(store, "turns") == list(range(count, 0, -1))
    with store.snapshot(SYSTEM) as db:
        found, _ = db.history(HistoryScope("Patient", "turns"), 100)
    methods = [version.method for _, version in found]
    assert ("DELETE", "DELETE") not in pairwise(methods)


def test_a_condition_holds_when_it_is_acted_upon(store: Store) -> None:
    """Whoever was changed between being found and being locked is looked for again."""
    for n in range(20):
        identity = f"acted-{n}"
        one(store, Put(identified("acted", id=identity, active=True), identity))
        query = criteria(store, f"identifier=urn:s|acted&active=true&_id={identity}")
        changed, deleted = race(
            [
                partial(one, store, Put(identified("acted", id=identity, active=False), identity)),
                partial(one, store, Delete("Patient", criteria=query, multiple=True)),
            ]
        )
        assert isinstance(changed, Written)
        assert isinstance(deleted, Written)
        # Either the update came first and nothing was found, or it brought the deleted one back.
        assert (changed.outcome, deleted.outcome) in {("updated", "nothing"), ("created", "deleted")}


@pytest.mark.parametrize("fresh", [True, False])
def test_opposite_orders_never_deadlock(store: Store, monkeypatch: pytest.MonkeyPatch, fresh: bool) -> None:  # noqa: FBT001 - a case
    """Neither over the resources that are there nor over ids that are still to come, also when they fill more than one chunk."""
    deadlocks: list[Exception] = []

    def watched(*arguments: Any) -> Any:
        try:
            return _transaction(*arguments)
        except errors.DeadlockDetected as error:
            deadlocks.append(error)
            raise

    monkeypatch.setattr("fhir_server.store.transact._transaction", watched)
    monkeypatch.setattr("fhir_server.store.transact.CHUNK", 8)
    ids = [f"order-{fresh}-{n}" for n in range(30)]
    ops = [Put(patient(id=identity), identity) for identity in ids]
    if not fresh:
        store.transact(ops, SYSTEM)
    results = race([partial(store.transact, order, SYSTEM) for order in (ops, ops[::-1], ops[::2] + ops[1::2]) * 4])
    assert not [result for result in results if isinstance(result, Outcome)]
    assert deadlocks == []
    for identity in (ids[0], ids[-1]):
        assert versions(store, identity) == list(range(12 if fresh else 13, 0, -1))


def test_new_code_systems_are_numbered_once(store: Store, database_url: str) -> None:
    systems = [f"urn:race-system-{n}" for n in range(40)]
    orders = [systems, systems[::-1], systems[::2] + systems[1::2]]

    others = [store, *(Store(database_url, zone=ZoneInfo("UTC"), connections=2) for _ in range(2))]
    try:
        works = [
            partial(one, other, Create(patient(identifier=[{"system": system, "value": "v"} for system in order])))
            for other in others
            for order in orders
        ]
        assert kinds(race(works)) == {"created": len(works)}
    finally:
        for other in others[1:]:
            other.close()
    with psycopg.connect(database_url) as connection:
        rows = connection.execute("SELECT url, count(*) FROM token_system WHERE url LIKE 'urn:race-system-%' GROUP BY url").fetchall()
        found = connection.execute(
            "SELECT count(*) FROM sp_token t JOIN token_system s ON s.sid = t.system WHERE s.url LIKE 'urn:race-system-%'"
        ).fetchone()
    assert sorted(rows) == sorted((system, 1) for system in systems)
    assert found == (40 * len(works),)


def test_more_threads_than_connections_wait(narrow: Store) -> None:
    def write(racer: int) -> list[Written]:
        made: list[Written] = []
        for name in (f"narrow-{racer}-{n}" for n in range(4)):
            with narrow.snapshot(SYSTEM) as db:
                assert db.read("Patient", name) is None
            create = Create(identified(name, f"urn:{name}"), criteria(narrow, f"identifier=urn:s|{name}"))
            made += narrow.transact([create, Put(patient(id=name), name)], SYSTEM).written
        return made

    assert kinds(race([partial(write, racer) for racer in range(12)])) == {"done": 12}


def test_a_key_is_used_once(store: Store) -> None:
    results = race([lambda: store.transact([Put(patient(id="once"), "once")], SYSTEM, once=b"raced") for _ in range(RACERS)])
    assert sorted(result.repeated for result in results if not isinstance(result, Outcome)) == [False] + [True] * (RACERS - 1)
    assert versions(store, "once") == [1]


def test_a_reference_and_the_end_of_its_target_exclude_each_other(strict: Store) -> None:
    for n in range(15):
        identity = f"target-{n}"
        one(strict, Put(patient(id=identity), identity))
        basic = {"resourceType": "Basic", "code": {"text": "x"}, "subject": {"reference": f"Patient/{identity}"}}
        referring, ended = race(
            [
                partial(one, strict, Create(basic)),
                partial(one, strict, Delete("Patient", identity)),
            ]
        )
        pair = tuple(result.category if isinstance(result, Outcome) else result.outcome for result in (referring, ended))
        assert pair in {("created", "conflict"), ("business-rule", "deleted")}


def test_crossed_references_are_written(strict: Store) -> None:
    """Each writes what the other refers to."""
    for identity in ("left", "right"):
        one(strict, Put(patient(id=identity), identity))

    def write(identity: str, other: str) -> list[Written]:
        linked = patient(id=identity, link=[{"other": {"reference": f"Patient/{other}"}, "type": "seealso"}])
        return [one(strict, Put(linked, identity)) for _ in range(5)]

    assert kinds(race([lambda: write("left", "right"), lambda: write("right", "left")] * 2)) == {"done": 4}
    assert versions(strict, "left") == list(range(11, 0, -1))
