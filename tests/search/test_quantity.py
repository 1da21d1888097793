"""Quantities: their rows, what a query means with and without a unit, and that SQL and memory agree."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fhir_server.fhirjson import Number
from fhir_server.search.params import Context, Row, quantity
from fhir_server.spec import r4
from tests.search.agreement import assert_agreement, plan

UCUM = "http://unitsofmeasure.org"
CONTEXT = Context(r4(), {}, ZoneInfo("UTC"))
PREFIXES = ("", "eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap")
NONE = (None, None, None)


def rows(fhir_type: str, value: dict[str, Any]) -> list[Row]:
    maker = quantity.maker(fhir_type, None, CONTEXT)
    assert maker is not None
    return list(maker(value))


def ucum(value: str, code: str, **others: Any) -> dict[str, Any]:
    return {"value": Number(value), "system": UCUM, "code": code, **others}


@pytest.mark.parametrize(
    ("fhir_type", "value", "expected"),
    [
        ("Quantity", {"value": 5, "comparator": "<", "unit": "mg"}, [("-Infinity", "5", "", "", "mg", *NONE)]),
        ("Quantity", {"value": 5, "comparator": ">="}, [("5", "Infinity", "", "", "", *NONE)]),
        ("Age", {"value": Number("5.50"), "code": "a", "system": "s"}, [("5.5", "5.5", "s", "a", "", *NONE)]),
        ("Quantity", {"unit": "mg"}, []),
        ("Quantity", ucum("5.4", "mg/dL", unit="mg per dl"), [("5.4", "5.4", UCUM, "mg/dL", "mg per dl", "g.m-3", "54", "54")]),
        ("Quantity", ucum("37.0", "Cel"), [("37", "37", UCUM, "Cel", "", "K", "310.15", "310.15")]),
        ("Quantity", ucum("120", "mm[Hg]", comparator=">"), [("1.2E+2", "Infinity", UCUM, "mm[Hg]", "", "g.m-1.s-2", "1.599864E+7", "Infinity")]),
        ("Quantity", ucum("1", "[Ch]"), [("1", "1", UCUM, "[Ch]", "", "m", "0.000333333333333333333", "0.000333333333333333333")]),
        ("Quantity", ucum("7.4", "[pH]"), [("7.4", "7.4", UCUM, "[pH]", "", *NONE)]),
        ("Quantity", ucum("7.4", "mgs"), [("7.4", "7.4", UCUM, "mgs", "", *NONE)]),
        ("Quantity", {"value": 1, "system": UCUM, "unit": "kg"}, [("1", "1", UCUM, "", "kg", "g", "1E+3", "1E+3")]),
        ("Quantity", {"value": 1, "code": "kg", "unit": "kg"}, [("1", "1", "", "kg", "kg", *NONE)]),
        ("Money", {"value": Number("9.90"), "currency": "EUR"}, [("9.9", "9.9", "urn:iso:std:iso:4217", "EUR", "EUR", *NONE)]),
        ("Range", {"low": {"value": 1, "unit": "a"}, "high": {"value": 2, "unit": "a"}}, [("1", "2", "", "", "a", *NONE)]),
        ("Range", {"high": {"value": 2, "code": "a"}}, [("-Infinity", "2", "", "a", "", *NONE)]),
        ("Range", {"low": ucum("5", "mg"), "high": ucum("1", "g")}, [("5", "1", UCUM, "mg", "", "g", "0.005", "1")]),
        ("Range", {"low": ucum("5", "mg")}, [("5", "Infinity", UCUM, "mg", "", "g", "0.005", "Infinity")]),
        ("Range", {"high": ucum("5", "mg")}, [("-Infinity", "5", UCUM, "mg", "", "g", "-Infinity", "0.005")]),
        ("Range", {"low": ucum("5", "mg"), "high": ucum("6", "mL")}, [("5", "6", UCUM, "mg", "", *NONE)]),
        ("SampledData", {"origin": {"value": 10, "code": "mV"}, "factor": Number("0.5"), "data": "4 E -2 U 6"}, [("9", "13", "", "mV", "", *NONE)]),
        ("SampledData", {"origin": ucum("10", "kV"), "factor": Number("-0.5"), "data": "4 6.1"}, [("6.95", "8", UCUM, "kV", "")]),
        ("SampledData", {"origin": {"value": 10}, "data": "E U L"}, []),
        ("SampledData", {"origin": {"value": 10}, "data": "1 x"}, []),
        ("SampledData", {"origin": {"value": 10}, "data": "1 inf"}, []),
        ("SampledData", {"origin": {"value": 10}, "data": "1 1e999"}, []),
    ],
)
def test_rows(fhir_type: str, value: dict[str, Any], expected: list[Row]) -> None:
    found = rows(fhir_type, value)
    assert [row[: len(want)] for row, want in zip(found, expected, strict=True)] == expected


def test_samples_have_an_end_each_in_base_units() -> None:
    ((*_, dimension, low, high),) = rows("SampledData", {"origin": ucum("10", "kV"), "factor": Number("-0.5"), "data": "4 6.1"})
    assert (dimension, Decimal(low), Decimal(high)) == ("C-1.g.m2.s-2", Decimal(6950) * 1000, Decimal(8000) * 1000)


@pytest.mark.parametrize(
    ("query", "matched"),
    [
        ("5.4", True),
        (f"5.4|{UCUM}|mg", True),
        (f"0.0054|{UCUM}|g", True),
        (f"0.0054|{UCUM}|g{{wet}}", True),
        (f"5400|{UCUM}|ug", True),
        (f"gt5.39|{UCUM}|mg", True),
        (f"gt0.00541|{UCUM}|g", False),
        (f"5.4|{UCUM}|Mg", False),
        (f"5.4|{UCUM}|mL", False),
        (f"5.4|{UCUM}|milligrams", False),
        ("5.4|http://else.example|mg", False),
        ("5.4||mg", True),
        ("5.4||milligram", True),
        ("5.4||g", False),
        ("0.0054||g", False),
        (f"5.4|{UCUM}|", True),
        (f"0.0054|{UCUM}|", False),
        ("gt5.4||mg", False),
        ("ge5.4||mg", True),
    ],
)
def test_a_unit_is_compared_by_what_it_measures(query: str, matched: bool) -> None:  # noqa: FBT001 - a table's column
    (row,) = rows("Quantity", ucum("5.4", "mg", unit="milligram"))
    assert quantity.matches(quantity.parse(query, None, (), CONTEXT), row) is matched


@pytest.mark.parametrize(
    ("value", "unit", "matched"),
    [("1000", "mg", True), ("500", "mg", True), ("499.999", "mg", False), ("1499.999", "mg", True), ("1500", "mg", False), ("0.0015", "kg", False)],
)
def test_the_implied_precision_is_that_of_the_digits_in_the_unit_asked_for(value: str, unit: str, matched: bool) -> None:  # noqa: FBT001
    (row,) = rows("Quantity", ucum(value, unit))
    assert quantity.matches(quantity.parse(f"1|{UCUM}|g", None, (), CONTEXT), row) is matched
    assert quantity.matches(quantity.parse(f"ne1|{UCUM}|g", None, (), CONTEXT), row) is not matched


def test_units_that_ucum_cannot_convert_are_compared_as_written() -> None:
    (row,) = rows("Quantity", ucum("7.4", "[pH]"))
    for query, matched in ((f"7.4|{UCUM}|[pH]", True), (f"7.4|{UCUM}|dB", False), ("7.4||[pH]", True), ("7.4", True)):
        assert quantity.matches(quantity.parse(query, None, (), CONTEXT), row) is matched


def test_money_is_found_by_currency() -> None:
    (row,) = rows("Money", {"value": Number("9.90"), "currency": "EUR"})
    for query, matched in (("9.9|urn:iso:std:iso:4217|EUR", True), ("9.9|urn:iso:std:iso:4217|USD", False), ("9.90||EUR", True), ("gt9", True)):
        assert quantity.matches(quantity.parse(query, None, (), CONTEXT), row) is matched


@pytest.mark.parametrize("text", ["5|x", "5|a|b|c"])
def test_a_value_of_another_form_is_told_the_right_one(text: str) -> None:
    with pytest.raises(ValueError, match=r"\[number\]\|\[system\]\|\[code\]"):
        quantity.parse(text, None, (), CONTEXT)


@pytest.mark.parametrize("text", ["", "|a|b", "x", "5mg", "5,4", "NaN", f"xx5|{UCUM}|g"])
def test_a_value_without_number_is_told_what_a_number_is(text: str) -> None:
    with pytest.raises(ValueError, match=r"no number such as 5\.4"):
        quantity.parse(text, None, (), CONTEXT)


def test_a_query_by_unit_is_a_range_of_the_canonical_index() -> None:
    found = quantity.predicate([quantity.parse(f"ge1|{UCUM}|g", None, (), CONTEXT)], "f.b_")
    assert found.text == "f.b_dimension = %s AND f.b_canonical_hi >= %s"
    assert found.params == ("g", Decimal(1))


# Few amounts in units that are multiples of each other, so that ends meet.
AMOUNTS = ("0", "1", "1.0", "0.5", "1.5", "0.95", "1000", "1000.4", "1e3", "500", "-1", "36.6", "97.88", "0.001", "12345678901234567890.5")
UNITS = (
    *((UCUM, code) for code in ("g", "mg", "kg", "g{wet}", "Cel", "[degF]", "K", "[Ch]", "mm", "[pH]", "dB", "nonsense", "mL/min/(173.10*-2.m2)")),
    *((None, "mg"), ("http://else.example", "mg"), (UCUM, None), (None, None)),
)
quantities = st.builds(
    lambda value, unit, comparator: {
        "value": Number(value),
        **({"system": unit[0]} if unit[0] else {}),
        **({"code": unit[1]} if unit[1] else {}),
        **({"comparator": comparator} if comparator else {}),
    },
    st.sampled_from(AMOUNTS),
    st.sampled_from(UNITS),
    st.sampled_from((None, None, None, "<", "<=", ">", ">=")),
)
elements = st.one_of(
    st.builds(lambda value: {"valueQuantity": value}, quantities),
    st.builds(lambda value: {"component": [{"valueQuantity": value}]}, quantities),
)
queries = st.builds(
    lambda prefix, value, unit: f"{prefix}{value}" + ("" if unit == (None, None) else f"|{unit[0] or ''}|{unit[1] or ''}"),
    st.sampled_from(PREFIXES),
    st.sampled_from(AMOUNTS),
    st.sampled_from(UNITS),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(held=st.lists(elements, min_size=3, max_size=12), asked=st.lists(queries, min_size=4, max_size=16))
def test_sql_finds_what_matches(database: Any, held: list[dict[str, Any]], asked: list[str]) -> None:
    assert_agreement(database, "Observation", "combo-value-quantity", held, asked)


@given(
    value=st.sampled_from(AMOUNTS),
    unit=st.sampled_from(["g", "mg", "kg"]),
    prefix=st.sampled_from(PREFIXES),
    other=st.sampled_from(["g", "mg", "kg"]),
)
def test_the_unit_of_the_resource_makes_no_difference(value: str, unit: str, prefix: str, other: str) -> None:
    """The same mass in another unit is found by the same queries."""
    factor = {"g": Decimal(1), "mg": Decimal("0.001"), "kg": Decimal(1000)}
    same = Decimal(value) * factor[unit] / factor[other]
    (row,), (again,) = rows("Quantity", ucum(value, unit)), rows("Quantity", ucum(str(same), other))
    for asked in AMOUNTS:
        query = quantity.parse(f"{prefix}{asked}|{UCUM}|g", None, (), CONTEXT)
        assert quantity.matches(query, row) is quantity.matches(query, again)


@pytest.mark.parametrize(
    ("query", "index", "condition"),
    [
        (f"1|{UCUM}|g", "sp_quantity_canonical_lo", "canonical_lo < "),
        (f"ge4.9|{UCUM}|g", "sp_quantity_canonical_hi", "canonical_hi >= "),
        (f"lt0.1|{UCUM}|g", "sp_quantity_canonical_lo", "canonical_lo < "),
        ("ge4990||mg", "sp_quantity_hi", "hi >= "),
    ],
)
def test_the_index_of_the_numbers_asked_for_is_used(database: Any, query: str, index: str, condition: str) -> None:
    row = {
        **dict.fromkeys(("lo", "hi"), "g"),
        **dict.fromkeys(("canonical_lo", "canonical_hi"), "g / 1000.0"),
        **dict.fromkeys(("code", "unit"), "'mg'"),
        "system": "0",
        "dimension": "'g'",
        "low": "true",
        "high": "true",
    }
    text = plan(database, "Observation", "value-quantity", query, row)
    assert index in text
    assert condition in next(line for line in text.splitlines() if "Index Cond" in line)
