"""The work that is measured. Each function returns the figures of one row of the table in `docs/performance.md`."""

from __future__ import annotations

import bz2
import json
import time
from pathlib import Path
from typing import Any

from .clients import Client, Figures, run
from .resources import nine, observation, patient
from .server import Server

Create = dict[str, Any]
PATIENTS = 500
READ_SQL = f"""\\set n random(0, {PATIENTS - 1})
SELECT r.type, r.id, v.version, v.at, v.method, v.body FROM resource r JOIN resource_version v ON v.vid = r.vid
WHERE r.type = (SELECT tid FROM resource_type WHERE name = 'Patient') AND r.id = 'bench-' || :n;
"""
"""What a read by id asks of the database, for pgbench."""


def create(server: Server) -> Figures:
    """POST of an Observation: validated, indexed, audited."""
    return run(server, "create", lambda client, n: _post(client, observation(n, "Patient/none")), loops=4000)


def _post(client: Client, resource: Create) -> int:
    client.send("POST", resource["resourceType"], json.dumps(resource).encode(), (201,))
    return 1


def read(server: Server) -> Figures:
    """GET by id over 500 patients."""
    client = Client(server)
    for number in range(PATIENTS):
        client.json("PUT", f"Patient/bench-{number}", {**patient(number), "id": f"bench-{number}"})
    return run(server, "read by id", lambda c, n: len(c.send("GET", f"Patient/bench-{n % PATIENTS}", expect=(200,))) and 1, loops=16000)


def crud(server: Server) -> Figures:
    """Create, read, update and delete of nine types: 36 requests a loop."""

    def loop(client: Client, number: int) -> int:
        made = []
        for resource in nine(abs(number)):
            stored = client.json("POST", resource["resourceType"], resource)
            made.append(stored)
        for stored in made:
            client.send("GET", f"{stored['resourceType']}/{stored['id']}", expect=(200,))
        for stored in made:
            stored["language"] = "de"
            client.send("PUT", f"{stored['resourceType']}/{stored['id']}", json.dumps(stored).encode(), (200,))
        for stored in reversed(made):
            client.send("DELETE", f"{stored['resourceType']}/{stored['id']}", expect=(204,))
        return 4 * len(made)

    return run(server, "create+read+update+delete over 9 types", loop, loops=160, warm_up=2)


def small_transaction(server: Server) -> Figures:
    """A transaction of a Patient and an Observation that refers to it by urn:uuid."""

    def loop(client: Client, number: int) -> int:
        link = "urn:uuid:00000000-0000-4000-8000-000000000001"
        entries = [
            {"fullUrl": link, "resource": patient(abs(number)), "request": {"method": "POST", "url": "Patient"}},
            {"resource": observation(abs(number), link), "request": {"method": "POST", "url": "Observation"}},
        ]
        client.send("POST", "", json.dumps({"resourceType": "Bundle", "type": "transaction", "entry": entries}).encode(), (200,))
        return 1

    return run(server, "transaction of Patient + Observation", loop, loops=2500)


def bundles(server: Server, synthea: Path, most: int) -> Figures:
    """Synthea bundles by transaction over HTTP, four at a time; the figure is per resource."""
    files = sorted(synthea.glob("*.json.bz2"))
    client = Client(server)
    for file in files[:2]:
        client.send("POST", "", bz2.decompress(file.read_bytes()), (200,))
    sent = [bz2.decompress(file.read_bytes()) for file in files[2 : 2 + most]]
    sizes = [len(json.loads(data)["entry"]) for data in sent]

    def loop(client: Client, number: int) -> int:
        client.send("POST", "", sent[number], (200,))
        return sizes[number]

    return run(server, "Synthea bundles by transaction, per resource", loop, loops=len(sent), clients=4, warm_up=0)


def searches(server: Server) -> list[Figures]:
    """Code, patient + code, and patient newest first, 20 results each, over what is loaded."""
    client = Client(server)
    found = client.json("GET", "Patient?_count=200&_elements=id")
    patients = [entry["resource"]["id"] for entry in found["entry"]]
    codes = ["8302-2", "29463-7", "8867-4", "39156-5", "72514-3", "8480-6", "2339-0", "6299-2"]

    def search(name: str, query: str) -> Figures:
        def loop(client: Client, number: int) -> int:
            path = query.format(patient=patients[number % len(patients)], code=codes[number % len(codes)])
            client.send("GET", path, expect=(200,))
            return 1

        return run(server, name, loop, loops=2000)

    return [
        search("search by code", "Observation?code={code}&_count=20"),
        search("search by patient + code", "Observation?patient={patient}&code={code}&_count=20"),
        search("search by patient, newest first", "Observation?patient={patient}&_sort=-date&_count=20"),
    ]


def paging(server: Server) -> tuple[float, float]:
    """Seconds for page 1 and for the last of up to 1,000 pages of a long result, each the best of five."""
    client = Client(server)

    def fetch(url: str) -> tuple[Any, float]:
        best = 1e9
        page = None
        for _ in range(5):
            start = time.perf_counter()
            page = client.json("GET", url)
            best = min(best, time.perf_counter() - start)
        return page, best

    page, first = fetch("Observation?_count=20")
    url = ""
    for _ in range(999):
        following = next((link["url"] for link in page["link"] if link["relation"] == "next"), None)
        if following is None:
            break
        url = following.partition("/fhir/")[2]
        page = client.json("GET", url)
    _, last = fetch(url)
    return first, last


def updates(server: Server) -> tuple[float, float]:
    """CPU-milliseconds of the first and of the 200th update of a resource: 500 resources one by one, so that a clock of 10 ms tells 2 % apart."""
    client = Client(server)
    stored = [client.json("POST", "Patient", patient(n)) for n in range(500)]

    def once(turn: int) -> float:
        before = server.cpu_seconds()
        for resource in stored:
            resource["birthDate"] = f"19{turn // 28:02d}-01-{1 + turn % 28:02d}"
            client.send("PUT", f"Patient/{resource['id']}", json.dumps(resource).encode(), (200,))
        return (server.cpu_seconds() - before) * 1000 / len(stored)

    def at_once(turn: int) -> None:
        for resource in stored:
            resource["birthDate"] = f"19{turn // 28:02d}-01-{1 + turn % 28:02d}"
        entries = [{"resource": each, "request": {"method": "PUT", "url": f"Patient/{each['id']}"}} for each in stored]
        client.json("POST", "", {"resourceType": "Bundle", "type": "transaction", "entry": entries})

    once(0)
    first = min(once(turn) for turn in range(1, 4))
    for turn in range(4, 197):
        at_once(turn)
    last = min(once(turn) for turn in range(197, 200))
    return first, last
