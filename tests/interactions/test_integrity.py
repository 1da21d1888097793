"""Referential integrity, and how little of what a caller may not read it tells. https://hl7.org/fhir/R4/http.html#integrity"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Final

import pytest

from tests.interactions.conftest import BASE, LINK, Fhir, entry, issues, made, observation, patient, token, unique, written


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


# --- what the caller may not read -----------------------------------------------------------------------------------------------

WRITERS: Final = {
    "of no patient": "system/Observation.cruds system/List.cruds system/Group.cruds",
    "of one patient": "patient/*.rs system/Observation.cru system/List.cru system/Group.cru",
    "of some patients": "system/Patient.rs?gender=male system/Observation.cruds system/List.cruds system/Group.cruds",
}


@pytest.fixture(scope="module")
def hidden(integral: Fhir) -> str:
    """A patient whom none of the writers may read."""
    return made(integral, patient(gender="female"))


def writer(integral: Fhir, who: str) -> Fhir:
    return integral.other(user="writer", scope=WRITERS[who], patient="somebody-else" if who == "of one patient" else None)


def told(answer: object, address: str) -> str:
    """What an answer says, but for the address that it is about."""
    return str(answer).replace(address, "…")


@pytest.mark.parametrize("who", WRITERS)
def test_a_reference_to_what_is_hidden_is_one_to_what_does_not_exist(integral: Fhir, hidden: str, who: str) -> None:
    caller = writer(integral, who)

    def answers(identity: str) -> list[str]:
        address = f"Patient/{identity}"
        seen = observation(subject={"reference": address})
        at = f"Observation/{unique()}".replace("-", "")[:60]
        listed = {"resourceType": "List", "status": "current", "mode": "working", "entry": [{"item": {"reference": address}}]}
        sent = [
            caller.post("Observation", seen, 422),
            caller.post("Observation", observation(subject={"reference": f"{BASE}/{address}"}), 422),
            caller.put(at, seen | {"id": at.partition("/")[2]}, 422),
            caller.post("List", listed, 422),
            caller.bundle("transaction", entry("POST", "Observation", seen), status=422),
            caller.bundle("batch", entry("POST", "Observation", seen)),
        ]
        return [told(each, address) for each in sent]

    assert answers(hidden) == answers(unique("nobody"))


@pytest.mark.parametrize("who", ["of no patient", "of some patients"])
def test_a_change_does_not_bring_in_what_is_hidden(integral: Fhir, hidden: str, who: str) -> None:
    caller = writer(integral, who)
    plain = caller.post("Observation", observation())
    change = [{"op": "add", "path": "/subject", "value": {"reference": f"Patient/{hidden}"}}]
    assert hidden in issues(caller("PATCH", f"Observation/{plain['id']}", change).get_json())
    caller.put(f"Observation/{plain['id']}", plain | {"subject": {"reference": f"Patient/{hidden}"}}, 422)
    assert "subject" not in caller.get(f"Observation/{plain['id']}")


def test_what_others_have_put_in_may_stay(integral: Fhir, hidden: str) -> None:
    caller = writer(integral, "of no patient")
    seen = integral.post("Observation", observation(subject={"reference": f"Patient/{hidden}"}))
    changed = caller.put(f"Observation/{seen['id']}", seen | {"status": "amended"})
    assert changed["subject"] == seen["subject"]
    assert caller("PATCH", f"Observation/{seen['id']}", [{"op": "replace", "path": "/status", "value": "final"}]).status_code == 200


def test_whoever_cannot_read_a_resource_does_not_find_out_what_it_refers_to(integral: Fhir, hidden: str) -> None:
    blind = integral.other(user="blind", scope="system/Observation.cu")
    seen = integral.post("Observation", observation(subject={"reference": f"Patient/{hidden}"}))
    for identity in (hidden, unique("nobody")):
        outcome = blind.put(f"Observation/{seen['id']}", seen | {"subject": {"reference": f"Patient/{identity}"}}, 422)
        assert identity in issues(outcome)


def test_what_is_open_may_be_referred_to(integral: Fhir) -> None:
    caller = writer(integral, "of some patients")
    somebody = made(integral, patient(gender="male"))
    made(caller, observation(subject={"reference": f"Patient/{somebody}"}))
    own = integral.other(user="own", scope="patient/*.rs system/Observation.c", patient=somebody)
    made(own, observation(subject={"reference": f"Patient/{somebody}"}))
    # The clinic's directory is open to whoever is held to one patient.
    nurse = made(integral, {"resourceType": "Practitioner"})
    made(own, observation(subject={"reference": f"Patient/{somebody}"}, performer=[{"reference": f"Practitioner/{nurse}"}]))


def test_a_refused_deletion_names_nobody_who_is_hidden(integral: Fhir) -> None:
    somebody = made(integral, {"resourceType": "Practitioner"})
    caller = integral.other(user="desk", scope="system/Practitioner.cruds system/Patient.rs?gender=male")
    female = made(integral, patient(gender="female", generalPractitioner=[{"reference": f"Practitioner/{somebody}"}]))
    refused = issues(caller("DELETE", f"Practitioner/{somebody}").get_json())
    assert refused.startswith("Another resource still refers to")
    assert female not in refused
    assert integral("DELETE", f"Patient/{female}").status_code == 204
    male = made(integral, patient(gender="male", generalPractitioner=[{"reference": f"Practitioner/{somebody}"}]))
    assert f"Patient/{male} still refers to" in issues(caller("DELETE", f"Practitioner/{somebody}").get_json())
