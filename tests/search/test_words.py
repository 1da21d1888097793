"""Full text: which words a resource has, how they are asked for, and that SQL and memory agree."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_server.search import Registry
from fhir_server.search.params import Context, words
from fhir_server.spec import r4

from .conftest import Database

CONTEXT = Context(r4(), {"Patient": 1, "Observation": 2}, ZoneInfo("UTC"))
XHTML = 'xmlns="http://www.w3.org/1999/xhtml"'


def lexemes(resource: dict[str, Any]) -> set[str]:
    maker = words.maker(resource["resourceType"], None, CONTEXT)
    assert maker is not None
    return {lexeme for row in maker(resource) for lexeme in row[0].split(" ")}


def told(text: str) -> dict[str, Any]:
    return {"resourceType": "Patient", "text": {"status": "generated", "div": f"<div {XHTML}>{text}</div>"}}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"name": [{"family": "Müller-Lüdenscheidt", "given": ["Ann", None, "Zoë"]}]}, {"muller", "ludenscheidt", "ann", "zoe"}),
        ({"maritalStatus": {"coding": [{"system": "urn:x", "code": "M", "display": "Married"}], "text": "wed"}}, {"married", "wed"}),
        ({"identifier": [{"system": "urn:mrn", "value": "AB-12"}, {"value": "3f1d0a52-6f0b-4b1c-8f5e-0a1b2c3d4e5f"}]}, {"ab", "12"}),
        ({"telecom": [{"system": "phone", "value": "555 100"}, {"system": "url", "value": "https://ann.example.org"}]}, {"555", "100"}),
        ({"id": "anns", "birthDate": "1970-01-01", "gender": "female", "link": [{"other": {"reference": "Patient/x"}, "type": "seealso"}]}, set()),
        ({"photo": [{"contentType": "image/png", "data": "QUFB", "title": "Passport"}]}, {"passport"}),
        ({"contained": [{"resourceType": "Organization", "id": "o", "name": "Inner Clinic"}]}, {"inner", "clinic"}),
        ({"extension": [{"url": "http://x.example/e", "valueString": "Extended"}]}, {"extended"}),
    ],
)
def test_what_people_read_is_content(fields: dict[str, Any], expected: set[str]) -> None:
    found = lexemes({"resourceType": "Patient", **fields})
    assert found == ({f"'{word}':1" for word in expected} | {"'=Patient'"} if expected else set())


def test_words_of_the_narrative_have_their_weight() -> None:
    resource = told("<p class='hidden'>Ann&#233;e &amp; <b>Tom</b></p><br/>x<y") | {"name": [{"given": ["Tom", "Pat"]}]}
    assert lexemes(resource) == {"'=Patient'", "'annee':1A", "'tom':1A", "'x':1A", "'y':1A", "'pat':1"}


def test_sections_are_content_but_no_narrative() -> None:
    section = {"title": "Plan", "text": {"status": "generated", "div": f"<div {XHTML}>Rest</div>"}}
    assert lexemes({"resourceType": "Composition", "section": [section]}) == {"'=Composition'", "'plan':1", "'rest':1"}


def test_large_texts_are_bounded(database: Database) -> None:
    text = " ".join(f"{'é' * 30}w{number}😀{'字' * 60}" for number in range(20_000))
    [row] = words.maker("Patient", None, CONTEXT)(told(text) | {"name": [{"text": text}]})  # type: ignore[misc]
    assert len(row[0].split(" ")) == 1 + 5_000
    found = database.connection.execute("SELECT length(%s::tsvector)", (row[0],)).fetchone()
    assert found == (5_001,)


@pytest.mark.parametrize("text", ["<" * 300_000, "<a" * 150_000, "&" * 300_000, "'\\:*&|!() " * 10_000])
def test_hostile_narratives_take_linear_time(database: Database, text: str) -> None:
    for row in words.maker("Patient", None, CONTEXT)(told(text)):  # type: ignore[misc]
        database.connection.execute("SELECT %s::tsvector", (row[0],))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Head ache", ("head", "ache")),
        ("head head", ("head",)),
        ("Ärz*", ("arz*",)),
        ('"back pain"', ("back", "pain")),
        ('"back pa*"', ("back", "pa*")),
        ("a-b*", ("a", "b*")),
        ("x" * 50, ("x" * 40,)),
        ("x" * 50 + "*", ("x" * 40 + "*",)),
        (r"one\,two", ("one", "two")),
    ],
)
def test_values(text: str, expected: tuple[str, ...]) -> None:
    assert words.parse(text, None, ("Patient",), CONTEXT) == words.Words(expected, narrative=False, types=("Patient",))
    assert words.parse(text, "narrative", (), CONTEXT) == words.Words(expected, narrative=True, types=())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bone metastases", ["bone metastases"]),
        ("bone and metastases", ["bone metastases"]),
        ("(bone OR liver) and metastases", ["bone metastases", "liver metastases"]),
        ("bone or liver metastases", ["bone", "liver metastases"]),
        ("(a or (b c)) (d or e)", ["a d", "a e", "b c d", "b c e"]),
        ('"black or white" cat', ['"black or white" cat']),
        ('"black', ['" black']),
    ],
)
def test_connectors(text: str, expected: list[str]) -> None:
    assert words.alternatives(text) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [("(a", "bracket"), ("a)", "bracket"), ("(" * 60 + "a" + ")" * 60, "within"), ("(a or b)" * 6, "alternatives"), ("(" * 2_000, "within")],
)
def test_connectors_that_mean_nothing(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        words.alternatives(text)


@pytest.mark.parametrize("text", ["", "*", "-", " ".join(map(str, range(51)))])
def test_no_values(text: str) -> None:
    with pytest.raises(ValueError, match="word"):
        words.parse(text, None, (), CONTEXT)


def test_they_are_parameters_of_their_own(registry: Registry) -> None:
    params = registry.supported_params("Patient")
    assert [(params[code].pid, params[code].type, params[code].targets) for code in ("_text", "_content")] == [
        (params["_content"].pid, "special", ("Patient",))
    ] * 2
    assert "_text" not in registry.supported_params("Binary")


_SOME = st.sampled_from(["Ann", "Anna", "Straße", "strasse", "O'Neil", "x:1A", "12", "a\\b", "=Patient", "été", "ete"])
_TEXTS = st.lists(_SOME, max_size=4).map(" ".join)
_ASKED = st.lists(st.tuples(_SOME, st.sampled_from(["", "*"])).map("".join), min_size=1, max_size=3).map(" ".join)


@settings(max_examples=60)
@given(
    content=_TEXTS,
    narrative=_TEXTS,
    asked=_ASKED,
    modifier=st.sampled_from([None, "narrative"]),
    types=st.sampled_from([(), ("Patient",), ("Group",)]),
)
def test_sql_equals_matches(database: Database, content: str, narrative: str, asked: str, modifier: str | None, types: tuple[str, ...]) -> None:
    resource = {"resourceType": "Patient", "name": [{"text": content}]} | (told(narrative) if narrative else {})
    value = words.parse(asked, modifier, types, CONTEXT)
    condition = words.predicate([value], "")
    for row in words.maker("Patient", None, CONTEXT)(resource):  # type: ignore[misc]
        found = database.connection.execute(f"SELECT {condition.text} FROM (SELECT %s::tsvector AS words) f", (*condition.params, row[0])).fetchone()
        assert found == (words.matches(value, row),)
