"""What is known, what goes before what, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from fhir_server.outcome import Outcome
from fhir_server.spec import terminology as shipped
from fhir_server.terminology import Terminology
from fhir_server.terminology.expansion import MAX_DEPTH

Json = dict[str, Any]
ACT = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
GENDER = "http://hl7.org/fhir/ValueSet/administrative-gender"
LOINC = "http://loinc.org"


def known(*resources: Json) -> Terminology:
    """The shipped terminology with these resources stored, found as a server would: by URL, and by version where one is asked for."""

    def find(kind: str, canonical: str) -> Json | None:
        url, _, version = canonical.partition("|")
        for resource in resources:
            if (resource["resourceType"], resource["url"]) == (kind, url) and version in ("", resource.get("version")):
                return resource
        return None

    return Terminology(shipped(), find)


def code_system(*codes: str, url: str = "urn:s", **fields: Any) -> Json:
    return {"resourceType": "CodeSystem", "url": url, "content": "complete", "concept": [{"code": code} for code in codes], **fields}


def value_set(*include: Json, url: str = "urn:v", exclude: list[Json] | None = None, **fields: Any) -> Json:
    compose: Json = {"include": list(include)} | ({"exclude": exclude} if exclude else {})
    return {"resourceType": "ValueSet", "url": url, "compose": compose, **fields}


def pairs(system: str, *codes: str) -> set[tuple[str, str]]:
    return {(system, code) for code in codes}


def refused(category: str, code: str | None, ask: Callable[[], object]) -> str:
    """What the caller is told, known to be a refusal of this kind."""
    with pytest.raises(Outcome) as found:
        ask()
    assert found.value.category == category
    assert 400 <= found.value.status < 500
    assert code in (None, found.value.issues[0].code)
    return str(found.value)


def test_shipped_value_sets() -> None:
    terminology = known()
    assert terminology.expand(GENDER).codes == pairs("http://hl7.org/fhir/administrative-gender", "male", "female", "other", "unknown")
    assert terminology.contains(GENDER, "http://hl7.org/fhir/administrative-gender", "male")
    assert not terminology.contains(GENDER, "http://hl7.org/fhir/administrative-gender", "foo")
    assert not terminology.contains(GENDER, LOINC, "male")
    assert terminology.expand(f"{GENDER}|4.0.1") == terminology.expand(GENDER)


def test_shipped_hierarchies_by_nesting_and_by_property() -> None:
    terminology = known()
    assert terminology.subsumed_by(ACT, "IMP") == {"IMP", "ACUTE", "NONAC"}
    assert terminology.ancestors(ACT, "ACUTE") == {"ACUTE", "IMP", "_ActEncounterCode", "_ActCareProvisionCode"}
    assert terminology.ancestors(ACT, "DOSE") >= {"VALIDAT", "_AdministrationDetectedIssueCode"}
    assert terminology.subsumes(ACT, "_ActEncounterCode", "ACUTE")
    assert terminology.subsumes(ACT, "ACUTE", "ACUTE")
    assert not terminology.subsumes(ACT, "ACUTE", "IMP")


def test_a_concept_below_several_others() -> None:
    system = code_system("a", "b", "c", property=[{"code": "kind", "uri": "http://hl7.org/fhir/concept-properties#parent", "type": "code"}])
    system["concept"][2]["property"] = [{"code": "kind", "valueCode": "a"}, {"code": "subsumedBy", "valueCode": "b"}]
    terminology = known(system)
    assert terminology.ancestors("urn:s", "c") == {"a", "b", "c"}
    assert terminology.subsumed_by("urn:s", "b") == {"b", "c"}


def test_case_does_not_keep_a_code_from_being_found() -> None:
    assert known().subsumed_by(ACT, "imp") == {"IMP", "ACUTE", "NONAC"}
    assert known(code_system("a", "A")).subsumed_by("urn:s", "a") == {"a"}


def test_stored_resources_go_before_shipped_ones() -> None:
    mine = value_set({"system": ACT, "concept": [{"code": "IMP"}]}, url=GENDER)
    assert known(mine).expand(GENDER).codes == pairs(ACT, "IMP")
    assert ("http://hl7.org/fhir/administrative-gender", "male") in known(mine).expand(f"{GENDER}|4.0.1").codes
    system = code_system("x", url="http://hl7.org/fhir/administrative-gender")
    assert known(system).expand(GENDER).codes == pairs("http://hl7.org/fhir/administrative-gender", "x")
    hollow = {"resourceType": "CodeSystem", "url": ACT, "content": "not-present"}
    assert "ACUTE" in known(hollow).subsumed_by(ACT, "IMP")


def test_versions() -> None:
    old, new = code_system("a", version="1"), code_system("a", "b", version="2")
    terminology = known(new, old)
    assert terminology.expand(value_set({"system": "urn:s", "version": "1"})).codes == pairs("urn:s", "a")
    assert terminology.expand(value_set({"system": "urn:s"})).codes == pairs("urn:s", "a", "b")
    told = refused("parameter", "not-found", lambda: terminology.subsumed_by("urn:s|3", "a"))
    assert "urn:s|3" in told


def test_a_system_whose_codes_are_away_is_in_as_a_whole() -> None:
    expansion = known().expand(value_set({"system": LOINC}, {"system": ACT, "concept": [{"code": "IMP"}]}))
    assert expansion.systems == {LOINC: frozenset()}
    assert expansion.codes == pairs(ACT, "IMP")
    assert (LOINC, "anything") in expansion
    but = known().expand(value_set({"system": LOINC}, exclude=[{"system": LOINC, "concept": [{"code": "1-8"}]}]))
    assert but.systems == {LOINC: frozenset({"1-8"})}
    assert (LOINC, "1-8") not in but
    assert (LOINC, "2-8") in but


def test_a_fragment_has_a_hierarchy_but_not_all_codes() -> None:
    system = code_system("a", content="fragment")
    system["concept"][0]["concept"] = [{"code": "b"}]
    assert known(system).subsumed_by("urn:s", "a") == {"a", "b"}
    assert known(system).expand(value_set({"system": "urn:s"})).systems == {"urn:s": frozenset()}


def test_conditions_of_one_include_all_hold() -> None:
    letters = code_system("a", "b", "c")
    one = value_set({"system": "urn:s", "concept": [{"code": "a"}, {"code": "b"}]}, url="urn:one")
    two = value_set({"system": "urn:s", "concept": [{"code": "b"}, {"code": "c"}]}, url="urn:two")
    terminology = known(letters, one, two)
    assert terminology.expand(value_set({"valueSet": ["urn:one", "urn:two"]})).codes == pairs("urn:s", "b")
    assert terminology.expand(value_set({"valueSet": ["urn:one"]}, {"valueSet": ["urn:two"]})).codes == pairs("urn:s", "a", "b", "c")
    named = {"system": "urn:s", "concept": [{"code": "a"}]}
    assert terminology.expand(value_set({"valueSet": ["urn:one"], **named})).codes == pairs("urn:s", "a")
    assert terminology.expand(value_set({"valueSet": ["urn:two"], **named})).codes == set()


def test_a_ready_made_expansion() -> None:
    contains = [
        {"system": "urn:s", "code": "heading", "abstract": True, "contains": [{"system": "urn:s", "code": "a", "display": "A", "inactive": True}]},
        {"display": "no code", "contains": [{"system": "urn:t", "code": "b"}]},
    ]
    ready = {"resourceType": "ValueSet", "url": "urn:v", "expansion": {"contains": contains}}
    expansion = known(ready).expand("urn:v")
    assert expansion.codes == pairs("urn:s", "a") | pairs("urn:t", "b")
    assert expansion.displays == {("urn:s", "a"): "A"}


def test_a_ready_made_expansion_stands_in_for_what_cannot_be_worked_out() -> None:
    compose = {"system": "http://snomed.info/sct", "filter": [{"property": "concept", "op": "is-a", "value": "1"}]}
    listed = [{"system": "http://snomed.info/sct", "code": "1"}]
    assert known().expand(value_set(compose, expansion={"contains": listed})).codes == pairs("http://snomed.info/sct", "1")
    refused("parameter", "not-found", lambda: known().expand(value_set(compose, expansion={"total": 7, "contains": listed})))
    unused = value_set({"system": "urn:s", "concept": [{"code": "a"}]}, expansion={"contains": listed})
    assert known().expand(unused).codes == pairs("urn:s", "a")


def test_displays_of_a_value_set() -> None:
    include = {"system": "urn:s", "concept": [{"code": "a", "display": "Alpha"}, {"code": "b"}]}
    assert known().expand(value_set(include)).displays == {("urn:s", "a"): "Alpha"}


@pytest.mark.parametrize(
    "ask",
    [
        lambda t: t.subsumed_by("http://snomed.info/sct", "1"),
        lambda t: t.ancestors("http://snomed.info/sct", "1"),
        lambda t: t.subsumes("http://snomed.info/sct", "1", "2"),
        lambda t: t.code_system("http://snomed.info/sct"),
    ],
)
def test_an_unknown_system_is_named(ask: Any) -> None:
    told = refused("parameter", "not-found", lambda: ask(known()))
    assert "http://snomed.info/sct" in told
    assert "not known here" in told


def test_an_unknown_code_is_named() -> None:
    told = refused("parameter", "code-invalid", lambda: known().subsumed_by(ACT, "no-such-code"))
    assert "no-such-code" in told
    assert ACT in told


def test_an_unknown_value_set_is_named() -> None:
    for ask in ("urn:nowhere", value_set({"valueSet": ["urn:nowhere"]})):
        told = refused("parameter", "not-found", partial(known().expand, ask))
        assert told == "The value set 'urn:nowhere' is not known here; load it as a ValueSet resource"


@pytest.mark.parametrize("canonical", ["urn:a", "urn:a|1"])
def test_imports_that_go_round_are_refused(canonical: str) -> None:
    a = value_set({"valueSet": ["urn:b"]}, url="urn:a", version="1")
    b = value_set({"system": "urn:s", "concept": [{"code": "x"}]}, url="urn:b", exclude=[{"valueSet": [canonical]}])
    for start in ("urn:a", "urn:b", "urn:a|1"):
        told = refused("business-rule", None, partial(known(a, b).expand, start))
        assert "imports itself" in told


def test_a_value_set_imported_twice_is_no_ring() -> None:
    leaf = value_set({"system": "urn:s", "concept": [{"code": "x"}]}, url="urn:leaf")
    mid = value_set({"valueSet": ["urn:leaf"]}, url="urn:mid")
    assert known(leaf, mid).expand(value_set({"valueSet": ["urn:leaf"]}, {"valueSet": ["urn:mid", "urn:leaf"]})).codes == pairs("urn:s", "x")


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ({"property": "concept", "op": "resembles", "value": "a"}, "operator"),
        ({"property": "concept", "value": "a"}, "operator"),
        ({"property": "colour", "op": "=", "value": "red"}, "no property 'colour'"),
        ({"property": "display", "op": "is-a", "value": "a"}, "'concept'"),
        ({"property": "concept", "op": "exists", "value": "perhaps"}, "true or false"),
        ({"property": "code", "op": "regex", "value": "(a"}, "ends too early"),
        ({"property": "code", "op": "regex", "value": "(?=a)"}, "look-around"),
    ],
)
def test_filters_that_cannot_be_answered(rule: Json, reason: str) -> None:
    told = refused("business-rule", None, lambda: known(code_system("a")).expand(value_set({"system": "urn:s", "filter": [rule]})))
    assert reason in told
    assert "urn:s" in told


def test_properties_of_any_type() -> None:
    system = code_system("a", "b", property=[{"code": name} for name in ("active", "rank", "like")])
    system["concept"][0]["property"] = [
        {"code": "active", "valueBoolean": True},
        {"code": "rank", "valueInteger": 3},
        {"code": "like", "valueCoding": {"system": "urn:t", "code": "q"}},
        {"code": "like"},
    ]
    for name, value in (("active", "true"), ("rank", "3"), ("like", "q")):
        include = {"system": "urn:s", "filter": [{"property": name, "op": "=", "value": value}]}
        assert known(system).expand(value_set(include)).codes == pairs("urn:s", "a")


def test_what_is_valid_but_empty() -> None:
    hollow = code_system("a")
    hollow["concept"].append({"_code": {"extension": [{"url": "urn:x", "valueCode": "masked"}]}, "concept": [{"code": "b"}]})
    assert known(hollow).expand(value_set({"system": "urn:s"})).codes == pairs("urn:s", "a", "b")
    masked = value_set({"valueSet": [None], "_valueSet": [{"extension": []}]}, {"system": "urn:s", "concept": [{"_code": {}}]})
    assert known(hollow).expand(masked).codes == set()
    assert known().expand({"resourceType": "ValueSet", "compose": {}}).codes == set()
    assert known().expand({"resourceType": "ValueSet"}).codes == set()


def test_no_more_codes_than_can_be_listed() -> None:
    system = code_system(*map(str, range(10_001)))
    told = refused("too-costly", "too-costly", lambda: known(system).expand(value_set({"system": "urn:s"})))
    assert "10,000" in told
    assert len(known(system).expand(value_set({"system": "urn:s"}, exclude=[{"system": "urn:s", "concept": [{"code": "7"}]}])).codes) == 10_000
    system["concept"] = [{"code": "root", "concept": system["concept"]}]
    refused("too-costly", "too-costly", lambda: known(system).subsumed_by("urn:s", "root"))


def test_dear_value_sets_are_refused() -> None:
    system = code_system(*map(str, range(9_000)))
    slow = {"system": "urn:s", "filter": [{"property": "code", "op": "regex", "value": "([0-9]*)*" * 50}]}
    many = value_set(*[{"system": "urn:s"}] * 8_000)
    filtered = value_set(*[{"system": "urn:s", "filter": [{"property": "code", "op": "exists", "value": "true"}] * 200}] * 50)
    wide = value_set(*({"system": f"urn:{number}"} for number in range(20_000)))
    for dear in (value_set(slow), many, filtered, wide):
        refused("too-costly", "too-costly", partial(known(system).expand, dear))


def test_long_lines_of_imports_are_refused() -> None:
    line = [value_set({"valueSet": [f"urn:{number + 1}"]}, url=f"urn:{number}") for number in range(100)]
    line.append(value_set({"system": "urn:s"}, url="urn:100"))
    refused("too-costly", "too-costly", lambda: known(*line).expand("urn:0"))
    assert known(*line).expand(f"urn:{101 - MAX_DEPTH}").systems == {"urn:s": frozenset()}


def test_a_deep_code_system_needs_no_stack() -> None:
    concept: Json = {"code": "0"}
    for number in range(1, 5_000):
        concept = {"code": str(number), "concept": [concept]}
    terminology = known(code_system(concept=[concept]))
    assert len(terminology.ancestors("urn:s", "0")) == 5_000


def test_the_whole_of_what_ships_can_be_read() -> None:
    """Every shipped value set has its codes, or is refused for a system that is kept elsewhere."""
    terminology = known()
    refused = {}
    for url in shipped().value_sets:
        try:
            expansion = terminology.expand(url)
            assert expansion.codes or expansion.systems, url
        except Outcome as outcome:
            refused[url] = str(outcome)
    assert len(refused) < 70
    assert all("not known here" in text or "acme-plasma" in text for text in refused.values())


def test_a_code_is_in_a_value_set_by_what_is_known_of_its_system_alone() -> None:
    mixed = value_set({"system": "urn:s"}, {"system": LOINC, "filter": [{"property": "CLASSTYPE", "op": "=", "value": "1"}]}, {"system": "urn:far"})
    terminology = known(code_system("a"), mixed)
    assert terminology.member("urn:v", "urn:s", "a") is True
    assert terminology.member("urn:v", "urn:s", "b") is False
    assert terminology.member("urn:v", "urn:far", "anything") is True
    assert terminology.member("urn:v", "urn:other", "a") is False
    assert LOINC in str(terminology.member("urn:v", LOINC, "4548-4"))
    assert terminology.member("urn:v", None, "a") is True
    assert "urn:nowhere" in str(terminology.member("urn:nowhere", "urn:s", "a"))


def test_what_is_here_of_a_value_set_is_enough_for_a_yes() -> None:
    some = value_set(
        {"valueSet": ["urn:nowhere"]},
        {"system": "urn:s", "concept": [{"code": "a"}, {"code": "c"}]},
        exclude=[{"system": "urn:s", "concept": [{"code": "c"}]}],
    )
    assert known(some).member("urn:v", "urn:s", "a") is True
    assert "urn:nowhere" in str(known(some).member("urn:v", "urn:s", "b"))
    assert "urn:nowhere" in str(known(some).member("urn:v", "urn:s", "c"))
    less = value_set({"system": "urn:s", "concept": [{"code": "a"}]}, exclude=[{"valueSet": ["urn:nowhere"]}])
    assert "urn:nowhere" in str(known(less).member("urn:v", "urn:s", "a"))
    ready = some | {"expansion": {"total": 1, "contains": [{"system": "urn:s", "code": "b"}]}}
    assert known(ready).member("urn:v", "urn:s", "b") is True
    assert known(ready).member("urn:v", "urn:s", "a") is False
    assert "does not say" in str(known({"resourceType": "ValueSet", "url": "urn:v"}).member("urn:v", "urn:s", "a"))
