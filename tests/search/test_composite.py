"""Composites: every row comes of one element, and every part is asked of it in its own way."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fhir_server.fhirjson import Number
from fhir_server.outcome import Outcome
from fhir_server.search import Registry
from fhir_server.search.composites import MAX_COMBINATIONS, Composites
from fhir_server.search.params import Context, composite, kind_of
from fhir_server.search.tables import metadata
from fhir_server.search.tree import Branch
from fhir_server.spec import SearchParam, r4
from fhir_server.spec.model import Component
from tests.search.agreement import assert_agreement, plan

UCUM = "http://unitsofmeasure.org"
CONTEXT = Context(r4(), {"Patient": 1, "DocumentReference": 2}, ZoneInfo("UTC"))


def coded(*codes: str) -> dict[str, Any]:
    return {"coding": [{"system": "http://s.example", "code": code} for code in codes]}


def amount(value: str, code: str = "mm[Hg]") -> dict[str, Any]:
    return {"value": Number(value), "system": UCUM, "code": code}


PRESSURE = {
    "resourceType": "Observation",
    "code": coded("85354-9"),
    "component": [{"code": coded("8480-6"), "valueQuantity": amount("120")}, {"code": coded("8462-4"), "valueQuantity": amount("80")}],
}


def found(registry: Registry, resource: dict[str, Any], code: str, query: str) -> bool:
    param = registry.supported_params(resource["resourceType"])[code]
    kind = kind_of(param)
    value = kind.parse(query, None, param.targets, registry.context)
    return any(kind.matches(value, row[1:]) for row in registry.rows(resource).get(kind.TABLE, ()) if row[0] in param.pids)


def test_every_composite_of_the_specification_works(registry: Registry) -> None:
    for name in r4().resource_types:
        for code, param in r4().search_params(name).items():
            if param.type == "composite":
                supported = registry.supported_params(name)[code]
                assert [part.url for part in supported.components] == [part.definition for part in param.components]
                assert not [part for part in supported.components if ":" in part.code]
                assert kind_of(supported).TABLE in metadata.tables


@pytest.mark.parametrize(
    ("code", "query", "matched"),
    [
        ("component-code-value-quantity", "8480-6$120", True),
        ("component-code-value-quantity", "8480-6$80", False),
        ("component-code-value-quantity", "8462-4$lt90", True),
        ("component-code-value-quantity", "8480-6$lt90", False),
        ("component-code-value-quantity", f"http://s.example|8480-6$ge15|{UCUM}|kPa", True),
        ("component-code-value-quantity", f"http://s.example|8480-6$ge17|{UCUM}|kPa", False),
        ("component-code-value-quantity", "http://t.example|8480-6$120", False),
        ("combo-code-value-quantity", "8480-6$120", True),
        ("combo-code-value-quantity", "85354-9$120", False),
        ("code-value-quantity", "85354-9$120", False),
    ],
)
def test_parts_hold_in_one_element(registry: Registry, code: str, query: str, matched: bool) -> None:  # noqa: FBT001
    assert found(registry, PRESSURE, code, query) is matched


@pytest.mark.parametrize(
    ("resource", "code", "matching", "other"),
    [
        ({"resourceType": "Observation", "code": coded("a"), "valueQuantity": amount("1")}, "code-value-quantity", "a$1", "a$2"),
        ({"resourceType": "Observation", "code": coded("a"), "valueQuantity": amount("1")}, "combo-code-value-quantity", "a$1", "b$1"),
        ({"resourceType": "Observation", "code": coded("a"), "valueCodeableConcept": coded("v", "w")}, "code-value-concept", "a$w", "w$a"),
        ({"resourceType": "Observation", "code": coded("a"), "valueString": "Big $ign, yes"}, "code-value-string", r"a$big \$i", "a$yes"),
        ({"resourceType": "Observation", "code": coded("a"), "valueDateTime": "2020-05-01"}, "code-value-date", "a$ge2020-05", "a$2021"),
        ({"resourceType": "Observation", "code": coded("a"), "valuePeriod": {"start": "2020-05-01"}}, "code-value-date", "a$gt2030", "a$lt2020"),
        (
            {"resourceType": "Group", "characteristic": [{"code": coded("c"), "valueBoolean": True}, {"code": coded("d"), "valueBoolean": False}]},
            "characteristic-value",
            "c$true",
            "c$false",
        ),
        (
            {
                "resourceType": "ValueSet",
                "useContext": [
                    {"code": {"code": "age"}, "valueRange": {"low": amount("18", "a"), "high": amount("30", "a")}},
                    {"code": {"code": "x"}},
                ],
            },
            "context-type-quantity",
            f"age$gt200|{UCUM}|mo",
            f"age$gt400|{UCUM}|mo",
        ),
        (
            {"resourceType": "ValueSet", "useContext": [{"code": {"code": "focus"}, "valueCodeableConcept": coded("flu")}]},
            "context-type-value",
            "focus$http://s.example|flu",
            "focus$http://t.example|flu",
        ),
        (
            {"resourceType": "DocumentReference", "relatesTo": [{"code": "replaces", "target": {"reference": "DocumentReference/7"}}]},
            "relationship",
            "DocumentReference/7$replaces",
            "DocumentReference/7$appends",
        ),
        (
            {"resourceType": "DocumentReference", "relatesTo": [{"code": "replaces", "target": {"reference": "DocumentReference/7"}}]},
            "relationship",
            "7$http://hl7.org/fhir/document-relationship-type|replaces",
            "8$replaces",
        ),
        (
            {
                "resourceType": "MolecularSequence",
                "referenceSeq": {"chromosome": coded("1"), "referenceSeqId": coded("NC_1"), "windowStart": 10, "windowEnd": 90},
                "variant": [{"start": 20, "end": 30}, {"start": 40, "end": 50}],
            },
            "chromosome-variant-coordinate",
            "1$lt25$gt25",
            "1$lt25$gt45",
        ),
        (
            {"resourceType": "MolecularSequence", "referenceSeq": {"referenceSeqId": coded("NC_1")}, "variant": [{"start": 20, "end": 30}]},
            "referenceseqid-variant-coordinate",
            "nc_1$20$30",
            "nc_1$30$20",
        ),
        (
            {"resourceType": "MolecularSequence", "referenceSeq": {"chromosome": coded("1"), "windowStart": 10, "windowEnd": 90}},
            "chromosome-window-coordinate",
            "1$10$90",
            "2$10$90",
        ),
        (
            {"resourceType": "MolecularSequence", "referenceSeq": {"referenceSeqId": coded("n"), "windowStart": 10, "windowEnd": 90}},
            "referenceseqid-window-coordinate",
            "n$ge10$le90",
            "n$gt10$le90",
        ),
    ],
)
def test_composites_of_every_shape(registry: Registry, resource: dict[str, Any], code: str, matching: str, other: str) -> None:
    assert found(registry, resource, code, matching)
    assert not found(registry, resource, code, other)


def test_an_element_without_one_of_the_parts_has_no_row(registry: Registry) -> None:
    for resource in (
        {"resourceType": "Observation", "valueQuantity": amount("1")},
        {"resourceType": "Observation", "code": {"text": "no code"}, "valueQuantity": amount("1")},
        {"resourceType": "Observation", "code": coded("a")},
        {"resourceType": "Observation", "code": coded("a"), "valueQuantity": {"unit": "mg"}},
        {"resourceType": "MolecularSequence", "variant": [{"start": 20, "end": 30}]},
        {"resourceType": "MolecularSequence", "referenceSeq": {"chromosome": coded("1")}, "variant": [{"start": 20}]},
    ):
        assert not [table for table in registry.rows(resource) if table.count("_") > 1]


def test_a_row_has_the_columns_of_its_table(registry: Registry) -> None:
    for table, rows in registry.rows(PRESSURE).items():
        width = len([column for column in metadata.tables[table].columns if column.name != "rid"])
        assert {len(row) for row in rows} == {width}, table


def test_combinations_are_bounded(registry: Registry) -> None:
    codes = [str(number) for number in range(200)]
    with pytest.raises(Outcome) as caught:
        registry.rows({"resourceType": "Observation", "code": coded(*codes), "valueCodeableConcept": coded(*codes)})
    assert caught.value.category == "too-costly"
    few = codes[: MAX_COMBINATIONS // len(codes)]
    rows = registry.rows({"resourceType": "Observation", "code": coded(*codes), "valueCodeableConcept": coded(*few)})
    assert len(rows["sp_token_token"]) == MAX_COMBINATIONS


@pytest.mark.parametrize("text", ["", "a", "a$", "$1", "a$1$2", r"a\$1", "$"])
def test_a_value_of_another_form_is_told_the_right_one(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not \[token\]\$\[quantity\]: "):
        composite.kind(("token", "quantity")).parse(text, None, (), CONTEXT)


def test_a_part_that_is_wrong_is_named() -> None:
    with pytest.raises(ValueError, match=r"has a second part, of type quantity, that is no number such as 5\.4, 1e2 or ge100: 'much'"):
        composite.kind(("token", "quantity")).parse("a$much", None, (), CONTEXT)
    with pytest.raises(ValueError, match=r"has a first part, of type token, that has more than one"):
        composite.kind(("token", "date")).parse("a|b|c$2020", None, (), CONTEXT)


def test_parts_that_fit_no_table_are_refused_with_the_reason() -> None:
    with pytest.raises(KeyError, match="no table holds string, string"):
        composite.kind(("string", "string"))
    known = {param.url: param for param in r4().params}
    composites = Composites("Patient", Branch(), CONTEXT, known)
    names = tuple(Component(f"http://hl7.org/fhir/SearchParameter/individual-{name}", name) for name in ("family", "given"))
    param = SearchParam("http://x.example/p", "p", "composite", ("Patient",), "Patient.name", (), names)
    assert composites.lay(1, param) == "there is no table for string, string side by side"
    unknown = (Component("http://x.example/unknown", "family"), names[0])
    assert composites.lay(1, SearchParam("u", "p", "composite", ("Patient",), "Patient.name", (), unknown)) is not None


def test_a_composite_has_no_modifiers_and_no_order() -> None:
    kind = composite.kind(("token", "quantity"))
    assert not kind.MODIFIERS
    assert kind.ORDER is None
    assert kind.maker("Observation", None, CONTEXT) is None
    with pytest.raises(TypeError):
        kind.ends(())


codes = st.sampled_from(("a", "B", "c"))
values = st.sampled_from(("0", "1", "1.0", "1.5", "1000", "-2"))
units = st.sampled_from(("g", "mg", "mL"))
elements = st.builds(lambda own, value, unit: {"code": coded(*own), "valueQuantity": amount(value, unit)}, st.lists(codes, max_size=2), values, units)
concepts = st.builds(lambda own, value: {"code": coded(*own), "valueCodeableConcept": coded(*value)}, *[st.lists(codes, max_size=2)] * 2)
either = st.one_of(elements, concepts)
observations = st.builds(lambda own, parts: {**own, **({"component": parts} if parts else {})}, either, st.lists(either, max_size=3))
prefixes = st.sampled_from(("", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap"))
written = st.sampled_from(("", "", f"|{UCUM}|g", f"|{UCUM}|mg", "||mL"))
tokens = st.builds(lambda system, code: system + code, st.sampled_from(("", "", "http://s.example|", "|", "http://nobody.example|")), codes)
by_quantity = st.builds(lambda token, prefix, value, unit: f"{token}${prefix}{value}{unit}", tokens, prefixes, values, written)
by_concept = st.builds(lambda one, other: f"{one}${other}", tokens, tokens)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    held=st.lists(observations, min_size=3, max_size=8),
    quantities=st.lists(by_quantity, min_size=3, max_size=8),
    others=st.lists(by_concept, max_size=6),
)
def test_sql_finds_what_matches(database: Any, held: list[dict[str, Any]], quantities: list[str], others: list[str]) -> None:
    for code in ("code-value-quantity", "combo-code-value-quantity", "component-code-value-quantity"):
        assert_agreement(database, "Observation", code, held, quantities)
    assert_agreement(database, "Observation", "combo-code-value-concept", held, others)


def test_the_first_part_and_the_number_are_a_range_of_the_index(database: Any) -> None:
    text = plan(database, "Observation", "code-value-quantity", "a$gt1")
    assert "sp_token_quantity_" in text
    assert "a_code = " in next(line for line in text.splitlines() if "Index Cond" in line)
