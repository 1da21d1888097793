"""Each predicate finds its index, and newest-first pages stop early."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from fhir_server.search import SYSTEM, Grant, Scope, compile_count, compile_search, cursor
from fhir_server.search.compile import compile_revinclude
from fhir_server.search.conditions import granted
from fhir_server.search.grant import Denial, Party
from fhir_server.search.narrow import narrowed
from fhir_server.search.params.reference import Target
from fhir_server.search.query import Chain, Criterion, Gathered, Include
from fhir_server.search.statement import Statement
from fhir_server.search.tables import metadata
from tests.plans import nodes

ROWS = 20_000


@pytest.fixture(scope="module")
def filled(database: Any) -> Iterator[Any]:
    """20,000 Observations of 100 patients with 100 codes, one a minute."""
    registry, execute = database.registry, database.connection.execute
    pid = {code: param.pid for code, param in registry.supported_params("Observation").items()}
    tid, patient = registry.types["Observation"], registry.types["Patient"]
    series = f"FROM generate_series(1, {ROWS}) g"
    at = "timestamptz '2020-01-01' + make_interval(mins => g)"
    with database.connection.transaction(force_rollback=True):
        execute(f"INSERT INTO resource SELECT g, {tid}, 'o' || g, g, 1, false, {at} {series}")
        execute(
            "INSERT INTO resource_version (vid, rid, type, version, method, at, txn, body) OVERRIDING SYSTEM VALUE"
            f" SELECT g, g, {tid}, 1, 'P', {at}, g, '{{}}' {series}"
        )
        execute("INSERT INTO token_system (sid, url) OVERRIDING SYSTEM VALUE VALUES (1000000, 'http://s')")
        coded = f"SELECT {pid['code']}, 'c' || g % 100, 1000000, g, true, true {series}"
        execute(f"INSERT INTO sp_token (pid, code, system, rid, low, high) {coded}")
        execute(f"INSERT INTO sp_date (pid, lo, hi, rid, low, high) SELECT {pid['date']}, {at}, {at} + interval '1 s', g, true, true {series}")
        # Dates of others, so that the statistics of the column say little of the dates of Observations.
        execute(f"INSERT INTO sp_date (pid, lo, hi, rid, low, high) SELECT 1, '1960-01-01', '1960-01-02', g, true, true {series}")
        execute(
            "INSERT INTO sp_quantity (pid, lo, hi, system, code, unit, dimension, canonical_lo, canonical_hi, rid, low, high)"
            f" SELECT {pid['value-quantity']}, g, g, 0, 'mg', 'mg', 'g', g * 0.001, g * 0.001, g, true, true {series}"
        )
        execute(
            "INSERT INTO sp_token_quantity (pid, a_code, a_system, b_lo, b_hi, b_system, b_code, b_unit, rid)"
            f" SELECT {pid['code-value-quantity']}, 'c' || g % 100, 1000000, g, g, 0, 'mg', 'mg', g {series}"
        )
        text = f"{pid['value-string']}, 'text' || g, 'Text' || g, g, true, true {series}"
        execute(f"INSERT INTO sp_string (pid, folded, value, rid, low, high) SELECT {text}")
        execute(f"INSERT INTO sp_uri (pid, value, rid, low, high) SELECT {pid['_source']}, 'urn:s:' || g % 1000, g, true, true {series}")
        execute(
            "INSERT INTO sp_reference (pid, id, type, rid, clinical, codes, low, high)"
            f" SELECT {pid['patient']}, 'p' || g / 200, {patient}, g, {at} + interval '1 s', ARRAY['c' || g % 100], true, true {series}"
        )
        words = f"{pid['_content']}, array_to_tsvector(ARRAY['=Observation', 'w' || g % 500]), g {series}"
        execute(f"INSERT INTO sp_words (pid, words, rid) SELECT {words}")
        _patients(execute, registry)
        # As every snapshot has it.
        execute("SET LOCAL enable_seqscan = off")
        for table in metadata.tables:
            execute(f"ANALYZE {table}")
        yield database


def _patients(execute: Any, registry: Any) -> None:
    """A hundred patients, one of them a man, each with a name of their own, older than all Observations."""
    pid = {code: param.pid for code, param in registry.supported_params("Patient").items()}
    rid, series = -100, "FROM generate_series(0, 99) g"
    execute(f"INSERT INTO resource SELECT {rid} + g, {registry.types['Patient']}, 'p' || g, {rid} + g, 1, false, '2020-01-01' {series}")
    execute(
        "INSERT INTO resource_version (vid, rid, type, version, method, at, txn, body) OVERRIDING SYSTEM VALUE"
        f" SELECT {rid} + g, {rid} + g, {registry.types['Patient']}, 1, 'P', '2020-01-01', g, '{{}}' {series}"
    )
    gender = "CASE WHEN g = 7 THEN 'male' ELSE 'female' END"
    execute(f"INSERT INTO sp_token (pid, code, system, rid, low, high) SELECT {pid['gender']}, {gender}, 0, {rid} + g, true, true {series}")
    named = "'name' || g, 'Name' || g"
    execute(f"INSERT INTO sp_string (pid, folded, value, rid, low, high) SELECT {pid['name']}, {named}, {rid} + g, true, true {series}")


def explain(database: Any, statement: Any) -> list[dict[str, Any]]:
    """The nodes of a plan that ran."""
    found = database.connection.execute("EXPLAIN (ANALYZE, FORMAT JSON) " + statement.text, statement.params).fetchone()[0]
    return [node for node in nodes(found[0]["Plan"]) if node["Actual Loops"]]


def touched(plan: list[dict[str, Any]]) -> float:
    """Rows that scans gave, filtered ones included."""
    scans = [node for node in plan if "Relation Name" in node]
    return float(sum((node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"] for node in scans))


@pytest.mark.parametrize(
    ("params", "index", "most"),
    [
        ([("code", "c7")], "sp_token_code", 100),
        ([("code", "http://s|c7")], "sp_token_code", 100),
        ([("patient", "p7")], "sp_reference_id", 100),
        # The patient's rows that carry the code, and the code's row of each.
        ([("patient", "Patient/p7"), ("code", "c7")], "sp_reference_id", 300),
        ([("patient", "p7"), ("_sort", "-date")], "sp_reference_clinical", 100),
        ([("patient", "Patient/p7"), ("code", "c7"), ("_sort", "-date")], "sp_reference_clinical", 500),
        ([("patient", "p7"), ("code", "c7"), ("_sort", "-date")], "sp_reference_id", 700),
        ([("date", "2020-01-05T10:00")], "sp_date", 100),
        ([("date", "ge2020-01-14T10:00")], "sp_date", 2_000),
        ([("date", "lt2020-01-01T01:00")], "sp_date", 1_000),
        ([("_sort", "-date")], "sp_date_hi", 100),
        ([("_sort", "date")], "sp_date_lo", 100),
        ([("value-quantity", "100")], "sp_quantity_lo", 100),
        ([("value-quantity", "gt19990")], "sp_quantity_hi", 100),
        ([("value-quantity", "0.1|http://unitsofmeasure.org|g")], "sp_quantity_canonical_lo", 400),
        ([("value-quantity", "gt19.99|http://unitsofmeasure.org|g")], "sp_quantity_canonical_hi", 100),
        ([("code-value-quantity", "c7$gt100")], "sp_token_quantity", 500),
        ([("code-value-quantity", "c7$lt100")], "sp_token_quantity", 200),
        ([("_content", "w7")], "sp_words_words", 200),
        ([("_sort", "code")], "sp_token_code", 100),
        ([("_sort", "-_source")], "sp_uri_value", 100),
        ([("_sort", "patient")], "sp_reference_id", 500),
        # What stands under two numbers: a page of each.
        ([("combo-code", "c7")], "sp_token_code", 700),
        ([("combo-code", "c7"), ("patient", "Patient/p7")], "sp_token_code", 400),
        ([("combo-value-quantity", "gt19990")], "sp_quantity_hi", 200),
        ([("combo-code-value-quantity", "c7$lt100")], "sp_token_quantity", 200),
        ([("_sort", "combo-code")], "sp_token_code", 100),
        ([("_sort", "-combo-value-quantity")], "sp_quantity_hi", 100),
        ([("_sort", "-date,combo-code")], "sp_date_hi", 200),
        ([("subject", "p7")], "sp_reference_id", 700),
        ([("subject", "http://else.example/fhir/Patient/p7")], "sp_reference_id", 100),
        ([("subject", "Patient/p7")], "sp_reference_id", 100),
        ([("subject", "Patient/p7"), ("code", "c7")], "sp_reference_id", 300),
        ([("subject", "Patient/p7"), ("_sort", "-date")], "sp_reference_clinical", 100),
        ([("_sort", "subject")], "sp_reference_id", 500),
        ([("status:missing", "true")], "resource_", 300),
        ([("value-string", "text1999")], "sp_string_folded", 100),
        ([("value-string:exact", "Text19")], "sp_string_folded", 100),
        ([("_sort", "value-string")], "sp_string_folded", 100),
        ([("_source", "urn:s:5")], "sp_uri_value", 100),
        ([("_id", "o5,o6")], "resource_", 100),
        ([("_lastUpdated", "ge2020-01-14"), ("_sort", "-_lastUpdated")], "resource_updated", 100),
        ([("code:not", "c7")], "resource_", 200),
        ([], "resource_", 100),
    ],
)
def test_each_predicate_uses_its_index(filled: Any, params: list[tuple[str, str]], index: str, most: int) -> None:
    query = filled.registry.parse("Observation", params, strict=True)
    query = narrowed(query, filled.registry, SYSTEM, filled.run)
    plan = explain(filled, compile_search(query, filled.registry, SYSTEM))
    assert any(node.get("Index Name", "").startswith(index) for node in plan), [node.get("Index Name") for node in plan]
    # The dictionary of systems and a table of 20,000 rows may be read whole only by mistake.
    assert not [node["Relation Name"] for node in plan if node["Node Type"] == "Seq Scan" and node["Relation Name"] != "token_system"]
    assert touched(plan) <= most


def test_a_chain_that_few_satisfy_is_their_ids_and_one_that_many_do_is_a_condition(filled: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fhir_server.search.narrow.FEW", 10)
    for gender, kind, most in (("male", Criterion, 300), ("female", Chain, 2_000)):
        query = narrowed(filled.registry.parse("Observation", [("patient.gender", gender)], strict=True), filled.registry, SYSTEM, filled.run)
        assert [type(node) for node in query.filters] == [kind]
        plan = explain(filled, compile_search(query, filled.registry, SYSTEM))
        assert touched(plan) <= most
        assert len(filled.run(compile_search(query, filled.registry, SYSTEM))) == 21


def test_what_many_have_under_two_numbers_is_a_page_of_each(filled: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fhir_server.search.narrow.FEW", 10)
    for params, most in (([("combo-code", "c7")], 100), ([("combo-code", "c7"), ("_sort", "-date")], 5_000)):
        query = narrowed(filled.registry.parse("Observation", params, strict=True), filled.registry, SYSTEM, filled.run)
        assert [type(node) for node in query.filters] == [Criterion]
        assert touched(explain(filled, compile_search(query, filled.registry, SYSTEM))) <= most


def test_a_range_that_holds_nothing_is_not_looked_for_in_all(filled: Any) -> None:
    query = narrowed(filled.registry.parse("Observation", [("date", "lt1990")], strict=True), filled.registry, SYSTEM, filled.run)
    assert [type(node) for node in query.filters] == [Gathered]
    assert touched(explain(filled, compile_search(query, filled.registry, SYSTEM))) == 0


def test_a_count_visits_index_rows_only(filled: Any) -> None:
    query = filled.registry.parse("Observation", [("code", "c7"), ("_summary", "count")], strict=True)
    plan = explain(filled, compile_count(query, filled.registry, SYSTEM))
    assert {node["Relation Name"] for node in plan if "Relation Name" in node} == {"sp_token"}
    assert touched(plan) <= 200


@pytest.mark.parametrize(
    "params",
    [[("code", "c7")], [("patient", "p7"), ("_sort", "-date")], [("_sort", "-date")], [], [("date", "ge2020-01-02")], [("combo-code", "c7")]],
)
def test_a_late_page_touches_no_more_than_the_first(filled: Any, params: list[tuple[str, str]]) -> None:
    query = filled.registry.parse("Observation", params, strict=True)
    costs, position = [], None
    for _ in range(9):
        statement = compile_search(query, filled.registry, SYSTEM, position)
        costs.append(touched(explain(filled, statement)))
        last = filled.run(statement)[query.count - 1]
        position = cursor.Position(tuple(last[6:]), last[0])
    assert max(costs[1:]) <= costs[0] * 1.1


def test_reverse_includes_use_the_index(filled: Any) -> None:
    statement = compile_revinclude(
        Include("Observation", "patient"), filled.registry, SYSTEM, [Target(name, filled.registry.types["Patient"]) for name in ("p3", "p4")], 50
    )
    plan = explain(filled, statement)
    assert any(node.get("Index Name") == "sp_reference_id" for node in plan)
    assert touched(plan) <= 600
    rows = filled.run(statement)
    assert len(rows) == 50
    assert [row[0] for row in rows] == sorted((row[0] for row in rows), reverse=True)
    assert all(3 <= row[0] // 200 <= 4 for row in rows)


CLOSED = Grant("dora", frozenset(), (Scope("*", frozenset("rs")),), (Denial((), ("Observation",), unless=Party(("Practitioner/d1",), ("TREAT",))),))


@pytest.fixture(scope="module")
def permitting(filled: Any) -> Iterator[Any]:
    """The same where two of three patients permit it, among many who have no results here."""
    execute, series = filled.connection.execute, f"FROM generate_series(1, {ROWS}) g"
    permits = "'p' || g, '{Practitioner/d1}'::text[], '{TREAT}'::text[], '{}'::smallint[], '-infinity'::timestamptz, 'infinity'::timestamptz"
    with filled.connection.transaction(force_rollback=True):
        execute(f"INSERT INTO consent_permit SELECT g, {permits} {series} WHERE g % 3 > 0")
        execute("ANALYZE consent_permit")
        yield filled


def test_whether_a_patient_permits_a_read_is_two_look_ups(permitting: Any) -> None:
    allowed = granted(CLOSED, permitting.registry, ("Observation",), "r")
    text = f"SELECT v.body FROM resource r JOIN resource_version v ON v.vid = r.vid WHERE r.type = %s AND r.id = %s AND {allowed.text}"
    for identity, found in (("o250", True), ("o650", False)):
        plan = explain(permitting, Statement(text, (permitting.registry.types["Observation"], identity, *allowed.params)))
        assert bool(plan[0]["Actual Rows"]) is found
        assert {node.get("Index Name") for node in plan} >= {"resource_type_id_key", "sp_reference_rid", "consent_permit_patient"}
        assert touched(plan) <= 8


@pytest.mark.parametrize("params", [[], [("code", "c7")], [("patient", "p1")], [("patient", "p1"), ("_sort", "-date")]])
def test_a_page_of_what_patients_permit_stops_early(permitting: Any, params: list[tuple[str, str]]) -> None:
    query = permitting.registry.parse("Observation", [*params, ("_count", "20")], strict=True)
    plan = explain(permitting, compile_search(narrowed(query, permitting.registry, CLOSED, permitting.run), permitting.registry, CLOSED))
    assert plan[0]["Actual Rows"] > 0
    assert touched(plan) < ROWS / 10
