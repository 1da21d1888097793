"""Which resources refer to another one, and that one stays as it was seen."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Thread

import pytest

from fhir_server.outcome import Outcome
from fhir_server.search import SYSTEM
from fhir_server.store import Store
from fhir_server.store.database import Connection
from fhir_server.store.ops import Commit, Create, Delete, Op, Put
from fhir_server.store.units import Unit


def patient(store: Store) -> str:
    written = store.transact([Create({"resourceType": "Patient"})], SYSTEM).written[0].version
    assert written is not None
    return written.id


def test_what_refers_to_a_resource_is_found_by_any_of_its_elements(store: Store) -> None:
    one, other = patient(store), patient(store)
    ops: list[Op] = [
        Create({"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "subject": {"reference": f"Patient/{one}"}}),
        Create(
            {
                "resourceType": "Coverage",
                "status": "active",
                "beneficiary": {"reference": f"Patient/{other}"},
                "subscriber": {"reference": f"Patient/{one}"},
            }
        ),
        Create({"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "subject": {"reference": f"Patient/{other}"}}),
        Create({"resourceType": "Observation", "status": "final", "code": {"text": "gone"}, "subject": {"reference": f"Patient/{one}"}}),
    ]
    made = [each.version for each in store.transact(ops, SYSTEM).written]
    assert made[3] is not None
    store.transact([Delete("Observation", made[3].id)], SYSTEM)
    with store.latest(SYSTEM) as db:
        found = {(each.type, each.id) for each in db.referring("Patient", one)}
    assert found == {(each.type, each.id) for each in made[:2] if each is not None}


def basic(text: str) -> Create:
    return Create({"resourceType": "Basic", "code": {"text": text}})


def test_a_resource_that_was_seen_stays_until_the_transaction_ends(store: Store) -> None:
    identity = patient(store)
    later = Thread(target=lambda: store.transact([Put({"resourceType": "Patient", "id": identity, "active": False}, identity)], SYSTEM))
    waits: list[bool] = []

    def beside(_connection: Connection, _commits: Sequence[Commit]) -> None:
        later.start()
        later.join(0.3)
        waits.append(later.is_alive())

    unit = Unit([basic("x")], SYSTEM, seen=[("Patient", identity, 1)])
    store.transact_all([unit], beside)
    later.join()
    assert waits == [True]
    with pytest.raises(Outcome, match="changed") as raised:
        store.transact_all([unit], lambda _connection, _commits: None)
    assert (raised.value.category, raised.value.issues[0].code) == ("conflict", "transient")
