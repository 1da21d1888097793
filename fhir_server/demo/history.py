"""A month of visits before today: who came, what was found, measured, prescribed and sent to the laboratory, and who did not come."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from random import Random
from typing import Any, Final
from zoneinfo import ZoneInfo

from fhir_server.settings import CANON

from .places import DOCTORS, Doctor
from .stories import STORIES, Story, condition_code, result, vital_signs

Json = dict[str, Any]
DAYS: Final = 30
_VISITS_A_DAY: Final = 3
_THO: Final = "http://terminology.hl7.org/CodeSystem"
_AMBULATORY: Final = {"system": f"{_THO}/v3-ActCode", "code": "AMB", "display": "ambulatory"}
_ACTIVE: Final = {"coding": [{"system": f"{_THO}/condition-clinical", "code": "active"}]}
_CONFIRMED: Final = {"coding": [{"system": f"{_THO}/condition-ver-status", "code": "confirmed"}]}
_ALLERGIES: Final = ("Penicillin", "Ibuprofen", "Latex", "Peanut", "House dust mite")


@dataclass(frozen=True, slots=True)
class Person:
    """A patient with the one reason for which they come."""

    id: str
    story: Story

    @property
    def reference(self) -> Json:
        """To their Patient."""
        return {"reference": f"Patient/{self.id}"}


@dataclass(frozen=True, slots=True)
class Visit:
    """A time that somebody has or had with a doctor, by a name that its resources have as their id; `first` where they come for it the first time."""

    name: str
    person: Person
    doctor: Doctor
    start: datetime
    first: bool

    @property
    def fate(self) -> str:
        """The status that the Appointment has in the end."""
        chance = Random(self.name).random()  # noqa: S311 - people who are made up
        return "noshow" if chance < 0.06 else "cancelled" if chance < 0.11 else "fulfilled"  # noqa: PLR2004 - about as many as anywhere

    @property
    def end(self) -> datetime:
        """When the next one begins."""
        return self.start + timedelta(minutes=self.doctor.minutes)


def persons(patients: Sequence[Json]) -> list[Person]:
    """What each of the patients comes for."""
    chance = Random(1858)  # noqa: S311 - people who are made up
    weights = [story.weight for story in STORIES]
    return [Person(patient["id"], chance.choices(STORIES, weights)[0]) for patient in patients]


def allergies(everybody: Sequence[Person]) -> Iterator[Json]:
    """Those that some of them have."""
    chance = Random(1868)  # noqa: S311 - people who are made up
    clinical = {"coding": [{"system": f"{_THO}/allergyintolerance-clinical", "code": "active"}]}
    for person in everybody:
        if chance.random() < 0.12:  # noqa: PLR2004 - about as many as have one
            yield {
                "resourceType": "AllergyIntolerance",
                "id": f"{person.id}-allergy",
                "clinicalStatus": clinical,
                "code": {"text": chance.choice(_ALLERGIES)},
                "patient": person.reference,
            }


def visits(everybody: Sequence[Person], today: date, zone: ZoneInfo) -> Iterator[Visit]:
    """Those of the days before `today`, in order."""
    chance = Random(1878)  # noqa: S311 - people who are made up
    seen: set[str] = set()
    for day in (today - timedelta(days=back) for back in range(DAYS, 0, -1)):
        for doctor in DOCTORS:
            if day.strftime("%a").lower() not in doctor.days:
                continue
            for start in sorted(chance.sample(starts(doctor, day, zone), _VISITS_A_DAY)):
                person = chance.choice(everybody)
                visit = Visit(f"demo-v-{day:%m%d}-{doctor.id[5:]}-{start.astimezone(zone):%H%M}", person, doctor, start, person.id not in seen)
                yield visit
                if visit.fate == "fulfilled":
                    seen.add(person.id)


def starts(doctor: Doctor, day: date, zone: ZoneInfo) -> list[datetime]:
    """When visits to a doctor may begin on a day."""
    found: list[datetime] = []
    for opens, closes in doctor.sessions:
        at, end = (datetime.combine(day, time.fromisoformat(text), zone) for text in (opens, closes))
        while at + timedelta(minutes=doctor.minutes) <= end:
            found.append(at)
            at += timedelta(minutes=doctor.minutes)
    return found


def resources(visit: Visit, results: str = "final") -> Iterator[Json]:
    """All that is known of a visit that is over, the Appointment first; `results` is the status of what was sent to the laboratory."""
    made = appointment(visit, visit.fate)
    if visit.fate == "cancelled":
        made["cancelationReason"] = {"coding": [{"system": f"{_THO}/appointment-cancellation-reason", "code": "pat"}]}
    yield made
    if visit.fate == "fulfilled":
        yield from _seen(visit, Random(f"{visit.name} seen"), results)  # noqa: S311 - people who are made up


def appointment(visit: Visit, status: str) -> Json:
    """The Appointment of a visit."""
    return {
        "resourceType": "Appointment",
        "id": visit.name,
        "status": status,
        "appointmentType": {"coding": [{"system": f"{_THO}/v2-0276", "code": "ROUTINE" if visit.first else "FOLLOWUP"}]},
        "reasonCode": [{"text": visit.person.story.reason}],
        "start": visit.start.isoformat(),
        "end": visit.end.isoformat(),
        "participant": [
            {"actor": visit.person.reference, "status": "accepted"},
            {"actor": {"reference": f"PractitionerRole/{visit.doctor.id}"}, "status": "accepted"},
            {"actor": {"reference": f"Location/{visit.doctor.location}"}, "status": "accepted"},
        ],
    }


def _seen(visit: Visit, chance: Random, results: str) -> Iterator[Json]:
    story, subject = visit.person.story, visit.person.reference
    arrived = visit.start - timedelta(minutes=chance.randint(2, 25))
    begun = visit.start + timedelta(minutes=chance.randint(0, 12))
    over = begun + timedelta(minutes=max(6, round(chance.gauss(visit.doctor.minutes * 0.8, 4))))
    encounter = {"reference": f"Encounter/{visit.name}"}
    by = {"reference": f"Practitioner/{visit.doctor.id}"}
    yield {
        "resourceType": "Encounter",
        "id": visit.name,
        "extension": [_zone("regular" if visit.first else "follow-up", arrived)],
        "status": "finished",
        "statusHistory": [_state("arrived", arrived, begun), _state("in-progress", begun, over)],
        "class": _AMBULATORY,
        "subject": subject,
        "participant": [{"individual": by}],
        "appointment": [{"reference": f"Appointment/{visit.name}"}],
        "period": {"start": begun.isoformat(), "end": over.isoformat()},
        "reasonCode": [{"text": story.reason}],
        "diagnosis": [{"condition": {"reference": f"Condition/{visit.person.id}-condition"}}],
        "location": [{"location": {"reference": f"Location/{visit.doctor.location}"}}],
        "serviceProvider": {"reference": "Organization/demo-clinic"},
    }
    if visit.first:
        yield {
            "resourceType": "Condition",
            "id": f"{visit.person.id}-condition",
            "clinicalStatus": _ACTIVE,
            "verificationStatus": _CONFIRMED,
            "category": [{"coding": [{"system": f"{_THO}/condition-category", "code": "encounter-diagnosis"}]}],
            "code": condition_code(story),
            "subject": subject,
            "encounter": encounter,
            "recordedDate": begun.isoformat(),
        }
    for number, sign in enumerate(vital_signs(story, chance), 1):
        yield _observation(f"{visit.name}-s{number}", sign, subject, encounter, begun)
    if story.medicine and visit.first:
        yield {
            "resourceType": "MedicationRequest",
            "id": f"{visit.name}-rx",
            "status": "active" if story.again else "completed",
            "intent": "order",
            "medicationCodeableConcept": {"text": story.medicine},
            "subject": subject,
            "encounter": encounter,
            "authoredOn": over.isoformat(),
            "requester": by,
            "groupIdentifier": {"system": f"{CANON}/sid/prescription", "value": f"R-{visit.name[5:]}"},
            "dosageInstruction": [{"text": story.dosage}],
        }
    if story.tests:
        yield from _laboratory(visit, over, chance, results)


def _laboratory(visit: Visit, ordered: datetime, chance: Random, status: str) -> Iterator[Json]:
    """An order to the laboratory and, unless the `status` is `registered`, what came of it the next morning."""
    story, subject, encounter = visit.person.story, visit.person.reference, {"reference": f"Encounter/{visit.name}"}
    order = {"reference": f"ServiceRequest/{visit.name}-lab"}
    code = {"text": f"Blood tests: {', '.join(test.name for test in story.tests)}"}
    yield {
        "resourceType": "ServiceRequest",
        "id": f"{visit.name}-lab",
        "status": "completed" if status == "final" else "active",
        "intent": "order",
        "category": [{"text": "Laboratory"}],
        "code": code,
        "subject": subject,
        "encounter": encounter,
        "authoredOn": ordered.isoformat(),
        "requester": {"reference": f"Practitioner/{visit.doctor.id}"},
    }
    if status == "registered":
        return
    issued = ordered + timedelta(hours=chance.randint(3, 20))
    for number, test in enumerate(story.tests, 1):
        measured = _observation(f"{visit.name}-r{number}", result(test, chance), subject, encounter, ordered)
        yield measured | {"status": status, "basedOn": [order], "issued": issued.isoformat()}
    yield {
        "resourceType": "DiagnosticReport",
        "id": f"{visit.name}-report",
        "basedOn": [order],
        "status": status,
        "category": [{"coding": [{"system": f"{_THO}/v2-0074", "code": "LAB"}]}],
        "code": code,
        "subject": subject,
        "encounter": encounter,
        "effectiveDateTime": ordered.isoformat(),
        "issued": issued.isoformat(),
        "result": [{"reference": f"Observation/{visit.name}-r{number}"} for number in range(1, len(story.tests) + 1)],
    }


def _observation(identity: str, measured: Json, subject: Json, encounter: Json, at: datetime) -> Json:
    front = {"resourceType": "Observation", "id": identity, "status": "final"}
    return front | measured | {"subject": subject, "encounter": encounter, "effectiveDateTime": at.isoformat()}


def _state(status: str, start: datetime, end: datetime) -> Json:
    return {"status": status, "period": {"start": start.isoformat(), "end": end.isoformat()}}


def _zone(code: str, at: datetime) -> Json:
    zone = {"coding": [{"system": f"{CANON}/CodeSystem/queue-zone", "code": code}]}
    parts = [
        {"url": "zone", "valueCodeableConcept": zone},
        {"url": "assignedAt", "valueInstant": at.isoformat()},
        {"url": "basis", "valueCode": "auto"},
    ]
    return {"url": f"{CANON}/StructureDefinition/queue-priority", "extension": parts}
