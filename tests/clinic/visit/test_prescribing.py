"""Prescriptions: by doctors alone, who are told what speaks against a medicine, at every door."""

from __future__ import annotations

from typing import Any

import pytest

from tests.clinic.visit.test_release import as_role
from tests.interactions.conftest import Fhir

Json = dict[str, Any]
OVERRIDE = "https://clinic-fhir.example.org/StructureDefinition/caution-override"


def prescription(patient: str, medicine: str, **fields: Any) -> Json:
    made = {
        "resourceType": "MedicationRequest",
        "status": "active",
        "intent": "order",
        "medicationCodeableConcept": {"text": medicine},
        "subject": {"reference": f"Patient/{patient}"},
    }
    return made | fields


def override(kind: str, reason: str | None = "discussed with the patient") -> Json:
    parts: list[Json] = [{"url": "kind", "valueCode": kind}]
    return {"extension": [{"url": OVERRIDE, "extension": parts + ([{"url": "reason", "valueString": reason}] if reason else [])}]}


@pytest.fixture
def allergic(fhir: Fhir) -> str:
    """The id of somebody who is allergic to penicillin."""
    patient: str = fhir.post("Patient", {"resourceType": "Patient"})["id"]
    active = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical", "code": "active"}]}
    known = {"patient": {"reference": f"Patient/{patient}"}, "code": {"text": "Penicillin"}, "clinicalStatus": active}
    fhir.post("AllergyIntolerance", {"resourceType": "AllergyIntolerance", **known})
    return patient


def test_a_doctor_is_told_of_an_allergy_at_every_door(fhir: Fhir, allergic: str) -> None:
    doctor = as_role(fhir, "doctor")
    made = prescription(allergic, "Amoxicillin 500 mg")
    answer = doctor("POST", "MedicationRequest", made)
    assert answer.status_code == 422
    assert "allergy to Penicillin" in answer.get_json()["issue"][0]["diagnostics"]
    assert doctor("PUT", "MedicationRequest/a-new-one", made | {"id": "a-new-one"}).status_code == 422
    entry = {"resource": made, "request": {"method": "POST", "url": "MedicationRequest"}}
    assert doctor("POST", "", {"resourceType": "Bundle", "type": "transaction", "entry": [entry]}).status_code == 422
    draft = doctor.post("MedicationRequest", made | {"status": "draft"})
    activated = [{"op": "replace", "path": "/status", "value": "active"}]
    assert doctor("PATCH", f"MedicationRequest/{draft['id']}", activated).status_code == 422
    assert fhir.get(f"MedicationRequest?patient={allergic}&status=active&_summary=count")["total"] == 0


def test_a_doctor_goes_on_with_the_reason_which_is_kept(fhir: Fhir, allergic: str) -> None:
    doctor = as_role(fhir, "doctor")
    made = prescription(allergic, "Amoxicillin 500 mg")
    assert doctor("POST", "MedicationRequest", made | override("allergy", None)).status_code == 422
    assert doctor("POST", "MedicationRequest", made | override("interaction")).status_code == 422
    written = doctor.post("MedicationRequest", made | override("allergy"))
    assert written["extension"] == override("allergy")["extension"]


def test_two_prescriptions_of_one_transaction_are_held_against_each_other(fhir: Fhir) -> None:
    patient = fhir.post("Patient", {"resourceType": "Patient"})["id"]
    entries = [
        {"resource": prescription(patient, medicine), "request": {"method": "POST", "url": "MedicationRequest"}}
        for medicine in ("warfarin", "ibuprofen")
    ]
    answer = as_role(fhir, "doctor")("POST", "", {"resourceType": "Bundle", "type": "transaction", "entry": entries})
    assert answer.status_code == 422
    assert "bleeding" in answer.get_json()["issue"][0]["diagnostics"]


def test_a_medicine_that_is_referred_to_is_known(fhir: Fhir, allergic: str) -> None:
    medicine = fhir.post("Medication", {"resourceType": "Medication", "ingredient": [{"itemCodeableConcept": {"text": "amoxicillin"}}]})["id"]
    made = prescription(allergic, "") | {"medicationReference": {"reference": f"Medication/{medicine}"}}
    del made["medicationCodeableConcept"]
    assert as_role(fhir, "doctor")("POST", "MedicationRequest", made).status_code == 422


def test_what_was_stopped_and_what_it_takes_the_place_of_is_no_duplicate(fhir: Fhir) -> None:
    patient = fhir.post("Patient", {"resourceType": "Patient"})["id"]
    doctor = as_role(fhir, "doctor")
    first = doctor.post("MedicationRequest", prescription(patient, "metformin 500 mg"))
    again = prescription(patient, "metformin 1000 mg")
    assert doctor("POST", "MedicationRequest", again).status_code == 422
    doctor.post("MedicationRequest", again | {"priorPrescription": {"reference": f"MedicationRequest/{first['id']}"}})
    other = fhir.post("Patient", {"resourceType": "Patient"})["id"]
    doctor.post("MedicationRequest", prescription(other, "metformin 500 mg", status="stopped"))
    doctor.post("MedicationRequest", prescription(other, "metformin 500 mg"))


def test_a_prescription_changes_otherwise_without_being_asked_again(fhir: Fhir, allergic: str) -> None:
    doctor = as_role(fhir, "doctor")
    written = fhir.post("MedicationRequest", prescription(allergic, "Amoxicillin 500 mg"))
    doctor.put(f"MedicationRequest/{written['id']}", written | {"note": [{"text": "with food"}]})


@pytest.mark.parametrize("role", ["admin", "staff"])
def test_only_doctors_prescribe(fhir: Fhir, role: Any) -> None:
    patient = fhir.post("Patient", {"resourceType": "Patient"})["id"]
    assert as_role(fhir, role)("POST", "MedicationRequest", prescription(patient, "metformin")).status_code == 403


def test_cautions_are_told_before_anything_is_written(fhir: Fhir, allergic: str) -> None:
    found = as_role(fhir, "doctor").post("MedicationRequest/$cautions", prescription(allergic, "cefuroxime"), 200)
    parts = {part["name"]: part for part in found["parameter"][0]["part"]}
    assert (parts["kind"]["valueCode"], parts["severity"]["valueCode"]) == ("allergy", "moderate")
    assert parts["reference"]["valueReference"]["reference"].startswith("AllergyIntolerance/")
    assert as_role(fhir, "staff")("POST", "MedicationRequest/$cautions", prescription(allergic, "cefuroxime")).status_code == 403
