"""The writer: versions, preconditions, all or nothing, and what it costs in statements."""

from __future__ import annotations

import re
from typing import Any

import psycopg
import pytest

from fhir_server import fhirjson
from fhir_server.outcome import Outcome
from fhir_server.search import SYSTEM, Grant, Scope
from fhir_server.store import HistoryScope, Store
from fhir_server.store.ops import Create, Delete, Op, Patch, Put, Written
from fhir_server.store.tables import INDEX_TABLES


def patient(**fields: Any) -> dict[str, Any]:
    return {"resourceType": "Patient", "name": [{"family": "Meier", "given": ["Ann"]}], **fields}


def write(store: Store, *ops: Op) -> tuple[Written, ...]:
    return store.transact(list(ops), SYSTEM).written


def identity(written: Written) -> str:
    assert written.version is not None
    return written.version.id


def body(written: Written) -> dict[str, Any]:
    assert written.version is not None
    assert written.version.body is not None
    decoded: dict[str, Any] = fhirjson.loads(written.version.body)
    return decoded


def index_rows(url: str, rid: int) -> dict[str, int]:
    counts = {}
    with psycopg.connect(url) as connection:
        for table in INDEX_TABLES:
            row = connection.execute(f"SELECT count(*) FROM {table.name} WHERE rid = %s", (rid,)).fetchone()
            assert row is not None
            counts[table.name] = row[0]
    return counts


def resource_number(url: str, written: Written) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT rid FROM resource WHERE id = %s", (identity(written),)).fetchone()
    assert row is not None
    number: int = row[0]
    return number


def test_create_gives_identity_version_and_time(store: Store) -> None:
    (written,) = write(store, Create(patient(id="mine", meta={"versionId": "7", "lastUpdated": "1999-01-01T00:00:00Z", "source": "urn:lab"})))
    found = body(written)
    assert written.outcome == "created"
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", found["id"])
    assert list(found)[:3] == ["resourceType", "id", "meta"]
    assert found["meta"]["versionId"] == "1"
    assert found["meta"]["source"] == "urn:lab"
    assert not found["meta"]["lastUpdated"].startswith("1999")


def test_numbers_and_unknown_extensions_keep_their_text(store: Store) -> None:
    extensions = b'"extension":[{"url":"urn:x","valueDecimal":1.10},{"url":"urn:y","valueDecimal":1e3}]'
    sent = b'{"resourceType":"Observation","status":"final","code":{"text":"x"},' + extensions + b"}"
    (written,) = write(store, Create(fhirjson.loads(sent)))
    with store.snapshot(SYSTEM) as db:
        found = db.read("Observation", identity(written))
    assert found is not None
    assert found.body is not None
    assert b'"valueDecimal":1.10}' in found.body
    assert b'"valueDecimal":1e3}' in found.body


def test_update_appends_a_version_and_replaces_index_rows_by_their_difference(store: Store, database_url: str) -> None:
    (first,) = write(store, Create(patient(gender="female", birthDate="1990-05-04")))
    before = index_rows(database_url, resource_number(database_url, first))
    (second,) = write(store, Put(patient(id=identity(first), gender="male", birthDate="1990-05-04"), identity(first)))
    assert second.outcome == "updated"
    assert body(second)["meta"]["versionId"] == "2"
    assert index_rows(database_url, resource_number(database_url, first)) == before
    with store.snapshot(SYSTEM) as db:
        old = db.version("Patient", identity(first), 1)
    assert old is not None
    assert old.body is not None
    assert b'"female"' in old.body


def test_delete_leaves_history_and_no_index_rows(store: Store, database_url: str) -> None:
    (first,) = write(store, Create(patient()))
    number = resource_number(database_url, first)
    assert sum(index_rows(database_url, number).values()) > 0
    (gone,) = write(store, Delete("Patient", identity(first)))
    assert gone.outcome == "deleted"
    assert sum(index_rows(database_url, number).values()) == 0
    assert write(store, Delete("Patient", identity(first)))[0].outcome == "nothing"
    with store.snapshot(SYSTEM) as db:
        found, more = db.history(HistoryScope("Patient", identity(first)), 10)
    assert [version.method for _, version in found] == ["DELETE", "POST"]
    assert not more


def test_a_deleted_resource_comes_back_by_update(store: Store) -> None:
    (first,) = write(store, Create(patient()))
    write(store, Delete("Patient", identity(first)))
    (again,) = write(store, Put(patient(id=identity(first)), identity(first)))
    assert again.outcome == "created"
    assert body(again)["meta"]["versionId"] == "3"


@pytest.mark.parametrize(
    ("op", "category"),
    [
        (lambda i: Put(patient(id=i), i, if_match="9"), "precondition"),
        (lambda i: Put(patient(id=i), i, absent=True), "precondition"),
        (lambda _: Put(patient(id="nobody"), "nobody", if_match="1"), "precondition"),
        (lambda i: Delete("Patient", i, if_match="9"), "precondition"),
        (lambda _: Patch("Patient", dict, "nobody"), "not-found"),
    ],
)
def test_refused_writes_leave_no_trace(store: Store, op: Any, category: str) -> None:
    (first,) = write(store, Create(patient()))
    with pytest.raises(Outcome) as refused:
        write(store, Create(patient(gender="other")), op(identity(first)))
    assert refused.value.category == category
    with store.snapshot(SYSTEM) as db:
        assert db.history_total(HistoryScope("Patient", identity(first))) == 1


def test_patch_sees_the_current_content(store: Store) -> None:
    (first,) = write(store, Create(patient(active=False)))
    (patched,) = write(store, Patch("Patient", lambda found: {**found, "active": not found["active"]}, identity(first)))
    assert body(patched)["active"] is True
    assert body(patched)["meta"]["versionId"] == "2"


def test_labels_survive_an_update_that_does_not_mention_them(store: Store) -> None:
    tag = {"system": "urn:t", "code": "keep"}
    (first,) = write(store, Create(patient(meta={"tag": [tag], "profile": ["http://example.org/old"]})))
    (second,) = write(store, Put(patient(id=identity(first), meta={"tag": [{"system": "urn:t", "code": "new"}]}), identity(first)))
    assert body(second)["meta"]["tag"] == [{"system": "urn:t", "code": "new"}, tag]
    assert "profile" not in body(second)["meta"]


def test_links_between_entries_become_references(store: Store) -> None:
    link = "urn:uuid:6f1d1a4e-6a43-4a0a-9a0f-0123456789ab"
    div = f'<div xmlns="http://www.w3.org/1999/xhtml"><a href="{link}">see</a></div>'
    observation = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "x"},
        "identifier": [{"system": "urn:ietf:rfc:3986", "value": link}],
        "subject": {"reference": link},
        "text": {"status": "generated", "div": div},
        "extension": [{"url": "urn:e", "valueUri": link + "#part"}],
    }
    first, second = write(store, Create(patient(), link=link), Create(observation))
    found = body(second)
    target = f"Patient/{identity(first)}"
    assert found["subject"]["reference"] == target
    assert found["text"]["div"] == div.replace(link, target)
    assert found["extension"][0]["valueUri"] == target + "#part"
    assert found["identifier"][0]["value"] == link
    assert observation["subject"] == {"reference": link}, "what was handed in must stay as it was"


def test_one_identity_twice_is_refused(store: Store) -> None:
    with pytest.raises(Outcome, match="more than once"):
        write(store, Put(patient(id="twice"), "twice"), Delete("Patient", "twice"))


def test_once_is_once(store: Store) -> None:
    first = store.transact([Create(patient())], SYSTEM, once=b"key")
    second = store.transact([Create(patient())], SYSTEM, once=b"key")
    assert (first.repeated, len(first.written)) == (False, 1)
    assert (second.repeated, second.written) == (True, ())


def test_what_then_raises_undoes_the_writes(store: Store) -> None:
    def refuse(db: Any) -> None:
        assert db.read("Patient", "undone") is not None
        raise Outcome("not-found", "no")

    with pytest.raises(Outcome, match="no"):
        store.transact([Put(patient(id="undone"), "undone")], SYSTEM, then=refuse)
    with store.snapshot(SYSTEM) as db:
        assert db.read("Patient", "undone") is None


def test_a_grant_without_the_right_opens_neither_door(store: Store) -> None:
    reader = Grant("reader", frozenset(), (Scope("Patient", frozenset("r")),))
    (first,) = write(store, Create(patient()))
    for op in (Create(patient()), Put(patient(id="x"), "x"), Delete("Patient", identity(first))):
        with pytest.raises(Outcome) as refused:
            store.transact([op], reader)
        assert refused.value.category == "forbidden"
    with store.snapshot(reader) as db:
        assert db.read("Patient", identity(first)) is not None
        with pytest.raises(Outcome) as refused:
            db.read("Observation", "x")
    assert refused.value.category == "forbidden"


def test_statements_do_not_grow_with_the_ops(store: Store, statements: Any) -> None:
    one = statements(lambda: write(store, Create(patient())))
    forty = statements(lambda: write(store, *(Create(patient()) for _ in range(40))))
    assert one == forty == 1
    ids = [f"many-{n}" for n in range(40)]
    puts = statements(lambda: write(store, *(Put(patient(id=i, active=False), i) for i in ids)))
    again = statements(lambda: write(store, *(Put(patient(id=i, active=True), i) for i in ids)))
    single = statements(lambda: write(store, Put(patient(id="many-0", active=False), "many-0")))
    assert puts == 4  # BEGIN, lock, write, COMMIT
    assert again == single == 5  # and old index rows away


def test_many_rows_go_by_copy_and_read_back_alike(store: Store, database_url: str) -> None:
    names = [{"family": f"Family{n}", "given": [f"Given{n}"]} for n in range(10)]
    few = write(store, Put(patient(id="few", name=names), "few"))[0]
    many = write(store, *(Put(patient(id=f"copy-{n}", name=names), f"copy-{n}") for n in range(200)))
    assert index_rows(database_url, resource_number(database_url, many[0])) == index_rows(database_url, resource_number(database_url, few))
