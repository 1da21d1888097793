"""Ops of several callers in one transaction: all or nothing, each held to its own grant, and each told of for itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from fhir_server import fhirjson
from fhir_server.outcome import Outcome
from fhir_server.search import SYSTEM, Grant, Scope
from fhir_server.store import Store
from fhir_server.store.database import Connection
from fhir_server.store.ids import new_id
from fhir_server.store.ops import Commit, Create, Op, Put
from fhir_server.store.units import Unit

CLERK = Grant("a clerk", frozenset(), (Scope("Patient", frozenset("cruds")),))
READER = Grant("a reader", frozenset(), (Scope("*", frozenset("rs")),))
ONLY_ACTIVE = Grant("of the active", frozenset(), (Scope("Patient", frozenset("cu"), "active=true"),))


def beside(_connection: Connection, _commits: Sequence[Commit]) -> None:
    """Nothing to add."""


def patient(identity: str, **fields: Any) -> Put:
    return Put({"resourceType": "Patient", "id": identity, **fields}, identity)


def unit(*ops: Op, grant: Grant = SYSTEM, **fields: Any) -> Unit:
    return Unit(ops, grant, **fields)


def there(store: Store, *identities: str) -> list[bool]:
    with store.latest(SYSTEM) as db:
        return [db.read("Patient", identity) is not None for identity in identities]


def test_each_unit_has_its_own_transaction_caller_and_provenance(store: Store) -> None:
    ids = [new_id() for _ in range(3)]
    provenance = {"resourceType": "Provenance", "recorded": "2026-01-02T10:15:00Z", "agent": [{"who": {"display": "a lab"}}]}
    units = [
        unit(patient(ids[0]), request_id=f"r{ids[0]}", address="192.0.2.1", provenance=provenance),
        unit(patient(ids[1]), patient(ids[2]), grant=CLERK, request_id=f"r{ids[1]}", address="192.0.2.2"),
    ]
    commits = store.transact_all(units, beside)
    assert [[each.version.id for each in commit.written if each.version] for commit in commits] == [ids[:1], ids[1:]]
    with store.database.connection() as connection:
        rows = connection.execute(
            "SELECT e.resource, e.actor, e.address, e.request_id, t.actor, t.request_id FROM audit_event e JOIN resource r ON r.id = e.resource"
            " JOIN resource_version v USING (vid) JOIN transaction t ON t.txn = v.txn WHERE e.resource = ANY(%s)",
            (ids,),
        ).fetchall()
        (told,) = connection.execute(
            "SELECT v.body FROM resource_version v JOIN resource r USING (vid) WHERE v.body LIKE %s AND v.body LIKE '%%\"Provenance\"%%'",
            (f"%Patient/{ids[0]}/_history/1%",),
        ).fetchall()
    first = (ids[0], "system", "192.0.2.1", f"r{ids[0]}", "system", f"r{ids[0]}")
    others = [(identity, "a clerk", "192.0.2.2", f"r{ids[1]}", "a clerk", f"r{ids[1]}") for identity in ids[1:]]
    assert sorted(rows) == sorted([first, *others])
    assert fhirjson.loads(told[0].encode())["target"] == [{"reference": f"Patient/{ids[0]}/_history/1"}]


@pytest.mark.parametrize(
    ("refused", "category"),
    [
        (lambda _: unit(patient(new_id()), grant=READER), "forbidden"),
        (lambda _: unit(patient(new_id()), grant=ONLY_ACTIVE), "forbidden"),
        (lambda _: unit(Put({"resourceType": "Patient", "id": "x"}, "x", if_match="9")), "precondition"),
        (lambda one: unit(patient(one)), "parameter"),
        (lambda _: unit(patient(new_id()), seen=[("Patient", new_id(), 1)]), "conflict"),
    ],
    ids=["type", "content", "version", "twice", "seen"],
)
def test_what_is_refused_of_one_takes_the_others_along(store: Store, refused: Callable[[str], Unit], category: str) -> None:
    one = new_id()
    with pytest.raises(Outcome) as raised:
        store.transact_all([unit(patient(one)), refused(one)], beside)
    assert raised.value.category == category
    assert there(store, one) == [False]


def test_a_unit_is_not_let_through_by_the_grant_of_another(store: Store) -> None:
    one, other = new_id(), new_id()
    observation = Create({"resourceType": "Observation", "status": "final", "code": {"text": "x"}})
    with pytest.raises(Outcome) as raised:
        store.transact_all([unit(patient(one), observation), unit(patient(other), observation, grant=CLERK)], beside)
    assert raised.value.category == "forbidden"
    assert there(store, one, other) == [False, False]


def test_what_stands_beside_falls_with_all_units(store: Store) -> None:
    one, other = new_id(), new_id()

    def fail(_connection: Connection, commits: Sequence[Commit]) -> None:
        assert len(commits) == 2
        raise Outcome("conflict", "no")

    with pytest.raises(Outcome, match="no"):
        store.transact_all([unit(patient(one)), unit(patient(other))], fail)
    assert there(store, one, other) == [False, False]


def test_more_units_cost_no_more_statements(store: Store, statements: Callable[[Callable[[], object]], int]) -> None:
    def write(count: int) -> None:
        store.transact_all([unit(patient(new_id())) for _ in range(count)], beside)

    write(1)
    assert statements(lambda: write(1)) == statements(lambda: write(30)) == 4
