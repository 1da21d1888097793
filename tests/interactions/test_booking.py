"""No double booking, and no forbidden change of status, through any door that a client has."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fhir_server import fhirjson
from fhir_server.access import issue
from fhir_server.access.roles import Role
from fhir_server.interactions import Engine
from fhir_server.operations.load import load_paths
from fhir_server.settings import Settings
from fhir_server.store import Store
from tests.interactions.conftest import BASE, SECRET, ZONE, Fhir, unique
from tests.store.appointments import OVERBOOKED, appointment

Json = dict[str, Any]
Door = Callable[[Fhir, str, Json], tuple[int, Json]]
RACERS = 50


def answered(fhir: Fhir, method: str, path: str, body: Any, headers: dict[str, str] | None = None) -> tuple[int, Json]:
    """Status and body; the status of the entry where the answer is that of a batch."""
    answer = fhir(method, path, body, headers)
    content = answer.get_json()
    if path == "" and answer.status_code == 200 and content["type"] == "batch-response":
        entry = content["entry"][-1]["response"]
        return int(entry["status"][:3]), entry.get("outcome") or {}
    return answer.status_code, content


def entry(method: str, url: str, resource: Json, **request: str) -> Json:
    return {"resource": resource, "request": {"method": method, "url": url, **request}}


def bundle(kind: str, *entries: Json) -> Json:
    return {"resourceType": "Bundle", "type": kind, "entry": list(entries)}


def patched(fhir: Fhir, identity: str, resource: Json) -> tuple[int, Json]:
    status = [
        {"op": "replace", "path": "/status", "value": resource["status"]},
        {"op": "replace", "path": "/participant", "value": resource["participant"]},
    ]
    return answered(fhir, "PATCH", f"Appointment/{identity}", status)


def patched_by_path(fhir: Fhir, identity: str, resource: Json) -> tuple[int, Json]:
    parts = [
        {"name": "type", "valueCode": "replace"},
        {"name": "path", "valueString": "Appointment.status"},
        {"name": "value", "valueCode": resource["status"]},
    ]
    body = {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": parts}]}
    return answered(fhir, "PATCH", f"Appointment/{identity}", body)


CREATING: dict[str, Door] = {
    "post": lambda fhir, _, body: answered(fhir, "POST", "Appointment", body),
    "put": lambda fhir, identity, body: answered(fhir, "PUT", f"Appointment/new-{identity}", {**body, "id": f"new-{identity}"}),
    "if-none-exist": lambda fhir, identity, body: answered(fhir, "POST", "Appointment", body, {"If-None-Exist": f"identifier=urn:none|{identity}"}),
    "transaction": lambda fhir, _, body: answered(fhir, "POST", "", bundle("transaction", entry("POST", "Appointment", body))),
    "transaction of two": lambda fhir, _, body: answered(
        fhir, "POST", "", bundle("transaction", entry("POST", "Appointment", {**body, "status": "proposed"}), entry("POST", "Appointment", body))
    ),
    "batch": lambda fhir, _, body: answered(fhir, "POST", "", bundle("batch", entry("POST", "Appointment", body))),
}
CHANGING: dict[str, Door] = {
    "put": lambda fhir, identity, body: answered(fhir, "PUT", f"Appointment/{identity}", {**body, "id": identity}),
    "conditional put": lambda fhir, identity, body: answered(fhir, "PUT", f"Appointment?_id={identity}", body),
    "patch": patched,
    "patch by path": patched_by_path,
    "conditional patch": lambda fhir, identity, body: answered(
        fhir, "PATCH", f"Appointment?_id={identity}", [{"op": "replace", "path": "/status", "value": body["status"]}]
    ),
    "transaction": lambda fhir, identity, body: answered(
        fhir, "POST", "", bundle("transaction", entry("PUT", f"Appointment/{identity}", {**body, "id": identity}))
    ),
    "batch": lambda fhir, identity, body: answered(
        fhir, "POST", "", bundle("batch", entry("PUT", f"Appointment/{identity}", {**body, "id": identity}))
    ),
}


@pytest.mark.parametrize("door", CREATING)
def test_no_door_books_what_is_booked(fhir: Fhir, door: str) -> None:
    who = f"Practitioner/{unique()}"
    first = fhir.post("Appointment", appointment(who, f"Patient/{unique()}"))
    status, outcome = CREATING[door](fhir, unique(), appointment(who, f"Patient/{unique()}", start=20))
    assert status == 409
    (told,) = outcome["issue"]
    assert told["code"] == "conflict"
    assert f"{who} is taken from 2031-03-03T09:20:00+01:00 to 2031-03-03T09:30:00+01:00" in told["diagnostics"]
    assert first["id"] not in told["diagnostics"]
    assert fhir.ids(f"Appointment?actor={who}") == [first["id"]]
    assert CREATING[door](fhir, unique(), appointment(who, start=30))[0] in {200, 201}


@pytest.mark.parametrize("door", CHANGING)
def test_no_door_makes_a_booking_of_a_proposal_whose_time_is_taken(fhir: Fhir, door: str) -> None:
    who = f"Practitioner/{unique()}"
    proposed = fhir.post("Appointment", appointment(who, start=20, status="proposed"))
    fhir.post("Appointment", appointment(who))
    assert CHANGING[door](fhir, proposed["id"], appointment(who, start=20))[0] == 409
    assert fhir.get(f"Appointment/{proposed['id']}")["meta"]["versionId"] == "1"


@pytest.mark.parametrize("door", CHANGING)
def test_no_door_makes_a_move_outside_the_table(fhir: Fhir, door: str) -> None:
    who = f"Practitioner/{unique()}"
    final = fhir.post("Appointment", appointment(who, status="cancelled"))
    status, outcome = CHANGING[door](fhir, final["id"], appointment(who))
    assert (status, outcome["issue"][0]["code"]) == (422, "business-rule")
    assert "cancelled cannot become booked" in outcome["issue"][0]["diagnostics"]
    assert fhir.get(f"Appointment/{final['id']}")["meta"]["versionId"] == "1"
    waiting = fhir.post("Appointment", appointment(who, status="proposed"))
    assert CHANGING[door](fhir, waiting["id"], appointment(who))[0] == 200
    assert fhir.get(f"Appointment/{waiting['id']}")["status"] == "booked"


def test_files_are_held_to_the_same(fhir: Fhir, database_url: str, tmp_path: Path) -> None:
    who = f"Practitioner/{unique()}"
    fhir.post("Appointment", appointment(who))
    final = fhir.post("Appointment", appointment(who, status="cancelled"))
    lines = [
        {**appointment(who, start=10), "id": unique("line")},
        {**final, "status": "booked"},
        {**appointment(who, start=30), "id": unique("line")},
    ]
    (tmp_path / "a.ndjson").write_bytes(b"\n".join(fhirjson.dumps(line) for line in lines))
    (tmp_path / "b.json").write_bytes(fhirjson.dumps(bundle("transaction", entry("POST", "Appointment", appointment(who, start=10)))))
    store = Store(database_url, zone=ZONE, bases=(BASE,), connections=2)
    try:
        loaded = load_paths(Engine.build(store, Settings(data=tmp_path, jwt_secret="x" * 32)), [tmp_path], lambda _path, _loaded: None)
    finally:
        store.close()
    assert loaded.resources == 1
    assert sum("is taken from" in line for line in loaded.refused) == 2
    assert sum("cannot become booked" in line for line in loaded.refused) == 1


def test_racers_through_all_doors_make_one_booking(fhir: Fhir) -> None:
    who = f"Practitioner/{unique()}"
    waiting = [fhir.post("Appointment", appointment(who, status="proposed"))["id"] for _ in range(RACERS // 2)]
    doors = [*CREATING.values()]

    def race(number: int) -> int:
        body = appointment(who, f"Patient/{unique()}", start=number % 3)
        if number < len(waiting):
            return list(CHANGING.values())[number % len(CHANGING)](fhir, waiting[number], {**appointment(who), "status": "booked"})[0]
        return doors[number % len(doors)](fhir, unique(), body)[0]

    with ThreadPoolExecutor(RACERS) as pool:
        statuses = Counter(pool.map(race, range(RACERS)))
    assert statuses[409] == RACERS - 1, statuses
    assert statuses[200] + statuses[201] == 1, statuses
    assert len(fhir.ids(f"Appointment?actor={who}&status=booked")) == 1


@pytest.mark.parametrize(("role", "status"), [("staff", 201), ("admin", 201), ("doctor", 403)])
def test_staff_and_admins_overbook_and_doctors_do_not(fhir: Fhir, role: Role, status: int) -> None:
    who = f"Practitioner/{unique()}"
    fhir.post("Appointment", appointment(who))
    token = issue(SECRET, role=role, user=role, patient=None, scope=None, ttl=600, now=time.time(), fhir_user=who if role == "doctor" else None)
    caller = replace(fhir, token=token)
    caller.post("Appointment", appointment(who, start=10, **OVERBOOKED), status)
