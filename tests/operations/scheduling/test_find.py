"""$find: what is offered, and to whom."""

from __future__ import annotations

from typing import Any

import pytest

from tests.operations.scheduling.conftest import MakePractice, Practice, as_role, at, parameters

Json = dict[str, Any]


def test_free_slots_are_proposed_the_soonest_first(practice: Practice) -> None:
    found = practice.free()
    assert [each["start"] for each in found] == [at(0), at(30), at(60), at(90)]
    assert found[0] == {
        "resourceType": "Appointment",
        "status": "proposed",
        "start": at(0),
        "end": at(30),
        "minutesDuration": 30,
        "slot": [{"reference": practice.slots[0]}],
        "participant": [{"actor": {"reference": practice.doctor}, "required": "required", "status": "needs-action"}],
    }
    practice.system.post("Appointment/$validate", found[0], 200)


def test_it_may_be_asked_for_by_parameters(practice: Practice) -> None:
    body = parameters(start=at(30), end=at(90), practitioner=practice.doctor)
    found = practice.staff.post("Appointment/$find", body, 200)
    assert [each["resource"]["start"] for each in found["entry"]] == [at(30), at(60)]
    assert (found["type"], found["total"]) == ("searchset", 2)


def test_an_id_alone_is_one_of_the_type_that_the_parameter_names(practice: Practice) -> None:
    assert len(practice.free(schedule=practice.schedule.partition("/")[2])) == 4
    assert len(practice.free(schedule=None, practitioner=practice.doctor.partition("/")[2])) == 4


def test_what_is_booked_held_or_closed_is_not_offered(practice: Practice) -> None:
    offers = practice.free()
    practice.book(offers[0])
    practice.staff.post("Appointment/$hold", parameters(appointment=offers[1]))
    closed = practice.system.get(practice.slots[2])
    practice.system.put(practice.slots[2], {**closed, "status": "busy-unavailable"})
    assert practice.starts() == [at(90)]


def test_what_is_over_is_not_offered(practice: Practice) -> None:
    times = {"start": "2020-01-01T09:00:00Z", "end": "2020-01-01T09:30:00Z"}
    practice.system.post("Slot", {"resourceType": "Slot", "schedule": {"reference": practice.schedule}, "status": "free", **times})
    assert len(practice.free(start="2019-01-01", end="2032-01-01")) == 4


@pytest.mark.parametrize(("minutes", "starts"), [(60, [0, 30, 60]), (75, [0, 30]), (120, [0]), (121, []), (30, [0, 30, 60, 90])])
def test_a_longer_visit_takes_slots_that_follow_each_other(practice: Practice, minutes: int, starts: list[int]) -> None:
    found = practice.free(duration=minutes)
    assert [each["start"] for each in found] == [at(start) for start in starts]
    assert all(each["end"] == at(start + minutes) for each, start in zip(found, starts, strict=True))
    assert all(len(each["slot"]) == -(-minutes // 30) for each in found)


def test_a_gap_is_not_bridged(practice: Practice) -> None:
    practice.book(practice.free()[1])
    assert practice.starts(duration=60) == [at(60)]


def test_a_shorter_visit_takes_a_part_and_leaves_the_rest(make_practice: MakePractice) -> None:
    practice = make_practice(1, 60)
    assert practice.starts(duration=20) == [at(0), at(20), at(40)]
    practice.book(practice.free(duration=20)[1])
    assert practice.starts(duration=20) == [at(0), at(40)]
    assert practice.starts() == []
    assert practice.status(practice.slots[0]) == "busy"
    practice.book(practice.free(duration=20)[1])
    assert practice.starts(duration=20) == [at(0)]


def test_services_narrow(make_practice: MakePractice) -> None:
    system, code = "http://example.org/services", f"check-{id(object())}"
    concept = {"coding": [{"system": system, "code": code}]}
    practice = make_practice(2, serviceType=[concept])
    other = {"coding": [{"system": system, "code": f"other-{code}"}]}
    slot = practice.system.get(practice.slots[1])
    practice.system.put(practice.slots[1], {**slot, "serviceType": [other]})
    for text in (code, f"{system}|{code}"):
        assert practice.starts(schedule=None, **{"service-type": text}) == [at(0)]
    assert practice.starts(schedule=None, **{"service-type": f"other-{code}"}) == [at(30)]
    assert practice.starts(schedule=None, **{"service-type": f"x|{code}"}) == []
    found = practice.free(None, **{"service-type": code})[0]
    assert found["serviceType"] == [concept]


def test_places_and_roles_are_found(practice: Practice) -> None:
    system = practice.system
    place = f"Location/{system.post('Location', {'resourceType': 'Location'})['id']}"
    role = system.post(
        "PractitionerRole", {"resourceType": "PractitionerRole", "practitioner": {"reference": practice.doctor}, "location": [{"reference": place}]}
    )
    mine = system.get(practice.schedule)
    system.put(practice.schedule, {**mine, "actor": [{"reference": f"PractitionerRole/{role['id']}"}]})
    whose: list[dict[str, Any]] = [{"practitioner": practice.doctor}, {"practitioner": f"PractitionerRole/{role['id']}"}, {"location": place}]
    for who in whose:
        assert len(practice.free(None, schedule=None, **who)) == 4
    practice.book()
    assert len(practice.free(location=place)) == 3


def test_several_doctors_come_in_order_of_time(make_practice: MakePractice) -> None:
    one, two = make_practice(2, 40), make_practice(2, 30)
    found = one.free(schedule=f"{one.schedule},{two.schedule}")
    assert [each["start"] for each in found] == [at(0), at(0), at(30), at(40)]


def test_a_schedule_that_is_not_active_offers_nothing(practice: Practice) -> None:
    practice.system.put(practice.schedule, {**practice.system.get(practice.schedule), "active": False})
    assert practice.free() == []


def test_pages_end_where_the_caller_says(practice: Practice) -> None:
    body = parameters(start=at(0), end=at(24 * 60), schedule=practice.schedule, _count=2)
    found = practice.staff.post("Appointment/$find", body, 200)
    assert len(found["entry"]) == 2
    assert "total" not in found


def test_who_may_not_see_a_slot_is_not_offered_it(practice: Practice) -> None:
    query = f"Appointment/$find?schedule={practice.schedule}&start=2031-03-03&end=2031-03-04"
    assert len(practice.as_patient(practice.patient()).get(query)["entry"]) == 4
    some = as_role(practice.staff, "staff", scope="user/Schedule.rs user/Slot.rs?status=busy")
    assert some.get(query)["total"] == 0
    as_role(practice.staff, "staff", scope="user/Appointment.rs").get(query, 403)


@pytest.mark.parametrize(
    "query",
    [
        "start=2031-03-03&end=2031-03-04",
        "schedule=Schedule/1&end=2031-03-04",
        "schedule=Schedule/1&start=2031-03-03",
        "schedule=Patient/1&start=2031-03-03&end=2031-03-04",
        "schedule=Schedule/1&start=soon&end=2031-03-04",
        "schedule=Schedule/1&start=2031-03-04&end=2031-03-03",
        "schedule=Schedule/1&start=2031-03-03&end=2031-03-04&duration=0",
        "schedule=Schedule/1&start=2031-03-03&end=2031-03-04&duration=100000",
        "schedule=Schedule/1&start=2031-03-03&end=2031-03-04&colour=red",
    ],
)
def test_what_makes_no_sense_is_refused(practice: Practice, query: str) -> None:
    practice.staff.get(f"Appointment/$find?{query}", 400)


def test_the_rest_of_time_is_no_trouble(practice: Practice) -> None:
    assert len(practice.free(start="0001-01-01", end="9999-12-31", duration=30)) == 4
