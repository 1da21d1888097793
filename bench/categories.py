"""Searches by category: parameter type and resource type, each a mix of queries with values that real patients have, and some that none has."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator
from urllib.parse import quote

from .clients import Client, Figures, run
from .server import Server

_PREFIXES = ("", "eq", "lt", "gt", "ge", "le", "sa", "eb")
_DAYS = ("1950", "1965-07", "1980-01-15", "1999", "2005-03", "2010", "2013-11-20", "2016-02", "2018-06-01", "2020", "2100-01-01")
_NAMES = ("Smith", "Jones", "García", "Mül", "Rod", "Con", "Bau", "Ha", "Ki", "Lue", "Nienow", "Zzyzx")
_PLACES = ("Boston", "Cambridge", "Wor", "Spring", "Lowell", "Quincy", "Nowhere")
_HOUSES = ("HOSPITAL", "General", "PCP", "Medical", "Health", "Urgent", "Absent")
_CODES = ("8302-2", "29463-7", "8480-6", "8462-4", "8867-4", "39156-5", "72514-3", "718-7", "0000-0")
_VALUES = (30, 60, 72, 80, 98.5, 100, 120, 140, 200, 99999)
_NUMERIC = ("", "eq", "lt", "gt", "ge", "le")

_NEXT = re.compile(rb'"relation":"next","url":"[^"]*/fhir/([^"]*)"')

Queries = Callable[[random.Random], str]


def categories(server: Server) -> dict[str, Queries]:
    """Makers of queries by category, over ids that are there."""
    client = Client(server)
    patients = _ids(client, "Patient", 200)
    encounters = _ids(client, "Encounter", 200)
    practitioners = _ids(client, "Practitioner", 100)

    def pick(values: object) -> Callable[[random.Random], str]:
        listed = list(values)  # type: ignore[call-overload]
        return lambda rng: quote(str(rng.choice(listed)))

    def loinc(rng: random.Random) -> str:
        code = rng.choice(_CODES)
        return rng.choice((code, f"http://loinc.org|{code}", f"{code},{rng.choice(_CODES)}"))

    def any_of(*makers: Queries) -> Queries:
        return lambda rng: rng.choice(makers)(rng)

    def of(text: str, *parts: Callable[[random.Random], str]) -> Queries:
        return lambda rng: text.format(*(part(rng) for part in parts))

    modifier, prefix, numeric = pick(("", "", ":contains")), pick(_PREFIXES), pick(_NUMERIC)
    day, value = pick(_DAYS), pick(_VALUES)
    status = pick(("finished", "http://hl7.org/fhir/encounter-status|finished", "planned"))
    classes = pick(("AMB", "http://terminology.hl7.org/CodeSystem/v3-ActCode|EMER", "IMP", "NONE"))
    kinds = pick(("laboratory", "vital-signs,laboratory", "http://terminology.hl7.org/CodeSystem/observation-category|survey", "nothing"))
    return {
        "string Patient": any_of(of("Patient?name{}={}", modifier, pick(_NAMES)), of("Patient?address{}={}", modifier, pick(_PLACES))),
        "string Organization": of("Organization?name{}={}", modifier, pick(_HOUSES)),
        "date Patient": of("Patient?birthdate={}{}", prefix, day),
        "date Observation": of("Observation?date={}{}", prefix, day),
        "date Encounter": of("Encounter?date={}{}", prefix, day),
        "token Observation": any_of(of("Observation?category={}", kinds), of("Observation?code={}", loinc)),
        "token Encounter": any_of(of("Encounter?status={}", status), of("Encounter?class={}", classes)),
        "quantity Observation": any_of(
            *(of(f"Observation?{code}={{}}{{}}", numeric, value) for code in ("value-quantity", "component-value-quantity", "combo-value-quantity"))
        ),
        "composite Observation": any_of(
            *(
                of(f"Observation?{code}={{}}${{}}{{}}", pick(_CODES), numeric, value)
                for code in ("code-value-quantity", "component-code-value-quantity", "combo-code-value-quantity")
            )
        ),
        "reference Observation": any_of(
            of("Observation?subject=Patient/{}", pick(patients)),
            of("Observation?encounter={}", pick(encounters)),
            of("Observation?performer=Practitioner/{}", pick(practitioners)),
        ),
        "reference Encounter": any_of(of("Encounter?subject={}", pick(patients)), of("Encounter?participant=Practitioner/{}", pick(practitioners))),
        "reference MedicationRequest": any_of(
            of("MedicationRequest?subject={}", pick(patients)),
            of("MedicationRequest?encounter={}", pick(encounters)),
            of("MedicationRequest?requester=Practitioner/{}", pick(practitioners)),
        ),
    }


def measure(server: Server, loops: int = 1_500) -> Iterator[Figures]:
    """One row per category: pages of 20, eight clients, values drawn at random but the same for every build."""
    for name, maker in categories(server).items():
        rng = random.Random(name)
        queries = [f"{maker(rng)}&_count=20" for _ in range(loops)]

        def loop(client: Client, number: int, queries: list[str] = queries) -> int:
            client.send("GET", queries[number % len(queries)], expect=(200,))
            return 1

        figures = run(server, name, loop, loops=loops, warm_up=10)
        figures.note = f"p99 is {figures.percentile(0.99) / figures.percentile(0.5):.1f} times the median"
        yield figures


DEAR = {
    "1,000 codes in one list": "Observation?code=" + ",".join([*_CODES, *(f"c-{n}" for n in range(991))]),
    "value-quantity=le99999": "Observation?value-quantity=le99999",
    "value-quantity=ge99999": "Observation?value-quantity=ge99999",
    "chain of two steps": "Observation?encounter.service-provider.name=HOSPITAL",
    "chain, many": "Observation?patient.gender=female",
    "chain, few": "Observation?patient.family=Nienow",
    "chain, none": "Observation?patient.family=Zzyzx",
    "_has, many": "Patient?_has:Observation:patient:code=8302-2",
    "_has, few": "Patient?_has:Observation:patient:value-quantity=gt5000",
    "count of a code": "Observation?code=8480-6&_summary=count",
    "missing, none": "Observation?status:missing=true",
    "sorted by code": "Observation?_sort=code",
    "not final": "Observation?status:not=final",
    "words": "Observation?_content=pressure",
}
"""Searches that other servers are slow at, each to be answered within 100 ms."""


def dear(server: Server, runs: int = 5) -> Iterator[tuple[str, float]]:
    """Milliseconds of each dear search, by one client, the best of some runs."""
    client = Client(server)
    for name, query in DEAR.items():
        best = 1e9
        for _ in range(runs):
            start = time.perf_counter()
            client.send("GET", f"{query}&_count=20", expect=(200,))
            best = min(best, (time.perf_counter() - start) * 1000)
        yield name, best


def download(server: Server, query: str = "Observation?_count=1000", most: int = 100) -> tuple[float, float]:
    """Resources a second of one stream of pages of 1,000, and milliseconds of its last page."""
    client = Client(server)
    start = time.perf_counter()
    found, url, last = 0, query, 0.0
    for _ in range(most):
        begin = time.perf_counter()
        page = client.send("GET", url)
        last = (time.perf_counter() - begin) * 1000
        found += page.count(b'{"fullUrl":')
        following = _NEXT.search(page, 0, 20_000)
        if following is None:
            break
        url = following[1].decode()
    return found / (time.perf_counter() - start), last


def _ids(client: Client, name: str, count: int) -> list[str]:
    return [entry["fullUrl"].rpartition("/")[2] for entry in client.json("GET", f"{name}?_count={count}&_elements=id")["entry"]]
