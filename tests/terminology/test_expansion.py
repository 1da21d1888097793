"""Expansion against membership worked out code by code, over random small code systems and value sets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fhir_server.spec.model import ShippedTerminology
from fhir_server.terminology import Codes, Terminology
from fhir_server.terminology.codes import Part

Json = dict[str, Any]
CODES = ("a", "b", "c", "d", "e")
HERE = ("urn:one", "urn:two")
AWAY = "urn:away"
PAIRS = [(system, code) for system in (*HERE, AWAY) for code in (*CODES, "unheard-of")]
NOTHING_SHIPPED = ShippedTerminology({}, {})

Edges = frozenset[tuple[str, str]]
"""Pairs (above, below)."""


@st.composite
def code_systems(draw: st.DrawFn, url: str) -> tuple[Json, Edges]:
    """A code system, with what is directly below what; rings included."""
    codes = draw(st.lists(st.sampled_from(CODES), unique=True, min_size=1))
    edges: set[tuple[str, str]] = set()
    concepts: dict[str, Json] = {}
    roots: list[Json] = []
    for code in codes:
        concepts[code] = concept = {"code": code, "display": code.upper()}
        where = draw(st.sampled_from([None, *concepts]))
        if where is None or where == code:
            roots.append(concept)
        else:
            concepts[where].setdefault("concept", []).append(concept)
            edges.add((where, code))
    for one, other, name in draw(st.lists(st.tuples(st.sampled_from(codes), st.sampled_from(codes), st.sampled_from(["parent", "child", "kid"])))):
        concepts[one].setdefault("property", []).append({"code": name, "valueCode": other})
        edges.add((other, one) if name == "parent" else (one, other))
    for code in draw(st.lists(st.sampled_from(codes), unique=True)):
        concepts[code].setdefault("property", []).append({"code": "status", "valueCode": draw(st.sampled_from(["x", "y"]))})
    declared = [{"code": "status"}, {"code": "kid", "uri": "http://hl7.org/fhir/concept-properties#child"}]
    system = {"resourceType": "CodeSystem", "url": url, "content": "complete", "property": declared, "concept": roots}
    return system, frozenset(edges)


def flat(system: Json) -> dict[str, Json]:
    found: dict[str, Json] = {}

    def visit(concepts: list[Json]) -> None:
        for concept in concepts:
            found[concept["code"]] = concept
            visit(concept.get("concept", []))

    visit(system["concept"])
    return found


def below(edges: Edges, code: str) -> set[str]:
    found = {code}
    for _ in CODES:
        found |= {low for high, low in edges if high in found}
    return found


@st.composite
def filters(draw: st.DrawFn, codes: list[str]) -> Json:
    code = draw(st.sampled_from(codes))
    some = ",".join(draw(st.lists(st.sampled_from(CODES), min_size=1)))
    return draw(
        st.sampled_from(
            [
                *({"property": "concept", "op": op, "value": code} for op in ("is-a", "descendent-of", "is-not-a", "generalizes", "=")),
                *({"property": name, "op": op, "value": some} for op in ("in", "not-in") for name in ("concept", "parent")),
                *({"property": name, "op": "exists", "value": value} for name in ("status", "parent", "kid") for value in ("true", "false")),
                *({"property": name, "op": "=", "value": value} for name, value in (("status", "x"), ("parent", code), ("child", code))),
                {"property": "code", "op": "regex", "value": "[a-c]"},
                {"property": "display", "op": "regex", "value": "[B-Z]+"},
                {"property": "status", "op": "regex", "value": "x|z"},
            ]
        )
    )


@st.composite
def parts(draw: st.DrawFn, systems: dict[str, tuple[Json, Edges]], imports: list[str]) -> Json:
    """An include or exclude."""
    part: Json = {}
    importing: bool = draw(st.booleans())
    if imports and importing:
        part["valueSet"] = draw(st.lists(st.sampled_from(imports), min_size=1, max_size=2, unique=True))
    both = draw(st.booleans())
    if both or "valueSet" not in part:
        url = part["system"] = draw(st.sampled_from([*systems, AWAY]))
        kind = draw(st.sampled_from(["whole", "concept", "filter"]))
        if kind == "concept":
            part["concept"] = [{"code": code} for code in draw(st.lists(st.sampled_from(CODES), min_size=1))]
        elif kind == "filter" and url != AWAY:
            part["filter"] = draw(st.lists(filters(list(flat(systems[url][0]))), min_size=1, max_size=2))
    return part


@st.composite
def worlds(draw: st.DrawFn) -> tuple[dict[str, tuple[Json, Edges]], dict[str, Json]]:
    systems = {url: draw(code_systems(url)) for url in HERE}
    sets: dict[str, Json] = {}
    for number in range(draw(st.integers(1, 4))):
        part = parts(systems, list(sets))
        compose = {"include": draw(st.lists(part, min_size=1, max_size=3)), "exclude": draw(st.lists(part, max_size=2))}
        sets[f"urn:set-{number}"] = {"resourceType": "ValueSet", "url": f"urn:set-{number}", "compose": compose}
    return systems, sets


def passes(rule: Json, system: Json, edges: Edges, code: str) -> bool:
    """One filter on one code, from the words of the specification."""
    name, value = rule["property"], rule["value"]
    concept = flat(system)[code]
    values = {
        "concept": [code],
        "code": [code],
        "display": [concept["display"]],
        "parent": [high for high, low in edges if low == code],
        "child": [low for high, low in edges if high == code],
        "kid": [low for high, low in edges if high == code],
        "status": [p["valueCode"] for p in concept.get("property", ()) if p["code"] == "status"],
    }[name]
    tests: dict[str, Callable[[], bool]] = {
        "is-a": lambda: code in below(edges, value),
        "descendent-of": lambda: code in below(edges, value) and code != value,
        "is-not-a": lambda: code not in below(edges, value),
        "generalizes": lambda: value in below(edges, code),
        "=": lambda: value in values,
        "in": lambda: any(each in value.split(",") for each in values),
        "not-in": lambda: all(each not in value.split(",") for each in values),
        "exists": lambda: bool(values) == (value == "true"),
        "regex": lambda: any(each in {"[a-c]": "abc", "[B-Z]+": "BCDE", "x|z": "x"}[value] for each in values),
    }
    return tests[rule["op"]]()


def holds(systems: dict[str, tuple[Json, Edges]], sets: dict[str, Json], url: str, pair: tuple[str, str]) -> bool:
    """Whether a code is in a value set, asked of each part in turn."""

    def named(part: Json) -> bool:
        if not all(holds(systems, sets, imported, pair) for imported in part.get("valueSet", ())):
            return False
        if "system" not in part:
            return True
        system, code = pair
        if part["system"] != system:
            return False
        if "concept" in part:
            return any(concept["code"] == code for concept in part["concept"])
        if system == AWAY:
            return True
        return code in flat(systems[system][0]) and all(passes(rule, *systems[system], code) for rule in part.get("filter", ()))

    compose = sets[url]["compose"]
    return any(map(named, compose["include"])) and not any(map(named, compose["exclude"]))


@given(worlds())
def test_an_expansion_has_the_codes_that_hold(world: tuple[dict[str, tuple[Json, Edges]], dict[str, Json]]) -> None:
    systems, sets = world
    terminology = Terminology(NOTHING_SHIPPED, lambda kind, url: sets.get(url) if kind == "ValueSet" else systems.get(url, (None,))[0])
    for url in sets:
        expansion = terminology.expand(url)
        expected = {pair for pair in PAIRS if holds(systems, sets, url, pair)}
        assert {pair for pair in PAIRS if pair in expansion} == expected
        assert expansion.codes <= set(PAIRS)
        assert expansion.systems.keys() <= {AWAY}


@given(st.sampled_from(HERE).flatmap(code_systems))
def test_above_and_below_are_the_two_ends_of_one_relation(made: tuple[Json, Edges]) -> None:
    system, edges = made
    terminology = Terminology(NOTHING_SHIPPED, lambda kind, _url: system if kind == "CodeSystem" else None)
    for code in flat(system):
        assert terminology.subsumed_by("urn:one", code) == below(edges, code)
        assert terminology.ancestors("urn:one", code) == {other for other in flat(system) if code in below(edges, other)}
        for other in flat(system):
            assert terminology.subsumes("urn:one", code, other) == (other in below(edges, code))


def test_questions_of_a_request_about_members_take_together_what_one_expansion_may() -> None:
    includes = [{"system": f"urn:{n}", "concept": [{"code": "a"}]} for n in range(1_000)]
    terminology = Terminology(NOTHING_SHIPPED, lambda kind, url: {"resourceType": kind, "url": url, "compose": {"include": includes}})
    answers = [terminology.member("urn:set", f"urn:{n}", "a") for n in range(1_200)]
    assert answers[0] is True
    assert "too much work" in str(answers[-1])
    assert terminology.member("urn:set", "urn:1", "a") is True


@given(st.lists(st.tuples(st.sampled_from(HERE), st.sets(st.sampled_from(CODES)), st.booleans()), max_size=4), st.sampled_from(CODES))
def test_a_code_is_anywhere_where_it_is_in_one_of_the_systems(parts: list[tuple[str, set[str], bool]], code: str) -> None:
    found = Codes({system: Part(frozenset(listed), but) for system, listed, but in parts})
    anywhere = found.anywhere()
    assert ((code in anywhere.codes) is not anywhere.but) == any((system, code) in found for system in found.parts)


some_codes = st.recursive(
    st.one_of(
        st.builds(Codes.of, st.sampled_from(HERE), st.lists(st.sampled_from(CODES))),
        st.builds(Codes.all_of, st.sampled_from(HERE)),
    ),
    lambda inner: st.tuples(inner, inner).map(lambda two: two[0] - two[1]) | st.tuples(inner, inner).map(lambda two: two[0] | two[1]),
    max_leaves=6,
)


@given(some_codes, some_codes)
def test_sets_of_codes_are_closed_under_their_operations(one: Codes, other: Codes) -> None:
    for pair in PAIRS:
        assert (pair in (one | other)) == (pair in one or pair in other)
        assert (pair in (one & other)) == (pair in one and pair in other)
        assert (pair in (one - other)) == (pair in one and pair not in other)
