from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from fhir_server.outcome import Outcome
from fhir_server.search import SYSTEM
from fhir_server.search.grant import Grant
from fhir_server.store import Store
from fhir_server.store.database import Connection, scalar
from fhir_server.store.ops import Create, Delete, Patch, Put
from fhir_server.store.outbox import BATCH, Bell, Change, drain, listen, waiting


@pytest.fixture
def open_store(fresh_database: Callable[[], str]) -> Iterator[Callable[[], Store]]:
    """Opens stores on one new database; each stands for a process of its own."""
    url = fresh_database()
    opened: list[Store] = []

    def make() -> Store:
        opened.append(Store(url, zone=ZoneInfo("UTC"), connections=6))
        return opened[-1]

    yield make
    for store in opened:
        store.close()


def hear(store: Store, consumer: str, *types: str) -> None:
    with store.database.connection() as connection, connection.transaction():
        listen(connection, consumer, types)


def heard(store: Store, consumer: str) -> list[Change]:
    found: list[Change] = []

    def work(_: Connection, changes: Sequence[Change]) -> None:
        found.extend(changes)

    while drain(store.database, consumer, work) == "some":
        pass
    return found


def patient(**fields: Any) -> Create:
    return Create({"resourceType": "Patient", **fields})


def test_every_kind_of_write_is_told_of_with_who_did_it(open_store: Callable[[], Store]) -> None:
    store = open_store()
    hear(store, "tests", "Patient")
    who = Grant("lab feed", SYSTEM.roles, SYSTEM.scopes, client="an app")
    store.transact([Put({"resourceType": "Patient", "id": "told"}, "told")], who)
    store.transact([Put({"resourceType": "Patient", "id": "told", "active": True}, "told")], SYSTEM)
    store.transact([Patch("Patient", lambda old: {**old, "active": False}, "told"), Create({"resourceType": "Basic", "code": {"text": "x"}})], SYSTEM)
    store.transact([Delete("Patient", "told")], SYSTEM)
    found = heard(store, "tests")
    assert [(each.type, each.resource, each.version, each.kind) for each in found] == [
        ("Patient", "told", 1, "create"),
        ("Patient", "told", 2, "update"),
        ("Patient", "told", 3, "patch"),
        ("Patient", "told", 4, "delete"),
    ]
    assert [(each.actor, each.client) for each in found] == [("lab feed", "an app"), *[("system", None)] * 3]
    assert heard(store, "tests") == []


def test_each_consumer_hears_by_itself_and_finds_what_happened_while_it_was_away(open_store: Callable[[], Store]) -> None:
    store = open_store()
    hear(store, "one", "Patient")
    hear(store, "two", "Patient", "Basic")
    store.transact([patient() for _ in range(BATCH + 5)], SYSTEM)
    store.transact([Create({"resourceType": "Basic", "code": {"text": "x"}})], SYSTEM)
    with store.database.connection() as connection:
        assert waiting(connection) == {"one": BATCH + 5, "two": BATCH + 6}
    assert len(heard(store, "one")) == BATCH + 5
    numbers = [each.number for each in heard(store, "two")]
    assert len(numbers) == BATCH + 6
    assert numbers == sorted(numbers)


def test_a_process_that_does_not_know_yet_who_listens_learns_it_with_its_next_write(open_store: Callable[[], Store]) -> None:
    first, second = open_store(), open_store()
    second.transact([patient()], SYSTEM)
    hear(first, "late", "Patient")
    second.transact([patient()], SYSTEM)
    second.transact([Put({"resourceType": "Patient", "id": "a"}, "a")], SYSTEM)
    assert len(heard(first, "late")) == 2
    hear(first, "late")
    second.transact([patient()], SYSTEM)
    assert heard(first, "late") == []


def test_what_is_rolled_back_is_not_told_of(open_store: Callable[[], Store]) -> None:
    store = open_store()
    hear(store, "tests", "Patient")
    ops = [Put({"resourceType": "Patient", "id": "x"}, "x"), Put({"resourceType": "Basic", "id": "y", "code": {}}, "y", if_match="7")]
    with pytest.raises(Outcome):
        store.transact(ops, SYSTEM)
    assert heard(store, "tests") == []


def test_a_consumer_that_fails_loses_nothing_and_writes_nothing(open_store: Callable[[], Store]) -> None:
    store = open_store()
    hear(store, "tests", "Patient")
    store.transact([patient()], SYSTEM)

    def fail(connection: Connection, _: Sequence[Change]) -> None:
        connection.execute("INSERT INTO once (key) VALUES ('\\x01')")
        raise LookupError

    with pytest.raises(LookupError):
        drain(store.database, "tests", fail)
    assert len(heard(store, "tests")) == 1
    with store.database.connection() as connection:
        assert scalar(connection, "SELECT count(*) FROM once") == 0


def test_what_many_write_at_once_is_told_of_once_and_in_the_order_of_versions(open_store: Callable[[], Store]) -> None:
    stores = [open_store() for _ in range(3)]
    hear(stores[0], "race", "Patient")
    told: list[Change] = []
    busy: list[str] = []
    done = threading.Event()

    def write(store: Store) -> None:
        for number in range(25):
            store.transact([Patch("Patient", lambda old: {**old, "active": not old.get("active")}, "shared"), patient()], SYSTEM)
            store.transact([Put({"resourceType": "Patient", "id": f"n{number}"}, f"n{number}")], SYSTEM)

    def read(store: Store) -> None:
        def work(_: Connection, changes: Sequence[Change]) -> None:
            told.extend(changes)
            time.sleep(0.002)

        while True:
            over = done.is_set()
            busy.append(drain(store.database, "race", work))
            if over and busy[-1] == "none":
                return

    stores[0].transact([Put({"resourceType": "Patient", "id": "shared"}, "shared")], SYSTEM)
    readers = [threading.Thread(target=read, args=(store,)) for store in stores[:2]]
    writers = [threading.Thread(target=write, args=(store,)) for store in stores]
    for thread in (*readers, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    for thread in readers:
        thread.join()
    versions = [each.version for each in told if each.resource == "shared"]
    assert versions == list(range(1, 77))
    assert len({each.number for each in told}) == len(told) == 1 + 3 * 25 * 3


def test_a_bell_rings_for_what_is_listened_to_and_for_nothing_else(open_store: Callable[[], Store]) -> None:
    store = open_store()
    hear(store, "tests", "Patient")
    bell = Bell(store.url)
    try:
        assert bell.wait(5)
        store.transact([Create({"resourceType": "Basic", "code": {"text": "x"}})], SYSTEM)
        assert not bell.wait(0.3)
        store.transact([patient()], SYSTEM)
        assert bell.wait(5)
    finally:
        bell.close()


def test_a_bell_outlives_its_session(open_store: Callable[[], Store]) -> None:
    store = open_store()
    hear(store, "tests", "Patient")
    bell = Bell(store.url)
    try:
        assert bell.wait(5)
        with store.database.connection() as connection:
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'fhir-server outbox'")
        assert not bell.wait(0.2)
        store.transact([patient()], SYSTEM)
        assert bell.wait(5)
    finally:
        bell.close()


def test_a_change_that_is_listened_to_costs_no_further_statement(open_store: Callable[[], Store], statements: Callable[..., int]) -> None:
    store = open_store()
    hear(store, "tests", "Patient")
    store.transact([patient()], SYSTEM)
    assert statements(lambda: store.transact([patient(), Create({"resourceType": "Basic", "code": {"text": "x"}})], SYSTEM)) == 1
