"""The strongest law of search: for any resources, query, order and caller, the pages of the SQL are what `matches` finds in memory."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fhir_server.fhirjson import Number
from fhir_server.outcome import Outcome
from fhir_server.search import SYSTEM, Grant, Query, Registry, Scope, compile_count, compile_matching, compile_search, cursor, matches
from fhir_server.search.compartment import permits
from fhir_server.search.params import KINDS

# Few values, so that resources and queries meet.
CODES = ("a", "B", "c")
SYSTEMS = ("http://s.example/1", "http://s.example/2", None)
DATES = (
    "2019",
    "2020",
    "2020-03",
    "2020-03-29",
    "2020-03-29T02:30:00+01:00",
    "2020-03-29T01:30:00Z",
    "2020-10-25T02:30:00.5+02:00",
    "2021-01-01",
    "0001",
    "9999-12-31",
)
NUMBERS = ("0", "1", "1.0", "1.04", "0.95", "-2", "100", "99.6", "1e2", "12345678901234567890.123")
NAMES = ("Müller", "muller", "Mu", "MÜLLER-Lüdenscheidt", "O'Neil", "a,b", "x|y", "100%_", "ß", "straße \\ test", "")
UNITS = (("http://unitsofmeasure.org", "mg"), ("http://unitsofmeasure.org", "Mg"), (None, "mg"))
PATIENTS = ("p0", "p1", "p2")
REFERENCES = (
    *(f"Patient/{p}" for p in PATIENTS),
    "http://localhost/fhir/Patient/p1",
    "http://else.example/fhir/Patient/p1",
    "urn:uuid:1",
    "Device/p1",
    "Patient/p2/_history/3",
)
PREFIXES = ("", "eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap")
UPDATED = ("2020-01-01T00:00:00.000Z", "2020-01-01T00:00:00.001Z", "2020-06-01T12:00:00.000Z")

codings = st.builds(lambda c, s: {"code": c} | ({"system": s} if s else {}), st.sampled_from(CODES), st.sampled_from(SYSTEMS))
concepts = st.fixed_dictionaries({"coding": st.lists(codings, min_size=1, max_size=2)}, optional={"text": st.sampled_from(NAMES[:-1])})
dates = st.sampled_from(DATES)
times = st.sampled_from([date for date in DATES if "T" in date or len(date) == 4])
periods = st.fixed_dictionaries({}, optional={"start": dates, "end": dates})
quantities = st.builds(
    lambda v, u, c: {"value": Number(v), "code": u[1], "unit": u[1]} | ({"system": u[0]} if u[0] else {}) | ({"comparator": c} if c else {}),
    st.sampled_from(NUMBERS),
    st.sampled_from(UNITS),
    st.sampled_from((None, None, "<", ">=")),
)
references = st.sampled_from(REFERENCES).map(lambda text: {"reference": text})
identifiers = st.builds(lambda v, s: {"value": v} | ({"system": s} if s else {}), st.sampled_from(CODES), st.sampled_from(SYSTEMS))
metas = st.fixed_dictionaries(
    {"lastUpdated": st.sampled_from(UPDATED)},
    optional={"tag": st.lists(codings, min_size=1, max_size=2), "profile": st.just(["http://p.example/x|1"]), "source": st.just("urn:source")},
)

patients = st.fixed_dictionaries(
    {
        "resourceType": st.just("Patient"),
        "meta": metas,
        "name": st.lists(
            st.builds(lambda f, g: {"family": f, "given": g}, st.sampled_from(NAMES[:-1]), st.lists(st.sampled_from(NAMES[:-1]), max_size=2)),
            max_size=2,
        ),
    },
    optional={
        "gender": st.sampled_from(("male", "female")),
        "birthDate": st.sampled_from([date for date in DATES if "T" not in date]),
        "identifier": st.lists(identifiers, max_size=2),
        "deceasedBoolean": st.booleans(),
        "telecom": st.lists(
            st.builds(lambda s, v: {"system": s, "value": v}, st.sampled_from(("email", "phone")), st.sampled_from(CODES)), max_size=2
        ),
        "generalPractitioner": st.lists(st.just({"reference": "Practitioner/p1"}), max_size=1),
    },
)
effective: tuple[tuple[str, st.SearchStrategy[Any]], ...] = (
    ("effectiveDateTime", dates),
    ("effectivePeriod", periods),
    ("category", st.lists(concepts, max_size=2)),
)
results: tuple[tuple[str, st.SearchStrategy[Any]], ...] = (
    ("valueQuantity", quantities),
    ("valueCodeableConcept", concepts),
    ("valueString", st.sampled_from(NAMES[:-1])),
)


@st.composite
def observations(draw: st.DrawFn) -> dict[str, Any]:
    (key, value), (second, third) = draw(st.sampled_from(effective)), draw(st.sampled_from(results))
    fixed = {"resourceType": st.just("Observation"), "meta": metas, "status": st.just("final"), "code": concepts, key: value}
    others = {"subject": references, "performer": st.lists(references, max_size=2), "identifier": st.lists(identifiers, max_size=2), second: third}
    found: dict[str, Any] = draw(st.fixed_dictionaries(fixed, optional=others))
    return found


# Chosen first and drawn then: one_of would take patients for one of ten kinds.
resources = st.lists(st.sampled_from((observations(), patients)).flatmap(lambda kind: kind), min_size=5, max_size=14).map(
    lambda found: [{**resource, "id": f"p{number}"} for number, resource in enumerate(found)]
)


def joined(*strategies: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(*strategies).map("".join)


def listed(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(values, min_size=1, max_size=3).map(",".join)


prefixed_dates = joined(st.sampled_from(PREFIXES), dates)
tokens = st.one_of(
    st.sampled_from(CODES), st.builds(lambda s, c: f"{s or ''}|{c}", st.sampled_from(SYSTEMS), st.sampled_from(CODES)), st.just(f"{SYSTEMS[0]}|")
)
texts = st.sampled_from([name.replace("\\", "\\\\").replace(",", "\\,") for name in NAMES if name] + ["m", "M", "STRASSE", "mull"])
amounts = joined(
    st.sampled_from(PREFIXES),
    st.sampled_from(NUMBERS),
    st.sampled_from(("", "", "||mg", "|http://unitsofmeasure.org|mg", "|http://nobody.example|mg")),
)
pointers = st.sampled_from([*PATIENTS, *REFERENCES])


def criterion(name: str, values: st.SearchStrategy[str]) -> st.SearchStrategy[tuple[str, str]]:
    return st.one_of(st.tuples(st.just(name), listed(values)), st.tuples(st.just(f"{name}:missing"), st.sampled_from(("true", "false"))))


def negated(name: str) -> st.SearchStrategy[tuple[str, str]]:
    return st.tuples(st.just(f"{name}:not"), listed(tokens))


common = [
    criterion("_tag", tokens),
    criterion("_profile", st.sampled_from(("http://p.example/x", "http://p.example/x|1", "http://p.example/x|2"))),
    criterion("_source", st.just("urn:source")),
    criterion("_id", st.sampled_from(PATIENTS)),
    criterion("_lastUpdated", joined(st.sampled_from(PREFIXES), st.sampled_from((*UPDATED, "2020", "2020-01-01")))),
    criterion("identifier", tokens),
    negated("identifier"),
]
filters = {
    "Patient": [
        *common,
        criterion("name", texts),
        st.tuples(st.sampled_from(("name:exact", "family:contains", "family", "given:exact")), listed(texts)),
        criterion("birthdate", prefixed_dates),
        criterion("gender", st.sampled_from(("male", "http://hl7.org/fhir/administrative-gender|female", "FEMALE"))),
        criterion("deceased", st.sampled_from(("true", "false"))),
        criterion("email", tokens),
        criterion("phone", tokens),
        criterion("general-practitioner", st.sampled_from(("p1", "Practitioner/p1"))),
    ],
    "Observation": [
        *common,
        criterion("code", tokens),
        negated("code"),
        criterion("combo-code", tokens),
        criterion("category", tokens),
        criterion("date", prefixed_dates),
        criterion("value-quantity", amounts),
        criterion("value-string", texts),
        criterion("value-concept", tokens),
        criterion("patient", pointers),
        criterion("patient", pointers),
        criterion("subject", pointers),
        criterion("performer", pointers),
        st.tuples(st.just("subject:Patient"), listed(st.sampled_from([*PATIENTS, "Device/p1"]))),
    ],
}
orders = {
    "Patient": ("", "", "name", "-name", "birthdate", "-birthdate,family", "_id", "-_lastUpdated,-name", "_lastUpdated"),
    "Observation": (
        "",
        "-date",
        "-date",
        "date",
        "value-quantity",
        "-value-quantity,date",
        "value-string,-date",
        "-_id",
        "date,value-string,-_lastUpdated",
    ),
}
scopes = (Scope("*", frozenset("rs")),)
grants = st.sampled_from((SYSTEM, SYSTEM, *(Grant(patient, frozenset(), scopes, patient) for patient in PATIENTS)))


@st.composite
def searches(draw: st.DrawFn) -> tuple[str, list[tuple[str, str]]]:
    name = draw(st.sampled_from(("Patient", "Observation", "Observation")))
    params = draw(st.lists(st.sampled_from(filters[name]).flatmap(lambda found: found), max_size=3))
    order = draw(st.sampled_from(orders[name]))
    return name, [*params, *([("_sort", order)] if order else []), ("_count", str(draw(st.integers(1, 4))))]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(resources=resources, searches=st.lists(searches(), min_size=8, max_size=20), grant=grants)
def test_pages_are_what_matches(
    database: Any, resources: list[dict[str, Any]], searches: list[tuple[str, list[tuple[str, str]]]], grant: Grant
) -> None:
    registry = database.registry
    with database.holding(resources) as run:
        for name, params in searches:
            query = registry.parse(name, params, strict=True)
            found = [
                (rid, resource)
                for rid, resource in enumerate(resources, start=1)
                if resource["resourceType"] == name and matches(query, resource, registry) and permits(grant, registry, resource)
            ]
            expected = ordered(query, found, registry)
            assert paged(run, query, registry, grant, len(resources)) == expected, (name, params)
            assert run(compile_count(query, registry, grant)) == [(len(expected),)]
            assert sorted(row[0] for row in run(compile_matching(query, registry, grant, 50))) == sorted(expected)


def paged(run: Any, query: Query, registry: Registry, grant: Grant, most: int) -> list[int]:
    shown: list[int] = []
    position = None
    for _ in range(most + 1):
        rows = run(compile_search(query, registry, grant, position))
        shown += [row[0] for row in rows[: query.count]]
        if len(rows) <= query.count:
            return shown
        last = rows[query.count - 1]
        text = cursor.encode(cursor.Position(tuple(last[6:]), last[0]), key=b"k", query=query.text, actor=grant.actor)
        position = cursor.decode(text, key=b"k", query=query.text, actor=grant.actor)
    raise AssertionError(f"paging does not end: {shown}")


def ordered(query: Query, found: list[tuple[int, dict[str, Any]]], registry: Registry) -> list[int]:
    """Python's stable sort, from the last key to the first; what lacks a key comes last either way."""
    descending = not query.sort or query.sort[0].descending
    found = sorted(found, key=lambda entry: entry[0], reverse=descending)
    for key in reversed(query.sort):
        lacking = [entry for entry in found if value(key.param, key.descending, entry[1], registry) is None]
        having = [entry for entry in found if value(key.param, key.descending, entry[1], registry) is not None]
        found = sorted(having, key=lambda entry, key=key: value(key.param, key.descending, entry[1], registry), reverse=key.descending) + lacking  # type: ignore[misc]
    return [rid for rid, _ in found]


def value(param: Any, descending: bool, resource: dict[str, Any], registry: Registry) -> Any:  # noqa: FBT001 - a test's own
    if param.code == "_id":
        return resource["id"]
    if param.code == "_lastUpdated":
        return resource["meta"]["lastUpdated"]
    kind = KINDS[param.type]
    ends = [kind.ends(row[1:]) for row in registry.rows(resource).get(kind.TABLE, ()) if row[0] == param.pid]
    if not ends:
        return None
    return max(high for _, high in ends) if descending else min(low for low, _ in ends)


def test_a_grant_without_search_is_refused(database: Any) -> None:
    query = database.registry.parse("Observation", [], strict=True)
    for grant in (Grant("x", frozenset(), ()), Grant("x", frozenset(), (Scope("Patient", frozenset("rs")), Scope("*", frozenset("r"))))):
        for compiled in (compile_search, compile_count):
            with pytest.raises(Outcome) as caught:
                compiled(query, database.registry, grant)
            assert caught.value.category == "forbidden"
