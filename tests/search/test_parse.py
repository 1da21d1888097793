"""Query text: what is understood, what is refused and what is left out."""

from __future__ import annotations

import pytest

from fhir_server.outcome import Outcome
from fhir_server.search import Registry
from fhir_server.search.query import Include

FAULTS = [
    ("nmae", "ann", "did you mean 'name'"),
    ("nonsense-nobody-knows", "x", "no search parameter"),
    ("name:phonetic", "ann", ":phonetic"),
    ("gender:in", "http://x", ":in"),
    ("birthdate", "2020-02-30", "birthdate"),
    ("birthdate", "soon", "no date"),
    ("birthdate:missing", "maybe", "true or false"),
    ("_count", "-1", "_count"),
    ("_count", "NaN", "_count"),
    ("_count", "٣", "_count"),
    ("_sort", "nmae", "did you mean"),
    ("_sort", "gender", "cannot be sorted"),
    ("_sort", ",".join(["name"] * 9), "8 are the most"),
    ("_total", "some", "_total"),
    ("_summary", "yes", "_summary"),
    ("_elements", "name, birthDate", "_elements"),
    ("_include", "Patient", "_include"),
    ("_include", "Nothing:subject", "_include"),
    ("_include", "Patient:name", "reference parameter"),
    ("_include:iterate", "Patient:link", ":iterate"),
    ("_revinclude", "*", "_revinclude"),
    ("_revinclude", "Observation:nothing", "no search parameter"),
    ("general-practitioner:Device", "1", "cannot point to Device"),
    ("general-practitioner", "Nothing/1", "no resource type"),
    ("organization.name", "x", "not supported yet"),
    ("_has:Observation:patient:code", "x", "not supported yet"),
    ("_text", "x", "cannot be searched by"),
    ("name", "a\0b", "characters"),
    ("name", "\ud800", "characters"),
    ("na\0me", "b", "characters"),
    ("name", "x" * 2_049, "longer than"),
    ("name", "x," * 1_001, "alternatives"),
    ("identifier", "a|b|c", "more than one"),
]


@pytest.mark.parametrize(("name", "value", "said"), FAULTS)
def test_faults_are_refused_with_what_is_wrong(registry: Registry, name: str, value: str, said: str) -> None:
    with pytest.raises(Outcome) as caught:
        registry.parse("Patient", [(name, value)], strict=True)
    assert caught.value.status == 400
    assert said in caught.value.issues[0].diagnostics
    assert len(caught.value.issues[0].diagnostics) < 500


def test_numbers_are_refused_by_their_own_rules(registry: Registry) -> None:
    for value in ("NaN", "1e999", "x"):
        with pytest.raises(Outcome):
            registry.parse("RiskAssessment", [("probability", value)], strict=True)


def test_lenient_leaves_out_what_it_does_not_know_and_says_so(registry: Registry) -> None:
    params = [("name", "ann"), ("nmae", "x"), ("_text", "y"), ("organization.name", "z"), ("_sort", "gender"), ("gender", "")]
    query = registry.parse("Patient", params, strict=False)
    assert query.applied == (("name", "ann"),)
    assert [name for name, _ in query.ignored] == ["nmae", "_text", "organization.name", "_sort", "gender"]
    assert all(reason for _, reason in query.ignored)
    assert [criterion.param.code for criterion in query.filters] == ["name"]


def test_lenient_still_refuses_what_it_cannot_do_of_what_it_knows(registry: Registry) -> None:
    for name, value in (("name:phonetic", "x"), ("birthdate", "soon"), ("_count", "-1")):
        with pytest.raises(Outcome):
            registry.parse("Patient", [(name, value)], strict=False)


def test_empty_values_are_left_out_also_under_strict(registry: Registry) -> None:
    query = registry.parse("Patient", [("name", ""), ("gender", ",,"), ("_format", "json")], strict=True)
    assert query.filters == ()
    assert [name for name, _ in query.ignored] == ["name", "gender"]


def test_paging_and_shape(registry: Registry) -> None:
    query = registry.parse(
        "Patient",
        [("_count", "5000"), ("_total", "accurate"), ("_elements", "name,birthDate"), ("_elements", "name"), ("_cursor", "abc")],
        strict=True,
    )
    assert (query.count, query.total, query.elements, query.cursor) == (1_000, "accurate", ("name", "birthDate"), "abc")
    assert "_cursor" not in query.text
    assert registry.parse("Patient", [("_count", "0")], strict=True).summary == "count"


def test_includes(registry: Registry) -> None:
    params = [("_include", "Observation:patient"), ("_include", "Observation:subject:Group"), ("_include", "*"), ("_revinclude", "Provenance:target")]
    query = registry.parse("Observation", params, strict=True)
    assert query.includes == (Include("Observation", "patient"), Include("Observation", "subject", "Group"), Include("Observation", "*"))
    assert query.revincludes == (Include("Provenance", "target"),)


def test_what_may_stand_once_is_refused_twice(registry: Registry) -> None:
    with pytest.raises(Outcome, match="more than once"):
        registry.parse("Patient", [("_count", "1"), ("_count", "2")], strict=True)


def test_too_many_parameters(registry: Registry) -> None:
    with pytest.raises(Outcome, match="at most 100"):
        registry.parse("Patient", [("name", "a")] * 101, strict=True)
    assert len(registry.parse("Patient", [("name", "a")] * 100, strict=True).filters) == 100


def test_unknown_type(registry: Registry) -> None:
    with pytest.raises(Outcome) as caught:
        registry.parse("Nothing", [], strict=True)
    assert caught.value.status == 404


@pytest.mark.parametrize(
    ("params", "token"),
    [
        ([("identifier", "http://s|A")], "http://s|a"),
        ([("identifier", "http://s|a"), ("name", "x")], "http://s|a"),
        ([("identifier", "a")], None),
        ([("identifier", "http://s|a,http://s|b")], None),
        ([("identifier", "http://s|a"), ("identifier", "http://s|b")], None),
        ([("identifier:not", "http://s|a")], None),
        ([("gender", "http://s|a")], None),
    ],
)
def test_conditions_that_could_meet_share_a_token_or_have_none(registry: Registry, params: list[tuple[str, str]], token: str | None) -> None:
    assert registry.parse("Patient", params, strict=True).lock_token() == token
