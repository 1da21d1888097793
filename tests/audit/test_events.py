"""What leaves an event, with what in it, and in which transaction."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server import fhirjson
from fhir_server.access.audit import Event, acting, record
from fhir_server.outcome import Outcome
from fhir_server.search import SYSTEM
from fhir_server.store.ops import Create, Delete, Put
from fhir_server.store.session import Session
from tests.audit.conftest import Trail
from tests.interactions.conftest import entry, made, observation, patient, unique

Json = dict[str, Any]


def kinds(events: list[Json]) -> list[str]:
    return [event["kind"] for event in events]


def test_a_write_leaves_an_event_with_caller_resource_and_patient(shared: Trail) -> None:
    caller = shared.fhir.other(user="anna")
    person = made(shared.fhir, patient())
    headers = {"X-Request-Id": "request-7"}
    [event] = shared.during(lambda: caller.post("Observation", observation(subject={"reference": f"Patient/{person}"}), headers=headers))
    assert (event["kind"], event["action"], event["outcome"], event["actor"]) == ("create", "C", 0, "anna")
    assert (event["type"], event["version"], event["patients"], event["request_id"]) == ("Observation", 1, [person], "request-7")
    assert event["address"] == "127.0.0.1"


def test_each_kind_of_write_is_told_apart(shared: Trail) -> None:
    identity = unique()
    fhir = shared.fhir
    body = patient(id=identity)
    work = [
        lambda: fhir.put(f"Patient/{identity}", body, 201),
        lambda: fhir.put(f"Patient/{identity}", body | {"active": True}),
        lambda: fhir("PATCH", f"Patient/{identity}", [{"op": "replace", "path": "/active", "value": False}]),
        lambda: fhir("DELETE", f"Patient/{identity}"),
    ]
    found = [event for each in work for event in shared.during(each)]
    assert [(event["kind"], event["action"], event["version"]) for event in found] == [
        ("create", "C", 1),
        ("update", "U", 2),
        ("patch", "U", 3),
        ("delete", "D", 4),
    ]
    assert all(event["patients"] == [identity] for event in found)


def test_a_result_that_moves_to_another_patient_concerns_both(shared: Trail) -> None:
    one, other = made(shared.fhir, patient()), made(shared.fhir, patient())
    result = made(shared.fhir, observation(subject={"reference": f"Patient/{one}"}))
    moved = observation(id=result, subject={"reference": f"Patient/{other}"})
    [event] = shared.during(lambda: shared.fhir.put(f"Observation/{result}", moved))
    assert event["patients"] == sorted([one, other])
    [event] = shared.during(lambda: shared.fhir("DELETE", f"Observation/{result}"))
    assert event["patients"] == [other]


def test_every_resource_of_a_transaction_has_its_event(shared: Trail) -> None:
    link = "urn:uuid:00000000-0000-4000-8000-000000000001"
    entries = [entry("POST", "Patient", patient(), link)]
    entries += [entry("POST", "Observation", observation(subject={"reference": link})) for _ in range(600)]
    events = shared.during(lambda: shared.fhir.bundle("transaction", *entries))
    assert kinds(events) == ["create"] * 601
    assert len({tuple(event["patients"]) for event in events}) == 1


def test_what_is_rolled_back_leaves_no_event(shared: Trail) -> None:
    def refuse(_db: object) -> None:
        raise Outcome("conflict", "no")

    def work() -> None:
        with pytest.raises(Outcome):
            shared.store.transact([Create(patient())], SYSTEM, then=refuse)
        shared.fhir.bundle("transaction", entry("POST", "Patient", patient()), entry("GET", f"Patient/{unique()}"), status=404)

    assert [event for event in shared.during(work) if event["kind"] == "create"] == []


def test_an_event_in_a_transaction_goes_with_it(shared: Trail) -> None:
    def rolled_back() -> None:
        with Session.connect(shared.url) as connection:
            record(connection, Event("client-change", "anna"))
            connection.rollback()

    assert shared.during(rolled_back) == []
    assert kinds(shared.during(lambda: record(shared.store, Event("client-change", "anna"), Event("policy-change", "anna")))) == [
        "client-change",
        "policy-change",
    ]


def test_reads_leave_events_with_the_patients_that_were_seen(shared: Trail) -> None:
    fhir = shared.fhir
    person = made(fhir, patient())
    result = made(fhir, observation(subject={"reference": f"Patient/{person}"}))
    for path, kind in (
        (f"Observation/{result}", "read"),
        (f"Observation/{result}?_elements=status", "read"),
        (f"Observation/{result}/_history/1", "vread"),
        (f"Observation/{result}/_history", "history"),
        (f"Observation?_id={result}", "search"),
        (f"Observation?_id={result}&_elements=status", "search"),
        (f"Observation?patient={person}&code=nothing", "search"),
        (f"Observation?patient={person}&_summary=count", "search"),
        (f"Patient/{person}/Observation", "search"),
        (f"?_type=Observation&_id={result}", "search"),
        (f"Patient?_id={person}&_revinclude=Observation:subject", "search"),
        (f"Patient/{person}/$everything", "operation"),
        (f"Observation/$lastn?patient={person}&code=29463-7", "operation"),
        (f'$graphql?query={{Observation(id:"{result}"){{status}}}}', "operation"),
    ):
        events = shared.during(lambda path=path: fhir.get(path))  # type: ignore[misc]
        assert kinds(events) == [kind], path
        assert events[0]["patients"] == [person], path
        assert events[0]["outcome"] == 0


def test_a_search_tells_what_was_asked(shared: Trail) -> None:
    [event] = shared.during(lambda: shared.fhir.get("Patient?name=meier%20%C3%A4&_count=1"))
    assert event["query"] == "Patient?name=meier+%C3%A4&_count=1"


def test_each_entry_of_a_batch_is_an_event_of_its_own(shared: Trail) -> None:
    person = made(shared.fhir, patient())
    events = shared.during(
        lambda: shared.fhir.bundle(
            "batch",
            entry("GET", f"Patient/{person}"),
            entry("POST", "Patient", patient()),
            entry("GET", "Patient?name=x"),
            entry("DELETE", "AuditEvent/1"),
        )
    )
    assert sorted(kinds(events)) == ["create", "read", "search"]


def test_what_is_denied_is_an_event(shared: Trail) -> None:
    reader = shared.fhir.other(user="bob", scope="system/Patient.rs")
    person = made(shared.fhir, patient())
    for work in (
        lambda: reader.get("Observation?code=x", 403),
        lambda: reader.post("Observation", observation(), 403),
        lambda: reader.get("AuditEvent", 403),
        lambda: reader("DELETE", f"Patient/{person}"),
    ):
        [event] = shared.during(work)
        assert (event["kind"], event["outcome"], event["actor"]) == ("denied", 4, "bob")
        assert event["patients"] == ([person] if event["type"] == "Patient" else [])


def test_what_is_not_there_is_an_event_of_a_read_that_failed(shared: Trail) -> None:
    nobody = unique()
    [event] = shared.during(lambda: shared.fhir.get(f"Patient/{nobody}", 404))
    assert (event["kind"], event["outcome"], event["patients"], event["resource"]) == ("read", 4, [nobody], nobody)


def test_hostile_texts_are_written_down_all_the_same(shared: Trail) -> None:
    [event] = shared.during(lambda: shared.fhir.get("Patient?name=%00&family=%EF%BF%BF" + "x" * 5_000, 400))
    assert event["query"].startswith("Patient?name=%00")
    record(shared.store, Event("denied", "a\0b\ud800", detail="x" * 100_000))
    [(actor, length)] = shared.sql("SELECT actor, length(detail) FROM audit_event ORDER BY id DESC LIMIT 1")
    assert (actor, length) == ("a\N{REPLACEMENT CHARACTER}b?", 4_000)


def test_bulk_writes_have_an_event_for_each_resource(shared: Trail) -> None:
    stem = unique()
    ops = [Put(patient(id=f"{stem}-{n}"), f"{stem}-{n}") for n in range(1_200)]
    events = shared.during(lambda: shared.store.transact(ops, SYSTEM))
    assert len(events) == 1_200
    assert {event["kind"] for event in events} == {"create"}
    events = shared.during(lambda: shared.store.transact([Delete("Patient", f"{stem}-{n}") for n in range(1_200)], SYSTEM))
    assert {event["kind"] for event in events} == {"delete"}


def test_accounts_leave_events_whoever_writes_them(shared: Trail) -> None:
    login = unique("anna")

    def work() -> None:
        with shared.store.database.connection() as connection, connection.transaction():
            acting(connection, "root", address="192.0.2.9", request_id="r1")
            connection.execute(
                "INSERT INTO account (id, login, folded, state, roles, email, password_hash, created)"
                " VALUES (%s, %s, %s, 'active', '{staff}', 'secret', 'secret', now())",
                (login, login, login),
            )
        with shared.store.database.connection() as connection:
            connection.execute("UPDATE account SET roles = '{staff,doctor}', state = 'locked' WHERE id = %s", (login,))
            connection.execute("UPDATE account SET password_hash = 'other' WHERE id = %s", (login,))
            connection.execute("UPDATE account SET demo = false WHERE id = %s", (login,))

    added, changed, password = shared.during(work)
    assert (added["kind"], added["actor"], added["address"], added["request_id"], added["detail"]) == (
        "account-change",
        "root",
        "192.0.2.9",
        "r1",
        "added: staff",
    )
    assert (changed["actor"], changed["resource"]) == ("system", login)
    assert changed["detail"] == "changed: roles, state; roles staff -> staff, doctor; state active -> locked"
    assert password["kind"] == "password-change"
    assert "secret" not in fhirjson.dumps([str(each) for each in (added, changed, password)]).decode()
