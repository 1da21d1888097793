"""The SQL of the three searches that clinics ask most, without HTTP: planning, running, and the way to PostgreSQL and back."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from zoneinfo import ZoneInfo

from fhir_server.search import SYSTEM, compile_search
from fhir_server.store import Store

from .clients import Client
from .server import Server

_RUNS = 100
_CODE = ("code", "http://loinc.org|8302-2")


def sql(url: str, server: Server) -> Iterator[tuple[str, float]]:
    """Each query's name and the median milliseconds of a page of 20 with bodies, over a hundred patients that were asked for before."""
    found = Client(server).json("GET", f"Patient?_count={_RUNS}&_elements=id")
    patients = [entry["fullUrl"].rpartition("/")[2] for entry in found["entry"]]
    store = Store(url, zone=ZoneInfo("UTC"), connections=2)
    try:
        for name in ("code", "patient + code", "patient, newest first"):
            times: list[float] = []
            with store.snapshot(SYSTEM) as db:
                # The first round brings the pages of the tables into memory.
                for patient in (*patients, *patients):
                    asked = {"code": [_CODE], "patient + code": [("patient", patient), _CODE]}.get(name, [("patient", patient), ("_sort", "-date")])
                    statement = compile_search(store.registry.parse("Observation", asked, strict=True), store.registry, SYSTEM)
                    start = time.perf_counter()
                    db.select(statement)
                    times.append((time.perf_counter() - start) * 1000)
            yield name, statistics.median(times[_RUNS:])
    finally:
        store.close()
