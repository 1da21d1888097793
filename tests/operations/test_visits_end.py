"""What follows an Encounter in a queue that is changed by a plain write: its appointment ends with it, and another place has its own token."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from fhir_server.search import SYSTEM
from tests.interactions.conftest import Fhir, issues, made
from tests.operations.test_queue import as_role, board, booked, check_in, clinic, event, parameters, place, token_of, walk

__all__ = ["clinic", "place"]
Json = dict[str, Any]
PATCH = {"Content-Type": "application/json-patch+json"}


def put(fhir: Fhir, encounter: Json, **changed: Any) -> Json:
    found: Json = fhir.put(f"Encounter/{encounter['id']}", {**fhir.get(f"Encounter/{encounter['id']}"), **changed})
    return found


def status_of(fhir: Fhir, there: Json) -> str:
    return str(fhir.get(f"Appointment/{there['id']}")["status"])


def seen(fhir: Fhir, place: str) -> tuple[Json, Json]:
    """An appointment and its Encounter, under way."""
    there = booked(fhir, place)
    return there, event(fhir, check_in(fhir, there), "start")


def end_by_patch(fhir: Fhir, encounter: Json) -> None:
    reply = fhir("PATCH", f"Encounter/{encounter['id']}", [{"op": "replace", "path": "/status", "value": "finished"}], PATCH)
    assert reply.status_code == 200, reply.text


def end_by_transaction(fhir: Fhir, encounter: Json) -> None:
    ended = {**fhir.get(f"Encounter/{encounter['id']}"), "status": "finished"}
    entry = {"resource": ended, "request": {"method": "PUT", "url": f"Encounter/{encounter['id']}"}}
    fhir.post("", {"resourceType": "Bundle", "type": "transaction", "entry": [entry]}, 200)


@pytest.mark.parametrize("end", [lambda fhir, encounter: put(fhir, encounter, status="finished"), end_by_patch, end_by_transaction])
def test_an_appointment_is_fulfilled_when_its_visit_is_finished_by_any_door(clinic: Fhir, place: str, end: Any) -> None:
    there, encounter = seen(clinic, place)
    end(clinic, encounter)
    assert (status_of(clinic, there), board(clinic, place)) == ("fulfilled", [])
    assert clinic.get(f"Appointment/{there['id']}/_history")["total"] == 3


@pytest.mark.parametrize("door", ["operation", "put"])
def test_whoever_leaves_has_called_their_appointment_off(clinic: Fhir, place: str, door: str) -> None:
    there = booked(clinic, place)
    encounter = check_in(clinic, there)
    if door == "put":
        put(clinic, encounter, status="cancelled")
    else:
        event(as_role(clinic, "staff"), encounter, "left")
    found = clinic.get(f"Appointment/{there['id']}")
    assert (found["status"], found["cancelationReason"]) == ("cancelled", {"text": "Left without being seen"})


@pytest.mark.parametrize("door", ["entered-in-error", "deleted"])
def test_a_visit_that_was_none_can_be_checked_in_again(clinic: Fhir, place: str, door: str) -> None:
    there = booked(clinic, place)
    encounter = check_in(clinic, there)
    if door == "deleted":
        clinic("DELETE", f"Encounter/{encounter['id']}")
    else:
        put(clinic, encounter, status=door)
    assert status_of(clinic, there) == "arrived"
    check_in(clinic, there)


@pytest.mark.parametrize(("door", "status"), [("$cancel", "cancelled"), ("cancelled", "cancelled"), ("arrived", "entered-in-error")])
def test_whoever_waits_for_an_appointment_leaves_the_queue_with_it(clinic: Fhir, place: str, door: str, status: str) -> None:
    there = booked(clinic, place)
    encounter = check_in(clinic, there)
    if door == "$cancel":
        as_role(clinic, "staff").post(f"Appointment/{there['id']}/$cancel", parameters(reason="Gone home"), 200)
    else:
        clinic.put(f"Appointment/{there['id']}", {**clinic.get(f"Appointment/{there['id']}"), "status": door})
    found = clinic.get(f"Encounter/{encounter['id']}")
    assert (found["status"], [each["status"] for each in found["statusHistory"]]) == (status, ["arrived"])
    assert board(clinic, place) == []
    assert status_of(clinic, there) == (door if door != "$cancel" else "cancelled")


def test_a_check_in_that_was_taken_back_can_be_done_again(clinic: Fhir, place: str) -> None:
    there = booked(clinic, place)
    check_in(clinic, there)
    for status in ("arrived", "booked"):
        clinic.put(f"Appointment/{there['id']}", {**clinic.get(f"Appointment/{there['id']}"), "status": status})
    assert token_of(check_in(clinic, there)) == "2"
    assert len(board(clinic, place)) == 1


def test_a_visit_under_way_goes_on_without_its_appointment(clinic: Fhir, place: str) -> None:
    there, encounter = seen(clinic, place)
    clinic.put(f"Appointment/{there['id']}", {**clinic.get(f"Appointment/{there['id']}"), "status": "cancelled"})
    assert clinic.get(f"Encounter/{encounter['id']}")["status"] == "in-progress"
    assert [each["state"] for each in board(clinic, place)] == ["in-service"]


def test_what_a_caller_writes_of_the_appointment_in_the_same_transaction_stands(clinic: Fhir, place: str) -> None:
    there, encounter = seen(clinic, place)
    written = [
        ("Encounter", {**clinic.get(f"Encounter/{encounter['id']}"), "status": "finished"}),
        ("Appointment", {**clinic.get(f"Appointment/{there['id']}"), "comment": "Bring the letter"}),
    ]
    entries = [{"resource": each, "request": {"method": "PUT", "url": f"{name}/{each['id']}"}} for name, each in written]
    clinic.post("", {"resourceType": "Bundle", "type": "transaction", "entry": entries}, 200)
    found = clinic.get(f"Appointment/{there['id']}")
    assert (found["status"], found["comment"], found["meta"]["versionId"]) == ("fulfilled", "Bring the letter", "3")


def test_an_appointment_that_the_same_transaction_checks_in_stays_so(clinic: Fhir, place: str) -> None:
    there = booked(clinic, place)
    found = check_in(clinic, there)
    put(clinic, found, status="entered-in-error")
    kept = {name: found[name] for name in ("resourceType", "class", "subject", "appointment")}
    beside = clinic.post("Encounter", {**kept, "status": "in-progress"})
    written = [("Encounter", {**beside, "status": "finished"}), ("Appointment", {**clinic.get(f"Appointment/{there['id']}"), "status": "checked-in"})]
    entries = [{"resource": each, "request": {"method": "PUT", "url": f"{name}/{each['id']}"}} for name, each in written]
    clinic.post("", {"resourceType": "Bundle", "type": "transaction", "entry": entries}, 200)
    assert status_of(clinic, there) == "checked-in"


def test_nobody_ends_the_appointment_of_another_by_a_visit_that_names_it(clinic: Fhir, place: str) -> None:
    theirs, _ = seen(clinic, place)
    mine = walk(clinic, place)
    event(clinic, mine, "start")
    put(clinic, mine, status="finished", appointment=[{"reference": f"Appointment/{theirs['id']}"}])
    assert status_of(clinic, theirs) == "checked-in"


def test_an_appointment_waits_for_the_visit_of_it_that_is_still_in_a_queue(clinic: Fhir, place: str) -> None:
    there, encounter = seen(clinic, place)
    kept = {name: encounter[name] for name in ("resourceType", "class", "subject", "appointment")}
    beside = clinic.post("Encounter", {**kept, "status": "in-progress"})
    put(clinic, beside, status="finished")
    assert status_of(clinic, there) == "checked-in"
    put(clinic, encounter, status="finished")
    assert status_of(clinic, there) == "fulfilled"


def test_time_that_a_visit_did_not_need_is_free_again(clinic: Fhir, place: str) -> None:
    doctor = f"Practitioner/{made(clinic, {'resourceType': 'Practitioner'})}"
    there = booked(clinic, place, doctor)
    encounter = check_in(clinic, there)
    put(clinic, encounter, status="cancelled")
    store = clinic.app.extensions["store"]
    with store.snapshot(SYSTEM) as db:
        held = db.connection.execute("SELECT 1 FROM occupancy o JOIN resource r USING (rid) WHERE r.id = %s", (there["id"],)).fetchall()
    assert held == []


def test_a_visit_that_ends_while_its_appointment_is_called_off_leaves_one_of_both(clinic: Fhir, place: str) -> None:
    for _ in range(5):
        there, encounter = seen(clinic, place)
        ended = {**clinic.get(f"Encounter/{encounter['id']}"), "status": "finished"}
        doors = [
            lambda ended=ended: clinic("PUT", f"Encounter/{ended['id']}", ended),
            lambda there=there: clinic("POST", f"Appointment/{there['id']}/$cancel", parameters(reason="Changed their mind")),
        ]
        with ThreadPoolExecutor(2) as pool:
            codes = [answer.result().status_code for answer in [pool.submit(door) for door in doors]]
        assert codes[0] == 200
        assert status_of(clinic, there) == ("cancelled" if codes[1] == 200 else "fulfilled"), codes
        assert board(clinic, place) == []


def test_a_plain_write_of_another_place_gives_the_token_of_the_queue_there(clinic: Fhir, place: str) -> None:
    other = made(clinic, {"resourceType": "Location", "name": "X-ray"})
    walk(clinic, other)
    encounter = walk(clinic, place)
    moved = put(clinic, encounter, location=[{"location": {"reference": f"Location/{other}"}}])
    assert (token_of(moved), len([each for each in moved["identifier"] if each["system"].endswith("queue-token")])) == ("2", 1)
    assert (board(clinic, place), [each["token"] for each in board(clinic, other)]) == ([], ["1", "2"])
    assert token_of(walk(clinic, other)) == "3"


def test_who_was_called_waits_at_the_other_place_and_who_is_seen_is_seen_there(clinic: Fhir, place: str) -> None:
    other = made(clinic, {"resourceType": "Location", "name": "X-ray"})
    there = [{"location": {"reference": f"Location/{other}"}}]
    called, under_way = walk(clinic, place), walk(clinic, place)
    clinic.post(f"Location/{place}/$queue-next", {"resourceType": "Parameters"}, 200)
    event(clinic, under_way, "start")
    put(clinic, called, location=there)
    put(clinic, under_way, location=there)
    assert [(each["token"], each["state"]) for each in board(clinic, other)] == [("2", "in-service"), ("1", "waiting")]


@pytest.mark.parametrize("status", ["inactive", "suspended", "gone"])
def test_nobody_is_moved_to_where_nobody_can_queue(clinic: Fhir, place: str, status: str) -> None:
    encounter = walk(clinic, place)
    closed = "none" if status == "gone" else made(clinic, {"resourceType": "Location", "status": status})
    changed = {**clinic.get(f"Encounter/{encounter['id']}"), "location": [{"location": {"reference": f"Location/{closed}"}}]}
    assert "nobody can queue there" in issues(clinic.put(f"Encounter/{encounter['id']}", changed, 422))
    assert (token_of(clinic.get(f"Encounter/{encounter['id']}")), len(board(clinic, place))) == ("1", 1)
