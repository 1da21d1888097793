"""No double booking: what is held, who waits for whom, and what was there before. https://hl7.org/fhir/R4/appointment.html"""

from __future__ import annotations

import itertools
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import errors

from fhir_server.outcome import Outcome
from fhir_server.search import SYSTEM, Grant
from fhir_server.settings import CANON
from fhir_server.store import Store
from fhir_server.store.ops import Create, Delete, Op, Patch, Put
from tests.store.anew import made_anew
from tests.store.appointments import DAY, DOCTOR, OVERBOOKED, STAFF, appointment, at, capacity, clashing, held

Json = dict[str, Any]
BASE = "http://localhost/fhir"


@pytest.fixture
def who() -> str:
    """A Practitioner whom no other test knows."""
    return f"Practitioner/{uuid.uuid4()}"


def write(store: Store, *ops: Op, grant: Grant = SYSTEM) -> list[str]:
    """The ids of what was written."""
    return [written.version.id if written.version else "" for written in store.transact(list(ops), grant).written]


def book(store: Store, resource: Json, grant: Grant = SYSTEM) -> str:
    return write(store, Create(resource), grant=grant)[0]


def put(store: Store, identity: str, resource: Json, grant: Grant = SYSTEM) -> None:
    write(store, Put({**resource, "id": identity}, identity), grant=grant)


def refused(work: Callable[[], object], category: str = "conflict") -> Outcome:
    with pytest.raises(Outcome) as caught:
        work()
    assert caught.value.category == category
    return caught.value


def made(store: Store, resource: Json) -> str:
    """The reference to a new resource."""
    return f"{resource['resourceType']}/{book(store, resource)}"


# What holds time


def test_what_touches_does_not_clash(store: Store, who: str) -> None:
    book(store, appointment(who, start=0))
    book(store, appointment(who, start=30))
    refused(lambda: book(store, appointment(who, start=29.5, minutes=0.6)))
    assert [row[1:] for row in held(store) if row[0] == who] == [(1, 0, 30), (1, 30, 60)]


@pytest.mark.parametrize("status", ["pending", "booked", "arrived", "checked-in"])
def test_statuses_that_hold(store: Store, who: str, status: str) -> None:
    book(store, appointment(who, status=status))
    refused(lambda: book(store, appointment(who)))


@pytest.mark.parametrize("status", ["proposed", "waitlist", "cancelled", "noshow", "fulfilled", "entered-in-error"])
def test_statuses_that_do_not(store: Store, who: str, status: str) -> None:
    book(store, appointment(who, status=status))
    book(store, appointment(who))
    book(store, appointment(who, status=status))


def test_who_has_declined_is_free(store: Store, who: str) -> None:
    other = f"Practitioner/{uuid.uuid4()}"
    resource = appointment(who, other)
    resource["participant"][0]["status"] = "declined"
    book(store, resource)
    book(store, appointment(who))
    refused(lambda: book(store, appointment(other)))


@pytest.mark.parametrize("times", [{"end": None}, {"start": None}, {"end": at(0)}, {"end": at(-5)}, {"end": "later"}])
def test_without_a_start_and_a_later_end_nothing_is_held(store: Store, who: str, times: Json) -> None:
    resource = {name: value for name, value in {**appointment(who), **times}.items() if value is not None}
    identity = book(store, resource)
    assert held(store, identity) == []


@pytest.mark.parametrize("kind", ["Patient", "Device", "Practitioner"])
@pytest.mark.parametrize("form", ["{}", f"{BASE}/{{}}", "{}/_history/3", "https://elsewhere.example/fhir/{}"])
def test_people_and_devices_are_in_one_place_however_they_are_named(store: Store, kind: str, form: str) -> None:
    one = form.format(f"{kind}/{uuid.uuid4()}")
    book(store, appointment(one))
    refused(lambda: book(store, appointment(one.replace(f"{BASE}/", ""), start=10)))


def test_a_role_is_the_person_in_it(store: Store, who: str) -> None:
    role = made(store, {"resourceType": "PractitionerRole", "practitioner": {"reference": who}})
    identity = book(store, appointment(role, who))
    assert [row[0] for row in held(store, identity)] == [who]
    told = refused(lambda: book(store, appointment(role, start=15)))
    # In the words of who asks, and without a word about whose appointment it is.
    assert told.as_json()["issue"] == [
        {
            "severity": "error",
            "code": "conflict",
            "diagnostics": f"{role} is taken from 2031-03-03T09:15:00+01:00 to 2031-03-03T09:30:00+01:00",
            "expression": ["Appointment.participant[0].actor"],
        }
    ]
    nobody = made(store, {"resourceType": "PractitionerRole"})
    assert held(store, book(store, appointment(nobody))) == []


def test_a_role_in_the_same_transaction_is_seen(store: Store, who: str) -> None:
    role = f"PractitionerRole/{uuid.uuid4()}"
    resource: Json = {"resourceType": "PractitionerRole", "id": role.partition("/")[2], "practitioner": {"reference": who}}
    write(store, Create(appointment(role)), Put(resource, resource["id"]))
    refused(lambda: book(store, appointment(who)))


def _physical(code: str, **fields: Any) -> Json:
    coding = {"system": "http://terminology.hl7.org/CodeSystem/location-physical-type", "code": code}
    return {"resourceType": "Location", "physicalType": {"coding": [coding]}, **fields}


@pytest.mark.parametrize(
    ("code", "fields", "room"), [("ro", {}, 1), ("bd", {}, 1), ("bu", {}, None), ("ro", {"mode": "kind"}, None), ("bu", capacity(2), 2)]
)
def test_rooms_and_beds_are_held_and_houses_are_not(store: Store, code: str, fields: Json, room: int | None) -> None:
    place = made(store, _physical(code, **fields))
    for _ in range(room or 5):
        book(store, appointment(place))
    if room is not None:
        refused(lambda: book(store, appointment(place)))


def test_a_service_has_the_room_that_it_says(store: Store) -> None:
    endless = made(store, {"resourceType": "HealthcareService"})
    chairs = made(store, {"resourceType": "HealthcareService", **capacity(3)})
    for _ in range(5):
        book(store, appointment(endless))
    # Lanes fill up so that none is free for a whole span, but two are at each moment.
    first = [book(store, appointment(chairs, start=start)) for start in (0, 0, 0)]
    book(store, appointment(chairs, start=30))
    write(store, Delete("Appointment", first[0]))
    book(store, appointment(chairs, start=15, minutes=30))
    told = refused(lambda: book(store, appointment(chairs, start=-30, minutes=240)))
    assert "from 2031-03-03T09:15:00+01:00 to 2031-03-03T09:30:00+01:00" in str(told)
    book(store, appointment(chairs, start=30))
    refused(lambda: book(store, appointment(chairs, start=44, minutes=1)))


def test_a_slot_is_filled_whatever_the_time(store: Store) -> None:
    slot = f"Slot/{uuid.uuid4()}"
    wide = made(store, {"resourceType": "Slot", "schedule": {"display": "x"}, "status": "free", "start": at(0), "end": at(30), **capacity(2)})
    book(store, appointment(slot=[{"reference": slot}]))
    told = refused(lambda: book(store, appointment(start=300, slot=[{"reference": slot}])))
    assert (str(told), told.issues[0].expression) == (f"{slot} is taken", ("Appointment.slot[0]",))
    for _ in range(2):
        book(store, appointment(slot=[{"reference": wide}, {"reference": wide}]))
    refused(lambda: book(store, appointment(slot=[{"reference": wide}])))


def test_a_slot_is_left_by_who_moves_away_from_its_time(store: Store) -> None:
    slot = {"reference": made(store, {"resourceType": "Slot", "schedule": {"display": "x"}, "status": "free", "start": at(0), "end": at(30)})}
    first = book(store, appointment(slot=[slot]))
    refused(lambda: book(store, appointment(slot=[slot])))
    write(store, Put({**appointment(start=30, slot=[slot]), "id": first}, first))
    second = book(store, appointment(slot=[slot]))
    refused(lambda: write(store, Put({**appointment(slot=[slot]), "id": first}, first)))
    # Who still takes some of its time fills it as before.
    write(store, Put({**appointment(start=25, slot=[slot]), "id": second}, second))
    refused(lambda: book(store, appointment(slot=[slot])))


def test_hostile_content_is_stored_or_refused_but_breaks_nothing(store: Store, who: str) -> None:
    for start, end in (("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"), ("9999-12-31T23:59:59-14:00", "9999-12-31T23:59:60-14:00")):
        book(store, {**appointment(who), "start": start, "end": end})
        write(store, *(Put({**appointment(who, status="cancelled"), "id": row}, row) for row in _of(store, who)))
    book(store, {**appointment(who), "start": "0001-01-01T00:00:00Z", "end": "9999-12-31T23:59:59Z"})
    refused(lambda: book(store, {**appointment(who), "start": "9999-12-31T22:00:00-01:00", "end": "9999-12-31T23:59:59Z"}))
    # Named ever so often it is told once; of many no more than a few.
    assert len(refused(lambda: book(store, appointment(*[who] * 40))).issues) == 1


def _of(store: Store, actor: str) -> list[str]:
    with store.database.connection() as connection:
        return [row[0] for row in connection.execute("SELECT r.id FROM occupancy JOIN resource r USING (rid) WHERE actor = %s", (actor,))]


# Changes


def test_what_is_cancelled_moved_or_deleted_is_free(store: Store, who: str) -> None:
    identity = book(store, appointment(who))
    put(store, identity, appointment(who, start=60))
    other = book(store, appointment(who))
    refused(lambda: put(store, other, appointment(who, start=45)))
    assert [row[2] for row in held(store, other)] == [0]
    put(store, identity, appointment(who, start=60, status="cancelled"))
    put(store, other, appointment(who, start=45))
    write(store, Delete("Appointment", other))
    assert held(store, identity) == held(store, other) == []
    put(store, other, appointment(who))
    refused(lambda: book(store, appointment(who)))


def test_a_change_that_keeps_the_time_writes_no_rows_and_one_more_person_is_looked_at(store: Store, who: str) -> None:
    identity = book(store, appointment(who))
    patient = f"Patient/{uuid.uuid4()}"
    put(store, identity, appointment(who, patient, comment="Brings the letter"))
    assert [row[0] for row in held(store, identity)] == sorted([who, patient])
    busy = f"Patient/{uuid.uuid4()}"
    book(store, appointment(busy))
    refused(lambda: put(store, identity, appointment(who, patient, busy)))


def test_two_may_swap_their_times_in_one_transaction(store: Store, who: str) -> None:
    one, other = book(store, appointment(who)), book(store, appointment(who, start=15 * 60))
    swapped = [Put({**appointment(who, start=15 * 60), "id": one}, one), Put({**appointment(who), "id": other}, other)]
    write(store, *swapped)
    assert [row[2] for row in held(store, one) + held(store, other)] == [900, 0]
    refused(lambda: write(store, swapped[1], Create(appointment(who, start=900))))


def test_a_transaction_that_clashes_with_itself_stores_nothing(store: Store, who: str) -> None:
    refused(
        lambda: write(store, Create(appointment(who)), Create({"resourceType": "Basic", "code": {"text": who}}), Create(appointment(who, start=29)))
    )
    assert _of(store, who) == []


def test_many_at_once_lock_the_table_instead_of_each(store: Store) -> None:
    stem = uuid.uuid4()
    write(store, *(Create(appointment(f"Patient/{stem}-{n}", start=n)) for n in range(700)))
    assert len(held(store)) >= 700
    refused(lambda: book(store, appointment(f"Patient/{stem}-699", start=699)))
    with pytest.raises(Outcome) as caught:
        write(store, *(Create(appointment(f"Patient/{stem}-{n}", start=n)) for n in range(700)))
    assert len(caught.value.issues) == 10


# Holds that expire


def _holding(who: str, seconds: float, store: Store) -> Json:
    expires = (store.clock() + timedelta(seconds=seconds)).isoformat()
    return appointment(who, status="pending", extension=[{"url": f"{CANON}/StructureDefinition/hold-expires", "valueInstant": expires}])


def test_a_hold_that_has_expired_is_taken_by_the_next_and_cannot_be_booked_any_more(store: Store, who: str) -> None:
    waiting = book(store, _holding(who, 60, store))
    refused(lambda: book(store, appointment(who)))
    with store.database.connection() as connection:
        connection.execute("UPDATE occupancy SET expires = now() - interval '1 second' WHERE actor = %s", (who,))
    book(store, appointment(who))
    refused(lambda: put(store, waiting, appointment(who)))
    assert held(store, book(store, _holding(who, -1, store))) == []


def test_a_hold_that_is_booked_expires_no_more(store: Store, who: str) -> None:
    waiting = book(store, _holding(who, 60, store))
    put(store, waiting, {**_holding(who, 60, store), "status": "booked"})
    with store.database.connection() as connection:
        assert connection.execute("SELECT expires FROM occupancy WHERE actor = %s", (who,)).fetchall() == [(None,)]


# Overbooking


def test_staff_overbook_with_a_reason_and_nobody_else(store: Store, who: str) -> None:
    book(store, appointment(who))
    over = appointment(who, start=10, **OVERBOOKED)
    refused(lambda: book(store, over, DOCTOR), "forbidden")
    empty = {**over, "extension": [{**over["extension"][0], "valueString": " "}]}
    refused(lambda: book(store, empty, STAFF), "invalid")
    identity = book(store, over, STAFF)
    assert held(store, identity) == [(who, 2, 10, 40)]
    assert clashing(store) == []
    # A doctor may leave it as it is, but not move it over something else with it.
    put(store, identity, {**over, "comment": "Called"}, DOCTOR)
    refused(lambda: put(store, identity, {**appointment(who, start=5), **OVERBOOKED}, DOCTOR))
    put(store, identity, {**appointment(who, start=60), **OVERBOOKED}, DOCTOR)
    put(store, identity, {**appointment(who, start=5), **OVERBOOKED}, STAFF)
    refused(lambda: book(store, appointment(who, start=32, minutes=1)))


def test_a_doctor_may_not_say_so_of_a_proposal_either(store: Store, who: str) -> None:
    refused(lambda: book(store, appointment(who, status="proposed", **OVERBOOKED), DOCTOR), "forbidden")


# Races


def race(works: Sequence[Callable[[], object]]) -> list[object]:
    """What each gave or refused, all begun at the same moment."""
    start = threading.Barrier(len(works))

    def run(work: Callable[[], object]) -> object:
        start.wait()
        try:
            return work()
        except Outcome as outcome:
            return outcome

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(run, works))


def test_of_fifty_racers_one_books_through_whatever_door(store: Store, who: str) -> None:
    role = made(store, {"resourceType": "PractitionerRole", "practitioner": {"reference": who}})
    waiting = [book(store, appointment(who, status="proposed")) for _ in range(15)]
    mine = itertools.count()

    def racer(number: int) -> Callable[[], object]:
        start = (number % 5) * 5
        ops: list[Op] = [
            Create(appointment(who, f"Patient/{uuid.uuid4()}", start=start)),
            Create(appointment(role, start=start)),
            Put({**appointment(role, start=start), "id": f"r{uuid.uuid4()}"}, None),
        ]
        if number < len(waiting):
            return lambda: write(store, Patch("Appointment", lambda old: {**old, "status": "booked"}, waiting[number]))
        op = ops[next(mine) % 3]
        return lambda: write(store, Create({"resourceType": "Basic", "code": {"text": "with"}}), op) if number % 2 else write(store, op)

    results = race([racer(number) for number in range(50)])
    lost = [result for result in results if isinstance(result, Outcome)]
    assert len(lost) == 49
    # Each is told what is taken, none that the server was busy.
    assert {outcome.category for outcome in lost} == {"conflict"}
    assert all("is taken from" in str(outcome) for outcome in lost)


def test_racers_fill_the_room_there_is_and_no_more(store: Store) -> None:
    chairs = made(store, {"resourceType": "HealthcareService", **capacity(4)})
    results = race([lambda start=start: book(store, appointment(chairs, start=start)) for start in [0, 10, 20] * 8])  # type: ignore[misc]
    assert sum(not isinstance(result, Outcome) for result in results) == 4


def test_swaps_at_the_same_moment_do_not_wait_for_each_other(store: Store) -> None:
    one, other = (f"Practitioner/{uuid.uuid4()}" for _ in range(2))
    first, second = book(store, appointment(one)), book(store, appointment(other))
    for _ in range(10):
        results = race([lambda: put(store, first, appointment(other)), lambda: put(store, second, appointment(one))])
        kinds = {result.category if isinstance(result, Outcome) else "done" for result in results}
        assert kinds <= {"conflict", "done"}
        write(store, Put({**appointment(one), "id": first}, first), Put({**appointment(other), "id": second}, second))


def test_the_constraint_holds_without_the_locks(store: Store, who: str) -> None:
    book(store, appointment(who))
    with store.database.connection(retried=True) as connection, pytest.raises(errors.ExclusionViolation):
        connection.execute(
            "INSERT INTO occupancy (rid, actor, lane, during, clash) VALUES (1, %s, 1, tstzrange(%s, %s), false)",
            (who, DAY, DAY + timedelta(minutes=1)),
        )


# Whatever happens

ACTORS = ("Practitioner/any-1", "Practitioner/any-2", "Patient/any-1", "PractitionerRole/any-1", "Location/any-ro", "HealthcareService/any-2")
spans = st.builds(lambda start, length: {"start": start * 10, "minutes": length * 10}, st.integers(0, 8), st.integers(1, 4))
bookings = st.builds(
    lambda actors, span, status, over: appointment(*actors, status=status, **span, **(OVERBOOKED if over else {})),
    st.lists(st.sampled_from(ACTORS), min_size=1, max_size=3, unique=True),
    spans,
    st.sampled_from(("booked", "booked", "pending", "proposed", "cancelled", "checked-in")),
    st.booleans(),
)
steps = st.lists(
    st.lists(st.tuples(st.integers(0, 6), st.one_of(st.none(), bookings)), min_size=1, max_size=3, unique_by=lambda each: each[0]), max_size=12
)


@pytest.fixture(scope="module")
def own(fresh_database: Callable[[], str]) -> Iterator[Store]:
    opened = Store(fresh_database(), zone=ZoneInfo("Europe/Berlin"), bases=(BASE,), connections=4)
    things: list[Json] = [
        {"resourceType": "PractitionerRole", "id": "any-1", "practitioner": {"reference": "Practitioner/any-2"}},
        _physical("ro", id="any-ro"),
        {"resourceType": "HealthcareService", "id": "any-2", **capacity(2)},
    ]
    write(opened, *(Put(each, each["id"]) for each in things))
    yield opened
    opened.close()


@given(steps)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_whatever_is_written_nobody_is_held_twice(own: Store, steps: list[list[tuple[int, Json | None]]]) -> None:
    with own.database.connection() as connection:
        identities = [row[0] for row in connection.execute("SELECT id FROM resource WHERE id LIKE 'any-a%' AND NOT deleted")]
    write(own, *(Delete("Appointment", identity) for identity in identities))
    assert held(own) == []
    stored: dict[int, Json] = {}
    for step in steps:
        ops: list[Op] = [Delete("Appointment", f"any-a{n}") if body is None else Put({**body, "id": f"any-a{n}"}, f"any-a{n}") for n, body in step]
        if not _written(own, ops):
            continue
        stored |= {n: body for n, body in step if body is not None}
        for n, body in step:
            if body is None:
                stored.pop(n, None)
    _agrees(own, stored)
    before = held(own)
    # Made anew from what is stored, the same is held, by whatever way.
    made_anew(own)
    _agrees(own, stored)
    own.reindex(lambda _done, _total: None, resource_type="Appointment")
    # Whoever is overbooked may have got another lane.
    assert sorted(row[:1] + row[2:] for row in held(own)) == sorted(row[:1] + row[2:] for row in before)
    assert clashing(own) == [] or any("extension" in body for body in stored.values())


def _written(store: Store, ops: Sequence[Op]) -> bool:
    try:
        store.transact(ops, SYSTEM)
    except Outcome as outcome:
        if outcome.category in {"conflict", "business-rule"}:
            return False
        raise
    return True


def _agrees(store: Store, stored: dict[int, Json]) -> None:
    """The rows are those of a plain reading of what is stored, and room is only exceeded where somebody has said so."""
    rows = held(store)
    for (_, one), (_, other) in itertools.combinations(enumerate(rows), 2):
        assert one[:2] != other[:2] or one[3] <= other[2] or other[3] <= one[2], (one, other)
    plain: list[tuple[str, float, float, bool]] = []
    for body in stored.values():
        if body["status"] in {"booked", "pending", "checked-in"}:
            lo, hi = ((_minute(body[name])) for name in ("start", "end"))
            actors = {p["actor"]["reference"].replace("PractitionerRole/any-1", "Practitioner/any-2") for p in body["participant"]}
            plain += [(actor, lo, hi, "extension" in body) for actor in actors]
    assert sorted(each[:3] for each in plain) == sorted((actor, lo, hi) for actor, _, lo, hi in rows)
    for actor, lo, hi, over in plain:
        room = 2 if actor.startswith("HealthcareService") else 1
        most = max(sum(a == actor and first <= moment < last for a, first, last, _ in plain) for moment in range(int(lo), int(hi)))
        assert over or most <= room or any(a == actor and said and first < hi and lo < last for a, first, last, said in plain)


def _minute(text: str) -> float:
    return (datetime.fromisoformat(text) - DAY).total_seconds() / 60


# What was there before


def test_appointments_from_before_that_clash_stay_and_are_told_of(fresh_database: Callable[[], str]) -> None:
    url = fresh_database()
    store = Store(url, zone=ZoneInfo("UTC"), connections=3)
    try:
        store.fit()
        one = book(store, appointment("Practitioner/1", status="proposed"))
        other = book(store, appointment("Practitioner/1", start=10, status="proposed"))
        third = book(store, appointment("Practitioner/1", start=50, status="proposed"))
        with psycopg.connect(url, autocommit=True) as connection:
            # As a version without the rule has left them.
            connection.execute("UPDATE resource_version SET body = replace(body, '\"proposed\"', '\"booked\"')")
            connection.execute("UPDATE index_settings SET fingerprint = fingerprint || '; appointments=unread'")
        with pytest.raises(Outcome, match="appointments=unread"):
            store.check_fit()
        store.fit()
        assert [(row[1], row[2]) for row in held(store)] == [(1, 0), (2, 10), (1, 50)]
        (clash,) = clashing(store)
        assert {clash.one, clash.other} == {one, other}
        assert (clash.actor, clash.hi - clash.lo) == ("Practitioner/1", timedelta(minutes=20))
        # They can be worked on, but not moved to what is taken.
        put(store, other, appointment("Practitioner/1", start=10, status="arrived"))
        refused(lambda: put(store, other, appointment("Practitioner/1", start=60, status="arrived")))
        refused(lambda: book(store, appointment("Practitioner/1", start=35, minutes=1)))
        put(store, other, appointment("Practitioner/1", start=90, status="arrived"))
        assert clashing(store) == []
        assert held(store, third) != []
    finally:
        store.close()


def test_roles_that_change_count_once_the_appointment_is_reindexed(store: Store, who: str) -> None:
    successor = f"Practitioner/{uuid.uuid4()}"
    role = made(store, {"resourceType": "PractitionerRole", "practitioner": {"reference": who}})
    identity = book(store, appointment(role))
    kept: Json = {"resourceType": "PractitionerRole", "id": role.partition("/")[2], "practitioner": {"reference": successor}}
    write(store, Put(kept, kept["id"]))
    assert [row[0] for row in held(store, identity)] == [who]
    store.reindex(lambda _done, _total: None, resource_type="Appointment")
    assert [row[0] for row in held(store, identity)] == [successor]
