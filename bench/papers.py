"""What papers cost: the time and memory of a process that prints, and requests for an invoice, first and copied."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from statistics import median
from typing import Any
from zoneinfo import ZoneInfo

from fhir_server import fhirjson
from fhir_server.papers import KINDS, Look, Record, Wording, press
from fhir_server.settings import CANON

from .clients import Client, Figures, run
from .server import serving

_ROUNDS = 30
_REQUESTS = 200
_PATIENT: dict[str, Any] = {"resourceType": "Patient", "id": "p", "name": [{"family": "Rivera", "given": ["Ana"]}], "birthDate": "1968-04-12"}
_CLINIC: dict[str, Any] = {"resourceType": "Organization", "name": "Hillside Practice", "address": [{"line": ["4 Orchard Lane"]}]}


def invoice(lines: int) -> dict[str, Any]:
    """An issued invoice with so many lines."""
    money = {"value": Decimal("40.00"), "currency": "EUR"}
    tax = {"type": "tax", "factor": Decimal("0.19"), "amount": {"value": Decimal("7.60"), "currency": "EUR"}}
    item = {"chargeItemCodeableConcept": {"text": "Consultation of twenty minutes"}, "priceComponent": [{"type": "base", "amount": money}, tax]}
    number = [{"system": f"{CANON}/sid/invoice-number", "value": "INV-2026-000012"}]
    front = {"resourceType": "Invoice", "id": "i", "status": "issued", "identifier": number, "date": "2026-11-30"}
    return front | {"subject": {"reference": "Patient/p"}, "lineItem": [item] * lines, "totalGross": money}


def report(results: int, earlier: int) -> Record:
    """A report with so many results, each with so many earlier values."""
    known: dict[str, Any] = {"Patient/p": _PATIENT}
    before: list[dict[str, Any]] = []
    for n in range(results):
        for place in range(earlier + 1):
            made = {
                "resourceType": "Observation",
                "id": f"{n}-{place}",
                "code": {"coding": [{"code": str(n)}], "text": f"Test {n}"},
                "effectiveDateTime": f"20{26 - place:02}-11-29",
                "valueQuantity": {"value": Decimal(n + place) / 4, "unit": "mmol/L"},
                "referenceRange": [{"low": {"value": 1}, "high": {"value": 5}}],
            }
            if place:
                before.append(made)
            else:
                known[f"Observation/{n}-0"] = made
    main = {"resourceType": "DiagnosticReport", "id": "r", "status": "final", "subject": {"reference": "Patient/p"}}
    return Record(main | {"result": [{"reference": f"Observation/{n}-0"} for n in range(results)]}, known, {"earlier": before}, _CLINIC)


def alone() -> None:
    """Prints in this process, one after the other."""
    wording, at = Wording("en", ZoneInfo("UTC")), datetime(2026, 11, 30, tzinfo=UTC)
    print(f"memory before the first: {_memory()} MB")
    bill = {n: Record(invoice(n), {"Patient/p": _PATIENT}, {}, _CLINIC) for n in (3, 60, 1000)}
    works: dict[str, tuple[str, Record]] = {f"an invoice of {n} lines": ("invoice", made) for n, made in bill.items()}
    works["a report of 12 results, each with 8 earlier values"] = ("report", report(12, 8))
    print("| paper | first ms | median ms | CPU-ms | kB | memory MB |\n|---|--:|--:|--:|--:|--:|")
    for name, (kind, made) in works.items():
        took, size, cpu = [], 0, time.process_time()
        for n in range(_ROUNDS):
            began = time.perf_counter()
            look = Look(at, link=f"https://clinic.example/paper/{n:016}")
            size = len(press(KINDS[kind](made, wording), look))
            took.append((time.perf_counter() - began) * 1000)
        cpu_ms = (time.process_time() - cpu) * 1000 / _ROUNDS
        print(f"| {name} | {took[0]:.0f} | {median(took):.0f} | {cpu_ms:.0f} | {size / 1000:.0f} | {_memory()} |", flush=True)


def asked() -> None:
    """Requests to a server, by eight clients."""
    print("| request | CPU-ms | a second | p50 ms | p99 ms |\n|---|--:|--:|--:|--:|")
    with serving(None) as server:
        client = Client(server)
        owner = client.json("POST", "Patient", {name: value for name, value in _PATIENT.items() if name != "id"})["id"]
        made = fhirjson.loads(fhirjson.dumps(invoice(5) | {"subject": {"reference": f"Patient/{owner}"}}))
        body = fhirjson.dumps({name: value for name, value in made.items() if name != "id"})
        ids = [json.loads(client.send("POST", "Invoice", body))["id"] for _ in range(_REQUESTS)]

        for clients in (1, 8):
            half = ids[: _REQUESTS // 2] if clients == 1 else ids[_REQUESTS // 2 :]

            def ask(each: Client, n: int, half: list[str] = half) -> int:
                each.send("GET", f"Invoice/{half[n % len(half)]}/$document")
                return 1

            _row(run(server, f"an invoice of 5 lines, first, {clients} at once", ask, loops=len(half), clients=clients, warm_up=0))
            _row(run(server, f"its copy, {clients} at once", ask, loops=len(half), clients=clients, warm_up=0))


def _row(figures: Figures) -> None:
    p50, p99 = figures.percentile(0.5), figures.percentile(0.99)
    print(f"| {figures.name} | {figures.cpu_ms:.2f} | {figures.rate:.0f} | {p50:.1f} | {p99:.1f} |", flush=True)


def _memory() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096 // 1_000_000


if __name__ == "__main__":
    alone()
    asked()
