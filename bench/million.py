"""The SQL of searches over a million Observations, made by the database itself: rows as a create writes them, without the bodies' variety."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from zoneinfo import ZoneInfo

import psycopg

from fhir_server.search import SYSTEM, compile_search
from fhir_server.store import Store

OBSERVATIONS = 1_000_000
PATIENTS = 2_000
"""So 500 Observations each, as Synthea's patients have."""
_RUNS = 100

_FILL = """
INSERT INTO token_system (url) VALUES ('http://loinc.org');
CREATE TEMPORARY TABLE o AS
SELECT n + 10000000 AS rid, 'obs-' || n AS id,
       'p-' || (hashint4(n) & 16777215) %% {patients} AS patient,
       'code-' || (hashint4(n + 7) & 65535) %% 50 AS code,
       timestamptz '2010-01-01Z' + (hashint4(n + 3) & 16777215) %% 5000 * interval '1 day' + n * interval '1 ms' AS at
FROM generate_series(1, {observations}) n;
INSERT INTO resource (rid, type, id, vid, version, deleted, updated) SELECT rid, {type}, id, rid, 1, false, at FROM o ORDER BY rid;
INSERT INTO resource_version (vid, rid, type, version, method, at, txn, body) OVERRIDING SYSTEM VALUE
SELECT rid, rid, {type}, 1, 'P', at, 0,
       '{{"resourceType":"Observation","id":"' || id || '","note":[{{"text":"' || repeat('x', 700) || '"}}]}}' FROM o ORDER BY rid;
INSERT INTO sp_token (pid, code, system, rid) SELECT {code}, code, 1, rid FROM o ORDER BY rid;
INSERT INTO sp_token (pid, code, system, rid) SELECT {status}, 'final', 1, rid FROM o ORDER BY rid;
INSERT INTO sp_reference (pid, id, type, rid, clinical) SELECT {patient}, patient, {patient_type}, rid, at FROM o ORDER BY rid;
INSERT INTO sp_reference (pid, id, type, rid, clinical) SELECT {subject}, patient, {patient_type}, rid, at FROM o ORDER BY rid;
INSERT INTO sp_date (pid, lo, hi, rid, low, high) SELECT {date}, at, at + interval '1 second', rid, true, true FROM o ORDER BY rid;
"""

QUERIES = {
    "code": [("code", "http://loinc.org|code-7"), ("_count", "20")],
    "patient + code": [("patient", "p-77"), ("code", "http://loinc.org|code-7"), ("_count", "20")],
    "patient, newest first": [("patient", "p-77"), ("_sort", "-date"), ("_count", "20")],
}


def measure(url: str) -> Iterator[tuple[str, float]]:
    """Fills a migrated database, then gives each query's name and the median milliseconds of its SQL, a page of 20 with bodies.

    Planning, running and the way to PostgreSQL and back are in it.
    """
    store = Store(url, zone=ZoneInfo("UTC"), connections=2)
    params = store.registry.supported_params("Observation")
    pids = {code: params[code].pid for code in ("code", "status", "patient", "subject", "date")}
    types = store.registry.types
    text = _FILL.format(observations=OBSERVATIONS, patients=PATIENTS, type=types["Observation"], patient_type=types["Patient"], **pids)
    with psycopg.connect(url, autocommit=True) as connection:
        for step in text.replace("%%", "%").split(";\n"):
            if step.strip():
                connection.execute(step)
        connection.execute("VACUUM ANALYZE")
    for name, query in QUERIES.items():
        statement = compile_search(store.registry.parse("Observation", query, strict=True), store.registry, SYSTEM)
        times = []
        with store.snapshot(SYSTEM) as db:
            for _ in range(_RUNS):
                start = time.perf_counter()
                db.select(statement)
                times.append((time.perf_counter() - start) * 1000)
        yield name, statistics.median(times)
    store.close()
