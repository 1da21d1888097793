"""Follow-ups that a doctor proposes at the end of a visit."""

from __future__ import annotations

import pytest

from tests.clinic.visit.test_release import Json, as_role
from tests.interactions.conftest import Fhir


def visit_of(fhir: Fhir, **fields: Json) -> str:
    patient = fhir.post("Patient", {"resourceType": "Patient"})["id"]
    visit = {"resourceType": "Encounter", "status": "in-progress", "class": {"code": "AMB"}, "subject": {"reference": f"Patient/{patient}"}}
    identity: str = fhir.post("Encounter", {name: value for name, value in (visit | fields).items() if value})["id"]
    return identity


def days(count: int) -> Json:
    reason = {"name": "reason", "valueString": "look at the wound"}
    return {"resourceType": "Parameters", "parameter": [{"name": "days", "valueInteger": count}, reason]}


def test_a_follow_up_is_a_proposed_appointment_of_its_type(fhir: Fhir) -> None:
    visit = visit_of(fhir)
    made = as_role(fhir, "doctor").post(f"Encounter/{visit}/$follow-up", days(14))
    assert made["status"] == "proposed"
    assert made["appointmentType"]["coding"][0]["code"] == "FOLLOWUP"
    assert made["participant"][0]["actor"] == fhir.get(f"Encounter/{visit}")["subject"]
    assert made["supportingInformation"] == [{"reference": f"Encounter/{visit}"}]
    assert made["description"] == "look at the wound"


def test_staff_propose_none(fhir: Fhir) -> None:
    assert as_role(fhir, "staff")("POST", f"Encounter/{visit_of(fhir)}/$follow-up", days(14)).status_code == 403


@pytest.mark.parametrize("count", [0, 5_000])
def test_not_today_and_not_in_ten_years(fhir: Fhir, count: int) -> None:
    assert as_role(fhir, "doctor")("POST", f"Encounter/{visit_of(fhir)}/$follow-up", days(count)).status_code == 400


def test_of_nobodys_visit_nobody_comes_again(fhir: Fhir) -> None:
    visit = visit_of(fhir, subject={})
    assert as_role(fhir, "doctor")("POST", f"Encounter/{visit}/$follow-up", days(3)).status_code == 422
