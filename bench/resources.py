"""Resources that the workloads write: small ones of nine types, as a clinic has them."""

from __future__ import annotations

import random
from typing import Any

LOINC = "http://loinc.org"


def patient(number: int) -> dict[str, Any]:
    """A patient with two names, an identifier and an address."""
    chance = random.Random(number)
    return {
        "resourceType": "Patient",
        "identifier": [{"system": "https://clinic.example.org/mrn", "value": f"MRN{number:08d}"}],
        "name": [{"family": f"Family{chance.randrange(5000)}", "given": [f"Given{chance.randrange(2000)}", "Q."]}],
        "telecom": [{"system": "phone", "value": f"+49 30 {chance.randrange(10**7):07d}"}],
        "gender": chance.choice(["male", "female"]),
        "birthDate": f"{chance.randrange(1930, 2020)}-{chance.randrange(1, 13):02d}-{chance.randrange(1, 29):02d}",
        "address": [{"line": ["Main Street 1"], "city": f"City{chance.randrange(300)}", "postalCode": f"{chance.randrange(10**5):05d}"}],
    }


def observation(number: int, subject: str) -> dict[str, Any]:
    """A blood pressure reading of a subject."""
    chance = random.Random(number)
    return {
        "resourceType": "Observation",
        "status": "final",
        "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "vital-signs"}]}],
        "code": {"coding": [{"system": LOINC, "code": "8480-6", "display": "Systolic blood pressure"}], "text": "Systolic"},
        "subject": {"reference": subject},
        "effectiveDateTime": f"20{chance.randrange(10, 26)}-{chance.randrange(1, 13):02d}-{chance.randrange(1, 29):02d}T08:30:00+01:00",
        "valueQuantity": {"value": chance.randrange(90, 180), "unit": "mmHg", "system": "http://unitsofmeasure.org", "code": "mm[Hg]"},
    }


def nine(number: int, subject: str = "Patient/none") -> list[dict[str, Any]]:
    """One resource of each of the nine types of the create, read, update, delete loop."""
    concept = {"coding": [{"system": "http://snomed.info/sct", "code": "38341003", "display": "Hypertension"}]}
    money = {"value": 72.10, "currency": "EUR"}
    coverage = [{"focal": True, "coverage": {"reference": "Coverage/1"}, "sequence": 1}]
    return [
        patient(number),
        {"resourceType": "Location", "status": "active", "name": f"Room {number}"},
        {"resourceType": "Organization", "active": True, "name": f"Clinic {number}"},
        {"resourceType": "Practitioner", "active": True, "name": [{"family": f"Doctor{number}"}], "gender": "female"},
        {
            "resourceType": "Encounter",
            "status": "in-progress",
            "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"},
            "subject": {"reference": subject},
            "period": {"start": "2026-05-04T09:00:00Z"},
        },
        observation(number, subject),
        {
            "resourceType": "MedicationRequest",
            "status": "active",
            "intent": "order",
            "medicationCodeableConcept": concept,
            "subject": {"reference": subject},
            "authoredOn": "2026-05-04",
        },
        {
            "resourceType": "Claim",
            "status": "active",
            "type": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/claim-type", "code": "professional"}]},
            "use": "claim",
            "patient": {"reference": subject},
            "created": "2026-05-04",
            "provider": {"reference": "Organization/1"},
            "priority": {"coding": [{"code": "normal"}]},
            "insurance": [{"sequence": 1, "focal": True, "coverage": {"reference": "Coverage/1"}}],
            "total": money,
        },
        {
            "resourceType": "ExplanationOfBenefit",
            "status": "active",
            "type": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/claim-type", "code": "professional"}]},
            "use": "claim",
            "patient": {"reference": subject},
            "created": "2026-05-04",
            "insurer": {"reference": "Organization/1"},
            "provider": {"reference": "Organization/1"},
            "outcome": "complete",
            "insurance": [{"focal": entry["focal"], "coverage": entry["coverage"]} for entry in coverage],
        },
    ]
