"""Which status may follow which: the table of the contract, for every pair."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import product
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from fhir_server.outcome import Outcome
from fhir_server.search import SYSTEM, Grant, Scope
from fhir_server.store import Store
from fhir_server.store.ops import Create, Delete, Patch, Put
from fhir_server.store.rules.lifecycle import MOVES
from tests.store.appointments import DOCTOR, STAFF, appointment

Json = dict[str, Any]
# As the contract has it, apart from the code.
TABLE = """
proposed: pending booked cancelled
waitlist: pending booked cancelled
pending: booked cancelled
booked: arrived checked-in noshow cancelled
arrived: checked-in cancelled booked
checked-in: fulfilled cancelled arrived
noshow: booked arrived
fulfilled:
cancelled:
entered-in-error:
"""
# https://hl7.org/fhir/R4/valueset-appointmentstatus.html
APPOINTMENT_STATUS = {"proposed", "pending", "booked", "arrived", "fulfilled", "cancelled", "noshow", "entered-in-error", "checked-in", "waitlist"}
ALLOWED = {line.split(":")[0]: line.split(":")[1].split() for line in TABLE.strip().splitlines()}


def today(store: Store, status: str, *actors: str, days: int = 0) -> Json:
    day = (store.clock() + timedelta(days=days)).astimezone(ZoneInfo("Europe/Berlin")).replace(hour=0, minute=1)
    times = {"start": day.isoformat(timespec="seconds"), "end": (day + timedelta(minutes=10)).isoformat(timespec="seconds")}
    return {**appointment(*actors, status=status), **times}


def start(store: Store, status: str, days: int = 0) -> str:
    version = store.transact([Create(today(store, status, days=days))], SYSTEM).written[0].version
    assert version is not None
    return version.id


def move(store: Store, identity: str, status: str, grant: Grant = SYSTEM) -> None:
    store.transact([Patch("Appointment", lambda old: {**old, "status": status}, identity)], grant)


def test_the_table_is_that_of_the_contract_and_knows_every_status() -> None:
    assert MOVES["Appointment"] == {status: tuple(after) for status, after in ALLOWED.items()}
    assert set(ALLOWED) == APPOINTMENT_STATUS


@pytest.mark.parametrize("before", ALLOWED)
def test_every_move_in_the_table_and_no_other(store: Store, before: str) -> None:
    for after in ALLOWED:
        identity = start(store, before)
        if after == before or after in ALLOWED[before]:
            move(store, identity, after)
            continue
        with pytest.raises(Outcome, match=f"that is {before} cannot become {after}: it ") as caught:
            move(store, identity, after)
        assert (caught.value.status, caught.value.issues[0].expression) == (422, ("Appointment.status",))


def test_a_new_one_may_begin_with_any_status_also_behind_a_deleted_one(store: Store) -> None:
    for status in ALLOWED:
        identity = start(store, status)
        store.transact([Delete("Appointment", identity)], SYSTEM)
        store.transact([Put({**today(store, "proposed"), "id": identity}, identity)], SYSTEM)


def test_one_forbidden_move_stores_nothing_of_a_transaction(store: Store) -> None:
    fine, final = start(store, "proposed"), start(store, "cancelled")
    with pytest.raises(Outcome, match="it stays so"):
        store.transact(
            [
                Put({**today(store, "booked"), "id": fine}, fine),
                Put({**today(store, "booked"), "id": final}, final),
            ],
            SYSTEM,
        )
    with store.snapshot(SYSTEM) as db:
        assert [version.version for identity in (fine, final) if (version := db.read("Appointment", identity))] == [1, 1]


NARROW = Grant("service", frozenset(), (Scope("*", frozenset("cruds")),))
OF_A_PATIENT = Grant("app", frozenset(), (Scope("*", frozenset("cruds"), patient="p"),))


@pytest.mark.parametrize(("grant", "days", "category"), [
    (STAFF, 0, None), (SYSTEM, 0, None), (NARROW, 0, None), (STAFF, 3, None),
    (STAFF, -1, "business-rule"), (SYSTEM, -400, "business-rule"), (DOCTOR, 0, "forbidden"),
])  # fmt: skip
def test_staff_take_back_a_no_show_on_the_day(store: Store, grant: Grant, days: int, category: str | None) -> None:
    for after in ("booked", "arrived"):
        identity = start(store, "noshow", days)
        if category is None:
            move(store, identity, after, grant)
            continue
        with pytest.raises(Outcome) as caught:
            move(store, identity, after, grant)
        assert caught.value.category == category


def test_a_patients_own_app_takes_back_nothing(store: Store) -> None:
    identity = start(store, "noshow")
    resource = {**today(store, "noshow", "Patient/p"), "id": identity}
    store.transact([Put(resource, identity)], SYSTEM)
    with pytest.raises(Outcome, match="Only staff"):
        move(store, identity, "booked", OF_A_PATIENT)


def test_what_a_caller_may_not_see_tells_nothing_of_its_status(store: Store) -> None:
    others = replace(OF_A_PATIENT, scopes=(Scope("*", frozenset("cruds"), patient="another"),))
    told = set()
    for status, after in product(("booked", "cancelled"), ("arrived", "booked")):
        identity = start(store, status)
        with pytest.raises(Outcome) as caught:
            store.transact([Put({**today(store, after, "Patient/another"), "id": identity}, identity)], others)
        told.add((caught.value.category, str(caught.value)))
    assert len(told) == 1


@pytest.mark.parametrize(("before", "after", "is_allowed"), [
    ("planned", "in-progress", True), ("arrived", "finished", True), ("in-progress", "onleave", True), ("onleave", "in-progress", True),
    ("in-progress", "cancelled", True), ("finished", "entered-in-error", True), ("unknown", "arrived", True),
    ("finished", "in-progress", False), ("cancelled", "arrived", False), ("in-progress", "triaged", False), ("entered-in-error", "finished", False),
])  # fmt: skip
def test_visits_go_forward_and_what_is_over_stays_over(store: Store, before: str, after: str, is_allowed: bool) -> None:  # noqa: FBT001
    version = store.transact([Create({"resourceType": "Encounter", "status": before, "class": {"code": "AMB"}})], NARROW).written[0].version
    assert version is not None
    patch = Patch("Encounter", lambda old: {**old, "status": after}, version.id)
    if is_allowed:
        store.transact([patch], NARROW)
        return
    with pytest.raises(Outcome, match=f"An Encounter that is {before} cannot become {after}") as caught:
        store.transact([patch], NARROW)
    assert caught.value.status == 422
