"""What charges and invoices cost: `python -m bench.billing`.

One client applies a template; thirty issue drafts of one series at once, which wait in a line for their numbers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from .clients import Client, Figures, run
from .server import Server, serving

_ISSUERS = 30
_DRAFTS = 600
_WARM_UP = 2


def main() -> None:
    """Measures, and prints a row for each."""
    with serving() as server:
        for figures in measure(server):
            p50, p99 = figures.percentile(0.5), figures.percentile(0.99)
            print(f"{figures.name}: {figures.cpu_ms:.1f} CPU-ms, {figures.rate:.0f}/s, p50 {p50:.1f} ms, p99 {p99:.1f} ms", flush=True)


def measure(server: Server) -> Iterator[Figures]:
    """`$apply` by one client, `$generate` by eight, `$issue` and `$credit` of one series by thirty."""
    client = Client(server)
    template = client.json("POST", "ChargeItemDefinition", _template())["id"]
    patients = [client.json("POST", "Patient", {"resourceType": "Patient", "birthDate": "1980-01-01"})["id"] for _ in range(50)]
    count = _DRAFTS + 2 * _WARM_UP * _ISSUERS
    charges: list[str] = []

    def apply(each: Client, number: int) -> int:
        body = _parameters(patient=f"Patient/{patients[number % 50]}")
        charges.append(json.loads(each.send("POST", f"ChargeItemDefinition/{template}/$apply", body, (201,)))["id"])
        return 1

    yield run(server, "$apply of a template with a condition, one client", apply, loops=count, clients=1, warm_up=50)
    drafts: list[str] = []

    def generate(each: Client, _: int) -> int:
        body = _parameters(**{"charge-item": f"ChargeItem/{charges.pop()}"})
        drafts.append(json.loads(each.send("POST", "Invoice/$generate", body, (201,)))["id"])
        return 1

    yield run(server, "$generate of one charge", generate, loops=count, warm_up=2)
    issued: list[str] = []

    def issue(each: Client, _: int) -> int:
        identity = drafts.pop()
        each.send("POST", f"Invoice/{identity}/$issue", None, (200,))
        issued.append(identity)
        return 1

    yield run(server, "$issue, one series, thirty at once", issue, loops=_DRAFTS, clients=_ISSUERS, warm_up=_WARM_UP)

    def credit(each: Client, _: int) -> int:
        body = json.dumps({"resourceType": "Parameters", "parameter": [{"name": "reason", "valueString": "x"}]}).encode()
        each.send("POST", f"Invoice/{issued.pop()}/$credit", body, (201,))
        return 1

    yield run(server, "$credit in full, one series, thirty at once", credit, loops=_DRAFTS // 2, clients=_ISSUERS, warm_up=_WARM_UP)


def _template() -> dict[str, Any]:
    base = {"type": "base", "amount": {"value": 80, "currency": "EUR"}}
    child = {"applicability": [{"expression": "%patient.birthDate > @2015-01-01"}], "priceComponent": [{"type": "discount", "factor": 0.5}]}
    return {
        "resourceType": "ChargeItemDefinition",
        "url": "urn:bench:visit",
        "version": "1",
        "status": "active",
        "propertyGroup": [{"priceComponent": [base, {"type": "tax", "factor": 0.19}]}, child],
    }


def _parameters(**references: str) -> bytes:
    parts = [{"name": name, "valueReference": {"reference": value}} for name, value in references.items()]
    return json.dumps({"resourceType": "Parameters", "parameter": parts}).encode()


if __name__ == "__main__":
    main()
