"""Where the demo clinic is and who works there: an organization, two locations with rooms, six doctors with the hours in which they see people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from fhir_server import iban
from fhir_server.settings import CANON

Json = dict[str, Any]
ORGANIZATION: Final = "Organization/demo-clinic"
_THO: Final = "http://terminology.hl7.org/CodeSystem"
_PARAMETERS: Final = f"{CANON}/StructureDefinition/scheduling-parameters"
_WORKDAYS: Final = ("mon", "tue", "wed", "thu", "fri")


@dataclass(frozen=True, slots=True)
class Doctor:
    """A doctor, by the number in their ids; `minutes` is how long a visit takes, `sessions` are the hours of the clinic's days."""

    id: str
    family: str
    given: str
    gender: str
    specialty: str
    location: str
    minutes: int
    sessions: tuple[tuple[str, str], ...]
    days: tuple[str, ...] = _WORKDAYS


_MORNING, _AFTERNOON = ("08:30:00", "12:30:00"), ("13:30:00", "17:30:00")
DOCTORS: Final = (
    Doctor("demo-doctor", "Adeyemi", "Ifeoma", "female", "General practice", "demo-location", 20, (_MORNING, _AFTERNOON)),
    Doctor("demo-doctor-2", "Lindgren", "Axel", "male", "General practice", "demo-location", 20, (_MORNING, _AFTERNOON)),
    Doctor("demo-doctor-3", "Moreau", "Camille", "female", "Internal medicine", "demo-location", 30, (_MORNING, ("14:00:00", "18:00:00"))),
    Doctor("demo-doctor-4", "Nakagawa", "Ren", "male", "Paediatrics", "demo-location", 15, (_MORNING,)),
    Doctor("demo-doctor-5", "Okonkwo", "Chidi", "male", "General practice", "demo-harbour", 20, (_MORNING, _AFTERNOON)),
    Doctor("demo-doctor-6", "Petersen", "Line", "female", "Gynaecology", "demo-harbour", 30, (_AFTERNOON,), ("mon", "tue", "thu", "fri")),
)
LOCATIONS: Final = (("demo-location", "Consulting rooms", "12 Garden Street"), ("demo-harbour", "Harbour branch", "3 Harbour Road"))
_ROOMS: Final = (("demo-location", 4), ("demo-harbour", 2))


def places() -> list[Json]:
    """All of it, as resources in an order in which each refers to those before it."""
    tax = {"type": {"coding": [{"system": f"{_THO}/v2-0203", "code": "TAX"}]}, "value": "00 000 00000"}
    organization = {
        "resourceType": "Organization",
        "id": "demo-clinic",
        # Of no bank that there is.
        "identifier": [tax, {"system": iban.SYSTEM, "value": "DE79 0000 0000 1234 5678 90"}],
        "active": True,
        "name": "Demo Clinic",
        "telecom": [{"system": "phone", "value": "+12025550100"}, {"system": "email", "value": "desk@demo.example"}],
        "address": [{"line": ["12 Garden Street"], "city": "Portwell"}],
    }
    return [organization, *_locations(), *(resource for doctor in DOCTORS for resource in _doctor(doctor))]


def _locations() -> list[Json]:
    made: list[Json] = []
    for identity, name, street in LOCATIONS:
        made.append(
            {
                "resourceType": "Location",
                "id": identity,
                "status": "active",
                "name": name,
                "mode": "instance",
                "address": {"line": [street], "city": "Portwell"},
                "managingOrganization": {"reference": ORGANIZATION},
            }
        )
    return made + [_room(identity, number) for identity, count in _ROOMS for number in range(1, count + 1)]


def _room(location: str, number: int) -> Json:
    return {
        "resourceType": "Location",
        "id": f"{location}-room-{number}",
        "status": "active",
        "name": f"Room {number}",
        "mode": "instance",
        "physicalType": {"coding": [{"system": f"{_THO}/location-physical-type", "code": "ro"}]},
        "managingOrganization": {"reference": ORGANIZATION},
        "partOf": {"reference": f"Location/{location}"},
    }


def _doctor(doctor: Doctor) -> list[Json]:
    practitioner = {
        "resourceType": "Practitioner",
        "id": doctor.id,
        "active": True,
        "name": [{"family": doctor.family, "given": [doctor.given], "prefix": ["Dr."]}],
        "gender": doctor.gender,
        "qualification": [{"identifier": [{"value": f"DEMO-{DOCTORS.index(doctor) + 1:04}"}], "code": {"text": doctor.specialty}}],
    }
    role = {
        "resourceType": "PractitionerRole",
        "id": doctor.id,
        "active": True,
        "practitioner": {"reference": f"Practitioner/{doctor.id}"},
        "organization": {"reference": ORGANIZATION},
        "location": [{"reference": f"Location/{doctor.location}"}],
        "code": [{"coding": [{"system": f"{_THO}/practitioner-role", "code": "doctor"}]}],
        "specialty": [{"text": doctor.specialty}],
        "availableTime": [{"daysOfWeek": list(doctor.days), "availableStartTime": start, "availableEndTime": end} for start, end in doctor.sessions],
    }
    schedule = {
        "resourceType": "Schedule",
        "id": doctor.id,
        "extension": [{"url": _PARAMETERS, "extension": [{"url": "duration", "valuePositiveInt": doctor.minutes}]}],
        "active": True,
        "serviceType": [{"text": doctor.specialty}],
        "actor": [{"reference": f"PractitionerRole/{doctor.id}"}, {"reference": f"Location/{doctor.location}"}],
    }
    return [practitioner, role, schedule]
