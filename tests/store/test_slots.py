"""Slots in step with the appointments that hold their time. https://hl7.org/fhir/R4/slot.html"""

from __future__ import annotations

import itertools
import random
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fhir_server import fhirjson
from fhir_server.outcome import Outcome
from fhir_server.search import SYSTEM
from fhir_server.store import Store
from fhir_server.store.ops import Create, Delete, Op, Patch, Put
from fhir_server.store.rules.scheduling import slots
from tests.store.appointments import DAY, OVERBOOKED, STAFF, appointment, at, capacity
from tests.store.test_occupancy import book, made, put, write

Json = dict[str, Any]


@pytest.fixture
def who() -> str:
    return f"Practitioner/{uuid.uuid4()}"


def schedule(store: Store, *actors: str) -> str:
    return made(store, {"resourceType": "Schedule", "actor": [{"reference": actor} for actor in actors]})


def slot(schedule: str, start: float = 0, minutes: float = 30, status: str = "free", **fields: Any) -> Json:
    return {"resourceType": "Slot", "schedule": {"reference": schedule}, "status": status, "start": at(start), "end": at(start + minutes), **fields}


def status(store: Store, reference: str) -> str:
    return str(read(store, reference)["status"])


def read(store: Store, reference: str) -> Json:
    with store.latest(SYSTEM) as db:
        name, identity = reference.split("/")
        found = db.read(name, identity)
    assert found is not None
    assert found.body is not None
    resource: Json = fhirjson.loads(found.body)
    return resource


def free(store: Store, schedule: str) -> list[str]:
    """The Slots of a Schedule that the search rows call free."""
    with store.database.connection() as connection:
        rows = connection.execute(
            "SELECT s.id FROM slot_time s JOIN sp_token t USING (rid) JOIN search_param p USING (pid)"
            " WHERE s.schedule = %s AND (p.type, p.code, t.code) = ('Slot', 'status', 'free')",
            (schedule.split("/")[1],),
        ).fetchall()
    return sorted(f"Slot/{identity}" for (identity,) in rows)


def test_a_booked_time_is_busy_and_free_when_it_is_cancelled(store: Store, who: str) -> None:
    mine = schedule(store, who)
    one, two, three = (made(store, slot(mine, start)) for start in (0, 30, 60))
    identity = book(store, appointment(who, start=15))
    assert [status(store, each) for each in (one, two, three)] == ["busy", "busy", "free"]
    assert free(store, mine) == [three]
    put(store, identity, appointment(who, start=60))
    assert [status(store, each) for each in (one, two, three)] == ["free", "free", "busy"]
    put(store, identity, appointment(who, start=60, status="cancelled"))
    assert free(store, mine) == sorted([one, two, three])
    assert [read(store, each)["meta"]["versionId"] for each in (one, three)] == ["3", "3"]


def test_each_change_leaves_an_event_in_the_callers_name(store: Store, who: str) -> None:
    one = made(store, slot(schedule(store, who)))
    write(store, Create(appointment(who)), grant=STAFF)
    with store.database.connection() as connection:
        rows = connection.execute("SELECT actor, kind, version FROM audit_event WHERE resource = %s ORDER BY id", (one[5:],)).fetchall()
    assert rows == [("system", "create", 1), ("staff", "update", 2)]


def test_pending_is_busy_for_the_time_being(store: Store, who: str) -> None:
    one = made(store, slot(schedule(store, who)))
    identity = book(store, appointment(who, status="pending"))
    assert status(store, one) == "busy-tentative"
    put(store, identity, appointment(who))
    assert status(store, one) == "busy"
    put(store, identity, appointment(who, status="arrived"))
    put(store, identity, appointment(who, status="booked"))
    assert read(store, one)["meta"]["versionId"] == "3"
    write(store, Delete("Appointment", identity))
    assert status(store, one) == "free"


def test_a_client_that_keeps_the_slot_itself_finds_it_as_it_left_it(store: Store, who: str) -> None:
    one = made(store, slot(mine := schedule(store, who)))
    busy, named = slot(mine, status="busy") | {"id": one[5:]}, [{"reference": one}]
    _, identity = write(store, Put(busy, one[5:]), Create(appointment(who, slot=named)))
    assert read(store, one)["meta"]["versionId"] == "2"
    write(store, Put(appointment(who, status="cancelled", slot=named) | {"id": identity}, identity), Put({**busy, "status": "free"}, one[5:]))
    assert (status(store, one), read(store, one)["meta"]["versionId"]) == ("free", "3")
    # One that says busy and leaves the rest to the server; and one that says it first, and books then.
    ways: list[list[list[Op]]] = [[[Put(busy, one[5:]), Create(appointment(who))]], [[Put(busy, one[5:])], [Create(appointment(who, slot=named))]]]
    for way in ways:
        for each in way:
            identity = write(store, *each)[-1]
        assert status(store, one) == "busy"
        put(store, identity, appointment(who, status="cancelled"))
        assert status(store, one) == "free"


@pytest.mark.parametrize("by_hand", ["busy", "busy-tentative", "busy-unavailable"])
def test_what_somebody_has_closed_stays_closed(store: Store, who: str, by_hand: str) -> None:
    one = made(store, slot(schedule(store, who), status=by_hand))
    identity = book(store, appointment(who))
    put(store, identity, appointment(who, status="cancelled"))
    assert (status(store, one), read(store, one)["meta"]["versionId"]) == (by_hand, "1")


def test_a_slot_that_is_written_free_while_its_time_is_held_is_busy(store: Store, who: str) -> None:
    mine = schedule(store, who)
    book(store, appointment(who))
    one = made(store, slot(mine))
    assert status(store, one) == "busy"
    write(store, Put(slot(mine, comment="Bring papers") | {"id": one[5:]}, one[5:]))
    assert (status(store, one), read(store, one)["comment"]) == ("busy", "Bring papers")


def test_roles_rooms_and_all_of_a_schedules_actors_count(store: Store, who: str) -> None:
    role = made(store, {"resourceType": "PractitionerRole", "practitioner": {"reference": who}})
    bed = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/location-physical-type", "code": "ro"}]}
    room = made(store, {"resourceType": "Location", "physicalType": bed})
    house = made(store, {"resourceType": "Location"})
    by_role, by_room, by_house = (made(store, slot(schedule(store, *actors))) for actors in ((role,), (room, house), (house,)))
    book(store, appointment(who, room))
    assert [status(store, each) for each in (by_role, by_room, by_house)] == ["busy", "busy", "free"]


def test_a_role_that_is_given_to_another_moves_its_slots(store: Store, who: str) -> None:
    role = made(store, {"resourceType": "PractitionerRole"})
    one = made(store, slot(schedule(store, role)))
    book(store, appointment(who))
    assert status(store, one) == "free"
    put(store, role.split("/")[1], {"resourceType": "PractitionerRole", "practitioner": {"reference": who}})
    assert status(store, one) == "busy"


def test_where_there_is_room_for_more_the_slot_is_busy_when_it_is_full(store: Store) -> None:
    group = made(store, {"resourceType": "HealthcareService", **capacity(2)})
    one = made(store, slot(schedule(store, group)))
    first = book(store, appointment(group))
    assert status(store, one) == "free"
    book(store, appointment(group, status="pending"))
    assert status(store, one) == "busy-tentative"
    put(store, first, appointment(group, status="cancelled"))
    assert status(store, one) == "free"


def test_two_may_share_a_slot_when_each_takes_a_part_of_its_time(store: Store, who: str) -> None:
    one = made(store, slot(schedule(store, who)))
    named = [{"reference": one}]
    identities = [book(store, appointment(who, start=start, minutes=15, slot=named)) for start in (0, 15)]
    with pytest.raises(Outcome, match="taken"):
        book(store, appointment(f"Practitioner/{uuid.uuid4()}", minutes=15, slot=named))
    put(store, identities[0], appointment(who, minutes=15, status="cancelled"))
    assert status(store, one) == "busy"
    put(store, identities[1], appointment(who, minutes=15, status="cancelled"))
    assert status(store, one) == "free"


def test_who_overbooks_changes_nothing_and_leaves_it_busy(store: Store, who: str) -> None:
    one = made(store, slot(schedule(store, who)))
    first = write(store, Create(appointment(who)), grant=STAFF)[0]
    write(store, Create(appointment(who, **OVERBOOKED)), grant=STAFF)
    put(store, first, appointment(who, status="cancelled"))
    assert (status(store, one), read(store, one)["meta"]["versionId"]) == ("busy", "2")


def test_what_has_begun_is_not_free_again(store: Store, who: str) -> None:
    past = {"start": "2020-01-01T09:00:00Z", "end": "2020-01-01T09:30:00Z"}
    one = made(store, slot(schedule(store, who)) | past)
    identity = book(store, appointment(who, status="checked-in") | past)
    put(store, identity, appointment(who, status="fulfilled") | past)
    assert status(store, one) == "busy"


def test_rows_that_are_made_anew_are_the_same(store: Store, who: str) -> None:
    mine = schedule(store, who)
    one, two = made(store, slot(mine)), made(store, slot(mine, 30, status="busy"))
    identity = book(store, appointment(who, minutes=60))
    with store.database.connection() as connection:
        rows = ["SELECT * FROM slot_time ORDER BY rid", "SELECT * FROM schedule_time ORDER BY id", "SELECT * FROM schedule_actor ORDER BY 1, 2"]
        before = [connection.execute(each).fetchall() for each in rows]
        with connection.transaction():
            slots.renew(connection, store.registry)
        assert [connection.execute(each).fetchall() for each in rows] == before
    put(store, identity, appointment(who, minutes=60, status="cancelled"))
    assert [status(store, each) for each in (one, two)] == ["free", "busy"]


def test_those_who_book_and_those_who_write_slots_do_not_wait_in_a_ring(store: Store, who: str) -> None:
    mine = schedule(store, who)
    made_slots = [made(store, slot(mine, 30 * number)) for number in range(4)]
    start = threading.Barrier(8)

    def go(seed: int) -> None:
        chosen = random.Random(seed)
        start.wait()
        for _ in range(8):
            number = chosen.randrange(4)
            reference = made_slots[number]
            fresh = slot(mine, 30 * number) | {"id": reference[5:]}
            booking = appointment(who, start=30 * number, slot=[{"reference": reference}])
            ways: list[list[Op]] = [
                [Create(booking)],
                [Put({**fresh, "status": "busy"}, reference[5:]), Create(booking)],
                [Put(fresh, reference[5:])],
            ]
            ops = chosen.choice(ways)
            identity = taken_or(store, *ops)
            if identity is not None and isinstance(ops[-1], Create):
                put(store, identity, {**booking, "status": "cancelled"})

    with store.database.connection() as connection:
        before = connection.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()").fetchone()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(go, range(8)))
    with store.database.connection() as connection:
        assert connection.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()").fetchone() == before
    assert [status(store, each) for each in made_slots] == ["free"] * 4


def taken_or(store: Store, *ops: Op) -> str | None:
    """The id of the last that was written; None where the time is taken."""
    try:
        return write(store, *ops)[-1]
    except Outcome as refused:
        if (refused.category, refused.issues[0].code) != ("conflict", "conflict"):
            raise
    return None


def _patched(start: float) -> Any:
    return lambda current: current | {"start": at(start), "end": at(start + 30)}


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_after_each_transaction_the_slots_say_what_is_held(store: Store, data: st.DataObject) -> None:
    who = f"Practitioner/{uuid.uuid4()}"
    mine = schedule(store, who)
    made_slots = [made(store, slot(mine, 30 * number)) for number in range(4)]
    there: dict[str, tuple[int, str]] = {}
    for _ in range(data.draw(st.integers(1, 8))):
        number = data.draw(st.integers(0, 3))
        kind = data.draw(st.sampled_from(["book", "patch", "cancel", "slot", "delete"]))
        now = data.draw(st.sampled_from(["pending", "booked"]))
        identity = data.draw(st.sampled_from(sorted(there))) if there else None
        if kind == "slot":
            write(store, Put(slot(mine, 30 * number) | {"id": made_slots[number][5:]}, made_slots[number][5:]))
        elif kind == "book" or identity is None:
            if (new := taken_or(store, Create(appointment(who, start=30 * number, status=now)))) is not None:
                there[new] = (number, now)
        elif kind == "patch":
            if taken_or(store, Patch("Appointment", _patched(30 * number), identity)) is not None:
                there[identity] = (number, there[identity][1])
        else:
            gone = appointment(who, status="cancelled") | {"id": identity}
            write(store, Put(gone, identity) if kind == "cancel" else Delete("Appointment", identity))
            del there[identity]
        held = dict(there.values())
        expected = [{"booked": "busy", "pending": "busy-tentative"}.get(held.get(each, ""), "free") for each in range(4)]
        got = [status(store, each) for each in made_slots]
        # A Slot that has become busy stays so while a pending appointment takes the place of a booked one: nothing is free.
        assert all(a == b or {a, b} == {"busy", "busy-tentative"} for a, b in itertools.zip_longest(got, expected)), (got, expected)


def test_the_day_of_these_tests_is_to_come(store: Store) -> None:
    assert store.clock() < DAY
