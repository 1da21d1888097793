"""Referential integrity. https://hl7.org/fhir/R4/http.html#integrity"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from tests.interactions.conftest import BASE, LINK, Fhir, entry, issues, observation, patient, token, unique, written


def test_with_integrity_references_resolve(integral: Fhir) -> None:
    nobody = unique("nobody")
    outcome = integral.post("Observation", observation(subject={"reference": f"Patient/{nobody}"}), 422)
    assert nobody in issues(outcome)
    somebody = integral.post("Patient", patient())["id"]
    made = integral.post("Observation", observation(subject={"reference": f"Patient/{somebody}"}))
    integral.post("Observation", observation(subject={"reference": f"{BASE}/Patient/{somebody}"}))
    integral.post("Observation", observation(subject={"reference": f"{BASE}/Patient/{nobody}"}), 422)
    integral.post("Observation", observation(subject={"reference": f"http://elsewhere.example.org/fhir/Patient/{nobody}"}))
    integral.post("Observation", observation(subject={"identifier": {"value": "x"}}))
    changed = [{"op": "replace", "path": "/subject/reference", "value": f"Patient/{nobody}"}]
    assert integral("PATCH", f"Observation/{made['id']}", changed).status_code == 422
    refused = integral("DELETE", f"Patient/{somebody}")
    assert (refused.status_code, "Observation/" in refused.text) == (409, True)
    assert integral.get(f"Patient/{somebody}")["id"] == somebody
    blind = replace(integral, token=token(scope="system/Patient.cruds"))("DELETE", f"Patient/{somebody}")
    assert (blind.status_code, "Observation" in blind.text, somebody in blind.text) == (409, False, True)


def test_with_integrity_the_last_referrer_frees_what_it_referred_to(integral: Fhir) -> None:
    somebody = integral.post("Patient", patient())["id"]
    made = integral.post("Observation", observation(subject={"reference": f"Patient/{somebody}"}))["id"]
    assert integral("DELETE", f"Observation/{made}").status_code == 204
    assert integral("DELETE", f"Patient/{somebody}").status_code == 204
    assert integral("POST", "Observation", observation(subject={"reference": f"Patient/{somebody}"})).status_code == 422


def test_with_integrity_a_race_of_reference_and_delete_leaves_nothing_dangling(integral: Fhir) -> None:
    def refer(identity: str) -> Callable[[], int]:
        return lambda: integral("POST", "Observation", observation(subject={"reference": f"Patient/{identity}"})).status_code

    def delete(identity: str) -> Callable[[], int]:
        return lambda: integral("DELETE", f"Patient/{identity}").status_code

    for _ in range(5):
        somebody = integral.post("Patient", patient())["id"]
        with ThreadPoolExecutor(2) as pool:
            referred, deleted = (each.result() for each in [pool.submit(refer(somebody)), pool.submit(delete(somebody))])
        assert (referred, deleted) in {(201, 409), (422, 204)}


def test_integrity_within_a_transaction(integral: Fhir) -> None:
    answer = integral.bundle(
        "transaction",
        entry("POST", "Observation", observation(subject={"reference": LINK})),
        entry("POST", "Patient", patient(), LINK),
    )
    seen, somebody = written(answer, 0), written(answer, 1)
    # Both may go together, in whichever order they stand.
    integral.bundle("transaction", entry("DELETE", somebody), status=409)
    integral.bundle("transaction", entry("DELETE", somebody), entry("DELETE", seen))
    assert integral("GET", somebody).status_code == 410
    dangling = entry("POST", "Observation", observation(subject={"reference": "urn:uuid:00000000-0000-4000-8000-000000000000"}))
    assert integral("POST", "", {"resourceType": "Bundle", "type": "transaction", "entry": [dangling]}).status_code in {200, 422}
    other = integral.post("Patient", patient())["id"]
    swap = [entry("DELETE", f"Patient/{other}"), entry("POST", "Observation", observation(subject={"reference": f"Patient/{other}"}))]
    assert integral("POST", "", {"resourceType": "Bundle", "type": "transaction", "entry": swap}).status_code in {409, 422}
