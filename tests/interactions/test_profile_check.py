"""Writes that are held to the profiles that they claim: `PROFILE_CHECK=declared`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.interactions.conftest import Fhir, Json, MakeFhir, entry, issues, made, patient, profile, token, unique

VITALS = "http://hl7.org/fhir/StructureDefinition/bodyweight"
VITAL = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "vital-signs"}]}


@pytest.fixture(scope="module")
def strict(make_fhir: MakeFhir, database_url: str) -> Fhir:
    return make_fhir(database_url, profile_check="declared")


def weight(**fields: Any) -> Json:
    """An Observation that meets the profile it claims."""
    return {
        "resourceType": "Observation",
        "meta": {"profile": [VITALS]},
        "status": "final",
        "category": [VITAL],
        "code": {"coding": [{"system": "http://loinc.org", "code": "29463-7"}]},
        "subject": {"reference": "Patient/none"},
        "effectiveDateTime": "2026-01-01",
        "valueQuantity": {"value": 70, "unit": "kg", "system": "http://unitsofmeasure.org", "code": "kg"},
        **fields,
    }


def test_a_create_and_an_update_meet_what_they_claim_or_nothing_is_written(strict: Fhir) -> None:
    right = made(strict, weight())
    assert "Observation.category:VSCat is needed" in issues(strict.post("Observation", weight(category=[{"text": "x"}]), 422))
    found = strict("PUT", f"Observation/{right}", weight(id=right, subject={"reference": "Group/1"}))
    assert found.status_code == 422
    assert strict.get(f"Observation/{right}")["meta"]["versionId"] == "1"


def test_a_patch_is_held_to_what_it_makes(strict: Fhir) -> None:
    right = made(strict, weight())
    patch = [{"op": "remove", "path": "/category"}]
    assert "Observation.category" in issues(_sent(strict, f"Observation/{right}", patch))
    blind = replace(strict, token=token(scope="system/Observation.u"))
    told = issues(_sent(blind, f"Observation/{right}", patch))
    assert "only who may read it" in told
    assert "category" not in told
    assert strict.get(f"Observation/{right}")["category"]


def _sent(fhir: Fhir, path: str, patch: Any) -> Json:
    answer = fhir("PATCH", path, patch)
    assert answer.status_code == 422
    found: Json = answer.get_json()
    return found


def test_a_transaction_is_refused_whole_with_the_places_of_its_faults(strict: Fhir) -> None:
    family = unique("family")
    entries = [
        entry("POST", "Patient", patient(name=[{"family": family}])),
        entry("POST", "Observation", weight(valueQuantity={"value": 70, "unit": "st", "system": "http://unitsofmeasure.org", "code": "[stone_av]"})),
    ]
    answer = strict.post("", {"resourceType": "Bundle", "type": "transaction", "entry": entries}, 422)
    assert [issue["expression"] for issue in answer["issue"]] == [["Bundle.entry[1].resource.value.code"]]
    assert strict.ids(f"Patient?family={family}") == []
    answer = strict.post("", {"resourceType": "Bundle", "type": "batch", "entry": entries}, 200)
    assert [each["response"]["status"][:3] for each in answer["entry"]] == ["201", "422"]


def test_a_profile_that_comes_in_the_same_transaction_counts(strict: Fhir) -> None:
    url = f"urn:{unique('profile')}"
    definition = profile(url, {"id": "Patient.birthDate", "path": "Patient.birthDate", "min": 1, "max": "1", "definition": "Needed"})
    entries = [entry("POST", "StructureDefinition", definition), entry("POST", "Patient", patient(meta={"profile": [url]}))]
    assert "Patient.birthDate" in issues(strict.post("", {"resourceType": "Bundle", "type": "transaction", "entry": entries}, 422))


def test_who_claims_nothing_or_what_is_not_here_may_write(strict: Fhir) -> None:
    made(strict, patient())
    made(strict, patient(meta={"profile": ["urn:not-here"]}))


def test_without_the_setting_a_write_is_held_to_the_specification_alone(fhir: Fhir) -> None:
    made(fhir, weight(category=[{"text": "x"}]))
