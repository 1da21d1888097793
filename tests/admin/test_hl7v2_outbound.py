from __future__ import annotations

from typing import Any

import pytest

from fhir_server.hl7v2.outbound import Outbound
from fhir_server.search import SYSTEM
from fhir_server.store.ops import Put
from fhir_server.store.outbox import drain
from tests.admin.conftest import Desk, problem
from tests.hl7v2.outbound.world import APPOINTMENT, PATIENT, Json

LABORATORY: Json = {"name": "Laboratory", "host": "127.0.0.1", "port": 1, "application": "LAB", "facility": "HILL", "events": ["S12", "S15"]}


def test_a_peer_is_registered_shown_changed_and_shut_off(desk: Desk) -> None:
    made = desk.ok("POST", "/hl7v2/peers", LABORATORY, 201)
    assert made["version"] == "2.5.1"
    assert made["charset"] == "UNICODE UTF-8"
    assert desk.ok("GET", f"/hl7v2/peers/{made['id']}") == made
    assert made in desk.ok("GET", "/hl7v2/peers")["items"]
    changed = desk.ok("PATCH", f"/hl7v2/peers/{made['id']}", {"port": 2575, "version": "2.3", "events": ["A28"]})
    assert (changed["port"], changed["version"], changed["events"], changed["name"]) == (2575, "2.3", ["A28"], "Laboratory")
    assert desk.ok("PATCH", f"/hl7v2/peers/{made['id']}", {"disabled": True})["disabled"] is not None
    assert desk.ok("PATCH", f"/hl7v2/peers/{made['id']}", {"disabled": False})["disabled"] is None
    desk.ok("DELETE", f"/hl7v2/peers/{made['id']}", None, 204)
    assert desk.ok("GET", f"/hl7v2/peers/{made['id']}")["disabled"] is not None


def test_who_changes_a_peer_that_has_changed_since_is_told_so(desk: Desk) -> None:
    answer = desk("POST", "/hl7v2/peers", LABORATORY)
    path = answer.headers["Location"]
    desk.ok("PATCH", path, {"port": 3}, If_Match=answer.headers["ETag"])
    problem(desk("PATCH", path, {"port": 4}, If_Match=answer.headers["ETag"]), 412)
    problem(desk("DELETE", path, None, If_Match=answer.headers["ETag"]), 412)


def test_registering_with_a_key_is_done_once(desk: Desk) -> None:
    first = desk.ok("POST", "/hl7v2/peers", LABORATORY, 201, Idempotency_Key="one-laboratory")
    assert desk.ok("POST", "/hl7v2/peers", LABORATORY, 201, Idempotency_Key="one-laboratory") == first


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"events": []}, "events"),
        ({"events": ["S99"]}, "events"),
        ({"port": 0}, "port"),
        ({"port": "2575"}, "port"),
        ({"host": "http://lab"}, "host"),
        ({"version": "2.9"}, "version"),
        ({"application": "A^B"}, "application"),
        ({"ca": "none"}, "ca"),
        ({"seconds": 1000}, "seconds"),
        ({"secret": "x"}, "secret"),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(desk: Desk, fields: dict[str, Any], place: str) -> None:
    told = problem(desk("POST", "/hl7v2/peers", LABORATORY | fields), 422)
    assert place in told["detail"].lower() or place in ("host", "application", "ca")


def test_messages_are_listed_shown_and_replayed(desk: Desk) -> None:
    store, outbound = desk.clinic.store, Outbound(desk.clinic.store, desk.clinic.settings)
    peer = desk.ok("POST", "/hl7v2/peers", {**LABORATORY, "name": "Away"}, 201)
    store.transact([Put(PATIENT, "p1"), Put({**APPOINTMENT, "id": "good"}, "good")], SYSTEM)
    lost = {**APPOINTMENT, "id": "lost", "participant": [{"status": "accepted", "actor": {"reference": "Patient/nobody"}}]}
    store.transact([Put(lost, "lost")], SYSTEM)
    while drain(store.database, "hl7v2", outbound.hear) == "some":
        pass
    page = desk.ok("GET", f"/hl7v2/outbox?peer={peer['id']}&limit=1")
    (dead,) = page["items"]
    assert (dead["state"], dead["resource"], dead["event"]) == ("dead", "lost", "S12")
    (waiting,) = desk.ok("GET", page["next"])["items"]
    assert (waiting["state"], waiting["resource"], waiting["event"]) == ("waiting", "good", "SIU^S12")
    assert "message" not in waiting
    shown = desk.ok("GET", f"/hl7v2/outbox/{waiting['id']}")
    assert shown["message"].startswith("MSH|^~\\&|FHIR-SERVER|CLINIC|LAB|HILL|")
    assert f"|{waiting['control_id']}|" in shown["message"].splitlines()[0]
    assert desk.ok("GET", f"/hl7v2/outbox?peer={peer['id']}&state=dead")["items"] == [dead]
    assert desk.ok("GET", f"/hl7v2/outbox?control_id={waiting['control_id']}")["items"] == [waiting]
    outbound.deliver(peer["id"])
    state = desk.ok("GET", f"/hl7v2/peers/{peer['id']}/state")
    assert (state["waiting"], state["dead"], state["failures"]) == (1, 1, 1)
    assert state["fault"].startswith("no connection")
    problem(desk("POST", f"/hl7v2/outbox/{waiting['id']}/replay"), 409)
    problem(desk("POST", f"/hl7v2/outbox/{dead['id']}/replay"), 422)
    store.transact([Put({"resourceType": "Patient", "id": "nobody"}, "nobody")], SYSTEM)
    again = desk.ok("POST", f"/hl7v2/outbox/{dead['id']}/replay", None, 200, Idempotency_Key="again")
    assert again["state"] == "waiting"
    assert desk.ok("POST", f"/hl7v2/outbox/{dead['id']}/replay", None, 200, Idempotency_Key="again") == again
    looked = desk.ok("GET", "/audit?type=Appointment&resource=good&kind=read")["items"]
    assert [each["detail"] for each in looked] == ["as an HL7 v2 message"]


@pytest.mark.parametrize(
    "path", ["/hl7v2/outbox/999999", "/hl7v2/outbox/99999999999999999999999", "/hl7v2/outbox/x", "/hl7v2/peers/x", "/hl7v2/peers/x/state"]
)
def test_what_is_not_there_is_not_found(desk: Desk, path: str) -> None:
    problem(desk("GET", path), 404)
