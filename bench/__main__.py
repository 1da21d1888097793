"""Runs every benchmark and prints the table of `docs/performance.md`.

    python -m bench [--synthea FOLDER] [--bundles N] [--million]

Without a folder of Synthea bundles the rows that need one are left out. Takes about five minutes.
"""

from __future__ import annotations

import argparse
import bz2
import platform
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from fhir_server import fhirjson
from fhir_server.spec import r4
from fhir_server.store.postgres import connect_to_running
from fhir_server.validation import Validator

from . import access, booking, categories, limits, workloads
from .clients import Client, Figures
from .multiply import multiply
from .server import Server, serving
from .sql import sql

_CLI = str(Path(sys.executable).parent / "fhir-server")


def main() -> None:
    """Measures, row by row."""
    arguments = argparse.ArgumentParser(prog="python -m bench")
    arguments.add_argument("--synthea", type=Path, help="a folder of Synthea bundles (.json.bz2)")
    arguments.add_argument("--bundles", type=int, default=20, help="how many of them go in over HTTP (default: 20)")
    arguments.add_argument("--million", action="store_true", help="also search 100,000 and a million resources (twenty minutes)")
    chosen = arguments.parse_args()
    print(f"{platform.machine()}, {platform.python_implementation()} {platform.python_version()}, {datetime.now(UTC):%Y-%m-%d}\n")
    print("| work | CPU-ms | requests/s | p50 ms | p99 ms | note |\n|---|--:|--:|--:|--:|---|")
    with serving() as server:
        _plain(server)
    if chosen.synthea is not None:
        with serving() as server:
            _row(workloads.bundles(server, chosen.synthea, chosen.bundles))
            _say("memory of an API process after it", f"{server.api_memory():.0f} MB")
        with serving() as server:
            _loaded(server, chosen.synthea)
        _validation(chosen.synthea)
    if chosen.synthea is not None and chosen.million:
        _grown(chosen.synthea)


def _grown(synthea: Path) -> None:
    """Searches over 100,000 and over a million resources, which are the loaded ones many times."""
    first: dict[str, float] = {}
    for copies in (2, 17):
        with serving() as server:
            subprocess.run([_CLI, "load", str(synthea), "--data", str(server.data)], check=True, capture_output=True, text=True)
            with connect_to_running(server.data) as url:
                total = list(multiply(url, copies))[-1]
                print(f"\n{total:,} resources\n", flush=True)
                for name, milliseconds in sql(url, server):
                    _say(f"SQL of a search by {name}", f"{milliseconds:.2f} ms")
            for figures in categories.measure(server):
                growth = f"; {figures.cpu_ms / first[figures.name]:.2f} times the CPU of the smaller set" if figures.name in first else ""
                first.setdefault(figures.name, figures.cpu_ms)
                figures.note += growth
                _row(figures)
            for name, milliseconds in categories.dear(server):
                _say(name, f"{milliseconds:.1f} ms")
            rate, last = categories.download(server, most=total // 1000)
            _say("all Observations by pages of 1,000", f"{rate:,.0f} resources/s; the last page {last:.0f} ms")


def _row(figures: Figures) -> None:
    _print(
        figures.name,
        f"{figures.cpu_ms:.2f}",
        f"{figures.rate:.0f}",
        f"{figures.percentile(0.5):.1f}",
        f"{figures.percentile(0.99):.1f}",
        figures.note,
    )


def _say(name: str, note: str, cpu: str = "") -> None:
    _print(name, cpu, "", "", "", note)


def _print(*cells: str) -> None:
    print("| " + " | ".join(cells) + " |", flush=True)


def _plain(server: Server) -> None:
    """What needs no data: single resources, the loop, small transactions, updates; and the limits of a read."""
    reading = workloads.read(server)
    static = limits.static_route(Client(server).send("GET", "Patient/bench-0"))
    with connect_to_running(server.data) as url:
        database = limits.pgbench(server, url, workloads.READ_SQL)
    reading.note = f"static route {static:.2f}: {static / reading.cpu_ms:.0%}; its SQL in pgbench {database:.2f}"
    _row(reading)
    for workload in (workloads.create, workloads.crud, workloads.small_transaction):
        _row(workload(server))
    first, last = workloads.updates(server)
    _say("200th update against the first", f"{first:.2f} and {last:.2f} CPU-ms: {last / first:.2f} times", f"{last:.2f}")
    for figures in access.measure(server):
        _row(figures)
    _say("1,000 sessions ended by one request", f"{access.end_sessions(server):.2f} s until the first token was refused")
    for figures in booking.measure(server):
        _row(figures)
    seconds, statuses = booking.race(server)
    _say("50 at once for one time", f"{seconds:.2f} s; {statuses[201]} booked, {statuses[409]} told that it is taken")
    _say("memory of an API process", f"{server.api_memory():.0f} MB")


def _loaded(server: Server, synthea: Path) -> None:
    """Loading from files, then searches and paging over what was loaded."""
    before, start = server.cpu_seconds(), time.perf_counter()
    own = _children_cpu()
    subprocess.run([_CLI, "load", str(synthea), "--data", str(server.data)], check=True, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    spent = server.cpu_seconds() - before + _children_cpu() - own
    with connect_to_running(server.data) as url:
        copied = limits.copy_rows(server, url)
        patients = int(Client(server).json("GET", "Patient?_summary=count")["total"])
        total = _resources(url)
        cpu = spent * 1000 / total
        note = f"{total} resources of {patients} patients; COPY of the same rows {copied:.2f}: {copied / cpu:.0%}"
        _print("load, per resource", f"{cpu:.2f}", f"{total / seconds:.0f}", "", "", note)
    for figures in workloads.searches(server):
        _row(figures)
    first, last = workloads.paging(server)
    _say("page 1,000 against page 1", f"{first * 1000:.1f} and {last * 1000:.1f} ms: {last / first:.2f} times")
    _say("memory of an API process after it", f"{server.api_memory():.0f} MB")


def _children_cpu() -> float:
    import resource  # noqa: PLC0415 - POSIX only, like the rest of the figures

    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _resources(url: str) -> int:
    import psycopg  # noqa: PLC0415 - only this row counts in the database

    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*) FROM resource").fetchone()
    assert row is not None
    return int(row[0])


def _validation(synthea: Path) -> None:
    validator = Validator(r4())
    bundles = [fhirjson.loads(bz2.decompress(file.read_bytes())) for file in sorted(synthea.glob("*.json.bz2"))[:12]]
    resources = [entry["resource"] for bundle in bundles for entry in bundle["entry"]]
    for resource in resources[:500]:
        validator.check(resource)
    start = time.process_time()
    for resource in resources:
        validator.check(resource)
    _say("validation, per resource", f"{len(resources)} resources", f"{(time.process_time() - start) * 1000 / len(resources):.3f}")


if __name__ == "__main__":
    main()
