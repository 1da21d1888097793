"""Bounds of what one transaction may take, and what is refused rather than done by half."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest

from fhir_server.outcome import Outcome
from fhir_server.search import SYSTEM, Query
from fhir_server.store import Store
from fhir_server.store.ops import Create, Delete, Lookup, Op, Put, Written


def identified(value: str, system: str = "urn:limits", **fields: Any) -> dict[str, Any]:
    return {"resourceType": "Patient", "identifier": [{"system": system, "value": value}], **fields}


def criteria(store: Store, text: str) -> Query:
    name, _, value = text.partition("=")
    return store.registry.parse("Patient", [(name, value)], strict=True)


def test_thousands_of_conditions_leave_room_in_the_lock_table(store: Store, statements: Callable[[Callable[[], object]], int]) -> None:
    """PostgreSQL has 6,400 places as it is set up here."""
    ops: list[Op] = [Create(identified(f"many-{n}"), criteria(store, f"identifier=urn:limits|many-{n}")) for n in range(12_000)]
    written: list[Written] = []
    count = statements(lambda: written.extend(store.transact(ops, SYSTEM).written))
    assert {each.outcome for each in written} == {"created"}
    assert count < 12_000 / 50 + 24 * 2 + 10


@pytest.mark.parametrize("second", ["create", "put"])
def test_one_condition_twice_in_a_transaction_makes_nothing_twice(store: Store, second: str) -> None:
    value = f"twice-{second}"
    query = criteria(store, f"identifier=urn:limits|{value}")
    other: Op = Create(identified(value), query) if second == "create" else Put(identified(value), criteria=query)
    with pytest.raises(Outcome) as refused:
        store.transact([Create(identified(value), query), other], SYSTEM)
    assert (refused.value.category, refused.value.issues[0].code) == ("parameter", "duplicate")
    store.transact([Create(identified(value), query)], SYSTEM)
    # What is there already is found by both.
    assert [each.outcome for each in store.transact([Create(identified(value), query)] * 2, SYSTEM).written] == ["found", "found"]


def test_a_conditional_delete_takes_all_or_none(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.transact([Create(identified("wide")) for _ in range(4)], SYSTEM)
    query = criteria(store, "identifier=urn:limits|wide")
    monkeypatch.setattr("fhir_server.store.writing.identify._MAX_DELETED", 3)
    with pytest.raises(Outcome) as refused:
        store.transact([Delete("Patient", criteria=query, multiple=True)], SYSTEM)
    assert refused.value.category == "multiple-matches"
    monkeypatch.setattr("fhir_server.store.writing.identify._MAX_DELETED", 4)
    assert store.transact([Delete("Patient", criteria=query, multiple=True)], SYSTEM).written[0].deleted == 4


def test_what_a_transaction_deletes_it_does_not_find(store: Store) -> None:
    store.transact([Put(identified("goes", id=f"goes-{n}"), f"goes-{n}") for n in range(3)], SYSTEM)
    query = criteria(store, "identifier=urn:limits|goes")
    text = "Patient?identifier=urn:limits|goes"
    basic = {"resourceType": "Basic", "code": {"text": "x"}, "subject": {"reference": text}}
    # Of three, one goes: two are still too many.
    with pytest.raises(Outcome, match="more than one match"):
        store.transact([Delete("Patient", "goes-0"), Create(identified("goes"), query)], SYSTEM)
    with pytest.raises(Outcome, match="more than one match"):
        store.transact([Delete("Patient", "goes-0"), Create(basic)], SYSTEM, lookups=[Lookup(text, query)])
    commit = store.transact([Delete("Patient", "goes-0"), Delete("Patient", "goes-1"), Create(basic)], SYSTEM, lookups=[Lookup(text, query)])
    assert commit.links == {text: "Patient/goes-2"}


def test_more_code_systems_than_are_kept_in_memory(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fhir_server.store.index.dictionary._MAX_SYSTEMS", 10)
    store = Store(database_url, zone=ZoneInfo("UTC"), connections=2)
    try:
        systems = [f"urn:limits-system-{n}" for n in range(30)]
        for _ in range(2):
            (written,) = store.transact(
                [Create({"resourceType": "Patient", "identifier": [{"system": system, "value": "many"} for system in systems]})], SYSTEM
            ).written
            assert written.outcome == "created"
            assert len(store._dictionary._systems) <= 10
    finally:
        store.close()
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT count(*) FROM token_system WHERE url LIKE 'urn:limits-system-%'").fetchone() == (30,)


def test_known_code_systems_use_no_numbers_up(database_url: str) -> None:
    def write() -> None:
        store = Store(database_url, zone=ZoneInfo("UTC"), connections=2)
        try:
            store.transact([Create(identified("x", "urn:limits-known"))], SYSTEM)
        finally:
            store.close()

    write()
    with psycopg.connect(database_url, autocommit=True) as connection:
        number = "SELECT last_value FROM token_system_sid_seq"
        before = connection.execute(number).fetchone()
        write()
        assert connection.execute(number).fetchone() == before


def test_a_code_system_of_any_length_can_be_stored(store: Store) -> None:
    """An index row has room for 2,704 bytes, a search value for 2,048 characters."""
    text = "urn:" + "".join(f"{n:x}" for n in range(9_000))
    longest, searched = store.transact([Create(identified("long", text)), Create(identified("long", text[:1_900]))], SYSTEM).written
    assert longest.outcome == "created"
    (found,) = store.transact([Create(identified("long"), criteria(store, f"identifier={text[:1_900]}|long"))], SYSTEM).written
    assert found.outcome == "found"
    assert found.version is not None
    assert searched.version is not None
    assert found.version.id == searched.version.id


def test_a_document_with_its_own_resources_is_no_dangling_reference(fresh_database: Callable[[], str]) -> None:
    store = Store(fresh_database(), zone=ZoneInfo("UTC"), connections=2, referential_integrity=True)
    try:
        inside = {"resourceType": "Composition", "id": "inside", "status": "final"}
        document = {
            "resourceType": "Bundle",
            "type": "document",
            "entry": [{"fullUrl": "http://x.example.org/Composition/inside", "resource": inside}],
        }
        (written,) = store.transact([Create(document)], SYSTEM).written
        assert written.outcome == "created"
    finally:
        store.close()
