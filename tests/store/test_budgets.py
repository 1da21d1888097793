"""What an interaction costs in statements, what a bundle leaves in the index, and that migrations and metadata are one.

The golden file is written anew by `FHIR_WRITE_GOLDEN=1 pytest tests/store/test_budgets.py`; a difference in it is a change of what is searchable.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest
from alembic import command
from alembic.config import Config

from fhir_server import fhirjson
from fhir_server.interactions import Engine, Exchange, Reply, dispatch
from fhir_server.search import SYSTEM
from fhir_server.settings import Settings
from fhir_server.store import Store
from fhir_server.store.index.statements import columns
from fhir_server.store.postgres.migrate import MIGRATIONS
from fhir_server.store.tables import INDEX_TABLES

DATA = Path(__file__).with_name("data")
BASE = "http://localhost/fhir"
LINK = "urn:uuid:00000000-0000-4000-8000-000000000001"
Count = Callable[[Callable[[], object]], int]
Json = dict[str, Any]


@pytest.fixture(scope="module")
def engine(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return Engine.build(store, Settings(data=tmp_path_factory.mktemp("budgets"), jwt_secret="x" * 32))


def ask(engine: Engine, interaction: Any, **fields: Any) -> Reply:
    return dispatch(engine, Exchange(interaction, SYSTEM, BASE, **fields))


def observation(n: int, subject: str, **fields: Any) -> Json:
    code = {"coding": [{"system": "http://loinc.org", "code": f"b-{n}"}]}
    return {"resourceType": "Observation", "status": "final", "code": code, "subject": {"reference": subject}, **fields}


def test_single_interactions(engine: Engine, statements: Count) -> None:
    patient = {"resourceType": "Patient", "id": "budget", "name": [{"family": "Budget"}]}
    ask(engine, "update", type="Patient", id="budget", body=patient)
    ask(engine, "create", type="Observation", body=observation(0, "Patient/budget"))
    engine.store.transact([], SYSTEM)

    def cost(interaction: str, **fields: Any) -> int:
        return statements(lambda: ask(engine, interaction, **fields))

    assert cost("read", type="Patient", id="budget") == 1
    assert cost("vread", type="Patient", id="budget", version="1") == 1
    assert cost("create", type="Observation", body=observation(0, "Patient/budget")) == 1
    # Beside BEGIN and COMMIT: lock, old index rows, write.
    assert cost("update", type="Patient", id="budget", body={**patient, "active": True}) <= 5
    assert cost("patch", type="Patient", id="budget", body=[{"op": "replace", "path": "/active", "value": False}]) <= 5
    # Beside BEGIN, with what else a moment needs, and COMMIT: the page, the includes by type, the total.
    search = (("subject", "Patient/budget"),)
    assert cost("search", type="Observation", params=search) == 2 + 1
    assert cost("search", type="Observation", params=(*search, ("_include", "Observation:subject"))) == 2 + 2
    assert cost("search", type="Observation", params=(*search, ("_include", "Observation:subject"), ("_total", "accurate"))) <= 2 + 3
    assert cost("search", type="Patient", params=(("_id", "budget"), ("_revinclude", "Observation:subject"))) == 2 + 2
    # The page, and which of its updates followed a deletion.
    for _ in range(2):
        ask(engine, "update", type="EnrollmentRequest", id="budget", body={"resourceType": "EnrollmentRequest", "id": "budget"})
    assert cost("history", type="EnrollmentRequest") == 2 + 2
    assert cost("delete", type="Patient", id="budget") <= 5


def test_transactions_cost_no_more_for_more_entries(engine: Engine, statements: Count) -> None:
    def bundle(size: int, stem: str) -> Json:
        entries = [{"fullUrl": LINK, "resource": {"resourceType": "Patient", "id": stem}, "request": {"method": "PUT", "url": f"Patient/{stem}"}}]
        for n in range(size):
            made = observation(n, LINK, id=f"{stem}-{n}")
            entries.append({"resource": made, "request": {"method": "PUT", "url": f"Observation/{stem}-{n}"}})
        return {"resourceType": "Bundle", "type": "transaction", "entry": entries}

    ask(engine, "bundle", body=bundle(1, "warm"))
    ten, hundred = (statements(lambda size=size: ask(engine, "bundle", body=bundle(size, f"t{size}"))) for size in (10, 100))  # type: ignore[misc]
    # The code systems of both were known.
    assert ten == hundred == 4
    again = [statements(lambda size=size: ask(engine, "bundle", body=bundle(size, f"t{size}"))) for size in (10, 100)]  # type: ignore[misc]
    assert again[0] == again[1] <= 5


def test_conditions_of_a_transaction_are_resolved_in_bounded_statements(engine: Engine, statements: Count) -> None:
    def bundle(size: int, stem: str) -> Json:
        entries = []
        for n in range(size):
            made = {"resourceType": "Patient", "identifier": [{"system": "urn:cond", "value": f"{stem}-{n}"}]}
            entries.append({"resource": made, "request": {"method": "POST", "url": "Patient", "ifNoneExist": f"identifier=urn:cond|{stem}-{n}"}})
        return {"resourceType": "Bundle", "type": "transaction", "entry": entries}

    ask(engine, "bundle", body=bundle(1, "warm"))
    counts = [statements(lambda size=size: ask(engine, "bundle", body=bundle(size, f"c{size}"))) for size in (10, 50, 100)]  # type: ignore[misc]
    assert counts[0] == counts[1]
    assert counts[2] == counts[0] + 1


def index_rows(url: str) -> Json:
    """Every index row in a line, with names in place of numbers, by resource and table."""
    found: Json = {}
    with psycopg.connect(url) as connection:
        for table in INDEX_TABLES:
            named = {"system": "(SELECT url FROM token_system WHERE sid = t.{})", "type": "(SELECT name FROM resource_type WHERE tid = t.{})"}
            shown = [f"coalesce({named.get(name.rpartition('_')[2], 't.{}::text').format(name)}, '')" for name in columns(table)[1:]]
            rows = connection.execute(
                "SELECT n.name || '/' || r.id, CASE WHEN t.pid < 0 THEN 'contained ' || p.type || '.' ELSE '' END || p.code,"
                f" {', '.join(shown)} FROM {table.name} t JOIN resource r USING (rid)"
                " JOIN resource_type n ON n.tid = r.type JOIN search_param p ON p.pid = abs(t.pid)"
            ).fetchall()
            for owner, code, *row in rows:
                found.setdefault(owner, {}).setdefault(table.name, []).append(f"{code}: {' · '.join(row)}")
    return {owner: {table: sorted(rows) for table, rows in sorted(tables.items())} for owner, tables in sorted(found.items())}


def test_the_index_rows_of_a_bundle_are_those_of_the_golden_file(fresh_database: Callable[[], str], tmp_path: Path) -> None:
    url = fresh_database()
    store = Store(url, zone=ZoneInfo("Europe/Berlin"), bases=(BASE,), connections=2)
    try:
        engine = Engine.build(store, Settings(data=tmp_path, jwt_secret="x" * 32))
        body = fhirjson.loads((DATA / "bundle.json").read_bytes())
        assert ask(engine, "bundle", body=body).status == 200
        first = index_rows(url)
        # Written again, changed and changed back, the rows are the same.
        assert ask(engine, "bundle", body=body).status == 200
        assert index_rows(url) == first
        for entry in body["entry"]:
            name, identity = entry["resource"]["resourceType"], entry["resource"]["id"]
            ask(engine, "delete", type=name, id=identity)
        assert index_rows(url) == {}
        assert ask(engine, "bundle", body=body).status == 200
        assert index_rows(url) == first
    finally:
        store.close()
    golden = DATA / "index_rows.json"
    if os.environ.get("FHIR_WRITE_GOLDEN"):
        golden.write_bytes(fhirjson.pretty(fhirjson.dumps(first)) + b"\n")
    assert fhirjson.loads(golden.read_bytes()) == fhirjson.loads(fhirjson.dumps(first))


def test_migrations_make_what_the_metadata_says(fresh_database: Callable[[], str]) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["url"] = fresh_database()
    command.check(config)
