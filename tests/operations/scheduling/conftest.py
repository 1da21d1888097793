"""A practice with doctors whose days are cut into Slots, and its callers."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fhir_server.access import issue
from tests.interactions.conftest import SECRET, Fhir, MakeFhir, make_fhir

__all__ = ["make_fhir"]

Json = dict[str, Any]
DAY = datetime(2031, 3, 3, 8, tzinfo=UTC)


def at(minutes: float) -> str:
    """A time so many minutes after the day has begun, as the server writes it."""
    return (DAY + timedelta(minutes=minutes, hours=1)).isoformat().replace("+00:00", "+01:00")


def parameters(**given: Any) -> Json:
    """A Parameters resource: resources, references of texts with a slash, and simple values."""
    listed: list[Json] = []
    for name, value in given.items():
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, dict):
                listed.append({"name": name.replace("_", "-"), "resource": each})
            elif isinstance(each, bool):
                listed.append({"name": name, "valueBoolean": each})
            elif isinstance(each, int):
                listed.append({"name": name, "valueInteger": each})
            elif "/" in each:
                listed.append({"name": name, "valueReference": {"reference": each}})
            else:
                listed.append({"name": name, "valueDateTime" if each[:2] == "20" else "valueString": each})
    return {"resourceType": "Parameters"} | ({"parameter": listed} if listed else {})


@dataclass
class Practice:
    """One doctor's practice. `staff` asks; the others are made of it."""

    staff: Fhir
    doctor: str
    schedule: str
    slots: list[str] = field(default_factory=list)

    def patient(self) -> str:
        """A new patient's reference."""
        return f"Patient/{self.system.post('Patient', {'resourceType': 'Patient'})['id']}"

    @property
    def system(self) -> Fhir:
        return self.staff.other()

    def as_patient(self, patient: str) -> Fhir:
        return as_role(self.staff, "patient", patient=patient.split("/")[1])

    def as_doctor(self, practitioner: str | None = None) -> Fhir:
        return as_role(self.staff, "doctor", fhir_user=practitioner or self.doctor)

    def free(self, fhir: Fhir | None = None, **query: Any) -> list[Json]:
        """What $find offers in the doctor's day."""
        asked = {"schedule": self.schedule, "start": at(0).replace("+", "%2B"), "end": at(24 * 60).replace("+", "%2B"), **query}
        found = (fhir or self.staff).get("Appointment/$find?" + "&".join(f"{name}={value}" for name, value in asked.items() if value is not None))
        return [entry["resource"] for entry in found.get("entry", [])]

    def starts(self, **query: Any) -> list[str]:
        return [each["start"] for each in self.free(**query)]

    def book(self, offer: Json | None = None, patient: str | None = None, status: int = 201, **given: Any) -> Json:
        body = parameters(appointment=offer or self.free()[0], patient=patient or self.patient(), **given)
        answer: Json = self.staff.post("Appointment/$book", body, status)
        return answer

    def status(self, slot: str) -> str:
        return str(self.system.get(slot)["status"])


def as_role(fhir: Fhir, role: Any, **claims: Any) -> Fhir:
    named = {"user": claims.pop("user", f"{role}-{uuid.uuid4().hex[:8]}"), "patient": None, "scope": None, **claims}
    return replace(fhir, token=issue(SECRET, role=role, ttl=3600, now=time.time(), **named))


@pytest.fixture(scope="session")
def house(make_fhir: MakeFhir, database_url: str) -> Fhir:
    """The application; asked by staff."""
    return as_role(make_fhir(database_url), "staff", user="staff")


MakePractice = Callable[..., Practice]


@pytest.fixture
def make_practice(house: Fhir) -> MakePractice:
    """Practices with some Slots of one length behind each other."""

    def make(slots: int = 4, minutes: int = 30, **schedule: Any) -> Practice:
        system = house.other()
        doctor = f"Practitioner/{system.post('Practitioner', {'resourceType': 'Practitioner'})['id']}"
        mine = system.post("Schedule", {"resourceType": "Schedule", "actor": [{"reference": doctor}], **schedule})
        practice = Practice(house, doctor, f"Schedule/{mine['id']}")
        for number in range(slots):
            times = {"start": at(number * minutes), "end": at((number + 1) * minutes)}
            made = system.post("Slot", {"resourceType": "Slot", "schedule": {"reference": practice.schedule}, "status": "free", **times})
            practice.slots.append(f"Slot/{made['id']}")
        return practice

    return make


@pytest.fixture
def practice(make_practice: MakePractice) -> Practice:
    return make_practice()
