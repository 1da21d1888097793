"""Entries through every door, by chance: whatever is done, an entry says what its Encounter says, and nobody stands where they do not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fhir_server import fhirjson
from fhir_server.clinic.acting import Act
from fhir_server.clinic.queue.arriving import walk_in
from fhir_server.clinic.queue.board import lines
from fhir_server.clinic.queue.moving import EVENTS, call_next, happen, triage
from fhir_server.clinic.queue.order import ZONES
from fhir_server.outcome import Outcome
from fhir_server.search import SYSTEM
from fhir_server.store import Store
from fhir_server.store.ops import Create, Delete, Patch, Put
from fhir_server.store.rules.queueing.following import MOVES, STATUSES, zone_of
from tests.clinic.queue.test_upkeep import identity, opened

__all__ = ["opened"]
ACT = Act("queue-event", SYSTEM)
STATUS = ("planned", "arrived", "triaged", "in-progress", "onleave", "finished", "cancelled", "entered-in-error")
STEP = st.one_of(
    st.tuples(st.just("event"), st.sampled_from([*EVENTS, "undo"])),
    st.tuples(st.just("put"), st.sampled_from(STATUS)),
    st.tuples(st.just("patch"), st.sampled_from(STATUS)),
    st.tuples(st.just("triage"), st.sampled_from(ZONES)),
    st.tuples(st.just("call"), st.just("")),
    st.tuples(st.just("flag"), st.just("")),
    st.tuples(st.just("delete"), st.just("")),
)


@pytest.fixture(scope="module")
def places(opened: Store) -> tuple[str, str]:
    made = [identity(opened.transact([Create({"resourceType": "Location"})], SYSTEM)) for _ in range(2)]
    return made[0], made[1]


def do(store: Store, places: tuple[str, str], encounter: str, step: tuple[str, str]) -> Outcome | None:
    """What a step is refused with, None where it is done."""
    kind, what = step
    doors: dict[str, Callable[[], object]] = {
        "event": lambda: happen(store, ACT, encounter, what, places[1] if what == "transfer" else None),
        "put": lambda: store.transact([Put({**content(store, encounter), "status": what}, encounter)], SYSTEM),
        "patch": lambda: store.transact([Patch("Encounter", lambda old: {**old, "status": what}, encounter)], SYSTEM),
        "triage": lambda: triage(store, ACT, encounter, what, "By chance"),
        "call": lambda: call_next(store, ACT, places[0]),
        "flag": lambda: store.transact([Create(flag(encounter))], SYSTEM),
        "delete": lambda: store.transact([Delete("Encounter", encounter)], SYSTEM),
    }
    try:
        doors[kind]()
    except Outcome as outcome:
        return outcome
    return None


def flag(encounter: str) -> dict[str, Any]:
    coded = {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]}
    quantity = {"value": 180, "system": "http://unitsofmeasure.org", "code": "/min"}
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": coded,
        "valueQuantity": quantity,
        "encounter": {"reference": f"Encounter/{encounter}"},
    }


def content(store: Store, encounter: str) -> dict[str, Any]:
    with store.snapshot(SYSTEM) as db:
        version = db.read("Encounter", encounter)
    if version is None or version.body is None:
        raise Outcome("gone", "It was deleted")
    found: dict[str, Any] = fhirjson.loads(version.body)
    return found


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(STEP, max_size=8))
def test_an_entry_and_its_encounter_agree_whatever_is_done(opened: Store, places: tuple[str, str], steps: list[tuple[str, str]]) -> None:
    patient = identity(opened.transact([Create({"resourceType": "Patient"})], SYSTEM))
    with opened.database.connection() as connection:
        connection.execute("DELETE FROM queue_entry")
    encounter = identity(walk_in(opened, ACT, patient, places[0]))
    for step in steps:
        before = _seen(opened, encounter)
        refused = do(opened, places, encounter, step)
        if refused is not None:
            assert refused.category in {"business-rule", "not-found", "gone", "forbidden"}, refused
            assert _seen(opened, encounter) == before, "what is refused changes nothing"
        status, state, standing = _seen(opened, encounter)
        if status is None or status in {"finished", "cancelled", "entered-in-error"}:
            assert (state, standing) == ("ended", 0)
        elif state != "ended":
            assert status in STATUSES[state]  # type: ignore[index]  # one of the states
            assert standing == 1
        if step[0] in {"put", "patch"} and before[1] != "ended" and status != before[0]:
            assert status in (*MOVES.get(str(before[0]), ()), "entered-in-error")


def _seen(store: Store, encounter: str) -> tuple[str | None, str, int]:
    """The Encounter's status, None where it is deleted; the entry's state; on how many boards it stands."""
    try:
        resource = content(store, encounter)
    except Outcome:
        resource = {}
    with store.database.connection() as connection:
        ((state, location, zone),) = connection.execute("SELECT state, location, zone FROM queue_entry WHERE encounter = %s", (encounter,)).fetchall()
        shown = [each for each in lines(connection, location, store.clock()) if each.encounter == encounter]
    if resource and state != "ended":
        assert zone_of(resource) == zone
        assert resource["location"][-1]["location"]["reference"] == f"Location/{location}"
    return resource.get("status"), state, len(shown)
