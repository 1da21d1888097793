"""A small clinic whose changes are told to others."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from fhir_server import fhirjson
from fhir_server.hl7v2.outbound.peers import Peer
from fhir_server.store.ops import Version

Json = dict[str, Any]

NOW = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
LOINC = "http://loinc.org"
UCUM = "http://unitsofmeasure.org"

PATIENT: Json = {
    "resourceType": "Patient",
    "id": "p1",
    "identifier": [
        {
            "system": "urn:oid:1.2.36.146.595.217.0.1",
            "value": "12345",
            "type": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "MR"}]},
        },
        {"system": "https://hillside.example.org/patients", "value": "A|7"},
    ],
    "name": [{"use": "official", "family": "O'Neill^Okafor", "given": ["Chidi", "Ada"], "prefix": ["Dr."]}],
    "birthDate": "1990-05-17",
    "gender": "female",
    "telecom": [
        {"system": "phone", "value": "+49 30 1234", "use": "home"},
        {"system": "email", "value": "c@example.org", "use": "work"},
        {"system": "phone", "value": "+49 170 99", "use": "mobile"},
    ],
    "address": [{"use": "home", "line": ["12 Hill & Dale", "2nd floor"], "city": "Berlin", "postalCode": "10115", "country": "DE"}],
    "maritalStatus": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-MaritalStatus", "code": "M", "display": "Married"}]},
}
PRACTITIONER: Json = {
    "resourceType": "Practitioner",
    "id": "d1",
    "identifier": [{"system": "http://hl7.org/fhir/sid/us-npi", "value": "9941339108"}],
    "name": [{"family": "Lindqvist", "given": ["Maja"]}],
}
LOCATION: Json = {"resourceType": "Location", "id": "l1", "name": "Room 4"}
APPOINTMENT: Json = {
    "resourceType": "Appointment",
    "id": "a1",
    "status": "booked",
    "start": "2026-03-02T08:00:00Z",
    "end": "2026-03-02T08:20:00Z",
    "minutesDuration": 20,
    "comment": "Bring the letter.\nFasting.",
    "serviceType": [{"coding": [{"system": "http://snomed.info/sct", "code": "394814009", "display": "General practice"}]}],
    "appointmentType": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0276", "code": "ROUTINE"}]},
    "reasonCode": [{"text": "Cough"}],
    "participant": [
        {"actor": {"reference": "Patient/p1"}, "status": "accepted"},
        {"actor": {"reference": "Practitioner/d1"}, "status": "accepted"},
        {"actor": {"reference": "Location/l1"}, "status": "accepted"},
    ],
}
ORDER: Json = {
    "resourceType": "ServiceRequest",
    "id": "s1",
    "identifier": [
        {
            "value": "ORD-1",
            "system": "urn:oid:1.2.3",
            "type": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "PLAC"}]},
        }
    ],
    "status": "active",
    "intent": "order",
    "priority": "stat",
    "category": [{"coding": [{"system": "http://snomed.info/sct", "code": "108252007"}]}],
    "code": {"coding": [{"system": LOINC, "code": "58410-2", "display": "CBC panel"}], "text": "Blood count"},
    "subject": {"reference": "Patient/p1"},
    "requester": {"reference": "Practitioner/d1"},
    "authoredOn": "2026-03-01T10:00:00+01:00",
    "reasonCode": [{"text": "Fatigue"}],
    "note": [{"text": "Call the ward"}],
    "specimen": [{"reference": "Specimen/x1"}],
}
SPECIMEN: Json = {
    "resourceType": "Specimen",
    "id": "x1",
    "type": {"coding": [{"system": "http://snomed.info/sct", "code": "119297000", "display": "Blood"}]},
    "subject": {"reference": "Patient/p1"},
    "collection": {"collectedDateTime": "2026-03-01T09:50:00+01:00"},
}


def observation(identity: str, **fields: Any) -> Json:
    return {
        "resourceType": "Observation",
        "id": identity,
        "status": "final",
        "code": {"coding": [{"system": LOINC, "code": "718-7", "display": "Hemoglobin"}]},
        "subject": {"reference": "Patient/p1"},
        "effectiveDateTime": "2026-03-01T09:50:00+01:00",
        **fields,
    }


OBSERVATIONS = [
    observation(
        "o1",
        valueQuantity={"value": fhirjson.loads(b"13.50"), "unit": "g/dL", "system": UCUM, "code": "g/dL"},
        referenceRange=[{"low": {"value": 12, "unit": "g/dL"}, "high": {"value": 16, "unit": "g/dL"}}],
        interpretation=[{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation", "code": "N"}]}],
        performer=[{"reference": "Practitioner/d1"}],
        note=[{"text": "repeated\nby hand"}],
    ),
    observation("o2", valueQuantity={"value": 5, "comparator": "<", "unit": "mg/L", "system": UCUM, "code": "mg/L"}),
    observation(
        "o3", valueCodeableConcept={"coding": [{"system": "http://snomed.info/sct", "code": "260385009", "display": "Negative"}], "text": "negative"}
    ),
    observation("o4", valueString="one | two ^ three & four ~ five \\ six"),
    observation("o5", valueString="first line\nsecond line", status="corrected"),
    observation("o6", valueBoolean=True),
    observation("o7", valueDateTime="2026-02-28"),
    observation("o8", valueRange={"low": {"value": 2, "unit": "mm"}, "high": {"value": 5, "unit": "mm"}}),
    observation("o9", valueRatio={"numerator": {"value": 1}, "denominator": {"value": 128}}),
    observation(
        "o10",
        component=[
            {"code": {"coding": [{"system": LOINC, "code": "8480-6"}]}, "valueQuantity": {"value": 120, "unit": "mmHg"}},
            {"code": {"coding": [{"system": LOINC, "code": "8462-4"}]}, "valueQuantity": {"value": 80, "unit": "mmHg"}},
        ],
    ),
    observation("o11", hasMember=[{"reference": "Observation/o12"}]),
    observation("o12", valueInteger=7),
    observation("o13", valueTime="10:30:00"),
]
REPORT: Json = {
    "resourceType": "DiagnosticReport",
    "id": "r1",
    "identifier": [{"value": "LAB-9", "type": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "FILL"}]}}],
    "status": "final",
    "basedOn": [{"reference": "ServiceRequest/s1"}],
    "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0074", "code": "HM"}]}],
    "code": {"coding": [{"system": LOINC, "code": "58410-2", "display": "CBC panel"}]},
    "subject": {"reference": "Patient/p1"},
    "effectiveDateTime": "2026-03-01T09:50:00+01:00",
    "issued": "2026-03-01T11:00:00.500+01:00",
    "resultsInterpreter": [{"reference": "Practitioner/d1"}],
    "specimen": [{"reference": "Specimen/x1"}],
    "result": [{"reference": f"Observation/{each['id']}"} for each in OBSERVATIONS if each["id"] != "o12"],
    "conclusion": "Nothing to worry about",
    "presentedForm": [{"contentType": "application/pdf", "data": "JVBERi0xLjQK"}],
}
ALL = [PATIENT, PRACTITIONER, LOCATION, APPOINTMENT, ORDER, SPECIMEN, *OBSERVATIONS, REPORT]


def read(references: Sequence[tuple[str, str]]) -> list[Version]:
    """The resources of this clinic, as a snapshot reads them."""
    known = {(each["resourceType"], each["id"]): each for each in ALL}
    return [Version(*key, 1, NOW, "PUT", fhirjson.dumps(known[key])) for key in references if key in known]


def peer(**fields: Any) -> Peer:
    given: Json = {
        "id": "peer1",
        "name": "Laboratory",
        "host": "127.0.0.1",
        "port": 2575,
        "application": "LAB",
        "facility": "HILL",
        "events": ("S12", "S13", "S14", "S15", "S17", "S26", "A28", "A31", "A40", "O21", "R01"),
        "created": NOW,
        "created_by": "tests",
        "disabled": None,
        "failures": 0,
        "fault": None,
        "due": None,
    }
    return Peer(**given | fields)
