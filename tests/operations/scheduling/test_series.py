"""Visits that repeat, and the waiting list."""

from __future__ import annotations

from typing import Any

from fhir_server.clinic.scheduling import upkeep, waiting
from fhir_server.settings import CANON
from tests.operations.scheduling.conftest import MakePractice, Practice, at, parameters

Json = dict[str, Any]
HOLD = f"{CANON}/StructureDefinition/hold-expires"
DAY = 24 * 60


def weeks(practice: Practice, count: int) -> None:
    """Gives the first time of the day a Slot in each of the weeks that follow; the clocks change after the fourth."""
    for week in range(1, count):
        shift = week * 7 * DAY - (60 if week >= 4 else 0)
        body = {"resourceType": "Slot", "schedule": {"reference": practice.schedule}, "status": "free", "start": at(shift), "end": at(shift + 30)}
        practice.system.post("Slot", body)


def test_a_series_is_booked_as_a_whole_at_the_same_local_time(practice: Practice) -> None:
    weeks(practice, 5)
    found = practice.book(repeat=5)
    visits = [entry["resource"] for entry in found["entry"]]
    assert [each["start"] for each in visits[:4]] == [at(week * 7 * DAY) for week in range(4)]
    assert visits[4]["start"] == "2031-03-31T09:00:00+02:00"
    assert len({each["identifier"][0]["value"] for each in visits}) == 1
    assert all(each["status"] == "booked" and len(each["slot"]) == 1 for each in visits)
    value = visits[0]["identifier"][0]
    assert len(practice.staff.ids(f"Appointment?identifier={value['system']}|{value['value']}")) == 5


def test_each_visit_that_cannot_be_had_is_told_and_none_is_booked(practice: Practice) -> None:
    weeks(practice, 3)
    taken = practice.free(start="2031-03-10", end="2031-03-11")[0]
    practice.book(taken)
    offer = practice.free()[0]
    refused = practice.book(offer, status=409, repeat=4)
    assert [issue["diagnostics"].partition(":")[0] for issue in refused["issue"] if issue["severity"] == "error"] == ["Visit 2 of 4", "Visit 4 of 4"]
    assert practice.free()[0] == offer
    practice.book(offer, status=400, repeat=1)
    practice.book(offer, status=400, repeat=2, interval=400)


def waits(practice: Practice, patient: str, **fields: Any) -> Json:
    people = [{"actor": {"reference": practice.doctor}, "status": "needs-action"}]
    period = [{"start": at(0), "end": at(DAY)}]
    body = {"resourceType": "Appointment", "status": "proposed", "participant": people, "requestedPeriod": period, "minutesDuration": 30, **fields}
    found: Json = practice.staff.post("Appointment/$book", parameters(appointment=body, patient=patient, waitlist=True))
    return found


def offers_to(practice: Practice, patient: str) -> list[Json]:
    ids = practice.staff.ids(f"Appointment?patient={patient}&status=pending")
    return [practice.staff.get(f"Appointment/{identity}") for identity in ids]


def test_who_waits_is_offered_what_becomes_free_and_takes_it(make_practice: MakePractice) -> None:
    practice = make_practice(1)
    store = practice.staff.app.extensions["store"]
    booked = practice.book()
    first, urgent = practice.patient(), practice.patient()
    waiting_first = waits(practice, first)
    waiting_urgent = waits(practice, urgent, priority=1)
    assert (waiting_first["status"], "start" in waiting_first) == ("waitlist", False)
    assert waiting.offer_free(store) == 0
    practice.staff.post(f"Appointment/{booked['id']}/$cancel", parameters(reason="x"), 200)
    assert waiting.offer_free(store) == 1
    assert waiting.offer_free(store) == 0
    # One live offer for one time, to who comes first.
    [offer] = offers_to(practice, urgent)
    assert (offers_to(practice, first), offer["start"], offer["slot"]) == ([], at(0), [{"reference": practice.slots[0]}])
    # Who lets it expire is not offered the same again; the next one is.
    practice.system.put(f"Appointment/{offer['id']}", {**offer, "extension": [{"url": HOLD, "valueInstant": "2020-01-01T00:00:00Z"}]})
    with store.database.connection() as connection:
        connection.execute("UPDATE waiting_offer SET expires = '2020-01-01' WHERE appointment = %s", (waiting_urgent["id"],))
    upkeep.expire_holds(store)
    assert waiting.offer_free(store) == 1
    [offer] = offers_to(practice, first)
    practice.as_patient(urgent).post("Appointment/$book", parameters(hold=f"Appointment/{offer['id']}"), 404)
    taken = practice.as_patient(first).post("Appointment/$book", parameters(hold=f"Appointment/{offer['id']}"))
    assert (taken["status"], "extension" in taken, "supportingInformation" in taken) == ("pending", False, False)
    assert practice.staff.get(f"Appointment/{waiting_first['id']}")["status"] == "cancelled"
    assert practice.staff.get(f"Appointment/{waiting_urgent['id']}")["status"] == "waitlist"
    practice.staff.post(f"Appointment/{waiting_urgent['id']}/$cancel", parameters(reason="Well again"), 200)


def test_there_has_to_be_something_to_wait_for(practice: Practice) -> None:
    patient = practice.patient()
    people = [{"actor": {"reference": practice.doctor}, "status": "needs-action"}]
    body: Json = {"resourceType": "Appointment", "status": "proposed", "participant": people}

    def refused(appointment: Json, status: int) -> None:
        practice.staff.post("Appointment/$book", parameters(appointment=appointment, patient=patient, waitlist=True), status)

    refused(body, 422)
    refused({**body, "requestedPeriod": [{"start": at(0), "end": at(10)}], "minutesDuration": 30}, 422)
    nobody = [{"actor": {"reference": "Practitioner/nobody"}, "status": "needs-action"}]
    refused({**body, "requestedPeriod": [{"start": at(0), "end": at(DAY)}], "participant": nobody}, 422)
    mine = practice.as_patient(patient)
    asked = {**body, "requestedPeriod": [{"start": at(0), "end": at(DAY)}], "priority": 1}
    found = mine.post("Appointment/$book", parameters(appointment=asked, waitlist=True))
    assert (found["status"], "priority" in found) == ("waitlist", False)
    mine.post(f"Appointment/{found['id']}/$cancel", parameters(reason="x"), 200)
