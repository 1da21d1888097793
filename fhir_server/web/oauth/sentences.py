"""What scopes mean, in plain words, for the person who is asked."""

from __future__ import annotations

import re
from typing import Final

from fhir_server.access.apps.words import read_word

PLAIN: Final = {
    "openid": "Know that it is you",
    "fhirUser": "Know which record or staff entry is yours",
    "profile": "Know your sign-in name",
    "launch": "Know for which patient it was opened",
    "launch/patient": "Know whose record it is opened for",
    "launch/encounter": "Know for which visit it was opened",
    "offline_access": "Keep this access when you are not here, until you end it (90 days at the most)",
    "online_access": "Keep this access for as long as you are signed in",
}

# What people call what is kept about them. Other types are called by their names in FHIR.
KINDS: Final = {
    "*": "everything",
    "Account": "bills",
    "AllergyIntolerance": "allergies",
    "Appointment": "appointments",
    "Binary": "the files of documents and reports",
    "CarePlan": "care plans",
    "CareTeam": "the care team",
    "ChargeItem": "charges",
    "Condition": "diagnoses and problems",
    "Consent": "consents",
    "Coverage": "insurance",
    "Device": "devices and implants",
    "DiagnosticReport": "reports of examinations",
    "DocumentReference": "documents",
    "Encounter": "visits",
    "FamilyMemberHistory": "illnesses in the family",
    "Goal": "goals of treatment",
    "Immunization": "vaccinations",
    "Invoice": "invoices",
    "Location": "places of the clinic",
    "Media": "pictures and recordings",
    "MedicationRequest": "prescriptions",
    "MedicationStatement": "medicines taken",
    "Observation": "results, measurements and vital signs",
    "Organization": "organizations",
    "Patient": "name, birth date, address and other personal data",
    "Practitioner": "doctors and staff",
    "Procedure": "treatments and operations",
    "QuestionnaireResponse": "answers to questionnaires",
    "RelatedPerson": "relatives",
    "Schedule": "schedules",
    "ServiceRequest": "orders and referrals",
    "Slot": "free times",
    "Task": "tasks",
}

_VERBS: Final = (("rs", "see"), ("c", "add"), ("u", "change"), ("d", "delete"))
_HUMPS: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")
_LONGEST: Final = 120


def sentence_of(scope: str) -> str:
    """What a scope lets an app do: `See results, measurements and vital signs in this record`."""
    word = read_word(scope)
    if word is None:
        return PLAIN[scope]
    verbs = [verb for letters, verb in _VERBS if word.permissions & set(letters)]
    text = verbs[0] if len(verbs) == 1 else f"{', '.join(verbs[:-1])} and {verbs[-1]}"
    kind = KINDS.get(word.type) or _HUMPS.sub(" ", word.type)
    where = "in this record" if word.level == "patient" else "of all that you may see yourself"
    narrowed = f", but only where {_shown(word.query)}" if word.query else ""
    return f"{text[0].upper()}{text[1:]} {kind} {where}{narrowed}"


def _shown(query: str) -> str:
    parts = [part.partition("=") for part in query.split("&")]
    told = " and ".join(f"{name} is {value.rpartition('|')[2].replace('-', ' ')}" for name, _, value in parts)
    return told if len(told) <= _LONGEST else f"{told[:_LONGEST]}…"
