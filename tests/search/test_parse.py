"""Query text: what is understood, what is refused and what is left out."""

from __future__ import annotations

import pytest

from fhir_server.outcome import Outcome
from fhir_server.search import Registry
from fhir_server.search.query import AllOf, AnyOf, Chain, Coded, Criterion, Filter, Has, Hierarchy, Include, Itself, Not

FAULTS = [
    ("nmae", "ann", "did you mean 'name'"),
    ("nonsense-nobody-knows", "x", "no search parameter"),
    ("name:phonetic", "ann", ":phonetic"),
    ("name:in", "http://x", ":in"),
    ("birthdate", "2020-02-30", "birthdate"),
    ("birthdate", "soon", "no date"),
    ("birthdate:missing", "maybe", "true or false"),
    ("_count", "-1", "_count"),
    ("_count", "NaN", "_count"),
    ("_count", "٣", "_count"),
    ("_maxresults", "few", "_maxresults"),
    ("_sort", "nmae", "did you mean"),
    ("_sort:desc", "name", "'_sort' takes no modifier such as ':desc'; -[parameter] sorts from the highest"),
    ("_list:not", "x", "'_list' takes no modifier such as ':not'"),
    ("_type", "Patient", "'_type' goes with a search of several types, and this one is of"),
    ("_sort", "_text", "cannot be sorted"),
    ("_sort", ",".join(["name"] * 9), "8 are the most"),
    ("_total", "some", "_total"),
    ("_summary", "yes", "_summary"),
    ("_elements", "name, birthDate", "_elements"),
    ("_score", "1", "_score"),
    ("_include", "Patient", "_include"),
    ("_include", "Nothing:subject", "_include"),
    ("_include", "Patient:name", "reference parameter"),
    ("_include:often", "Patient:link", ":often"),
    ("_revinclude", "Observation:nothing", "no search parameter"),
    ("general-practitioner:Device", "1", "cannot point to Device"),
    ("general-practitioner", "Nothing/1", "no resource type"),
    ("organization:Nothing.name", "x", "no resource type"),
    ("organization:Patient.name", "x", "cannot point to Patient"),
    ("organization.nmae", "x", "did you mean 'name'"),
    ("organization.active.name", "x", "no reference"),
    ("birthdate.name", "x", "no reference"),
    ("organization" + ".partof" * 20 + ".name", "x", "at most 20"),
    ("_has:Observation:patient", "x", "_has:[type]"),
    ("_has:Nothing:patient:code", "x", "_has:[type]"),
    ("_has:Observation:code:code", "x", "'code' is of type token"),
    ("_has:Location:partof:name", "x", "cannot point to Patient"),
    ("_list", "$current-problems", "no functional lists"),
    ("organization:below", "a,b|c", "no URL"),
    ("general-practitioner:below", "a", "needs a type"),
    ("link:below", "Patient/1", "which Patient does not"),
    ("_text", "?!", "no word"),
    ("identifier:of-type", "a|b", "[system]|[code]|[value]"),
    ("_query", "mine", "_query"),
    ("_contained", "some", "_contained"),
    ("_containedType", "all", "_containedType"),
    ("_filter", "name eq", "a value at its end"),
    ("_filter", "name is x", "one of"),
    ("_filter", "name eq x y", "'and', 'or' or the end at character 11"),
    ("_filter", "(name eq x", "')' at its end"),
    ("_filter", 'name eq "x', "character 9 has no end"),
    ("_filter", "name gt x", "cannot be compared so"),
    ("_filter", "name pr maybe", "true or false"),
    ("_filter", "nmae eq x", "did you mean 'name'"),
    ("_filter", "not name eq x", "expected '('"),
    ("_filter", "organization[name eq x] eq y", "'.' and a parameter"),
    ("_filter", "(" * 30 + "name eq x" + ")" * 30, "deeper than 20"),
    ("_filter", " and ".join(["name eq x"] * 101), "more than 100"),
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
    params = [
        ("name", "ann"),
        ("nmae", "x"),
        ("_query", "y"),
        ("organization.nmae", "z"),
        ("_sort", "near"),
        ("gender", ""),
        ("_filter", "nmae eq x"),
    ]
    query = registry.parse("Patient", params, strict=False)
    assert query.applied == (("name", "ann"),)
    assert [name for name, _ in query.ignored] == ["nmae", "_query", "organization.nmae", "_sort", "gender", "_filter"]
    assert all(reason for _, reason in query.ignored)
    assert [node.param.code for node in query.filters if isinstance(node, Criterion)] == ["name"]


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
    assert query.includes == (Include("Observation", "patient"), Include("Observation", "subject", "Group"), Include("*", "*"))
    assert query.revincludes == (Include("Provenance", "target"),)


def only(registry: Registry, resource_type: str, name: str, value: str) -> Filter:
    """The one filter of a query with one parameter."""
    (found,) = registry.parse(resource_type, [(name, value)], strict=True).filters
    return found


def test_chains_lead_to_every_type_that_has_the_parameter(registry: Registry) -> None:
    # A Group has no birth date, and a Device has none either.
    open_ended, typed = (only(registry, "Observation", name, "1990") for name in ("subject.birthdate", "subject:Patient.birthdate"))
    assert isinstance(open_ended, Chain)
    assert [name for name, _ in open_ended.targets] == ["Patient"]
    assert typed == open_ended
    named = only(registry, "Observation", "subject.name", "x")
    assert isinstance(named, Chain)
    assert [name for name, _ in named.targets] == ["Location", "Patient"]


def test_reverse_chains_and_chains_stand_in_each_other(registry: Registry) -> None:
    found = only(registry, "Patient", "_has:Observation:patient:encounter:Encounter._has:List:item:title", "x")
    assert isinstance(found, Has)
    assert (found.source, found.param.code) == ("Observation", "patient")
    assert isinstance(found.filter, Chain)
    ((target, inner),) = found.filter.targets
    assert target == "Encounter"
    assert isinstance(inner, Has)
    assert isinstance(inner.filter, Criterion)
    assert (inner.source, inner.filter.param.code) == ("List", "title")


def test_lists_are_reverse_chains(registry: Registry) -> None:
    found = only(registry, "Patient", "_list", "a,b")
    assert isinstance(found, Has)
    assert isinstance(found.filter, Criterion)
    assert (found.source, found.param.code, found.filter.values) == ("List", "item", ("a", "b"))


def test_below_is_a_hierarchy_for_ids_and_a_path_for_urls(registry: Registry) -> None:
    found = only(registry, "Encounter", "location:below", "Location/a,b")
    assert isinstance(found, Hierarchy)
    assert (found.how, found.type, found.ids, found.parent.code) == ("below", "Location", ("a", "b"), "partof")
    assert isinstance(only(registry, "QuestionnaireResponse", "questionnaire:below", "http://x/a"), Criterion)


def test_codes_for_terminology_are_kept_as_asked(registry: Registry) -> None:
    found = only(registry, "Observation", "code:not-in", "http://x")
    assert found == Coded(registry.supported_params("Observation")["code"], "in", ("http://x",), negated=True)
    expression = only(registry, "Observation", "_filter", "code sb http://x|a")
    assert isinstance(expression, Coded)
    assert (expression.how, expression.texts) == ("below", ("http://x|a",))


def test_expressions_are_trees_read_from_left_to_right(registry: Registry) -> None:
    expression = 'family eq "a,b" or not (gender eq male and active eq true) and birthdate ge 1990'
    either, born = registry.parse("Patient", [("_filter", expression)], strict=True).filters
    assert isinstance(either, AnyOf)
    assert isinstance(either.filters[1], Not)
    assert isinstance(either.filters[1].filter, AllOf)
    assert isinstance(born, Criterion)
    assert born.param.code == "birthdate"
    first = either.filters[0]
    assert isinstance(first, Criterion)
    assert first.values[0].value == "a,b"


def test_a_compartment_is_its_links_or_itself(registry: Registry) -> None:
    query = registry.parse("Observation", [("code", "a")], strict=True, compartment=("Patient", "p1"))
    link = query.filters[0]
    assert isinstance(link, Criterion)
    assert (query.path, len(link.param.pids), link.values[0].id) == ("Patient/p1/Observation", 2, "p1")
    everything = registry.parse(None, [], strict=True, compartment=("Patient", "p1"))
    (either,) = everything.filters
    assert everything.path == "Patient/p1/*"
    assert "Observation" in everything.types
    assert "Location" not in everything.types
    assert isinstance(either, AnyOf)
    assert Itself("Patient", "p1") in either.filters


def test_a_compartment_that_is_none_or_has_no_such_type_is_not_found(registry: Registry) -> None:
    for resource_type, owner in (("Observation", "Location"), ("Location", "Patient")):
        with pytest.raises(Outcome) as caught:
            registry.parse(resource_type, [], strict=True, compartment=(owner, "1"))
        assert caught.value.status == 404


def test_several_types_are_asked_what_all_of_them_have(registry: Registry) -> None:
    query = registry.parse(None, [("_type", "Observation,Encounter"), ("patient", "p1")], strict=True)
    (found,) = query.filters
    assert isinstance(found, Criterion)
    assert (query.types, query.path, len(found.param.pids)) == (("Observation", "Encounter"), "", 2)
    for params, said in (
        ([("_type", "Observation,Patient"), ("patient", "p1")], "no search parameter"),
        ([("_type", "Nothing")], "no resource type"),
    ):
        with pytest.raises(Outcome, match=said):
            registry.parse(None, params, strict=True)


@pytest.mark.parametrize(
    "params", [[("name", "x"), ("_sort", "name")], [("name:missing", "true")], [("partof.name", "x")], [("_id", "c1")], [("_content", "x")], []]
)
def test_contained_resources_are_found_by_their_own_rows_only(registry: Registry, params: list[tuple[str, str]]) -> None:
    with pytest.raises(Outcome, match="_contained"):
        registry.parse("Organization", [*params, ("_contained", "true")], strict=True)


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
