"""Searches that are refused: by what cannot be read, by what is too dear, and by what takes too long.

https://hl7.org/fhir/R4/search.html#errors
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest

from fhir_server.app import build_app
from fhir_server.interactions import Engine
from fhir_server.operations import names
from fhir_server.search import expression, filters, parse
from fhir_server.settings import Settings
from fhir_server.store import Store
from tests.interactions.conftest import BASE, SECRET, ZONE, Fhir, issues, observation, token, unique

NUMBER, DATE, SYSTEM_CODE = "such as 5.4", "such as 2020, 2020-03-29", "[system]|[code]"

MALFORMED = [
    # Type and name of the parameter, the value, what is said of the form that it should have, and as what the value is named if not as the whole.
    ("RiskAssessment", "probability", "much", NUMBER),
    ("RiskAssessment", "probability", "1|2", NUMBER),
    ("RiskAssessment", "probability", "NaN", NUMBER),
    ("RiskAssessment", "probability", "1e9999", "out of range"),
    ("RiskAssessment", "probability", "gtx", NUMBER),
    ("RiskAssessment", "probability", "0.5,x", NUMBER, "x"),
    ("Patient", "birthdate", "soon", DATE),
    ("Patient", "birthdate", "2020-02-30", DATE),
    ("Patient", "birthdate", "2020-13", DATE),
    ("Patient", "birthdate", "202", DATE),
    ("Patient", "birthdate", "xx2020", DATE),
    ("Patient", "birthdate", "2020-01-01T10", DATE),
    ("Patient", "birthdate", "2020-01-01T25:00Z", DATE),
    ("Patient", "_lastUpdated", "yesterday", DATE),
    ("Patient", "_lastUpdated", "ge20", DATE, "20"),
    ("Observation", "value-quantity", "heavy", NUMBER),
    ("Observation", "value-quantity", "5.4|mg", "[number]|[system]|[code]"),
    ("Observation", "value-quantity", "5.4|a|b|c", "[number]|[system]|[code]"),
    ("Observation", "value-quantity", "gtx||mg", NUMBER, "gtx"),
    ("Observation", "code", "a|b|c", SYSTEM_CODE),
    ("Observation", "code", "|", SYSTEM_CODE),
    ("Observation", "code:not", "a|b|c", SYSTEM_CODE),
    ("Observation", "code:below", "a", SYSTEM_CODE),
    ("Observation", "code:above", "a", SYSTEM_CODE),
    ("Observation", "code:in", "http://example.org/ValueSet/nobody", "load it as a ValueSet"),
    ("Observation", "code:not-in", "http://example.org/ValueSet/nobody", "load it as a ValueSet"),
    ("Observation", "code:below", "http://example.org/nobody|1", "load it as a CodeSystem", "http://example.org/nobody"),
    ("Patient", "identifier:of-type", "a|b", "[system]|[code]|[value]"),
    ("Patient", "identifier:of-type", "a|b|", "[system]|[code]|[value]"),
    ("Observation", "subject:identifier", "a|b|c", SYSTEM_CODE),
    ("Observation", "subject", "Nothing/1", "no resource type"),
    ("Observation", "subject", "a/b/c", "no reference"),
    ("Observation", "subject:Patient", "a/b/c", "no reference"),
    ("Encounter", "location:below", "x/y/z", "no reference to a resource"),
    ("ValueSet", "url:below", "urn:oid:1.2", "such as http://example.org/a"),
    ("ValueSet", "url:above", "somewhere", "such as http://example.org/a"),
    ("Observation", "code-value-quantity", "a", "[token]$[quantity]"),
    ("Observation", "code-value-quantity", "a$b$c", "[token]$[quantity]"),
    ("Observation", "code-value-quantity", "a$heavy", NUMBER, "heavy"),
    ("Location", "near", "48.2", "[latitude]|[longitude]"),
    ("Location", "near", "95|0", "from -90 to 90", "95"),
    ("Location", "near", "0|0|1|parsec", "unit of length", "parsec"),
    ("Patient", "_text", "&", "word to look for"),
    ("Patient", "_content", "&", "word to look for"),
    ("Patient", "_content", "(bone or liver", "bracket"),
    ("Patient", "_list", "$current-problems", "stored list"),
    ("Patient", "birthdate:missing", "maybe", "true or false"),
    ("Patient", "organization.active:missing", "maybe", "true or false"),
    ("Observation", "subject:Patient.birthdate", "soon", DATE),
    ("Patient", "_has:Observation:patient:date", "soon", DATE),
    ("Patient", "_has:Observation:patient:subject:Patient.birthdate", "soon", DATE),
    ("Patient", "_filter", "birthdate gt soon", DATE, "soon"),
    ("Patient", "_filter", "birthdate pr perhaps", "true or false", "perhaps"),
    ("Patient", "_filter", "name is x", "expected one of", "is"),
    ("Patient", "_sort", "birthdate:desc", "no search parameter"),
    ("Patient", "_count", "-1", "a whole number"),
    ("Patient", "_count", "1.5", "a whole number"),
    ("Patient", "_maxresults", "many", "a whole number"),
    ("Patient", "_summary", "yes", "true, text, data, count, false"),
    ("Patient", "_total", "exact", "none, estimate, accurate"),
    ("Patient", "_contained", "yes", "false, true, both"),
    ("Patient", "_containedType", "inner", "container, contained"),
    ("Patient", "_score", "high", "true, false"),
    ("Patient", "_explain", "please", "true, false"),
    ("Patient", "_elements", "na me", "names elements"),
    ("Patient", "_include", "organization", "[type]:[parameter]"),
    ("Patient", "_include", "Nothing:organization", "[type]:[parameter]"),
    ("Patient", "_revinclude", "Observation", "[type]:[parameter]"),
    ("Patient", "_include:iterate", "a:b:c:d", "[type]:[parameter]"),
    ("Patient", "_revinclude", "Observation:code", "reference parameter", "code"),
    ("", "_type", "Patient,Nothing", "no resource type", "Nothing"),
]


@pytest.mark.parametrize("row", MALFORMED, ids=lambda row: f"{row[1]}={row[2]}"[:60])
@pytest.mark.parametrize("handling", ["strict", "lenient"])
def test_what_cannot_be_read_names_the_parameter_the_value_and_the_form(fhir: Fhir, row: tuple[str, ...], handling: str) -> None:
    resource_type, name, value, form, *shown = row
    prefer = {"Prefer": f"handling={handling}"}
    path = f"{resource_type}?{name}={quote(value)}"
    # A key that is not there leaves the order to the server: that is told among the results.
    told = (name, handling) == ("_sort", "lenient")
    said = issues(fhir.get(path, headers=prefer)["entry"][-1]["resource"] if told else fhir.get(path, 400, prefer))
    assert form in said
    assert f"'{(shown or [value])[0]}'" in said
    assert name.removesuffix(":iterate").removesuffix(":missing") in said


# --- what is too dear ---------------------------------------------------------------------------------------------------------------


def listed(name: str, count: int) -> str:
    return f"{name}={','.join(map(str, range(count)))}"


def repeated(text: str, count: int) -> str:
    return "&".join([text] * count)


DEAR: list[tuple[str, Callable[[int], str], int]] = [
    ("alternatives", lambda count: "Patient?" + listed("identifier", count), filters.MAX_ALTERNATIVES),
    (
        "compares",
        lambda count: "Patient?" + "&".join([*[listed("_id", 1_000)] * (count // 1_000), listed("_id", count % 1_000)]),
        filters.MAX_COMPARED,
    ),
    ("chain", lambda count: "Organization?" + "partof." * count + "name=x", filters.MAX_LINKS),
    ("_has", lambda count: "Organization?" + "_has:Organization:partof:" * count + "name=x", filters.MAX_LINKS),
    ("chains", lambda count: "Patient?" + repeated("organization.name=x", count), filters.MAX_LINKS),
    ("lists", lambda count: "Patient?" + repeated("_list=x", count), filters.MAX_LINKS),
    ("hierarchy", lambda count: "Patient?" + repeated("organization:below=x", count), filters.MAX_LINKS),
    ("_sort", lambda count: "Patient?_sort=" + ",".join(["name"] * count), parse.MAX_SORT_KEYS),
    ("_include", lambda count: "Patient?" + repeated("_include=Patient:organization", count), parse.MAX_INCLUDES),
    ("_revinclude", lambda count: "Patient?" + repeated("_revinclude:iterate=Observation:patient", count), parse.MAX_INCLUDES),
    ("_filter", lambda count: "Patient?_filter=" + quote(" or ".join(["name eq x"] * count)), expression.MAX_TESTS),
    ("nesting", lambda count: "Patient?_filter=" + "(" * count + quote("name eq x") + ")" * count, expression.MAX_DEPTH),
]


@pytest.mark.parametrize(("make", "most"), [row[1:] for row in DEAR], ids=[row[0] for row in DEAR])
def test_what_is_too_dear_is_refused_with_the_limit(fhir: Fhir, make: Callable[[int], str], most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "link" in fhir.get(make(most))
    # Nothing of it reaches the database.
    monkeypatch.setattr("fhir_server.store.snapshot.Snapshot.select", lambda *_: pytest.fail("the database was asked"))
    outcome = fhir.get(make(most + 1), 400)
    assert outcome["issue"][0]["code"] == "too-costly"
    assert f"{most:,}" in issues(outcome) or str(most) in issues(outcome)


def test_what_several_types_do_not_share_is_refused(fhir: Fhir) -> None:
    for query in ("?birthdate=2020", "?_type=Patient,Observation&birthdate=2020", "?_type=Patient,Observation&_sort=birthdate"):
        said = issues(fhir.get(query, 400))
        assert "birthdate" in said
        assert "_type" in said
    told = fhir.get("?_type=Patient,Observation&birthdate=2020&_count=1", headers={"Prefer": "handling=lenient"})
    assert "birthdate" in issues(told["entry"][-1]["resource"])


def test_a_chain_to_any_type_asks_for_one(fhir: Fhir) -> None:
    assert "name one" in issues(fhir.get("Provenance?target.name=x", 400))
    fhir.get("Provenance?target:Patient.name=x")


def test_too_many_parameters_and_too_long_values(fhir: Fhir) -> None:
    assert "link" in fhir.get("Patient?" + repeated("name=x", parse.MAX_PARAMETERS))
    for path in ("Patient?" + repeated("name=x", parse.MAX_PARAMETERS + 1), "Patient?name=" + "x" * (filters.MAX_VALUE + 1)):
        outcome = fhir.get(path, 400)
        assert outcome["issue"][0]["code"] == "too-long"


# --- what takes too long ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def hurried(database_url: str, tmp_path: Path) -> Iterator[tuple[Fhir, Store]]:
    """A server with one session, which gives a statement 50 ms."""
    store = Store(database_url, zone=ZONE, bases=(BASE,), connections=1)
    settings = Settings(data=tmp_path, jwt_secret=SECRET, clinic_timezone=ZONE, max_body_mb=4)
    fhir = Fhir(build_app(Engine.build(store, settings, names()), settings), token())
    with store._database.connection() as session:
        session.execute("SET statement_timeout = 50")
    yield fhir, store
    store.close()


def test_a_search_that_takes_too_long_leaves_its_session_clean(hurried: tuple[Fhir, Store], database_url: str) -> None:
    fhir, store = hurried
    value = unique()
    identity = fhir.post("Observation", observation(identifier=[{"value": value}]))["id"]
    searches = [f"Observation?identifier={value}{more}" for more in ("", "&_summary=count", "&_total=accurate&_count=1", "&patient.name=x")]
    with psycopg.connect(database_url) as other:
        other.execute("LOCK TABLE sp_token IN ACCESS EXCLUSIVE MODE")
        for path in searches:
            answer = fhir("GET", path)
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
            assert answer.get_json()["issue"][0]["code"] == "timeout"
            issues(answer.get_json())
        other.rollback()
    with store._database.connection() as session:
        assert session.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        assert session.execute("SHOW statement_timeout").fetchone() == ("50ms",)
    assert fhir.ids(searches[0]) == [identity]
    assert fhir.get(searches[1])["total"] == 1
