"""A transaction of 20,000 entries in a process of its own: bounded memory, bounded statements, everything stored."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import psycopg

ENTRIES = 20_000

WORK = """
import resource, sys
from zoneinfo import ZoneInfo
import psycopg
from fhir_server import fhirjson
from fhir_server.interactions import Engine, Exchange, dispatch
from fhir_server.search import SYSTEM
from fhir_server.settings import Settings
from fhir_server.store import Store
from fhir_server.store.session import Session
from pathlib import Path

counted = 0
execute, copy = Session.execute, psycopg.Cursor.copy
def counting(self, *arguments, **options):
    global counted
    counted += 1
    return execute(self, *arguments, **options)
def counting_copy(self, *arguments, **options):
    global counted
    counted += 1
    return copy(self, *arguments, **options)
Session.execute, psycopg.Cursor.copy = counting, counting_copy

def entry(n):
    method = {"method": "PUT", "url": f"Observation/large-{n}"} if n % 2 else {"method": "POST", "url": "Observation"}
    made = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": f"{n}-1", "display": "A finding that has a name of some length"}]},
        "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "laboratory"}]}],
        "subject": {"reference": "urn:uuid:00000000-0000-4000-8000-000000000000"},
        "effectiveDateTime": "2020-01-31T10:00:00+01:00",
        "valueQuantity": {"value": 1.10, "unit": "mg/dL", "system": "http://unitsofmeasure.org", "code": "mg/dL"},
        "note": [{"text": "x" * 600}],
    }
    if n % 2:
        made["id"] = f"large-{n}"
    return {"fullUrl": f"urn:uuid:00000000-0000-4000-8000-{n:012d}", "resource": made, "request": method}

patient = {"resourceType": "Patient", "id": "large", "name": [{"family": "Large"}]}
entries = [{"fullUrl": "urn:uuid:00000000-0000-4000-8000-000000000000", "resource": patient, "request": {"method": "PUT", "url": "Patient/large"}}]
data = fhirjson.dumps({"resourceType": "Bundle", "type": "transaction", "entry": entries + [entry(n) for n in range(1, int(sys.argv[2]))]})
del entries
store = Store(sys.argv[1], zone=ZoneInfo("UTC"), connections=4)
engine = Engine.build(store, Settings(data=Path("/"), jwt_secret="x" * 32), ())
counts = []
for _ in range(2):
    counted = 0
    reply = dispatch(engine, Exchange("bundle", SYSTEM, "http://localhost/fhir", body=fhirjson.loads(data)))
    counts.append(counted)
assert reply.status == 200
store.close()
# The kernel's own count of a process begins with the memory of whoever started it; that of its address space does not.
status = Path("/proc/self/status")
peaks = [line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM:")] if status.exists() else []
peak = int(peaks[0]) if peaks else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(len(data) // 2**20, peak // 1024, *counts)
"""


def row(url: str, statement: str) -> Any:
    with psycopg.connect(url) as connection:
        return connection.execute(statement).fetchone()


def test_a_transaction_of_20_000_entries_fits_one_gigabyte(fresh_database: Any) -> None:
    url = fresh_database()
    done = subprocess.run([sys.executable, "-c", WORK, url, str(ENTRIES)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    _, megabytes, first, second = map(int, done.stdout.split())
    # The POSTed half is made twice, the other half has two versions.
    assert row(url, "SELECT count(*), count(*) FILTER (WHERE version = 2) FROM resource") == (
        ENTRIES // 2 + ENTRIES // 2 + ENTRIES // 2 - 1,
        ENTRIES // 2 + 1,
    )
    assert row(url, "SELECT count(*) FROM resource_version") == (2 * ENTRIES,)
    assert row(url, "SELECT count(*) FROM resource r WHERE NOT EXISTS (SELECT FROM sp_token t WHERE t.rid = r.rid) AND r.id <> 'large'") == (0,)
    assert megabytes < 1024
    chunks = ENTRIES // 500
    assert first < chunks * 10
    assert second < chunks * 10
