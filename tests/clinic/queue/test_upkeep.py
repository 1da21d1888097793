"""Alerts, the end of the day and waits by zone, with the time of the test."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from fhir_server import fhirjson
from fhir_server.clinic.acting import Act
from fhir_server.clinic.queue.arriving import walk_in
from fhir_server.clinic.queue.board import lines
from fhir_server.clinic.queue.moving import call_next, happen
from fhir_server.clinic.queue.order import DEFAULTS, SKIPPED_FOR, ZONES, in_order
from fhir_server.clinic.queue.upkeep import close_day, set_minutes, statistics, watch
from fhir_server.outcome import Outcome
from fhir_server.search import SYSTEM
from fhir_server.store import Store
from fhir_server.store.ops import Commit, Create
from fhir_server.store.rules.queueing import queue
from fhir_server.store.rules.queueing.following import PRIORITY

Json = dict[str, Any]
ZONE = ZoneInfo("Europe/Berlin")
ACT = Act("queue-event", replace(SYSTEM, roles=frozenset({"staff"})))


class Day:
    """A clinic with one queue, whose clock the test sets."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.now = datetime(2031, 3, 3, 12, tzinfo=UTC)
        self.location = self.made("Location")
        with store.database.connection() as connection:
            connection.execute("DELETE FROM queue_entry")
        store._writer = replace(store._writer, clock=lambda: self.now)

    def made(self, name: str) -> str:
        version = self.store.transact([Create({"resourceType": name})], SYSTEM).written[0].version
        assert version is not None
        return version.id

    def later(self, minutes: float) -> None:
        self.now += timedelta(minutes=minutes)

    def come(self, zone: str | None = None) -> str:
        return identity(walk_in(self.store, ACT, self.made("Patient"), self.location, zone))

    def encounter(self, encounter: str) -> Json:
        with self.store.snapshot(SYSTEM) as db:
            version = db.read("Encounter", encounter)
        assert version is not None
        assert version.body is not None
        found: Json = fhirjson.loads(version.body)
        return found

    def events(self, encounter: str) -> list[tuple[str, str, str | None]]:
        with self.store.database.connection() as connection:
            return connection.execute("SELECT event, state, reason FROM queue_event WHERE encounter = %s ORDER BY id", (encounter,)).fetchall()

    def alerts(self) -> list[bool]:
        with self.store.database.connection() as connection:
            return [each.alert for each in lines(connection, self.location, self.now)]


def identity(commit: Commit) -> str:
    version = commit.written[0].version
    assert version is not None
    return version.id


@pytest.fixture(scope="module")
def opened(fresh_database: Callable[[], str]) -> Iterator[Store]:
    store = Store(fresh_database(), zone=ZONE, connections=4)
    yield store
    store.close()


@pytest.fixture
def day(opened: Store) -> Day:
    return Day(opened)


def test_whoever_passes_the_maximum_has_one_alert_and_is_to_be_looked_at_again(day: Day) -> None:
    red, green = day.come("emergency"), day.come()
    day.later(119)
    assert (watch(day.store), day.alerts()) == (0, [False, False])
    day.later(1)
    assert day.alerts() == [False, True]
    assert (watch(day.store), watch(day.store)) == (1, 0)
    assert [event for event, _, _ in day.events(green)] == ["walk-in", "alert"]
    parts = {part["url"]: part for each in day.encounter(green)["extension"] if each["url"] == PRIORITY for part in each["extension"]}
    assert parts["reassessDue"]["valueInstant"] == "2031-03-03T14:00:00.000Z"
    assert day.encounter(red)["meta"]["versionId"] == "1"


@pytest.mark.parametrize("seed", range(6))
def test_who_is_next_is_found_among_the_first_of_each_zone(day: Day, seed: int) -> None:
    chance = random.Random(seed)

    def ago(most: int) -> datetime:
        return day.now - timedelta(minutes=chance.randrange(-20, most))

    with day.store.database.connection() as connection:
        for token in range(1, 60):
            skipped = ago(30) if chance.random() < 0.3 else None
            values = (f"e{seed}-{token}", day.location, day.now.date(), token, chance.choice(ZONES), ago(200), ago(200), day.now, day.now, skipped)
            connection.execute(
                "INSERT INTO queue_entry (encounter, location, day, token, zone, assigned, credit, arrived, state, changed, recalls, skipped)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, 'waiting', %s, 0, %s)",
                values,
            )
        few = queue.first(connection, day.location, day.now - SKIPPED_FOR, 5)
        everybody = queue.standing(connection, day.location)
    assert len(few) < len(everybody)
    assert in_order(few, day.now, DEFAULTS)[:5] == in_order(everybody, day.now, DEFAULTS)[:5]


def test_minutes_of_a_place_count_at_once(day: Day) -> None:
    day.come()
    day.later(11)
    with day.store.database.connection() as connection:
        set_minutes(connection, day.location, {"regular": {"target": 5, "maximum": 10}})
    assert day.alerts() == [True]
    assert watch(day.store) == 1


def test_a_day_ends_with_a_reason_for_each_and_a_visit_under_way_stays_one(day: Day) -> None:
    waits, seen = day.come(), day.come("emergency")
    call_next(day.store, ACT, day.location)
    happen(day.store, ACT, seen, "start")
    assert close_day(day.store, ZONE) == 0
    day.now = datetime(2031, 3, 4, 0, 30, tzinfo=ZONE)
    assert close_day(day.store, ZONE) == 2
    assert day.events(waits)[-1] == ("close", "ended", "The day has ended")
    assert (day.encounter(waits)["status"], day.encounter(seen)["status"]) == ("cancelled", "in-progress")
    assert day.alerts() == []
    with pytest.raises(Outcome):
        happen(day.store, ACT, seen, "complete")


def test_who_came_before_midnight_is_not_sent_away_at_midnight(day: Day) -> None:
    day.now = datetime(2031, 3, 3, 23, 50, tzinfo=ZONE)
    day.come()
    day.later(20)
    assert close_day(day.store, ZONE) == 0
    day.later(240)
    assert close_day(day.store, ZONE) == 1


def test_waits_by_zone(day: Day) -> None:
    for zone in ("regular", "regular", "regular", "follow-up"):
        day.come(zone)
    for minutes in (10, 10, 10):
        day.later(minutes)
        call_next(day.store, ACT, day.location)
    last = day.come("emergency")
    happen(day.store, ACT, last, "left")
    with day.store.database.connection() as connection:
        found = {each.zone: each for each in statistics(connection, day.location, day.now - timedelta(hours=1), day.now + timedelta(hours=1))}
    regular = found["regular"]
    assert (regular.came, regular.called, regular.left, regular.mean, regular.longest) == (3, 2, 0, 25.0, 30.0)
    assert (found["follow-up"].median, found["emergency"].left, found["emergency"].mean) == (10.0, 1, None)


def test_tokens_begin_anew_each_day(day: Day) -> None:
    def token(encounter: str) -> str:
        return str(day.encounter(encounter)["identifier"][0]["value"])

    assert [token(day.come()) for _ in range(2)] == ["1", "2"]
    day.later(24 * 60)
    assert close_day(day.store, ZONE) == 2
    assert token(day.come()) == "1"


def test_no_two_who_stand_in_a_queue_over_midnight_have_one_token(day: Day) -> None:
    day.now = datetime(2031, 3, 3, 23, 50, tzinfo=ZONE)
    first, second = day.come(), day.come()
    happen(day.store, ACT, first, "left")
    day.later(20)
    found = [str(day.encounter(encounter)["identifier"][0]["value"]) for encounter in (second, day.come(), day.come())]
    assert found == ["2", "1", "3"]
