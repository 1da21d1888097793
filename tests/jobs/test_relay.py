"""The relay's consumers: each at its own pace, whatever becomes of the others."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from zoneinfo import ZoneInfo

import pytest

from fhir_server.jobs.relay import Relay, Task
from fhir_server.search import SYSTEM
from fhir_server.store import Store
from fhir_server.store.database import Connection
from fhir_server.store.ops import Put
from fhir_server.store.outbox import Change, listen, waiting
from tests.conftest import until


@pytest.fixture
def store(fresh_database: Callable[[], str]) -> Iterator[Store]:
    made = Store(fresh_database(), zone=ZoneInfo("UTC"), connections=6)
    with made.database.connection() as connection, connection.transaction():
        for name in ("slow", "quick", "broken"):
            listen(connection, name, {"Patient"})
    yield made
    made.close()


def put(store: Store) -> str:
    identity = uuid.uuid4().hex
    store.transact([Put({"resourceType": "Patient", "id": identity}, identity)], SYSTEM)
    return identity


def test_a_slow_consumer_and_a_broken_one_hold_up_nobody(store: Store) -> None:
    heard: dict[str, list[str]] = {"slow": [], "quick": []}
    asked: list[Task] = []
    held, at_work = threading.Event(), threading.Event()

    def slow(_connection: Connection, changes: Sequence[Change]) -> set[Task]:
        at_work.set()
        assert held.wait(30)
        heard["slow"] += [each.resource for each in changes]
        return set()

    def quick(_connection: Connection, changes: Sequence[Change]) -> set[Task]:
        heard["quick"] += [each.resource for each in changes]
        return {("deliver", each.resource) for each in changes}

    def broken(_connection: Connection, _changes: Sequence[Change]) -> set[Task]:
        raise ValueError("it always fails")

    relay = Relay(store, {"slow": slow, "broken": broken, "quick": quick}, lambda name, identity: asked.append((name, identity)))
    relay.start()
    try:
        put_by_now = [put(store)]
        assert at_work.wait(30)
        for _ in range(3):
            put_by_now.append(put(store))
            until(lambda: heard["quick"] == put_by_now)
        assert heard["slow"] == []
        held.set()
        until(lambda: heard["slow"] == put_by_now)
        until(lambda: asked == [("deliver", each) for each in put_by_now])
    finally:
        held.set()
        relay.stop()
    with store.database.connection() as connection:
        assert waiting(connection) == {"broken": 4}
    assert not any(thread.name.startswith("relay ") for thread in threading.enumerate())


def test_two_relays_hand_each_change_over_once_and_in_order(store: Store) -> None:
    heard: list[str] = []

    def consumer(_connection: Connection, changes: Sequence[Change]) -> set[Task]:
        heard.extend(each.resource for each in changes)
        return set()

    relays = [Relay(store, {"quick": consumer}, lambda _name, _identity: None) for _ in range(2)]
    for relay in relays:
        relay.start()
    try:
        there = [put(store) for _ in range(40)]
        until(lambda: len(heard) >= len(there))
    finally:
        for relay in relays:
            relay.stop()
    assert heard == there


def test_a_task_is_asked_for_at_the_first_changes_and_after_the_last_however_many_there_are(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fhir_server.store.outbox.BATCH", 5)
    events: list[str] = []

    def consumer(_connection: Connection, changes: Sequence[Change]) -> set[Task]:
        events.append(f"heard {len(changes)}")
        return {("send", "due")}

    for _ in range(23):
        put(store)
    relay = Relay(store, {"quick": consumer}, lambda name, _identity: events.append(name))
    relay.start()
    try:
        until(lambda: events[-1:] == ["send"] and events.count("heard 5") == 4 and "heard 3" in events)
    finally:
        relay.stop()
    assert events == ["heard 5", "send", "heard 5", "heard 5", "heard 5", "heard 3", "send"]
