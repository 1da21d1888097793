"""The queue by its operations: who gets in, who is next, what happens to them, and who may do and see what."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fhir_server.access import issue, issue_board
from fhir_server.access.roles import Role
from fhir_server.operations.conformance import FOLDER
from fhir_server.settings import CANON
from tests.interactions.conftest import SECRET, Fhir, MakeFhir, issues, made, observation, patient
from tests.store.appointments import appointment

Json = dict[str, Any]
TOKEN = f"{CANON}/sid/queue-token"
PRIORITY = f"{CANON}/StructureDefinition/queue-priority"
RACERS = 8


@pytest.fixture(scope="module")
def clinic(make_fhir: MakeFhir, fresh_database: Callable[[], str]) -> Iterator[Fhir]:
    fhir = make_fhir(fresh_database())
    fhir.put("SearchParameter/queue-zone", json.loads(FOLDER.joinpath("SearchParameter-queue-zone.json").read_bytes()), 201)
    fhir.app.extensions["store"].index_now()
    yield fhir
    fhir.close()


@pytest.fixture
def place(clinic: Fhir) -> str:
    """The id of a Location with an empty queue."""
    return made(clinic, {"resourceType": "Location", "name": "Ground floor"})


def as_role(fhir: Fhir, role: Role, **claims: Any) -> Fhir:
    token = issue(
        SECRET, role=role, user=f"{role}@test", patient=claims.get("patient"), scope=None, ttl=3600, now=time.time(), fhir_user=claims.get("user")
    )
    return Fhir(fhir.app, token)


def parameters(**given: Any) -> Json:
    kinds = {"patient": "Reference", "location": "Reference", "practitioner": "Reference", "zone": "Code", "event": "Code"}
    listed = []
    for name, value in given.items():
        kind = kinds.get(name, "String")
        listed.append({"name": name, f"value{kind}": {"reference": value} if kind == "Reference" else value})
    return {"resourceType": "Parameters", "parameter": listed} if listed else {"resourceType": "Parameters"}


def walk(fhir: Fhir, place: str, status: int = 201, **given: Any) -> Json:
    given = {"patient": given.pop("patient", None) or f"Patient/{made(fhir, patient())}", "location": f"Location/{place}", **given}
    found: Json = fhir.post("Encounter/$walk-in", parameters(**given), status)
    return found


def event(fhir: Fhir, encounter: Json, name: str, status: int = 200, **given: Any) -> Json:
    found: Json = fhir.post(f"Encounter/{encounter['id']}/$queue-event", parameters(event=name, **given), status)
    return found


def call(fhir: Fhir, place: str, status: int = 200, **given: Any) -> Json:
    found: Json = fhir.post(f"Location/{place}/$queue-next", parameters(**given), status)
    return found


def board(fhir: Fhir, place: str) -> list[Json]:
    found = fhir.get(f"Location/{place}/$queue-board")
    entries = [each["part"] for each in found["parameter"] if each["name"] == "entry"]
    return [{part["name"]: next(value for name, value in part.items() if name.startswith("value")) for part in parts} for parts in entries]


def token_of(encounter: Json) -> str:
    return str(next(each["value"] for each in encounter["identifier"] if each["system"] == TOKEN))


def priority(resource: Json) -> Json:
    (found,) = [each["extension"] for each in resource["extension"] if each["url"] == PRIORITY]
    values = {part["url"]: next(value for name, value in part.items() if name.startswith("value")) for part in found}
    return values | {"zone": values["zone"]["coding"][0]["code"]}


def booked(fhir: Fhir, place: str, *actors: str, kind: str | None = None, start: datetime | None = None, **fields: Any) -> Json:
    begin = start or datetime.now(UTC)
    times = {"start": begin.isoformat(timespec="seconds"), "end": (begin + timedelta(minutes=20)).isoformat(timespec="seconds")}
    reason = {"appointmentType": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0276", "code": kind}]}} if kind else {}
    who = f"Patient/{made(fhir, patient())}"
    found: Json = fhir.post("Appointment", {**appointment(who, f"Location/{place}", *actors), **times, **reason, **fields})
    return found


def check_in(fhir: Fhir, appointment: Json, status: int = 201, **given: Any) -> Json:
    found: Json = fhir.post(f"Appointment/{appointment['id']}/$check-in", parameters(**given), status)
    return found


# In


@pytest.mark.parametrize(("kind", "zone"), [
    ("EMERGENCY", "emergency"), ("FOLLOWUP", "follow-up"), ("ROUTINE", "regular"), ("CHECKUP", "regular"), ("WALKIN", "regular"), (None, "regular"),
])  # fmt: skip
def test_check_in_gives_zone_token_and_all_that_the_appointment_says(clinic: Fhir, place: str, kind: str | None, zone: str) -> None:
    doctor = f"Practitioner/{made(clinic, {'resourceType': 'Practitioner'})}"
    there = booked(clinic, place, doctor, kind=kind, reasonCode=[{"text": "Cough"}])
    found = check_in(as_role(clinic, "staff"), there)
    assert (found["status"], found["class"]["code"], token_of(found)) == ("arrived", "AMB", "1")
    assert (priority(found)["zone"], priority(found)["basis"]) == (zone, "auto")
    assert found["appointment"] == [{"reference": f"Appointment/{there['id']}"}]
    assert found["subject"] == there["participant"][0]["actor"]
    assert [each["individual"]["reference"] for each in found["participant"]] == [doctor]
    assert (found["location"][0]["location"]["reference"], found["reasonCode"]) == (f"Location/{place}", [{"text": "Cough"}])
    now = clinic.get(f"Appointment/{there['id']}")
    assert (now["status"], priority(now)["zone"]) == ("checked-in", zone)
    assert clinic.ids(f"Encounter?queue-zone={zone}&location=Location/{place}") == [found["id"]]
    outcome = clinic.post("Encounter/$validate", found, 200)
    assert [each for each in outcome["issue"] if each["severity"] == "error"] == []


def test_a_visit_is_of_the_organization_that_has_the_place(clinic: Fhir, place: str) -> None:
    house = {"reference": f"Organization/{made(clinic, {'resourceType': 'Organization', 'name': 'House'})}"}
    room = made(clinic, {"resourceType": "Location", "name": "Room", "managingOrganization": house})
    assert check_in(clinic, booked(clinic, room))["serviceProvider"] == walk(clinic, room)["serviceProvider"] == house
    assert "serviceProvider" not in walk(clinic, place)


@pytest.mark.parametrize("zone", [
    {"valueCode": "emergency"}, {"valueString": f"{CANON}/CodeSystem/queue-zone|emergency"},
    {"valueCoding": {"system": f"{CANON}/CodeSystem/queue-zone", "code": "emergency"}},
    {"valueCodeableConcept": {"coding": [{"code": "emergency"}]}},
])  # fmt: skip
def test_a_zone_comes_as_a_code_of_any_shape_and_goes_with_its_words(clinic: Fhir, place: str, zone: Json) -> None:
    body = parameters(patient=f"Patient/{made(clinic, patient())}", location=f"Location/{place}")
    found = clinic.post("Encounter/$walk-in", {**body, "parameter": [*body["parameter"], {"name": "zone", **zone}]}, 201)
    parts = {part["url"]: part for part in next(each["extension"] for each in found["extension"] if each["url"] == PRIORITY)}
    coding = {"system": f"{CANON}/CodeSystem/queue-zone", "code": "emergency", "display": "Red \u2013 Emergency"}
    assert parts["zone"]["valueCodeableConcept"] == {"coding": [coding]}


def test_staff_find_visits_by_their_zone_and_not_by_what_looks_at_notes(clinic: Fhir, place: str) -> None:
    found = walk(clinic, place, zone="emergency")
    staff = as_role(clinic, "staff")
    assert staff.ids(f"Encounter?queue-zone=emergency&location=Location/{place}") == [found["id"]]
    looking = {
        **clinic.get("SearchParameter/queue-zone"),
        "id": "why",
        "url": "http://example.org/why",
        "code": "why",
        "base": ["Encounter"],
        "expression": "Encounter.extension('x').value | Encounter.diagnosis.condition.identifier",
    }
    clinic.put("SearchParameter/why", looking, 201)
    clinic.app.extensions["store"].index_now()
    assert clinic.ids(f"Encounter?why=x&location=Location/{place}") == []
    assert "by 'why'" in issues(staff.get("Encounter?why=x", 403))


def test_a_zone_of_another_system_is_none(clinic: Fhir, place: str) -> None:
    body = parameters(patient=f"Patient/{made(clinic, patient())}", location=f"Location/{place}")
    zone = {"name": "zone", "valueCoding": {"system": "http://example.org/zones", "code": "emergency"}}
    assert "emergency, follow-up, regular" in issues(clinic.post("Encounter/$walk-in", {**body, "parameter": [*body["parameter"], zone]}, 400))


def test_no_parameters_are_an_empty_list_of_them_too(clinic: Fhir, place: str) -> None:
    first = walk(clinic, place)
    assert clinic.post(f"Location/{place}/$queue-next", {"resourceType": "Parameters", "parameter": []}, 200)["id"] == first["id"]


def test_nobody_checks_in_twice_nor_to_what_is_not_booked(clinic: Fhir, place: str) -> None:
    there = booked(clinic, place)
    check_in(clinic, there)
    assert "checked in already" in issues(check_in(clinic, there, 409))
    for status in ("pending", "cancelled"):
        assert "Nobody checks in" in issues(check_in(clinic, booked(clinic, place, status=status), 422))
    assert len(board(clinic, place)) == 1


def test_two_who_check_in_the_same_at_once_make_one_entry_and_tokens_have_no_gaps(clinic: Fhir, place: str) -> None:
    there = booked(clinic, place)
    with ThreadPoolExecutor(RACERS) as pool:
        path = f"Appointment/{there['id']}/$check-in"
        statuses = list(pool.map(lambda _: clinic("POST", path, parameters()).status_code, range(RACERS)))
        assert sorted(statuses) == [201, *[409] * (RACERS - 1)]
        found = list(pool.map(lambda _: token_of(walk(clinic, place)), range(RACERS)))
    assert sorted(map(int, found)) == list(range(2, RACERS + 2))


def test_the_same_key_gets_the_same_answer(clinic: Fhir, place: str) -> None:
    body, key = parameters(patient=f"Patient/{made(clinic, patient())}", location=f"Location/{place}"), {"Idempotency-Key": f"walk {place}"}
    first, second = (clinic("POST", "Encounter/$walk-in", body, key) for _ in range(2))
    assert (first.status_code, second.status_code, first.data) == (201, 201, second.data)
    assert len(board(clinic, place)) == 1


def test_the_same_key_at_once_gets_the_same_answer_too(clinic: Fhir, place: str) -> None:
    there = booked(clinic, place)
    walking = parameters(patient=f"Patient/{made(clinic, patient())}", location=f"Location/{place}")
    for path, body in (("Encounter/$walk-in", walking), (f"Appointment/{there['id']}/$check-in", parameters())):
        key = {"Idempotency-Key": f"at once {path}"}
        with ThreadPoolExecutor(RACERS) as pool:
            replies = list(pool.map(lambda _: clinic("POST", path, body, key), range(RACERS)))  # noqa: B023 - used up before the next
        assert {reply.status_code for reply in replies} == {201}
        assert len({reply.data for reply in replies}) == 1


def test_a_patient_stands_in_a_queue_once(clinic: Fhir, place: str) -> None:
    who = walk(clinic, place)["subject"]["reference"]
    assert "with the token 1" in issues(walk(clinic, place, 409, patient=who))


def test_a_plain_encounter_stands_in_no_queue(clinic: Fhir, place: str) -> None:
    who = f"Patient/{made(clinic, patient())}"
    plain = {"resourceType": "Encounter", "status": "arrived", "class": {"code": "AMB"}, "subject": {"reference": who}}
    encounter = clinic.post("Encounter", {**plain, "location": [{"location": {"reference": f"Location/{place}"}}]})
    assert board(clinic, place) == []
    event(clinic, encounter, "start", 422)
    clinic.get(f"Encounter/{encounter['id']}/$queue-position", 404)


# Through


def test_a_visit_from_the_call_to_its_end(clinic: Fhir, place: str) -> None:
    doctor = f"Practitioner/{made(clinic, {'resourceType': 'Practitioner'})}"
    there = booked(clinic, place)
    encounter = check_in(clinic, there)
    called = call(as_role(clinic, "staff"), place, practitioner=doctor, room="7")
    assert (called["id"], called["status"]) == (encounter["id"], "arrived")
    assert [each["individual"]["reference"] for each in called["participant"]] == [doctor]
    assert [(each["state"], each["room"], each["position"]) for each in board(clinic, place)] == [("called", "7", 0)]
    for name, status in (("start", "in-progress"), ("pause", "onleave"), ("resume", "in-progress"), ("complete", "finished")):
        assert event(clinic, encounter, name)["status"] == status
    found = clinic.get(f"Encounter/{encounter['id']}")
    assert [each["status"] for each in found["statusHistory"]] == ["arrived", "in-progress", "onleave", "in-progress"]
    ends = [each["period"]["end"] for each in found["statusHistory"]]
    assert ends == sorted(ends)
    assert {*found["period"]} == {"start", "end"}
    assert clinic.get(f"Appointment/{there['id']}")["status"] == "fulfilled"
    assert board(clinic, place) == []
    assert len(clinic.ids(f"Provenance?target=Encounter/{encounter['id']}")) == 6
    assert clinic.get(f"Encounter/{encounter['id']}/_history")["total"] == 6
    call(clinic, place, 404)


@pytest.mark.parametrize(("before", "refused"), [
    ((), ("complete", "skip", "pause", "resume", "recall", "undo")),
    (("start",), ("start", "skip", "resume", "recall")),
    (("start", "pause"), ("start", "skip", "pause", "recall")),
    (("start", "complete"), ("start", "complete", "skip", "pause", "resume", "recall", "left")),
    (("left",), ("start", "complete", "left")),
])  # fmt: skip
def test_what_is_not_in_the_table_is_refused_and_stores_nothing(clinic: Fhir, place: str, before: tuple[str, ...], refused: tuple[str, ...]) -> None:
    encounter = walk(clinic, place)
    for name in before:
        event(clinic, encounter, name)
    there = clinic.get(f"Encounter/{encounter['id']}")
    for name in refused:
        issues(event(clinic, encounter, name, 422))
    assert clinic.get(f"Encounter/{encounter['id']}") == there


def test_parameters_that_are_none_are_told(clinic: Fhir, place: str) -> None:
    encounter = walk(clinic, place)
    event(clinic, encounter, "vanish", 400)
    event(clinic, encounter, "transfer", 400)
    event(clinic, encounter, "transfer", 404, location="Location/none")
    clinic.post(f"Encounter/{encounter['id']}/$triage", parameters(zone="purple", reason="x"), 400)
    clinic.post("Encounter/$walk-in", parameters(location=f"Location/{place}"), 400)
    walk(clinic, place, 404, patient="Patient/none")
    call(clinic, "none", 404)
    assert clinic("GET", f"Location/{place}/$queue-next").status_code == 405


def test_whoever_does_not_answer_is_behind_until_they_are_called_again(clinic: Fhir, place: str) -> None:
    one, two = walk(clinic, place), walk(clinic, place)
    assert call(clinic, place)["id"] == one["id"]
    event(clinic, one, "skip")
    assert [each["token"] for each in board(clinic, place)] == ["2", "1"]
    assert call(clinic, place)["id"] == two["id"]
    event(clinic, one, "recall")
    assert [each["state"] for each in board(clinic, place)] == ["called", "called"]


def test_a_transfer_gives_a_token_of_the_other_queue_and_keeps_what_was_waited(clinic: Fhir, place: str) -> None:
    other = made(clinic, {"resourceType": "Location", "name": "X-ray"})
    walk(clinic, other)
    encounter = walk(clinic, place)
    event(clinic, encounter, "start")
    moved = event(clinic, encounter, "transfer", location=f"Location/{other}")
    assert (moved["status"], token_of(moved)) == ("in-progress", "2")
    assert [(each["location"]["reference"], each["status"]) for each in moved["location"]] == [
        (f"Location/{place}", "completed"), (f"Location/{other}", "active"),
    ]  # fmt: skip
    assert (board(clinic, place), [each["token"] for each in board(clinic, other)]) == ([], ["1", "2"])
    event(clinic, encounter, "undo")
    assert [each["state"] for each in board(clinic, place)] == ["in-service"]
    assert token_of(clinic.get(f"Encounter/{encounter['id']}")) == "1"


@pytest.mark.parametrize("last", ["start", "complete", "left"])
def test_the_last_event_can_be_undone_once(clinic: Fhir, place: str, last: str) -> None:
    encounter = walk(clinic, place)
    call(clinic, place, room="2")
    before = event(clinic, encounter, "start") if last == "complete" else clinic.get(f"Encounter/{encounter['id']}")
    shown = board(clinic, place)
    event(clinic, encounter, last)
    found = event(clinic, encounter, "undo")
    assert (found["status"], found.get("period")) == (before["status"], before.get("period"))
    assert len(found["statusHistory"]) == len(before.get("statusHistory", ())) + 2
    assert board(clinic, place) == shown


def test_n_callers_of_m_who_wait_get_all_of_them_once(clinic: Fhir, place: str) -> None:
    there = {walk(clinic, place)["id"] for _ in range(5)}
    with ThreadPoolExecutor(RACERS) as pool:
        answers = list(pool.map(lambda _: clinic("POST", f"Location/{place}/$queue-next", parameters()), range(RACERS)))
    found = [answer.get_json()["id"] for answer in answers if answer.status_code == 200]
    assert sorted(found) == sorted(there)
    assert [answer.status_code for answer in answers].count(404) == RACERS - 5


def test_staff_get_no_notes_by_what_they_do(clinic: Fhir, place: str) -> None:
    encounter, note = walk(clinic, place), [{"condition": {"display": "Secret"}}]
    put(clinic, encounter, diagnosis=note)
    staff = as_role(clinic, "staff")
    assert not any("diagnosis" in each for each in (call(staff, place), event(staff, encounter, "start")))
    assert clinic.get(f"Encounter/{encounter['id']}")["diagnosis"] == note


def test_whose_visit_is_closed_to_a_doctor_is_not_theirs_to_call(clinic: Fhir, place: str) -> None:
    who = f"Practitioner/{made(clinic, {'resourceType': 'Practitioner'})}"
    made(clinic, {"resourceType": "PractitionerRole", "practitioner": {"reference": who}, "location": [{"reference": f"Location/{place}"}]})
    closed, open_to_them = walk(clinic, place), walk(clinic, place)
    coding = {"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}
    provision = {"type": "deny", "actor": [{"role": {"coding": [{"code": "PRCP"}]}, "reference": {"reference": who}}]}
    category = [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}]
    policy = {"policyRule": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "OPTIN"}]}}
    consent = {"resourceType": "Consent", "status": "active", "scope": {"coding": [coding]}, "category": category, "provision": provision, **policy}
    made(clinic, {**consent, "patient": closed["subject"]})
    doctor = as_role(clinic, "doctor", user=who)
    assert call(doctor, place)["id"] == open_to_them["id"]
    call(doctor, place, 404)
    assert ["encounter" in each for each in board(doctor, place)] == [True, False]


# Order and zones


def test_emergencies_come_first_and_early_ones_wait_for_their_time(clinic: Fhir, place: str) -> None:
    now = datetime.now(UTC)
    early = check_in(clinic, booked(clinic, place, start=now + timedelta(hours=1)))
    late = check_in(clinic, booked(clinic, place, start=now - timedelta(hours=1)))
    red = walk(clinic, place, zone="emergency", reason="Chest pain")
    assert priority(red)["basis"] == "triage"
    assert [call(clinic, place)["id"] for _ in range(3)] == [red["id"], late["id"], early["id"]]


def test_triage_raises_by_anybody_and_lowers_by_clinicians_alone(clinic: Fhir, place: str) -> None:
    encounter = walk(clinic, place)
    path = f"Encounter/{encounter['id']}/$triage"
    staff, doctor = as_role(clinic, "staff"), as_role(clinic, "doctor", user="Practitioner/who")
    red = staff.post(path, parameters(zone="emergency", reason="Pale"), 200)
    assert (red["status"], priority(red)["zone"], priority(red)["basis"], priority(red)["reason"]) == (
        "triaged",
        "emergency",
        "triage",
        {"text": "Pale"},
    )
    assert priority(red)["reassessDue"] > priority(red)["assignedAt"]
    assert "Only clinicians lower" in issues(staff.post(path, parameters(zone="regular", reason="Better"), 403))
    as_role(clinic, "admin").post(path, parameters(zone="regular", reason="Better"), 403)
    green = doctor.post(path, parameters(zone="regular", reason="Better"), 200)
    assert (priority(green)["zone"], priority(green)["basis"], priority(green)["assignedBy"]) == (
        "regular",
        "override",
        {"reference": "Practitioner/who"},
    )
    event(clinic, encounter, "start")
    doctor.post(path, parameters(zone="emergency", reason="Worse"), 422)


def vital(encounter: Json, code: str, value: float, unit: str, **fields: Any) -> Json:
    quantity = {"value": value, "system": "http://unitsofmeasure.org", "code": unit}
    coded = {"coding": [{"system": "http://loinc.org", "code": code}]}
    return observation(
        code=coded, valueQuantity=quantity, encounter={"reference": f"Encounter/{encounter['id']}"}, subject=encounter["subject"], **fields
    )


@pytest.mark.parametrize(("code", "value", "unit", "is_red"), [
    ("59408-5", 89, "%", True), ("59408-5", 90, "%", False), ("8480-6", 89, "mm[Hg]", True), ("8480-6", 180, "mm[Hg]", True),
    ("8480-6", 24, "kPa", True), ("8867-4", 131, "{beats}/min", True), ("8867-4", 130, "/min", False), ("8310-5", 104.1, "[degF]", True),
    ("8310-5", 39.9, "Cel", False), ("9279-1", 8, "/min", True), ("9269-2", 13, "{score}", True), ("8867-4", 30, "kg", False),
    ("29463-7", 1, "kg", False),
])  # fmt: skip
def test_a_red_flag_makes_whoever_waits_an_emergency(clinic: Fhir, place: str, code: str, value: float, unit: str, is_red: bool) -> None:  # noqa: FBT001
    encounter = walk(clinic, place)
    clinic.post("Observation", vital(encounter, code, value, unit))
    found = clinic.get(f"Encounter/{encounter['id']}")
    assert (priority(found)["zone"], priority(found)["basis"]) == (("emergency" if is_red else "regular"), "auto")
    assert [each["zone"] for each in board(clinic, place)] == [priority(found)["zone"]]
    assert found["meta"]["versionId"] == ("2" if is_red else "1")
    assert len(clinic.ids(f"Provenance?target=Encounter/{encounter['id']}")) == 1 + is_red


def test_red_flags_count_by_every_door_and_for_those_who_wait_alone(clinic: Fhir, place: str) -> None:
    seen, waits = walk(clinic, place), walk(clinic, place)
    event(clinic, seen, "start")
    clinic.post("Observation", vital(seen, "8867-4", 20, "/min"))
    assert priority(clinic.get(f"Encounter/{seen['id']}"))["zone"] == "regular"
    parts = [{key: value for key, value in vital(waits, "8480-6", 210, "mm[Hg]").items() if key in {"code", "valueQuantity"}}]
    pressure = vital(waits, "85354-9", 1, "1") | {"component": parts}
    del pressure["valueQuantity"]
    entry = {"resource": {**pressure, "id": "bp"}, "request": {"method": "PUT", "url": f"Observation/{waits['id']}"}}
    entry["resource"]["id"] = waits["id"]
    clinic.bundle("transaction", entry)
    assert priority(clinic.get(f"Encounter/{waits['id']}"))["reason"] == {"text": "Systolic blood pressure 210 mm[Hg]"}


# By other doors


def put(fhir: Fhir, encounter: Json, answer: int = 200, **fields: Any) -> Json:
    there = fhir.get(f"Encounter/{encounter['id']}")
    found: Json = fhir.put(f"Encounter/{encounter['id']}", {**there, **fields}, answer)
    return found


def test_an_entry_follows_its_encounter_by_a_plain_put(clinic: Fhir, place: str) -> None:
    encounter = walk(clinic, place)
    for status, state in (("triaged", "waiting"), ("in-progress", "in-service"), ("onleave", "in-service")):
        put(clinic, encounter, status=status)
        assert [each["state"] for each in board(clinic, place)] == [state]
    put(clinic, encounter, status="finished")
    assert board(clinic, place) == []
    event(clinic, encounter, "resume", 422)


def test_no_door_moves_an_encounter_outside_the_table(clinic: Fhir, place: str) -> None:
    encounter = walk(clinic, place)
    assert "may become triaged or" in issues(put(clinic, encounter, 422, status="finished"))
    patch = [{"op": "replace", "path": "/status", "value": "onleave"}]
    assert clinic("PATCH", f"Encounter/{encounter['id']}", patch).status_code == 422
    event(clinic, encounter, "start")
    event(clinic, encounter, "complete")
    for status in ("in-progress", "arrived", "cancelled"):
        issues(put(clinic, encounter, 422, status=status))


def test_a_deleted_encounter_leaves_its_queue(clinic: Fhir, place: str) -> None:
    encounter = walk(clinic, place)
    assert clinic("DELETE", f"Encounter/{encounter['id']}").status_code == 204
    assert board(clinic, place) == []


def test_another_patient_and_another_place_are_followed(clinic: Fhir, place: str) -> None:
    other, who = made(clinic, {"resourceType": "Location"}), f"Patient/{made(clinic, patient())}"
    encounter = walk(clinic, place)
    put(clinic, encounter, subject={"reference": who})
    walk(clinic, place, 409, patient=who)
    put(clinic, encounter, location=[{"location": {"reference": f"Location/{other}"}}])
    assert (board(clinic, place), len(board(clinic, other))) == ([], 1)


# Who may


def test_a_doctor_calls_where_they_work(clinic: Fhir, place: str) -> None:
    who = f"Practitioner/{made(clinic, {'resourceType': 'Practitioner'})}"
    doctor = as_role(clinic, "doctor", user=who)
    encounter = walk(clinic, place)
    call(doctor, place, 403)
    role = {"resourceType": "PractitionerRole", "practitioner": {"reference": who}, "location": [{"reference": f"Location/{place}"}]}
    ended = clinic.post("PractitionerRole", {**role, "active": False})
    call(doctor, place, 403)
    clinic.put(f"PractitionerRole/{ended['id']}", {**role, "id": ended["id"], "active": True})
    call(doctor, place, 403, practitioner="Practitioner/other")
    found = call(doctor, place)
    assert (found["id"], found["participant"][0]["individual"]) == (encounter["id"], {"reference": who})


def test_what_a_patient_may_see_and_do(clinic: Fhir, place: str) -> None:
    first, second = walk(clinic, place), walk(clinic, place)
    own = as_role(clinic, "patient", patient=second["subject"]["reference"].removeprefix("Patient/"))
    found = own.get(f"Encounter/{second['id']}/$queue-position")
    values = {each["name"]: each["valueInteger"] for each in found["parameter"]}
    assert (values["position"], values["ahead"]) == (2, 1)
    assert values["estimate"] > 0
    own.get(f"Encounter/{first['id']}/$queue-position", 404)
    own.get(f"Location/{place}/$queue-board", 403)
    event(own, second, "left", 403)
    call(own, place, 403)
    walk(own.other(), place)
    own.post("Encounter/$walk-in", parameters(patient=second["subject"]["reference"], location=f"Location/{place}"), 403)


def test_a_board_token_reads_its_board_and_nothing_else(clinic: Fhir, place: str) -> None:
    encounter = walk(clinic, place)
    wall = Fhir(clinic.app, issue_board(SECRET, place, ttl=60, now=time.time()))
    (shown,) = board(wall, place)
    assert {*shown} == {"token", "zone", "state", "position", "waited"}
    other = made(clinic, {"resourceType": "Location"})
    wall.get(f"Location/{other}/$queue-board", 403)
    for path in (
        f"Location/{place}",
        f"Encounter/{encounter['id']}",
        "Patient",
        f"Encounter/{encounter['id']}/$queue-position",
        "Encounter",
    ):
        assert wall("GET", path).status_code in {403, 404}, path
    assert wall.get("_history").get("total", 0) == 0
    event(wall, encounter, "start", 403)
    call(wall, place, 403)
    assert wall("POST", "Patient", patient()).status_code == 403


def test_the_board_names_encounters_to_those_who_may_see_them_and_never_people(clinic: Fhir, place: str) -> None:
    encounter = walk(clinic, place, patient=f"Patient/{made(clinic, patient())}")
    for role in ("admin", "doctor", "staff"):
        (shown,) = board(as_role(clinic, role), place)
        assert shown["encounter"] == {"reference": f"Encounter/{encounter['id']}"}
    text = clinic("GET", f"Location/{place}/$queue-board").text
    assert "Meier" not in text
    assert encounter["subject"]["reference"] not in text
    assert clinic.get("Location/none/$queue-board", 404)
    outcome = clinic.post("Parameters/$validate", clinic.get(f"Location/{place}/$queue-board"), 200)
    assert [each for each in outcome["issue"] if each["severity"] == "error"] == []
