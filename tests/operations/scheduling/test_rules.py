"""Slots that are made of rules, and what $find computes beyond them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from celery import Celery

from fhir_server.clinic.scheduling import policies, publishing, upkeep
from fhir_server.jobs.scheduling import define_scheduling
from fhir_server.settings import CANON
from fhir_server.store import Store
from fhir_server.store.outbox import Change
from tests.interactions.conftest import Fhir
from tests.operations.scheduling.conftest import Practice, parameters

Json = dict[str, Any]
BERLIN = ZoneInfo("Europe/Berlin")
MONDAY = (datetime.now(BERLIN) + timedelta(days=21)).replace(hour=0, minute=0, second=0, microsecond=0)
MONDAY -= timedelta(days=MONDAY.weekday())


def rules(**values: Any) -> list[Json]:
    """The extension with the rules of a Schedule."""
    pairs = [(name, each) for name, value in values.items() for each in (value if isinstance(value, list) else [value])]
    return [{"url": f"{CANON}/StructureDefinition/scheduling-parameters", "extension": [_part(name, each) for name, each in pairs]}]


def _part(name: str, value: Any) -> Json:
    if isinstance(value, dict):
        return {"url": name, **value}
    return {"url": name, "valueCode" if isinstance(value, str) else _kind(name): value}


def _kind(name: str) -> str:
    return "valuePositiveInt" if name in ("duration", "interval", "capacity") else "valueUnsignedInt"


def weekly(start: str, end: str, *days: str) -> Json:
    parts = [*({"url": "day", "valueCode": day} for day in days), {"url": "start", "valueTime": start}, {"url": "end", "valueTime": end}]
    return {"extension": parts}


@dataclass
class House:
    """A doctor with a role, and whatever the clinic has decided."""

    fhir: Fhir
    store: Store
    doctor: str
    role: str

    def schedule(self, *actors: str, **fields: Any) -> str:
        made = self.fhir.post("Schedule", {"resourceType": "Schedule", "actor": [{"reference": each} for each in actors or (self.doctor,)], **fields})
        return str(made["id"])

    def lift(self) -> None:
        """Takes away when the role is there."""
        self.fhir.put(self.role, {name: value for name, value in self.fhir.get(self.role).items() if name != "availableTime"})

    def find(self, schedule: str, start: datetime = MONDAY, days: int = 1, **query: Any) -> list[str]:
        end = start + timedelta(days=days)
        asked = {"schedule": f"Schedule/{schedule}", "start": start.isoformat(), "end": end.isoformat(), **query}
        found = self.fhir.post("Appointment/$find", parameters(**asked), 200)
        return [datetime.fromisoformat(entry["resource"]["start"]).astimezone(BERLIN).strftime("%a %H:%M") for entry in found.get("entry", ())]

    def slots(self, schedule: str, status: str = "free") -> list[str]:
        """When the Slots of the Monday begin."""
        day = MONDAY.date().isoformat()
        return sorted(
            datetime.fromisoformat(page["resource"]["start"]).astimezone(BERLIN).strftime("%H:%M")
            for bundle in self.fhir.pages(f"Slot?schedule={schedule}&status={status}&start={day}&_count=100")
            for page in bundle.get("entry", ())
        )

    def book(self, schedule: str, number: int = 0) -> Json:
        asked = parameters(schedule=f"Schedule/{schedule}", start=MONDAY.isoformat(), end=(MONDAY + timedelta(days=1)).isoformat())
        offer = self.fhir.post("Appointment/$find", asked, 200)["entry"][number]["resource"]
        patient = f"Patient/{self.fhir.post('Patient', {'resourceType': 'Patient'})['id']}"
        found: Json = self.fhir.post("Appointment/$book", parameters(appointment=offer, patient=patient))
        return found


@pytest.fixture
def house(practice: Practice) -> House:
    fhir = practice.system
    doctor = f"Practitioner/{fhir.post('Practitioner', {'resourceType': 'Practitioner'})['id']}"
    hours = [{"daysOfWeek": ["mon"], "availableStartTime": "09:00:00", "availableEndTime": "11:00:00"}]
    role = fhir.post("PractitionerRole", {"resourceType": "PractitionerRole", "practitioner": {"reference": doctor}, "availableTime": hours})
    return House(fhir, fhir.app.extensions["store"], doctor, f"PractitionerRole/{role['id']}")


def test_rules_of_the_schedule_become_slots(house: House) -> None:
    mine = house.schedule(
        extension=rules(duration=20, availableTime=[weekly("08:00:00", "09:00:00", "mon"), weekly("15:00:00", "15:30:00", "mon", "tue")])
    )
    # The role of whom it is says 9 to 11: both hold.
    assert house.find(mine) == []
    house.lift()
    assert house.find(mine) == ["Mon 08:00", "Mon 08:20", "Mon 08:40", "Mon 15:00"]
    assert (publishing.publish(house.store, mine) or 0) > 8
    assert house.slots(mine) == ["08:00", "08:20", "08:40", "15:00"]
    assert publishing.publish(house.store, mine) == 0
    assert house.find(mine, days=2) == ["Mon 08:00", "Mon 08:20", "Mon 08:40", "Mon 15:00", "Tue 15:00"]


def test_a_role_with_its_times_needs_no_more(house: House) -> None:
    mine = house.schedule(house.role)
    assert house.find(mine) == ["Mon 09:00", "Mon 09:30", "Mon 10:00", "Mon 10:30"]
    booked = house.book(mine)
    assert "slot" not in booked
    assert house.find(mine) == ["Mon 09:30", "Mon 10:00", "Mon 10:30"]
    # Whoever has just made it may be about to write Slots.
    assert publishing.publish(house.store, mine, at_once=True) is None
    publishing.publish(house.store, mine)
    assert (house.slots(mine), house.slots(mine, "busy")) == (["09:30", "10:00", "10:30"], ["09:00"])
    assert house.find(mine, MONDAY + timedelta(days=84)) == ["Mon 09:00", "Mon 09:30", "Mon 10:00", "Mon 10:30"]


def test_the_worker_comes_back_to_a_schedule_that_leaves_its_slots_to_a_role(house: House) -> None:
    app = Celery("tests", set_as_current=False)
    # What is to be done in a quarter of a minute is done at once.
    app.conf.task_always_eager = True
    define_scheduling(app, house.store)
    mine = house.schedule(house.role)
    app.tasks["scheduling.publish"].delay(mine)
    assert house.slots(mine) == ["09:00", "09:30", "10:00", "10:30"]


def test_slots_by_hand_are_all_there_is_unless_the_schedule_has_parameters(house: House) -> None:
    mine = house.schedule(house.role)
    publishing.publish(house.store, mine)
    by_hand = {"start": (MONDAY + timedelta(hours=10)).isoformat(), "end": (MONDAY + timedelta(hours=10.75)).isoformat()}
    house.fhir.post("Slot", {"resourceType": "Slot", "schedule": {"reference": f"Schedule/{mine}"}, "status": "free", **by_hand})
    publishing.publish(house.store, mine)
    assert house.find(mine) == ["Mon 10:00"]
    house.fhir.put(f"Schedule/{mine}", {**house.fhir.get(f"Schedule/{mine}"), "extension": rules(duration=60)})
    publishing.publish(house.store, mine, at_once=True)
    assert house.find(mine) == ["Mon 09:00", "Mon 10:00"]


def test_other_rules_replace_what_is_free_and_tell_who_is_affected(house: House) -> None:
    mine = house.schedule(house.role)
    publishing.publish(house.store, mine)
    early, late = house.book(mine), house.book(mine, 1)
    hours = [{"daysOfWeek": ["mon"], "availableStartTime": "10:00:00", "availableEndTime": "12:00:00"}]
    house.fhir.put(house.role, {**house.fhir.get(house.role), "availableTime": hours})
    publishing.publish(house.store, mine)
    assert (house.slots(mine), house.slots(mine, "busy")) == (["10:30", "11:00", "11:30"], ["09:00", "10:00"])
    assert house.fhir.get(f"Appointment/{early['id']}") == early
    assert [(each.appointment, each.schedule) for each in publishing.affected(house.store, mine)] == [(early["id"], mine)]
    leave = {"description": "Away", "during": {"start": MONDAY.date().isoformat(), "end": MONDAY.date().isoformat()}}
    house.fhir.put(house.role, {**house.fhir.get(house.role), "notAvailable": [leave]})
    publishing.publish(house.store, mine)
    assert house.slots(mine) == []
    assert [each.appointment for each in publishing.affected(house.store) if each.schedule == mine] == [early["id"], late["id"]]


def test_sessions_buffers_and_closed_times(house: House) -> None:
    evening = {"valuePeriod": {"start": (MONDAY + timedelta(hours=18)).isoformat(), "end": (MONDAY + timedelta(hours=19)).isoformat()}}
    closed = {"valuePeriod": {"start": (MONDAY + timedelta(hours=9)).isoformat(), "end": (MONDAY + timedelta(hours=9.5)).isoformat()}}
    mine = house.schedule(house.role, extension=rules(duration=25, bufferAfter=5, interval=30, session=[evening], closed=[closed]))
    assert house.find(mine) == ["Mon 09:30", "Mon 10:00", "Mon 10:30", "Mon 18:00", "Mon 18:30"]


def test_services_are_open_when_they_say_so(house: House) -> None:
    hours = [{"daysOfWeek": ["mon"], "availableStartTime": "10:00:00", "availableEndTime": "18:00:00"}]
    service = house.fhir.post("HealthcareService", {"resourceType": "HealthcareService", "availableTime": hours})
    mine = house.schedule(house.role, f"HealthcareService/{service['id']}")
    assert house.find(mine) == ["Mon 10:00", "Mon 10:30"]


def test_holidays_and_days_of_the_clinics_own_are_free(house: House) -> None:
    mine = house.schedule(house.role)
    with house.store.database.connection() as connection, connection.transaction():
        policies.decide(connection, None, {"closed": [MONDAY.date().isoformat()], "country": "DE"})
    try:
        assert house.find(mine) == []
        christmas = datetime(MONDAY.year, 12, 25, tzinfo=BERLIN)
        everyday = house.schedule(extension=rules(availableTime=[weekly("09:00:00", "10:00:00")]))
        house.lift()
        if christmas > MONDAY:
            assert house.find(everyday, christmas) == []
        assert len(house.find(everyday, MONDAY + timedelta(days=1))) == 2
    finally:
        with house.store.database.connection() as connection:
            connection.execute("DELETE FROM scheduling_setting WHERE name = 'practice'")


def test_the_zone_may_be_the_schedules_own(house: House) -> None:
    mine = house.schedule(house.role, extension=rules(timezone="America/New_York", duration=60))
    found = house.find(mine, days=2)
    assert len(found) == 2
    assert {text[4:6] for text in found} <= {"14", "15", "16"}


def test_an_inactive_role_or_schedule_offers_nothing(house: House) -> None:
    mine = house.schedule(house.role)
    publishing.publish(house.store, mine)
    house.fhir.put(house.role, {**house.fhir.get(house.role), "active": False})
    publishing.publish(house.store, mine)
    assert (house.slots(mine), house.find(mine)) == ([], [])


def test_who_hears_of_what(house: House) -> None:
    mine = house.schedule(house.role)
    assert mine in publishing.ruled(house.store)
    with house.store.database.connection() as connection:
        change = Change(1, "PractitionerRole", house.role.split("/")[1], 1, "update", datetime.now(UTC), "x", None)
        assert publishing.concerned(connection, [change]) == {mine}


def test_holds_expire_and_no_shows_are_noted_by_the_clock(house: House, practice: Practice) -> None:
    offer = practice.free()[0]
    held = practice.staff.post("Appointment/$hold", parameters(appointment=offer))
    url = f"{CANON}/StructureDefinition/hold-expires"
    upkeep.expire_holds(house.store)
    assert house.fhir.get(f"Appointment/{held['id']}")["status"] == "pending"
    house.fhir.put(f"Appointment/{held['id']}", {**held, "extension": [{"url": url, "valueInstant": "2020-01-01T00:00:00Z"}]})
    assert upkeep.expire_holds(house.store) == 1
    assert upkeep.expire_holds(house.store) == 0
    assert house.fhir.get(f"Appointment/{held['id']}")["status"] == "cancelled"
    assert practice.status(practice.slots[0]) == "free"
    now = datetime.now(UTC).replace(microsecond=0)
    times = {"start": (now - timedelta(hours=2)).isoformat(), "end": (now - timedelta(hours=1)).isoformat()}
    people = [{"actor": {"reference": practice.doctor}, "status": "accepted"}]
    late = house.fhir.post("Appointment", {"resourceType": "Appointment", "status": "booked", "participant": people, **times})
    assert upkeep.note_no_shows(house.store) == 0
    with house.store.database.connection() as connection:
        policies.decide(connection, None, {"no_show_minutes": 90})
    try:
        assert upkeep.note_no_shows(house.store) >= 1
    finally:
        with house.store.database.connection() as connection:
            connection.execute("DELETE FROM scheduling_setting WHERE name = 'practice'")
    assert house.fhir.get(f"Appointment/{late['id']}")["status"] == "noshow"
